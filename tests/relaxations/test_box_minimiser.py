"""The minimiser over a box, alone and for channels that share the inverse of their form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from pvqbounds.relaxations.box import KeptInverse, box_minimiser


def factor(rng: np.random.Generator, n: int, kind: str) -> np.ndarray:
    """X of a form XᵀX/N with a mean diagonal near 1."""
    X = rng.standard_normal((n // 2 if kind == "few positions" else 4 * n, n))
    if kind == "copies":
        X[:, n // 2] = 3.0 * X[:, 0]
    elif kind == "constant":
        X[:, [0, n - 1]] = 0.3, 0.7
    elif kind == "ill-conditioned":
        X[:, 1] = X[:, 0] + 1e-5 * X[:, 1]
    elif kind == "dead":
        X[:, 2] = 0.0
    return X / np.sqrt(len(X))


@pytest.mark.parametrize("kind", ["plain", "few positions", "copies", "constant", "ill-conditioned", "dead"])
@pytest.mark.parametrize("n", [6, 40])
def test_a_kept_inverse_changes_the_way_and_not_the_end(kind: str, n: int) -> None:
    rng = np.random.default_rng(n)
    X = factor(rng, n, kind)
    form, inverse = X.T @ X, KeptInverse()
    lower, upper = -np.ones(n), np.full(n, 2.0)
    for _ in range(6):
        centre = rng.uniform(-3.0, 4.0, n)
        least = 2.0 * lsq_linear(X, X @ centre, (lower, upper), tol=1e-14, max_iter=1000).cost
        clipped = np.clip(centre, lower, upper) - centre
        for kept in (None, inverse):
            x = box_minimiser(form, centre, lower, upper, inverse=kept)
            assert ((x >= lower) & (x <= upper)).all()
            value = float((x - centre) @ form @ (x - centre))
            assert value <= least + 1e-7 * (least + float(clipped @ form @ clipped))


def test_an_inverse_is_made_once_for_a_form_and_anew_for_another() -> None:
    inverse, form = KeptInverse(), np.diag([1.0, 2.0])
    first = inverse(form)
    assert first is not None
    assert inverse(form) is first
    other = inverse(np.diag([4.0, 2.0]))
    assert other is not None
    np.testing.assert_allclose(np.diagonal(other.matrix), [0.25, 0.5], rtol=1e-9)
    assert inverse(np.zeros((2, 2))) is None

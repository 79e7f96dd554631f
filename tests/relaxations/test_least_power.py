"""The least power of codes: none has less, and where few lie near a line it is not next to nothing."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from pvqbounds.relaxations.least_power import THRESHOLDS, least_power
from tests.truth import whole_numbers

BOXES = [(-2, 1), (-1, 1), (0, 3), (1, 2), (2, 2)]


def least_by_trying(gram, qmin: int, qmax: int) -> Fraction | None:
    """The least zᵀGz of all codes with Gz other than 0, exactly; None where there are none."""
    whole, unit = whole_numbers(gram)
    codes = np.array(list(itertools.product(range(qmin, qmax + 1), repeat=len(gram))), dtype=object)
    powers = codes @ whole
    counted = (powers != 0).any(axis=1)
    squares = (powers * codes).sum(axis=1)[counted]
    return Fraction(int(squares.min()), unit) if len(squares) else None


def gram_of(seed: int, kind: str) -> np.ndarray:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 6))
    X = rng.normal(size=(3 * n, n))
    if kind == "layer norm":
        X = (X - X.mean(axis=1, keepdims=True)) * np.exp(0.5 * rng.normal(size=n))
    elif kind == "nearly one":
        X = X - (X.mean(axis=1, keepdims=True) - 1e-5 * rng.normal(size=X.shape))
    elif kind == "copies":
        X[:, 0] = X[:, 1]
    elif kind == "opposite":
        X[:, 0] = -2.0 * X[:, 1]
    elif kind == "few positions":
        X = X[: max(1, n // 2)]
    elif kind == "sizes":
        X = X * 10.0 ** rng.uniform(-3, 3, n)
    return X.T @ X / len(X)


@pytest.mark.parametrize(
    "kind", ["definite", "layer norm", "nearly one", "copies", "opposite", "few positions", "sizes"]
)
def test_no_codes_have_less(kind: str) -> None:
    for seed in range(25):
        gram, box = gram_of(seed, kind), BOXES[seed % len(BOXES)]
        truth = least_by_trying(gram, *box)
        assert truth is None or least_power(gram, *box) <= max(truth, 0), (seed, box)


def test_codes_that_lie_near_no_line_keep_a_share_of_one_entry() -> None:
    rng = np.random.default_rng(1)
    for n in (6, 60):
        X = rng.normal(size=(3 * n, n))
        X = (X - X.mean(axis=1, keepdims=True)) * np.exp(0.3 * rng.normal(size=n))
        gram = X.T @ X / len(X)
        assert np.linalg.eigvalsh(gram)[0] < 1e-12
        assert least_power(gram, -8, 7) > 0.1 * THRESHOLDS[0] * np.diagonal(gram).min()


def test_codes_on_a_line_are_counted_unless_they_have_no_power_at_all() -> None:
    exact = np.outer([1.0, -0.5], [1.0, -0.5])  # the code (1, 2) has no power
    assert 0.0 < least_power(exact, -8, 7) <= 0.25
    assert least_by_trying(exact, -8, 7) == Fraction(1, 4)
    assert least_power(exact + 1e-6 * np.eye(2), -8, 7) == pytest.approx(5e-6, rel=1e-9)


def test_a_hair_below_zero_is_no_power() -> None:
    gram = np.outer([1.0, -0.5], [1.0, -0.5]) - 1e-13 * np.eye(2)
    assert least_power(gram, -8, 7) == 0.0  # (1, 2) has less than nothing
    slanted = np.outer([1.0, -np.pi], [1.0, -np.pi]) - 1e-13 * np.eye(2)
    assert least_power(slanted, -2, 1) > 0.0


@pytest.mark.parametrize("power", [-60, 40])
def test_it_is_in_units_of_the_gram(power: int) -> None:
    gram = gram_of(3, "layer norm")
    assert least_power(np.ldexp(gram, power), -2, 1) == np.ldexp(least_power(gram, -2, 1), power)


def test_too_many_codes_near_no_power_prove_nothing() -> None:
    X = np.random.default_rng(0).normal(size=(12, 24))
    assert least_power(X.T @ X / 12, -8, 7) == 0.0


def test_a_gram_that_is_indefinite_proves_nothing() -> None:
    gram = np.array([[1.0, -2.0], [-2.0, 1.0]])
    assert least_by_trying(gram, -1, 1) == -2
    assert least_power(gram, -1, 1) == 0.0


@pytest.mark.parametrize(
    ("ratio", "box"),
    [
        (0.5, (-4_000_000, 4_000_000)),  # more entries than are ever held
        (2.0**0.5, (-5000, 5000)),  # more pairs of them
        (1.0, (0, 1200)),  # more codes on the line than are looked at one by one
    ],
)
def test_boxes_of_too_many_codes_prove_nothing(ratio: float, box: tuple[int, int]) -> None:
    assert least_power(np.outer([1.0, -ratio], [1.0, -ratio]), *box) == 0.0

"""Random Grams, weights, grids and budgets: those that layers show, and those that break arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

__all__ = [
    "BOXES",
    "GRAMS",
    "WEIGHTS",
    "Drawn",
    "draw",
    "powers",
    "random_box",
    "random_gram",
    "random_weight",
]

Array = np.ndarray


def _form(X: Array) -> Array:
    gram: Array = X.T @ X
    return np.asarray(0.5 * (gram + gram.T))


def _rows(rng: Generator, n: int) -> int:
    return n + int(rng.integers(0, 2 * n + 1))


def _wishart(rng: Generator, n: int) -> Array:
    X = rng.standard_normal((_rows(rng, n), n))
    return _form(X) / len(X)


def _relu(rng: Generator, n: int) -> Array:
    X = np.maximum(rng.standard_normal((_rows(rng, n), n)) @ rng.standard_normal((n, n)) + 0.3, 0.0)
    return _form(X) / len(X)


def _orthogonal(rng: Generator, n: int) -> Array:
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


def _ill_conditioned(rng: Generator, n: int) -> Array:
    Q = _orthogonal(rng, n)
    X = 10.0 ** -np.linspace(0.0, rng.uniform(1.0, 9.0), n)[:, None] * Q
    return _form(X)


def _layer_norm(rng: Generator, n: int) -> Array:
    """One direction of almost no power, as behind a LayerNorm."""
    power = rng.uniform(0.5, 2.0, n)
    power[0] = 10.0 ** -rng.uniform(2.0, 8.5)
    return _form(power[:, None] * _orthogonal(rng, n))


def _few_positions(rng: Generator, n: int) -> Array:
    X = rng.standard_normal((int(rng.integers(1, max(n, 2))), n))
    return _form(X) / len(X)


def _whole(rng: Generator, n: int) -> Array:
    """Small whole numbers: the Gram is exact, and often exactly singular."""
    X = rng.integers(-2, 3, (int(rng.integers(1, n + 3)), n)).astype(float)
    return _form(X)


def _copies(rng: Generator, n: int) -> Array:
    X = rng.integers(-3, 4, (n + 2, n)).astype(float)
    for i in range(n):
        if rng.random() < 0.5:
            X[:, i] = X[:, rng.integers(n)] * float(rng.choice([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0]))
    return _form(X)


def _dead(rng: Generator, n: int) -> Array:
    X = rng.standard_normal((n + 2, n))
    X[:, rng.random(n) < 0.5] = 0.0
    return _form(X) / len(X)


def _nearly_dependent(rng: Generator, n: int) -> Array:
    """Pairs whose correlation is a hair below 1."""
    gram = np.eye(n) * float(rng.choice([1.0, 2.0, 0.7]))
    gap = float(rng.choice([1e-3, 1e-6, 1e-9, 1e-12, 1e-15, 2.0**-52]))
    for i in range(0, n - 1, 2):
        sign = float(rng.choice([-1.0, 1.0]))
        gram[i, i + 1] = gram[i + 1, i] = sign * (1.0 - gap) * gram[i, i]
    order = rng.permutation(n)
    return gram[np.ix_(order, order)]


def _almost_copies(rng: Generator, n: int) -> Array:
    """An input is another one plus a power of two of a third: exact, and singular or almost so."""
    X = rng.integers(-1, 2, (int(rng.integers(1, n + 2)), n)).astype(float)
    for _ in range(int(rng.integers(1, n + 1))):
        i, j, k = rng.integers(0, n, 3)
        X[:, i] = X[:, j] + 2.0 ** -float(rng.integers(2, 30)) * X[:, k]
    return _form(X)


def _rank_one(rng: Generator, n: int) -> Array:
    v = rng.standard_normal(n) if rng.random() < 0.5 else rng.integers(-2, 3, n).astype(float)
    return np.outer(v, v)


def _diagonal(rng: Generator, n: int) -> Array:
    return np.diag(10.0 ** rng.uniform(-3.0, 3.0, n) if rng.random() < 0.5 else rng.integers(0, 4, n) * 1.0)


def _zero(rng: Generator, n: int) -> Array:
    return np.zeros((n, n))


def _single_precision(rng: Generator, n: int) -> Array:
    """As a GPU makes it: the positions and the sums in float32."""
    X = rng.standard_normal((_rows(rng, n), n)).astype(np.float32)
    gram = np.asarray(X.T @ X, dtype=np.float32)
    return np.asarray(np.tril(gram) + np.tril(gram, -1).T).astype(np.float64)


def _equal(rng: Generator, n: int) -> Array:
    return np.full((n, n), float(rng.uniform(0.0, 1.0))) + np.eye(n) * float(rng.choice([0.0, 1e-9, 1.0]))


def _second_differences(rng: Generator, n: int) -> Array:
    return np.asarray(2.0 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1))


def _unequal(rng: Generator, n: int) -> Array:
    """Inputs of very different size."""
    X = rng.standard_normal((n + 3, n)) * 10.0 ** rng.uniform(-6.0, 3.0, n)
    return _form(X) / len(X)


def _spiked(rng: Generator, n: int) -> Array:
    """One direction of far more power than all others, or one input that all others contain."""
    X = rng.standard_normal((n + 3, n))
    X += 10.0 ** rng.uniform(1.0, 7.0) * rng.standard_normal((n + 3, 1))
    return _form(X) / len(X)


GRAMS: dict[str, Callable[[Generator, int], Array]] = {
    "wishart": _wishart,
    "relu": _relu,
    "ill-conditioned": _ill_conditioned,
    "layer-norm": _layer_norm,
    "few-positions": _few_positions,
    "whole": _whole,
    "copies": _copies,
    "dead": _dead,
    "nearly-dependent": _nearly_dependent,
    "almost-copies": _almost_copies,
    "rank-one": _rank_one,
    "diagonal": _diagonal,
    "zero": _zero,
    "single-precision": _single_precision,
    "equal": _equal,
    "second-differences": _second_differences,
    "unequal": _unequal,
    "spiked": _spiked,
}


DELICATE = ("nearly-dependent", "almost-copies", "copies", "spiked", "layer-norm")
"""Those in which rounding is larger than what it must decide: drawn more often."""


def random_gram(rng: Generator, n: int) -> tuple[str, Array]:
    """A Gram of shape (n, n) and the name of its family; a zero one is rare."""
    names = [name for name in GRAMS if name != "zero" or rng.random() < 0.3]
    names = list(DELICATE) if rng.random() < 0.25 else names
    name = names[int(rng.integers(len(names)))]
    return name, GRAMS[name](rng, n)


def _weight_on_ties(rng: Generator, n: int, scale: float) -> Array:
    return scale * (rng.integers(-5, 5, n) + 0.5)


def _weight_near_ties(rng: Generator, n: int, scale: float) -> Array:
    ties = _weight_on_ties(rng, n, scale)
    return np.asarray(ties * (1.0 + rng.integers(-2, 3, n) * 2.0**-52))


def _weight_far_out(rng: Generator, n: int, scale: float) -> Array:
    return np.asarray(scale * rng.standard_normal(n) * 10.0 ** rng.uniform(3.0, 30.0))


def _weight_one_far_out(rng: Generator, n: int, scale: float) -> Array:
    weight = scale * 3.0 * rng.standard_normal(n)
    weight[rng.integers(n)] *= 10.0 ** rng.uniform(1.0, 12.0)
    return weight


def _weight_sparse(rng: Generator, n: int, scale: float) -> Array:
    return np.asarray(scale * 3.0 * rng.standard_normal(n) * (rng.random(n) < 0.5))


def _weight_unequal(rng: Generator, n: int, scale: float) -> Array:
    return np.asarray(scale * rng.standard_normal(n) * 10.0 ** rng.uniform(-12.0, 2.0, n))


WEIGHTS: dict[str, Callable[[Generator, int, float], Array]] = {
    "normal": lambda rng, n, s: s * 3.0 * rng.standard_normal(n),
    "narrow": lambda rng, n, s: s * rng.standard_normal(n),
    "on-grid": lambda rng, n, s: s * rng.integers(-6, 7, n),
    "ties": _weight_on_ties,
    "near-ties": _weight_near_ties,
    "far-out": _weight_far_out,
    "one-far-out": _weight_one_far_out,
    "zero": lambda rng, n, s: np.zeros(n),
    "equal": lambda rng, n, s: np.full(n, s * 3.0 * rng.standard_normal()),
    "sparse": _weight_sparse,
    "whole": lambda rng, n, s: rng.integers(-3, 4, n).astype(float),
    "unequal": _weight_unequal,
}


def random_weight(rng: Generator, n: int, scale: float) -> tuple[str, Array]:
    """Weights of shape (n,) for a grid of step `scale`, and the name of their family."""
    name = list(WEIGHTS)[int(rng.integers(len(WEIGHTS)))]
    return name, np.asarray(WEIGHTS[name](rng, n, scale), dtype=np.float64)


BOXES = (
    (-1, 0), (0, 1), (-1, 1), (-2, 1), (0, 3), (-3, 3), (-4, 3), (0, 7), (-8, 7), (0, 15),
    (0, 0), (2, 2), (-7, -7), (5, 7), (3, 15), (-20, -18), (1_000_001, 1_000_003), (-(2**31), 1 - 2**31),
    (2**31 - 2, 2**31), (-100, 100), (-(2**31), 2**31),
)  # fmt: skip
"""Smallest and largest code: usual grids, one code, two codes, codes far away, boxes that hold all."""


def random_box(rng: Generator) -> tuple[int, int]:
    """A box of codes; usual ones more often."""
    at = int(rng.integers(10)) if rng.random() < 0.6 else int(rng.integers(10, len(BOXES)))
    return BOXES[at]


@dataclass(frozen=True)
class Drawn:
    """The numbers of one problem before they become one, with the names of their families."""

    gram: Array
    weight: Array
    scale: float
    families: str


def draw(rng: Generator, n: int, *, one_step: bool) -> Drawn:
    """Gram, weights and step of n inputs, at ordinary magnitudes or moved by powers of two.

    Parameters
    ----------
    one_step
        Whether all inputs share the step, so that the weights cannot make up for inputs of different
        power; else one in four problems has inputs whose powers differ by up to 2^-500.
    """
    scale = float(rng.choice([1.0, 0.5, 0.1, 10.0 ** rng.uniform(-2.0, 1.0)]))
    gram_family, gram = random_gram(rng, n)
    weight_family, weight = random_weight(rng, n, scale)
    families = f"{gram_family}/{weight_family}"
    kind = int(rng.integers(8))
    if kind == 0:  # the Gram, the weights and the step as they come, in other units
        a, b = powers(rng)
        with np.errstate(all="ignore"):
            gram, weight, scale = np.ldexp(gram, a), np.ldexp(weight, b), float(np.ldexp(scale, b))
        families += f"/gram 2^{a}, weight 2^{b}"
    elif kind == 1 or (kind == 2 and not one_step):  # inputs of powers that have nothing in common
        reach = float(rng.choice([30.0, 120.0, 250.0]))
        power = -np.rint(rng.uniform(0.0, reach, n) * (rng.random(n) < 0.6)).astype(np.int64)
        gram = np.ldexp(gram, power[:, None] + power)
        weight = np.ldexp(weight, -power if rng.random() < 0.5 else 0)
        families += f"/inputs down to 2^-{reach:g}"
    return Drawn(gram, weight, scale, families)


def powers(rng: Generator) -> tuple[int, int]:
    """Exponents of the Gram and of the weights: errors of any size that is let in, up to both its ends."""
    low, high = -830, 930  # errors are let in between 1e-250 and 1e280
    kind = int(rng.integers(4))
    total = int(rng.integers(-40, 41)) if kind == 0 else int(rng.integers(low, high + 1))
    if kind == 1:  # at an end
        total = int(rng.choice([low, high])) + int(rng.integers(-30, 31))
    b = int(rng.integers(-540, 501))
    return int(np.clip(total - 2 * b, -1000, 1000)), b

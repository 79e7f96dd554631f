"""Random values: steps and boxes of groups and zero points, level lists that formats have and odd ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

from pvqbounds.problems.formats.nf4 import NF4_LEVELS

from .families import random_box

__all__ = ["LEVELS", "Grid", "random_grid", "random_levels", "random_rule", "spread_levels"]

Array = np.ndarray


class Grid(NamedTuple):
    """Steps and boxes: numbers, or one of each for every input."""

    scale: float | Array
    qmin: int | Array
    qmax: int | Array


def random_grid(rng: Generator, n: int, scale: float, *, zero: bool = False) -> Grid:
    """Steps of groups, of every input, or one; boxes with zero points, of their own, or one.

    Parameters
    ----------
    zero
        Whether each box holds 0, as support rules want it.
    """
    kind, group = int(rng.integers(4)), int(rng.integers(1, n + 1))
    ratio = 10.0 ** rng.uniform(-1.0, 1.0, n)
    if kind == 1:
        ratio = 2.0 ** rng.integers(-4, 5, n)
    elif kind == 2 and rng.random() < 0.3:  # steps that have nothing in common
        ratio = 10.0 ** rng.uniform(-15.0, 15.0, n)
    step: float | Array = scale if kind == 3 else scale * ratio[np.arange(n) // group]
    low, high = random_box(rng)
    if zero:
        low, high = min(low, 0), max(high, 0)
    if rng.random() < 0.3:
        return Grid(step, low, high)
    room = min(high - low, 15)
    qmin = low + rng.integers(0, room + 1, n)
    qmax = np.minimum(qmin + rng.integers(0, room + 1, n), 2**31)
    if rng.random() < 0.5:  # zero points of groups: [qmin - z, qmax - z]
        z = rng.integers(low, low + room + 1, n)[np.arange(n) // group]
        qmin, qmax = np.maximum(low - z, -(2**31)), np.minimum(low + room - z, 2**31)
    if zero:
        qmin, qmax = np.minimum(qmin, 0), np.maximum(qmax, 0)
    return Grid(step, qmin, qmax)


# --------------------------------------------------------------------------- levels


def _fp4(rng: Generator) -> Array:
    half = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    return np.concatenate([-half[:0:-1], half])


def _fp8(rng: Generator) -> Array:
    """E4M3, or another small float."""
    mantissa, exponents = int(rng.integers(1, 4)), int(rng.integers(2, 17))
    parts = [np.arange(2**mantissa) * 2.0 ** (1 - mantissa)]
    for e in range(exponents):
        parts.append((1.0 + np.arange(2**mantissa) / 2**mantissa) * 2.0**e)
    half = np.unique(np.concatenate(parts)) * 2.0**-exponents
    return np.concatenate([-half[:0:-1], half])


def _nearly_equal(rng: Generator) -> Array:
    """Levels some units in the last place apart, or some 1e-9."""
    at = float(rng.choice([1.0, -0.7, 1e-3, 0.1]))
    gap = float(rng.choice([2.0**-52, 2.0**-40, 1e-9]))
    levels = at * (1.0 + gap * np.sort(rng.integers(-6, 7, int(rng.integers(2, 8)))))
    far = rng.standard_normal(int(rng.integers(0, 3)))
    return np.concatenate([levels, far])


def _unequal(rng: Generator) -> Array:
    """Levels of every size."""
    reach = float(rng.choice([6.0, 20.0, 60.0]))
    m = int(rng.integers(2, 10))
    return np.asarray(rng.choice([-1.0, 1.0], m) * 10.0 ** rng.uniform(-reach, 0.3 * reach, m))


def _around_ties(rng: Generator) -> Array:
    """Whole numbers with holes, whose midpoints are the midpoints of other pairs."""
    return rng.choice(np.arange(-8, 9), int(rng.integers(2, 9)), replace=False).astype(float)


LEVELS: dict[str, Callable[[Generator], Array]] = {
    "nf4": lambda rng: np.asarray(NF4_LEVELS, dtype=np.float64),
    "fp4": _fp4,
    "fp8": _fp8,
    "two": lambda rng: rng.standard_normal(2),
    "normal": lambda rng: rng.standard_normal(int(rng.integers(2, 9))),
    "one-sided": lambda rng: np.abs(rng.standard_normal(int(rng.integers(2, 6)))) + rng.uniform(0.0, 2.0),
    "nearly-equal": _nearly_equal,
    "unequal": _unequal,
    "holes": _around_ties,
    "steps": lambda rng: np.arange(-4, 4) * float(rng.choice([1.0, 0.5, 0.1, 1 / 3])),
    "far-away": lambda rng: 1e6 + rng.integers(0, 9, int(rng.integers(2, 6))),
    "subnormal": lambda rng: np.array([-1.0, -5e-324, 0.0, 5e-324, 2.0**-1060, 1.0]),
}
"""Lists for weights near 1 by the name of their family; neither sorted nor free of repetitions."""


def _sorted(levels: Array, scale: float, *, zero: bool) -> Array:
    """Rising levels for weights near `scale`, at least two of them."""
    made = np.unique(np.concatenate([scale * levels, [0.0] if zero else []])) + 0.0
    return made if len(made) > 1 else np.array([made[0], made[0] + scale])


def random_levels(
    rng: Generator, n: int, scale: float, *, zero: bool = False, most: int = 300
) -> tuple[list[Any] | Array, str]:
    """One list of levels, or one for each of n inputs, and the name of the families.

    Parameters
    ----------
    zero
        Whether 0 is among them all, as support rules want it.
    most
        Longest list.
    """

    def one(size: float) -> tuple[str, Array]:
        name = list(LEVELS)[int(rng.integers(len(LEVELS)))]
        levels = _sorted(LEVELS[name](rng), size, zero=zero)
        while len(levels) > most:
            levels = levels[::2] if not zero else np.unique(np.concatenate([levels[::2], [0.0]]))
        return name, levels

    if rng.random() < 0.4:
        name, levels = one(scale)
        return levels, name
    if rng.random() < 0.5:  # one list times a scale for each group
        name, levels = one(1.0)
        group = int(rng.integers(1, n + 1))
        ratio = (10.0 ** rng.uniform(-1.0, 1.0, n))[np.arange(n) // group]
        return [_sorted(levels, scale * float(r), zero=zero) for r in ratio], f"{name} of groups"
    made = [one(scale) for _ in range(n)]
    return [levels for _, levels in made], "+".join(name for name, _ in made)


def spread_levels(levels: list[Any] | Array, n: int) -> list[Array]:
    """One list for each input."""
    if isinstance(levels, np.ndarray):
        return [levels] * n
    return [np.asarray(row) for row in levels]


def random_rule(rng: Generator, n: int) -> dict[str, Any]:
    """Arguments for a support rule: nothing left, everything left, or something between."""
    if rng.random() < 0.5:
        return {"nnz": int(rng.choice([0, n, int(rng.integers(0, n + 1)), int(rng.integers(0, n + 1))]))}
    size = int(rng.integers(1, 6))
    stride = int(rng.choice([step for step in (1, 1, 2, 3, 4) if n % step == 0]))
    return {"pattern": (int(rng.integers(0, size + 1)), size), "stride": stride}

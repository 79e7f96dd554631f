"""The values that a path works with: all of a short set, of a long one those that count."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.values import ValueSet

__all__ = ["Candidates", "candidates", "codes_near"]

MOST = 64
"""Sets of at most so many values are taken whole."""

NEAREST = 16
"""Of longer ones so many next to a point on each side are taken, and beyond them fewer and fewer."""

GROWTH = 1.25
"""Ratio of the distances, in codes, of two values beyond those."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Some values of each input."""

    codes: NDArray[np.int64]
    """Ascending along each row, some of them repeated, shape (n, m)."""
    values: NDArray[np.float64]
    """Their values, shape (n, m)."""
    present: NDArray[np.bool_]
    """False where a code repeats the one before, shape (n, m)."""
    whole: bool
    """Whether no value was left out."""

    def and_near(self, values: ValueSet, point: NDArray[np.float64]) -> Candidates:
        """These, and those near another point, shape (n,)."""
        return _of_codes(values, np.hstack([self.codes, codes_near(values, point)]), whole=self.whole)


def candidates(values: ValueSet, point: NDArray[np.float64]) -> Candidates:
    """All values of short sets; of long ones those near a point, shape (n,), and a few up to the ends."""
    low, high = values.code_ends
    count = int((high - low).max()) + 1
    if count <= MOST:
        codes = np.minimum(low[:, None] + np.arange(count), high[:, None])
        return _of_codes(values, codes, whole=True)
    return _of_codes(values, codes_near(values, point), whole=False)


def codes_near(values: ValueSet, point: NDArray[np.float64]) -> NDArray[np.int64]:
    """Codes around those of the values next to a point, the ends and zero, shape (n, m)."""
    low, high = values.code_ends
    nearest = values.nearest(point)
    steps = [float(step) for step in range(NEAREST + 1)]
    farthest = int((high - low).max())
    while steps[-1] < farthest:
        steps.append(GROWTH * steps[-1])
    distance = np.unique(np.rint(steps).astype(np.int64))
    around = nearest[:, None] + np.concatenate([-distance[:0:-1], distance])
    zero = np.where(values.has_zero(), values.zero_codes(), low)
    codes = np.clip(np.hstack([around, zero[:, None]]), low[:, None], high[:, None])
    return np.asarray(codes, dtype=np.int64)


def _of_codes(values: ValueSet, codes: NDArray[np.int64], *, whole: bool) -> Candidates:
    codes = np.sort(codes, axis=1)
    used = np.ones(codes.shape[1], dtype=np.bool_)
    used[1:] = (codes[:, 1:] > codes[:, :-1]).any(axis=0)
    codes = codes[:, used]
    present = np.ones(codes.shape, dtype=np.bool_)
    present[:, 1:] = codes[:, 1:] > codes[:, :-1]
    table = np.stack([values.weight_of(column) for column in codes.T], axis=1)
    return Candidates(codes, table, present, whole)

"""Directions of next to no power: where the diagonal below a Gram is held down by few eigenvalues.

A layer behind LayerNorm has one, as sum_i x_i/gamma_i is constant; few positions make more.
"""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems import Gram

__all__ = ["NearNull", "near_null"]

Array = NDArray[np.float64]

MOST = 3
"""Directions at most: the cases of more are too many."""

GAP = 0.15
"""Largest ratio of an eigenvalue to the next one that makes the directions up to it worth their cases."""


ALONE = 1.5
"""Inputs that a direction lies on, up to which it is one input of little power: lam is small there alone."""


class NearNull(NamedTuple):
    """Directions of a Gram with far less power than all others."""

    direction: Array
    """Orthonormal eigenvectors, zero at inputs that are always zero, shape (m, n)."""
    power: Array
    """Their eigenvalues, rising, shape (m,)."""
    next: float
    """The least eigenvalue of the others."""


_KNOWN: WeakKeyDictionary[Gram, NearNull | None] = WeakKeyDictionary()


def near_null(gram: Gram) -> NearNull | None:
    """The directions of a Gram, found once for it; None where no few of them stand out."""
    if gram not in _KNOWN:
        _KNOWN[gram] = _found(gram)
    return _KNOWN[gram]


def _found(gram: Gram) -> NearNull | None:
    live = gram.live
    inside = int(live.sum())
    if inside < MOST + 2:
        return None
    matrix = gram.among(live).matrix
    power, vectors = _least_powers(matrix)
    count = next((k for k in range(MOST, 0, -1) if power[k - 1] < GAP * power[k]), 0)
    if count == 0 or not power[count] > 0.0:
        return None
    inputs = 1.0 / (vectors[:, :count] ** 4).sum(axis=0)
    kept = np.flatnonzero(inputs > ALONE)
    if not len(kept):
        return None
    direction = np.zeros((len(kept), gram.n))
    direction[:, live] = vectors[:, kept].T
    return NearNull(direction, power[kept], float(power[count]))


def _least_powers(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The `MOST` + 1 least eigenvalues, none below 0, and their eigenvectors in columns."""
    from scipy.linalg import eigh

    try:
        power, vectors = eigh(matrix, subset_by_index=[0, MOST])
    except np.linalg.LinAlgError:  # LAPACK's search for some of them, where many are equal
        power, vectors = (part[..., : MOST + 1] for part in np.linalg.eigh(matrix))
    return np.maximum(power, 0.0), vectors

"""Inverses of Grams for proposals: damped as a method asks, or with a ridge where there would be none."""

from __future__ import annotations

from math import inf

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError, shown
from pvqbounds.problems.gram import Gram

__all__ = ["checked_damping", "conditioned_inverse", "inverse_factor", "is_singular"]

Array = NDArray[np.float64]

RIDGE = 1e-10
"""Least eigenvalue, for inputs of power 1, that a Gram is given for its inverse."""


def checked_damping(damp: float) -> float:
    """A damping, as a fraction of the mean diagonal of the Gram.

    Raises
    ------
    InputError
        If it is negative or not finite.
    """
    if not (isinstance(damp, int | float) and 0.0 <= damp < inf):
        raise InputError(f"The damping is a number from 0 on, such as damp=0.01, not {shown(damp)}.")
    return float(damp)


def inverse_factor(gram: Gram, damp: float, order: NDArray[np.int64] | None = None) -> Array:
    """Upper triangular U with UᵀU the inverse of G + damp · mean(diag G) · I, shape (n, n).

    Parameters
    ----------
    order
        Inputs in the order of rows and columns; as they are if None.

    Raises
    ------
    InputError
        If that matrix is not definite.
    """
    from scipy.linalg import lapack

    matrix = gram.over_mean if order is None else gram.over_mean[np.ix_(order, order)]
    try:
        # G = R Rᵀ with R upper triangular is Cholesky's factor from the last input on
        root = np.linalg.cholesky((matrix + damp * np.eye(gram.n))[::-1, ::-1])[::-1, ::-1]
    except np.linalg.LinAlgError as error:
        raise InputError(
            f"With a damping of {damp:g} the Gram is singular and has no inverse; give some, as in damp=0.01."
        ) from error
    return np.asarray(lapack.dtrtri(root)[0], dtype=np.float64)


def is_singular(gram: Gram) -> bool:
    """Whether a Gram of inputs that are not always zero has no inverse that float64 can hold."""
    return _scaled_factor(gram, 0.0) is None


def conditioned_inverse(gram: Gram) -> Array:
    """The inverse of a Gram, or of one with a ridge of 1e-10 of each power where it is singular, (n, n)."""
    from scipy.linalg import lapack

    factor = _scaled_factor(gram, 0.0)
    if factor is None:
        factor = _scaled_factor(gram, RIDGE)
    assert factor is not None, "a Gram with a ridge is definite"
    lower = np.tril(lapack.dpotri(factor, lower=1)[0])
    power = np.sqrt(np.diagonal(gram.matrix))
    return np.asarray((lower + np.tril(lower, -1).T) / power / power[:, None], dtype=np.float64)


def _scaled_factor(gram: Gram, ridge: float) -> Array | None:
    """Lower Cholesky factor for inputs of power 1, None where the Gram is no more definite than rounding."""
    from scipy.linalg import lapack

    power = np.sqrt(np.diagonal(gram.matrix))
    scaled = np.array(gram.matrix / power / power[:, None], order="F")
    scaled[np.diag_indices(gram.n)] += ridge
    factor, info = lapack.dpotrf(scaled, lower=1)
    # the least pivot bounds the least eigenvalue from above
    definite = info == 0 and np.diagonal(factor).min() ** 2 >= 0.1 * RIDGE
    return np.asarray(factor, dtype=np.float64) if definite else None

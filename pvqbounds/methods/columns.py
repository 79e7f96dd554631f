"""Column after column: each is settled, and those behind it make good what that cost (GPTQ, SparseGPT)."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError, shown
from pvqbounds.problems.gram import Gram

__all__ = ["Now", "checked_damping", "inverse_factor", "settled"]

Array = NDArray[np.float64]

Now = Callable[[NDArray[np.int64]], Array]
"""The weights of inputs that are not settled yet, as they stand, shape (inputs, channels)."""

BLOCK = 128
"""Columns between two products with all columns behind them; it changes no result."""


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


def settled(weight: Array, factor: Array, value_of: Callable[[int, Array, Now], Array]) -> Array:
    """What the columns of weights, shape (channels, n), become one after the other.

    Parameters
    ----------
    factor
        Of :func:`inverse_factor`.
    value_of
        Gives the values of a column from its number, its weights as they stand, and those of all others.
    """
    now, values = np.ascontiguousarray(weight.T), np.empty(weight.T.shape)
    for start in range(0, len(now), BLOCK):
        stop = min(start + BLOCK, len(now))
        errors = np.zeros((stop - start, len(weight)))

        def weights_now(inputs: NDArray[np.int64], start: int = start, stop: int = stop) -> Array:
            behind = inputs >= stop  # these have not been told of this block's errors
            found = now[inputs]
            found[behind] -= factor[start:stop, inputs[behind]].T @ errors  # noqa: B023
            return found

        for i in range(start, stop):
            values[i] = value_of(i, now[i], weights_now)
            errors[i - start] = (now[i] - values[i]) / factor[i, i]
            now[i + 1 : stop] -= factor[i, i + 1 : stop, None] * errors[i - start]
        now[stop:] -= factor[start:stop, stop:].T @ errors
    return values.T

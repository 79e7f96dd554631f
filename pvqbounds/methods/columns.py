"""Column after column: each is settled, and those behind it make good what that cost (GPTQ, SparseGPT)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Now", "settled"]

Array = NDArray[np.float64]

Now = Callable[[NDArray[np.int64]], Array]
"""The weights of inputs that are not settled yet, as they stand, shape (inputs, channels)."""

BLOCK = 128
"""Columns between two products with all columns behind them; it changes no result."""


def settled(weight: Array, factor: Array, value_of: Callable[[int, Array, Now], Array]) -> Array:
    """What the columns of weights, shape (channels, n), become one after the other.

    Parameters
    ----------
    factor
        Of :func:`~pvqbounds.methods.inverse.inverse_factor`.
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

"""Nearest plane for values of any kind, and what is left of a problem whose support is chosen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems import LeastSquares, SparseLeastSquares
from pvqbounds.problems.least_squares import moved
from pvqbounds.problems.supports import ALL

__all__ = ["among_kept", "definite_factor", "nearest_plane"]


def definite_factor(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Upper triangular R with RᵀR = `gram`, or `gram` and the least ridge that is definite."""
    diagonal = np.diagonal(gram)
    unit = np.where(diagonal > 0.0, diagonal, 1.0)
    matrix = gram.copy()
    for ridge in (0.0, *(10.0**k for k in range(-15, 2))):
        matrix[np.diag_indices(len(gram))] = diagonal + ridge * unit
        try:
            return np.ascontiguousarray(np.linalg.cholesky(matrix).T)
        except np.linalg.LinAlgError:
            continue
    return np.diag(np.sqrt(unit))


def among_kept(problem: LeastSquares, kept: NDArray[np.bool_]) -> LeastSquares:
    """The problem over kept inputs alone, at least one of them, without a support rule.

    With all others zero, E is a constant and the error of the kept weights from their re-fit by least
    squares, which makes good what was removed: that is the target there.
    """
    refit = SparseLeastSquares(problem.shared, problem.weight, nnz=0).refit(np.flatnonzero(kept))
    return moved(problem.among(kept), weight=refit[kept], rule=ALL)


def nearest_plane(
    form: NDArray[np.float64],
    targets: NDArray[np.float64],
    nearest: Callable[[int, NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Values of many channels, input after input: each is rounded, those that follow make good its error.

    It is what GPTQ does, in GPTQ's own order (first input first), without its damping: Babai's
    nearest plane on the Cholesky factor. Where the Gram is singular the least ridge that lets it be
    factored is added, for the factor alone.

    Parameters
    ----------
    form
        The Gram or any multiple of it, shape (n, n), in the units of the targets.
    targets
        The weights of each channel, shape (channels, n).
    nearest
        Gives the values of an input that are next to points, one for each channel, shape (channels,).

    Returns
    -------
    Values, shape (channels, n).

    Notes
    -----
    Sources: Frantar, Ashkboos, Hoefler and Alistarh, "GPTQ", ICLR 2023; Babai, Combinatorica 6, 1986.
    """
    factor = definite_factor(form[::-1, ::-1])
    target = targets[:, ::-1]
    moves, values = np.zeros_like(target), np.zeros_like(target)
    for level in range(len(form) - 1, -1, -1):
        shift = moves[:, level + 1 :] @ factor[level, level + 1 :]
        wanted = target[:, level] - shift / factor[level, level]
        values[:, level] = nearest(len(form) - 1 - level, wanted)
        moves[:, level] = values[:, level] - target[:, level]
    return values[:, ::-1]

"""Nearest plane for values of any kind, and what magnitude leaves of a problem under a support rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems import LeastSquares, SparseLeastSquares
from pvqbounds.problems.gram import Gram
from pvqbounds.problems.least_squares import moved
from pvqbounds.problems.supports import ALL, largest_kept

__all__ = ["among_kept", "definite_factor", "kept_by_magnitude", "nearest_values"]


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


def kept_by_magnitude(problem: LeastSquares) -> NDArray[np.bool_]:
    """Which weights magnitude pruning keeps, shape (n,): all without a support rule."""
    if not problem.is_restricted:
        return np.ones(problem.n, dtype=np.bool_)
    kept: NDArray[np.bool_] = largest_kept(np.abs(problem.weight)[None], problem.budgets)[0]
    return kept


def among_kept(problem: LeastSquares, kept: NDArray[np.bool_]) -> LeastSquares:
    """The problem over kept inputs alone, at least one of them, without a support rule.

    With all others zero, E is a constant and the error of the kept weights from their re-fit by least
    squares, which makes good what was removed: that is the target there.
    """
    if not problem.is_restricted:
        return problem
    refit = SparseLeastSquares(problem.shared, problem.weight, nnz=0).refit(np.flatnonzero(kept))
    return moved(problem.among(kept), weight=refit[kept], rule=ALL)


def nearest_values(problems: Sequence[LeastSquares]) -> list[NDArray[np.int64]]:
    """Codes of each problem without a support rule, input after input, the first one first, undamped.

    Each input takes the value next to where the errors before it put it. Problems of one Gram share a
    factor of it.

    Notes
    -----
    Sources: Frantar, Ashkboos, Hoefler and Alistarh, "GPTQ", ICLR 2023; Babai, Combinatorica 6, 1986.
    """
    factors: dict[Gram, NDArray[np.float64]] = {}
    codes = []
    for problem in problems:
        if problem.shared not in factors:
            factors[problem.shared] = definite_factor(problem.shared.over_mean[::-1, ::-1])
        codes.append(_codes(problem, factors[problem.shared]))
    return codes


def _codes(problem: LeastSquares, factor: NDArray[np.float64]) -> NDArray[np.int64]:
    """Codes of one problem on the factor of its Gram in reverse order."""
    n, weight = problem.n, problem.weight
    codes, moves = np.zeros(n, dtype=np.int64), np.zeros(n)  # moves: v - w, the last input first
    for place in range(n - 1, -1, -1):
        i = n - 1 - place
        wanted = weight[i] - factor[place, place + 1 :] @ moves[place + 1 :] / factor[place, place]
        own = problem.values.among(np.array([i]))
        code = own.nearest(np.array([wanted]))
        codes[i], moves[place] = code[0], own.weight_of(code)[0] - weight[i]
    return codes

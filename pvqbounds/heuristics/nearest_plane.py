"""Nearest plane for values of any kind: input after input, each rounded where the errors before it put it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems import LeastSquares
from pvqbounds.problems.supports import largest_kept

__all__ = ["definite_factor", "nearest_values"]


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


def nearest_values(problems: Sequence[LeastSquares]) -> list[NDArray[np.int64]]:
    """Codes of each problem, the first input first, without damping; under a rule the small weights are 0.

    Which weights are 0 is said by their magnitude alone, as magnitude pruning does; the others make good
    what that costs. Problems of one Gram share a factor of it.

    Notes
    -----
    Sources: Frantar, Ashkboos, Hoefler and Alistarh, "GPTQ", ICLR 2023; Babai, Combinatorica 6, 1986.
    """
    factors: dict[int, NDArray[np.float64]] = {}
    codes = []
    for problem in problems:
        if id(problem.shared) not in factors:
            factors[id(problem.shared)] = definite_factor(problem.shared.over_mean[::-1, ::-1])
        codes.append(_codes(problem, factors[id(problem.shared)]))
    return codes


def _codes(problem: LeastSquares, factor: NDArray[np.float64]) -> NDArray[np.int64]:
    """Codes of one problem on the factor of its Gram in reverse order."""
    n, weight = problem.n, problem.weight
    kept = largest_kept(np.abs(weight)[None], problem.budgets)[0]
    codes, moved = problem.values.zero_codes().copy(), np.zeros(n)  # moved: v - w, the last input first
    for place in range(n - 1, -1, -1):
        i = n - 1 - place
        value = 0.0
        if kept[i]:
            wanted = weight[i] - factor[place, place + 1 :] @ moved[place + 1 :] / factor[place, place]
            own = problem.values.among(np.array([i]))
            code = own.nearest(np.array([wanted]))
            assert code is not None
            codes[i], value = code[0], own.weight_of(code)[0]
        moved[place] = value - weight[i]
    return codes

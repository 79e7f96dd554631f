"""Pruning as integer programs, with the diagonal and the start that native engines give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError, SolverError
from pvqbounds.relaxations.miqp import MIQP, big_m_program, perspective_program
from pvqbounds.solvers.miqp.presolve import PresolvedPruning

__all__ = ["PRUNING_FORMS", "tight_perspective_program"]


def tight_perspective_program(presolved: PresolvedPruning) -> MIQP:
    """The perspective form with the diagonal of the best perspective relaxation.

    Its continuous relaxation is then the tightest one of that kind (Zheng, Sun and Li, INFORMS
    Journal on Computing 26, 2014).

    Raises
    ------
    SolverError
        If the Gram is singular.
    """
    diagonal = presolved.relaxed.lam
    try:
        program = perspective_program(presolved.problem, diagonal if diagonal.any() else None)
    except InputError as error:
        raise SolverError(str(error)) from error
    v, kept = _start(presolved)
    return replace(program, start=np.concatenate([v, kept, v * v]))


def tight_big_m_program(presolved: PresolvedPruning) -> MIQP:
    """The form with a big M that the error of the good support proves.

    Raises
    ------
    SolverError
        If the Gram is singular.
    """
    v, kept = _start(presolved)
    try:
        program = big_m_program(presolved.problem, presolved.problem.error(v).upper)
    except InputError as error:
        raise SolverError(str(error)) from error
    return replace(program, start=np.concatenate([v - presolved.problem.weight, kept]))


def _start(presolved: PresolvedPruning) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The weights of the good support, and which inputs it keeps: both of shape (n,)."""
    kept = np.isin(np.arange(presolved.problem.n), presolved.support).astype(np.float64)
    return presolved.problem.refit(presolved.support), kept


PRUNING_FORMS: dict[str, Callable[[PresolvedPruning], MIQP]] = {
    "perspective": tight_perspective_program,
    "big-M": tight_big_m_program,
}
"""How pruning can be posed."""

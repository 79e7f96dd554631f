"""What MPS and LP files have in common: an integer program, its names, and its comments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError
from pvqbounds.problems import Problem
from pvqbounds.relaxations.miqp import MIQP, SingularGramError, plain_program, unknowns_of
from pvqbounds.storage.problem_forms.form import comments, offset_line
from pvqbounds.storage.problem_forms.settled import refuse_free_scale

__all__ = ["NamedProgram", "named_program"]

MEANING = {
    "z": "z: codes, v_i = s_i z_i",
    "u": "u: changes of the weights, v_i = w_i + u_i, |u_i| <= M_i proved for some optimal v",
    "k": "k: 1 where an input is kept, 0 where its weight is 0",
    "v": "v: weights",
    "b": "b: 1 for the value that an input has",
}
"""What a letter stands for."""


@dataclass(frozen=True, eq=False)
class NamedProgram:
    """An integer program as files say it; its objective is without the constant."""

    program: MIQP
    names: list[str]
    comments: list[str]

    @property
    def entries(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Row, column and value of Q's upper triangle, without zeros, row by row."""
        rows, columns = np.nonzero(np.triu(self.program.Q))
        return rows, columns, self.program.Q[rows, columns]


def named_program(problem: Problem, form: str) -> NamedProgram:
    """The integer program of a problem.

    Raises
    ------
    InputError
        If there is none: for a free scale, or a pruning whose Gram is singular.
    """
    refuse_free_scale(problem, form)
    try:
        program = plain_program(problem)
    except SingularGramError as error:
        raise InputError(
            f"{form} says pruning with a big M, which a singular Gram does not have; cbf, sdpa and npz can."
        ) from error
    names = unknowns_of(program)
    letters = dict.fromkeys(name[0] for name in names)
    says = [MEANING[letter] for letter in letters]
    return NamedProgram(
        program, names, comments(problem, form, [*says, offset_line(problem, program.constant)])
    )

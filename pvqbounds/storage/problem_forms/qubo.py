"""QUBO: a binary program without constraints as ``p qubo``, the text that D-Wave's tools began with.

After comments (``c``) a line ``p qubo 0 maxNodes nNodes nCouplers``, then ``i i value`` for each diagonal
entry and ``i j value`` with i < j for each pair, counted from 0: the objective is the sum of value x_i x_j.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pvqbounds.problems import Problem
from pvqbounds.relaxations.miqp.binary import BinaryProgram, binary_program
from pvqbounds.storage.problem_forms.form import ProblemForm, TextForm, comments, number, offset_line
from pvqbounds.storage.problem_forms.settled import refuse_free_scale

__all__ = ["QUBO"]


def _lines(problem: Problem) -> Iterator[str]:
    refuse_free_scale(problem, "qubo")
    program = binary_program(problem)
    says = [_meaning(program), offset_line(problem, program.constant)]
    yield from (f"c {line}" for line in comments(problem, "qubo", says))
    size = len(program.Q)
    rows, columns = np.nonzero(np.triu(program.Q, 1))
    yield f"p qubo 0 {size} {size} {len(rows)}"
    yield from (f"{i} {i} {number(value)}" for i, value in enumerate(np.diagonal(program.Q).tolist()))
    pairs = (2.0 * program.Q[rows, columns]).tolist()
    for i, j, value in zip(rows.tolist(), columns.tolist(), pairs, strict=True):
        yield f"{i} {j} {number(value)}"


def _meaning(program: BinaryProgram) -> str:
    """How codes follow from bits."""
    if len(program.inputs) == len(program.low) and (program.codes_a_bit == 1).all():
        return "x_i = 0 is the lower, 1 the upper of the two values of input i"
    bits = ", ".join(
        f"{i}:{weight}"
        for i, weight in zip(program.inputs.tolist(), program.codes_a_bit.tolist(), strict=True)
    )
    return f"input:codes that each x adds to the least code of its input, both from 0: {bits}"


QUBO = ProblemForm("qubo", (".qubo",), "a binary program without constraints", TextForm(_lines))

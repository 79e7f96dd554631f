"""MPS, free format: the integer program with QUADOBJ, as Gurobi, CPLEX, SCIP and HiGHS read it.

QUADOBJ holds one triangle of the matrix H of an objective qᵀx + ½ xᵀHx: H = 2Q. Every unknown has both of its
bounds; the objective's constant stands in the comments.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from scipy import sparse

from pvqbounds.problems import Problem
from pvqbounds.relaxations.miqp import MIQP
from pvqbounds.storage.problem_forms.form import ProblemForm, TextForm, number
from pvqbounds.storage.problem_forms.programs import named_program

__all__ = ["MPS"]

OBJECTIVE = "objective"


def _lines(problem: Problem) -> Iterator[str]:
    named = named_program(problem, "mps")
    program, names = named.program, named.names
    yield from (f"* {line}" for line in named.comments)
    yield from ("NAME problem", "ROWS", f" N {OBJECTIVE}")
    yield from (f" {'E' if r < program.equations else 'L'} c{r + 1}" for r in range(len(program.b)))
    yield "COLUMNS"
    yield from _columns(program, names)
    yield "RHS"
    yield from (f" RHS c{r + 1} {number(right)}" for r, right in enumerate(program.b.tolist()) if right)
    yield "BOUNDS"
    for name, low, high in zip(names, program.lower.tolist(), program.upper.tolist(), strict=True):
        yield from _bounds(name, low, high)
    rows, columns, values = named.entries
    if len(values):
        yield "QUADOBJ"
        for i, j, value in zip(rows.tolist(), columns.tolist(), (2.0 * values).tolist(), strict=True):
            yield f" {names[i]} {names[j]} {number(value)}"
    yield "ENDATA"


def _columns(program: MIQP, names: list[str]) -> Iterator[str]:
    """The entries of each unknown, integer ones between markers; those without any have a zero."""
    columns = sparse.csc_matrix(program.A)
    integer, markers = False, 0
    for i, (name, cost) in enumerate(zip(names, program.q.tolist(), strict=True)):
        if program.integer[i] != integer:
            integer, markers = not integer, markers + 1
            yield f" M{markers} 'MARKER' '{'INTORG' if integer else 'INTEND'}'"
        yield f" {name} {OBJECTIVE} {number(cost)}"
        own = slice(columns.indptr[i], columns.indptr[i + 1])
        for row, value in zip(columns.indices[own].tolist(), columns.data[own].tolist(), strict=True):
            if value:
                yield f" {name} c{row + 1} {number(value)}"
    if integer:
        yield f" M{markers + 1} 'MARKER' 'INTEND'"


def _bounds(name: str, low: float, high: float) -> Iterator[str]:
    if low == high:
        yield f" FX BND {name} {number(low)}"
        return
    yield f" MI BND {name}" if np.isneginf(low) else f" LO BND {name} {number(low)}"
    yield f" PL BND {name}" if high == math.inf else f" UP BND {name} {number(high)}"


MPS = ProblemForm("mps", (".mps",), "the integer program", TextForm(_lines))

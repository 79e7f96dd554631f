"""LP: the integer program as text to read, as Gurobi, CPLEX, SCIP and HiGHS read it.

The quadratic part of an objective stands in brackets that are halved: [ 2 Q_ii x_i ^ 2 + 4 Q_ij x_i * x_j ]
/ 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from scipy import sparse

from pvqbounds.problems import Problem
from pvqbounds.storage.problem_forms.form import ProblemForm, TextForm, number
from pvqbounds.storage.problem_forms.programs import NamedProgram, named_program

__all__ = ["LP"]

NAMES_A_LINE = 8


def _lines(problem: Problem) -> Iterator[str]:
    named = named_program(problem, "lp")
    program, names = named.program, named.names
    yield from (f"\\ {line}" for line in named.comments)
    yield from ("Minimize", " objective:")
    yield from (f"  {_term(cost, name)}" for cost, name in zip(program.q.tolist(), names, strict=True))
    yield from _quadratic(named)
    yield "Subject To"
    rows = sparse.csr_matrix(program.A)
    for r, right in enumerate(program.b.tolist()):
        own = slice(rows.indptr[r], rows.indptr[r + 1])
        entries = zip(rows.data[own].tolist(), rows.indices[own].tolist(), strict=True)
        yield f" c{r + 1}:"
        yield from (f"  {_term(value, names[j])}" for value, j in entries if value)
        yield f"  {'=' if r < program.equations else '<='} {number(right)}"
    yield "Bounds"
    for name, low, high in zip(names, program.lower.tolist(), program.upper.tolist(), strict=True):
        yield f" {_end(low)} <= {name} <= {_end(high)}"
    whole = [name for name, integer in zip(names, program.integer.tolist(), strict=True) if integer]
    yield "General"
    yield from (f" {' '.join(whole[i : i + NAMES_A_LINE])}" for i in range(0, len(whole), NAMES_A_LINE))
    yield "End"


def _quadratic(named: NamedProgram) -> Iterator[str]:
    rows, columns, values = named.entries
    if not len(values):
        return
    first_term = True
    for i, j, value in zip(rows.tolist(), columns.tolist(), values.tolist(), strict=True):
        first, second = named.names[i], named.names[j]
        term = f"{_term(2.0 * value, first)} ^ 2" if i == j else f"{_term(4.0 * value, first)} * {second}"
        # SCIP takes no plus behind the bracket
        yield f"  + [ {term.removeprefix('+ ')}" if first_term else f"  {term}"
        first_term = False
    yield "  ] / 2"


def _term(coefficient: float, name: str) -> str:
    return f"{'-' if coefficient < 0.0 else '+'} {number(abs(coefficient))} {name}"


def _end(value: float) -> str:
    return number(value) if math.isfinite(value) else "-inf" if value < 0.0 else "inf"


LP = ProblemForm("lp", (".lp",), "the integer program", TextForm(_lines))

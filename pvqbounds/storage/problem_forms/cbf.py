"""CBF (conic benchmark format, version 3): the semidefinite relaxation, as MOSEK and CBLIB's tools read it.

The program of :mod:`pvqbounds.relaxations.semidefinite`, maximised; s lam >= nu² stands as the second-order
cone (s + lam, s - lam, 2 nu). Source: the reference guide of CBLIB's format, version 3.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pvqbounds.problems import Problem
from pvqbounds.relaxations.semidefinite import SemidefiniteDual, semidefinite_dual
from pvqbounds.storage.problem_forms.form import ProblemForm, TextForm, comments, given_as, number
from pvqbounds.storage.problem_forms.settled import refuse_free_scale

__all__ = ["CBF", "relaxation_comments", "relaxation_offset"]


def relaxation_offset(problem: Problem) -> float:
    """What a bound on E lacks of one on the objective that a quadratic program was given as; else 0."""
    given = given_as(problem)
    return 0.0 if given is None else float(given.offset)


def relaxation_comments(problem: Problem, form: str, bound: str) -> list[str]:
    """The comments of a relaxation: `bound` says what of its objective is a lower bound."""
    n = problem.n
    unknowns = (
        f"unknowns: lam (1..{n}), nu ({n + 1}..{2 * n}), gamma, t ({n}), prices of budgets, s ({n}, pruning)"
    )
    offset = f"{bound} is a lower bound, offset = {number(relaxation_offset(problem))}"
    return comments(problem, form, ["the semidefinite relaxation", unknowns, offset])


def _lines(problem: Problem) -> Iterator[str]:
    refuse_free_scale(problem, "cbf")
    program = semidefinite_dual(problem)
    yield from (f"# {line}" for line in relaxation_comments(problem, "cbf", "objective + offset"))
    yield from ("VER", "3", "", "OBJSENSE", "MAX", "")
    yield from ("VAR", f"{len(program.cost)} 1", f"F {len(program.cost)}", "")
    yield from ("PSDCON", "1", f"{program.n + 1}", "")
    yield from _cones(program)
    costs = np.flatnonzero(program.cost)
    yield from ("OBJACOORD", f"{len(costs)}")
    yield from (f"{j} {number(program.cost[j])}" for j in costs.tolist())
    yield from ("", "ACOORD", *_rows(program))
    yield from ("", "HCOORD", *_of_unknowns(program))
    yield from ("", "DCOORD", *_constants(program))


def _cones(program: SemidefiniteDual) -> Iterator[str]:
    rows, triples = program.rows.shape[0], len(program.products)
    count = int(rows > 0) + triples
    if count:
        yield from ("CON", f"{rows + 3 * triples} {count}")
        yield from ([f"L+ {rows}"] if rows else []) + ["Q 3"] * triples
        yield ""


def _rows(program: SemidefiniteDual) -> list[str]:
    """Row, unknown and coefficient of every row and second-order cone, after their number."""
    matrix = program.rows.tocoo()
    entries = list(zip(matrix.row.tolist(), matrix.col.tolist(), matrix.data.tolist(), strict=True))
    first = program.rows.shape[0]
    for k, (a, b, c) in enumerate(program.products.tolist()):
        at = first + 3 * k
        entries += [(at, a, 1.0), (at, b, 1.0), (at + 1, a, 1.0), (at + 1, b, -1.0), (at + 2, c, 2.0)]
    return [f"{len(entries)}", *(f"{row} {unknown} {number(value)}" for row, unknown, value in entries)]


def _of_unknowns(program: SemidefiniteDual) -> list[str]:
    """Entries of the semidefinite matrix that unknowns stand in, its lower triangle."""
    n = program.n
    diagonal = [f"0 {i} {i} {i} -1.0" for i in range(n)]
    border = [f"0 {n + i} {n} {i} 1.0" for i in range(n)]
    return [f"{2 * n + 1}", *diagonal, *border, f"0 {program.corner} {n} {n} 1.0"]


def _constants(program: SemidefiniteDual) -> list[str]:
    """Entries of G, its lower triangle."""
    rows, columns = np.nonzero(np.tril(program.gram))
    values = program.gram[rows, columns].tolist()
    entries = zip(rows.tolist(), columns.tolist(), values, strict=True)
    return [f"{len(rows)}", *(f"0 {i} {j} {number(value)}" for i, j, value in entries)]


CBF = ProblemForm("cbf", (".cbf",), "the semidefinite relaxation", TextForm(_lines))

"""SDPA, sparse: the semidefinite relaxation, as SDPA, CSDP, SDPT3 and others read it.

minimise cᵀx subject to sum_k x_k F_k - F_0 positive semidefinite, in blocks: the matrix of the relaxation,
its rows as a diagonal block, and of pruning [[s_i, nu_i], [nu_i, lam_i]] for each input. Sources: the
users' manuals of SDPA and of CSDP.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pvqbounds.problems import Problem
from pvqbounds.relaxations.semidefinite import SemidefiniteDual, semidefinite_dual
from pvqbounds.storage.problem_forms.cbf import relaxation_comments
from pvqbounds.storage.problem_forms.form import ProblemForm, TextForm, number
from pvqbounds.storage.problem_forms.settled import refuse_free_scale

__all__ = ["SDPA"]

Entry = tuple[int, int, int, int, float]
"""Matrix (0 for the constant), block, row and column, counted from 1, and value."""


def _lines(problem: Problem) -> Iterator[str]:
    refuse_free_scale(problem, "sdpa")
    program = semidefinite_dual(problem)
    yield from (f"* {line}" for line in relaxation_comments(problem, "sdpa", "offset - objective"))
    rows, products = program.rows.shape[0], len(program.products)
    blocks = [program.n + 1, *([-rows] if rows else []), *([2] * products)]
    yield from (f"{len(program.cost)}", f"{len(blocks)}", " ".join(map(str, blocks)))
    yield " ".join(number(-cost) for cost in program.cost.tolist())
    for matrix, block, i, j, value in _entries(program):
        yield f"{matrix} {block} {i} {j} {number(value)}"


def _entries(program: SemidefiniteDual) -> Iterator[Entry]:
    """Upper triangles; the constants come first, as some readers want matrices in order."""
    n, first = program.n, 2 if program.rows.shape[0] else 1
    rows, columns = np.nonzero(np.triu(program.gram))
    values = (-program.gram[rows, columns]).tolist()
    for i, j, value in zip(rows.tolist(), columns.tolist(), values, strict=True):
        yield 0, 1, i + 1, j + 1, value
    places: dict[int, list[tuple[int, int, int, float]]] = {k: [] for k in range(len(program.cost))}
    for i in range(n):
        places[i].append((1, i + 1, i + 1, -1.0))
        places[n + i].append((1, i + 1, n + 1, 1.0))
    places[program.corner].append((1, n + 1, n + 1, 1.0))
    matrix = program.rows.tocoo()
    for row, unknown, value in zip(
        matrix.row.tolist(), matrix.col.tolist(), matrix.data.tolist(), strict=True
    ):
        places[unknown].append((2, row + 1, row + 1, value))
    for k, (a, b, c) in enumerate(program.products.tolist(), first + 1):
        for unknown, i, j in ((a, 1, 1), (b, 2, 2), (c, 1, 2)):
            places[unknown].append((k, i, j, 1.0))
    for unknown, entries in places.items():
        yield from ((unknown + 1, *entry) for entry in entries)


SDPA = ProblemForm("sdpa", (".dat-s", ".sdpa"), "the semidefinite relaxation", TextForm(_lines))

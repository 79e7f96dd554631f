"""Readers of problem files that know nothing of the writer: formats as their manuals say them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import clarabel
import numpy as np
from scipy import sparse


@dataclass
class Conic:
    """minimise cost x subject to rows x + right in a product of cones, matrix(x) semidefinite."""

    cost: np.ndarray
    rows: np.ndarray
    right: np.ndarray
    cones: list[tuple[str, int]]
    blocks: list[tuple[np.ndarray, np.ndarray]]
    """Of each semidefinite matrix its coefficients, shape (m, k, k), and its constant, shape (k, k)."""

    def value(self, tolerance: float = 1e-9) -> float:
        """The optimum, by Clarabel."""
        rows, right, cones = [-self.rows], [self.right], []
        for kind, size in self.cones:
            cone = {"L+": clarabel.NonnegativeConeT, "Q": clarabel.SecondOrderConeT}[kind]
            cones.append(cone(size))
        for coefficients, constant in self.blocks:
            size = len(constant)
            j, i = np.tril_indices(size)  # the upper triangle, column by column
            scale = np.where(i == j, 1.0, np.sqrt(2.0))
            rows.append(-(coefficients[:, i, j] * scale).T)
            right.append(constant[i, j] * scale)
            cones.append(clarabel.PSDTriangleConeT(size))
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tolerance
        m = len(self.cost)
        matrix = sparse.csc_matrix(np.vstack(rows))
        data = (sparse.csc_matrix((m, m)), self.cost, matrix, np.concatenate(right), cones, settings)
        solution = clarabel.DefaultSolver(*data).solve()
        assert str(solution.status) in ("Solved", "AlmostSolved")
        return float(solution.obj_val)


def read_cbf(path: Path) -> Conic:
    """A file of free variables, one kind of objective, rows in cones, and affine semidefinite matrices."""
    lines = [line.strip() for line in path.read_text().splitlines()]
    words = iter([line for line in lines if line and not line.startswith("#")])
    sign, variables, cones, sizes, rows = 1.0, 0, [], [], []
    coefficients: dict[str, list[list[str]]] = {}
    for key in words:
        if key == "VER":
            assert int(next(words)) in (1, 2, 3, 4)
        elif key == "OBJSENSE":
            sign = {"MIN": 1.0, "MAX": -1.0}[next(words)]
        elif key == "VAR":
            variables, count = map(int, next(words).split())
            assert [next(words).split() for _ in range(count)] == [["F", str(variables)]]
        elif key == "PSDCON":
            sizes = [int(next(words)) for _ in range(int(next(words)))]
        elif key == "CON":
            _, count = map(int, next(words).split())
            cones = [(kind, int(size)) for kind, size in (next(words).split() for _ in range(count))]
        else:
            assert key in ("OBJACOORD", "ACOORD", "BCOORD", "HCOORD", "DCOORD"), key
            coefficients[key] = [next(words).split() for _ in range(int(next(words)))]
    cost = np.zeros(variables)
    for j, value in coefficients.get("OBJACOORD", []):
        cost[int(j)] += sign * float(value)
    rows = np.zeros((sum(size for _, size in cones), variables))
    for i, j, value in coefficients.get("ACOORD", []):
        rows[int(i), int(j)] += float(value)
    right = np.zeros(len(rows))
    for i, value in coefficients.get("BCOORD", []):
        right[int(i)] += float(value)
    blocks = [(np.zeros((variables, size, size)), np.zeros((size, size))) for size in sizes]
    for k, variable, i, j, value in coefficients.get("HCOORD", []):
        assert int(i) >= int(j)  # the lower triangle
        blocks[int(k)][0][int(variable), int(i), int(j)] += float(value)
    for k, i, j, value in coefficients.get("DCOORD", []):
        assert int(i) >= int(j)
        blocks[int(k)][1][int(i), int(j)] += float(value)
    return Conic(cost, rows, right, cones, [_symmetric(*block) for block in blocks])


def read_sdpa(path: Path) -> Conic:
    """Sparse SDPA: minimise c x, sum x_k F_k - F_0 semidefinite; blocks of negative size are diagonal."""
    lines = [line for line in path.read_text().splitlines() if line[:1] not in ('"', "*")]
    count, number = int(lines[0]), int(lines[1])
    sizes = [int(size) for size in lines[2].split()]
    cost = np.array([float(value) for value in lines[3].split()])
    assert len(sizes) == number
    assert len(cost) == count
    blocks = [(np.zeros((count, abs(size), abs(size))), np.zeros((abs(size), abs(size)))) for size in sizes]
    for line in lines[4:]:
        k, block, i, j = (int(word) for word in line.split()[:4])
        value = float(line.split()[4])
        assert i <= j  # the upper triangle
        coefficients, constant = blocks[block - 1]
        if k == 0:
            constant[j - 1, i - 1] -= value
        else:
            coefficients[k - 1, j - 1, i - 1] += value
    diagonal = [block for block, size in zip(blocks, sizes, strict=True) if size < 0]
    full = [_symmetric(*block) for block, size in zip(blocks, sizes, strict=True) if size > 0]
    rows = [np.diagonal(coefficients, axis1=1, axis2=2).T for coefficients, _ in diagonal]
    right = [np.diagonal(constant) for _, constant in diagonal]
    for coefficients, constant in diagonal:
        assert not (np.abs(coefficients).sum(axis=0) + np.abs(constant))[
            ~np.eye(len(constant), dtype=bool)
        ].any()
    rows_of_all = np.vstack([np.zeros((0, count)), *rows])
    cones = [("L+", len(rows_of_all))] if len(rows_of_all) else []
    return Conic(cost, rows_of_all, np.concatenate([np.zeros(0), *right]), cones, full)


def _symmetric(coefficients: np.ndarray, constant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both triangles of matrices of which the lower one was given."""
    lower = np.tril(np.ones_like(constant), -1) > 0
    for matrix in (*coefficients, constant):
        matrix += np.where(lower, matrix, 0.0).T
    return coefficients, constant


def read_qubo(path: Path) -> np.ndarray:
    """The upper triangle Q of a ``p qubo`` file: the sum of Q_ij x_i x_j."""
    lines = [line.split() for line in path.read_text().splitlines() if not line.startswith("c")]
    p, kind, topology, nodes, diagonal, couplers = lines[0]
    assert (p, kind, topology) == ("p", "qubo", "0")
    assert len(lines) - 1 == int(diagonal) + int(couplers)
    Q = np.zeros((int(nodes), int(nodes)))
    for k, (i, j, value) in enumerate(lines[1:]):
        assert (i == j) if k < int(diagonal) else (int(i) < int(j))
        Q[int(i), int(j)] += float(value)
    return Q


def offset_of(path: Path) -> float:
    """What the comments say is to be added."""
    line = next(line for line in path.read_text().splitlines() if "offset = " in line)
    return float(line.rsplit("offset = ", 1)[1])

"""The dual of the box-hull SDP in the standard form that conic solvers share.

Clarabel and SCS both minimise costᵀx subject to A x + s = b, s in a product of cones. Posed is
the dual of :mod:`pvqbounds.relaxations.box_hull`, because it has 3n + 1 unknowns (Park-Boyd: n + 1)
where the primal has (n+1)(n+2)/2, and because its unknowns *are* the multipliers:

    x = (lam, mu, t, g),   t_i - lam_i y_iv - 2 mu_i x_iv <= 0,   Z(lam, mu, g) positive semidefinite.

The solver's dual variable of the last constraint is X = [[D, d], [dᵀ, 1]], whence the moments.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pvqbounds.errors import SolverFailedError
from pvqbounds.relaxations.box_hull import (
    BoxHullSDP,
    definite_multipliers,
    point_multipliers,
)
from pvqbounds.solvers.base import SDPSolution

__all__ = ["ConicDual", "Triangle", "conic_dual", "single_point"]

SQRT2 = float(np.sqrt(2.0))
"""Factor of off-diagonal entries in a vectorised matrix, so that inner products are kept."""


class Triangle(Enum):
    """Which entries of a symmetric matrix a solver stacks, always column by column."""

    UPPER = "upper"
    LOWER = "lower"

    def indices(self, order: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(row, column) of the entries of a matrix of `order`, in the solver's order."""
        # row-major over one triangle is column-major over the other
        first, second = np.tril_indices(order) if self is Triangle.UPPER else np.triu_indices(order)
        return second, first


@dataclass(frozen=True, eq=False)
class ConicDual:
    """minimise costᵀx subject to matrix @ x + s = offset, s in (non-negative, semidefinite) cones."""

    sdp: BoxHullSDP
    triangle: Triangle
    cost: NDArray[np.float64]
    matrix: Any
    """scipy.sparse.csc_matrix; rows: `inequalities`, then the vectorised Z."""
    offset: NDArray[np.float64]
    inequalities: int

    @property
    def order(self) -> int:
        """Order of Z: n + 1."""
        return self.sdp.n + 1

    def solution(
        self, x: NDArray[np.float64], dual: NDArray[np.float64], status: str, solver: str
    ) -> SDPSolution:
        """Multipliers with S definite and moments, from the solver's unknowns and dual variables.

        Raises
        ------
        SolverFailedError
            If any of them is not finite.
        """
        if not (np.isfinite(x).all() and np.isfinite(dual).all()):
            raise SolverFailedError(
                f"{solver} gave no usable multipliers (status: {status}); raise the time limit or "
                "take the native solver."
            )
        n = self.sdp.n
        lam = x[:n]
        mu = x[n : 2 * n] if self.sdp.chord else -0.5 * lam
        rows, columns = self.triangle.indices(self.order)
        moments = np.empty((self.order, self.order))
        entries = dual[self.inequalities :] / np.where(rows == columns, 1.0, SQRT2)
        moments[rows, columns] = moments[columns, rows] = entries
        mean = moments[:n, n]
        z = self.sdp.reference + mean
        lam, nu = definite_multipliers(self.sdp, lam, self.sdp.nu_of(lam, mu), z)
        return SDPSolution(
            lam=lam,
            nu=nu,
            value=self.sdp.constant - float(self.cost @ x),
            mean=z,
            covariance=moments[:n, :n] - np.outer(mean, mean),
            status=status,
        )


def conic_dual(sdp: BoxHullSDP, triangle: Triangle) -> ConicDual:
    """Data of the dual of `sdp`; A has O(n) entries in the cone of Z, P itself stands in `offset`."""
    n = sdp.n
    rows, columns = triangle.indices(n + 1)
    target = np.zeros((n + 1, n + 1))
    target[:n, :n] = sdp.form
    target[:n, n] = target[n, :n] = sdp.linear
    offset = target[rows, columns] * np.where(rows == columns, 1.0, SQRT2)
    on_diagonal = np.flatnonzero((rows == columns) & (rows < n))
    in_border = np.flatnonzero((np.maximum(rows, columns) == n) & (rows != columns))
    corner = np.flatnonzero((rows == n) & (columns == n))
    shape = (len(rows), n)
    i = np.arange(n)
    of_lam = sparse.csc_matrix((np.ones(n), (on_diagonal, i)), shape)
    of_mu = sparse.csc_matrix((np.full(n, SQRT2), (in_border, i)), shape)
    of_corner = sparse.csc_matrix(([-1.0], (corner, [0])), (len(rows), 1))
    if sdp.chord:
        x, y = sdp.vertices
        count = x.shape[1]
        eye = sparse.identity(n)
        by_vertex = [
            sparse.hstack([-sparse.diags(y[:, v]), -2.0 * sparse.diags(x[:, v]), eye]) for v in range(count)
        ]
        blocks = [
            [sparse.vstack(by_vertex), None],
            [sparse.hstack([of_lam, of_mu, sparse.csc_matrix(shape)]), of_corner],
        ]
        cost = np.concatenate([np.zeros(2 * n), -np.ones(n), [1.0]])
        inequalities = n * count
    else:
        blocks = [[-sparse.identity(n), None], [of_lam - 0.5 * of_mu, of_corner]]
        cost = np.concatenate([np.zeros(n), [1.0]])
        inequalities = n
    matrix = sparse.csc_matrix(sparse.bmat(blocks))
    matrix.sort_indices()
    offset = np.concatenate([np.zeros(inequalities), offset])
    return ConicDual(sdp, triangle, cost, matrix, offset, inequalities)


def single_point(sdp: BoxHullSDP) -> SDPSolution:
    """The solution on a grid of one code, where the dual has no finite maximiser to look for."""
    lam, nu = point_multipliers(sdp)
    mean = np.full(sdp.n, float(sdp.qmin))
    return SDPSolution(lam, nu, sdp.constant, mean, np.zeros((sdp.n, sdp.n)), "solved")

"""Both relaxations in the standard form that conic solvers share, and what such solvers share.

    minimise costᵀx   subject to   A x + s = b,   s in a product of cones.

**Quantization.** Posed is the dual of :mod:`pvqbounds.relaxations.box_hull`, because it has 3n + 1
unknowns (Park-Boyd: n + 1) where the primal has (n+1)(n+2)/2, and because its unknowns *are* the
multipliers:

    x = (lam, mu, t, g),   t_i - lam_i y_iv - 2 mu_i x_iv <= 0,   Z(lam, mu, g) positive semidefinite.

The solver's dual variable of the last constraint is X = [[D, d], [dᵀ, 1]], whence the moments.

**Pruning.** Posed is the perspective dual in the form of
:mod:`pvqbounds.solvers.native.pruning.perspective_dual`, x = (D, nu, s, theta, tau):

    minimise   tau + sum_i s_i - sum_g m_g theta_g
    subject to theta_g(i) - D_i w_i² + 2 w_i nu_i - s_i <= 0,   (s_i + D_i, s_i - D_i, 2 nu_i) in the
               second-order cone (that is s_i D_i >= nu_i²),
               [[G - diag(D), nu], [nuᵀ, tau]] positive semidefinite.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pvqbounds.clock import Clock
from pvqbounds.errors import SolverError, SolverFailedError
from pvqbounds.heuristics.rounding import randomized_rounding
from pvqbounds.problems import LeastSquares, SparseLeastSquares
from pvqbounds.problems.code_grids import has_grid
from pvqbounds.relaxations.box_hull import (
    BoxHullSDP,
    definite_multipliers,
    point_multipliers,
)
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.solvers.base import Backend, Capability, ExactSolution, Options, SDPSolution, remaining
from pvqbounds.solvers.native.pruning.perspective_dual import NormalForm, normal_form
from pvqbounds.solvers.relaxation import relax_levels

__all__ = [
    "ConicBackend",
    "ConicDual",
    "ConicProgram",
    "ConicSolution",
    "PerspectiveDual",
    "Triangle",
    "conic_dual",
    "entries_of_cone",
    "perspective_dual",
    "single_point",
]

SQRT2 = float(np.sqrt(2.0))
"""Factor of off-diagonal entries in a vectorised matrix, so that inner products are kept."""


BRIEF = 0.25
"""A solver that is expected to have its first iterate in fewer seconds is not refused for want of time."""

LARGEST_RISE = 1e-4
"""What a D_i may have to rise to, of a Gram with unit diagonal, to meet its own second-order cone."""


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
class ConicProgram:
    """minimise costᵀx subject to matrix @ x + s = offset, s in a product of cones.

    Rows: `inequalities` of the non-negative cone, then `triples` second-order cones of three rows
    (the first at least the length of the other two), then a vectorised semidefinite matrix.
    """

    cost: NDArray[np.float64]
    matrix: Any
    """scipy.sparse.csc_matrix."""
    offset: NDArray[np.float64]
    inequalities: int
    triples: int
    order: int
    """Order of the semidefinite matrix."""
    triangle: Triangle


@dataclass(frozen=True, eq=False)
class ConicSolution:
    """Unknowns and dual variables of a ConicProgram, one for each of its rows."""

    x: NDArray[np.float64]
    dual: NDArray[np.float64]
    status: str
    """The solver's own word."""


@dataclass(frozen=True, eq=False)
class ConicDual(ConicProgram):
    """The dual of a quantization SDP."""

    sdp: BoxHullSDP

    def solution(
        self, x: NDArray[np.float64], dual: NDArray[np.float64], status: str, solver: str
    ) -> SDPSolution:
        """Multipliers with S definite and moments, from the solver's unknowns and dual variables.

        Raises
        ------
        SolverFailedError
            If any of them is not finite.
        """
        _check_finite(solver, status, x, dual)
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


@dataclass(frozen=True, eq=False)
class PerspectiveDual(ConicProgram):
    """The perspective dual of a pruning."""

    form: NormalForm

    def certificate(
        self, x: NDArray[np.float64], dual: NDArray[np.float64], status: str, solver: str
    ) -> DualCertificate:
        """(D, nu) with H = G - diag(D) definite, from the solver's unknowns and dual variables.

        Solvers stop on either side of the boundary. A D_i near zero that misses s_i D_i >= nu_i² by
        the solver's tolerance would cost nu_i²/D_i >> s_i, so it rises until it meets it. Where D
        has to shrink by e, nu moves so that the minimiser u = H⁻¹nu stays where it is: nu grows by
        e u.

        Raises
        ------
        SolverFailedError
            If any of them is not finite.
        """
        _check_finite(solver, status, x, dual)
        n, used = len(self.form.group), np.flatnonzero(self.form.group >= 0)
        D, nu, s = np.zeros((3, n))
        D[used], nu[used], s[used] = x[: 3 * len(used)].reshape(3, -1)
        met = np.divide(nu * nu, s, out=np.zeros(n), where=s > 0.0)
        D = np.maximum(np.maximum(D, 0.0), np.where(met < LARGEST_RISE, met, 0.0))
        rows, columns = self.triangle.indices(n + 1)
        border = (np.maximum(rows, columns) == n) & (rows != columns)
        u = -dual[self.inequalities + 3 * self.triples :][border] / SQRT2
        for shrink in (0.0, *(1e-14 * 4.0**k for k in range(23))):
            if _is_definite(self.form.gram - np.diag((1.0 - shrink) * D) - 1e-14 * n * np.eye(n)):
                break
        return self.form.certificate((1.0 - shrink) * D, nu + shrink * D * u)

    def value(self, x: NDArray[np.float64]) -> float:
        """The bound on E that the solver states."""
        return -float(self.cost @ x) * self.form.unit**2


class ConicBackend(Backend):
    """A backend that solves conic programs: both relaxations, in dual form."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.BOX_HULL, Capability.PERSPECTIVE})
    triangle: ClassVar[Triangle]

    def memory(self, n: int) -> float:
        """Bytes that a relaxation of n inputs takes, about; 0 where that is not known."""
        return 0.0

    def seconds_to_start(self, n: int) -> float:
        """Seconds until a relaxation of n inputs has its first iterate, about; 0 where they are few."""
        return 0.0

    def refusal(
        self,
        n: int,
        needs: Capability,
        options: Mapping[str, Any],
        *,
        time_limit: float = math.inf,
        levels: int = 0,
    ) -> SolverError | None:
        """What memory or the time limit is too small for; see the base class."""
        if needs not in (Capability.BOX_HULL, Capability.PERSPECTIVE):
            return super().refusal(n, needs, options, time_limit=time_limit, levels=levels)
        seconds = self.seconds_to_start(n)
        if seconds > max(time_limit, BRIEF):
            from pvqbounds.solvers import alternatives

            return SolverError(
                f"{self.name} takes about {seconds:.2g} seconds for a first step with {n} inputs, more than "
                f"the time limit of {time_limit:g}; {alternatives(needs, without=self.name)}, or a limit "
                f"of {math.ceil(10.0 * seconds)} seconds."
            )
        return self._memory_refusal(n, needs, self.memory(n))

    @abstractmethod
    def solve_conic(self, program: ConicProgram, options: Options) -> ConicSolution:
        """Solve the program, or give the last iterate."""

    def solve_sdp(self, sdp: BoxHullSDP, options: Options) -> SDPSolution:
        """Solve the quantization SDP; the status is the solver's own word.

        Raises
        ------
        SolverError
            If `options.extra` names a setting that the solver does not have.
        SolverFailedError
            If it ends without finite multipliers.
        """
        if sdp.chord and sdp.is_point:
            return single_point(sdp)
        data = conic_dual(sdp, self.triangle)
        solution = self.solve_conic(data, options)
        return data.solution(solution.x, solution.dual, solution.status, self.name)

    def relax_codes(self, problem: LeastSquares, options: Options) -> ExactSolution:
        """Solve the box-hull SDP of levels; errors as in :meth:`solve_sdp`.

        Raises
        ------
        SolverError
            Under a support rule.
        """
        if problem.is_restricted:
            raise self._unable(Capability.JOINT)
        clock = Clock(options.time_limit, options.cancelled)
        relaxed = relax_levels(problem, lambda sdp: self.solve_sdp(sdp, remaining(options, clock)), clock)
        codes = None
        if has_grid(problem.values):
            codes = randomized_rounding(
                problem, relaxed.mean, relaxed.covariance, seed=options.seed, clock=clock
            )
        return ExactSolution(codes, None, relaxed.reported, relaxed.certificate, relaxed.status, "box-hull")

    def relax_sparse(self, problem: SparseLeastSquares, options: Options) -> ExactSolution:
        """Solve the perspective relaxation of a pruning; errors as in :meth:`solve_sdp`."""
        from pvqbounds.solvers.native.pruning.subset_search import good_support

        clock = Clock(options.time_limit, options.cancelled)
        support = good_support(problem, clock)
        form = normal_form(problem)
        if form is None:
            nothing = DualCertificate(np.zeros(problem.n), np.zeros(problem.n))
            return ExactSolution(None, support, None, nothing, "the relaxation gives no bound")
        data = perspective_dual(form, self.triangle)
        solution = self.solve_conic(data, remaining(options, clock))
        certificate = data.certificate(solution.x, solution.dual, solution.status, self.name)
        return ExactSolution(None, support, data.value(solution.x), certificate, solution.status)


def conic_dual(sdp: BoxHullSDP, triangle: Triangle) -> ConicDual:
    """Data of the dual of `sdp`; A has O(n) entries in the cone of Z, P itself stands in `offset`."""
    n = sdp.n
    corner, of_lam, of_mu, of_corner = _bordered(sdp.form, sdp.linear, triangle)
    if sdp.chord:
        x, y = sdp.vertices
        count = x.shape[1]
        rows, i = np.arange(n * count), np.tile(np.arange(n), count)
        entries = np.concatenate([-y.T.ravel(), -2.0 * x.T.ravel(), np.ones(n * count)])
        columns = np.concatenate([i, n + i, 2 * n + i])
        by_vertex = sparse.csc_matrix((entries, (np.tile(rows, 3), columns)), (n * count, 3 * n))
        blocks = [
            [by_vertex, None],
            [sparse.hstack([of_lam, of_mu, sparse.csc_matrix((len(corner), n))]), of_corner],
        ]
        cost = np.concatenate([np.zeros(2 * n), -np.ones(n), [1.0]])
        inequalities = n * count
    else:
        blocks = [[-sparse.identity(n), None], [of_lam - 0.5 * of_mu, of_corner]]
        cost = np.concatenate([np.zeros(n), [1.0]])
        inequalities = n
    offset = np.concatenate([np.zeros(inequalities), corner])
    return ConicDual(cost, _csc(blocks), offset, inequalities, 0, n + 1, triangle, sdp)


def perspective_dual(form: NormalForm, triangle: Triangle) -> PerspectiveDual:
    """Data of the perspective dual of a pruning."""
    used = np.flatnonzero(form.group >= 0)
    m, groups, n = len(used), len(form.need), len(form.weight)
    w, i = form.weight[used], np.arange(m)
    corner, of_diagonal, of_border, of_corner = _bordered(form.gram, np.zeros(n), triangle)
    eye = sparse.identity(m)
    of_theta = sparse.csc_matrix((np.ones(m), (i, form.group[used])), (m, groups))
    # a 3 x 1 pattern for each input keeps the rows of a second-order cone together
    first, second, third = (sparse.kron(eye, np.eye(3)[:, [row]]) for row in range(3))
    blocks = [
        [-sparse.diags(w * w), 2.0 * sparse.diags(w), -eye, of_theta, None],
        [second - first, -2.0 * third, -first - second, None, None],
        [of_diagonal[:, used], -of_border[:, used], None, None, of_corner],
    ]
    cost = np.concatenate([np.zeros(2 * m), np.ones(m), -form.need, [1.0]])
    offset = np.concatenate([np.zeros(4 * m), corner])
    return PerspectiveDual(cost, _csc(blocks), offset, m, m, n + 1, triangle, form)


def entries_of_cone(n: int) -> float:
    """Entries of the vectorised semidefinite matrix of n inputs."""
    return 0.5 * (n + 1.0) * (n + 2.0)


def single_point(sdp: BoxHullSDP) -> SDPSolution:
    """The solution on a grid of one code, where the dual has no finite maximiser to look for."""
    lam, nu = point_multipliers(sdp)
    mean = sdp.low.copy()
    return SDPSolution(lam, nu, sdp.constant, mean, np.zeros((sdp.n, sdp.n)), "solved")


def _bordered(
    matrix: NDArray[np.float64], border: NDArray[np.float64], triangle: Triangle
) -> tuple[NDArray[np.float64], Any, Any, Any]:
    """Rows of [[matrix - diag(a), border - b], [.., g]]: offset, and what a, b and g subtract from it."""
    n = len(matrix)
    rows, columns = triangle.indices(n + 1)
    target = np.zeros((n + 1, n + 1))
    target[:n, :n] = matrix
    target[:n, n] = target[n, :n] = border
    offset = target[rows, columns] * np.where(rows == columns, 1.0, SQRT2)
    on_diagonal = np.flatnonzero((rows == columns) & (rows < n))
    in_border = np.flatnonzero((np.maximum(rows, columns) == n) & (rows != columns))
    corner = np.flatnonzero((rows == n) & (columns == n))
    shape, i = (len(rows), n), np.arange(n)
    of_diagonal = sparse.csc_matrix((np.ones(n), (on_diagonal, i)), shape)
    of_border = sparse.csc_matrix((np.full(n, SQRT2), (in_border, i)), shape)
    of_corner = sparse.csc_matrix(([-1.0], (corner, [0])), (len(rows), 1))
    return offset, of_diagonal, of_border, of_corner


def _csc(blocks: list[list[Any]]) -> Any:
    matrix = sparse.csc_matrix(sparse.bmat(blocks))
    matrix.sort_indices()
    return matrix


def _is_definite(matrix: NDArray[np.float64]) -> bool:
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return True


def _check_finite(solver: str, status: str, *arrays: NDArray[np.float64]) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise SolverFailedError(
            f"{solver} gave no usable multipliers (status: {status}); raise the time limit or "
            "take the native solver."
        )

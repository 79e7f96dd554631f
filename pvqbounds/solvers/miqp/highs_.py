"""HiGHS: exact pruning, and its perspective relaxation, by outer approximation.

HiGHS solves mixed-integer *linear* programs, and its callbacks cannot add rows. So the convex
terms of the perspective form (:mod:`pvqbounds.relaxations.miqp`),

    minimise   sum_j t_j + sum_i D_i s_i + qᵀv + constant,   t_j >= (F v)_j²,   s_i k_i >= v_i²,

are replaced by tangents, and the program is solved again with those that its solution violates:

    t_j >= 2 y (F v)_j - y²          at y = (F v)_j       (one term for each row of F: disaggregated)
    s_i >= 2 a v_i - a² k_i          at a = v_i / k_i     (perspective cut)

Every tangent is below its term, so that each program's bound is a bound on the error. First k is
continuous, then whole; tangents at the best weights of every support that is met keep it from
being met twice.

The relaxation is the first half alone, without the rows |v_i| <= M_i k_i that help the second: what
they contribute has no place in a certificate. At the end the tangents' dual variables, which sum
to one for each t_j, weigh their points to the ȳ of one tangent 2 ȳᵀF v - ȳᵀȳ that does the same as
all of them. In u = v - w it is 2 nuᵀu - nuᵀH⁻¹nu with nu = Fᵀ(ȳ - F w), H = FᵀF.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pvqbounds.clock import Clock
from pvqbounds.errors import SolverError, SolverFailedError
from pvqbounds.problems import SparseLeastSquares
from pvqbounds.relaxations.miqp import MIQP, proved_big_m
from pvqbounds.solvers.base import Backend, Capability, ExactSolution, Options
from pvqbounds.solvers.miqp.coded import NATIVE_SHARE
from pvqbounds.solvers.miqp.presolve import PresolvedPruning, presolve_pruning
from pvqbounds.solvers.miqp.programs import square_root
from pvqbounds.solvers.miqp.pruning import tight_perspective_program
from pvqbounds.solvers.perspective import no_relaxation
from pvqbounds.solvers.stopping import Stop

__all__ = ["Highs"]

VIOLATION = 1e-6
"""Violation, relative to the terms, from which on a tangent is added."""

CONTINUOUS_ROUNDS = 60
"""Programs with k continuous, at most; they end earlier where the bound stands still."""

STILL = 1e-2
"""The bound stands still where it rises by less than this share of the tolerance."""

STEEPEST = 100.0
"""Largest point a of a perspective cut, in units of the bound on |v_i|: v_i / k_i is any where k_i = 0."""


class Highs(Backend):
    """HiGHS through highspy; `Options.extra` takes the names of its options."""

    name: ClassVar[str] = "highs"
    module: ClassVar[str] = "highspy"
    install: ClassVar[str] = "pip install highspy"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.EXACT_PRUNING, Capability.PERSPECTIVE}
    )
    tolerance: ClassVar[float] = 1e-4
    accuracy: ClassVar[float] = 5e-4
    citation: ClassVar[str] = """\
@article{huangfu2018highs,
  title   = {Parallelizing the dual revised simplex method},
  author  = {Qi Huangfu and J. A. Julian Hall},
  journal = {Mathematical Programming Computation},
  volume  = {10},
  number  = {1},
  pages   = {119--142},
  year    = {2018},
  doi     = {10.1007/s12532-017-0130-5}
}"""

    def solve_sparse(self, problem: SparseLeastSquares, options: Options) -> ExactSolution:
        """Outer approximation; the status is "optimal", "time limit" or HiGHS's own word.

        Raises
        ------
        InputError
            If the Gram is singular.
        SolverError
            If `options.extra` names an option that HiGHS does not have.
        """
        clock = Clock(options.time_limit, options.cancelled)
        presolved = presolve_pruning(problem, clock.part(NATIVE_SHARE))
        search = _OuterApproximation(
            presolved, options, clock, options.tolerance or self.tolerance, links=True
        )
        status = search.run()
        beside = presolved.certificate(presolved.relaxed.lam, presolved.relaxed.nu)
        return ExactSolution(None, search.support, search.bound, None, status, beside=beside)

    def relax_sparse(self, problem: SparseLeastSquares, options: Options) -> ExactSolution:
        """The perspective relaxation, by linear programs alone; errors as in :meth:`solve_sparse`."""
        clock = Clock(options.time_limit, options.cancelled)
        presolved = presolve_pruning(problem, clock.part(NATIVE_SHARE))
        if not presolved.relaxed.lam.any():
            return no_relaxation(presolved)
        search = _OuterApproximation(
            presolved, options, clock, options.tolerance or self.tolerance, links=False
        )
        status = search.relax()
        nu = search.multipliers()
        if nu is None:
            return ExactSolution(None, None, None, None, status)
        certificate = presolved.certificate(presolved.relaxed.lam, nu)
        return ExactSolution(None, search.support, search.bound, certificate, status)


@dataclass(frozen=True, eq=False)
class _Point:
    """A solution of a program with tangents."""

    v: NDArray[np.float64]
    k: NDArray[np.float64]
    s: NDArray[np.float64]
    t: NDArray[np.float64]


class _OuterApproximation:
    """The program, the best support so far and the best bound; unknowns x = (v, k, s, t).

    Parameters
    ----------
    links
        Whether to begin with the rows |v_i| <= M_i k_i.
    """

    def __init__(
        self, presolved: PresolvedPruning, options: Options, clock: Clock, tolerance: float, *, links: bool
    ) -> None:
        self.presolved, self.problem, self.options = presolved, presolved.problem, options
        self.tolerance = tolerance
        self.clock = clock
        self.stop = Stop(options.cancelled)
        self.program = tight_perspective_program(presolved)
        n = self.problem.n
        self.root = square_root(self.program.Q)
        self.support = presolved.support
        best = self.problem.refit(self.support)
        self.upper = self.problem.error(best).upper
        self.lower = -np.inf
        self.reach = _reach(self.problem, self.upper)
        self.steepest = np.zeros(n) if links else STEEPEST * self.reach
        self.highs = _model(self.program, self.root, self.reach, options, tolerance, links)
        for hook in (self.highs.cbSimplexInterrupt, self.highs.cbMipInterrupt):
            hook.subscribe(self._look)
        self.fixed_rows = int(self.highs.getNumRow())
        # of every tangent's row its j and y; j = -1 for perspective cuts
        self.term, self.at = np.zeros(0, dtype=np.int64), np.zeros(0)
        self.dual: NDArray[np.float64] | None = None
        self._cut_at(best, np.isin(np.arange(n), self.support).astype(float))

    @property
    def bound(self) -> float | None:
        """The best bound, in units of the original problem."""
        return self.lower * self.presolved.unit if np.isfinite(self.lower) else None

    def relax(self) -> str:
        """Solve with k continuous until the bound stands still; returns the status."""
        for _ in range(CONTINUOUS_ROUNDS):
            before = self.lower
            status = self._solve(whole=False)
            if status != "improving":
                break
            if self.lower < before + STILL * self.tolerance * self.upper:
                return "optimal"
        return "optimal" if status == "no further cut" else status

    def run(self) -> str:
        """Solve until the gap is closed; returns the status."""
        status = self.relax()
        if status not in ("optimal", "improving") or self._closed():
            return status
        self._make_whole()
        while (status := self._solve(whole=True)) == "improving":
            pass
        return status

    def multipliers(self) -> NDArray[np.float64] | None:
        """nu of the last linear program's dual variables, shape (n,); None before the first."""
        if self.dual is None:
            return None
        tangents = self.dual[self.fixed_rows :]
        term, at = self.term[: len(tangents)], self.at[: len(tangents)]
        of_rows = term >= 0
        y = np.bincount(term[of_rows], tangents[of_rows] * at[of_rows], len(self.root))
        nu: NDArray[np.float64] = self.root.T @ (y - self.root @ self.problem.weight)
        return nu

    def _closed(self) -> bool:
        return self.upper - self.lower <= self.tolerance * self.upper

    def _solve(self, whole: bool) -> str:
        """One program and its cuts; "improving", or why that was the last one."""
        import highspy

        highs, n = self.highs, self.problem.n
        if self.clock.expired:
            return "time limit"
        highs.setOptionValue("time_limit", self.clock.remaining + highs.getRunTime())
        self._run()
        outcome = highs.getModelStatus()
        solved = outcome == highspy.HighsModelStatus.kOptimal
        info = highs.getInfo()
        if whole or solved:  # a linear program that is stopped has no bound to show
            bound = float(info.mip_dual_bound if whole else info.objective_function_value)
            self.lower = max(self.lower, bound if np.isfinite(bound) else -np.inf)
        if self._closed():
            return "optimal"
        if not solved:
            if outcome == highspy.HighsModelStatus.kInterrupt and self.clock.remaining == 0.0:
                return "time limit"
            return str(highs.modelStatusToString(outcome)).lower().replace(" reached", "")
        solution = highs.getSolution()
        x = np.array(solution.col_value)
        self.dual = self.dual if whole else np.array(solution.row_dual)
        added = self._cut(_Point(x[:n], x[n : 2 * n], x[2 * n : 3 * n], x[3 * n :]), whole)
        # without a cut, what is left of the gap is HiGHS's tolerance
        return "improving" if added else "no further cut"

    def _run(self) -> None:
        """Solve; Ctrl-C and `cancelled` end it.

        highspy has a way of its own, but with one lock for all its objects, so that two threads cannot
        solve at a time; and Ctrl-C at the end of a solve is lost there.
        """
        import highspy

        def run() -> None:
            try:
                self.highs.run()
            finally:  # HiGHS keeps threads for each thread that calls it, which must not outlive that
                highspy.Highs.resetGlobalScheduler(True)

        self.stop.guard(run)

    def _look(self, event: Any) -> None:
        """What HiGHS calls now and then; on its own it has been seen to overrun its time limit by half."""
        if self.stop() or self.clock.expired:
            event.interrupt()

    def _make_whole(self) -> None:
        import highspy

        n = self.problem.n
        kinds = np.full(n, highspy.HighsVarType.kInteger)
        self.highs.changeColsIntegrality(n, np.arange(n, 2 * n, dtype=np.int32), kinds)

    def _cut(self, point: _Point, whole: bool) -> bool:
        """Add what the point violates, and the tangents at its support's own weights."""
        added = self._cut_at(point.v, point.k, point)
        if whole:
            support = np.flatnonzero(point.k > 0.5)
            v = self.problem.refit(support)
            error = self.problem.error(v).upper
            if error < self.upper:
                self.support, self.upper = support, error
            self._cut_at(v, (point.k > 0.5).astype(float))
        return added

    def _cut_at(self, v: NDArray[np.float64], k: NDArray[np.float64], point: _Point | None = None) -> bool:
        """Tangents at (v, k); with `point`, only those that it violates. Whether there is any."""
        n = self.problem.n
        y = self.root @ v
        # where k is 0, v is as well, up to HiGHS's tolerance, if the links are there, and any if not
        a = np.divide(v, k, out=self.steepest * np.sign(v), where=k > 1e-9)
        a = np.clip(a, -STEEPEST * self.reach, STEEPEST * self.reach)
        if point is None:
            rows, inputs = np.arange(len(y)), np.flatnonzero(k > 0.5)
        else:
            scale = VIOLATION * max(1.0, self.upper)
            rows = np.flatnonzero(y * y - point.t > VIOLATION * y * y + scale / len(y))
            charge = 2.0 * a * v - a * a * k - point.s
            inputs = np.flatnonzero(charge > VIOLATION * np.abs(point.s) + scale / n)
        if len(rows) + len(inputs) == 0:
            return False
        of_rows = sparse.hstack(
            [
                sparse.csr_matrix(-2.0 * y[rows, None] * self.root[rows]),
                sparse.csr_matrix((len(rows), 2 * n)),
                sparse.identity(len(y), format="csr")[rows],
            ]
        )
        eye = sparse.identity(n, format="csr")[inputs]
        of_inputs = sparse.hstack(
            [
                sparse.diags(-2.0 * a[inputs]) @ eye,
                sparse.diags(a[inputs] ** 2) @ eye,
                eye,
                sparse.csr_matrix((len(inputs), len(y))),
            ]
        )
        matrix = sparse.vstack([of_rows, of_inputs])
        _add_rows(self.highs, matrix, np.concatenate([-(y[rows] ** 2), np.zeros(len(inputs))]))
        self.term = np.concatenate([self.term, rows, np.full(len(inputs), -1)])
        self.at = np.concatenate([self.at, y[rows], np.zeros(len(inputs))])
        return True


def _reach(problem: SparseLeastSquares, error: float) -> NDArray[np.float64]:
    """Bounds on |v_i| that hold for some best weight v, given one of this `error`; shape (n,)."""
    reach = np.abs(problem.weight)
    live = problem.shared.live  # what a dead input gets changes nothing
    alive = SparseLeastSquares(problem.gram[np.ix_(live, live)], problem.weight[live], nnz=0)
    reach[live] += proved_big_m(alive, error)
    return reach


def _model(
    program: MIQP,
    root: NDArray[np.float64],
    reach: NDArray[np.float64],
    options: Options,
    tolerance: float,
    links: bool,
) -> Any:
    """The program without its convex terms: budgets, |v_i| <= reach_i, with `links` reach_i k_i."""
    import highspy

    n, infinity = program.n, highspy.kHighsInf
    highs: Any = highspy.Highs()  # type: ignore[no-untyped-call]
    given = {
        "output_flag": options.verbose,
        "threads": options.threads,
        "random_seed": options.small_seed,
        "mip_rel_gap": 0.1 * tolerance,
        **options.extra,
    }
    highs.setOptionValue("output_flag", options.verbose)  # before it can complain of the others
    for name, value in given.items():
        try:
            accepted = highs.setOptionValue(name, value) == highspy.HighsStatus.kOk
        except TypeError:
            accepted = False
        if not accepted:
            raise SolverError(
                f"HiGHS refuses the option {name} = {value!r}; its documentation lists the options."
            )
    count = 3 * n + len(root)
    upper = np.concatenate([reach, np.ones(n), np.full(n + len(root), infinity)])
    lower = np.concatenate([-reach, np.zeros(2 * n + len(root))])
    highs.addVars(count, lower, upper)
    cost = np.concatenate([program.q, np.ones(len(root))])
    highs.changeColsCost(count, np.arange(count, dtype=np.int32), cost)
    highs.changeObjectiveOffset(program.constant)
    eye, rest = sparse.identity(n), sparse.csr_matrix((n, n + len(root)))
    budgets = sparse.hstack([-program.A, sparse.csr_matrix((len(program.b), len(root)))])
    _add_rows(highs, budgets, -program.b)
    if links:
        for sign in (1.0, -1.0):
            _add_rows(highs, sparse.hstack([sign * eye, sparse.diags(reach), rest]), np.zeros(n))
    return highs


def _add_rows(highs: Any, matrix: Any, lower: NDArray[np.float64]) -> None:
    """Rows matrix @ x >= lower."""
    import highspy

    rows = sparse.csr_matrix(matrix)
    rows.eliminate_zeros()
    status = highs.addRows(
        len(lower),
        lower,
        np.full(len(lower), highspy.kHighsInf),
        rows.nnz,
        rows.indptr[:-1].astype(np.int32),
        rows.indices.astype(np.int32),
        rows.data,
    )
    if status == highspy.HighsStatus.kError:
        raise SolverFailedError("highs refused its own cuts; take the native solver.")

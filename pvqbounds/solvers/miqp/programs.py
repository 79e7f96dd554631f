"""What all backends with mixed-integer quadratic programs share: from a problem to its answer.

A backend of this kind only solves the plain data of :mod:`pvqbounds.relaxations.miqp`. Here that
data is built in units that suit the tolerances of solvers (mean diagonal and mean square weight
near one), and its solution is read back as codes or a support.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.errors import InputError, SolverError
from pvqbounds.problems import IntegerLeastSquares, SparseLeastSquares
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.relaxations.miqp import MIQP, big_m_program, integer_program, perspective_program
from pvqbounds.solvers.base import Backend, ExactSolution, Options, remaining
from pvqbounds.solvers.relaxation import relax

__all__ = [
    "MIQPBackend",
    "MIQPSolution",
    "TamePruning",
    "formulation_of",
    "in_tame_units",
    "square_root",
    "tight_perspective_program",
    "usable",
]


NATIVE_SHARE = 0.5
"""Share of the time left that the native relaxation may take before an integer program begins."""


@dataclass(frozen=True, eq=False)
class MIQPSolution:
    """An incumbent and a stated bound, either of which may be missing."""

    x: NDArray[np.float64] | None
    bound: float | None
    """Lower bound on the objective, in the units of the program."""
    status: str
    """The solver's own word."""


@dataclass(frozen=True, eq=False)
class TamePruning:
    """A pruning with a Gram and weights of size one; supports carry over to the original."""

    problem: SparseLeastSquares
    power: float
    """Unit of the Gram, a power of two."""
    length: float
    """Unit of the weights, a power of two."""
    clock: Clock | None = None
    """Ends the native relaxation and the search for a good support."""

    @property
    def unit(self) -> float:
        """Unit of the error."""
        return self.power * self.length**2

    @cached_property
    def support(self) -> NDArray[np.int64]:
        """A good support, where solvers begin."""
        from pvqbounds.solvers.native.pruning.subset_search import good_support

        return good_support(self.problem, self.clock)

    @cached_property
    def relaxed(self) -> DualCertificate:
        """The best perspective relaxation, in these units; zero where it proves nothing."""
        from pvqbounds.solvers.native.pruning.perspective_dual import maximise_perspective

        return maximise_perspective(self.problem, clock=self.clock)

    def certificate(self, diagonal: NDArray[np.float64], nu: NDArray[np.float64]) -> DualCertificate:
        """(D, nu) in units of the original problem; nothing is rounded."""
        return DualCertificate(diagonal * self.power, nu * self.power * self.length)


class MIQPBackend(Backend):
    """A backend that solves mixed-integer quadratic programs.

    ``Options.extra["formulation"]`` chooses how pruning is posed: "perspective" (the default) or
    "big-M"; all other extras go to the solver.
    """

    @abstractmethod
    def solve_miqp(self, program: MIQP, options: Options) -> MIQPSolution:
        """Solve the program, or give what is known of it at the time limit."""

    def solve_integer(self, problem: IntegerLeastSquares, options: Options) -> ExactSolution:
        """Quantization of one channel as an integer program.

        The native relaxation comes first: its certificate stands beside the bound that the solver
        states, and the solver begins with codes that are good already.
        """
        from pvqbounds.solvers.native.quantization.box_hull_engine import solve_sdp
        from pvqbounds.solvers.native.quantization.integer_codes import best_known_codes

        clock = Clock(options.time_limit, options.cancelled)
        _, options = formulation_of(options)
        relaxed = relax(problem, "box-hull", lambda sdp: solve_sdp(sdp, clock.part(NATIVE_SHARE)), clock)
        codes = best_known_codes(problem, relaxed, options.seed, clock.part(NATIVE_SHARE))
        program = integer_program(problem)
        unit = _power_of_two(float(np.mean(np.diagonal(program.Q))))
        program = replace(
            program,
            Q=program.Q / unit,
            q=program.q / unit,
            constant=program.constant / unit,
            start=codes.astype(np.float64),
        )
        x, bound, status = usable(self.solve_miqp(program, remaining(options, clock)))
        if x is None and bound is None:
            return ExactSolution(None, None, None, None, status)
        codes = codes if x is None else program.codes(x)
        stated = None if bound is None else bound * unit
        return ExactSolution(codes, None, stated, None, status, beside=relaxed.certificate)

    def solve_sparse(self, problem: SparseLeastSquares, options: Options) -> ExactSolution:
        """Pruning of one channel, by default in its perspective form."""
        clock = Clock(options.time_limit, options.cancelled)
        name, options = formulation_of(options)
        tame = in_tame_units(problem, clock.part(NATIVE_SHARE))
        program = FORMULATIONS[name](tame)
        x, bound, status = usable(self.solve_miqp(program, remaining(options, clock)))
        if x is None and bound is None:
            return ExactSolution(None, None, None, None, status)
        support = tame.support if x is None else program.support(x)
        stated = None if bound is None else bound * tame.unit
        beside = tame.certificate(tame.relaxed.lam, tame.relaxed.nu)
        return ExactSolution(None, support, stated, None, status, beside=beside)


def in_tame_units(problem: SparseLeastSquares, clock: Clock | None = None) -> TamePruning:
    """The same pruning in units in which solvers' tolerances make sense.

    Both units are powers of two, so that nothing is rounded. The clock is that of what is computed of
    it natively.
    """
    power = _power_of_two(float(np.mean(np.diagonal(problem.gram))))
    square = _power_of_two(float(np.mean(problem.weight**2)))
    length = 2.0 ** (math.frexp(square)[1] // 2)
    scaled = SparseLeastSquares(
        problem.gram / power, problem.weight / length, problem.nnz, problem.pattern, problem.stride
    )
    return TamePruning(scaled, power, length, clock)


def tight_perspective_program(tame: TamePruning) -> MIQP:
    """The perspective form with the diagonal of the best perspective relaxation.

    Its continuous relaxation is then the tightest one of that kind (Zheng, Sun and Li, INFORMS
    Journal on Computing 26, 2014).

    Raises
    ------
    SolverError
        If the Gram is singular.
    """
    diagonal = tame.relaxed.lam
    try:
        program = perspective_program(tame.problem, diagonal if diagonal.any() else None)
    except InputError as error:
        raise SolverError(str(error)) from error
    v, kept = _start(tame)
    return replace(program, start=np.concatenate([v, kept, v * v]))


def _tight_big_m_program(tame: TamePruning) -> MIQP:
    v, kept = _start(tame)
    try:
        program = big_m_program(tame.problem, tame.problem.error(v).upper)
    except InputError as error:
        raise SolverError(str(error)) from error
    return replace(program, start=np.concatenate([v - tame.problem.weight, kept]))


def _start(tame: TamePruning) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The weights of the good support, and which inputs it keeps: both of shape (n,)."""
    kept = np.isin(np.arange(tame.problem.n), tame.support).astype(np.float64)
    return tame.problem.refit(tame.support), kept


FORMULATIONS: dict[str, Callable[[TamePruning], MIQP]] = {
    "perspective": tight_perspective_program,
    "big-M": _tight_big_m_program,
}
"""How pruning can be posed."""


def formulation_of(options: Options) -> tuple[str, Options]:
    """The formulation that the options name, and the options that are the solver's own.

    Raises
    ------
    SolverError
        If there is no such formulation.
    """
    extra = dict(options.extra)
    name = str(extra.pop("formulation", "perspective"))
    if name not in FORMULATIONS:
        raise SolverError(f"There is no formulation {name!r} of pruning; use {' or '.join(FORMULATIONS)}.")
    return name, replace(options, extra=extra)


def square_root(Q: NDArray[np.float64]) -> NDArray[np.float64]:
    """F of full row rank with FᵀF = Q up to rounding, shape (rank, m), for Q positive semidefinite.

    Eigenvalues within rounding of zero are left out; bounds on such a model are only reported.
    """
    values, vectors = np.linalg.eigh(Q)
    kept = values > len(Q) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    root: NDArray[np.float64] = np.sqrt(values[kept])[:, None] * vectors[:, kept].T
    return root


def usable(solution: MIQPSolution) -> tuple[NDArray[np.float64] | None, float | None, str]:
    """Incumbent, bound and status; numbers that are not finite count as missing."""
    x, bound = solution.x, solution.bound
    if x is not None and not np.isfinite(x).all():
        x = None
    if bound is not None and not math.isfinite(bound):
        bound = None
    return x, bound, solution.status


def _power_of_two(value: float) -> float:
    return 2.0 ** math.frexp(value)[1] if value > 0.0 else 1.0

"""What all backends with mixed-integer quadratic programs share: from a problem to its answer.

A backend of this kind only solves the plain data of :mod:`pvqbounds.relaxations.miqp`. Here its
solution is read back as codes or a support; the data come from :mod:`pvqbounds.solvers.miqp.coded` and
:mod:`pvqbounds.solvers.miqp.pruning`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.errors import SolverError
from pvqbounds.problems import IntegerLeastSquares, LeastSquares, SparseLeastSquares
from pvqbounds.relaxations.miqp import MIQP
from pvqbounds.solvers.base import Backend, Capability, ExactSolution, Options, remaining
from pvqbounds.solvers.miqp.coded import NATIVE_SHARE, CodedProgram, program_of_codes, program_of_steps
from pvqbounds.solvers.miqp.presolve import presolve_pruning
from pvqbounds.solvers.miqp.pruning import PRUNING_FORMS

__all__ = [
    "EXACT",
    "MIQPBackend",
    "MIQPSolution",
    "formulation_of",
    "square_root",
    "usable",
]

EXACT = frozenset(
    {
        Capability.EXACT_QUANTIZATION,
        Capability.EXACT_PRUNING,
        Capability.EXACT_LEVELS,
        Capability.EXACT_JOINT,
    }
)
"""What a solver of mixed-integer quadratic programs with second-order cones can do."""

MOST_INDICATORS = 20_000
"""Unknowns of the one-hot form up to which solvers are asked: they take seconds to be given so many."""


@dataclass(frozen=True, eq=False)
class MIQPSolution:
    """An incumbent and a stated bound, either of which may be missing."""

    x: NDArray[np.float64] | None
    bound: float | None
    """Lower bound on the objective, in the units of the program."""
    status: str
    """The solver's own word."""


class MIQPBackend(Backend):
    """A backend that solves mixed-integer quadratic programs.

    ``Options.extra["formulation"]`` chooses how pruning, and steps under a support rule, are posed:
    "perspective" (the default) or "big-M"; all other extras go to the solver.
    """

    @abstractmethod
    def solve_miqp(self, program: MIQP, options: Options) -> MIQPSolution:
        """Solve the program, or give what is known of it at the time limit."""

    def refusal(
        self,
        n: int,
        needs: Capability,
        options: Mapping[str, Any],
        *,
        time_limit: float = math.inf,
        levels: int = 0,
    ) -> SolverError | None:
        """What no such solver should be given; see the base class."""
        if levels <= MOST_INDICATORS:
            return None
        from pvqbounds.solvers import alternatives

        return SolverError(
            f"This problem has {levels} levels, an unknown each, and {self.name} is given "
            f"{MOST_INDICATORS} at most; {alternatives(needs, without=self.name)}."
        )

    def solve_integer(self, problem: IntegerLeastSquares, options: Options) -> ExactSolution:
        """Quantization of one channel as an integer program.

        The native relaxation comes first: its certificate stands beside the bound that the solver
        states, and the solver begins with codes that are good already.
        """
        clock = Clock(options.time_limit, options.cancelled)
        _, options = formulation_of(options)
        return self._answer(program_of_steps(problem, clock, options.seed), options, clock)

    def solve_codes(self, problem: LeastSquares, options: Options) -> ExactSolution:
        """Levels, or steps or levels under a support rule; native relaxation first, as above."""
        clock = Clock(options.time_limit, options.cancelled)
        name, options = formulation_of(options)
        return self._answer(program_of_codes(problem, name, options, clock), options, clock)

    def solve_sparse(self, problem: SparseLeastSquares, options: Options) -> ExactSolution:
        """Pruning of one channel, by default in its perspective form."""
        clock = Clock(options.time_limit, options.cancelled)
        name, options = formulation_of(options)
        presolved = presolve_pruning(problem, clock.part(NATIVE_SHARE))
        program = PRUNING_FORMS[name](presolved)
        x, bound, status = usable(self.solve_miqp(program, remaining(options, clock)))
        if x is None and bound is None:
            return ExactSolution(None, None, None, None, status)
        support = presolved.support if x is None else program.support(x)
        stated = None if bound is None else bound * presolved.unit
        beside = presolved.certificate(presolved.relaxed.lam, presolved.relaxed.nu)
        return ExactSolution(None, support, stated, None, status, beside=beside)

    def _answer(self, posed: CodedProgram, options: Options, clock: Clock) -> ExactSolution:
        """The solver's codes, or those that it began with, and the bound that it states."""
        x, bound, status = usable(self.solve_miqp(posed.program, remaining(options, clock)))
        if x is None and bound is None:
            return ExactSolution(None, None, None, None, status)
        codes = posed.codes if x is None else posed.program.codes(x)
        stated = None if bound is None else bound * posed.unit
        return ExactSolution(codes, None, stated, None, status, beside=posed.certificate)


def formulation_of(options: Options) -> tuple[str, Options]:
    """The formulation that the options name, and the options that are the solver's own.

    Raises
    ------
    SolverError
        If there is no such formulation.
    """
    extra = dict(options.extra)
    name = str(extra.pop("formulation", "perspective"))
    if name not in PRUNING_FORMS:
        raise SolverError(f"There is no formulation {name!r} of pruning; use {' or '.join(PRUNING_FORMS)}.")
    return name, replace(options, extra=extra)


def square_root(Q: NDArray[np.float64]) -> NDArray[np.float64]:
    """F of full row rank with FᵀF = Q up to rounding, shape (rank, n), for Q positive semidefinite.

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

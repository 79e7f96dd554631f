"""What all backends with mixed-integer quadratic programs share: from a problem to its answer.

A backend of this kind only solves the plain data of :mod:`pvqbounds.relaxations.miqp`. Here that
data is built in units that suit the tolerances of solvers (mean diagonal and mean square weight
near one), and its solution is read back as codes or a support.
"""

from __future__ import annotations

import math
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import SolverError
from pvqbounds.problems import IntegerLeastSquares, SparseLeastSquares
from pvqbounds.relaxations.miqp import MIQP, big_m_program, integer_program, perspective_program
from pvqbounds.solvers.base import Backend, ExactSolution, Options

__all__ = [
    "GAP",
    "MIQPBackend",
    "MIQPSolution",
    "in_tame_units",
    "on_cancel",
    "square_root",
    "tight_perspective_program",
]

GAP = 1e-6
"""Relative gap at which a backend may call an incumbent optimal, unless told otherwise."""


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

    ``Options.extra["formulation"]`` chooses how pruning is posed: "perspective" (the default) or
    "big-M"; all other extras go to the solver.
    """

    formulations: ClassVar[dict[str, Callable[[SparseLeastSquares], MIQP]]]

    @abstractmethod
    def solve_miqp(self, program: MIQP, options: Options) -> MIQPSolution:
        """Solve the program, or give what is known of it at the time limit."""

    def solve_integer(self, problem: IntegerLeastSquares, options: Options) -> ExactSolution:
        """Quantization of one channel as an integer program."""
        _, options = _without_formulation(options)
        program = integer_program(problem)
        unit = _power_of_two(float(np.mean(np.diagonal(program.Q))))
        program = replace(program, Q=program.Q / unit, q=program.q / unit, constant=program.constant / unit)
        x, bound, status = _usable(self.solve_miqp(program, options))
        codes = None if x is None else program.codes(x)
        return ExactSolution(codes, None, None if bound is None else bound * unit, None, status)

    def solve_sparse(self, problem: SparseLeastSquares, options: Options) -> ExactSolution:
        """Pruning of one channel, by default in its perspective form."""
        name, options = _without_formulation(options)
        if name not in self.formulations:
            raise SolverError(
                f"There is no formulation {name!r} for {self.name}; use {' or '.join(self.formulations)}."
            )
        scaled, unit = in_tame_units(problem)
        program = self.formulations[name](scaled)
        x, bound, status = _usable(self.solve_miqp(program, options))
        support = None if x is None else program.support(x)
        return ExactSolution(None, support, None if bound is None else bound * unit, None, status)


def in_tame_units(problem: SparseLeastSquares) -> tuple[SparseLeastSquares, float]:
    """The same pruning with a Gram and weights of size one, and the unit of its error.

    Both factors are powers of two, so that nothing is rounded and supports carry over.
    """
    power = _power_of_two(float(np.mean(np.diagonal(problem.gram))))
    square = _power_of_two(float(np.mean(problem.weight**2)))
    length = 2.0 ** (math.frexp(square)[1] // 2)
    scaled = SparseLeastSquares(problem.gram / power, problem.weight / length, problem.nnz, problem.pattern)
    return scaled, power * length**2


def tight_perspective_program(problem: SparseLeastSquares) -> MIQP:
    """The perspective form with the diagonal of the best perspective relaxation.

    Its continuous relaxation is then the tightest one of that kind (Zheng, Sun and Li, INFORMS
    Journal on Computing 26, 2014).

    Raises
    ------
    InputError
        If the Gram is singular.
    """
    from pvqbounds.solvers.native.perspective_dual import maximise_perspective

    diagonal = maximise_perspective(problem).diagonal
    return perspective_program(problem, diagonal if diagonal.any() else None)


FORMULATIONS: dict[str, Callable[[SparseLeastSquares], MIQP]] = {
    "perspective": tight_perspective_program,
    "big-M": big_m_program,
}
MIQPBackend.formulations = FORMULATIONS


def square_root(Q: NDArray[np.float64]) -> NDArray[np.float64]:
    """F of full row rank with FᵀF = Q up to rounding, shape (rank, m), for Q positive semidefinite.

    Eigenvalues within rounding of zero are left out; bounds on such a model are only reported.
    """
    values, vectors = np.linalg.eigh(Q)
    kept = values > len(Q) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    root: NDArray[np.float64] = np.sqrt(values[kept])[:, None] * vectors[:, kept].T
    return root


@contextmanager
def on_cancel(cancelled: threading.Event | None, stop: Callable[[], Any]) -> Iterator[None]:
    """Call `stop` from another thread once `cancelled` is set while the block runs."""
    if cancelled is None:
        yield
        return
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            if cancelled.is_set():
                stop()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _without_formulation(options: Options) -> tuple[str, Options]:
    extra = dict(options.extra)
    name = str(extra.pop("formulation", "perspective"))
    return name, replace(options, extra=extra)


def _usable(solution: MIQPSolution) -> tuple[NDArray[np.float64] | None, float | None, str]:
    """Incumbent, bound and status; numbers that are not finite count as missing."""
    x, bound = solution.x, solution.bound
    if x is not None and not np.isfinite(x).all():
        x = None
    if bound is not None and not math.isfinite(bound):
        bound = None
    return x, bound, solution.status


def _power_of_two(value: float) -> float:
    return 2.0 ** math.frexp(value)[1] if value > 0.0 else 1.0

"""The interface of a backend: what it can do, whether it can do it here, and the two solves.

A backend gets a plain formulation from :mod:`pvqbounds.relaxations` and gives back multipliers,
or an incumbent and a stated bound. It proves nothing: certification, re-evaluation of the
incumbent, statuses and timing happen once, in :mod:`pvqbounds.solving.one`.
"""

from __future__ import annotations

import math
import threading
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.errors import SolverError
from pvqbounds.problems import IntegerLeastSquares, LeastSquares, Problem, SparseLeastSquares
from pvqbounds.relaxations.box_hull import BoxHullSDP
from pvqbounds.relaxations.certificates import Certificate
from pvqbounds.results.history import Moment

if TYPE_CHECKING:
    from pvqbounds.solvers.kept import KeptBound
    from pvqbounds.solvers.relaxation import Relaxed

__all__ = [
    "Backend",
    "Capability",
    "ExactSolution",
    "Licence",
    "Options",
    "SDPSolution",
    "error_unit",
    "remaining",
]


class Capability(Enum):
    """What a backend can solve."""

    BOX_HULL = "quantization SDP"
    EXACT_QUANTIZATION = "exact quantization"
    EXACT_PRUNING = "exact pruning"
    PERSPECTIVE = "pruning relaxation"
    SPLITS = "split inequalities"
    EXACT_LEVELS = "exact quantization to levels"
    EXACT_JOINT = "exact joint compression"
    JOINT = "joint relaxation"


@dataclass(frozen=True)
class Options:
    """The few options that every backend understands."""

    time_limit: float = 60.0
    """Seconds for one channel."""
    only_if_it_finishes: bool = False
    """Let an exact method that knows it will not finish give its relaxation's bound at once."""
    relaxation: str = "box-hull"
    """Name of the quantization relaxation: the one asked for, or that an exact method falls back on."""
    search_share: float = 0.0
    """Share of the time limit in which a search may raise the bound of the relaxation "hybrid"; cases of
    directions may take all of it where this is 1."""
    search_price: float = math.inf
    """Decibels by which a search beyond that share has to raise the bound for each second."""
    cancelled: threading.Event | None = None
    """Set by another thread to stop the solve early."""
    threads: int = 1
    tolerance: float | None = None
    """Relative accuracy of the solve; `Backend.tolerance` if None."""
    seed: int = 0
    verbose: bool = False
    """Whether the solver prints its log."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Passed on under the backend's own names."""
    relaxed: Relaxed | None = None
    """The problem's relaxation, where it was solved together with others of its layer."""
    kept: KeptBound | None = None
    """Of the problem with other values, where it is solved again and again: what none of them change."""

    @property
    def small_seed(self) -> int:
        """The seed folded into the range that every solver takes."""
        return self.seed % 2**30


def remaining(options: Options, clock: Clock) -> Options:
    """The options with what is left of the time limit; never nothing, which some solvers refuse."""
    return replace(options, time_limit=max(clock.remaining, min(1e-3, options.time_limit)))


@dataclass(frozen=True)
class Licence:
    """Whether a backend may be used here, and why not."""

    valid: bool
    text: str


@dataclass(frozen=True, eq=False)
class SDPSolution:
    """Multipliers of a BoxHullSDP, and the primal moments for randomized rounding.

    All in units of the SDP: codes for `mean`, `form` for the multipliers.
    """

    lam: NDArray[np.float64]
    """lam, shape (n,)."""
    nu: NDArray[np.float64]
    """nu, shape (n,)."""
    value: float
    """Objective that the solver states, in units of the SDP."""
    mean: NDArray[np.float64]
    """Relaxed z, shape (n,)."""
    covariance: NDArray[np.float64]
    """Z - zzᵀ, shape (n, n)."""
    status: str
    """The solver's own word."""


@dataclass(frozen=True, eq=False)
class ExactSolution:
    """Outcome of an exact method, possibly stopped by its time limit."""

    codes: NDArray[np.int64] | None
    """Best codes found (quantization), shape (n,)."""
    support: NDArray[np.int64] | None
    """Best support found (pruning)."""
    bound: float | None
    """Lower bound on E that the solver states."""
    certificate: Certificate | None
    """What proves the bound; None where the backend can only state it."""
    status: str
    """The solver's own word."""
    relaxation: str | None = None
    """Name of the relaxation that an exact method fell back on; None where it did not."""
    beside: Certificate | None = None
    """A certificate of the native relaxation that was needed on the way; it proves less than `bound`."""
    history: tuple[Moment, ...] = ()
    """What searches stated on the way, in units of the problem and on the clock of ``time.perf_counter``."""


def error_unit(error: float, signal: float) -> float:
    """What a backend's accuracy is relative to: the least error, or 1e-3 of the signal if that is more.

    Solvers are right to within their tolerances of the terms that they add up, which are of the
    size of the signal.
    """
    return max(error, 1e-3 * signal)


class Backend(ABC):
    """One solver. Subclasses fill in the class attributes and the solves they are able to do."""

    name: ClassVar[str]
    module: ClassVar[str]
    """Top-level module that must be importable."""
    install: ClassVar[str]
    """What to type to get it."""
    capabilities: ClassVar[frozenset[Capability]]
    tolerance: ClassVar[float] = 1e-6
    """Relative accuracy (gap or residual) that the solver is asked for unless the user names one."""
    accuracy: ClassVar[float] = 1e-4
    """What its answers are good to at that tolerance, relative to :func:`error_unit`.

    The certified bound of a relaxation is at most this much below the native one's, the incumbent of
    an exact method that ends at most this much above the optimum, and the bound that it states at
    most this much away from it. Tests and `benchmarks/backends.py` hold every backend to it.
    """
    citation: ClassVar[str]

    def available(self) -> bool:
        """Whether the package is installed; imports nothing."""
        return find_spec(self.module) is not None

    def licence(self) -> Licence:
        """Whether it may be used; asks afresh each time."""
        return Licence(True, "free, no licence needed")

    def refusal(
        self,
        n: int,
        needs: Capability,
        options: Mapping[str, Any],
        *,
        time_limit: float = math.inf,
        levels: int = 0,
    ) -> SolverError | None:
        """What to raise, before any work, for a problem that licence, memory or time here are too small for.

        Parameters
        ----------
        n
            Fan-in.
        options
            Those of the backend, by name.
        time_limit
            Seconds.
        levels
            Levels of all inputs together that programs have an unknown for each of; 0 where the values are
            steps or reals, or that is not known.

        Returns
        -------
        An error that names the size, the limit and what to use instead; None where there is no limit.
        """
        return None

    def _memory_refusal(self, n: int, needs: Capability, wanted: float) -> SolverError | None:
        """What to raise for a problem that takes so many bytes, where they are not to be had."""
        from pvqbounds.solvers.memory import available_memory

        room = available_memory()
        if wanted <= room:
            return None
        from pvqbounds.solvers import alternatives

        return SolverError(
            f"{self.name} needs about {wanted / 2**30:.3g} GiB of memory for {n} inputs, where "
            f"{room / 2**30:.3g} GiB are free; {alternatives(needs, without=self.name)}."
        )

    def check_can(self, needs: Capability) -> None:
        """Refuse what it has no engine for.

        Raises
        ------
        SolverError
            That says which backends can.
        """
        if needs not in self.capabilities:
            raise self._unable(needs)

    def solve_sdp(self, sdp: BoxHullSDP, options: Options) -> SDPSolution:
        """Solve the relaxation."""
        raise self._unable(Capability.BOX_HULL)

    def relax_splits(self, problem: IntegerLeastSquares, options: Options) -> Relaxed:
        """Solve the box-hull SDP of one channel with split inequalities."""
        raise self._unable(Capability.SPLITS)

    def solve_integer(self, problem: IntegerLeastSquares, options: Options) -> ExactSolution:
        """Solve the quantization of one channel exactly."""
        raise self._unable(Capability.EXACT_QUANTIZATION)

    def solve_codes(self, problem: LeastSquares, options: Options) -> ExactSolution:
        """Solve one channel exactly whose values are levels, or under a support rule."""
        raise self._unable(Capability.EXACT_JOINT if problem.is_restricted else Capability.EXACT_LEVELS)

    def relax_codes(self, problem: LeastSquares, options: Options) -> ExactSolution:
        """Bound one channel whose values are levels, or under a support rule, by its relaxation."""
        raise self._unable(Capability.JOINT if problem.is_restricted else Capability.BOX_HULL)

    def solve_sparse(self, problem: SparseLeastSquares, options: Options) -> ExactSolution:
        """Solve the pruning of one channel exactly."""
        raise self._unable(Capability.EXACT_PRUNING)

    def relax_sparse(self, problem: SparseLeastSquares, options: Options) -> ExactSolution:
        """Bound the pruning of one channel by its perspective relaxation."""
        raise self._unable(Capability.PERSPECTIVE)

    def refines(self, problem: Problem, options: Options) -> bool:
        """Whether :meth:`refined` may make more of a solution of this problem."""
        return False

    def refined(self, problem: Problem, solution: ExactSolution, options: Options) -> ExactSolution:
        """A solution of its own, made better in the time that is left; itself unless the backend knows how.

        Parameters
        ----------
        problem
            In units near 1.
        """
        return solution

    def _unable(self, capability: Capability) -> SolverError:
        able = ", ".join(sorted(c.value for c in self.capabilities))
        return SolverError(
            f"{self.name} cannot solve '{capability.value}' (it can do: {able}); "
            "run `pvqbounds solvers` to see which backend can."
        )

"""What a solve does for each kind of problem: its capabilities, relaxations, proofs and points, found once.

Steps, levels, joint compression and pruning differ in which solves of a backend they take; everything
else about them is said by their value set and support rule.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.errors import InputError
from pvqbounds.problems import (
    AnyScaleLeastSquares,
    IntegerLeastSquares,
    LeastSquares,
    Point,
    Problem,
    SparseLeastSquares,
    Task,
)
from pvqbounds.problems.code_grids import has_grid, in_codes
from pvqbounds.relaxations.certificates import Certificate
from pvqbounds.solvers.base import Backend, Capability, ExactSolution, Options, remaining
from pvqbounds.solvers.kept import KeptBound
from pvqbounds.solvers.relaxation import BLOCKS, DIRECTIONS, QUANTIZATION_RELAXATIONS, relax

__all__ = [
    "ALL_KINDS",
    "ANY_SCALE",
    "JOINT",
    "LEVELS",
    "PRUNING",
    "SHARED",
    "STEPS",
    "Kind",
    "kind_for",
    "kind_of",
]

SHARED = "shared"
"""The relaxation in which all channels of a Gram have the same lam, or D."""

BRIEF_SHARE = 0.1
"""Share of a channel's time that codes beside such a lam may take: a move of two codes is 4 n²."""


class Kind(ABC):
    """How problems of one kind are solved."""

    called: ClassVar[str]
    """What messages call it."""
    exact: ClassVar[Capability]
    relaxed: ClassVar[Capability]
    relaxations: ClassVar[tuple[str, ...]]
    """Names of its relaxations, the native solver's default first."""
    plain: ClassVar[str]
    """The relaxation that other solvers are asked for."""
    together: ClassVar[tuple[str, ...]] = ()
    """Names of relaxations of many channels at once."""
    batched: ClassVar[bool] = False
    """Whether relaxations of channels that share a Gram are solved in batches, on a GPU too."""

    def checked_relaxation(self, name: str | None, native: bool) -> str:
        """The relaxation that is asked for, or the default.

        Raises
        ------
        InputError
            If there is none of that name.
        """
        if name is None:
            return self.relaxations[0] if native else self.plain
        if name not in self.relaxations:
            names = " or ".join(self.relaxations)
            raise InputError(f"There is no relaxation '{name}' for {self.called}; use {names}.")
        return name

    def knows(self, relaxation: str) -> bool:
        """Whether a relaxation of this name is one of its own."""
        return relaxation in (*self.relaxations, *self.together)

    @abstractmethod
    def solve(self, backend: Backend, problem: Any, options: Options) -> ExactSolution:
        """The exact method of a backend; the problem in units near 1."""

    @abstractmethod
    def relax(self, backend: Backend, problem: Any, options: Options) -> ExactSolution:
        """The relaxation of a backend; the problem in units near 1."""

    @abstractmethod
    def beside(self, problem: Any, clock: Clock) -> Certificate:
        """The native relaxation's certificate, to put beside what a backend only states."""

    @abstractmethod
    def point(self, problem: Any, solution: ExactSolution) -> Point:
        """What a backend found, if the problem allows it; else what needs no solver."""

    def relaxation_of(self, certificate: Certificate) -> str | None:
        """Name of the relaxation whose bound a certificate is that is no search."""
        return certificate.relaxation

    def refines(self, backend: Backend, problem: Problem, options: Options) -> bool:
        """Whether a backend may raise the bound of a solution afterwards."""
        return backend.refines(problem, options)

    def refined(
        self, backend: Backend, problem: Problem, solution: ExactSolution, options: Options
    ) -> ExactSolution:
        """A solution with what a backend adds to its bound afterwards."""
        return backend.refined(problem, solution, options)


class CodedKind(Kind):
    """Problems whose values have codes."""

    relaxations: ClassVar[tuple[str, ...]] = ("hybrid", "box-hull")
    plain = "box-hull"

    def solve(self, backend: Backend, problem: LeastSquares, options: Options) -> ExactSolution:
        """The exact method for levels and support rules."""
        return backend.solve_codes(problem, options)

    def relax(self, backend: Backend, problem: LeastSquares, options: Options) -> ExactSolution:
        """The relaxation for levels and support rules; where its multipliers are known, codes beside them."""
        if (known := options.relaxed) is not None:
            codes = self.descended(problem, known.mean)
            return ExactSolution(codes, None, None, known.certificate, known.status, relaxation="box-hull")
        return backend.relax_codes(problem, options)

    def beside(self, problem: LeastSquares, clock: Clock) -> Certificate:
        """That of the box-hull relaxation."""
        from pvqbounds.solvers.native.quantization.codes_dual import relax_finite

        return relax_finite(problem, clock).certificate

    def point(self, problem: LeastSquares, solution: ExactSolution) -> Point:
        """The codes, or round to nearest and descent."""
        try:
            if solution.codes is not None:
                return problem.point(solution.codes)
        except InputError:
            pass
        return problem.point(self.descended(problem))

    def descended(self, problem: LeastSquares, *others: NDArray[np.float64]) -> NDArray[np.int64]:
        """Codes that need no solver: round to nearest, and descent on what has a grid, from others too.

        Parameters
        ----------
        others
            Points in units of the grid, shape (n,).
        """
        from pvqbounds.heuristics.rounding import improve

        if not has_grid(problem.values):
            return problem.codes_of_nearest()
        return improve(problem, np.stack([in_codes(problem).centre, *others]))


class LevelsKind(CodedKind):
    """Quantization to levels."""

    relaxations = ("hybrid", "splits", "box-hull")
    together = (SHARED,)
    called = "quantization to levels"
    exact, relaxed = Capability.EXACT_LEVELS, Capability.BOX_HULL

    def relax(self, backend: Backend, problem: LeastSquares, options: Options) -> ExactSolution:
        """As of all codes; with split inequalities where the backend has them."""
        if options.relaxation == "splits":
            backend.check_can(Capability.SPLITS)
        return super().relax(backend, problem, options)


class JointKind(CodedKind):
    """Steps or levels under a support rule."""

    together = (SHARED,)
    called = "joint compression"
    exact, relaxed = Capability.EXACT_JOINT, Capability.JOINT


class StepsKind(CodedKind):
    """Quantization on uniform steps."""

    called = "quantization"
    exact, relaxed = Capability.EXACT_QUANTIZATION, Capability.BOX_HULL
    relaxations = ("hybrid", "splits", *QUANTIZATION_RELAXATIONS)
    together = (SHARED,)
    batched = True

    def solve(self, backend: Backend, problem: IntegerLeastSquares, options: Options) -> ExactSolution:  # type: ignore[override]
        """The exact method for uniform steps."""
        return backend.solve_integer(problem, options)

    def relax(self, backend: Backend, problem: IntegerLeastSquares, options: Options) -> ExactSolution:  # type: ignore[override]
        """Codes and certificate of a relaxation that the backend solves."""
        from pvqbounds.heuristics.rounding import improve
        from pvqbounds.solvers.native.quantization.codes_dual import reaches_far_apart, relax_steps
        from pvqbounds.solvers.native.quantization.hybrid import hybrid_bound, nodes_for, or_the_box_hull
        from pvqbounds.solvers.native.quantization.integer_codes import best_known_codes

        clock, relaxation = Clock(options.time_limit, options.cancelled), options.relaxation
        splits = Capability.SPLITS in backend.capabilities
        if options.relaxed is not None:
            relaxed = options.relaxed
        elif splits and relaxation != "park-boyd" and reaches_far_apart(problem):
            relaxed = relax_steps(problem, clock)
        elif relaxation == "splits" or (relaxation == "hybrid" and splits):
            relaxed = backend.relax_splits(problem, options)
        else:
            name = "box-hull" if relaxation == "hybrid" else relaxation
            relaxed = relax(
                problem, name, lambda sdp: backend.solve_sdp(sdp, remaining(options, clock)), clock
            )
        if relaxed.brief:
            starts = np.stack([problem.centre, relaxed.mean])
            codes = improve(problem, starts, clock=clock.part(BRIEF_SHARE))
            return ExactSolution(codes, None, None, relaxed.certificate, relaxed.status, relaxation)
        if relaxation != "hybrid":
            codes = best_known_codes(problem, relaxed, options.seed, clock)
            return ExactSolution(
                codes, None, relaxed.reported, relaxed.certificate, relaxed.status, relaxation
            )
        nodes = nodes_for(options.search_share, options.time_limit)
        found = hybrid_bound(problem, relaxed, nodes, clock, options.seed)
        if splits:
            found = or_the_box_hull(problem, found, clock)
        return found.solution

    def beside(self, problem: IntegerLeastSquares, clock: Clock) -> Certificate:  # type: ignore[override]
        """That of the box-hull SDP."""
        from pvqbounds.solvers.native.quantization.codes_dual import relax_steps

        return relax_steps(problem, clock).certificate


class EveryScaleKind(CodedKind):
    """Steps whose scale is free: bounds at some scales, which bound all of them."""

    def solve(self, backend: Backend, problem: AnyScaleLeastSquares, options: Options) -> ExactSolution:  # type: ignore[override]
        """By the exact method at each scale, where that is expected to end in its time if "auto"."""
        return self._bounded(backend, problem, options, "auto" if options.only_if_it_finishes else "exact")

    def relax(self, backend: Backend, problem: AnyScaleLeastSquares, options: Options) -> ExactSolution:  # type: ignore[override]
        """By the relaxation at each scale."""
        return self._bounded(backend, problem, options, "relax")

    def _bounded(
        self, backend: Backend, problem: AnyScaleLeastSquares, options: Options, method: str
    ) -> ExactSolution:
        from pvqbounds.solving.every_scale import at_least_kept, bound_every_scale
        from pvqbounds.solving.every_zero_point import bound_every_zero_point
        from pvqbounds.solving.one import solver_at_scales

        clock, kept = Clock(options.time_limit, options.cancelled), KeptBound()
        bound = bound_every_scale if problem.values.span is None else bound_every_zero_point
        solve_at = solver_at_scales(backend, method, replace(options, kept=kept))
        return at_least_kept(problem, bound(problem, solve_at, clock, kept), kept)

    def point(self, problem: LeastSquares, solution: ExactSolution) -> Point:
        """The codes at their best scale."""
        assert solution.codes is not None, "there are always some"
        return problem.point(solution.codes)

    def refines(self, backend: Backend, problem: Problem, options: Options) -> bool:
        """Never: what there is to add is added at each scale."""
        return False

    def refined(
        self, backend: Backend, problem: Problem, solution: ExactSolution, options: Options
    ) -> ExactSolution:
        """The solution as it is."""
        return solution


class AnyStepsKind(EveryScaleKind):
    """Quantization."""

    called = "quantization at any scale"
    exact, relaxed = StepsKind.exact, StepsKind.relaxed
    relaxations = StepsKind.relaxations


class AnyStepsJointKind(EveryScaleKind):
    """Under a support rule."""

    called = "joint compression at any scale"
    exact, relaxed = JointKind.exact, JointKind.relaxed


class PruningKind(Kind):
    """Weights that are re-fitted freely."""

    called = "pruning"
    exact, relaxed = Capability.EXACT_PRUNING, Capability.PERSPECTIVE
    relaxations = (DIRECTIONS, "perspective")
    plain = "perspective"
    together = (SHARED,)

    def solve(self, backend: Backend, problem: SparseLeastSquares, options: Options) -> ExactSolution:
        """The exact method."""
        return backend.solve_sparse(problem, options)

    def relax(self, backend: Backend, problem: SparseLeastSquares, options: Options) -> ExactSolution:
        """The perspective relaxation; where its multipliers are known, the largest weights beside them."""
        if options.relaxed is not None:
            known, support = options.relaxed, problem.start().support
            return ExactSolution(
                None, support, None, known.certificate, known.status, relaxation="perspective"
            )
        found = backend.relax_sparse(problem, options)
        if found.certificate is None:
            return replace(found, relaxation="perspective")
        return replace(found, relaxation=self.relaxation_of(found.certificate))

    def beside(self, problem: SparseLeastSquares, clock: Clock) -> Certificate:
        """That of the perspective dual."""
        from pvqbounds.solvers.native.pruning.perspective_dual import maximise_perspective

        return maximise_perspective(problem, clock=clock)

    def point(self, problem: SparseLeastSquares, solution: ExactSolution) -> Point:
        """The support, re-fitted, or that of magnitude pruning."""
        try:
            if solution.support is not None:
                return problem.on_support(solution.support)
        except InputError:
            pass
        return problem.start()

    def relaxation_of(self, certificate: Certificate) -> str | None:
        """The perspective relaxation, that of blocks, or either by cases."""
        return certificate.relaxation if certificate.relaxation in (DIRECTIONS, BLOCKS) else "perspective"


STEPS, LEVELS, JOINT, PRUNING = StepsKind(), LevelsKind(), JointKind(), PruningKind()
ANY_SCALE, JOINT_ANY_SCALE = AnyStepsKind(), AnyStepsJointKind()
ALL_KINDS = (STEPS, LEVELS, JOINT, PRUNING, ANY_SCALE, JOINT_ANY_SCALE)


def kind_for(task: Task, has_steps: bool, any_scale: bool = False) -> Kind:
    """How problems of a task are solved, of uniform steps, of any scale too, or of other values."""
    if any_scale:
        return JOINT_ANY_SCALE if task == "joint" else ANY_SCALE
    kinds: dict[Task, Kind] = {"pruning": PRUNING, "joint": JOINT, "quantization": LEVELS}
    return STEPS if has_steps and task == "quantization" else kinds[task]


def kind_of(problem: Problem) -> Kind:
    """How a problem is solved."""
    # a box and a step for each input are what the engines for codes are made for
    any_scale = isinstance(problem, AnyScaleLeastSquares)
    return kind_for(problem.task, isinstance(problem, IntegerLeastSquares), any_scale)

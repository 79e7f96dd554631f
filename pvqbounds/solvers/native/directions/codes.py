"""Cases of codes: a leaf's relaxation, a search on what that leaves, and codes on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.errors import SolverFailedError
from pvqbounds.heuristics.rounding import improve
from pvqbounds.problems import LeastSquares
from pvqbounds.problems.code_grids import in_codes, unit_of
from pvqbounds.relaxations.cases import CasesCertificate
from pvqbounds.relaxations.dual import DualCertificate, dual_bound
from pvqbounds.relaxations.slabs import Slabs
from pvqbounds.results.history import Moment
from pvqbounds.solvers.native.directions.branching import Bounded, LeafSolver, branch
from pvqbounds.solvers.native.directions.near_null import NearNull
from pvqbounds.solvers.native.directions.shifted import Shifted, Shifts
from pvqbounds.solvers.native.linalg.lapack import FLOPS_A_SECOND
from pvqbounds.solvers.native.quantization.codes_dual import relax_finite
from pvqbounds.solvers.native.quantization.integer_search import k_best
from pvqbounds.solvers.native.quantization.rising_search import NODES_A_SECOND, search_best
from pvqbounds.solvers.native.quantization.search_trees import definite_tree
from pvqbounds.solvers.native.quantization.split_dual import BRIEF, SplitPath, Stage, takes_splits

__all__ = ["code_cases"]


class _Relaxation(NamedTuple):
    """A stage that relaxes: so much further along the path, or to a tolerance."""

    path: Sequence[Stage]
    """With split inequalities: it goes on where the one before ended. None under a support rule."""
    tolerance: float
    """That of the relaxation without them: all there is under a support rule, and where a path begins."""
    work: float
    """Operations over n³, about."""


class _Search(NamedTuple):
    """A stage that searches on what the relaxation before it left."""

    nodes: float
    work: float
    """Operations over n³ beside the nodes, about."""


FIRST = 0.3
"""Relative gap of the relaxation that the paths of levels begin at."""

STEPS = (
    _Relaxation(BRIEF, 0.0, 50.0),
    _Search(3e5, 12.0),
    _Relaxation((Stage(0.2, 5, 10), Stage(0.06, 1, 6)), 0.0, 140.0),
    _Search(1e6, 12.0),
    _Relaxation((Stage(0.1, 6, 15), Stage(0.03, 1, 8)), 0.0, 220.0),
    _Search(1e6, 12.0),
    _Relaxation((Stage(0.05, 6, 20),), 0.0, 250.0),
    _Search(1e6, 12.0),
)
"""Of uniform steps. Parts of the path end with a few steps at a third of their mu, which bring what was
climbed closer to the value; a path at that mu from the beginning creeps."""

LEVELS = (_Relaxation((Stage(0.4, 2, 8),), FIRST, 90.0), *STEPS[1:])
"""Of levels: their paths begin at a quick relaxation."""

VALUES = (
    _Relaxation((), 3e-2, 100.0),
    _Search(1e6, 12.0),
    _Relaxation((), 1e-3, 160.0),
    _Search(3e6, 12.0),
)
"""Under a support rule."""

WIDTH = 600
"""Nodes a level of the search for codes."""


class _Leaf:
    """A leaf's problem, how far its path has come, and the multipliers that a search of it begins with."""

    def __init__(self, shifted: Shifted[LeastSquares]) -> None:
        self.shifted = shifted
        self.path: SplitPath | None = None
        self.dual: DualCertificate | None = None


class _CodeLeaves(LeafSolver):
    """Leaves of a problem whose values have a grid."""

    def __init__(self, problem: LeastSquares, near: NearNull, codes: NDArray[np.int64], clock: Clock) -> None:
        self._problem, self._clock, self._codes = problem, clock, codes
        self._shifts = Shifts(problem, near)
        self._error = problem.error(codes).upper
        self._leaves: dict[Slabs, _Leaf] = {}
        self._stages: Sequence[_Relaxation | _Search] = VALUES
        if takes_splits(problem):
            self._stages = LEVELS if problem.values.lattice is None else STEPS

    @property
    def codes(self) -> NDArray[np.int64]:
        """The best codes known, shape (n,)."""
        return self._codes

    @property
    def error(self) -> float:
        """Their error."""
        return self._error

    @property
    def stages(self) -> int:
        """How many there are."""
        return len(self._stages)

    def seconds(self, stage: int) -> float:
        """What a stage takes, about."""
        asked = self._stages[stage]
        seconds = asked.work * self._problem.n**3 / FLOPS_A_SECOND
        return seconds + asked.nodes / NODES_A_SECOND if isinstance(asked, _Search) else seconds

    def bound(self, slabs: Slabs, stage: int, known: Bounded | None) -> Bounded | None:
        """The relaxation within the slabs, or what a search makes of it."""
        asked = self._stages[stage]
        if slabs not in self._leaves:
            self._leaves[slabs] = _Leaf(self._shifts.within(slabs))
        leaf = self._leaves[slabs]
        if isinstance(asked, _Search):
            return None if leaf.dual is None else self._searched(slabs, leaf.dual, asked.nodes)
        try:
            return self._relaxed(slabs, leaf, asked)
        except SolverFailedError:  # numbers too far apart for a path
            return None

    def _relaxed(self, slabs: Slabs, leaf: _Leaf, asked: _Relaxation) -> Bounded:
        """The relaxation within the slabs, gone on with where it has a path."""
        shifted, problem = leaf.shifted, leaf.shifted.problem
        if asked.path:
            if leaf.path is None:
                start = relax_finite(problem, self._clock, asked.tolerance) if asked.tolerance else None
                leaf.path = SplitPath(problem, None if start is None else start.certificate)
            relaxed = leaf.path.follow(asked.path, self._clock)
            leaf.dual = shifted.certificate(relaxed.certificate)
            return Bounded(leaf.dual, relaxed.reported + shifted.constant)
        relaxed = relax_finite(problem, self._clock, asked.tolerance)
        leaf.dual = shifted.certificate(relaxed.certificate)
        return Bounded(leaf.dual, dual_bound(self._problem, leaf.dual, slabs))

    def _searched(self, slabs: Slabs, dual: DualCertificate, nodes: float) -> Bounded | None:
        """What a search of the tree at a leaf's multipliers proves, and its codes."""
        problem = self._problem
        point = problem.weight / unit_of(problem.values)
        tree = definite_tree(problem, dual.lam, dual.nu, dual.splits, point, slabs)
        if tree is None:
            return None
        self._take(k_best(tree.tree, WIDTH))
        chosen, outcome = search_best([tree], self._error, nodes, self._clock)
        if outcome.codes is not None:
            self._take(outcome.codes)
        proof = chosen.certificate(outcome)
        return Bounded(proof, proof.value)

    def _take(self, codes: NDArray[np.int64]) -> None:
        """Keep codes, descended, where they are better than the best known."""
        start = in_codes(self._problem).grid.values_of(codes.astype(np.float64))
        better = improve(self._problem, start[None], pairs=False, clock=self._clock)
        error = self._problem.error(better).upper
        if error < self._error:
            self._codes, self._error = better, error


def code_cases(
    problem: LeastSquares,
    near: NearNull,
    codes: NDArray[np.int64],
    allowed: float,
    clock: Clock,
    told: list[Moment] | None = None,
) -> tuple[CasesCertificate | None, NDArray[np.int64]]:
    """The bound of a problem with codes by cases of its near-null directions, and the best codes met.

    Parameters
    ----------
    problem
        Whose values have a grid; in units near 1, without dead inputs.
    codes
        Good codes that it allows, shape (n,).
    allowed
        Seconds that the stages may be expected to take in all, beside the clock.
    told
        Takes in how the bound rose.

    Returns
    -------
    The certificate, None where some t has no bound, and codes, shape (n,).
    """
    solver = _CodeLeaves(problem, near, codes, clock)
    at = near.direction @ (problem.values.weight_of(codes) - problem.weight)
    return branch(problem, near, solver, at, allowed, clock, told), solver.codes

"""Cases of a quantization: the path to a leaf's relaxation, a search on what it leaves, and codes on the way."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.heuristics.rounding import improve
from pvqbounds.problems import IntegerLeastSquares
from pvqbounds.relaxations.cases import CasesCertificate
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.relaxations.slabs import Slabs
from pvqbounds.solvers.native.directions.branching import Bounded, LeafSolver, branch
from pvqbounds.solvers.native.directions.near_null import NearNull
from pvqbounds.solvers.native.directions.shifted import Shifts
from pvqbounds.solvers.native.linalg.lapack import FLOPS_A_SECOND
from pvqbounds.solvers.native.quantization.integer_search import k_best
from pvqbounds.solvers.native.quantization.rising_search import NODES_A_SECOND, search_best
from pvqbounds.solvers.native.quantization.search_trees import definite_tree
from pvqbounds.solvers.native.quantization.split_dual import BRIEF, LONG, QUICK, Stage, relax_with_splits

__all__ = ["code_cases"]

Array = NDArray[np.float64]


class _Step(NamedTuple):
    """A stage of a leaf: a path, or a search of so many nodes on what the last one left."""

    path: tuple[Stage, ...] | None
    nodes: float
    work: float
    """Operations over n³, about, beside the nodes."""


STEPS = (
    _Step(BRIEF, 0.0, 55.0),
    _Step(None, 1e6, 8.0),
    _Step(QUICK, 0.0, 170.0),
    _Step(None, 1e6, 8.0),
    _Step(LONG, 0.0, 450.0),
    _Step(None, 3e6, 8.0),
)
"""Of uniform steps."""

WIDTH = 600
"""Nodes a level of the search for codes."""


class _CodeLeaves(LeafSolver):
    """Leaves of a problem of uniform steps."""

    stages = len(STEPS)

    def __init__(
        self, problem: IntegerLeastSquares, near: NearNull, codes: NDArray[np.int64], clock: Clock
    ) -> None:
        self._problem, self._clock = problem, clock
        self._shifts = Shifts(problem, near)
        self.codes = codes
        self._error = problem.error(codes).upper

    @property
    def error(self) -> float:
        return self._error

    def seconds(self, stage: int) -> float:
        step = STEPS[stage]
        return step.work * self._problem.n**3 / FLOPS_A_SECOND + step.nodes / NODES_A_SECOND

    def bound(self, slabs: Slabs, stage: int, known: Bounded | None) -> Bounded | None:
        step = STEPS[stage]
        if step.path is None:
            return None if known is None else self._searched(slabs, known, step.nodes)
        shifted = self._shifts.within(slabs)
        relaxed = relax_with_splits(shifted.problem, self._clock, step.path)
        return Bounded(shifted.certificate(relaxed.certificate), relaxed.reported + shifted.constant)

    def _searched(self, slabs: Slabs, known: Bounded, nodes: float) -> Bounded | None:
        """What a search of the tree at a leaf's multipliers proves, and its codes."""
        dual = known.proof
        if not isinstance(dual, DualCertificate):
            return None
        point = self._problem.centre
        tree = definite_tree(self._problem, dual.lam, dual.nu, dual.splits, point, slabs)
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
        better = improve(self._problem, codes.astype(np.float64)[None], pairs=False, clock=self._clock)
        error = self._problem.error(better).upper
        if error < self._error:
            self.codes, self._error = better, error


def code_cases(
    problem: IntegerLeastSquares, near: NearNull, codes: NDArray[np.int64], clock: Clock
) -> tuple[CasesCertificate | None, NDArray[np.int64]]:
    solver = _CodeLeaves(problem, near, codes, clock)
    start = problem.values.weight_of(codes) - problem.weight
    found = branch(problem, near, solver, near.direction @ start, clock)
    return found, solver.codes

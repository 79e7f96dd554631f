"""Scales of groups that are searched for on the output error, each with the codes of its group.

First the groups one after the other, those behind each free to make good what it does: with G = TᵀT, T lower
triangular, group b adds

    |T_bb (v_b - w_b) + T_b< (v_< - w_<)|²

to the error, which is a small problem of its own at each of its scales. Then with the values v_r of all other
groups held: up to a constant the error is

    (v_b - c)ᵀ G_bb (v_b - c),    G_bb (c - w_b) = -G_br (v_r - w_r).

The scales are those that a format has near its own, ValueRule.alternatives, and the codes at each those of
K-best and descent. What is found is a choice and no bound: there are too many scales together for one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.heuristics.rounding import improve
from pvqbounds.problems import Gram, LeastSquares
from pvqbounds.problems.code_grids import unit_of
from pvqbounds.problems.values import Levels, Steps, ValueSet
from pvqbounds.solving.scale_search import codes_at

__all__ = ["Pose", "searched_blocks"]

Array = NDArray[np.float64]

Pose = Callable[[Gram, Array, ValueSet], LeastSquares]
"""Makes a problem of some inputs with given values."""

PASSES = 3
"""Over all groups at most; the later ones change few of them."""

GAINED = 1e-4
"""Share of the error that a pass has to gain if another one is to follow."""


def searched_blocks(
    problem: LeastSquares, others: Sequence[ValueSet], group: int, pose: Pose, clock: Clock
) -> tuple[LeastSquares, NDArray[np.int64]]:
    """The problem with the best scales found for its groups, and good codes at them.

    Parameters
    ----------
    problem
        With scales of its own.
    others
        Its values with other scales of all groups, near their own.
    group
        Consecutive inputs that share a scale.
    pose
        Makes the problems of all inputs, and of those of a group.
    clock
        Ends the search between two groups.
    """
    search = _Search(problem, [problem.values, *others], group, pose)
    own = codes_at(problem)
    if not search.fill(clock):
        return problem, own
    search.settle(clock)
    searched = pose(problem.shared, problem.weight, _joined(search.choices, search.chosen))
    starts = np.stack([search.weight, _best_weight(searched)]) / unit_of(searched.values)
    codes = improve(searched, starts)
    better = searched.error(codes).upper < problem.error(own).upper
    return (searched, codes) if better else (problem, own)


class _Search:
    """The scales chosen and the values of the codes so far."""

    def __init__(self, problem: LeastSquares, choices: Sequence[ValueSet], group: int, pose: Pose) -> None:
        self.problem, self.choices, self._pose, n = problem, choices, pose, problem.n
        self.chosen, self.weight = np.zeros(n, dtype=np.int64), problem.weight.copy()
        self._blocks = [np.arange(start, min(start + group, n)) for start in range(0, n, group)]

    def fill(self, clock: Clock) -> bool:
        """Choose for one group after the other; False where the time was up before the last."""
        factor = _lower_factor(self.problem.gram)
        for block in self._blocks:
            if clock.expired:
                return False
            own = factor[np.ix_(block, block)]
            away = (self.weight - self.problem.weight)[: block[0]]
            shift = np.linalg.lstsq(own, factor[block, : block[0]] @ away, rcond=None)[0]
            self._choose(block, Gram(own.T @ own), self.problem.weight[block] - shift, math.inf)
        return True

    def settle(self, clock: Clock) -> None:
        """Choose again while the values of all other groups are held, until little is gained."""
        grams = [Gram(self.problem.gram[np.ix_(block, block)]) for block in self._blocks]
        for _ in range(PASSES):
            gained = 0.0
            for block, gram in zip(self._blocks, grams, strict=True):
                if clock.expired:
                    return
                target = _target(self.problem, self.weight, block)
                gained += self._choose(block, gram, target, _excess(gram, self.weight[block] - target))
            away = self.weight - self.problem.weight
            if gained < GAINED * float(away @ self.problem.gram @ away):
                break

    def _choose(self, block: NDArray[np.int64], gram: Gram, target: Array, known: float) -> float:
        """The best scale and codes of a group around a target, if better than what is known; the gain."""
        trials = [self._pose(gram, target, values.among(block)) for values in self.choices]
        found = [_best_weight(trial) for trial in trials]
        errors = [_excess(gram, v - target) for v in found]
        best = int(np.argmin(errors))
        if not errors[best] < known:
            return 0.0
        self.chosen[block], self.weight[block] = best, found[best]
        return known - errors[best]


def _lower_factor(gram: Array) -> Array:
    """Lower triangular T with G = TᵀT, up to a ridge where G is singular."""
    ridge = float(np.diagonal(gram).mean())
    for share in (0.0, 1e-12, 1e-9, 1e-6, 1e-3):
        try:
            flipped = np.linalg.cholesky((gram + share * ridge * np.eye(len(gram)))[::-1, ::-1])
        except np.linalg.LinAlgError:
            continue
        return np.ascontiguousarray(flipped.T[::-1, ::-1])
    return np.diag(np.sqrt(np.diagonal(gram)))


def _best_weight(problem: LeastSquares) -> Array:
    """The values of good codes."""
    return problem.weight_of(codes_at(problem))


def _target(problem: LeastSquares, weight: Array, block: NDArray[np.int64]) -> Array:
    """c, around which the error lies when the values of all other groups are held."""
    away = weight - problem.weight
    away[block] = 0.0
    pull = problem.gram[block] @ away
    shift = np.linalg.lstsq(problem.gram[np.ix_(block, block)], pull, rcond=None)[0]
    return np.asarray(problem.weight[block] - shift)


def _excess(gram: Gram, offset: Array) -> float:
    return float(offset @ gram.matrix @ offset)


def _joined(choices: Sequence[ValueSet], chosen: NDArray[np.int64]) -> ValueSet:
    """The values of each input from one of some sets, by its number, shape (n,)."""
    inputs = np.arange(len(chosen))
    if all(isinstance(values, Steps) for values in choices):
        parts = [np.stack([values.arrays[name] for values in choices]) for name in ("step", "qmin", "qmax")]
        return Steps(*(part[chosen, inputs] for part in parts))
    tables = [np.asarray(values.arrays["levels"]) for values in choices]
    most = max(table.shape[1] for table in tables)
    padded = np.stack([np.pad(table, ((0, 0), (0, most - table.shape[1])), mode="edge") for table in tables])
    return Levels(padded[chosen, inputs])

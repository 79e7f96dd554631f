"""One step of :mod:`.box_hull_dual`: the Newton system in n unknowns, and how far to go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.solvers.native.linalg.arrays import Arrays
from pvqbounds.solvers.native.quantization.box_hull_iterates import Iterate, State, Task, times, trace_of

__all__ = ["advance"]

STEP = (0.9, 0.98)
"""Fractions of the way to the boundary that are taken: of short and of full Newton steps."""

SHRINK = 0.7
"""Factor from one trial length in the positive definite cone to the next."""

GROWTH = 1.6
"""The first trial is at most so many times the length found in the iteration before: most trials
of a longer one would fail, and each costs a factorisation."""

HOPE = 0.3
"""The first trial is at least this, however short the last length was."""

CENTRING = 0.2
"""Least ratio of a target level to the level of an iterate."""

SHORTEST = 1e-6
"""A step shorter than this ends the iteration."""


class _Newton:
    """The factored Newton system at one iterate, in the changes of lam."""

    def __init__(self, task: Task, state: State, inverse: Any) -> None:
        self.task, self.state, self.inverse = task, state, inverse
        arrays = task.arrays
        self.ratio = state.weight / state.slack
        if task.bounded:
            rest, self.slope, self.softness, self.mean, self.total = arrays.polygon_blocks(
                self.ratio, task.features
            )
            factor, definite = arrays.cholesky(
                arrays.minus_diagonal(task.half, 0.5 * state.lam - self.softness)
            )
            self.soft = arrays.inverse(factor)
        else:
            rest, self.slope, self.softness = self.ratio[..., 0], 0.5, 0.0
            self.soft, definite = 2.0 * inverse, np.ones(len(inverse), dtype=np.bool_)
        self.lean = self.slope - state.mean
        matrix = arrays.newton_matrix(state.covariance, inverse, self.soft, self.lean, rest)
        self.factor, solvable = arrays.cholesky(matrix)
        self.definite = solvable & definite
        """Whether each system is definite, as it is but for rounding."""

    def step(self, level: Any, predictor: Iterate | None = None) -> Iterate:
        """The direction to the level, (B,), corrected by the products of the predictor's changes."""
        task, state, inverse = self.task, self.state, self.inverse
        arrays, mean = task.arrays, state.mean
        target = level[:, None, None] / state.slack
        square = mean * mean + level[:, None] * inverse.diagonal(0, -2, -1)
        load = task.linear - state.mu + task.times(state.lam, mean)
        product = None
        if predictor is not None:
            target = target - predictor.weight * predictor.slack / state.slack
            product = predictor.covariance * predictor.lam[:, None]
            load = load - predictor.lam * predictor.mean
            square = square + predictor.mean * predictor.mean + (product * inverse).sum(-1)
        if task.bounded:
            moments, excess = arrays.polygon_targets(target, task.features, self.mean)
            tilt = moments[:, 1] - 2.0 * mean
            bend = moments[:, 0] - square - mean * tilt
            load = load + 0.5 * task.times(state.lam, tilt)
        else:
            tilt = 0.0
            bend = target[..., 0] + mean - square
        lam = arrays.solve(self.factor, bend - self.lean * times(self.soft, load))
        force = times(self.soft, self.lean * lam + load)
        mu = self.softness * force - self.slope * lam
        if task.bounded:
            t, slack, weight = arrays.polygon_step(
                lam, mu, task.features, self.ratio, self.total, excess, target, state.weight
            )
        else:
            t, slack = 0.0 * lam, lam[..., None]
            weight = target - state.weight - self.ratio * slack
        change = state.covariance * lam[:, None]
        if product is not None:
            change += product
        covariance = arrays.covariance_step(change @ inverse, level, inverse, state.covariance)
        return Iterate(covariance, weight, 0.5 * (tilt - force), lam, mu, t, slack)


def advance(task: Task, state: State, inverse: Any) -> NDArray[np.bool_]:
    """One predictor-corrector step in place; False for the channels where rounding allows none."""
    xp, arrays = task.arrays.xp, task.arrays
    newton = _Newton(task, state, inverse)
    if not newton.definite.all():  # they leave the batch; the others are not held up for their sake
        if not newton.definite.any():
            return newton.definite
        index = arrays.index(np.flatnonzero(newton.definite))
        part = state.only(index)
        moved = newton.definite.copy()
        moved[newton.definite] = advance(task.only(index), part, inverse[index])
        for field in fields(state):
            getattr(state, field.name)[index] = getattr(part, field.name)
        return moved
    products = (state.weight * state.slack).sum((-2, -1))
    now = (products + trace_of(task, state)) / task.pairs
    predictor = newton.step(0.0 * now)
    primal = xp.clip(_ratio_test(arrays, state.weight, predictor.weight), None, 1.0)[:, None, None]
    dual = xp.clip(_ratio_test(arrays, state.slack, predictor.slack), None, 1.0)[:, None, None]
    after = (state.weight + primal * predictor.weight) * (state.slack + dual * predictor.slack)
    centring = xp.clip(xp.clip(after.sum((-2, -1)) / products, None, 1.0) ** 2, CENTRING, None)
    step = newton.step(centring * now, predictor)
    return _take(task, state, step)


def _take(task: Task, state: State, step: Iterate) -> NDArray[np.bool_]:
    """Go along `step` to near the boundary, in place; False for the channels that hardly move."""
    xp, arrays = task.arrays.xp, task.arrays

    def covariances(chosen: Any, length: Any) -> Any:
        return arrays.sum_lower(state.covariance[chosen], length, step.covariance[chosen])

    def slack_matrices(chosen: Any, length: Any) -> Any:
        return arrays.minus_diagonal(task.form, state.lam[chosen] + length[:, None] * step.lam[chosen])

    hoped = np.maximum(GROWTH * arrays.numpy(state.reach), HOPE)
    primal = arrays.numpy(_ratio_test(arrays, state.weight, step.weight))
    dual = arrays.numpy(_ratio_test(arrays, state.slack, step.slack))
    primal = _longest(arrays, covariances, np.minimum(primal, hoped[:, 0]))
    dual = _longest(arrays, slack_matrices, np.minimum(dual, hoped[:, 1]))
    state.reach = arrays.array(np.stack([primal, dual], axis=1))
    fraction = STEP[0] + (STEP[1] - STEP[0]) * np.minimum(np.minimum(primal, dual), 1.0)
    primal, dual = np.minimum(fraction * primal, 1.0), np.minimum(fraction * dual, 1.0)
    long_enough = np.maximum(primal, dual) >= SHORTEST
    length = arrays.array(primal)[:, None, None]
    state.covariance = state.covariance + length * step.covariance
    state.weight = state.weight + length * step.weight
    state.mean = state.mean + length[..., 0] * step.mean
    length = arrays.array(dual)[:, None]
    state.lam = state.lam + length * step.lam
    state.mu = state.mu + length * step.mu
    state.t = state.t + length * step.t
    # from its definition, so that the dual iterate stays feasible to the last digit
    state.slack = task.heights(state.lam, state.mu) - state.t[..., None]
    return np.asarray(long_enough & (arrays.numpy(xp.amin(xp.amin(state.slack, -1), -1)) > 0.0))


def _ratio_test(arrays: Arrays, values: Any, change: Any) -> Any:
    """Longest steps, (B,), at most 1 / STEP[0], that keep values + step * change non-negative."""
    steepest = arrays.xp.amax((-change / values).reshape(len(values), -1), -1)
    return 1.0 / arrays.xp.clip(steepest, STEP[0], None)


def _longest(
    arrays: Arrays, trial: Callable[[Any, Any], Any], length: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Steps not longer than `length` at which `trial` of (channels, steps) is positive definite."""
    length = length.copy()
    todo = np.arange(len(length))
    while len(todo):
        chosen = slice(None) if len(todo) == len(length) else arrays.index(todo)
        todo = todo[~arrays.cholesky(trial(chosen, arrays.array(length[todo])))[1]]
        shorter = SHRINK * length[todo]
        length[todo] = np.where(shorter < SHORTEST, 0.0, shorter)
        todo = todo[length[todo] > 0.0]
    return length

"""The compiled parts of the split dual (:mod:`.split_kernel`) for many channels at once, on PyTorch.

The first axis is the channel. Rows are padded to equally many: those beyond a channel's own have no entry and
no weight, and change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pvqbounds.solvers.native.linalg.arrays import Arrays
from pvqbounds.solvers.native.quantization.split_kernel import (
    DECREASE,
    DEFINITE,
    FIRST_MOVE,
    LEAST_CURVATURE,
    LEAST_SPREAD,
    SETTLED,
    TRIALS,
)

__all__ = ["Ascent", "Matrices", "Memory", "TensorRows", "climb", "differentiate", "evaluate", "separate"]

SEPARATED = 2**24
"""Sums that are looked at together."""

FIELDS = 7
"""Numbers of a sum that fails: by how much, three inputs, signs of the second and third, the whole part."""


class TensorRows(NamedTuple):
    """Inequalities of B channels, M of each."""

    index: Any
    """Inputs of the entries of a, (B, M, 3)."""
    sign: Any
    """Entries of a, (B, M, 3)."""
    offset: Any
    """alpha, (B, M)."""
    weight: Any
    """1, -1 for chords, 0 for rows that are none, (B, M)."""
    limit: Any
    """h, (B, M)."""

    def of(self, members: Any) -> TensorRows:
        """Those of some channels."""
        return TensorRows(*(part[members] for part in self))

    def pairs(self, n: int) -> tuple[Any, Any]:
        """Places in an n by n matrix of the entries of a aᵀ, and those entries, (B, 9 M) each."""
        place = self.index[..., :, None] * n + self.index[..., None, :]
        entry = self.sign[..., :, None] * self.sign[..., None, :]
        return place.flatten(1), entry.flatten(1)


class Matrices(NamedTuple):
    """The forms of the channels, and how they are factored."""

    arrays: Arrays
    form: Any
    """Different ones, (F, n, n)."""
    which: Any
    """Each channel's, (B,)."""


class Evaluated(NamedTuple):
    """The barrier at some multipliers, (B,) each unless said otherwise."""

    definite: Any
    value: Any
    barrier: Any
    factor: Any
    """(B, n, n)."""
    x: Any
    """S⁻¹q, (B, n)."""


def evaluate(matrices: Matrices, members: Any, rows: TensorRows, multiplier: Any, mu: Any) -> Evaluated:
    """Whether S is definite, the dual value, and that and mu logdet S; the rows are those of the members."""
    arrays, form = matrices.arrays, matrices.form[matrices.which[members]]
    n = form.shape[-1]
    u = rows.weight * multiplier
    value = -(u * (rows.offset * rows.offset - rows.limit)).sum(1)
    pulls = (u * rows.offset)[..., None] * rows.sign
    linear = form.new_zeros(len(form), n).scatter_add(1, rows.index.flatten(1), pulls.flatten(1))
    place, entry = rows.pairs(n)
    taken = -(u[..., None].expand(*u.shape, 9).flatten(1) * entry)
    slack = form.clone().flatten(1).scatter_add_(1, place, taken).view_as(form)
    factor, definite = arrays.cholesky(slack)
    pivots = factor.diagonal(0, -2, -1) ** 2
    sound = arrays.index(definite) & (pivots > DEFINITE * form.diagonal(0, -2, -1)).all(1)
    x = arrays.solve(factor, linear.clone())
    value = value - (linear * x).sum(1)
    return Evaluated(sound, value, value + mu * pivots.log().sum(1), factor, x)


def differentiate(rows: TensorRows, inverse: Any, x: Any, mu: Any) -> tuple[Any, Any]:
    """The derivative of the barrier by y, and the unit that makes its second one about 1, (B, M) each."""
    mean = rows.offset + (rows.sign * x.gather(1, rows.index.flatten(1)).view_as(rows.sign)).sum(-1)
    place, entry = rows.pairs(x.shape[-1])
    spread = (
        (entry * inverse.flatten(1).gather(1, place)).view(*mean.shape, 9).sum(-1).clamp(min=LEAST_SPREAD)
    )
    slope = -rows.weight * (mean * mean + mu[:, None] * spread - rows.limit)
    curvature = mu[:, None] * spread * spread + 2.0 * mean * mean * spread
    return slope, curvature.clamp(min=LEAST_CURVATURE).rsqrt()


class Memory(NamedTuple):
    """The last pairs of each channel: overwritten by steps."""

    moves: Any
    """Steps in scaled variables, a ring, (B, memory, M)."""
    changes: Any
    """Changes of the scaled slope along them, likewise."""
    count: Any
    """Of pairs so far, (B,)."""

    def back(self, number: int) -> tuple[Any, Any]:
        """The pair of so many steps ago, (B, M) each."""
        place = (self.count - number) % self.moves.shape[1]
        channels = place.new_tensor(range(len(place)))
        return self.moves[channels, place], self.changes[channels, place]


@dataclass
class Ascent:
    """Where the ascents of all channels stand: overwritten by steps."""

    rows: TensorRows
    mu: Any
    """(B,)."""
    multiplier: Any
    """y >= 0, (B, M)."""
    value: Any
    """The dual values, (B,)."""
    barrier: Any
    slope: Any
    """Derivatives of the barriers by y, (B, M)."""
    unit: Any
    """What makes their second ones about 1, (B, M)."""
    active: Any
    """Whether a channel has a way to go, (B,)."""
    memory: Memory


def climb(matrices: Matrices, inverse: Any, x: Any, at: Ascent) -> None:
    """One step of every active channel up its barrier; `inverse` and x are overwritten where it is taken."""
    step = _direction(at)
    pending = at.active.nonzero()[:, 0]
    length = 1.0
    for _ in range(TRIALS):
        if len(pending) == 0:
            return
        pending = _tried(matrices, inverse, x, at, step, length, pending)
        length *= 0.5
    at.active[pending] = False


def _tried(
    matrices: Matrices, inverse: Any, x: Any, at: Ascent, step: Any, length: float, pending: Any
) -> Any:
    """Take steps of a length where the barrier rises enough: the channels where it does not."""
    rows, mu = at.rows.of(pending), at.mu[pending]
    before, slope, unit = at.multiplier[pending], at.slope[pending], at.unit[pending]
    trial = (before + length * unit * step[pending]).clamp(min=0.0)
    found = evaluate(matrices, pending, rows, trial, mu)
    expected = (slope * (trial - before)).sum(1)
    taken = found.definite & (found.barrier >= at.barrier[pending] + DECREASE * expected)
    if not bool(taken.any()):
        return pending
    here, kept = pending[taken], taken.nonzero()[:, 0]
    inverse[here] = matrices.arrays.inverse(found.factor[kept])
    x[here] = found.x[kept]
    new_slope, _ = differentiate(rows.of(kept), inverse[here], x[here], mu[kept])
    unit, trial = unit[kept], trial[kept]
    _remember(at.memory, here, (trial - before[kept]) / unit, unit * (slope[kept] - new_slope))
    at.active[here] = found.barrier[kept] - at.barrier[here] >= SETTLED * mu[kept]
    at.multiplier[here], at.slope[here] = trial, new_slope
    at.value[here], at.barrier[here] = found.value[kept], found.barrier[kept]
    return pending[~taken]


def _remember(memory: Memory, here: Any, move: Any, change: Any) -> None:
    """Keep steps and the changes of the slope along them where these agree."""
    size = ((move * move).sum(1) * (change * change).sum(1)).sqrt()
    sound = (move * change).sum(1) > 1e-12 * size
    channels = here[sound]
    place = memory.count[channels] % memory.moves.shape[1]
    memory.moves[channels, place], memory.changes[channels, place] = move[sound], change[sound]
    memory.count[channels] += 1


def _direction(at: Ascent) -> Any:
    """Ascent directions of the scaled variables that are free to move, (B, M).

    Where what is remembered does not ascend it is forgotten.
    """
    memory, zero = at.memory, at.slope.new_zeros(())
    free = (at.multiplier > 0.0) | (at.slope > 0.0)
    gradient = (at.unit * at.slope).where(free, zero)
    kept = memory.count.clamp(max=memory.moves.shape[1])
    step, shares = gradient, {}
    for number in range(1, int(kept.max()) + 1):
        move, change = memory.back(number)
        share = (move * step).sum(1) / (move * change).sum(1)
        shares[number] = share.where(kept >= number, zero)
        step = step - shares[number][:, None] * change
    move, change = memory.back(1)
    step = step * ((move * change).sum(1) / (change * change).sum(1))[:, None]
    for number in sorted(shares, reverse=True):
        move, change = memory.back(number)
        share = (change * step).sum(1) / (move * change).sum(1)
        step = step + (shares[number] - share).where(kept >= number, zero)[:, None] * move
    step = step.where(free, zero)
    sound = (kept > 0) & ((step * gradient).sum(1) > 0.0)
    memory.count.mul_(sound)
    steepest = gradient.abs().amax(1)
    plain = gradient * (FIRST_MOVE / steepest).where(steepest > 0.0, zero)[:, None]
    return step.where(sound[:, None], plain)


def separate(
    arrays: Arrays, point: Any, covariance: Any, depth: float, most: int
) -> tuple[NDArray[np.int32], NDArray[np.int8], NDArray[np.int64]]:
    """Split inequalities of one channel that are violated by more than `depth`, the worst of them.

    As :func:`.split_kernel.separate`; point (n,), covariance (n, n).
    """
    n = len(point)
    at_once = max(1, SEPARATED // (n * n))
    worst = point.new_zeros(0, FIELDS)
    for first in range(1, n, at_once):
        last = min(first + at_once, n)
        parts = [_failing(arrays, point, covariance, depth, (first, last), sign) for sign in (-1.0, 1.0)]
        worst = arrays.xp.cat([worst, *parts])
        if len(worst) > 4 * most:
            worst = _worst(worst, 2 * most)
            depth = float(worst[-1, 0])
    found = arrays.numpy(_worst(worst, most))
    sign = np.column_stack([np.ones(len(found)), found[:, 4:6]]).astype(np.int8)
    return found[:, 1:4].astype(np.int32), sign, found[:, 6].astype(np.int64)


def _worst(found: Any, most: int) -> Any:
    """Those that fail most, in falling order."""
    return found[found[:, 0].argsort(descending=True, stable=True)[:most]]


def _failing(
    arrays: Arrays, point: Any, covariance: Any, depth: float, between: tuple[int, int], sign: float
) -> Any:
    """Sums of inputs i of a range, of j < i with a sign, and of k < j or none, that fail: rows of `FIELDS`.

    The inequality of a sum with mean t and variance v fails by -(v + (t - f)(t - f - 1)), f = floor(t).
    """
    first, last = between
    i, j = arrays.index(np.arange(first, last)), arrays.index(np.arange(last - 1))
    variance = covariance.diagonal()
    mean = point[i, None] + sign * point[j]
    spread = variance[i, None] + variance[j] + 2.0 * sign * covariance[i][:, j]
    below = j < i[:, None]
    failure = _failure(mean, spread)
    at = ((failure > depth) & below).nonzero().T
    value = mean[tuple(at)]
    found = [_fields(failure[tuple(at)], (i[at[0]], j[at[1]], i[at[0]]), (sign, 0.0), value)]
    cross = covariance[i][:, None, j] + sign * covariance[j][None, :, j]
    below = below[..., None] & (j < j[:, None])
    for other in (-1.0, 1.0):
        mean_3 = mean[..., None] + other * point[j]
        failure = _failure(mean_3, spread[..., None] + variance[j] + 2.0 * other * cross)
        at = ((failure > depth) & below).nonzero().T
        value = mean_3[tuple(at)]
        found.append(_fields(failure[tuple(at)], (i[at[0]], j[at[1]], j[at[2]]), (sign, other), value))
    return arrays.xp.cat(found)


def _failure(mean: Any, variance: Any) -> Any:
    part = mean - mean.floor()
    return part * (1.0 - part) - variance


def _fields(failure: Any, inputs: tuple[Any, Any, Any], signs: tuple[float, float], mean: Any) -> Any:
    """Rows of (failure, i, j, k, signs of j and k, low)."""
    rows = failure.new_empty(len(failure), FIELDS)
    rows[:, 0], rows[:, 6] = failure, mean.floor()
    for column, values in enumerate((*inputs, *signs), start=1):
        rows[:, column] = values
    return rows

"""Compiled parts of the split dual; the mathematics is in :mod:`.split_dual`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from pvqbounds.solvers.native.linalg import lapack

__all__ = ["Ascent", "climb", "differentiate", "evaluate", "separate"]

DEFINITE = 1e-12
"""Least squared pivot of S, relative to the diagonal of P."""

LEAST_SPREAD = 1e-100
"""What aᵀS⁻¹a is at least: rounding may take it below zero, and its square must not vanish."""

LEAST_CURVATURE = 1e-280
"""What a second derivative is at least: units stay finite where it underflows."""

FIRST_MOVE = 0.05
"""Largest change of a scaled variable in a step that knows no curvature."""

DECREASE = 1e-4
"""Share of the expected gain that a step has to bring."""

TRIALS = 25
"""Lengths that a line search tries."""

SETTLED = 1e-2
"""A step that gains less than this times mu is the last of its round."""


@numba.njit(cache=True, nogil=True, error_model="numpy")
def evaluate(  # type: ignore[no-untyped-def]
    form, rows, multiplier, mu, slack, x, numbers, routines
):  # fmt: skip
    """The barrier at some multipliers: whether S is definite, the dual value, and that and mu logdet S.

    Overwrites `slack` by the factor of S, and x by S⁻¹q.
    """
    index, sign, offset, weight, limit, lift, middle = rows
    n, m = len(form), len(multiplier)
    for i in range(n):
        slack[i, : i + 1] = form[i, : i + 1]
    linear = np.zeros(n)
    value = 0.0
    for c in range(m):
        u = weight[c] * multiplier[c]
        if u == 0.0:
            continue
        value -= u * (offset[c] * offset[c] - limit[c])
        for a in range(3):
            i, signed = index[c, a], u * sign[c, a]
            if signed == 0.0:
                continue
            linear[i] += signed * offset[c]
            lifted = u * lift[c, a]
            if lifted != 0.0:
                linear[i] += lifted * middle[c, a]
                slack[i, i] -= lifted
                value -= lifted * middle[c, a] * middle[c, a]
            for b in range(3):
                j = index[c, b]
                if j <= i:
                    slack[i, j] -= signed * sign[c, b]
    if not lapack.factorise(slack, numbers, routines):
        return False, 0.0, 0.0
    logarithm = 0.0
    for i in range(n):
        square = slack[i, i] * slack[i, i]
        if not square > DEFINITE * form[i, i]:
            return False, 0.0, 0.0
        logarithm += math.log(square)
    x[:] = linear
    lapack.solve(slack, x, numbers, routines)
    for i in range(n):
        value -= linear[i] * x[i]
    return True, value, value + mu * logarithm


@numba.njit(cache=True, nogil=True, error_model="numpy")
def differentiate(rows, inverse, x, mu, slope, unit):  # type: ignore[no-untyped-def]
    """Overwrite the derivative of the barrier by y, and the unit that makes its second one about 1.

    Only the lower triangle of the inverse is read.
    """
    index, sign, offset, weight, limit, lift, middle = rows
    for c in range(len(offset)):
        mean, spread = offset[c], 0.0
        square, width, curve = 0.0, 0.0, 0.0  # of what lifts add
        for a in range(3):
            s, i = sign[c, a], index[c, a]
            if s == 0.0:
                continue
            mean += s * x[i]
            spread += s * s * inverse[i, i]
            if lift[c, a] != 0.0:
                own = x[i] + middle[c, a]
                square += lift[c, a] * (own * own + mu * inverse[i, i])
                width += lift[c, a] * inverse[i, i]
                curve += lift[c, a] * lift[c, a] * own * own * inverse[i, i]
            for b in range(a):
                j = index[c, b]
                spread += 2.0 * s * sign[c, b] * (inverse[i, j] if i > j else inverse[j, i])
        spread = max(spread, LEAST_SPREAD)
        slope[c] = -weight[c] * (mean * mean + mu * spread + square - limit[c])
        total = spread + width
        curvature = mu * total * total + 2.0 * (mean * mean * spread + curve)
        unit[c] = 1.0 / math.sqrt(max(curvature, LEAST_CURVATURE))


class Ascent(NamedTuple):
    """Where an ascent stands, and what it remembers: all of it is overwritten by the steps."""

    multiplier: NDArray[np.float64]
    """y >= 0, shape (m,)."""
    slope: NDArray[np.float64]
    """Derivative of the barrier by y, shape (m,)."""
    unit: NDArray[np.float64]
    """What makes its second derivative about 1, shape (m,)."""
    x: NDArray[np.float64]
    """S⁻¹q, shape (n,)."""
    inverse: NDArray[np.float64]
    """S⁻¹, lower triangle, shape (n, n)."""
    spare: NDArray[np.float64]
    """Room for a matrix, shape (n, n)."""
    moves: NDArray[np.float64]
    """Steps in scaled variables, a ring, shape (memory, m)."""
    changes: NDArray[np.float64]
    """Changes of the scaled slope along them, likewise."""


@numba.njit(cache=True, nogil=True, error_model="numpy")
def climb(form, rows, ascent, count, value, barrier, mu, most, work):  # type: ignore[no-untyped-def]
    """At most so many steps up the barrier, of which `count` are remembered so far.

    `work` is what LAPACK works with: (numbers, routines). Returns the count, the dual value, the
    barrier's, and whether a step gained too little to go on.
    """
    multiplier, slope, unit, x, inverse, spare, moves, changes = ascent
    numbers, routines = work
    n, m = len(form), len(multiplier)
    step, trial, trial_x = np.empty(m), np.empty(m), np.empty(n)
    new_slope, no_unit = np.empty(m), np.empty(m)
    for _ in range(most):
        count = _direction(multiplier, slope, unit, moves, changes, count, step)
        length, ended = 1.0, True
        for _ in range(TRIALS):
            expected = 0.0
            for c in range(m):
                trial[c] = max(multiplier[c] + length * unit[c] * step[c], 0.0)
                expected += slope[c] * (trial[c] - multiplier[c])
            definite, trial_value, trial_barrier = evaluate(
                form, rows, trial, mu, spare, trial_x, numbers, routines
            )
            if definite and trial_barrier >= barrier + DECREASE * expected:
                ended = False
                break
            length *= 0.5
        if ended or not lapack.invert(spare, numbers, routines):
            return count, value, barrier, True
        differentiate(rows, spare, trial_x, mu, new_slope, no_unit)
        product, move_square, change_square = 0.0, 0.0, 0.0
        place = count % len(moves)
        for c in range(m):
            step[c] = (trial[c] - multiplier[c]) / unit[c]
            change = unit[c] * (slope[c] - new_slope[c])
            product += step[c] * change
            move_square += step[c] * step[c]
            change_square += change * change
        if product > 1e-12 * math.sqrt(move_square * change_square):
            for c in range(m):
                moves[place, c], changes[place, c] = step[c], unit[c] * (slope[c] - new_slope[c])
            count += 1
        gained = trial_barrier - barrier
        value, barrier = trial_value, trial_barrier
        multiplier[:], slope[:], x[:] = trial, new_slope, trial_x
        for i in range(n):
            inverse[i, : i + 1] = spare[i, : i + 1]
        if gained < SETTLED * mu:
            return count, value, barrier, True
    return count, value, barrier, False


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _direction(multiplier, slope, unit, moves, changes, count, step):  # type: ignore[no-untyped-def]
    """Overwrite `step` by an ascent direction of the scaled variables that are free to move.

    The inverse Hessian of the last pairs times the gradient, by the two-loop recursion; where that
    does not ascend they are forgotten. Returns how many pairs count from here on.
    """
    m, memory = len(slope), len(moves)
    gradient = np.zeros(m)
    steepest = 0.0
    for c in range(m):
        if multiplier[c] > 0.0 or slope[c] > 0.0:
            gradient[c] = unit[c] * slope[c]
            steepest = max(steepest, abs(gradient[c]))
    if count > 0:
        step[:] = gradient
        shares = np.zeros(memory)
        kept = min(count, memory)
        for back in range(1, kept + 1):
            place = (count - back) % memory
            shares[place] = np.dot(moves[place], step) / np.dot(moves[place], changes[place])
            step -= shares[place] * changes[place]
        newest = (count - 1) % memory
        step *= np.dot(moves[newest], changes[newest]) / np.dot(changes[newest], changes[newest])
        for back in range(kept, 0, -1):
            place = (count - back) % memory
            share = np.dot(changes[place], step) / np.dot(moves[place], changes[place])
            step += (shares[place] - share) * moves[place]
        for c in range(m):
            if not (multiplier[c] > 0.0 or slope[c] > 0.0):
                step[c] = 0.0
        if np.dot(step, gradient) > 0.0:
            return count
    step[:] = gradient * (FIRST_MOVE / steepest if steepest > 0.0 else 0.0)
    return 0


@numba.njit(cache=True, nogil=True, fastmath=True)
def _any_fails(part, variance, first, second, signed, mean, allowed, count):  # type: ignore[no-untyped-def]
    """Whether v + (t - f)(t - f - 1) falls below minus `allowed` for a third input k < count, of any sign."""
    one, two = np.float32(1.0), np.float32(2.0)
    fails = False
    for k in range(count):  # no branch: it is compiled to vector instructions
        cross = two * (first[k] + signed * second[k])
        plus, minus = mean + part[k], mean - part[k]
        plus -= np.floor(plus)
        minus -= np.floor(minus)
        least = allowed + variance[k]
        fails |= (plus * (one - plus) - cross > least) | (minus * (one - minus) + cross > least)
    return fails


@numba.njit(cache=True, nogil=True)
def _keep_worst(index, sign, low, failing, kept):  # type: ignore[no-untyped-def]
    """Bring the worst of a full list to its front: how many are kept, and the least failure among them."""
    order = np.argsort(-failing)[:kept]
    index[:kept], sign[:kept] = index[order], sign[order]
    low[:kept], failing[:kept] = low[order], failing[order]
    return kept, failing[kept - 1]


@numba.njit(cache=True, nogil=True)
def separate(point, covariance, depth, most):  # type: ignore[no-untyped-def]
    """Split inequalities with two or three entries that are violated by more than `depth`.

    The inequality of a sum with mean t and variance v fails by -(v + (t - f)(t - f - 1)), with f
    the whole part of t: only sums of a variance below 1/4 can fail. Most pairs of inputs have no
    third one: a loop in float32 without branches tells. Returns the worst of them, at most `most`:
    index, sign and low.
    """
    n = len(point)
    room, kept = 4 * most, 2 * most
    index, sign = np.zeros((room, 3), np.int32), np.zeros((room, 3), np.int8)
    low, failing = np.zeros(room, np.int64), np.zeros(room)
    short = covariance.astype(np.float32)
    part = (point - np.floor(point)).astype(np.float32)
    variance = np.empty(n, np.float32)
    for i in range(n):
        variance[i] = short[i, i]
    found = 0
    for i in range(n):
        for j in range(i):
            for sj in (-1, 1):
                pair_mean = point[i] + sj * point[j]
                pair_variance = covariance[i, i] + covariance[j, j] + 2.0 * sj * covariance[i, j]
                f = np.floor(pair_mean)
                failure = -(pair_variance + (pair_mean - f) * (pair_mean - f - 1.0))
                if failure > depth:
                    index[found, 0], index[found, 1], index[found, 2] = i, j, i
                    sign[found, 0], sign[found, 1], sign[found, 2] = 1, sj, 0
                    low[found], failing[found] = int(f), failure
                    found += 1
                    if found == room:
                        found, depth = _keep_worst(index, sign, low, failing, kept)
                signed = np.float32(sj)
                mean, allowed = part[i] + signed * part[j], np.float32(depth + pair_variance)
                if not _any_fails(part, variance, short[i], short[j], signed, mean, allowed, j):
                    continue
                for k in range(j):
                    cross = 2.0 * (covariance[i, k] + sj * covariance[j, k])
                    for sk in (-1, 1):
                        more = covariance[k, k] + sk * cross
                        t = pair_mean + sk * point[k]
                        f = np.floor(t)
                        failure = -(pair_variance + more + (t - f) * (t - f - 1.0))
                        if failure > depth:
                            index[found, 0], index[found, 1], index[found, 2] = i, j, k
                            sign[found, 0], sign[found, 1], sign[found, 2] = 1, sj, sk
                            low[found], failing[found] = int(f), failure
                            found += 1
                            if found == room:
                                found, depth = _keep_worst(index, sign, low, failing, kept)
    order = np.argsort(-failing[:found])[:most]
    return index[order], sign[order], low[order]

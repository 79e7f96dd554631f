"""Compiled parts of the split dual; the mathematics is in :mod:`.split_dual`."""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["assemble", "direction", "moments", "separate"]


@numba.njit(cache=True, nogil=True)
def assemble(form, index, sign, offset, charge, slack, linear):  # type: ignore[no-untyped-def]
    """Overwrite the lower triangle of S = P - sum u a aᵀ and q = sum u alpha a, with u = `charge`."""
    n, m = len(form), len(charge)
    for i in range(n):
        slack[i, : i + 1] = form[i, : i + 1]
    linear[:] = 0.0
    for c in range(m):
        u = charge[c]
        if u == 0.0:
            continue
        for a in range(3):
            i, signed = index[c, a], u * sign[c, a]
            if signed == 0.0:
                continue
            linear[i] += signed * offset[c]
            for b in range(3):
                j = index[c, b]
                if j <= i:
                    slack[i, j] -= signed * sign[c, b]


@numba.njit(cache=True, nogil=True)
def moments(inverse, point, index, sign, offset):  # type: ignore[no-untyped-def]
    """aᵀ S⁻¹ a and aᵀx + alpha of every row."""
    m = len(offset)
    spread, mean = np.empty(m), np.empty(m)
    for c in range(m):
        first, second = offset[c], 0.0
        for a in range(3):
            s, i = sign[c, a], index[c, a]
            if s == 0.0:
                continue
            first += s * point[i]
            second += s * s * inverse[i, i]
            for b in range(a):
                second += 2.0 * s * sign[c, b] * inverse[i, index[c, b]]
        spread[c], mean[c] = second, first
    return spread, mean


@numba.njit(cache=True, nogil=True)
def direction(gradient, steps, changes, count):  # type: ignore[no-untyped-def]
    """The inverse Hessian of the last `count` pairs, a ring, times the gradient: the two-loop recursion."""
    memory = len(steps)
    kept = min(count, memory)
    out, shares = gradient.copy(), np.zeros(memory)
    for back in range(1, kept + 1):
        c = (count - back) % memory
        shares[c] = np.dot(steps[c], out) / np.dot(steps[c], changes[c])
        out -= shares[c] * changes[c]
    newest = (count - 1) % memory
    out *= np.dot(steps[newest], changes[newest]) / np.dot(changes[newest], changes[newest])
    for back in range(kept, 0, -1):
        c = (count - back) % memory
        back_share = np.dot(changes[c], out) / np.dot(steps[c], changes[c])
        out += (shares[c] - back_share) * steps[c]
    return out


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

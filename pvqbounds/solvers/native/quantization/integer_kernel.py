"""Compiled depth-first search over codes; the mathematics is in :mod:`.integer_search`."""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["advance", "beam", "greedy_order"]

CONVEX, CONCAVE, SCAN = 0, 1, 2
"""How a level orders its codes: from the middle out, from the ends in, or one after the other."""


@numba.njit(cache=True, nogil=True, inline="always")
def _cost(code, pivot, target, shift, lam, nu, centre, floor):  # type: ignore[no-untyped-def]
    """Partial distance of one level plus its separable cost above the least one."""
    distance = pivot * (code - target) + shift
    u = code - centre
    return distance * distance + ((lam * u + 2.0 * nu) * u - floor)


@numba.njit(cache=True, nogil=True)
def _stationary(factor, target, centre, lam, nu):  # type: ignore[no-untyped-def]
    """Where the costs of each level are least: at start - slope * shift, if they are convex.

    A level's costs count as convex while |shift| < `convex_within`: there the rounding of the
    stationary point is below a fifth of a code, so that codes are met in order of their costs on
    either side of it. Else they are in the mode `otherwise`.
    """
    n = len(target)
    start, slope, convex_within = np.zeros(n), np.zeros(n), np.zeros(n)
    otherwise = np.full(n, SCAN)
    for i in range(n):
        square = factor[i, i] * factor[i, i]
        curvature, size = square + lam[i], square + abs(lam[i])
        if curvature > 1e-12 * size:
            terms = square * abs(target[i]) + abs(lam[i] * centre[i]) + abs(nu[i])
            start[i] = (square * target[i] + lam[i] * centre[i] - nu[i]) / curvature
            slope[i] = factor[i, i] / curvature
            convex_within[i] = (0.1 * curvature / (1e-14 * (n + 8)) - terms) / factor[i, i]
        elif curvature < -1e-12 * size:
            otherwise[i] = CONCAVE
    return start, slope, convex_within, otherwise


@numba.njit(cache=True, nogil=True)
def advance(  # type: ignore[no-untyped-def]
    factor, target, centre, lam, nu, floor, qmin, qmax,
    codes, left, right, left_cost, right_cost, mode, partial, offsets, sums, stale,
    level, best, best_codes, budget,
):  # fmt: skip
    """Visit at most `budget` nodes from the state given; returns (level, best, found, nodes).

    The state is the path: `level` is the one whose next code is due, -1 - level one that is
    entered afresh; level n means that the tree is exhausted. A node whose partial cost is not
    below `best` is pruned; a leaf below `best` becomes the best.

    ``sums[i, j]`` is the part of levels j.. of row i of R(d - m). It is brought up to date when
    level i is entered, from the highest level `stale[i]` whose code has changed since: levels
    that are never reached cost nothing (Ghasemmehdi and Agrell, "Faster recursions in sphere
    decoding", IEEE Trans. Inform. Theory 57, 2011).
    """
    n = len(codes)
    start, slope, convex_within, otherwise = _stationary(factor, target, centre, lam, nu)
    found = False
    nodes = 0
    enter = level < 0
    i = -1 - level if enter else level
    while nodes < budget:
        if enter:
            changed = stale[i]
            for j in range(changed, i, -1):
                sums[i, j] = sums[i, j + 1] + factor[i, j] * offsets[j]
            stale[i] = i
            if i > 0 and stale[i - 1] < changed:
                stale[i - 1] = changed
            pivot, shift = factor[i, i], sums[i, i + 1]
            mode[i] = CONVEX if abs(shift) < convex_within[i] else otherwise[i]
            if mode[i] == CONVEX:
                middle = min(max(np.floor(start[i] - slope[i] * shift), qmin[i] - 1.0), qmax[i])
                left[i], right[i] = middle, middle + 1.0
            else:
                left[i], right[i] = qmin[i], qmax[i]
            left_cost[i] = right_cost[i] = np.inf
            if left[i] >= qmin[i]:
                left_cost[i] = _cost(left[i], pivot, target[i], shift, lam[i], nu[i], centre[i], floor[i])
            if right[i] <= qmax[i] and (mode[i] == CONVEX or (mode[i] == CONCAVE and qmax[i] > qmin[i])):
                right_cost[i] = _cost(right[i], pivot, target[i], shift, lam[i], nu[i], centre[i], floor[i])
            enter = False
        # take the cheaper of the two pending codes and put its neighbour in its place
        go_left = left_cost[i] <= right_cost[i]
        code = left[i] if go_left else right[i]
        value = left_cost[i] if go_left else right_cost[i]
        if not partial[i + 1] + value < best and (mode[i] != SCAN or value == np.inf):
            i += 1  # nothing left here: sorted order, so the rest costs no less
            if i == n:
                return n, best, found, nodes
            continue
        if go_left:
            left[i] += -1.0 if mode[i] == CONVEX else 1.0
            exhausted = left[i] < qmin[i] if mode[i] == CONVEX else left[i] > qmax[i]
            if mode[i] == CONCAVE and left[i] >= right[i]:
                exhausted = True
            left_cost[i] = np.inf
            if not exhausted:
                left_cost[i] = _cost(
                    left[i], factor[i, i], target[i], sums[i, i + 1], lam[i], nu[i], centre[i], floor[i]
                )
        else:
            right[i] += 1.0 if mode[i] == CONVEX else -1.0
            exhausted = right[i] > qmax[i] if mode[i] == CONVEX else right[i] <= left[i]
            right_cost[i] = np.inf
            if not exhausted:
                right_cost[i] = _cost(
                    right[i], factor[i, i], target[i], sums[i, i + 1], lam[i], nu[i], centre[i], floor[i]
                )
        nodes += 1
        total = partial[i + 1] + value
        if not total < best:
            continue  # only while scanning
        codes[i] = code
        if i == 0:
            best = total
            found = True
            best_codes[:] = codes
            continue
        partial[i] = total
        offsets[i] = code - target[i]
        i -= 1
        if stale[i] < i + 1:
            stale[i] = i + 1
        enter = True
    return (-1 - i if enter else i), best, found, nodes


@numba.njit(cache=True, nogil=True, fastmath=True)
def _shift(row, codes):  # type: ignore[no-untyped-def]
    total = np.float32(0.0)
    for k in range(len(row)):
        total += row[k] * codes[k]
    return total


@numba.njit(cache=True, nogil=True)
def beam(factor, target, centre, lam, nu, floor, qmin, qmax, width, children):  # type: ignore[no-untyped-def]
    """Codes of the best leaf when each level keeps the `width` nodes of least partial sum.

    Each node offers its `children` cheapest codes around the level's minimiser. The codes of the
    levels above are float32: half the memory to move, and what is found is only a proposal.
    """
    n = len(target)
    count = 1
    codes, next_codes = np.zeros((width, n), np.float32), np.zeros((width, n), np.float32)
    partial, next_partial = np.zeros(width), np.zeros(width)
    costs = np.empty(width * children)
    parents = np.empty(width * children, np.int64)
    offers = np.empty(width * children)
    for i in range(n - 1, -1, -1):
        fixed = n - 1 - i
        row = factor[i, i + 1 :][::-1].astype(np.float32)
        centred = factor[i, i + 1 :] @ target[i + 1 :]
        pivot = factor[i, i]
        curvature = pivot * pivot + lam[i]
        made = 0
        for node in range(count):
            shift = np.float64(_shift(row, codes[node, :fixed])) - centred
            pull = pivot * pivot * target[i] - pivot * shift + lam[i] * centre[i] - nu[i]
            middle = np.floor(pull / curvature) if curvature > 0.0 else np.floor(target[i])
            low = min(max(middle, qmin[i]), qmax[i])
            high = low + 1.0
            low_cost = _cost(low, pivot, target[i], shift, lam[i], nu[i], centre[i], floor[i])
            high_cost = np.inf
            if high <= qmax[i]:
                high_cost = _cost(high, pivot, target[i], shift, lam[i], nu[i], centre[i], floor[i])
            for _ in range(children):
                if low_cost <= high_cost:
                    if low_cost == np.inf:
                        break
                    offers[made], costs[made] = low, partial[node] + low_cost
                    low -= 1.0
                    low_cost = np.inf
                    if low >= qmin[i]:
                        low_cost = _cost(low, pivot, target[i], shift, lam[i], nu[i], centre[i], floor[i])
                else:
                    offers[made], costs[made] = high, partial[node] + high_cost
                    high += 1.0
                    high_cost = np.inf
                    if high <= qmax[i]:
                        high_cost = _cost(high, pivot, target[i], shift, lam[i], nu[i], centre[i], floor[i])
                parents[made] = node
                made += 1
        most = np.partition(costs[:made], width - 1)[width - 1] if made > width else np.inf
        count = 0
        for offer in range(made):
            if costs[offer] <= most and count < width:
                next_codes[count, :fixed] = codes[parents[offer], :fixed]
                next_codes[count, fixed] = offers[offer]
                next_partial[count] = costs[offer]
                count += 1
        if count == 0:  # no cost is a number: any code will do
            next_codes[0, :fixed] = codes[0, :fixed]
            next_codes[0, fixed] = min(max(np.rint(target[i]), qmin[i]), qmax[i])
            next_partial[0] = 0.0
            count = 1
        codes, next_codes = next_codes, codes
        partial, next_partial = next_partial, partial
    return codes[np.argmin(partial[:count])][::-1].astype(np.float64)


@numba.njit(cache=True, nogil=True)
def greedy_order(inverse):  # type: ignore[no-untyped-def]
    """Order of elimination by least diagonal of the conditioned inverse, last one first.

    Overwrites the lower triangle: what is eliminated is swapped behind the block that is left.
    """
    n = len(inverse)
    order = np.arange(n)
    column = np.empty(n)
    for last in range(n - 1, -1, -1):
        chosen = 0
        for i in range(1, last + 1):
            if inverse[i, i] < inverse[chosen, chosen]:
                chosen = i
        order[chosen], order[last] = order[last], order[chosen]
        pivot = inverse[chosen, chosen]
        for i in range(last + 1):
            column[i] = inverse[chosen, i] if i < chosen else inverse[i, chosen]
        if chosen < last:  # row and column `last` take the place of the chosen one's
            column[chosen] = column[last]
            inverse[chosen, chosen] = inverse[last, last]
            for i in range(chosen):
                inverse[chosen, i] = inverse[last, i]
            for i in range(chosen + 1, last):
                inverse[i, chosen] = inverse[last, i]
        if not pivot > 0.0:
            continue  # rounding has eaten the pivot: the order is only a heuristic
        for i in range(last):
            factor = column[i] / pivot
            for j in range(i + 1):
                inverse[i, j] -= factor * column[j]
    return order

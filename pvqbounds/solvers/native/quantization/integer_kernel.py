"""Compiled searches over codes, depth first and breadth first; the mathematics is in :mod:`.integer_search`.

One source serves all values and supports. Where a code is its own value ``values`` is None, else the table
of values; where all weights may be non-zero ``tolls`` is None, else what a budget adds (:mod:`.tolls`).
numba compiles a version for each, in which no branch about what is None is left.

Constants of a level and the state of the path there are records with named fields. Compiled functions
take records and numbers: a record is an address, an array seven numbers.
"""

from __future__ import annotations

import numba
import numpy as np

from pvqbounds.problems.code_kernel import code_below, value_of

__all__ = ["LEVEL", "STEP", "advance", "beam", "greedy_order", "prepare"]

CONVEX, CONCAVE, SCAN = 0, 1, 2
"""How a level orders its codes: from the middle out, from the ends in, or one after the other."""

LEFT, RIGHT, ZERO = 0, 1, 2
"""Which of the pending codes of a level is the cheapest."""

LEVEL = np.dtype(
    [
        ("target", np.float64),  # x: what the quadratic part is centred on
        ("centre", np.float64),  # the weight
        ("lam", np.float64),
        ("nu", np.float64),
        ("floor", np.float64),  # least separable cost
        ("low", np.float64),  # smallest code
        ("high", np.float64),  # largest code
        ("gap", np.float64),  # least distance of two values
        ("reach", np.float64),  # largest magnitude of a value
        ("zero", np.float64),  # code of the value 0, where a budget holds
        ("above", np.int64),  # next level of the same group that is fixed before; n where there is none
        ("start", np.float64),  # costs are least at start - slope * shift
        ("slope", np.float64),
        ("convex_within", np.float64),  # codes are met from the middle out while |shift| is less
        ("otherwise", np.int64),  # mode elsewhere
    ],
    align=True,
)
"""What is known of a level before the search."""

STEP = np.dtype(
    [
        ("left", np.float64),  # pending codes and their costs, inf where there is none
        ("right", np.float64),
        ("left_cost", np.float64),
        ("right_cost", np.float64),
        ("zero_cost", np.float64),
        ("toll", np.float64),  # what every non-zero code costs beside
        ("mode", np.int64),
        ("code", np.float64),  # the code that is fixed, and its value less the target
        ("offset", np.float64),
        ("partial", np.float64),  # costs of this level and all that are fixed before
        ("used", np.int64),  # non-zeros of the group above this level
        ("spent", np.int64),  # the same with this level
        ("stale", np.int64),  # highest level whose offset has changed since the sums were taken
    ],
    align=True,
)
"""Where the path stands at a level; one more record stands for the root."""


@numba.njit(cache=True, nogil=True)
def prepare(factor, levels):  # type: ignore[no-untyped-def]
    """Fill in where the costs of each level are least: at start - slope * shift, if they are convex.

    A level's costs count as convex while |shift| < `convex_within`: there the rounding of the
    stationary point, and of where it is clipped, is below a fifth of the least gap, so that codes are
    met in order of their costs on either side of it. Else they are in the mode `otherwise`.
    """
    n = len(levels)
    for i in range(n):
        level = levels[i]
        pivot = factor[i, i]
        curvature, size = pivot * pivot + level.lam, pivot * pivot + abs(level.lam)
        level.start = level.slope = level.convex_within = 0.0
        level.otherwise = SCAN
        if curvature > 1e-12 * size:
            terms = pivot * pivot * abs(level.target) + abs(level.lam * level.centre) + abs(level.nu)
            terms += size * level.reach
            level.start = (pivot * pivot * level.target + level.lam * level.centre - level.nu) / curvature
            level.slope = pivot / curvature
            level.convex_within = (0.1 * level.gap * curvature / (1e-14 * (n + 8)) - terms) / pivot
        elif curvature < -1e-12 * size:
            level.otherwise = CONCAVE


@numba.njit(cache=True, nogil=True)
def _cost(level, pivot, shift, value):  # type: ignore[no-untyped-def]
    """Partial distance of one level plus its separable cost above the least one."""
    distance = pivot * (value - level.target) + shift
    u = value - level.centre
    return distance * distance + ((level.lam * u + 2.0 * level.nu) * u - level.floor)


@numba.njit(cache=True, nogil=True)
def _next(level, code, step, skips_zero):  # type: ignore[no-untyped-def]
    """The code after `code` in steps of +-1; zero is pending by itself where a budget holds."""
    code += step
    return code + step if skips_zero and code == level.zero else code


@numba.njit(cache=True, nogil=True)
def _open(level, step, values, tolls, i, pivot, shift):  # type: ignore[no-untyped-def]
    """Put the first codes of a level in the order of its mode, and their costs, into `step`."""
    mode = CONVEX if abs(shift) < level.convex_within else level.otherwise
    budget = tolls is not None
    if mode == CONVEX:
        middle = code_below(values, i, level.low, level.high, level.start - level.slope * shift)
        left, right = _next(level, middle + 1.0, -1.0, budget), _next(level, middle, 1.0, budget)
    else:
        left, right = _next(level, level.low - 1.0, 1.0, budget), _next(level, level.high + 1.0, -1.0, budget)
    left_cost = right_cost = np.inf
    if level.low <= left <= level.high:
        left_cost = _cost(level, pivot, shift, value_of(values, i, left))
    if right <= level.high and (mode == CONVEX or (mode == CONCAVE and left < right)):
        right_cost = _cost(level, pivot, shift, value_of(values, i, right))
    if tolls is not None:
        step.toll = tolls[1, i, step.used]
        left_cost += step.toll
        right_cost += step.toll
        step.zero_cost = _cost(level, pivot, shift, 0.0) + tolls[0, i, step.used]
    step.mode, step.left, step.right = mode, left, right
    step.left_cost, step.right_cost = left_cost, right_cost


@numba.njit(cache=True, nogil=True)
def _cheapest(level, step, tolls):  # type: ignore[no-untyped-def]
    """Which of the pending codes of a level is the cheapest, the code and its cost; inf if there is none."""
    if step.left_cost <= step.right_cost:
        side, code, cost = LEFT, step.left, step.left_cost
    else:
        side, code, cost = RIGHT, step.right, step.right_cost
    if tolls is not None and step.zero_cost <= cost:
        return ZERO, level.zero, step.zero_cost
    return side, code, cost


@numba.njit(cache=True, nogil=True)
def _replace(level, step, values, tolls, i, pivot, shift, side):  # type: ignore[no-untyped-def]
    """Put the next code in the place of the one taken."""
    outwards = step.mode == CONVEX
    budget = tolls is not None
    if side == LEFT:
        left = _next(level, step.left, -1.0 if outwards else 1.0, budget)
        exhausted = left < level.low if outwards else left > level.high
        if step.mode == CONCAVE and left >= step.right:
            exhausted = True
        cost = np.inf if exhausted else _cost(level, pivot, shift, value_of(values, i, left))
        step.left, step.left_cost = left, cost + step.toll if budget else cost
    elif side == RIGHT:
        right = _next(level, step.right, 1.0 if outwards else -1.0, budget)
        exhausted = right > level.high if outwards else right <= step.left
        cost = np.inf if exhausted else _cost(level, pivot, shift, value_of(values, i, right))
        step.right, step.right_cost = right, cost + step.toll if budget else cost
    else:
        step.zero_cost = np.inf


@numba.njit(cache=True, nogil=True)
def advance(  # type: ignore[no-untyped-def]
    factor, levels, values, tolls, path, sums, best_codes, start, best, budget
):
    """Visit at most `budget` nodes from the state given; returns (level, best, found, nodes).

    The state is the path: `start` is the level whose next code is due, -1 - level one that is
    entered afresh; level n means that the tree is exhausted. A node whose partial cost is not
    below `best` is pruned; a leaf below `best` becomes the best.

    ``sums[i, j]`` is the part of levels j.. of row i of R(d - m). It is brought up to date when
    level i is entered, from the highest level `stale` whose code has changed since: levels
    that are never reached cost nothing (Ghasemmehdi and Agrell, "Faster recursions in sphere
    decoding", IEEE Trans. Inform. Theory 57, 2011).
    """
    n = len(levels)
    found = False
    nodes = 0
    enter = start < 0
    i = -1 - start if enter else start
    while nodes < budget:
        level, step = levels[i], path[i]
        if enter:
            changed = step.stale
            shift = sums[i, changed + 1]
            for j in range(changed, i, -1):
                shift += factor[i, j] * path[j].offset
                sums[i, j] = shift
            step.stale = i
            if i > 0 and path[i - 1].stale < changed:
                path[i - 1].stale = changed
            if tolls is not None:
                step.used = path[level.above].spent
            _open(level, step, values, tolls, i, factor[i, i], shift)
            enter = False
        side, code, cost = _cheapest(level, step, tolls)
        total = path[i + 1].partial + cost
        if not total < best and (step.mode != SCAN or cost == np.inf):
            i += 1  # nothing left here: sorted order, so the rest costs no less
            if i == n:
                return n, best, found, nodes
            continue
        _replace(level, step, values, tolls, i, factor[i, i], sums[i, i + 1], side)
        nodes += 1
        if not total < best:
            continue  # only while scanning
        step.code = code
        if i == 0:
            best = total
            found = True
            for j in range(n):
                best_codes[j] = path[j].code
            continue
        step.partial = total
        step.offset = value_of(values, i, code) - level.target
        if tolls is not None:
            step.spent = step.used + (side != ZERO)
        i -= 1
        if path[i].stale < i + 1:
            path[i].stale = i + 1
        enter = True
    return (-1 - i if enter else i), best, found, nodes


@numba.njit(cache=True, nogil=True, fastmath=True)
def _inner(row, values):  # type: ignore[no-untyped-def]
    total = np.float32(0.0)
    for k in range(len(row)):
        total += row[k] * values[k]
    return total


@numba.njit(cache=True, nogil=True)
def _used(levels, level, fixed):  # type: ignore[no-untyped-def]
    """Non-zeros of a level's group among the values that are fixed, those of the highest level first."""
    used, above = 0, level.above
    while above < len(levels):
        used += fixed[len(levels) - 1 - above] != 0.0
        above = levels[above].above
    return used


@numba.njit(cache=True, nogil=True)
def beam(factor, levels, values, tolls, path, width, children):  # type: ignore[no-untyped-def]
    """Values of the best leaf when each level keeps the `width` nodes of least partial sum.

    Each node offers its `children` cheapest codes. The values of the levels above are float32: half the
    memory to move, and what is found is only a proposal.
    """
    n = len(levels)
    count = 1
    fixed, next_fixed = np.zeros((width, n), np.float32), np.zeros((width, n), np.float32)
    partial, next_partial = np.zeros(width), np.zeros(width)
    costs = np.empty(width * children)
    parents = np.empty(width * children, np.int64)
    offers = np.empty(width * children)
    targets = np.empty(n)
    for i in range(n):
        targets[i] = levels[i].target
    for i in range(n - 1, -1, -1):
        level, step, pivot = levels[i], path[i], factor[i, i]
        depth = n - 1 - i
        row = factor[i, i + 1 :][::-1].astype(np.float32)
        centred = factor[i, i + 1 :] @ targets[i + 1 :]
        made = 0
        for node in range(count):
            shift = np.float64(_inner(row, fixed[node, :depth])) - centred
            if tolls is not None:
                step.used = _used(levels, level, fixed[node])
            _open(level, step, values, tolls, i, pivot, shift)
            for _ in range(children):
                side, code, cost = _cheapest(level, step, tolls)
                if cost == np.inf:
                    break
                offers[made], costs[made] = value_of(values, i, code), partial[node] + cost
                parents[made] = node
                made += 1
                _replace(level, step, values, tolls, i, pivot, shift, side)
        most = np.partition(costs[:made], width - 1)[width - 1] if made > width else np.inf
        count = 0
        for offer in range(made):
            if costs[offer] <= most and count < width:
                next_fixed[count, :depth] = fixed[parents[offer], :depth]
                next_fixed[count, depth] = offers[offer]
                next_partial[count] = costs[offer]
                count += 1
        if count == 0:  # no cost is a number: the code of least magnitude will do
            next_fixed[0, :depth] = fixed[0, :depth]
            next_fixed[0, depth] = 0.0
            next_partial[0] = 0.0
            count = 1
        fixed, next_fixed = next_fixed, fixed
        partial, next_partial = next_partial, partial
    return fixed[np.argmin(partial[:count])][::-1].astype(np.float64)


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

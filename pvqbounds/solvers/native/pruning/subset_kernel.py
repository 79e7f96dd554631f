"""Compiled depth-first enumeration of the inputs to remove.

A node of the enumeration has removed some inputs, decided to keep others, and has a list of open
ones. It holds, of every open input j, what is left of its weight, v_j, and of C_jj, once the removed
ones are eliminated from C = W Wᵀ (:mod:`pvqbounds.solvers.native.pruning.subset_factor`). Removing
j next costs v_j² over that, its price, and no set of removals costs less than any one of its
members: an open input for which the price already reaches the threshold is kept, at no cost, for the
whole subtree.

The open inputs are taken in order of falling price. Child number i removes the i-th and keeps
the ones before it, so that the largest subtrees start with the most expensive removals and end
first.

With multipliers (:mod:`pvqbounds.solvers.native.pruning.subset_multipliers`) a node holds the same of
H = G - diag(D) as well, and every input has an `extra`, what its removal costs beside H. Then
any way to complete the node's set costs at least the cost in H so far, the extras so far, and
the sum of the least extras of as many open inputs as have yet to go; an input that is removed
in place of one of those adds its difference. A node or an input is dropped where either bound
reaches the threshold.

Elimination is Cholesky's, a row for each removal, made from the rows before it when it is asked for:
no node copies a matrix. Its rounding only sorts sets out, `slack` above the threshold; complete sets
are priced by reflections (:mod:`pvqbounds.solvers.native.pruning.reflections`). Where C is too
ill-conditioned for that, every node reflects the rows of W.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pvqbounds.solvers.native.pruning.reflections import costs_in_order, mirror, place_along, reflect
from pvqbounds.solvers.native.pruning.subset_factor import SubsetFactor
from pvqbounds.solvers.native.pruning.subset_multipliers import Multiplied

__all__ = ["DEPTH", "DONE", "FOUND", "NODES", "Stack", "enumerate_sets", "new_stack"]

RUNNING, DONE = 0, 1

DEPTH, ENTERED, NODES, FOUND = range(4)
"""Entries of a state: depth, whether the node there is new, nodes so far, and whether a set was found."""

BETTER = 1.0 - 1e-10
"""A set that costs more than this part of the best one is not looked for: there may be any number."""


class Chain(NamedTuple):
    """Elimination of the removed inputs from a matrix C, by depth (number of removals)."""

    matrix: NDArray[np.float64]
    """C, shape (n, n); (0, 0) where nothing is eliminated."""
    factor: NDArray[np.float64]
    """Row d has Cholesky's factors of all inputs with the removal at depth d, shape (depths, n)."""
    weight: NDArray[np.float64]
    """v of the open inputs, shape (depths, n)."""
    length: NDArray[np.float64]
    """What is left of C_jj of the open inputs, shape (depths, n)."""
    price: NDArray[np.float64]
    """``weight**2 / length``, shape (depths, n)."""


class Rows(NamedTuple):
    """Rows of W after the removed ones were reflected onto coordinate axes and cut off."""

    rows: NDArray[np.float64]
    """Of the open inputs, shape (depths, n, n); at depth d only their first n - d entries count."""
    normal: NDArray[np.float64]
    """Of the reflection at hand, shape (n,)."""
    turn: NDArray[np.float64]
    """How far each row is moved along it, shape (n,)."""


class Stack(NamedTuple):
    """The state of an enumeration, by depth, so that it can pause."""

    plain: Chain
    """Of C; where rows are reflected its weights, lengths and prices come from those."""
    reflected: Rows
    """Empty where inputs are eliminated from C."""
    dual: Chain
    """Of H; empty where there are no multipliers."""
    order: NDArray[np.int64]
    """Open inputs by falling price, shape (depths, n)."""
    open: NDArray[np.int64]
    """Number of open inputs, shape (depths,)."""
    position: NDArray[np.int64]
    """Next child, shape (depths,)."""
    last: NDArray[np.int64]
    """Last child that leaves enough inputs to remove, shape (depths,)."""
    need: NDArray[np.int64]
    """Removals still to make in each group, shape (depths, groups)."""
    cost: NDArray[np.float64]
    """Cost of the removals made, shape (depths,)."""
    removed: NDArray[np.int64]
    """The removals made, shape (depths,)."""
    W: NDArray[np.float64]
    """Rows that complete sets are priced by, shape (n, n)."""
    weight: NDArray[np.float64]
    """Weights of the inputs, shape (n,)."""
    best_set: NDArray[np.int64]
    """The best complete set of removals, shape (depths - 1,)."""
    best: NDArray[np.float64]
    """Its cost a little lowered, or the threshold: shape (1,)."""
    slack: float
    """A cost by elimination that is ``slack * best`` proves as much as the cost ``best``."""
    dual_cost: NDArray[np.float64]
    """Cost in H of the removals made, and their extras, shape (depths,)."""
    extra: NDArray[np.float64]
    """Extra cost of removing each input, shape (n,)."""
    by_extra: NDArray[np.int64]
    """Inputs by rising extra, shape (n,)."""
    edge: NDArray[np.float64]
    """Largest of the extras that a completion pays at least, by group."""
    root: float
    """Constant that the dual costs are counted from."""
    gain: float
    """A dual cost of ``gain * (best - root)`` proves as much as the cost ``best``."""
    mark: NDArray[np.int64]
    """When an input was last marked, and the number of the last marking, shape (n + 1,)."""
    left: NDArray[np.int64]
    """Removals still to place in each group, shape (groups,)."""
    row: NDArray[np.float64]
    """What is left of a row of C or H, shape (n,)."""
    state: NDArray[np.int64]
    """Whole numbers, by the names ``DEPTH`` to ``FOUND``, shape (4,)."""


def new_stack(factor: SubsetFactor, threshold: float, multiplied: Multiplied | None = None) -> Stack:
    """Start with nothing removed, everything open; sets that cost `threshold` or more are ignored."""
    n, depths = len(factor.weight), factor.removals + 1
    eliminated, dual = factor.eliminated, None if factor.eliminated is None else multiplied
    extra = np.zeros(n) if dual is None else dual.extra
    stack = Stack(
        plain=_chain(None if eliminated is None else eliminated.matrix, depths, n),
        reflected=_rows(factor.rows if eliminated is None else None, depths, n),
        dual=_chain(None if dual is None else dual.matrix, 0 if dual is None else depths, n),
        order=np.empty((depths, n), dtype=np.int64),
        open=np.zeros(depths, dtype=np.int64),
        position=np.zeros(depths, dtype=np.int64),
        last=np.zeros(depths, dtype=np.int64),
        need=np.zeros((depths, len(factor.need)), dtype=np.int64),
        cost=np.zeros(depths),
        removed=np.zeros(depths, dtype=np.int64),
        W=factor.rows,
        weight=factor.weight,
        best_set=np.zeros(depths - 1, dtype=np.int64),
        best=np.array([threshold]),
        slack=1.0 if eliminated is None else eliminated.slack,
        dual_cost=np.zeros(depths),
        extra=extra,
        by_extra=np.argsort(extra, kind="stable"),
        edge=np.zeros(len(factor.need)),
        root=0.0 if dual is None else dual.root,
        gain=1.0 if dual is None else dual.gain,
        mark=np.zeros(n + 1, dtype=np.int64),
        left=np.empty(len(factor.need), dtype=np.int64),
        row=np.empty(n),
        state=np.array([0, 1, 0, 0]),
    )
    _begin(stack.plain, factor.weight, np.einsum("ij,ij->i", factor.rows, factor.rows))
    if dual is not None:
        _begin(stack.dual, dual.target, np.diagonal(dual.matrix))
    price = stack.plain.price[0]
    open_ = np.flatnonzero((factor.need[factor.group] > 0) & (price < threshold * stack.slack))
    stack.order[0, : len(open_)] = open_[np.argsort(-price[open_], kind="stable")]
    stack.open[0] = len(open_)
    stack.need[0] = factor.need
    return stack


def _chain(matrix: NDArray[np.float64] | None, depths: int, n: int) -> Chain:
    shape = depths, n
    found = np.empty((0, 0)) if matrix is None else matrix
    factors = np.zeros((0, n) if matrix is None else shape)
    return Chain(found, factors, np.zeros(shape), np.zeros(shape), np.zeros(shape))


def _begin(chain: Chain, weight: NDArray[np.float64], length: NDArray[np.float64]) -> None:
    chain.weight[0], chain.length[0], chain.price[0] = weight, length, weight**2 / length


def _rows(W: NDArray[np.float64] | None, depths: int, n: int) -> Rows:
    rows = np.empty((0, n, n) if W is None else (depths, n, n))
    if W is not None:
        rows[0] = W
    return Rows(rows, np.empty(n), np.empty(n))


# Functions that every node calls take arrays, not the stack: an entry of a tuple is counted as a reference
# whenever it is looked up, which took longer than the arithmetic.


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _what_is_left(matrix, factor, depth, i, row):  # type: ignore[no-untyped-def]
    """Set `row` to what is left of row i of C after `depth` removals."""
    for j in range(len(row)):
        row[j] = matrix[i, j]
    for t in range(depth):
        known = factor[t, i]
        for j in range(len(row)):
            row[j] -= known * factor[t, j]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _step(row, factor, weight, length, price, depth, i):  # type: ignore[no-untyped-def]
    """Weights, lengths and prices of all inputs at depth + 1, once input i, whose row is left, is removed."""
    inverse = 1.0 / length[depth, i]
    ratio, root = weight[depth, i] * inverse, np.sqrt(inverse)
    for j in range(len(row)):
        v = weight[depth, j] - row[j] * ratio
        square = length[depth, j] - row[j] * row[j] * inverse
        weight[depth + 1, j] = v
        length[depth + 1, j] = square
        price[depth + 1, j] = v * v / square
        factor[depth, j] = row[j] * root


@njit(cache=True, nogil=True, error_model="numpy")
def _insert(order, price, depth, open_, j):  # type: ignore[no-untyped-def]
    """Add an input to the open ones of a depth, by falling price."""
    place = open_
    while place > 0 and price[depth, order[depth, place - 1]] < price[depth, j]:
        order[depth, place] = order[depth, place - 1]
        place -= 1
    order[depth, place] = j


@njit(cache=True, nogil=True, error_model="numpy")
def _open_below(order, price, need, group, depth, slot, open_, room, spare):  # type: ignore[no-untyped-def]
    """Open at depth + 1 what follows `slot`, costs less than `room` and is of a group that has to lose more.

    Returns how many there are; 0 where more than `spare` are left out.
    """
    found = 0
    for place in range(slot + 1, open_):
        j = order[depth, place]
        if need[depth + 1, group[j]] > 0 and not price[depth + 1, j] >= room:
            _insert(order, price, depth + 1, found, j)
            found += 1
        else:
            spare -= 1
            if spare < 0:
                return 0
    return found


@njit(cache=True, nogil=True, error_model="numpy")
def _last_child(order, need, group, depth, open_, missing, left):  # type: ignore[no-untyped-def]
    """The last child after which every group can lose what it must; -1: too few are open."""
    for g in range(len(left)):
        left[g] = need[depth, g]
    place = open_
    while missing > 0 and place > 0:
        place -= 1
        g = group[order[depth, place]]
        if left[g] > 0:
            left[g] -= 1
            missing -= 1
    return place if missing == 0 else -1


@njit(cache=True, nogil=True, error_model="numpy")
def _least_extras(order, need, group, depth, slot, open_, multiplied):  # type: ignore[no-untyped-def]
    """Sum of the least extras of as many inputs after `slot` as each group at depth + 1 has to lose.

    Sets `edge`; infinite where a group has too few.
    """
    extra, by_extra, edge, mark, left = multiplied
    missing, stamp = 0, mark[len(extra)] + 1
    for g in range(len(left)):
        left[g] = need[depth + 1, g]
        missing += left[g]
    mark[len(extra)] = stamp
    for place in range(slot + 1, open_):
        mark[order[depth, place]] = stamp
    total = 0.0
    for i in by_extra:
        if missing == 0:
            break
        g = group[i]
        if mark[i] == stamp and left[g] > 0:
            left[g] -= 1
            missing -= 1
            total += extra[i]
            edge[g] = extra[i]
    return total if missing == 0 else np.inf


@njit(cache=True, nogil=True, error_model="numpy")
def _keep_cheap(order, price, group, depth, open_, room, extra, edge):  # type: ignore[no-untyped-def]
    """Leave open at `depth` what costs less than `room` in H, its extra beside those at least paid counted.

    Returns how many there are.
    """
    found = 0
    for place in range(open_):
        j = order[depth, place]
        if not price[depth, j] >= room - max(extra[j] - edge[group[j]], 0.0):
            order[depth, found] = j
            found += 1
    return found


@njit(cache=True, nogil=True, error_model="numpy")
def _look(stack, depth, slot):  # type: ignore[no-untyped-def]
    """Weights, and prices at least, of the inputs after `slot` at depth + 1, before rows are reflected."""
    chain, rows, below = stack.plain, stack.reflected.rows[depth], depth + 1
    normal, turn = stack.reflected.normal, stack.reflected.turn
    last = len(turn) - depth - 1  # rows are reflected onto this axis, and it is cut off
    here = stack.order[depth, slot]
    pivot, beta = mirror(rows[here], chain.length[depth, here], normal, last)
    ratio = chain.weight[depth, here] / pivot
    guard = 1.0 + 32.0 * (len(turn) + 8) * 2.0**-53
    for place in range(slot + 1, stack.open[depth]):
        j = stack.order[depth, place]
        turn[j], along = place_along(rows, j, normal, beta, last)
        v = chain.weight[depth, j] + along * ratio
        length = chain.length[depth, j] * guard - along * along  # rounded up
        chain.weight[below, j] = v
        chain.price[below, j] = v * v / length if length > 0.0 else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _reflect_open(stack, depth, room):  # type: ignore[no-untyped-def]
    """Reflect the rows of the inputs that are open at depth + 1, and close those that cost too much."""
    chain, rows, below = stack.plain, stack.reflected.rows, depth + 1
    open_, last = stack.open[below], stack.order.shape[1] - depth - 1
    found = 0
    for place in range(open_):
        j = stack.order[below, place]
        turn = stack.reflected.turn[j]
        length = reflect(rows[depth], j, stack.reflected.normal, turn, rows[below], j, last)
        chain.length[below, j] = length
        chain.price[below, j] = chain.weight[below, j] ** 2 / length
        if not chain.price[below, j] >= room:
            _insert(stack.order, chain.price, below, found, j)
            found += 1
    stack.open[below] = found


@njit(cache=True, nogil=True, error_model="numpy")
def _complete(stack, depth):  # type: ignore[no-untyped-def]
    """One removal is left: price the sets with the cheapest ones."""
    for place in range(stack.open[depth] - 1, -1, -1):
        j = stack.order[depth, place]
        if stack.cost[depth] + stack.plain.price[depth, j] >= stack.best[0] * stack.slack:
            return
        stack.removed[depth] = j
        made = stack.removed[: depth + 1]
        cost = costs_in_order(stack.W, stack.weight, made, stack.best[0])[-1]
        if cost < stack.best[0]:
            stack.best[0] = cost * BETTER
            stack.best_set[:] = made
            stack.state[FOUND] = 1


@njit(cache=True, nogil=True, error_model="numpy")
def enumerate_sets(stack, group, work):  # type: ignore[no-untyped-def]
    """Go on with the enumeration for about `work` multiplications; returns DONE or RUNNING.

    A complete set that costs less than ``best`` replaces it.
    """
    removals, n = len(stack.best_set), len(group)
    order, open_, need, cost, best = stack.order, stack.open, stack.need, stack.cost, stack.best
    matrix, factor, weight, length, price = stack.plain
    H, dual_factor, dual_weight, dual_length, dual_price = stack.dual
    multiplied = (stack.extra, stack.by_extra, stack.edge, stack.mark, stack.left)
    extra, edge, left, row = stack.extra, stack.edge, stack.left, stack.row
    position, last, removed = stack.position, stack.last, stack.removed
    dual_cost, state = stack.dual_cost, stack.state
    slack, gain, root = stack.slack, stack.gain, stack.root
    eliminates, has_dual = len(matrix) > 0, len(H) > 0
    depth, new = state[DEPTH], state[ENTERED]
    while depth >= 0 and work > 0:
        if new:
            new = 0
            state[NODES] += 1
            position[depth] = 0
            missing = removals - depth
            last[depth] = _last_child(order, need, group, depth, open_[depth], missing, left)
            if depth == removals - 1 and last[depth] >= 0:
                _complete(stack, depth)
                work -= removals * removals * n
                last[depth] = -1
        slot = position[depth]
        if slot > last[depth]:
            depth -= 1
            continue
        position[depth] = slot + 1
        here, below = order[depth, slot], depth + 1
        cost[below] = cost[depth] + price[depth, here]
        room = best[0] * slack - cost[below]
        if not room > 0.0:
            continue  # the threshold fell since the prices were compared
        removed[depth] = here
        for g in range(len(left)):
            need[below, g] = need[depth, g]
        need[below, group[here]] -= 1
        dual_room = np.inf
        if has_dual:
            dual_cost[below] = dual_cost[depth] + dual_price[depth, here] + extra[here]
            least = _least_extras(order, need, group, depth, slot, open_[depth], multiplied)
            dual_room = gain * (best[0] - root) - dual_cost[below] - least
            work -= n
            if not dual_room > 0.0:
                continue
        # first what an input costs at least; most nodes end here
        if eliminates:
            work -= (depth + 8) * n // 4 + 64  # four at a time
            _what_is_left(matrix, factor, depth, here, row)
            _step(row, factor, weight, length, price, depth, here)
        else:
            work -= (open_[depth] - slot) * (n - depth) + 64
            _look(stack, depth, slot)
        spare = open_[depth] - slot - 1 - (removals - below)
        open_[below] = _open_below(order, price, need, group, depth, slot, open_[depth], room, spare)
        if open_[below] > 0 and not eliminates:
            _reflect_open(stack, depth, room)
        if open_[below] > 0 and has_dual:
            work -= (depth + 8) * n // 4
            _what_is_left(H, dual_factor, depth, here, row)
            _step(row, dual_factor, dual_weight, dual_length, dual_price, depth, here)
            open_[below] = _keep_cheap(order, dual_price, group, below, open_[below], dual_room, extra, edge)
        if open_[below] >= removals - below:
            depth = below
            new = 1
    state[DEPTH], state[ENTERED] = depth, new
    return DONE if depth < 0 else RUNNING

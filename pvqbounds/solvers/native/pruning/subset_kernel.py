"""Compiled depth-first enumeration of the inputs to remove.

A node of the enumeration has removed some inputs, decided to keep others, and has a list of open
ones. It holds, of every open input j, the row of W = R⁻¹ after the removed rows were reflected
onto coordinate axes and cut off, its squared length, and the weight v_j that remains once the
kept weights are re-fitted. Removing j next costs v_j² / |row_j|², and no set of removals costs
less than any one of its members: an open input for which that already reaches the threshold is
kept, at no cost, for the whole subtree.

The open inputs are taken in order of falling cost. Child number i removes the i-th and keeps
the ones before it, so that the largest subtrees start with the most expensive removals and end
first.

With multipliers (:mod:`pvqbounds.solvers.native.pruning.subset_multipliers`) a node holds the same of
H = G - diag(D) as well, and every input has an `extra`, what its removal costs beside H. Then
any way to complete the node's set costs at least the cost in H so far, the extras so far, and
the sum of the least extras of as many open inputs as have yet to go; an input that is removed
in place of one of those adds its difference. A node or an input is dropped where either bound
reaches the threshold. Leaves are priced without multipliers, where their cost is exact.

Rows are reflected by Householder matrices, as in a QR factorisation of the removed rows: the
error of that, and so of every cost, is bounded in :mod:`pvqbounds.solvers.native.pruning.subset_factor`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pvqbounds.solvers.native.pruning.subset_multipliers import Multiplied

__all__ = [
    "DEPTH",
    "DONE",
    "FOUND",
    "NODES",
    "Stack",
    "costs_in_order",
    "enumerate_sets",
    "new_stack",
]

RUNNING, DONE = 0, 1

DEPTH, ENTERED, NODES, FOUND, STAMP = range(5)
"""Entries of a state: depth, whether the node there is new, nodes so far, whether a set was found, and
the number of the last marking."""


class Stack(NamedTuple):
    """The state of an enumeration, by depth (number of removals), so that it can pause."""

    rows: NDArray[np.float64]
    """Rows of the open inputs, shape (depths, n, n); at depth d only their first n - d entries count."""
    weight: NDArray[np.float64]
    """v of the open inputs, shape (depths, n)."""
    length: NDArray[np.float64]
    """Squared lengths of the rows, shape (depths, n)."""
    price: NDArray[np.float64]
    """Cost of removing an open input next, shape (depths, n)."""
    inputs: NDArray[np.int64]
    """Which inputs are open, shape (depths, n)."""
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
    best_set: NDArray[np.int64]
    """The best complete set of removals, shape (depths - 1,)."""
    best: NDArray[np.float64]
    """Its cost, or the threshold: shape (1,)."""
    dual_rows: NDArray[np.float64]
    """As `rows`, of H; empty where there are no multipliers."""
    dual_weight: NDArray[np.float64]
    dual_length: NDArray[np.float64]
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
    """A dual cost of ``gain * (best - root)`` proves as much as the plain cost ``best``."""
    mark: NDArray[np.int64]
    scratch: NDArray[np.float64]
    dual_scratch: NDArray[np.float64]
    left: NDArray[np.int64]
    state: NDArray[np.int64]
    """Whole numbers, by the names ``DEPTH`` to ``STAMP``, shape (5,)."""


def new_stack(
    W: NDArray[np.float64],
    weight: NDArray[np.float64],
    group: NDArray[np.int64],
    need: NDArray[np.int64],
    threshold: float,
    multiplied: Multiplied | None = None,
) -> Stack:
    """Start with nothing removed, everything open; sets that cost `threshold` or more are ignored."""
    n, removals = len(weight), int(need.sum())
    shape = (removals + 1, n)
    dual_shape = shape if multiplied is not None else (0, 0)
    extra = np.zeros(n) if multiplied is None else multiplied.extra
    stack = Stack(
        rows=np.empty((removals + 1, n, n)),
        weight=np.empty(shape),
        length=np.empty(shape),
        price=np.empty(shape),
        inputs=np.empty(shape, dtype=np.int64),
        order=np.empty(shape, dtype=np.int64),
        open=np.zeros(removals + 1, dtype=np.int64),
        position=np.zeros(removals + 1, dtype=np.int64),
        last=np.zeros(removals + 1, dtype=np.int64),
        need=np.zeros((removals + 1, len(need)), dtype=np.int64),
        cost=np.zeros(removals + 1),
        removed=np.zeros(removals + 1, dtype=np.int64),
        best_set=np.zeros(removals, dtype=np.int64),
        best=np.array([threshold]),
        dual_rows=np.empty((*dual_shape, dual_shape[1])),
        dual_weight=np.empty(dual_shape),
        dual_length=np.empty(dual_shape),
        dual_cost=np.zeros(removals + 1),
        extra=extra,
        by_extra=np.argsort(extra, kind="stable"),
        edge=np.zeros(len(need)),
        root=0.0 if multiplied is None else multiplied.root,
        gain=1.0 if multiplied is None else multiplied.gain,
        mark=np.zeros(n, dtype=np.int64),
        scratch=np.empty(n),
        dual_scratch=np.empty(n),
        left=np.empty(len(need), dtype=np.int64),
        state=np.array([0, 1, 0, 0, 0]),
    )
    length = np.einsum("ij,ij->i", W, W)
    price = weight**2 / length
    open_ = np.flatnonzero((need[group] > 0) & (price < threshold))
    stack.rows[0, : len(open_)] = W[open_]
    for field, values in (
        (stack.weight, weight),
        (stack.length, length),
        (stack.price, price),
        (stack.inputs, np.arange(n)),
    ):
        field[0, : len(open_)] = values[open_]
    if multiplied is not None:
        stack.dual_rows[0, : len(open_)] = multiplied.rows[open_]
        stack.dual_weight[0, : len(open_)] = multiplied.target[open_]
        stack.dual_length[0, : len(open_)] = np.einsum("ij,ij->i", multiplied.rows, multiplied.rows)[open_]
    stack.open[0] = len(open_)
    stack.need[0] = need
    return stack


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _dot(rows, j, h, size):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(size):
        total += rows[j, i] * h[i]
    return total


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _reflect(rows, j, h, t, out, k, size):  # type: ignore[no-untyped-def]
    """Store row j - t h as row k of `out`; returns its squared length."""
    total = 0.0
    for i in range(size):
        x = rows[j, i] - t * h[i]
        out[k, i] = x
        total += x * x
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def _mirror(row, length, h, last):  # type: ignore[no-untyped-def]
    """Set h to the vector of the reflection of `row` onto axis `last`; returns (pivot, beta)."""
    for i in range(last + 1):
        h[i] = row[i]
    norm = np.sqrt(length)
    pivot = norm if h[last] >= 0.0 else -norm
    beta = 1.0 / (norm * (norm + abs(h[last])))
    h[last] += pivot
    return pivot, beta


@njit(cache=True, nogil=True, error_model="numpy")
def _least_extras(stack, depth, group):  # type: ignore[no-untyped-def]
    """Sum of the least extras of as many marked inputs as each group at `depth` has to lose.

    Sets `edge`; infinite where a group has too few.
    """
    left, missing = stack.left, 0
    for g in range(len(left)):
        left[g] = stack.need[depth, g]
        missing += left[g]
    total = 0.0
    for i in stack.by_extra:
        if missing == 0:
            break
        g = group[i]
        if stack.mark[i] == stack.state[STAMP] and left[g] > 0:
            left[g] -= 1
            missing -= 1
            total += stack.extra[i]
            stack.edge[g] = stack.extra[i]
    return total if missing == 0 else np.inf


@njit(cache=True, nogil=True, error_model="numpy")
def _remove(stack, depth, slot, group):  # type: ignore[no-untyped-def]
    """Fill depth + 1 with the open inputs that follow `slot` in the order, its own one removed.

    An input that would cost too much there, or whose group is complete, is left out.
    """
    # one function: in three, inlined or not, a search took 1.3 times the time
    n = len(group)
    last = n - depth - 1  # rows are reflected onto this axis, and it is cut off
    rows, out, h = stack.rows[depth], stack.rows[depth + 1], stack.scratch
    here = stack.order[depth, slot]
    pivot, beta = _mirror(rows[here], stack.length[depth, here], h, last)
    ratio = stack.weight[depth, here] / pivot
    cost = stack.cost[depth] + stack.price[depth, here]
    room = stack.best[0] - cost
    guard = 1.0 + 32.0 * (n + 8) * 2.0**-53
    below = depth + 1
    dual = len(stack.dual_rows) > 0
    dual_h, dual_room, dual_ratio, dual_beta = stack.dual_scratch, np.inf, 0.0, 0.0
    if dual:
        stack.state[STAMP] += 1
        for place in range(slot + 1, stack.open[depth]):
            stack.mark[stack.inputs[depth, stack.order[depth, place]]] = stack.state[STAMP]
        price = stack.dual_weight[depth, here] ** 2 / stack.dual_length[depth, here]
        stack.dual_cost[below] = stack.dual_cost[depth] + price + stack.extra[stack.inputs[depth, here]]
        rest = stack.dual_cost[below] + _least_extras(stack, below, group)
        dual_room = stack.gain * (stack.best[0] - stack.root) - rest
        if not dual_room > 0.0:
            stack.open[below] = 0
            return
        dual_pivot, dual_beta = _mirror(
            stack.dual_rows[depth, here], stack.dual_length[depth, here], dual_h, last
        )
        dual_ratio = stack.dual_weight[depth, here] / dual_pivot
    stack.open[below] = 0
    stack.cost[below] = cost
    stack.removed[depth] = stack.inputs[depth, here]
    # first without the reflections: what an input costs at least; most nodes end here
    found = 0
    spare = stack.open[depth] - slot - 1 - (len(stack.best_set) - below)
    for place in range(slot + 1, stack.open[depth]):
        j = stack.order[depth, place]
        if stack.need[below, group[stack.inputs[depth, j]]] > 0:
            t = _dot(rows, j, h, last + 1) * beta
            along = rows[j, last] - t * h[last]
            v = stack.weight[depth, j] + along * ratio
            # the squared length after the reflection, rounded up
            if v * v < room * (stack.length[depth, j] * guard - along * along):
                if dual:
                    i = stack.inputs[depth, j]
                    dual_t = _dot(stack.dual_rows[depth], j, dual_h, last + 1) * dual_beta
                    along = stack.dual_rows[depth, j, last] - dual_t * dual_h[last]
                    dual_v = stack.dual_weight[depth, j] + along * dual_ratio
                    spare_room = dual_room - max(stack.extra[i] - stack.edge[group[i]], 0.0)
                    kept = dual_v * dual_v < spare_room * (
                        stack.dual_length[depth, j] * guard - along * along
                    )
                    stack.dual_weight[below, found] = dual_v
                    stack.dual_length[below, found] = dual_t
                else:
                    kept = True
                if kept:
                    stack.weight[below, found] = v
                    stack.price[below, found] = t
                    stack.order[below, found] = j
                    found += 1
                    continue
        spare -= 1
        if spare < 0:  # fewer are open than have to go
            return
    open_ = 0
    for k in range(found):
        j, v = stack.order[below, k], stack.weight[below, k]
        length = _reflect(rows, j, h, stack.price[below, k], out, open_, last)
        price = v * v / length
        if price < room:
            if dual:
                t = stack.dual_length[below, k]
                stack.dual_weight[below, open_] = stack.dual_weight[below, k]
                stack.dual_length[below, open_] = _reflect(
                    stack.dual_rows[depth], j, dual_h, t, stack.dual_rows[below], open_, last
                )
            stack.price[below, open_] = price
            stack.length[below, open_] = length
            stack.weight[below, open_] = v
            stack.inputs[below, open_] = stack.inputs[depth, j]
            open_ += 1
    stack.open[below] = open_


@njit(cache=True, nogil=True, error_model="numpy")
def _sort(stack, depth, group):  # type: ignore[no-untyped-def]
    """Sort the open inputs by falling price and find the last child; False: too few are open."""
    for j in range(stack.open[depth]):
        price = stack.price[depth, j]
        place = j
        while place > 0 and stack.price[depth, stack.order[depth, place - 1]] < price:
            stack.order[depth, place] = stack.order[depth, place - 1]
            place -= 1
        stack.order[depth, place] = j
    # the last child after which every group can still lose what it must
    missing = len(stack.best_set) - depth
    left = stack.left
    for g in range(len(left)):
        left[g] = stack.need[depth, g]
    place = stack.open[depth]
    while missing > 0 and place > 0:
        place -= 1
        g = group[stack.inputs[depth, stack.order[depth, place]]]
        if left[g] > 0:
            left[g] -= 1
            missing -= 1
    stack.last[depth] = place
    stack.position[depth] = 0
    return missing == 0


@njit(cache=True, nogil=True, error_model="numpy")
def enumerate_sets(stack, group, work):  # type: ignore[no-untyped-def]
    """Go on with the enumeration for about `work` multiplications; returns DONE or RUNNING.

    A complete set that costs less than ``best`` replaces it.
    """
    removals = len(stack.best_set)
    depth, new = stack.state[DEPTH], stack.state[ENTERED]
    while depth >= 0 and work > 0:
        if new:
            new = 0
            stack.state[NODES] += 1
            if stack.open[depth] < removals - depth or not _sort(stack, depth, group):
                depth -= 1
                continue
            if depth == removals - 1:  # one removal is left: the cheapest
                j = stack.order[depth, stack.open[depth] - 1]
                stack.best[0] = stack.cost[depth] + stack.price[depth, j]
                stack.removed[depth] = stack.inputs[depth, j]
                stack.best_set[:] = stack.removed[:removals]
                stack.state[FOUND] = 1
                depth -= 1
                continue
        slot = stack.position[depth]
        if slot > stack.last[depth]:
            depth -= 1
            continue
        stack.position[depth] = slot + 1
        j = stack.order[depth, slot]
        if stack.cost[depth] + stack.price[depth, j] >= stack.best[0]:
            continue  # the threshold fell since the prices were compared
        work -= (stack.open[depth] - slot) * (len(group) - depth) + 64
        for g in range(stack.need.shape[1]):
            stack.need[depth + 1, g] = stack.need[depth, g]
        stack.need[depth + 1, group[stack.inputs[depth, j]]] -= 1
        _remove(stack, depth, slot, group)
        depth += 1
        new = 1
    stack.state[DEPTH], stack.state[ENTERED] = depth, new
    return DONE if depth < 0 else RUNNING


@njit(cache=True, nogil=True, error_model="numpy")
def costs_in_order(W, weight, removed, enough):  # type: ignore[no-untyped-def]
    """Cost of removing the first 0, 1, ... of some inputs, shape (removals + 1,), as the enumeration has it.

    From where it reaches `enough` it is not computed further.
    """
    n, removals = len(weight), len(removed)
    rows, v, h = W[removed], weight[removed], np.empty(n)
    cost = np.zeros(removals + 1)
    for step in range(removals):
        last = n - step - 1
        length = _dot(rows, step, rows[step], last + 1)
        cost[step + 1 :] = cost[step] + v[step] ** 2 / length
        if cost[step + 1] >= enough:
            break
        pivot, beta = _mirror(rows[step], length, h, last)
        for j in range(step + 1, removals):
            t = _dot(rows, j, h, last + 1) * beta
            v[j] += (rows[j, last] - t * h[last]) * (v[step] / pivot)
            _reflect(rows, j, h, t, rows, j, last)
    return cost

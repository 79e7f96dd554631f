"""Bounds by cases: which slabs to look at, and how closely, until the time is up.

The least bound of all leaves counts. So the weakest leaf is taken, and what promises most for its time is
done to it: the next of its stages (a longer path, a search), or a cut in two where its width is what it costs.
Leaves far from the least error cost little: they are wide and keep their first bound.
"""

from __future__ import annotations

import heapq
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.problems import Problem
from pvqbounds.relaxations.cases import Case, CasesCertificate
from pvqbounds.relaxations.certificates import LeafCertificate
from pvqbounds.relaxations.slabs import Box, Cover, Slabs, whole_box
from pvqbounds.solvers.native.directions.near_null import NearNull

__all__ = ["Bounded", "LeafSolver", "branch", "slabs_of"]

Array = NDArray[np.float64]

CURVATURE = 2.0
"""rho at most, as a multiple of the least eigenvalue of the other directions."""

EXPECTED = 0.4
"""What bounds are expected to be, as a share of the least error known, before there is one."""

FIRST_WIDTH = 0.012
"""What the width of the first slab may cost, as a share of the least error known."""

MARGIN, SPENT, WIDEST = 1.15, 0.6, 4.0
"""What the next slab may cost of what the last one has beyond so many times the weakest bound; how much wider
than the last one it may be."""

FAR, REACH = 1.6, 5.0
"""From where a bound is so many times the weakest one, a slab ends so many times as far out as it begins."""

HALVINGS = 16
"""Values of rho that are compared, each half the one before."""

TOO_WIDE = 0.06
"""A leaf is cut where its width costs more than this share of its bound."""

MOST_FIRST, MOST_LEAVES = 60, 300
"""Leaves that a cover begins with, and ends with, at most."""

UNREACHED = 1.02
"""A slab beyond which every error is so many times the least one known needs no more than a push."""


@dataclass(frozen=True, eq=False)
class Bounded:
    """What a stage made of a leaf."""

    proof: LeafCertificate
    value: float
    """Its bound, about: what it proves is found at the end."""


class LeafSolver(ABC):
    """What bounds one kind of problem where its weights lie in slabs."""

    stages: int
    """How many stages it has."""

    @abstractmethod
    def bound(self, slabs: Slabs, stage: int, known: Bounded | None) -> Bounded | None:
        """What a stage proves in the slabs; None where it proves no more than what is known."""

    @abstractmethod
    def seconds(self, stage: int) -> float:
        """What a stage takes, about."""

    @property
    @abstractmethod
    def error(self) -> float:
        """The least error of weights known by now."""


@dataclass(eq=False)
class _Leaf:
    box: Box
    slabs: Slabs
    known: Bounded | None = None
    stage: int = 0
    """The next one."""
    cut: tuple[int, float, _Leaf, _Leaf] | None = field(default=None)
    """Axis, place and parts, once it is cut."""

    @property
    def value(self) -> float:
        return math.inf if self.box.is_empty else -math.inf if self.known is None else self.known.value

    @property
    def least(self) -> float:
        """The least bound of its parts, or its own where that is as good."""
        if self.cut is None:
            return self.value
        return max(self.value, min(self.cut[2].least, self.cut[3].least))

    @property
    def is_whole(self) -> bool:
        """Whether its parts, if any, say no more than itself: the clock may have ended them early."""
        return self.cut is None or self.value >= min(self.cut[2].least, self.cut[3].least)

    @property
    def penalty(self) -> float:
        """What its width may cost."""
        chord, _ = self.slabs.steady
        return float((chord * np.where(chord > 0.0, self.box.half_width, 0.0) ** 2).sum())


@dataclass
class _Shape:
    """What is known about the least error at t, about: base + bend (t - centre)², no less than at the centre."""

    near: NearNull
    centre: Array
    """t of good weights, shape (m,)."""
    base: float
    bend: float = 0.0

    @property
    def full(self) -> float:
        """The most that rho is."""
        return CURVATURE * self.near.next

    def learn(self, leaf: _Leaf) -> None:
        """Take a bounded leaf into account."""
        held = leaf.value + leaf.penalty
        distance = abs(float(leaf.box.middle[0] - self.centre[0]))
        self.base = min(self.base, held)
        if distance > 0.0:
            self.bend = max(held - self.base, 0.0) / distance**2

    def slabs(self, box: Box) -> Slabs:
        """The slabs of a box with the multipliers that promise most.

        Where one end is missing, the push is what is best without any other limit on d: dᵀGd >= power t².
        """
        chord = np.array([self._chord(box, axis) for axis in range(len(self.centre))])
        nearest = np.where(box.low > 0.0, box.low, np.where(box.high < 0.0, box.high, 0.0))
        push = np.where(box.is_bounded, 0.0, self.near.power * nearest)
        return Slabs(self.near.direction, box, chord, push)

    def _chord(self, box: Box, axis: int) -> float:
        """rho: of a few, so that matrices are shared."""
        if not box.is_bounded[axis]:
            return 0.0
        rho = self.full * 0.5 ** np.arange(HALVINGS)
        low, high = float(box.low[axis] - self.centre[axis]), float(box.high[axis] - self.centre[axis])
        inside = (
            0.5 * rho * (low + high) / (self.bend + rho)
        )  # where bend t² - rho (t - low)(high - t) is least
        inside = np.clip(inside, low, high)
        gained = self.bend * inside**2 - rho * (inside - low) * (high - inside)
        promise = self.base * np.sqrt(rho / self.full) + gained
        return float(rho[np.argmax(promise)])


def branch(
    problem: Problem, near: NearNull, solver: LeafSolver, at: Array, clock: Clock
) -> CasesCertificate | None:
    """Cover t and bound its leaves until the clock runs out or nothing is left to do.

    Parameters
    ----------
    problem
        In units near 1, without dead inputs.
    at
        t of good weights, shape (m,).

    Returns
    -------
    A certificate that states nothing yet; None where some t has no bound at all.
    """
    whole = whole_box(problem, near.direction)
    shape = _Shape(near, at, EXPECTED * solver.error)
    root = _Leaf(whole, shape.slabs(whole))
    leaves = _first_leaves(shape, root, solver)
    heap = [(leaf.value, number, leaf) for number, leaf in enumerate(leaves)]
    heapq.heapify(heap)
    count = len(heap)
    while heap and not clock.expired:
        value, _, leaf = heap[0]
        if value >= solver.error or (leaf.stage >= solver.stages and not _is_wide(leaf, count)):
            break
        heapq.heappop(heap)
        if _is_wide(leaf, count):
            parts = _cut(shape, leaf, solver)
        elif solver.seconds(leaf.stage) > clock.remaining:
            break
        else:
            parts = (leaf,)
            _advance(leaf, solver)
        for part in parts:
            count += 1
            heapq.heappush(heap, (part.value, count, part))
    return _certificate(near, root)


def _is_wide(leaf: _Leaf, count: int) -> bool:
    return count < MOST_LEAVES and leaf.value > 0.0 and leaf.penalty > TOO_WIDE * leaf.value


def _advance(leaf: _Leaf, solver: LeafSolver) -> None:
    """The next stage of a leaf."""
    if leaf.box.is_empty:
        return
    found = solver.bound(leaf.slabs, leaf.stage, leaf.known)
    leaf.stage += 1
    if found is not None and found.value > leaf.value:
        leaf.known = found


def _cut(shape: _Shape, leaf: _Leaf, solver: LeafSolver) -> tuple[_Leaf, _Leaf]:
    """Two parts of a leaf, each as far as it was itself; a part without a bound of its own keeps the whole's."""
    chord, _ = leaf.slabs.steady
    axis = int(np.argmax(chord * np.where(chord > 0.0, leaf.box.half_width, 0.0) ** 2))
    parts = _divided(shape, leaf, axis, _middle(leaf.box, axis, float(shape.centre[axis])))
    for part in parts:
        while part.stage < max(1, leaf.stage):
            _advance(part, solver)
    return parts


def _middle(box: Box, axis: int, centre: float) -> float:
    """Where to cut: half-way, in distances from the centre by their ratio where the box does not hold it."""
    low, high = float(box.low[axis]) - centre, float(box.high[axis]) - centre
    if low * high <= 0.0:
        return float(box.middle[axis])
    return centre + math.copysign(math.sqrt(low * high), low)


def _divided(shape: _Shape, leaf: _Leaf, axis: int, at: float) -> tuple[_Leaf, _Leaf]:
    low, high = (_Leaf(box, shape.slabs(box)) for box in leaf.box.cut(axis, at))
    leaf.cut = axis, at, low, high
    return low, high


def _first_leaves(shape: _Shape, root: _Leaf, solver: LeafSolver) -> list[_Leaf]:
    """Slabs from where good weights lie outwards, the wider the more they cost, to where t ends."""
    power, centre, leaves = float(shape.near.power[0]), float(shape.centre[0]), []
    reach = math.sqrt(UNREACHED * solver.error / power) if power > 0.0 else math.inf
    width = 2.0 * math.sqrt(FIRST_WIDTH * solver.error / shape.full)
    low, rest = _divided(shape, root, 0, centre - 0.5 * width)
    inner, high = _divided(shape, rest, 0, centre + 0.5 * width)
    _advance(inner, solver)
    leaves.append(inner)
    shape.base = weakest = inner.value if inner.value > 0.0 else shape.base
    for outer, sign in ((high, 1.0), (low, -1.0)):
        here, last, step, distance = outer, inner, width, 0.5 * width
        shape.bend = 0.0
        end = sign * float(outer.box.high[0] if sign > 0.0 else outer.box.low[0])
        while True:
            if last.value > FAR * weakest:
                step = (REACH - 1.0) * distance
            else:
                spare = max(last.value + last.penalty - MARGIN * weakest, 0.0)
                step = min(max(width, 2.0 * math.sqrt(SPENT * spare / shape.full)), WIDEST * step)
            distance += step
            edge = sign * centre + distance
            if edge >= min(end, reach) or len(leaves) >= MOST_FIRST:
                beyond = here
                if reach < end and len(leaves) < MOST_FIRST:  # what lies beyond needs a push alone
                    below, above = _divided(shape, here, 0, sign * reach)
                    last, beyond = (below, above) if sign > 0.0 else (above, below)
                    _advance(last, solver)
                    leaves.append(last)
                _advance(beyond, solver)
                leaves.append(beyond)
                break
            below, above = _divided(shape, here, 0, sign * edge)
            last, here = (below, above) if sign > 0.0 else (above, below)
            _advance(last, solver)
            leaves.append(last)
            weakest = min(weakest, last.value)
            shape.learn(last)
    return leaves


def _certificate(near: NearNull, root: _Leaf) -> CasesCertificate | None:
    axis: list[int] = []
    cuts: list[float] = []
    cases: list[Case] = []
    for leaf in _preorder(root):
        if not leaf.is_whole and leaf.cut is not None:
            axis.append(leaf.cut[0])
            cuts.append(leaf.cut[1])
            continue
        if leaf.known is None:
            return None
        axis.append(-1)
        cuts.append(0.0)
        chord, push = leaf.slabs.steady
        cases.append(Case(chord, push, leaf.known.proof))
    cover = Cover(near.direction, np.array(axis, np.int64), np.array(cuts))
    return CasesCertificate(cover, tuple(cases), 0.0)


def _preorder(root: _Leaf) -> Iterator[_Leaf]:
    stack = [root]
    while stack:
        leaf = stack.pop()
        yield leaf
        if leaf.cut is not None and not leaf.is_whole:
            stack += [leaf.cut[3], leaf.cut[2]]

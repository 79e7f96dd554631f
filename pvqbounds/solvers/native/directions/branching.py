"""Bounds by cases: which slabs to look at, and how closely, until the time is up.

The least bound of all leaves counts. So the weakest leaf is taken, and what promises most for its time is
done to it: the next of its stages (a longer path, a search), or a cut in two where its width is what costs.
Leaves far from the least error cost little: they are wide and keep their first bound.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.problems import Problem
from pvqbounds.relaxations.cases import Case, CasesCertificate
from pvqbounds.relaxations.certificates import LeafCertificate
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.relaxations.slabs import Box, Cover, Slabs, whole_box
from pvqbounds.results.history import Moment
from pvqbounds.solvers.native.directions.near_null import NearNull

__all__ = ["Bounded", "Ceiling", "LeafSolver", "branch"]

Array = NDArray[np.float64]

CURVATURE = 2.0
"""rho at most, as a multiple of the least eigenvalue of the other directions."""

EXPECTED = 0.4
"""What bounds are expected to be, as a share of the least error known, before there is one."""

FIRST_WIDTH = 0.012
"""What the width of the first slab may cost, as a share of the least error known."""

NEXT_WIDTH = 0.03
"""What the width of the next ones may cost, as a share of the first bound."""

MARGIN, SPENT, WIDEST = 1.15, 0.6, 4.0
"""What the next slab may cost of what the last one has beyond so many times the weakest bound; how much wider
than the last one it may be."""

FAR, REACH = 1.6, 5.0
"""From where a bound is so many times the weakest one, a slab ends so many times as far out as it begins."""

NEARLY = 1.7
"""A slab goes to the end of t where another one would be narrower than this less 1, in its own width."""

HALVINGS = 16
"""Values of rho that are compared, each half the one before."""

TOO_WIDE = 0.06
"""A leaf is cut where its width costs more than this share of its bound."""

LEAST_WANTED = 0.1
"""Share of the price of all weights, and of what is spent, that counts where a bound at a price is less."""

MOST_FIRST, MOST_LAST = 60, 300
"""Leaves that a cover begins with, and ends with, at most."""

RISEN = 1.01
"""A bound that rose by so much is taken down."""

UNREACHED = 1.02
"""Where t has no ends it is cut where every error is so many times the least one known: a push proves it."""


@dataclass(frozen=True, eq=False)
class Bounded:
    """What a stage made of a leaf."""

    proof: LeafCertificate
    value: float
    """Its bound, about: what it proves is found at the end."""


class Ceiling(NamedTuple):
    """Where kept weights have a price, bounds far from good weights do not grow: all are kept there.

    At a distance t and with rho, a relaxation is about most (2x - x²), x = t sqrt(rho / most) <= 1, less what
    the width of the slab costs.
    """

    most: float
    """The price of all weights."""
    spent: float
    """What of it bounds do not count."""

    def chord(self, near: float, half_width: float) -> float:
        """The best rho of a slab that begins at a distance near > 0."""
        x = 1.0 / (1.0 + (half_width / near) ** 2)
        return self.most * (x / near) ** 2

    def half_width(self, near: float, value: float) -> float:
        """How wide a slab may be that begins at this distance, for a bound of this value."""
        wanted = max(self.spent + value, LEAST_WANTED * self.most)
        return near * math.sqrt(max(self.most / wanted - 1.0, 0.0))


class LeafSolver(ABC):
    """What bounds one kind of problem where its weights lie in slabs."""

    @property
    @abstractmethod
    def stages(self) -> int:
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

    @property
    def beyond(self) -> float:
        """What E has to be for no weights of less than the least error known to be there."""
        return self.error

    @property
    def ceiling(self) -> Ceiling | None:
        """What bounds do not exceed far from good weights; None where they grow as t² does."""
        return None


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
    def is_uncut(self) -> bool:
        """Whether its parts, if any, say no more than itself: the clock may have ended them early."""
        return self.cut is None or self.value >= min(self.cut[2].least, self.cut[3].least)

    @property
    def penalty(self) -> float:
        """What its width may cost."""
        chord, _ = self.slabs.effective
        return float((chord * np.where(chord > 0.0, self.box.half_width, 0.0) ** 2).sum())


@dataclass
class _Shape:
    """What the least error at t is expected to be: base + bend (t - centre)²."""

    near: NearNull
    centre: Array
    """t of good weights, shape (m,)."""
    base: float
    ceiling: Ceiling | None
    bend: float = 0.0

    @property
    def full(self) -> float:
        """The most that rho is."""
        return CURVATURE * self.near.next

    @property
    def whole(self) -> float:
        """The base with what is spent on kept weights, where they have a price."""
        return self.base if self.ceiling is None else self.base + self.ceiling.spent

    def learn(self, leaf: _Leaf) -> None:
        """Take a bounded leaf into account."""
        held = leaf.value + leaf.penalty
        distance = abs(float(leaf.box.middle[0] - self.centre[0]))
        self.base = min(self.base, held)
        if distance > 0.0:
            self.bend = max(held - self.base, 0.0) / distance**2

    def slabs(self, box: Box) -> Slabs:
        """The slabs of a box with the multipliers that promise most.

        Where an end is missing, a push alone is best, without any other limit on d: dᵀGd >= power t².
        """
        if box.is_bounded.all():
            chord = np.array([self._chord(box, axis) for axis in range(len(self.centre))])
            return Slabs(self.near.direction, box, chord, np.zeros_like(chord))
        nearest = np.where(box.low > 0.0, box.low, np.where(box.high < 0.0, box.high, 0.0))
        push = np.where(box.is_bounded, 0.0, self.near.power * nearest)
        return Slabs(self.near.direction, box, np.zeros_like(push), push)

    def far(self, distance: float, value: float) -> float | None:
        """How wide a slab may be from this distance outwards, where there is a ceiling that tells."""
        if self.ceiling is None or not distance > 0.0:
            return None
        half = self.ceiling.half_width(distance, value)
        return 2.0 * half if self.ceiling.chord(distance, half) < self.full else None

    def _chord(self, box: Box, axis: int) -> float:
        """rho: of a few, so that matrices are shared."""
        rho = self.full * 0.5 ** np.arange(HALVINGS)
        low, high = float(box.low[axis] - self.centre[axis]), float(box.high[axis] - self.centre[axis])
        if self.ceiling is not None and low * high > 0.0:
            best = self.ceiling.chord(min(abs(low), abs(high)), 0.5 * (high - low))
            if best < self.full:
                return float(rho[np.argmin(np.abs(np.log(rho / max(best, 1e-300))))])
        # where bend t² - rho (t - low)(high - t) is least
        inside = np.clip(0.5 * rho * (low + high) / (self.bend + rho), low, high)
        gained = self.bend * inside**2 - rho * (inside - low) * (high - inside)
        promise = self.whole * np.sqrt(rho / self.full) + gained
        return float(rho[np.argmax(promise)])


@dataclass(eq=False)
class _Branching:
    """A cover in the making."""

    shape: _Shape
    solver: LeafSolver
    clock: Clock
    allowed: float
    """Seconds that its stages may be expected to take in all."""
    leaves: list[_Leaf] = field(default_factory=list)
    weakest: float = math.inf
    history: list[Moment] = field(default_factory=list)
    """How the least of the bounds rose."""

    def record(self, least: float) -> None:
        """Take down the least bound of all leaves where it rose."""
        if least > 0.0 and (not self.history or least > RISEN * self.history[-1].error_lower):
            self.history.append(Moment(time.perf_counter(), 0, least, self.solver.error))

    def affords(self, stage: int) -> bool:
        """Whether there is time for a stage."""
        return self.solver.seconds(stage) <= min(self.allowed, self.clock.remaining)

    def advance(self, leaf: _Leaf) -> None:
        """The next stage of a leaf."""
        if leaf.box.is_empty:
            return
        found = self.solver.bound(leaf.slabs, leaf.stage, leaf.known)
        self.allowed -= self.solver.seconds(leaf.stage)
        leaf.stage += 1
        if found is not None and found.value > leaf.value:
            leaf.known = found

    def begin(self, leaf: _Leaf) -> None:
        """The first stage of a new leaf."""
        self.advance(leaf)
        self.leaves.append(leaf)
        self.weakest = min(self.weakest, leaf.value)

    def divided(self, leaf: _Leaf, axis: int, at: float) -> tuple[_Leaf, _Leaf]:
        """The parts of a leaf below and above a cut."""
        low, high = (_Leaf(box, self.shape.slabs(box)) for box in leaf.box.cut(axis, at))
        leaf.cut = axis, at, low, high
        return low, high

    def within_reach(self, root: _Leaf) -> _Leaf | None:
        """The part of all t that has ends: beyond them a push alone proves more than the least error known.

        None where it does not, as a direction without power has weights of that error at every t.
        """
        here, near = root, self.shape.near
        for axis in np.flatnonzero(~root.box.is_bounded).tolist():
            power = float(near.power[axis])
            if not power > 0.0:
                return None
            reach = math.sqrt(UNREACHED * self.solver.beyond / power)
            low, rest = self.divided(here, axis, -reach)
            here, high = self.divided(rest, axis, reach)
            for far in (low, high):
                self.begin(far)
                far.stage = self.solver.stages  # no other stage says more
                if far.value < self.shape.base:
                    return None
        return here

    def cover(self, here: _Leaf) -> None:
        """Slabs from where good weights lie outwards, the wider the more they cost, to where t ends."""
        shape, centre = self.shape, float(self.shape.centre[0])
        width = 2.0 * math.sqrt(FIRST_WIDTH * self.solver.error / shape.full)
        low, rest = self.divided(here, 0, centre - 0.5 * width)
        inner, high = self.divided(rest, 0, centre + 0.5 * width)
        self.begin(inner)
        shape.base = min(shape.base, inner.value + inner.penalty) if inner.value > 0.0 else shape.base
        width = min(width, 2.0 * math.sqrt(NEXT_WIDTH * shape.base / shape.full))
        for outer, sign in ((high, 1.0), (low, -1.0)):
            shape.bend = 0.0
            self._outwards(outer, sign, inner, width)

    def _outwards(self, here: _Leaf, sign: float, last: _Leaf, width: float) -> None:
        """Slabs on one side of the first, to where t ends."""
        centre = sign * float(self.shape.centre[0])
        end = sign * float(here.box.high[0] if sign > 0.0 else here.box.low[0])
        distance, step = abs(0.5 * (last.box.high[0] - last.box.low[0])), width
        while len(self.leaves) < MOST_FIRST and not self.clock.expired:
            far = self.shape.far(distance, _times(MARGIN, self.weakest))
            if far is not None:
                step = max(width, far)
            elif last.value > _times(FAR, self.weakest):
                step = (REACH - 1.0) * distance
            else:
                spare = max(last.value + last.penalty - _times(MARGIN, self.weakest), 0.0)
                step = min(max(width, 2.0 * math.sqrt(SPENT * spare / self.shape.full)), WIDEST * step)
            if centre + distance + NEARLY * step >= end:
                break
            distance += step
            last, here = self._parted(here, sign, centre + distance)
            self.begin(last)
            self.shape.learn(last)
        self.begin(here)

    def _parted(self, leaf: _Leaf, sign: float, at: float) -> tuple[_Leaf, _Leaf]:
        """The parts of a leaf nearer than a distance along one side, and farther."""
        below, above = self.divided(leaf, 0, sign * at)
        return (below, above) if sign > 0.0 else (above, below)

    def tighten(self) -> None:
        """Do what promises most to the weakest leaf, again and again."""
        order = itertools.count()
        heap = [(leaf.value, next(order), leaf) for leaf in self.leaves]
        heapq.heapify(heap)
        while heap and not self.clock.expired:
            value, _, leaf = heap[0]
            self.record(value)
            wide = len(heap) < MOST_LAST and self._is_wide(leaf)
            if value >= self.solver.error or not (wide or leaf.stage < self.solver.stages):
                break
            if not self.affords(0 if wide else leaf.stage):
                break
            heapq.heappop(heap)
            if wide:
                parts: tuple[_Leaf, ...] = self._cut(leaf)
            else:
                parts = (leaf,)
                self.advance(leaf)
            for part in parts:
                heapq.heappush(heap, (part.value, next(order), part))

    def _is_wide(self, leaf: _Leaf) -> bool:
        """Whether a leaf's width costs so much of its bound that its parts are worth their time.

        What counts is what all curvature would cost: a wide leaf has less of it.
        """
        cost = self.shape.full * float(_widths(leaf.box).max()) ** 2
        return cost > TOO_WIDE * max(leaf.value, self.shape.base, LEAST_WANTED * self.shape.whole)

    def _cut(self, leaf: _Leaf) -> tuple[_Leaf, _Leaf]:
        """Two parts of a leaf, each with its first stage."""
        axis = int(np.argmax(_widths(leaf.box)))
        parts = self.divided(leaf, axis, _middle(leaf.box, axis, float(self.shape.centre[axis])))
        for part in parts:
            self.advance(part)
        return parts


def branch(
    problem: Problem,
    near: NearNull,
    solver: LeafSolver,
    at: Array,
    allowed: float,
    clock: Clock,
    told: list[Moment] | None = None,
) -> CasesCertificate | None:
    """Cover t and bound its leaves until the time is up or nothing is left to do.

    Parameters
    ----------
    problem
        In units near 1, without dead inputs.
    at
        t of good weights, shape (m,).
    allowed
        Seconds that the stages may be expected to take in all, beside the clock: the same work on every
        machine.
    told
        Takes in how the bound rose.

    Returns
    -------
    A certificate that states about what it proves; None where some t has no bound at all.
    """
    whole = whole_box(problem, near.direction)
    shape = _Shape(near, at, EXPECTED * solver.error, solver.ceiling)
    root = _Leaf(whole, shape.slabs(whole))
    branching = _Branching(shape, solver, clock, allowed)
    here = branching.within_reach(root)
    if here is None:
        return None
    branching.cover(here)
    branching.tighten()
    if told is not None:
        told.extend(branching.history)
    return _certificate(near, root)


def _times(factor: float, bound: float) -> float:
    """A bound that is so many times better, whatever its sign."""
    return bound + (factor - 1.0) * abs(bound)


def _widths(box: Box) -> Array:
    """Half the width of the slabs that have both ends, 0 of the others, shape (m,)."""
    return np.where(box.is_bounded, box.half_width, 0.0)


def _middle(box: Box, axis: int, centre: float) -> float:
    """Where to cut: half-way, in distances from the centre by their ratio where the box does not hold it."""
    low, high = float(box.low[axis]) - centre, float(box.high[axis]) - centre
    if low * high <= 0.0:
        return float(box.middle[axis])
    return centre + math.copysign(math.sqrt(low * high), low)


def _certificate(near: NearNull, root: _Leaf) -> CasesCertificate | None:
    axis: list[int] = []
    cuts: list[float] = []
    cases: list[Case] = []
    nothing = DualCertificate(np.zeros(near.direction.shape[1]), np.zeros(near.direction.shape[1]))
    for leaf in _preorder(root):
        if not leaf.is_uncut and leaf.cut is not None:
            axis.append(leaf.cut[0])
            cuts.append(leaf.cut[1])
            continue
        if leaf.known is None and not leaf.box.is_empty:
            return None
        axis.append(-1)
        cuts.append(0.0)
        chord, push = leaf.slabs.effective
        cases.append(Case(chord, push, nothing if leaf.known is None else leaf.known.proof))
    cover = Cover(near.direction, np.array(axis, np.int64), np.array(cuts))
    return CasesCertificate(cover, tuple(cases), root.least)


def _preorder(root: _Leaf) -> Iterator[_Leaf]:
    stack = [root]
    while stack:
        leaf = stack.pop()
        yield leaf
        if leaf.cut is not None and not leaf.is_uncut:
            stack += [leaf.cut[3], leaf.cut[2]]

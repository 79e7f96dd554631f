"""The path of the split dual (:mod:`.split_dual`) for many channels in step with one another, on PyTorch.

What is computed from matrices is done on the device: factors, inverses, slopes and steps for all channels at
once, the search for violated sums for one after the other. Which inequalities a channel has is kept track of
on the CPU. The steps are those of the path of one channel but for the order of sums; where that tips a choice
between inequalities the two go on differently, and both are right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.problems import IntegerLeastSquares
from pvqbounds.relaxations.box_hull import box_hull
from pvqbounds.solvers.native.linalg.arrays import Arrays
from pvqbounds.solvers.native.quantization.split_dual import (
    FIRST_ORDER,
    FIRST_ORDER_END,
    LARGEST_SEARCH,
    Stage,
    closed_form,
    relaxed_of,
)
from pvqbounds.solvers.native.quantization.split_iterate import DEPTH, SPLITS_AN_INPUT, Iterate
from pvqbounds.solvers.native.quantization.split_torch import (
    Ascent,
    Matrices,
    Memory,
    TensorRows,
    climb,
    differentiate,
    evaluate,
    separate,
)
from pvqbounds.solvers.relaxation import Relaxed

__all__ = ["relax_batch"]

Array = NDArray[np.float64]


def relax_batch(
    problems: Sequence[IntegerLeastSquares], clock: Clock, stages: Sequence[Stage], arrays: Arrays
) -> list[Relaxed | None]:
    """:func:`.split_dual.relax_with_splits` of problems with equally many inputs, on a device.

    Parameters
    ----------
    clock
        Ends the paths early; what is known by then is valid and weaker.
    stages
        The path; above `LARGEST_SEARCH` inputs split inequalities are not looked for.
    arrays
        Of PyTorch.

    Returns
    -------
    None for a problem that has no path of that kind here: one without weights to choose, or whose S is not
    definite at the start, or whose inputs are not those of the others.
    """
    sdps = [box_hull(problem) for problem in problems]
    live = np.asarray(sdps[0].form.any(axis=1))
    chosen = [
        b
        for b, sdp in enumerate(sdps)
        if closed_form(sdp) is None and np.array_equal(sdp.form.any(axis=1), live)
    ]
    found: list[Relaxed | None] = [None] * len(problems)
    if not chosen:
        return found
    with_splits = sdps[0].n <= LARGEST_SEARCH
    batch = _Batch([Iterate(sdps[b], live, clock) for b in chosen], arrays)
    batch.follow(stages if with_splits else FIRST_ORDER, clock, with_splits=with_splits)
    for b, known in zip(chosen, batch.solutions(), strict=True):
        found[b] = None if known is None else relaxed_of(sdps[b], problems[b], known)
    return found


class _Batch:
    """The iterates of channels with their matrices."""

    def __init__(self, iterates: Sequence[Iterate], arrays: Arrays) -> None:
        self._iterates, self._arrays = iterates, arrays
        self.n = iterates[0].n
        self._matrices = _matrices([iterate.form for iterate in iterates], arrays)
        self._x = arrays.array(np.zeros((len(iterates), self.n)))
        self._inverse = self._matrices.form[self._matrices.which]
        self._sound = self._begun()
        """Whether a channel has a start, (B,)."""
        self._going = self._sound.copy()
        """Whether rounding has left it a way on."""

    def _begun(self) -> NDArray[np.bool_]:
        """Start at y = 0, where the inverse is that of the form."""
        factor, definite = self._arrays.cholesky(self._matrices.form + 0.0)
        factor[self._arrays.index(~definite)] = self._arrays.array(np.eye(self.n))
        inverse = self._arrays.inverse(factor)
        variance = self._arrays.numpy(inverse.diagonal(0, -2, -1))
        sound = definite & np.isfinite(variance).all(axis=1) & (variance > 0.0).all(axis=1)
        which = self._arrays.numpy(self._matrices.which)
        for b, iterate in enumerate(self._iterates):
            iterate.begin(0.0, variance[which[b]] if sound[which[b]] else np.ones(self.n))
        self._inverse = inverse[self._matrices.which]
        return np.asarray(sound[which])

    def follow(self, stages: Sequence[Stage], clock: Clock, *, with_splits: bool) -> None:
        """Run the stages until they or the clock end."""
        for iterate in self._iterates:
            iterate.end = "solved" if with_splits else FIRST_ORDER_END
        rounds = [stage for stage in stages for _ in range(stage.rounds)]
        slope: Any = None
        for done, stage in enumerate(rounds):
            if done > 0:
                # the first stage ends too far from the SDP's solution: nearly every sum fails there
                self._exchange(slope, with_splits=with_splits and rounds[done - 1] is not stages[0])
            slope = self._advance(stage, clock)
            if clock.expired:
                return

    def _advance(self, stage: Stage, clock: Clock) -> Any:
        """Climb the barriers for the steps of a stage: their slopes, (B, M)."""
        arrays, iterates = self._arrays, self._iterates
        for iterate in iterates:
            iterate.mu = stage.share * iterate.level / self.n
        mu = arrays.array(np.array([iterate.mu for iterate in iterates]))
        rows, multiplier = self._rows()
        everyone = arrays.index(np.arange(len(iterates)))
        start = evaluate(self._matrices, everyone, rows, multiplier, mu)
        self._going &= arrays.numpy(start.definite)
        active = arrays.index(
            self._going.copy()
        )  # tensors of the CPU share the memory of what they are made of
        self._inverse[active] = arrays.inverse(start.factor[active])
        self._x[active] = start.x[active]
        slope, unit = differentiate(rows, self._inverse, self._x, mu)
        units = arrays.numpy(unit)
        for iterate, own in zip(iterates, units, strict=True):
            iterate.rescale(own[: len(iterate.rows)])
        parts = (_padded([getattr(it, name).T for it in iterates], 0.0) for name in ("moves", "changes"))
        moves, changes = (arrays.array(part.swapaxes(1, 2)) for part in parts)
        count = arrays.index(np.array([iterate.count for iterate in iterates]))
        memory = Memory(moves, changes, count)
        at = Ascent(rows, mu, multiplier, start.value, start.barrier, slope, unit, active, memory)
        for _ in range(stage.steps):
            # whatever the clock says, a step away from y = 0: what it gives is a bound above zero
            at.active = at.active & (at.value <= 0.0) if clock.expired else at.active
            if not bool(at.active.any()):
                break
            climb(self._matrices, self._inverse, self._x, at)
        self._reached(at)
        return at.slope

    def _reached(self, at: Ascent) -> None:
        """Bring multipliers and what is remembered back to the iterates."""
        numpy = self._arrays.numpy
        parts = (numpy(part) for part in (at.multiplier, at.value, *at.memory))
        going = zip(self._going, self._iterates, *parts, strict=True)
        for has_way, iterate, multiplier, value, moves, changes, count in going:
            if not has_way:
                continue
            m = len(iterate.rows)
            iterate.reach(multiplier[:m].copy(), float(value))
            iterate.moves, iterate.changes = moves[:, :m].copy(), changes[:, :m].copy()
            iterate.count = int(count)

    def _rows(self) -> tuple[TensorRows, Any]:
        """The inequalities of all channels, and their multipliers."""
        rows, arrays = [iterate.rows for iterate in self._iterates], self._arrays
        index = arrays.index(_padded([own.index.astype(np.int64) for own in rows], 0))
        parts = ("sign", "offset", "weight", "limit", "multiplier")
        sign, offset, weight, limit, multiplier = (
            arrays.array(_padded([getattr(own, name) for own in rows], 0.0)) for name in parts
        )
        return TensorRows(index, sign, offset, weight, limit), multiplier

    def _exchange(self, slope: Any, *, with_splits: bool) -> None:
        """Exchange the inequalities of every channel."""
        slopes, x = self._arrays.numpy(slope), self._arrays.numpy(self._x)
        variance = self._arrays.numpy(self._inverse.diagonal(0, -2, -1))
        for b, iterate in enumerate(self._iterates):
            found = None
            if with_splits and self._going[b]:
                point = self._arrays.array(iterate.centre + x[b])
                most = SPLITS_AN_INPUT * self.n
                failing = separate(self._arrays, point, iterate.mu * self._inverse[b], DEPTH, most)
                found = iterate.local(x[b]).rows(*failing, iterate.centre)
            own = slopes[b, : len(iterate.rows)]
            iterate.exchange(x[b].copy(), iterate.mu * variance[b], own, found)

    def solutions(self) -> list[Any]:
        """Multipliers and moments of each channel; None where it had no start."""
        x, found = self._arrays.numpy(self._x), []
        for b, iterate in enumerate(self._iterates):
            covariance = iterate.mu * self._arrays.numpy(self._inverse[b])
            found.append(iterate.solution_at(x[b].copy(), covariance) if self._sound[b] else None)
        return found


def _matrices(forms: Sequence[Array], arrays: Arrays) -> Matrices:
    """Forms on the device, equal ones once."""
    numbers: dict[bytes, int] = {}
    which = [numbers.setdefault(form.tobytes(), len(numbers)) for form in forms]
    different = [forms[which.index(number)] for number in range(len(numbers))]
    return Matrices(arrays, arrays.array(np.stack(different)), arrays.index(np.array(which)))


def _padded(parts: Sequence[NDArray[Any]], fill: float) -> NDArray[Any]:
    """Arrays of different lengths in one, (B, the longest, ...)."""
    longest = max(len(part) for part in parts)
    whole = np.full((len(parts), longest, *parts[0].shape[1:]), fill, dtype=parts[0].dtype)
    for row, part in zip(whole, parts, strict=True):
        row[: len(part)] = part
    return whole

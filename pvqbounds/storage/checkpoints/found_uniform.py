"""The uniform grid of dequantized weights whose blocks have steps, and what of it nobody can see.

Codes have the fewest bits that hold those of every block, or those of a format that is named. What nobody can
see of a block that uses few codes is left open: where its codes, doubled or trebled, are codes of so many
bits too, its step may have been a half or a third; where boxes are not symmetric its zero point is any that
holds its codes. Such a block has the values of all steps and zero points that are possible, so that the bound
holds for whichever it was. In 16 bits few codes may be those of another step too (19 and 20 of one step, 17
and 18 of another): such steps count among the possible ones. What is presumed nevertheless is said
(:attr:`FoundGrid.presumed`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.formats.number_types import NumberType
from pvqbounds.problems.formats.rules import ValueRule
from pvqbounds.storage.checkpoints.found_off import MORE_BITS, one_off
from pvqbounds.storage.checkpoints.found_steps import LARGEST_BITS, Fitted, hides_steps, magnitudes, steps_of
from pvqbounds.storage.checkpoints.found_unseen import has_16_bits, of_roundings, of_scale, stored_between
from pvqbounds.storage.checkpoints.grids import FoundGrid, Grid, LevelGrid, StepGrid
from pvqbounds.storage.checkpoints.pack_quantized import grid_name

__all__ = ["holds", "least_width", "on_steps"]

Array = NDArray[np.float64]

FEW_BLOCKS = 0.1
"""At most such a part of the blocks needs more bits than others where a weight is held to be off."""

MOST_CODES = 2**14
"""Codes of a block at most, where its step may be many parts of what is seen."""


@dataclass(frozen=True)
class _Width:
    """How many codes a block has, and how they lie about 0."""

    bits: int
    asymmetric: bool

    def holds(self, low: NDArray[np.int64], high: NDArray[np.int64]) -> bool:
        """Whether the codes of every block are some of them."""
        return bool((self.times(low, high) > 0).all())

    def times(self, low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.int64]:
        """By how much the codes of blocks can be multiplied at most; 1 where all are 0."""
        least, most, half = -np.minimum(low, 0), np.maximum(high, 0), 1 << (self.bits - 1)
        if self.asymmetric:
            found = (2 * half - 1) // np.maximum(least + most, 1)
        else:
            found = np.minimum(half // np.maximum(least, 1), (half - 1) // np.maximum(most, 1))
            found = np.where(most == 0, half // np.maximum(least, 1), found)
        return np.where(least + most == 0, 1, found)

    def ends(
        self, low: NDArray[np.int64], high: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The box of each block; of all zero points that it can have had."""
        half, top = 1 << (self.bits - 1), (1 << self.bits) - 1
        if self.asymmetric:
            return np.maximum(high - top, -top), np.minimum(low + top, top)
        return np.full(len(low), -half), np.full(len(low), half - 1)


WIDTHS = tuple(
    _Width(bits, asymmetric) for bits in range(2, LARGEST_BITS + 1) for asymmetric in (False, True)
)
"""The fewest bits first."""


def least_width(fitted: Fitted) -> _Width | None:
    """The fewest bits that hold the codes of all blocks, without zero points where that does; if any do."""
    low, high = fitted.codes.min(axis=1), fitted.codes.max(axis=1)
    return next((width for width in WIDTHS if width.holds(low, high)), None)


def holds(rule: ValueRule, fitted: Fitted) -> bool:
    """Whether blocks with such steps may be those of a format."""
    if not rule.has_steps or rule.code_bits > LARGEST_BITS or fitted.codes.shape[1] % (rule.group or 1):
        return False
    return _named(rule).holds(fitted.codes.min(axis=1), fitted.codes.max(axis=1))


def _named(rule: ValueRule) -> _Width:
    """That of a format with steps."""
    return _Width(rule.code_bits, "asym" in rule.name.split(":"))


def _width(fitted: Fitted, rules: Sequence[ValueRule]) -> _Width:
    """That of a format that is named and holds the codes, else the least that does."""
    least = least_width(fitted)
    assert least is not None
    fitting = [_named(rule) for rule in rules if holds(rule, fitted)]
    return min(fitting, key=lambda width: (width.bits, width != least), default=least)


def on_steps(weight: Array, fitted: Fitted, kind: NumberType, rules: Sequence[ValueRule]) -> FoundGrid:
    """The grid of steps that were found, its codes in the fewest bits that hold them, or in those named."""
    low, high = fitted.codes.min(axis=1), fitted.codes.max(axis=1)
    width, size = _width(fitted, rules), fitted.codes.shape[1]
    shape, blocks = (weight.shape[0], weight.shape[1]), len(low)
    scales = (1,) if blocks == 1 else (shape[0], blocks // shape[0])
    name = grid_name(width.bits, shape, scales, asymmetric=width.asymmetric)
    empty = (low == 0) & (high == 0)
    times = np.where(empty, 1, width.times(low, high))
    ends = width.ends(low, high)
    rounded = has_16_bits(kind)
    steps = _possible_steps(weight.reshape(blocks, size), fitted.step, times, width, kind)
    count = np.array([len(own) for own in steps])
    hidden = (count * (ends[1] - ends[0] + 1) > MOST_CODES) | (count == 0)
    open_ones = ((count > 1) & ~hidden) | (~empty & (ends[1] - ends[0] >= 1 << width.bits))
    block = (np.arange(weight.size) // size).reshape(weight.shape)
    box = np.where(empty, 0, ends[0]), np.where(empty, 0, ends[1])
    parts = _parts(np.where(hidden, 1, times))
    if rounded or (parts << width.bits > MOST_CODES).any():
        table = [fitted.step[i : i + 1] if hidden[i] else own for i, own in enumerate(steps)]
        on_it = weight if rounded else fitted.step[:, None] * fitted.codes
        grid: Grid = LevelGrid(block, _decoder(on_it.reshape(blocks, size), table, *box, kind))
    else:
        grid, on_it = _exact(block, fitted, box, parts)
    notes = (
        "The grid is found from the weights: no file says it.",
        *_of_wide_blocks(weight, kind, low, high, size),
    )
    return FoundGrid(
        name=name,
        grid=grid,
        weight=on_it.reshape(weight.shape),
        bits=width.bits,
        scales=blocks,
        presumed=_presumed(
            name,
            blocks,
            (int(open_ones.sum()), int(hidden.sum()), int(empty.sum())),
            of_roundings(weight, kind),
            rounded=rounded,
        ),
        mixed=tuple(np.flatnonzero(open_ones[block].any(axis=1)).tolist()),
        notes=(*notes, *_beside(name, rules, width, size)),
    )


def _presumed(
    name: str, blocks: int, unseen: tuple[int, int, int], roundings: Sequence[str], *, rounded: bool
) -> str:
    """What a bound on a grid that was found holds for.

    Parameters
    ----------
    unseen
        How many blocks have all values that are possible; may have a step too far below what is seen for
        that; and are all 0.
    roundings
        What is said of how often weights were rounded.
    rounded
        Whether the file has rounded multiples to 16 bits, which leaves open what exactly those are that no
        weight has.
    """
    open_ones, hidden, empty = unseen
    told = [f"presumes {name}, found from the weights", *roundings]
    if hidden:
        other = " or another" * rounded
        told.append(
            f"in {hidden} of {blocks} blocks the step that is seen, which may have been a part of it{other}"
        )
    if empty:
        told.append(f"in {empty} of {blocks} blocks, whose weights are all 0, nothing else")
    if open_ones:
        told.append(
            f"in {open_ones} of {blocks} blocks, which use few codes, it holds for every step and zero point "
            "that they can have had; what was found in their channels, which may mix them, is not counted as "
            "reached"
        )
    return "; ".join(told)


def _beside(name: str, rules: Sequence[ValueRule], width: _Width, size: int) -> list[str]:
    """Say where no format that is asked for beside the weights is theirs."""
    fitting = any(
        rule.has_steps and _named(rule) == width and (rule.group is None or size % rule.group == 0)
        for rule in rules
    )
    if fitting or not rules:
        return []
    named = " or ".join(dict.fromkeys(rule.name for rule in rules))
    return [f"The weights are off {named}, asked for beside them: the grid that they lie on is {name}."]


def _parts(times: NDArray[np.int64]) -> NDArray[np.int64]:
    """The fewest equal parts of each step that hold its half, its third and so on, up to one of so many."""
    known = [math.lcm(*range(1, most + 1)) for most in range(17)]
    return np.array([*known, MOST_CODES])[np.minimum(times, len(known))]


def _of_wide_blocks(
    weight: Array, kind: NumberType, low: NDArray[np.int64], high: NDArray[np.int64], size: int
) -> list[str]:
    """Say where few blocks need many more bits than others: a weight off its grid leads to small steps."""
    needed = np.ceil(np.log2(np.maximum(high, 0) - np.minimum(low, 0) + 1.0))
    usual = float(np.median(needed))
    wide = np.flatnonzero(needed >= usual + MORE_BITS)
    if not 0 < len(wide) <= FEW_BLOCKS * len(low):
        return []
    inputs, start = weight.shape[1], int(wide[0]) * size
    channel, first = divmod(start, inputs)
    found = one_off(weight.ravel()[start : start + size], kind, int(usual))
    off = "is a weight there off its grid?"
    if found is not None:
        off = f"{replace(found, place=start + found.place).text(inputs)}."
    return [
        f"In {len(wide)} of {len(low)} blocks the weights need up to {needed.max():.0f} bits, in most others "
        f"{usual:.0f}; the first is that of input {first} of output channel {channel}: {off} All blocks have "
        "the codes of the widest, so that the bound says less."
    ]


def _exact(
    block: NDArray[np.int64],
    fitted: Fitted,
    ends: tuple[NDArray[np.int64], NDArray[np.int64]],
    parts: NDArray[np.int64],
) -> tuple[Grid, Array]:
    """Exact multiples, and weights on them, where the file rounds to 32 bits or more.

    Parameters
    ----------
    parts
        Into how many the step of each block is cut, so that all values of the steps that it may have had are
        there.
    """
    low, high = ends
    step = fitted.step / parts
    codes = parts[:, None] * fitted.codes
    return StepGrid.of(block, step, parts * low, parts * high), step[:, None] * codes


def _possible_steps(
    blocks: Array,
    seen: Array,
    times: NDArray[np.int64],
    width: _Width,
    kind: NumberType,
) -> list[Array]:
    """Every step that each block may have had, that which is seen first; none where rounding hides some.

    Parameters
    ----------
    seen
        The coarsest step of each block.
    times
        Into how many parts it may have been cut.
    """
    found = [step / np.arange(1, most + 1) for step, most in zip(seen, times, strict=True)]
    if not has_16_bits(kind):
        return found
    # steps that are no parts of it may have the same weights
    largest = (1 << width.bits) - 1 if width.asymmetric else 1 << (width.bits - 1)
    sizes = magnitudes(blocks)
    least, most = sizes[:, 0], sizes[:, -1]
    # of the others no other step leaves codes that are few enough
    doubtful = np.flatnonzero((most > 0.0) & (largest * least >= (np.rint(least / seen) + 0.5) * most))
    hidden = hides_steps(sizes[doubtful], largest, kind)
    for place in doubtful[hidden]:
        found[place] = found[place][:0]
    doubtful = doubtful[~hidden]
    others: dict[int, list[float]] = {}
    for places, steps in steps_of(sizes[doubtful], kind, largest):
        own = doubtful[places]
        low, high = (np.rint(end(blocks[own], axis=1) / steps).astype(np.int64) for end in (np.min, np.max))
        cut = np.rint(seen[own] / steps)  # the one part of the step seen that may have the same codes
        alike = np.rint(sizes[own] / steps[:, None]) == np.rint(sizes[own] / (seen[own] / cut)[:, None])
        new = (width.times(low, high) > 0) & ~(alike.all(axis=1) & (cut <= times[own]))
        for place, step in zip(own[new].tolist(), steps[new].tolist(), strict=True):
            others.setdefault(place, []).append(step)
    for place, more in others.items():
        found[place] = np.array([*found[place], *more])
    return found


def _decoder(
    blocks: Array, steps: Sequence[Array], low: NDArray[np.int64], high: NDArray[np.int64], kind: NumberType
) -> Callable[[NDArray[np.int64]], Array]:
    """What a file of some type can hold of the multiples of every step that blocks may have had."""

    def decoded(asked: NDArray[np.int64]) -> Array:
        count = np.array([len(steps[i]) for i in asked])
        codes = np.minimum(low[asked, None] + np.arange((high - low)[asked].max() + 1), high[asked, None])
        found = []
        for turn in range(count.max()):  # again the last of those that have fewer
            step = np.array([steps[i][min(turn, len(steps[i]) - 1)] for i in asked])
            found.append(_values_of(blocks[asked], step, codes, kind))
        return np.concatenate(found, axis=1)

    return decoded


def _values_of(blocks: Array, step: Array, codes: NDArray[np.int64], kind: NumberType) -> Array:
    """The values of some codes of each block at a step that it may have had, codes in rows that rise.

    In 16 bits a step is known to a small interval only: where a code's multiples in it are rounded to several
    numbers, and no weight shows which, all of them are values.
    """
    if not has_16_bits(kind):
        return step[:, None] * codes
    own = np.rint(blocks / step[:, None]).astype(np.int64)
    rows = np.arange(len(blocks))[:, None]
    low, high = of_scale(np.abs(blocks), np.abs(own).astype(np.float64), kind)
    low, high = (np.where(np.isfinite(end), end, step)[:, None] for end in (low, high))
    values = stored_between(low * codes, high * codes, kind)
    values[:, rows, own - codes[:, :1]] = blocks
    return values.transpose(1, 0, 2).reshape(len(blocks), -1)

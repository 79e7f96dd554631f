"""The uniform grid that dequantized weights lie on, found from the weights themselves.

Weights of a block that are whole multiples of one step, each rounded once to the type that the file stores,
leave an interval of steps; where the intervals of all weights meet there is a grid. The coarsest step is
looked for, and the largest blocks that have one: the tensor, channels, groups of inputs. Codes have the
fewest bits that hold those of every block, or those of a format that is named. What nobody can see of a block
that uses few codes is left open: where its codes, doubled or trebled, are codes of so many bits too, its step
may have been a half or a third; where boxes are not symmetric its zero point is any that holds its codes.
Such a block has the values of all steps and zero points that are possible, so that the bound holds for
whichever it was. In 16 bits few codes may be those of another step too (19 and 20 of one step, 17 and 18 of
another): such steps count among the possible ones. What is presumed nevertheless is said
(:attr:`FoundGrid.presumed`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.formats import parse
from pvqbounds.problems.formats.number_types import BF16, FP16, FP32, FP64, NumberType
from pvqbounds.problems.formats.rules import LevelRule, ValueRule
from pvqbounds.storage.checkpoints.grids import Grid, LevelGrid, StepGrid
from pvqbounds.storage.checkpoints.pack_quantized import grid_name

__all__ = ["FoundGrid", "find_grid"]

Array = NDArray[np.float64]

TYPES = {"f16": FP16, "bf16": BF16, "f32": FP32, "f64": FP64}
USUAL_GROUPS = (256, 128, 64, 32, 16)

LARGEST_CODE = 255
ORDINARY = FP32.smallest, FP32.largest / LARGEST_CODE
"""Magnitudes that a multiple of a step may have: beyond them no decoder had it in 32 bits."""
ROUNDINGS = 4
"""How often a weight may have been rounded to 32 bits on its way; to 16 bits it was once, in the end."""

FEW_BLOCKS, MORE_BITS = 0.1, 2
"""At most such a part of the blocks needs so many bits more than most where a weight is held to be off."""

MOST_CODES = 2**14
"""Codes of a block at most, where its step may be many parts of what is seen."""

MOST_DOUBT = 0.25
"""Part of a step that rounding may hide: beyond it any number would pass for a multiple."""


@dataclass(frozen=True, eq=False)
class FoundGrid:
    """A grid that all weights of a layer lie on."""

    name: str
    grid: Grid
    weight: Array
    """The weights on it, shape (channels, inputs): those of the file but for its rounding to 32 bits."""
    bits: int
    scales: int
    """Number of scales."""
    presumed: str
    """What its bound holds for, and what in it is beyond the one grid that the quantizer had."""
    mixed: tuple[int, ...]
    """Channels whose grid holds more than any one step and zero point does."""
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Fitted:
    """Blocks with a step each."""

    step: Array
    codes: NDArray[np.int64]
    """Shape (blocks, size)."""


def find_grid(weight: Array, kind: str, hints: Sequence[str] = ()) -> FoundGrid | None:
    """The grid of dequantized weights, shape (channels, inputs), that a file stores as "f32" or its like.

    Parameters
    ----------
    hints
        Names of formats: their groups are tried first, and those of levels, like nf4, too.
    """
    rules = [form.values for form in map(parse, hints) if form.values is not None]
    groups = [rule.group for rule in rules if rule.group is not None]
    sizes = [size for size in dict.fromkeys([*groups, *USUAL_GROUPS]) if size < weight.shape[1]]
    scopes = [weight.size, weight.shape[1], *(size for size in sizes if weight.shape[1] % size == 0)]
    for size in scopes:
        fitted = _fitted(weight.reshape(-1, size), TYPES[kind])
        if fitted is not None:
            return _uniform(weight, fitted, TYPES[kind], rules)
    for rule in rules:
        if isinstance(rule, LevelRule) and rule.units is not None:
            size = rule.group or weight.shape[1]
            found = None if weight.shape[1] % size else _of_levels(weight, size, rule, TYPES[kind])
            if found is not None:
                return found
    return None


def _fitted(blocks: Array, kind: NumberType) -> _Fitted | None:
    """A step for each block; None as soon as one has none."""
    steps, codes = np.ones(len(blocks)), np.zeros(blocks.shape, dtype=np.int64)
    for i, block in enumerate(blocks):
        sizes = np.unique(np.abs(block))
        sizes = sizes[sizes > 0.0]
        if len(sizes) > LARGEST_CODE or (sizes < ORDINARY[0]).any() or (sizes > ORDINARY[1]).any():
            return None
        if len(sizes):
            step = next(_steps(sizes, kind), None)
            if step is None:
                return None
            steps[i], codes[i] = step, np.rint(block / step)
    return _Fitted(steps, codes)


def _steps(sizes: Array, kind: NumberType, largest: int = LARGEST_CODE) -> Iterator[float]:
    """Steps that all of some rising magnitudes are multiples of, once rounded, the coarsest first.

    Of those at which the codes are the same there is one.

    Parameters
    ----------
    largest
        Magnitude that a code may have.
    """
    kind = FP32 if kind == FP64 else kind  # whatever computed them may have had 32 bits
    unit, (below, above) = 2.0 ** -(kind.mantissa + 1), _rounded_to(sizes, kind)
    for times in range(1, int(largest * sizes[0] / sizes[-1] * (1.0 + 2.0 * unit)) + 1):
        ratios = sizes * (times / sizes[0])
        whole = np.rint(ratios)
        doubt = 2.0 * unit * ratios
        if doubt[-1] > MOST_DOUBT or (np.abs(ratios - whole) > doubt).any():
            continue
        low, high = (below / whole).max(), (above / whole).min()
        for candidate in _numbers_between(float(low), float(high)):
            apart = np.abs(kind.nearest(candidate * whole) - sizes)
            if (apart <= (2.0 * ROUNDINGS * unit * sizes if kind == FP32 else 0.0)).all():
                yield candidate
                break


def _rounded_to(sizes: Array, kind: NumberType) -> tuple[Array, Array]:
    """The ends of the intervals that are rounded to some positive numbers of a type."""
    fraction, exponent = np.frexp(sizes)
    half = np.ldexp(0.5, np.maximum(exponent - 1, kind.least_exponent) - kind.mantissa)
    if kind == FP32:
        half = ROUNDINGS * half
    below = np.where(fraction == 0.5, 0.5 * half, half)  # numbers below a power of two lie closer
    return sizes - below, sizes + half


def _numbers_between(low: float, high: float) -> Iterator[float]:
    """Steps from low to high, those first that few bits store."""
    if low > high:
        return
    middle = np.array([0.5 * (low + high)])
    for kind in (BF16, FP16, FP32):
        number = float(kind.nearest(middle)[0])
        if low <= number <= high:
            yield number
    yield from (float(middle[0]), low, high)


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


WIDTHS = tuple(_Width(bits, asymmetric) for bits in range(2, 10) for asymmetric in (False, True))
"""The fewest bits first."""


def _width(fitted: _Fitted, rules: Sequence[ValueRule]) -> _Width:
    """That of a format that is named and holds the codes, else the least that does."""
    low, high = fitted.codes.min(axis=1), fitted.codes.max(axis=1)
    least = next(width for width in WIDTHS if width.holds(low, high))
    size = fitted.codes.shape[1]
    named = [
        _Width(rule.code_bits, "asym" in rule.name.split(":"))
        for rule in rules
        if rule.has_steps and (rule.group is None or size % rule.group == 0)
    ]
    fitting = [width for width in named if width.bits <= LARGEST_BITS and width.holds(low, high)]
    return min(fitting, key=lambda width: (width.bits, width != least), default=least)


LARGEST_BITS = 8
"""Of a format that is named; wider grids hide in the rounding of 32 bits."""


def _uniform(weight: Array, fitted: _Fitted, kind: NumberType, rules: Sequence[ValueRule]) -> FoundGrid:
    """The grid of steps that were found, its codes in the fewest bits that hold them, or in those named."""
    low, high = fitted.codes.min(axis=1), fitted.codes.max(axis=1)
    width, size = _width(fitted, rules), fitted.codes.shape[1]
    shape, blocks = (weight.shape[0], weight.shape[1]), len(low)
    scales = (1,) if blocks == 1 else (shape[0], blocks // shape[0])
    name = grid_name(width.bits, shape, scales, asymmetric=width.asymmetric)
    empty = (low == 0) & (high == 0)
    times = np.where(empty, 1, width.times(low, high))
    ends = width.ends(low, high)
    rounded = kind.mantissa < FP32.mantissa
    steps = (
        _possible_steps(weight.reshape(blocks, size), fitted.step, times, width, kind) if rounded else None
    )
    count = times if steps is None else np.array([len(own) for own in steps])
    hidden = (_parts(times) << width.bits > MOST_CODES) | (count << width.bits > MOST_CODES) | (count == 0)
    open_ones = ((count > 1) & ~hidden) | (~empty & (ends[1] - ends[0] >= 1 << width.bits))
    block = (np.arange(weight.size) // size).reshape(weight.shape)
    box = tuple(np.where(empty, 0, end) for end in ends)
    if steps is None:
        grid, on_it = _exact(block, fitted, (box[0], box[1]), np.where(hidden, 1, times))
    else:
        table = [fitted.step[i : i + 1] if hidden[i] else own for i, own in enumerate(steps)]
        grid, on_it = LevelGrid(block, _decoder(table, box[0], box[1], kind)), None
    notes = (
        "The grid is found from the weights: no file says it.",
        *_of_wide_blocks(low, high, size, shape[1]),
    )
    return FoundGrid(
        name=name,
        grid=grid,
        weight=weight if on_it is None else on_it.reshape(weight.shape),
        bits=width.bits,
        scales=blocks,
        presumed=_presumed(
            name, blocks, (int(open_ones.sum()), int(hidden.sum()), int(empty.sum())), rounded=on_it is None
        ),
        mixed=tuple(np.flatnonzero(open_ones[block].any(axis=1)).tolist()),
        notes=(*notes, *_beside(name, rules, width, size)),
    )


def _presumed(name: str, blocks: int, unseen: tuple[int, int, int], *, rounded: bool) -> str:
    """What a bound on a grid that was found holds for.

    Parameters
    ----------
    unseen
        How many blocks have all values that are possible; may have a step too far below what is seen for
        that; and are all 0.
    rounded
        Whether the file has rounded multiples to 16 bits, which leaves open what exactly those were that no
        weight has.
    """
    open_ones, hidden, empty = unseen
    told = [f"presumes {name}, found from the weights"]
    if rounded:
        told.append("values that no weight of a block has are known to the last place of 16 bits")
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
        rule.has_steps
        and (rule.code_bits, "asym" in rule.name.split(":")) == (width.bits, width.asymmetric)
        and (rule.group is None or size % rule.group == 0)
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


def _of_wide_blocks(low: NDArray[np.int64], high: NDArray[np.int64], size: int, inputs: int) -> list[str]:
    """Say where few blocks need many more bits than others: a weight off its grid leads to small steps."""
    needed = np.ceil(np.log2(np.maximum(high, 0) - np.minimum(low, 0) + 1.0))
    usual = float(np.median(needed))
    wide = np.flatnonzero(needed >= usual + MORE_BITS)
    if not 0 < len(wide) <= FEW_BLOCKS * len(low):
        return []
    channel, first = divmod(int(wide[0]) * size, inputs)
    return [
        f"In {len(wide)} of {len(low)} blocks the weights need up to {needed.max():.0f} bits, in most others "
        f"{usual:.0f}; the first is that of input {first} of output channel {channel}: is a weight there off "
        "its grid? All blocks have the codes of the widest, so that the bound says less."
    ]


def _exact(
    block: NDArray[np.int64],
    fitted: _Fitted,
    ends: tuple[NDArray[np.int64], NDArray[np.int64]],
    times: NDArray[np.int64],
) -> tuple[Grid, Array]:
    """Exact multiples, and weights on them, where the file rounds to 32 bits or more.

    Parameters
    ----------
    times
        Into how many parts the step of each block may have to be cut: whatever their number up to this one,
        all values are there.
    """
    low, high = ends
    parts = _parts(times)
    step = fitted.step / parts
    codes = parts[:, None] * fitted.codes
    return StepGrid.of(block, step, parts * low, parts * high), step[:, None] * codes


def _possible_steps(
    blocks: Array, seen: Array, times: NDArray[np.int64], width: _Width, kind: NumberType
) -> list[Array]:
    """Every step that each block may have had, that which is seen first; none where rounding hides some.

    Parameters
    ----------
    seen
        The coarsest step of each block.
    times
        Into how many parts it may have been cut.
    """
    largest = (1 << width.bits) - 1 if width.asymmetric else 1 << (width.bits - 1)
    found = []
    for block, step, most in zip(blocks, seen, times, strict=True):
        cuts = step / np.arange(1, most + 1)
        sizes = np.unique(np.abs(block))
        sizes = sizes[sizes > 0.0]
        if not len(sizes) or largest * sizes[0] < (np.rint(sizes[0] / step) + 0.5) * sizes[-1]:
            found.append(cuts)  # no other step leaves codes that are few enough
        elif 2.0**-kind.mantissa * largest > MOST_DOUBT:
            found.append(cuts[:0])
        else:
            codes = [np.rint(block / other) for other in cuts]
            others = [
                other
                for other in _steps(sizes, kind, largest)
                if width.holds(*_ends_of(block, other))
                and not any(np.array_equal(np.rint(block / other), own) for own in codes)
            ]
            found.append(np.array([*cuts, *others]))
    return found


def _ends_of(block: Array, step: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The least and the largest code of a block at a step."""
    return tuple(np.rint([end / step]).astype(np.int64) for end in (block.min(), block.max()))  # type: ignore[return-value]


def _decoder(
    steps: Sequence[Array], low: NDArray[np.int64], high: NDArray[np.int64], kind: NumberType
) -> Callable[[NDArray[np.int64]], Array]:
    """What a file of some type can hold of the multiples of every step that blocks may have had."""

    def decoded(asked: NDArray[np.int64]) -> Array:
        bottom, most = low[asked, None], max(len(steps[number]) for number in asked)
        codes = np.minimum(bottom + np.arange(int((high[asked] - low[asked]).max()) + 1), high[asked, None])
        padded = np.stack([np.pad(steps[number], (0, most - len(steps[number])), "edge") for number in asked])
        return np.concatenate([kind.nearest(own[:, None] * codes) for own in padded.T], axis=1)

    return decoded


def _of_levels(weight: Array, size: int, rule: LevelRule, kind: NumberType) -> FoundGrid | None:
    """The levels of a rule at a scale for each block, with the numbers of the file where it has them."""
    units = rule.units
    assert units is not None
    unit = 2.0 ** -(min(kind.mantissa, FP32.mantissa) + 1)
    blocks = weight.reshape(-1, size)
    levels = np.zeros((len(blocks), len(units)))
    for i, row in enumerate(blocks):
        largest = float(row[np.abs(row).argmax()])
        found = None if largest else np.zeros(len(units))
        for reached in units[np.argsort(-np.abs(units))] if largest else ():
            if reached and found is None:
                found = _matched(row, largest / reached, units, kind, 4.0 * unit)
        if found is None:
            return None
        levels[i] = found
    block = (np.arange(weight.size) // size).reshape(weight.shape)
    return FoundGrid(
        name=rule.name,
        grid=LevelGrid.of_table(block, levels),
        weight=weight,
        bits=rule.code_bits,
        scales=len(blocks),
        presumed=(
            f"presumes {rule.name} with scales found from the weights: the largest of each block has the "
            "largest level that fits"
        ),
        mixed=(),
        notes=(f"The scales of {rule.name} are found from the weights: no file says them.",),
    )


def _matched(row: Array, scale: float, units: Array, kind: NumberType, doubt: float) -> Array | None:
    """The levels at a scale, those that weights have as the file has them; None if a weight has none."""
    decoded = kind.nearest(scale * units)
    nearest = np.abs(row[:, None] - decoded).argmin(axis=1)
    if (np.abs(row - decoded[nearest]) > doubt * np.abs(row)).any():
        return None
    for place in np.unique(nearest):
        stored = np.unique(row[nearest == place])
        if len(stored) > 1:
            return None
        decoded[place] = stored[0]
    return decoded

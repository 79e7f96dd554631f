"""The uniform grid that dequantized weights lie on, found from the weights themselves.

Weights of a block that are whole multiples of one step, each rounded once to the type that the file stores,
leave an interval of steps; where the intervals of all weights meet there is a grid. The coarsest step is
taken, and the largest blocks that have one: the tensor, channels, groups of inputs. Codes have the fewest
bits that hold those of every block. Where their boxes are not symmetric, nobody can see the zero point of a
block that uses few codes: its box then holds the codes of all zero points that the block can have had, so
that the bound holds for whichever it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.formats import parse
from pvqbounds.problems.formats.number_types import BF16, FP16, FP32, FP64, NumberType
from pvqbounds.problems.formats.rules import LevelRule
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
            return _uniform(weight, fitted, TYPES[kind])
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
            step = _step(sizes, kind)
            if step is None:
                return None
            steps[i], codes[i] = step, np.rint(block / step)
    return _Fitted(steps, codes)


def _step(sizes: Array, kind: NumberType) -> float | None:
    """The coarsest step that all of some rising magnitudes are multiples of, once rounded; None without."""
    kind = FP32 if kind == FP64 else kind  # whatever computed them may have had 32 bits
    unit, (below, above) = 2.0 ** -(kind.mantissa + 1), _rounded_to(sizes, kind)
    for times in range(1, int(LARGEST_CODE * sizes[0] / sizes[-1] * (1.0 + unit)) + 1):
        ratios = sizes * (times / sizes[0])
        whole = np.rint(ratios)
        doubt = 2.0 * unit * ratios
        if doubt[-1] > MOST_DOUBT or (np.abs(ratios - whole) > doubt).any():
            continue
        low, high = (below / whole).max(), (above / whole).min()
        for candidate in _numbers_between(float(low), float(high)):
            apart = np.abs(kind.nearest(candidate * whole) - sizes)
            if (apart <= (2.0 * ROUNDINGS * unit * sizes if kind == FP32 else 0.0)).all():
                return candidate
    return None


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


def _uniform(weight: Array, fitted: _Fitted, kind: NumberType) -> FoundGrid:
    """The grid of steps that were found, its codes in the fewest bits that hold them."""
    size = fitted.codes.shape[1]
    low, high = fitted.codes.min(axis=1), fitted.codes.max(axis=1)
    symmetric = next(b for b in range(2, 10) if low.min() >= -(1 << (b - 1)) and high.max() < 1 << (b - 1))
    shifted = next(b for b in range(2, 10) if (high - low).max() < 1 << b and _holds_zero(low, high, b))
    bits, asymmetric = min(symmetric, shifted), shifted < symmetric
    top = (1 << bits) - 1
    if asymmetric:
        qmin, qmax = np.maximum(high - top, -top), np.minimum(low + top, top)
        ends, notes = (qmin, qmax), [UNSEEN_ZERO_POINT] * bool((qmax - qmin > top).any())
    else:
        half = 1 << (bits - 1)
        ends, notes = (np.full(len(low), -half), np.full(len(low), half - 1)), []
    if asymmetric:
        fits = np.maximum(2 * high, 0) - np.minimum(2 * low, 0) <= top
    else:
        fits = (-2 * low <= 1 << (bits - 1)) & (2 * high < 1 << (bits - 1))
    small = int((fits & ((low != 0) | (high != 0))).sum())  # twice the codes would have room too
    if small:
        notes.append(
            f"In {small} of {len(low)} blocks the weights use half of their codes at most, so that their "
            "step may be half of what is seen."
        )
    notes += _of_wide_blocks(low, high, size, weight.shape[1])
    block = (np.arange(weight.size) // size).reshape(weight.shape)
    shape = weight.shape[0], weight.shape[1]
    scales = (1,) if len(low) == 1 else (shape[0], len(low) // shape[0])
    grid, on_it = _grid(block, fitted, ends, kind)
    return FoundGrid(
        name=grid_name(bits, shape, scales, asymmetric=asymmetric),
        grid=grid,
        weight=weight if on_it is None else on_it.reshape(weight.shape),
        bits=bits,
        scales=len(low),
        notes=("The grid is found from the weights: no file says it.", *notes),
    )


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


UNSEEN_ZERO_POINT = (
    "Some blocks use too few codes to tell their zero point: their boxes hold the codes of all that are "
    "possible, so that the bound holds for whichever it was."
)


def _holds_zero(low: NDArray[np.int64], high: NDArray[np.int64], bits: int) -> bool:
    """Whether every block's codes fit in a box of so many bits that holds 0."""
    return bool((np.maximum(high, 0) - np.minimum(low, 0)).max() < 1 << bits)


def _grid(
    block: NDArray[np.int64],
    fitted: _Fitted,
    ends: tuple[NDArray[np.int64], NDArray[np.int64]],
    kind: NumberType,
) -> tuple[Grid, Array | None]:
    """Exact multiples, and weights on them, where the file rounds to 32 bits or more; else levels."""
    if kind.mantissa >= FP32.mantissa:
        return StepGrid.of(block, fitted.step, *ends), fitted.step[:, None] * fitted.codes
    low, high = ends
    codes = np.minimum(low[:, None] + np.arange(int((high - low).max()) + 1), high[:, None])
    return LevelGrid.of_table(block, kind.nearest(fitted.step[:, None] * codes)), None


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

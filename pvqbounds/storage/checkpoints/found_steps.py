"""Steps that dequantized weights are whole multiples of, once rounded to the type that a file stores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.formats.number_types import BF16, FP16, FP32, FP64, NumberType

__all__ = ["LARGEST_BITS", "Fitted", "bits_of", "fitted_blocks", "hides_steps", "rounded_to", "steps_of"]

Array = NDArray[np.float64]

LARGEST_BITS = 8
"""Of codes: wider grids hide in the rounding of 32 bits."""
LARGEST_CODE = (1 << LARGEST_BITS) - 1

ORDINARY = FP32.smallest, FP32.largest / LARGEST_CODE
"""Magnitudes that a multiple of a step may have: beyond them no decoder had it in 32 bits."""
ROUNDINGS = 4
"""How often a weight may have been rounded to 32 bits on its way; to 16 bits it was once, in the end."""

MOST_DOUBT = 0.25
"""Part of a step that rounding may hide: beyond it any number would pass for a multiple."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """Blocks with a step each."""

    step: Array
    codes: NDArray[np.int64]
    """Shape (blocks, size)."""


def fitted_blocks(blocks: Array, kind: NumberType, most: int = LARGEST_BITS) -> Fitted | None:
    """The coarsest step of each block; None as soon as one has none, or needs more bits than `most`."""
    steps, codes = np.ones(len(blocks)), np.zeros(blocks.shape, dtype=np.int64)
    for i in np.argsort(-np.abs(blocks).max(axis=1), kind="stable"):  # those first that may need most bits
        sizes = np.unique(np.abs(blocks[i]))
        sizes = sizes[sizes > 0.0]
        if len(sizes) > LARGEST_CODE or (sizes < ORDINARY[0]).any() or (sizes > ORDINARY[1]).any():
            return None
        if len(sizes):
            step = next(steps_of(sizes, kind), None)
            if step is None:
                return None
            steps[i], codes[i] = step, np.rint(blocks[i] / step)
            if bits_of(codes[i]) > most:
                return None
    return Fitted(steps, codes)


def bits_of(codes: NDArray[np.int64]) -> int:
    """The fewest bits that hold codes and 0, wherever their zero point is."""
    return int(max(0, codes.max()) - min(0, codes.min())).bit_length()


def steps_of(sizes: Array, kind: NumberType, largest: int = LARGEST_CODE) -> Iterator[float]:
    """Steps that all of some rising magnitudes are multiples of, once rounded, the coarsest first.

    Of those at which the codes are the same there is one.

    Parameters
    ----------
    largest
        Magnitude that a code may have.
    """
    kind = FP32 if kind == FP64 else kind  # whatever computed them may have had 32 bits
    unit, (below, above) = 2.0 ** -(kind.mantissa + 1), rounded_to(sizes, kind)
    for times in range(1, int(largest * above[0] / below[-1]) + 1):
        whole = np.rint(sizes * (times / sizes[0]))
        if hides_steps(sizes, int(whole[-1]), kind):
            return
        low, high = (below / whole).max(), (above / whole).min()
        for candidate in _numbers_between(float(low), float(high)):
            apart = np.abs(kind.nearest(candidate * whole) - sizes)
            if (apart <= (2.0 * ROUNDINGS * unit * sizes if kind == FP32 else 0.0)).all():
                yield candidate
                break


def hides_steps(sizes: Array, largest: int, kind: NumberType) -> bool:
    """Whether rounding hides what rising magnitudes are multiples of, where codes are up to a largest one."""
    below, above = rounded_to(sizes, kind)
    doubt = 0.5 * (above - below) / sizes  # more than usual of numbers below the normal ones
    return bool(max(2.0**-kind.mantissa, doubt.max() + doubt[0]) * largest > MOST_DOUBT)


def rounded_to(sizes: Array, kind: NumberType) -> tuple[Array, Array]:
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

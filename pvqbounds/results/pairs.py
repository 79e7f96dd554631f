"""Quantization beside pruning at one size: the chunks of a layer, as the paper's Figure 4 compares them.

A chunk is a slice of the inputs with all output channels that were looked at. Its channels are problems of
their own, so that their errors and their bounds add up, for the chunk; chunks do not add up for the layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from pvqbounds.errors import InputError
from pvqbounds.results.bounds import status_of
from pvqbounds.results.layer import LayerReport, Side, SliceResult, surely_better

__all__ = ["BASE_BITS", "Pair", "chunks_of", "formats_of_widths", "pairs_of"]

BASE_BITS = 16
"""Bits of a weight uncompressed: a density of b/16 has the size of b bits, masks left out (Kuzmin et al.)."""


@dataclass(frozen=True, eq=False)
class Pair:
    """One chunk, quantized to `bits` and pruned to bits/16; the whole layer where it is not cut."""

    bits: int
    inputs: tuple[int, int]
    """First and one past the last input of the fan-in."""
    quantization: Side
    """The channels of the chunk alone, as in all properties of it."""
    pruning: Side

    @property
    def slices(self) -> tuple[SliceResult, ...]:
        """The problems of both."""
        return self.quantization.slices + self.pruning.slices

    @cached_property
    def ends(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """SQNR intervals in dB of both, quantization first; NaN without a signal."""
        return self.quantization.sqnr_interval, self.pruning.sqnr_interval

    @property
    def dead(self) -> bool:
        """Whether no signal can be proved, so that there is nothing to compare."""
        return self.quantization.signal_enclosure.lower <= 0.0

    @property
    def exact(self) -> bool:
        """Whether both are solved to the optimum: each of their problems, or their sum to the same tolerance.

        A channel of next to no signal, whose own two ends rounding keeps apart, does not count then.
        """
        return _solved(self.quantization) and _solved(self.pruning)

    @property
    def certified(self) -> bool:
        """Whether all bounds of both are proved."""
        return self.quantization.lower_kind == self.pruning.lower_kind == "certified"

    @property
    def better(self) -> Literal["quantization", "pruning"] | None:
        """Which is provably better; None where it is not known, or neither is."""
        quantized, pruned = self.ends
        if surely_better(quantized, pruned, self.pruning.lower_kind):
            return "quantization"
        return "pruning" if surely_better(pruned, quantized, self.quantization.lower_kind) else None


def formats_of_widths(widths: Sequence[int]) -> list[str]:
    """Names of the formats that are compared: the grid of each width, and the density of its size.

    Raises
    ------
    InputError
        If a width is not below that of weights before compression.
    """
    for bits in widths:
        if not 2 <= bits < BASE_BITS:
            raise InputError(f"Bit widths are from 2 to {BASE_BITS - 1} where b/16 is a density, not {bits}.")
    return [name for bits in widths for name in _names(bits)]


def pairs_of(report: LayerReport) -> list[Pair]:
    """The chunks at each bit width, of a report on formats of :func:`formats_of_widths`.

    Raises
    ------
    InputError
        If it is not on such formats.
    """
    sides = {side.format: side for side in report.sides}
    pairs = []
    for bits in range(2, BASE_BITS):
        quantized, pruned = (sides.get(name) for name in _names(bits))
        if quantized is not None and pruned is not None:
            chunks = zip(chunks_of(quantized), chunks_of(pruned), strict=True)
            pairs += [Pair(bits, first.slices[0].inputs, first, second) for first, second in chunks]
    if not pairs:
        raise InputError(
            f"The result of {report.layer} is on {', '.join(sides)}; Figure 4 needs a grid beside the "
            "density of its size, as int4 and 25%: make it with `pvqbounds figure4`."
        )
    return pairs


def chunks_of(side: Side) -> list[Side]:
    """The side on each slice of the inputs by itself."""
    places: dict[tuple[int, int], list[int]] = {}
    for place, result in enumerate(side.slices):
        places.setdefault(result.inputs, []).append(place)
    if len(places) == 1:
        return [side]
    return [
        replace(
            side,
            slices=tuple(side.slices[place] for place in chosen),
            methods={name: tuple(points[p] for p in chosen) for name, points in side.methods.items()},
        )
        for _, chosen in sorted(places.items())
    ]


def _solved(side: Side) -> bool:
    summed = status_of(side.error_lower, side.error_upper, side.signal_enclosure.lower)
    return "optimal" in (side.status, summed)


def _names(bits: int) -> tuple[str, str]:
    return f"int{bits}", f"{100 * bits / BASE_BITS:g}%"

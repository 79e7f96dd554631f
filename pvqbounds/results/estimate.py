"""Errors of a whole layer, estimated from a sample of its channels: never a bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Estimate", "Estimated"]


class Estimated(NamedTuple):
    """An error of the whole layer with its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """What the ends of a side would be had every channel been solved as those of the sample were.

    The sample is a simple random one, the cheap bounds of all channels are the control variate
    (:mod:`pvqbounds.results.sampling`). Each interval lies within what is certified of the whole layer.
    """

    sample: tuple[int, ...]
    """Channels of the sample, in the layer's own count, ascending."""
    error_lower: Estimated
    error_upper: Estimated
    cheap_lower: tuple[float, ...]
    """Cheap lower ends of the channels of the sample, which the sides' own ones replaced."""
    cheap_upper: tuple[float, ...]
    """Their cheap upper ends."""

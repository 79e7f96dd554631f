"""Axes: from numbers to places in percent, so that a picture is as wide as its page."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from pvqbounds.results.decibels import ENDLESS

__all__ = ["Axis", "Tick", "decibel_axis", "linear_axis", "logarithmic_axis"]

STEPS = (1.0, 2.0, 5.0)
"""Distances of ticks, times a power of ten."""


@dataclass(frozen=True)
class Tick:
    """A number on an axis."""

    place: float
    """Percent."""
    text: str


@dataclass(frozen=True)
class Axis:
    """A range of numbers."""

    low: float
    high: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Percent of the way from the low end to the high one; what lies beyond stands at the end."""
        low, high, value = (self._even(number) for number in (self.low, self.high, value))
        return 100.0 * min(1.0, max(0.0, (value - low) / (high - low)))

    def holds(self, value: float) -> bool:
        """Whether a number lies on the axis."""
        return self.low <= value <= self.high

    def _even(self, value: float) -> float:
        if not self.logarithmic:
            return value
        return math.log10(value) if value > 0.0 else -math.inf

    @property
    def ticks(self) -> list[Tick]:
        """Round numbers, some five of them."""
        if self.logarithmic:
            exponents = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            numbers = [step * 10.0**e for e in (exponents.start - 1, *exponents) for step in STEPS]
            shown = [number for number in numbers if self.holds(number)]
            tens = [number for number in shown if number in [10.0**e for e in exponents]]
            return [Tick(self.place(number), f"{number:g}") for number in (tens if len(tens) > 2 else shown)]
        step = _round_step((self.high - self.low) / 5.0)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [Tick(self.place(i * step), f"{i * step:.6g}") for i in range(first, last + 1)]


def _round_step(least: float) -> float:
    """The least round number that is not below another."""
    power = 10.0 ** math.floor(math.log10(least))
    return next((step * power for step in STEPS if step * power >= least), 10.0 * power)


def linear_axis(values: Iterable[float], margin: float = 0.03) -> Axis:
    """All finite numbers, with a margin as a part of their range."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    room = margin * (high - low)
    return Axis(low - room, high + room)


LEAST = 10.0 ** (-ENDLESS / 10.0)
"""An error over signal below which there is none to speak of."""


def logarithmic_axis(values: Iterable[float]) -> Axis:
    """All positive numbers that are worth a place, with a little room; what is less stands at the low end."""
    positive = [value for value in values if LEAST <= value < math.inf] or [0.1, 1.0]
    return Axis(min(positive) / 1.15, max(positive) * 1.15, logarithmic=True)


MOST_BELOW = 15.0
"""Decibels that an axis reaches below all intervals for what methods make of them."""


def decibel_axis(ends: Iterable[float], others: Iterable[float] = ()) -> Axis:
    """The ends of intervals, and of what lies beside them all that is not far below."""
    finite = [value for value in ends if math.isfinite(value)] or [0.0, 1.0]
    least = min(finite) - MOST_BELOW
    return linear_axis([*finite, *(v for v in others if least <= v < math.inf)])

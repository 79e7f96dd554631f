"""Decibels in words: rounded outwards, with the digits that are certain."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

__all__ = ["ENDLESS", "decimal", "interval_text", "rounded_down", "rounded_up", "sqnr_text"]

ENDLESS = 300.0
"""SQNR in dB from which on there is no error left to speak of."""


def rounded_down(value: float) -> str:
    """`value` to two decimals, rounded towards minus infinity."""
    return decimal(value, ROUND_FLOOR)


def rounded_up(value: float) -> str:
    """`value` to two decimals, rounded towards plus infinity."""
    return decimal(value, ROUND_CEILING)


def decimal(value: float, rounding: str, places: int = 2) -> str:
    """`value` to so many decimals, rounded by one of the modes of the module decimal."""
    if math.isnan(value):
        return "none"
    if value >= ENDLESS:
        return "∞"
    return str(Decimal(value).quantize(Decimal(1).scaleb(-places), rounding))


def interval_text(lower: float, upper: float) -> str:
    """Name an SQNR interval in dB, rounded outwards."""
    if math.isnan(lower) or math.isnan(upper):
        return "no signal"
    if lower >= ENDLESS:
        return "∞ (no error)"
    return f"{rounded_down(lower)} .. {rounded_up(upper)} dB"


def sqnr_text(lower: float, upper: float, optimal: bool) -> str:
    """Name a best SQNR in dB: one number, where it is known to so many digits, else the interval.

    The number has the two decimals that both ends share, or three where they lie on either side of
    what two tell apart. What follows is cut off, as it is of the simple methods' SQNR beside it: a
    method that reaches the best shows the same number.
    """
    if optimal and math.isfinite(upper) and upper < ENDLESS:
        for places in (2, 3):
            low, high = (decimal(end, ROUND_FLOOR, places) for end in (lower, upper))
            if low == high:
                return f"{low} dB"
    return interval_text(lower, upper)

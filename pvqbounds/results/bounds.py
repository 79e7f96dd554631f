"""What a solve gives back: an interval for the error of one channel, and what proves it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.enclosures import UNIT, Enclosure
from pvqbounds.relaxations.certificates import Certificate
from pvqbounds.results.history import Moment

__all__ = ["Bounds", "LowerKind", "Status", "sqnr_interval"]

Status = Literal["optimal", "bounded"]
LowerKind = Literal["certified", "reported"]

OPTIMALITY_TOLERANCE = 1e-6
"""Relative gap between the two ends of the error under which a status is "optimal"."""

BEYOND = 3000.0
"""Decibels beyond which a quotient of float64 numbers may leave their range."""


def sqnr(signal: float, error: float) -> float:
    """10 log10(signal / error) in dB, infinite where the error is not positive, nan without signal."""
    if signal <= 0.0:
        return math.nan
    if error <= 0.0:
        return math.inf
    ratio = signal / error
    if 0.0 < ratio < math.inf:
        return 10.0 * math.log10(ratio)
    return 10.0 * (math.log10(signal) - math.log10(error))  # the quotient leaves the range of float64


def sqnr_interval(signal: Enclosure, error_lower: float, error_upper: float) -> tuple[float, float]:
    """Lower and upper SQNR in dB, rounded outwards."""
    if signal.lower <= 0.0:
        return math.nan, math.nan  # no signal can be proved
    lower, upper = sqnr(signal.lower, error_upper), sqnr(signal.upper, error_lower)
    return lower - _doubt(lower) if math.isfinite(lower) else lower, upper + _doubt(upper)


def _doubt(decibels: float) -> float:
    """By how much a computed ratio may be off, with room for the rounding of taking it away.

    log10 is good to a unit in the last place; the quotient's rounding moves it by 4.4 units of
    roundoff, and two logarithms, where the quotient leaves the range of float64, by some of theirs.
    """
    if not math.isfinite(decibels):
        return 0.0
    return 1e-11 if abs(decibels) > BEYOND else UNIT * (16.0 + 8.0 * abs(decibels))


@dataclass(frozen=True, eq=False)
class Bounds:
    """The interval that holds the least error of one channel.

    ``error_lower <= least E <= error_upper``; the upper end is the error of `weight`, evaluated
    from its codes or support and rounded up.
    """

    error_lower: float
    """No allowed weight has less error: the dual bound."""
    error_upper: float
    """Error of the returned weight, the incumbent."""
    signal_enclosure: Enclosure
    """Enclosure of wᵀGw."""
    lower_kind: LowerKind
    """"certified": proved by `certificate`; "reported": stated by a solver, not proved."""
    status: Status
    """"optimal": the gap is closed to 1e-6 of the error or 1e-12 of the signal; "bounded": an interval."""
    solver: str
    method: str
    """"exact" or "relax"."""
    relaxation: str | None
    """Name of the relaxation behind the lower end; None where a search alone gave it."""
    seconds: float
    weight: NDArray[np.float64]
    """The best weight found, the incumbent, shape (n,)."""
    codes: NDArray[np.int64] | None
    """Its codes z (quantization), shape (n,)."""
    support: NDArray[np.int64] | None
    """Indices of its non-zeros (pruning)."""
    certificate: Certificate | None
    """What proves `error_lower` without trusting a solver; None where it is only reported."""
    scale: float | None = None
    """The scale of the codes, where it was free; None where it was given."""
    reported_lower: float | None = None
    """The bound that the solver states, where it states one."""
    note: str = ""
    """One sentence where something is worth knowing (time limit, solver status)."""
    history: tuple[Moment, ...] = ()
    """How the interval closed, where a search took long enough to tell: what was stated on the way, reported
    and not proved, and at last the two ends of this result."""

    @property
    def signal(self) -> float:
        """wᵀGw."""
        return self.signal_enclosure.middle

    @property
    def sqnr_lower(self) -> float:
        """SQNR of the returned weight in dB: the best SQNR is no less."""
        return sqnr_interval(self.signal_enclosure, self.error_lower, self.error_upper)[0]

    @property
    def sqnr_upper(self) -> float:
        """No allowed weight has a higher SQNR (dB)."""
        return sqnr_interval(self.signal_enclosure, self.error_lower, self.error_upper)[1]

    @property
    def gap(self) -> float:
        """Width of the SQNR interval in dB: the optimality gap."""
        return self.sqnr_upper - self.sqnr_lower

    def __repr__(self) -> str:
        return f"<Bounds {self}>"

    def __str__(self) -> str:
        low, high = self.sqnr_lower, self.sqnr_upper
        if math.isfinite(low) and math.isfinite(high):  # outwards
            low, high = math.floor(1e3 * low) / 1e3, math.ceil(1e3 * high) / 1e3
        return (
            f"SQNR {low:.3f} .. {high:.3f} dB "
            f"({self.status}, {self.lower_kind}; {self.solver}, {self.method}, {self.seconds:.3g} s)"
        )


def status_of(error_lower: float, error_upper: float, signal: float) -> Status:
    """Call it "optimal" where the ends agree to 1e-6 of the error, or to 1e-12 of the proved signal."""
    slack = max(OPTIMALITY_TOLERANCE * error_upper, 1e-12 * signal)
    return "optimal" if error_upper - error_lower <= slack else "bounded"

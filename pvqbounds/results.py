"""What a solve gives back: an interval for the error of one channel, and what proves it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.arithmetic import UNIT, Enclosure, down, up
from pvqbounds.relaxations.certificates import Certificate, Proof

__all__ = ["Bounds", "LowerKind", "Status", "claimed", "sqnr_interval"]

Status = Literal["optimal", "bounded"]
LowerKind = Literal["certified", "reported"]

OPTIMALITY_TOLERANCE = 1e-6
"""Relative gap between the two ends of the error under which a status is "optimal"."""

CLAIM_MARGIN = 1e-11
"""Least share of a dual bound that is not claimed."""


def sqnr(signal: float, error: float) -> float:
    """10 log10(signal / error) in dB, infinite where the error is not positive, nan without signal."""
    if signal <= 0.0:
        return math.nan
    return 10.0 * math.log10(signal / error) if error > 0.0 else math.inf


def sqnr_interval(signal: Enclosure, error_lower: float, error_upper: float) -> tuple[float, float]:
    """Lower and upper SQNR in dB, rounded outwards."""
    if signal.lower <= 0.0:
        return math.nan, math.nan  # no signal can be proved
    lower, upper = sqnr(signal.lower, error_upper), sqnr(signal.upper, error_lower)
    # log10 is good to a unit in the last place; the quotient's rounding moves it by 4.4 units of roundoff
    return (down(lower - 16.0 * UNIT, 4) if math.isfinite(lower) else lower, up(upper + 16.0 * UNIT, 4))


@dataclass(frozen=True, eq=False)
class Bounds:
    """The interval that holds the least error of one channel.

    ``error_lower <= least E <= error_upper``; the upper end is the error of `weight`, evaluated
    from its codes or support and rounded up.
    """

    error_lower: float
    """No allowed weight has less error: the bound."""
    error_upper: float
    """Error of the returned weight."""
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
    """The best weight found, shape (n,)."""
    codes: NDArray[np.int64] | None
    """Its codes z (quantization), shape (n,)."""
    support: NDArray[np.int64] | None
    """Indices of its non-zeros (pruning)."""
    certificate: Certificate | None
    """What proves `error_lower` without trusting a solver; None where it is only reported."""
    reported_lower: float | None = None
    """The bound that the solver states, where it states one."""
    note: str = ""
    """One sentence where something is worth knowing (time limit, solver status)."""

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
        """Width of the SQNR interval in dB."""
        return self.sqnr_upper - self.sqnr_lower

    def __repr__(self) -> str:
        return f"<Bounds {self}>"

    def __str__(self) -> str:
        return (
            f"SQNR {self.sqnr_lower:.3f} .. {self.sqnr_upper:.3f} dB "
            f"({self.status}, {self.lower_kind}; {self.solver}, {self.method}, {self.seconds:.3g} s)"
        )


def claimed(proof: Proof, signal: float) -> float:
    """The bound to state where multipliers prove `proof`: a hair less.

    What they prove depends in the last digits on the order in which sums are taken, hence on the
    number of threads and on the machine; a proof elsewhere must still reach what is stated.

    Parameters
    ----------
    signal
        wᵀGw, or an upper bound on it.
    """
    margin = max(CLAIM_MARGIN * max(abs(proof.value), 1e-6 * signal), proof.blur)
    return down(proof.value - margin)


def status_of(error_lower: float, error_upper: float, signal: float) -> Status:
    """Call it "optimal" where the ends agree to 1e-6 of the error, or to 1e-12 of the signal."""
    slack = max(OPTIMALITY_TOLERANCE * error_upper, 1e-12 * signal)
    return "optimal" if error_upper - error_lower <= slack else "bounded"

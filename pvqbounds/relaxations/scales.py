"""Bounds for every scale from bounds at a few of them.

Let the codes z be allowed, with zᵀGw > 0 and zᵀGz > 0. Their best scale is t = zᵀGw / zᵀGz, their error there
e = E(tz) = sigma - t² zᵀGz with sigma = wᵀGw, and at any other scale s, as E(sz) is a parabola of s,

    E(sz) = e + (s - t)² zᵀGz = e + (s/t - 1)² (sigma - e).                                      (1)

If no codes have less error than L at the scale s, then e >= (L - x sigma) / (1 - x) with x = (s/t - 1)² < 1:
one bound at s, proved in whatever way, bounds all codes whose best scale is near s. They have at least the
error `value`, sigma > value, wherever

    (s/t - 1)² <= (L - value) / (sigma - value) = q²,     that is for s/(1 + q) <= t <= s/(1 - q).   (2)

A best scale cannot lie anywhere: if e < value, then t² zᵀGz = sigma - e lies between sigma - value and sigma,
while zᵀGz is at most sum |G_ij| k_i k_j, k_i the largest magnitude of a code, and at least what
:mod:`pvqbounds.relaxations.least_power` proves of codes with Gz other than 0; where that is nothing, nothing
is proved. Where it is positive codes with zᵀGw <= 0 have no less than sigma at every scale, and those with
Gz = 0 have sigma.
Scales whose parts (2) cover what is left between prove `value` for every scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.enclosures import UNIT, Enclosure, down, gamma, up
from pvqbounds.errors import InputError
from pvqbounds.problems.any_scale import AnyScaleLeastSquares
from pvqbounds.problems.least_squares import Problem
from pvqbounds.problems.units import Units, scaled_down
from pvqbounds.relaxations.certificates import Certificate, CombinedCertificate, is_number, is_vector
from pvqbounds.relaxations.least_power import least_power

if TYPE_CHECKING:
    from pvqbounds.clock import Clock

__all__ = [
    "MOST_SCALES",
    "Gap",
    "ScaleRange",
    "ScalesCertificate",
    "claimed_value",
    "first_gap",
    "gaps",
    "largest_value",
    "range_of",
]

Array = NDArray[np.float64]

MOST_SCALES = 1024
"""Scales that a certificate may have."""

HALVINGS = 100
"""Steps of the bisection for the largest value: its last digits lie far below those of the signal."""

CLAIMED = 1e-11
"""Share of a value that is not claimed: what is covered may differ by rounding elsewhere."""

WIDER = 1.0 + 2e-6
"""By how much farther the power of codes reaches in a claim: it is proved a little differently elsewhere."""


@dataclass(frozen=True)
class ScaleRange:
    """Where the best scales of codes may lie that beat a value."""

    signal: Enclosure
    """wᵀGw, in units near 1."""
    largest: float
    """zᵀGz of any codes is at most this."""
    smallest: float
    """And at least this, unless Gz = 0; 0 where nothing is proved."""

    def ends(self, value: float) -> tuple[float, float]:
        """Least and largest best scale of codes with an error below `value`, rounded outwards."""
        if self.largest <= 0.0:
            return math.inf, 0.0  # no codes change the error
        left = max(down(self.signal.lower - value), 0.0)
        low = max(down(math.sqrt(max(down(left / self.largest), 0.0)), 2), 0.0)
        high = math.inf
        if self.smallest > 0.0:
            high = up(math.sqrt(up(self.signal.upper / self.smallest)), 2)
        return low, high

    def elsewhere(self) -> ScaleRange:
        """A range that contains what another machine proves: the signal lies anew within its enclosure."""
        width = self.signal.upper - self.signal.lower
        signal = Enclosure(down(self.signal.lower - width, 4), up(self.signal.upper + width, 4))
        return ScaleRange(signal, self.largest * WIDER, self.smallest / WIDER)


def range_of(problem: AnyScaleLeastSquares) -> ScaleRange:
    """What is proved of the best scales of a problem in units near 1."""
    values, live = problem.values, problem.shared.live
    code = float(max(abs(values.qmin), abs(values.qmax)))
    matrix = np.abs(problem.gram)
    largest = 0.0
    if code > 0.0 and live.any():
        largest = up(float(matrix.sum()) * (1.0 + gamma(matrix.size + 4)) * code * code, 2)
    smallest = least_power(problem.gram[np.ix_(live, live)], values.qmin, values.qmax) if live.any() else 0.0
    return ScaleRange(problem.signal, largest, smallest)


@dataclass(frozen=True)
class Gap:
    """Best scales that no bound reaches."""

    low: float
    high: float


@np.errstate(over="ignore")  # what is served may have no end
def _reach(scales: Array, bounds: Array, signal: float, value: float) -> tuple[Array, Array]:
    """The best scales (2) that bounds at some scales serve, rounded inwards: ends of shape (m,) each."""
    room = math.nextafter(signal - value, -math.inf)
    useful = (bounds >= value) & (room > 0.0)
    # 1 - q² = (sigma - L) / (sigma - value), as q may lie so close to 1 that 1 - q would have no digits
    missing = np.nextafter(signal - bounds, np.inf) / (room if room > 0.0 else 1.0)
    rest = np.clip(np.nextafter(missing, np.inf), 0.0, 1.0)
    q = np.sqrt(1.0 - rest) * (1.0 - 4.0 * UNIT)
    more = np.nextafter(1.0 + q, -np.inf)
    less = np.nextafter(rest / more, np.inf)  # 1 - q
    endless = bounds >= signal
    low = np.nextafter(scales / more, np.inf)
    high = np.where(endless, np.inf, np.nextafter(scales / less, -np.inf))
    return np.where(useful, low, np.inf), np.where(useful, high, 0.0)


def first_gap(scales: Array, bounds: Array, within: ScaleRange, value: float) -> Gap | None:
    """The first of the :func:`gaps`; None where bounds prove the value for every scale."""
    return next(iter(gaps(scales, bounds, within, value)), None)


def gaps(scales: Array, bounds: Array, within: ScaleRange, value: float) -> list[Gap]:
    """The gaps that bounds at some scales leave for a value, ascending; none where they prove it for all.

    Parameters
    ----------
    scales
        Shape (m,).
    bounds
        Lower bounds on the error at these scales, shape (m,).
    within
        Where best scales may lie.
    """
    reached, end = within.ends(value)
    if value > within.signal.lower:  # codes that are best at a scale of zero have no more than the signal
        return [Gap(0.0, math.inf)]
    if reached > end:
        return []
    if end == math.inf:  # nor is it known then that codes with zᵀGw <= 0 have no less than the signal
        return [Gap(reached, end)]
    lows, highs = _reach(scales, bounds, within.signal.upper, value)
    serving = np.flatnonzero(lows < end)
    order = serving[np.argsort(lows[serving])]
    # a part joins those before it where it begins no later than the farthest of them ends
    starts, farthest = lows[order], np.maximum.accumulate(np.concatenate([[reached], highs[order]]))
    apart = np.flatnonzero(starts > farthest[:-1])
    found = [Gap(float(farthest[i]), float(starts[i])) for i in apart]
    return [*found, Gap(float(farthest[-1]), end)] if farthest[-1] < end else found


def largest_value(scales: Array, bounds: Array, within: ScaleRange) -> float:
    """The largest value that bounds at some scales prove for every scale, but for the bisection's end."""
    low, high = 0.0, max(within.signal.lower, 0.0)
    if first_gap(scales, bounds, within, high) is None:
        return high
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        if first_gap(scales, bounds, within, middle) is None:
            low = middle
        else:
            high = middle
    return low


def claimed_value(scales: Array, bounds: Array, within: ScaleRange) -> tuple[float, NDArray[np.bool_]]:
    """What bounds at some scales prove for every scale on any machine, and which of them are needed for it.

    Parameters
    ----------
    scales, bounds
        Shape (m,).
    within
        Where best scales may lie.
    """
    within = within.elsewhere()
    value, share = largest_value(scales, bounds, within), CLAIMED
    while share < 1.0 and first_gap(scales, bounds, within, down((1.0 - share) * value)) is not None:
        share *= 2.0  # a bisection's end is no proof of what lies below it, where all is rounding
    value = max(0.0, down((1.0 - share) * value)) if share < 1.0 else 0.0
    needed = np.ones(len(scales), dtype=np.bool_)
    for i in np.argsort(bounds):  # the lowest bounds, with the dearest proofs, are left out first
        needed[i] = False
        if first_gap(scales[needed], bounds[needed], within, value) is not None:
            needed[i] = True
    if not needed.any():  # no codes change the error
        needed[0] = True
    return value, needed


@dataclass(frozen=True, eq=False)
class ScalesCertificate(CombinedCertificate):
    """Bounds at some scales that together bound the error at every scale."""

    kind: ClassVar[str] = "scales"
    scales: Array
    """Ascending, shape (m,)."""
    bounds: Array
    """What is stated at each of them, shape (m,)."""
    proofs: tuple[Certificate, ...]
    """What proves it."""
    value: float
    """What is stated for every scale."""

    def fits(self, problem: Problem) -> bool:
        """Whether it holds a certificate that fits at each of some rising scales."""
        if not (isinstance(problem, AnyScaleLeastSquares) and isinstance(self.proofs, tuple)):
            return False
        m = len(self.proofs)
        if not (is_vector(self.scales, m) and is_vector(self.bounds, m) and is_number(self.value)):
            return False
        if not (1 <= m <= MOST_SCALES and (self.scales > 0.0).all() and (np.diff(self.scales) > 0.0).all()):
            return False
        try:
            fixed = [problem.at(float(scale)) for scale in self.scales]
        except InputError:
            return False
        return all(
            isinstance(proof, Certificate) and proof.fits(own)
            for proof, own in zip(self.proofs, fixed, strict=True)
        )

    def in_units(self, units: Units) -> ScalesCertificate:
        """The same claim about the problem in these units."""
        bounds = np.array([scaled_down(float(bound), -units.error) for bound in self.bounds])
        proofs = tuple(proof.in_units(units) for proof in self.proofs)
        with np.errstate(over="ignore", under="ignore"):
            scales = np.ldexp(self.scales, -units.weight)
        return ScalesCertificate(scales, bounds, proofs, scaled_down(self.value, -units.error))

    def prove(self, problem: Problem, clock: Clock) -> float:
        """The value, where all that is stated is proved, and proves it for every scale; else 0."""
        assert isinstance(problem, AnyScaleLeastSquares), "it fits the problem"
        inner, moved = problem.normalised, self.in_units(problem.units)
        for scale, bound, proof in zip(moved.scales, moved.bounds, moved.proofs, strict=True):
            if not proof.prove(inner.at(float(scale)), clock) >= bound or clock.expired:
                return 0.0
        gap = first_gap(moved.scales, moved.bounds, range_of(inner), moved.value)
        return max(scaled_down(moved.value, problem.units.error), 0.0) if gap is None else 0.0

    @classmethod
    def of(
        cls, problem: AnyScaleLeastSquares, stated: Sequence[tuple[float, float, Certificate]]
    ) -> ScalesCertificate:
        """What bounds at some scales state for every scale, of those that are needed for it.

        Parameters
        ----------
        problem
            In units near 1.
        stated
            Scales, bounds that were claimed there, and what proves them.
        """
        kept = sorted(stated, key=lambda part: part[0])
        scales, bounds = (np.array([part[i] for part in kept]) for i in (0, 1))
        value, needed = claimed_value(scales, bounds, range_of(problem))
        proofs = tuple(part[2] for part, used in zip(kept, needed, strict=True) if used)
        return cls(scales[needed], bounds[needed], proofs, value)

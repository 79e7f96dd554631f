"""Totals over a layer's channels from a random sample of them, with cheap bounds of all as a control.

Regression estimator of survey sampling: with y known on a simple random sample of n of N channels and x on
all, the total of y is N (mean y + b (mean X - mean x)), b the slope of least squares. Its variance comes from
deleted residuals, e/(1 - h), which keep the interval honest where few channels carry much of the error, and
from the finite population, 1 - n/N; the quantile is Student's with n - 2 degrees of freedom. See Cochran,
Sampling Techniques (1977), chapter 7, and for deleted residuals MacKinnon and White, Journal of Econometrics
29 (1985).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pvqbounds.results.estimate import Estimate, Estimated

if TYPE_CHECKING:
    from pvqbounds.results.layer import SliceResult

__all__ = ["CONFIDENCE", "SMALLEST_SAMPLE", "estimate_of", "estimated_total"]

CONFIDENCE = 0.95

SMALLEST_SAMPLE = 8
"""Channels under which a slope and its residuals say too little."""

LEAST_REST = 1e-3
"""1 - h is no less: a channel that the slope hangs on alone."""


def estimated_total(
    sampled: NDArray[np.float64], control: NDArray[np.float64], total: float, population: int
) -> Estimated:
    """The total of a quantity over a population, from a simple random sample without replacement.

    Parameters
    ----------
    sampled
        The quantity on the sample, shape (n,), n at least 3.
    control
        What is known of all, on the sample, shape (n,).
    total
        Sum of the control over the population.
    population
        N, at least n.
    """
    n = len(sampled)
    away = control - control.mean()
    spread = float(away @ away)
    slope = float(away @ sampled) / spread if spread > 0.0 else 0.0
    shift = total / population - float(control.mean())
    value = population * (float(sampled.mean()) + slope * shift)
    leverage = 1.0 / n + (away**2 / spread if spread > 0.0 else 0.0)
    residual = sampled - sampled.mean() - slope * away
    deleted = residual / np.maximum(1.0 - leverage, LEAST_REST)
    # each residual counts as much as it moves the estimate
    moved = 1.0 / n + (away * shift / spread if spread > 0.0 else 0.0)
    variance = (1.0 - n / population) * population**2 * float(((moved * deleted) ** 2).sum())
    half = _quantile(n - 2) * math.sqrt(max(variance, 0.0))
    return Estimated(value, value - half, value + half)


def _quantile(freedom: int) -> float:
    """Student's, for both sides of the confidence."""
    from scipy.special import stdtrit  # brings SciPy, which the data alone do not need

    return float(stdtrit(freedom, 0.5 + 0.5 * CONFIDENCE))


def estimate_of(
    slices: Sequence[SliceResult],
    sample: Sequence[int],
    cheap_lower: Sequence[float],
    cheap_upper: Sequence[float],
) -> Estimate:
    """The estimate of a side whose channels are bounded cheaply, but for those of a sample.

    Parameters
    ----------
    slices
        All channels of the layer.
    sample
        Channels that were bounded tightly.
    cheap_lower, cheap_upper
        Their cheap ends, which the slices no longer have.
    """
    tight = {s.channel: s.bounds for s in slices if s.channel in set(sample)}
    rest = [s.bounds for s in slices if s.channel not in tight]
    low = math.fsum(s.bounds.error_lower for s in slices)
    high = math.fsum(s.bounds.error_upper for s in slices)

    def total(own: Sequence[float], cheap: Sequence[float], others: Sequence[float]) -> Estimated:
        control = np.asarray(cheap, dtype=np.float64)
        found = estimated_total(
            np.asarray(own, dtype=np.float64), control, math.fsum([*cheap, *others]), len(slices)
        )
        # what is certified of the whole layer holds for what is estimated, too
        return Estimated(*(min(max(end, low), high) for end in found))

    return Estimate(
        sample=tuple(sample),
        error_lower=total([tight[c].error_lower for c in sample], cheap_lower, [b.error_lower for b in rest]),
        error_upper=total([tight[c].error_upper for c in sample], cheap_upper, [b.error_upper for b in rest]),
        cheap_lower=tuple(cheap_lower),
        cheap_upper=tuple(cheap_upper),
    )

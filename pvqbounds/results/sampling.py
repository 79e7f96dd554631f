"""Totals over a layer's channels from a random sample of them, with cheap bounds of all as a control.

A simple random sample of n of N channels knows the quantity y, and all channels know a cheap one, x. The
ratio y/x is fitted by a line in log x, as cheap bounds lose more or less on large channels; the total is the
sum of what the line says of all channels and N/n times what it misses on the sample (the generalised
regression estimator of survey sampling: Särndal, Swensson and Wretman, Model Assisted Survey Sampling, 1992,
chapter 6). A few large channels carry much of a layer's error and may all be outside the sample, whose own
residuals then say too little: the variance is the larger one of that of the design, from deleted residuals
with the correction 1 - n/N of a finite population, and that of the model, in which ratios of all channels
spread as those of the sample. The quantile is Student's with n - 2 degrees of freedom. Where a control is not
positive, the line is one in x itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pvqbounds.results.estimate import Estimate, Estimated

if TYPE_CHECKING:
    from pvqbounds.results.layer import SliceResult

__all__ = ["CONFIDENCE", "SMALLEST_SAMPLE", "estimate_of", "estimated_total"]

Array = NDArray[np.float64]

CONFIDENCE = 0.95

SMALLEST_SAMPLE = 8
"""Channels under which a line and its residuals say too little."""

FEWEST = 4
"""Channels of a sample whose ends are not known from the cheap bounds, for a line to be fitted: with fewer
the interval is all that is certified."""

LEAST_REST = 1e-3
"""1 less the leverage is no less: a channel that the line hangs on alone."""


def estimated_total(sampled: Array, control: Array, others: Array) -> Estimated:
    """The total of a quantity over a population, from a simple random sample without replacement.

    Parameters
    ----------
    sampled
        The quantity on the sample, shape (n,), n at least 3.
    control
        The control on the sample, shape (n,).
    others
        The control on the rest of the population, shape (N - n,).
    """
    unit = max(float(np.abs(control).max()), float(np.abs(others).max(initial=0.0)))
    if unit == 0.0:
        unit = 1.0
    y, x, rest = sampled / unit, control / unit, others / unit
    if min(float(x.min()), float(rest.min(initial=np.inf))) > 0.0:
        value, variance = _fitted(y, x, np.log(x), rest, np.log(rest))
    else:
        one, ones = np.ones(len(x)), np.ones(len(rest))
        value, variance = _fitted(y, one, x, ones, rest)
    half = _quantile(len(y) - 2) * math.sqrt(max(variance, 0.0))
    return Estimated(value * unit, (value - half) * unit, (value + half) * unit)


def _fitted(y: Array, size: Array, line: Array, rest: Array, rest_line: Array) -> tuple[float, float]:
    """The total and its variance, y/size being a line with residuals that do not depend on the channel.

    Parameters
    ----------
    y, size, line
        Of the sample: the quantity, what it is divided by, and what the line is one in.
    rest, rest_line
        `size` and `line` of the rest.
    """
    n, population = len(y), len(y) + len(rest)
    rows = np.stack([np.ones(n), line - line.mean()], axis=1)
    inverse = np.linalg.pinv(rows.T @ rows)
    ratio = y / size
    slope = inverse @ (rows.T @ ratio)
    missed = ratio - rows @ slope
    leverage = np.einsum("ij,jk,ik->i", rows, inverse, rows)
    deleted = missed / np.maximum(1.0 - leverage, LEAST_REST) * size
    unseen = rest @ np.stack([np.ones(len(rest)), rest_line - line.mean()], axis=1)
    value = float((rows @ slope * size).sum() + unseen @ slope + population / n * (missed * size).sum())
    model = float((missed**2).sum()) / (n - 2) * float((rest**2).sum() + unseen @ inverse @ unseen)
    centred = deleted - deleted.mean()
    design = (1.0 - n / population) * population**2 / n * float((centred**2).sum()) / (n - 1)
    return value, max(model, design)


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
    cheap = dict(zip(sample, zip(cheap_lower, cheap_upper, strict=True), strict=True))
    certain = (
        math.fsum(s.bounds.error_lower for s in slices),
        math.fsum(s.bounds.error_upper for s in slices),
    )

    def total(end: Literal["error_lower", "error_upper"], number: int) -> Estimated:
        """The total of one end, the one of this number in a pair."""
        known, own, control, others = [], [], [], []
        for s in slices:
            lower, upper = cheap.get(s.channel, (s.bounds.error_lower, s.bounds.error_upper))
            if lower == upper:  # as of a channel without signal: nothing is left to be estimated of it
                known.append(lower)
            elif s.channel in cheap:
                own.append(getattr(s.bounds, end))
                control.append((lower, upper)[number])
            else:
                others.append((lower, upper)[number])
        if not others:
            found = Estimated(*[math.fsum(own)] * 3)
        elif len(own) < FEWEST:
            found = Estimated(math.fsum(own) + math.fsum(others), -math.inf, math.inf)
        else:
            found = estimated_total(*(np.asarray(ends, dtype=np.float64) for ends in (own, control, others)))
        # what is certified of the whole layer holds for what is estimated, too
        return Estimated(*(min(max(math.fsum([*known, end]), certain[0]), certain[1]) for end in found))

    return Estimate(
        sample=tuple(sample),
        error_lower=total("error_lower", 0),
        error_upper=total("error_upper", 1),
        cheap_lower=tuple(cheap_lower),
        cheap_upper=tuple(cheap_upper),
    )

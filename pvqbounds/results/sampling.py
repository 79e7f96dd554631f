"""Totals over a layer's channels from a random sample of them, with cheap bounds of all as a control.

A simple random sample of n of N channels knows an end y of its tight intervals, and all channels know a cheap
interval, [l, u]. The ratio y/u is fitted by a line in l/u: both lie between 0 and 1, however large a
channel's error is and however much its cheap bound lost. Where l/u is 1 the ratio is 1, which counts as a
part of a channel: that holds the line where l/u hardly differs on the sample, as where the cheap bounds of
most channels are 0, and is much larger for others. The total is the sum of what the line says of all
channels, within their cheap intervals, and N/n times what it misses on the sample (the generalised
regression estimator of survey sampling: Särndal, Swensson and Wretman, Model Assisted Survey Sampling,
1992, chapter 6). A few large channels carry much of a layer's error and may all be outside the sample, whose
own residuals then say too little: the variance is the larger one of that of the design, from deleted
residuals with the correction 1 - n/N of a finite population, and that of the model, in which ratios of all
channels spread as those of the sample do, or as those of its large ones. The quantile is Student's with
n - 2 degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pvqbounds.results.estimate import Estimate, Estimated

if TYPE_CHECKING:
    from pvqbounds.results.layer import SliceResult

__all__ = ["CONFIDENCE", "SMALLEST_SAMPLE", "estimate_of", "estimated_total"]

Array = NDArray[np.float64]

Interval = tuple[Array, Array]
"""Lower and upper ends of several channels."""

CONFIDENCE = 0.95

SMALLEST_SAMPLE = 8
"""Channels under which a line and its residuals say too little."""

FEWEST = 4
"""Channels of a sample whose ends are not known from the cheap bounds, for a line to be fitted: with fewer
the interval is all that is certified."""

CLOSED = 0.01
"""Channels that the known end of the line counts as: next to nothing wherever the sample tells the slope."""

LEAST_REST = 1e-3
"""1 less the leverage is no less: a channel that the line hangs on alone."""


def estimated_total(sampled: Array, cheap: Interval, rest: Interval) -> Estimated:
    """The total of an end of tight intervals over a population, from a simple random sample of it.

    Parameters
    ----------
    sampled
        The end on the sample, shape (n,), n at least 3.
    cheap
        Both ends of the cheap intervals of the sample, shape (n,) each, the upper ones positive.
    rest
        Those of the rest of the population, shape (N - n,) each.
    """
    unit = max(float(cheap[1].max()), float(rest[1].max(initial=0.0)))
    with np.errstate(all="ignore"):  # numbers of a file may be anything
        low, high = cheap[0] / unit, cheap[1] / unit
        others_low, others_high = rest[0] / unit, rest[1] / unit
        value, variance = _fitted(sampled / unit, high, low / high, others_high, others_low / others_high)
    half = _quantile(len(sampled) - 2) * math.sqrt(max(variance, 0.0))
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
    rows = np.stack([np.ones(n), line - 1.0], axis=1)  # the intercept is the ratio where l/u is 1
    inverse = np.linalg.pinv(rows.T @ rows + np.diag([CLOSED, 0.0]))
    ratio = y / size
    slope = inverse @ (rows.T @ ratio + np.array([CLOSED, 0.0]))
    expected = np.clip(rows @ slope, line, 1.0)
    missed = ratio - expected
    leverage = np.einsum("ij,jk,ik->i", rows, inverse, rows)
    deleted = missed / np.maximum(1.0 - leverage, LEAST_REST) * size
    rest_rows = np.stack([np.ones(len(rest)), rest_line - 1.0], axis=1)
    unseen = rest @ rest_rows
    of_rest = np.clip(rest_rows @ slope, rest_line, 1.0)
    value = float(y.sum() + rest @ of_rest + (population / n - 1.0) * (missed * size).sum())
    spread = max(float((missed**2).sum()), n * float((missed * size) @ (missed * size)) / float(size @ size))
    model = spread / (n - 2) * float((rest**2).sum() + unseen @ inverse @ unseen)
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
    known = [s for s in slices if _is_settled(*_cheap_ends(s, cheap))]
    settled = math.fsum(_cheap_ends(s, cheap)[0] for s in known)
    open_ones = [s for s in slices if not _is_settled(*_cheap_ends(s, cheap))]
    drawn = [s for s in open_ones if s.channel in cheap]
    others = [s for s in open_ones if s.channel not in cheap]

    def total(tight: Sequence[float], cheap_rest: Sequence[float]) -> Estimated:
        """The total of one end of all channels, from those of the sample that are not settled."""
        if not others:
            found = Estimated(*[math.fsum(tight)] * 3)
        elif len(drawn) < FEWEST:
            found = Estimated(math.fsum([*tight, *cheap_rest]), -math.inf, math.inf)
        else:
            pairs = [np.array([_cheap_ends(s, cheap) for s in part]).T for part in (drawn, others)]
            found = estimated_total(np.array(tight), *((low, high) for low, high in pairs))
        # what is certified of the whole layer holds for what is estimated, too
        return Estimated(*(min(max(settled + end, certain[0]), certain[1]) for end in found))

    return Estimate(
        sample=tuple(sample),
        error_lower=total([s.bounds.error_lower for s in drawn], [s.bounds.error_lower for s in others]),
        error_upper=total([s.bounds.error_upper for s in drawn], [s.bounds.error_upper for s in others]),
        cheap_lower=tuple(cheap_lower),
        cheap_upper=tuple(cheap_upper),
    )


def _cheap_ends(result: SliceResult, cheap: Mapping[int, tuple[float, float]]) -> tuple[float, float]:
    """The cheap interval of a channel: its own, unless a tight one took its place."""
    own = result.bounds.error_lower, result.bounds.error_upper
    return cheap.get(result.channel, own)


def _is_settled(lower: float, upper: float) -> bool:
    """Whether a cheap interval leaves nothing to be estimated, as that of a channel without signal."""
    return lower == upper or upper <= 0.0

"""Expected errors of quantization and of magnitude pruning on a distribution of weights.

The paper's section 3, with the range proved optimal, the mask charged, and two curves beside it:
what no coder of the same rate can exceed, and a Monte Carlo check.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from pvqbounds.errors import InputError, checked_flags
from pvqbounds.problems.grids import symmetric_codes
from pvqbounds.problems.ranges import best_scale
from pvqbounds.results.bounds import sqnr
from pvqbounds.studies.distributions import Distribution, Estimate, StudentT

__all__ = [
    "BASE_BITS",
    "Crossover",
    "ExpectedErrors",
    "Losses",
    "MonteCarlo",
    "codes_of",
    "crossover_bits",
    "crossover_kurtosis",
    "expected_errors",
    "optimal_scale",
    "rate_distortion_sqnr",
]

BASE_BITS = 16
"""Bits of a weight that is not compressed: b bits compare with density b/16."""

UNDEFINED = Estimate(math.nan, math.nan)


@dataclass(frozen=True)
class Losses:
    """Expected squared errors at one bit width, per weight."""

    scale: float
    """Step of the grid; of a group, in units of its largest magnitude."""
    zeros: float
    """Probability of code 0."""
    quantization: Estimate
    pruning: Estimate
    """Keeping b/16 of the weights."""
    corrected: Estimate
    """Keeping that share of the weights that quantization does not set to zero: the paper's correction."""
    masked: Estimate
    """Keeping (b-1)/16: one bit of each weight's budget goes into the mask."""


@dataclass(frozen=True)
class MonteCarlo:
    """Sample means of the same errors at the same scale and threshold.

    Their uncertainties are standard errors, from the standard deviation of the distribution and not
    of the sample.
    """

    quantization: Estimate
    pruning: Estimate


@dataclass(frozen=True)
class ExpectedErrors:
    """What b bits a weight are worth on one distribution."""

    distribution: str
    bits: int
    group_size: int | None
    """Weights that share a scale and a pruning budget; None: all of them."""
    signal: float
    """E[W²]."""
    kurtosis: float
    limit: float
    """SQNR in dB that no coder of `bits` bits a weight exceeds."""
    losses: Losses
    monte_carlo: MonteCarlo | None

    @property
    def density(self) -> float:
        """Share of the weights that pruning keeps."""
        return self.bits / BASE_BITS

    @property
    def note(self) -> str | None:
        """What is undefined, and why."""
        if not math.isfinite(self.signal):
            return "no second moment: SQNR is undefined"
        if not math.isfinite(self.kurtosis):
            return "no fourth moment: kurtosis is undefined, and a sampled error has no standard error"
        return "nothing is pruned at this density" if self.density >= 1.0 else None

    def sqnr(self, error: Estimate) -> float:
        """SQNR of one of the errors in dB; NaN where there is no second moment."""
        return sqnr(self.signal, error.value) if math.isfinite(self.signal) else math.nan

    def uncertainty(self, error: Estimate) -> float:
        """How far off that SQNR may be, dB."""
        return 10.0 / math.log(10.0) * error.uncertainty / error.value if error.value > 0.0 else math.nan


def codes_of(bits: int, narrow: bool) -> tuple[int, int]:
    """Smallest and largest code: -2^(b-1) or, `narrow`, one more; to 2^(b-1) - 1."""
    qmin, qmax = symmetric_codes(bits)
    return (-qmax, qmax) if narrow else (qmin, qmax)


def expected_errors(
    distribution: Distribution,
    bits: Iterable[int] = range(2, 9),
    *,
    narrow: bool = False,
    group_size: int | None = None,
    monte_carlo: int = 0,
    seed: int = 0,
) -> list[ExpectedErrors]:
    """Expected errors of quantization and of pruning at each bit width.

    Parameters
    ----------
    distribution
        What the weights are drawn from.
    bits
        Bit widths, 2 to 16; each compares with density b/16.
    narrow
        Leave out the code -2^(b-1), so that the grid is symmetric.
    group_size
        Weights that share a scale and a pruning budget; None: one scale for all of them, and one
        magnitude under which weights are pruned. Groups are not checked by Monte Carlo.
    monte_carlo
        Weights to draw for the check; 0: none.
    seed
        Of the draws.

    Returns
    -------
    list of ExpectedErrors
        One for each bit width; the losses of a distribution without a second moment are NaN.

    Raises
    ------
    InputError
        If a bit width, the group size or the number of draws cannot be used.
    """
    checked_flags(narrow=narrow)
    if monte_carlo < 0 or monte_carlo == 1:
        raise InputError(f"Monte Carlo needs two draws at least, not {monte_carlo}.")
    exists = math.isfinite(distribution.signal)
    draws = np.zeros(0)
    if monte_carlo and group_size is None and exists:
        draws = distribution.sample(monte_carlo, np.random.default_rng(seed))
    kurtosis = distribution.kurtosis if exists else math.nan
    results = []
    for width in bits:
        qmin, qmax = codes_of(width, narrow)
        check = None
        if not exists:
            losses = Losses(math.nan, math.nan, UNDEFINED, UNDEFINED, UNDEFINED, UNDEFINED)
        elif group_size is not None:
            from pvqbounds.studies.groups import group_losses

            losses = group_losses(distribution, width, qmin, qmax, group_size)
        else:
            losses = _losses(distribution, width, qmin, qmax)
            check = _monte_carlo(distribution, draws, width, losses.scale, qmin, qmax) if draws.size else None
        limit = rate_distortion_sqnr(distribution, width) if exists else math.nan
        results.append(
            ExpectedErrors(
                distribution.name, width, group_size, distribution.signal, kurtosis, limit, losses, check
            )
        )
    return results


def _losses(distribution: Distribution, bits: int, qmin: int, qmax: int) -> Losses:
    scale = optimal_scale(distribution, qmin, qmax)
    zeros = 1.0 - float(distribution.mass_beyond(0.5 * scale))

    def pruned(density: float) -> Estimate:
        return distribution.pruning_error(float(distribution.magnitude_above(density)))

    return Losses(
        scale,
        zeros,
        distribution.quantization_error(scale, qmin, qmax),
        pruned(bits / BASE_BITS),
        pruned((1.0 - zeros) * bits / BASE_BITS),
        pruned((bits - 1) / BASE_BITS),
    )


def optimal_scale(distribution: Distribution, qmin: int, qmax: int) -> float:
    """Scale of the least expected error, by the branch and bound of :mod:`pvqbounds.problems.ranges`.

    Raises
    ------
    InputError
        If the distribution has no second moment.
    """
    signal = distribution.signal
    if not math.isfinite(signal):
        raise InputError(f"{distribution.name} has no second moment, so that every scale has infinite error.")
    rms = math.sqrt(signal)
    products, squares = distribution.code_moments(np.array([rms]), qmin, qmax)
    explained = float(products[0] ** 2 / squares[0]) if squares[0] > 0.0 else 0.0
    reach = rms
    # beyond 2 reach, what the codes explain is at most E[W²; |W| > reach]
    while signal - distribution.pruning_error(reach).value > explained:
        reach *= 2.0
    tails = distribution.tails(np.zeros(1))
    scale = best_scale(
        lambda scales: distribution.code_moments(scales, qmin, qmax),
        signal=signal,
        slope=2.0 * float(tails.mean[0] * qmax - tails.mean_below[0] * qmin),
        largest=2.0 * reach,
        octaves=int(math.log2(reach / rms)) + int(math.log2(max(-qmin, qmax))) + 5,
    )

    def error(scale: float) -> float:
        return distribution.quantization_error(scale, qmin, qmax).value

    # where a discrete stand-in guided the search, the density itself has the last word
    found = optimize.minimize_scalar(
        error, bounds=(0.99 * scale, 1.01 * scale), method="bounded", options={"xatol": 1e-3 * scale}
    )
    return float(found.x) if found.fun < error(scale) else scale


def rate_distortion_sqnr(distribution: Distribution, rate: float) -> float:
    """SQNR in dB that no coder of `rate` bits a weight exceeds, however long its blocks.

    Shannon's lower bound on the distortion, 2^(2h - 2 rate) / (2πe) with the differential entropy h
    in bits; for a Gaussian it is the rate-distortion function itself (Cover and Thomas, "Elements of
    Information Theory", 2006, chapter 10).
    """
    entropy = distribution.entropy
    power = entropy * 20.0 * math.log10(2.0) - 10.0 * math.log10(2.0 * math.pi * math.e)
    return 10.0 * math.log10(distribution.signal) - power + 20.0 * math.log10(2.0) * rate


def _monte_carlo(
    distribution: Distribution, draws: NDArray[np.float64], bits: int, scale: float, qmin: int, qmax: int
) -> MonteCarlo:
    threshold = float(distribution.magnitude_above(bits / BASE_BITS))

    def quantized(w: NDArray[np.float64]) -> NDArray[np.float64]:
        squares: NDArray[np.float64] = (w - scale * np.clip(np.rint(w / scale), qmin, qmax)) ** 2
        return squares

    def pruned(w: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(np.abs(w) <= threshold, w * w, 0.0)

    def mean(loss: Callable[[NDArray[np.float64]], NDArray[np.float64]], cuts: ArrayLike) -> Estimate:
        # clipping is rare and costly: a sample that misses it would state too small an error of its own
        spread = distribution.spread(loss, np.asarray(cuts, dtype=np.float64))
        return Estimate(float(loss(draws).mean()), spread / math.sqrt(len(draws)))

    return MonteCarlo(mean(quantized, scale * (np.arange(max(-qmin, qmax)) + 0.5)), mean(pruned, [threshold]))


# ------------------------------------------------------------------------------------ crossovers


def crossover_bits(
    bits: Sequence[int], quantization: Sequence[float], pruning: Sequence[float]
) -> int | None:
    """The bit width from which on quantization has the higher SQNR; None if it has not at the largest."""
    first = None
    for width, quantized, pruned in sorted(zip(bits, quantization, pruning, strict=True), reverse=True):
        if not quantized > pruned:
            break
        first = width
    return first


@dataclass(frozen=True)
class Crossover:
    """Where pruning overtakes quantization as the tails of a family of distributions grow."""

    bits: int
    parameter: float
    """Of the family: the range of a truncated Student-t."""
    kurtosis: float
    """Non-excess."""


def truncated_student(limit: float) -> Distribution:
    """The paper's family: Student-t of two degrees of freedom, truncated at `limit`."""
    return StudentT(df=2.0, range=limit)


def crossover_kurtosis(
    bits: int,
    family: Callable[[float], Distribution] = truncated_student,
    *,
    largest: float = 1e6,
    narrow: bool = False,
    group_size: int | None = None,
) -> Crossover | None:
    """The kurtosis at which pruning overtakes quantization of `bits` bits.

    Parameters
    ----------
    bits
        Bit width, compared with density b/16.
    family
        Distributions of growing kurtosis, from a positive parameter.
    largest
        Parameter up to which is searched, from 1 in octaves.
    narrow, group_size
        As in :func:`expected_errors`.

    Returns
    -------
    Crossover or None
        The first crossing; None if quantization stays better up to `largest`.
    """

    def advantage(exponent: float) -> float:
        (errors,) = expected_errors(family(2.0**exponent), [bits], narrow=narrow, group_size=group_size)
        return errors.sqnr(errors.losses.quantization) - errors.sqnr(errors.losses.pruning)

    previous = 0.0
    for exponent in np.arange(1.0, math.log2(largest) + 1.0).tolist():
        if advantage(exponent) < 0.0:
            root = float(optimize.brentq(advantage, previous, exponent, xtol=1e-9))
            return Crossover(bits, 2.0**root, family(2.0**root).kurtosis)
        previous = exponent
    return None

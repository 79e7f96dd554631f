"""From a relaxation to feasible codes: Park and Boyd's randomized rounding, kept inside the box.

Samples are drawn from a normal distribution with the relaxation's mean and covariance, rounded,
clipped, and improved by moves of one code (1-opt) that stay in the box at every step; clipping
comes before the descent, never after it. Source: Park and Boyd, "A semidefinite programming
method for integer convex quadratic minimization", Optimization Letters 12, 2018, section 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems import IntegerLeastSquares, LeastSquares
from pvqbounds.problems.integer import error_form
from pvqbounds.problems.supports import largest_kept

if TYPE_CHECKING:
    from pvqbounds.clock import Clock

__all__ = ["gaussian_starts", "improve", "randomized_rounding", "rounded_moments"]


def randomized_rounding(
    problem: IntegerLeastSquares,
    mean: NDArray[np.float64],
    covariance: NDArray[np.float64],
    *,
    samples: int | None = None,
    seed: int = 0,
    clock: Clock | None = None,
) -> NDArray[np.int64]:
    """Best of round to nearest and `samples` random roundings, each 1-opt in the box.

    Parameters
    ----------
    mean
        Relaxed z, shape (n,).
    covariance
        Z - zzᵀ of the relaxation, shape (n, n); negative eigenvalues are taken as zero.
    samples
        Number of draws; 3n as in the paper if None.
    seed
        Seed of the generator.
    clock
        Leaves out the draws that are not improved in time.

    Returns
    -------
    Codes inside the grid, int64, shape (n,).
    """
    draws = gaussian_starts(mean, covariance, 3 * problem.n if samples is None else samples, seed)
    starts = np.vstack([problem.codes_of_nearest().astype(np.float64), draws])
    return improve(problem, starts, pairs=False, clock=clock)


def rounded_moments(
    problem: LeastSquares,
    mean: NDArray[np.float64],
    covariance: NDArray[np.float64],
    seed: int = 0,
    samples: int | None = None,
) -> NDArray[np.int64]:
    """Codes of any finite values: the best of round to nearest and of `samples` draws, rounded.

    Of each draw the largest weights are kept that a support rule allows, the others are zero.

    Parameters
    ----------
    mean, covariance
        Of the weights v in a relaxation, shapes (n,) and (n, n).
    samples
        Number of draws; 3n if None.
    """
    plain = problem.codes_of_nearest()
    draws = gaussian_starts(mean, covariance, 3 * problem.n if samples is None else samples, seed)
    draws = draws[np.isfinite(draws).all(axis=1)]
    kept = largest_kept(np.abs(draws), problem.budgets)
    zero = problem.values.zero_codes()
    rounded = [np.asarray(problem.values.nearest(draw)) for draw in draws]
    codes = [plain, *(np.where(own, code, zero) for own, code in zip(kept, rounded, strict=True))]
    offset = np.stack([problem.weight_of(code) for code in codes]) - problem.weight
    errors = np.einsum("ki,ki->k", offset @ problem.gram, offset)
    return np.asarray(codes[int(errors.argmin())], dtype=np.int64)


def gaussian_starts(
    mean: NDArray[np.float64], covariance: NDArray[np.float64], samples: int, seed: int
) -> NDArray[np.float64]:
    """The mean, then `samples` draws from the normal distribution, shape (samples + 1, n).

    The mean alone where the covariance is none: a relaxation that broke off may give anything.
    """
    try:
        if not np.isfinite(covariance).all():
            return mean[None]
        values, vectors = np.linalg.eigh(covariance)
    except np.linalg.LinAlgError:  # the eigenvalues did not converge
        return mean[None]
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    draws = np.random.default_rng(seed).standard_normal((samples, len(mean)))
    return np.vstack([mean, mean + draws @ root.T])


def improve(
    problem: IntegerLeastSquares,
    starts: NDArray[np.float64],
    *,
    pairs: bool = True,
    clock: Clock | None = None,
) -> NDArray[np.int64]:
    """Best codes reached from any of `starts`, shape (K, n), by 1-opt and (with `pairs`) 2-opt.

    Starts need not be integers nor lie in the box: they are rounded and clipped first. Those that are
    not finite are left out; when the clock has run out the first of them is all that is looked at.
    """
    from pvqbounds.heuristics.local_search import best_of_samples

    usable = np.isfinite(starts).all(axis=1)
    if not usable.all():
        starts = starts[usable] if usable.any() else problem.codes_of_nearest()[None].astype(np.float64)
    return best_of_samples(
        error_form(problem), problem.centre, starts, problem.low, problem.high, pairs=pairs, clock=clock
    )

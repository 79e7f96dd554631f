"""From a relaxation to feasible codes: Park and Boyd's randomized rounding, kept inside the box.

Samples are drawn from a normal distribution with the relaxation's mean and covariance, rounded,
clipped, and improved by moves of one code (1-opt) that stay in the box at every step; clipping
comes before the descent, never after it. Source: Park and Boyd, "A semidefinite programming
method for integer convex quadratic minimization", Optimization Letters 12, 2018, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems import LeastSquares
from pvqbounds.problems.code_grids import CodeProblem, in_codes
from pvqbounds.problems.supports import Budget, largest_kept

if TYPE_CHECKING:
    from pvqbounds.clock import Clock

__all__ = ["allowed_codes", "gaussian_starts", "improve", "randomized_rounding"]


def randomized_rounding(
    problem: LeastSquares,
    mean: NDArray[np.float64],
    covariance: NDArray[np.float64],
    *,
    samples: int | None = None,
    seed: int = 0,
    clock: Clock | None = None,
) -> NDArray[np.int64]:
    """Best of round to nearest and `samples` random roundings, each 1-opt among what is allowed.

    Parameters
    ----------
    mean
        Relaxed values in units of the grid: codes of steps, else weights, shape (n,).
    covariance
        Z - zzᵀ of the relaxation in the same units, shape (n, n); negative eigenvalues are taken as zero.
    samples
        Number of draws; 3n as in the paper if None.
    seed
        Seed of the generator.
    clock
        Leaves out the draws that are not improved in time.

    Returns
    -------
    Codes that the problem allows, int64, shape (n,).
    """
    draws = gaussian_starts(mean, covariance, 3 * problem.n if samples is None else samples, seed)
    starts = np.vstack([in_codes(problem).centre, draws])
    return improve(problem, starts, pairs=False, clock=clock)


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
    problem: LeastSquares,
    starts: NDArray[np.float64],
    *,
    pairs: bool = True,
    clock: Clock | None = None,
) -> NDArray[np.int64]:
    """Best codes reached from any of `starts`, shape (K, n), by 1-opt and (with `pairs`) 2-opt.

    Starts are points in units of the grid (:mod:`pvqbounds.problems.code_grids`): codes of steps, else
    weights. They need not be allowed: each takes the next values first, and under a support rule its
    largest ones. Those that are not finite are left out; when the clock has run out the first of them is
    all that is looked at.
    """
    from pvqbounds.heuristics.local_search import best_of_starts

    inner = in_codes(problem)
    usable = np.isfinite(starts).all(axis=1)
    if not usable.all():
        starts = starts[usable] if usable.any() else inner.centre[None]
    budgets = problem.budgets if problem.is_restricted else None
    codes = allowed_codes(inner, starts, budgets)
    return best_of_starts(inner, codes, budgets, pairs=pairs, clock=clock)


def allowed_codes(
    problem: CodeProblem, points: NDArray[np.float64], budgets: Sequence[Budget] | None
) -> NDArray[np.float64]:
    """Codes of the values next to points, shape (K, n); of each group those of most power, the rest zero."""
    codes = problem.grid.nearest(points)
    if budgets is None:
        return codes
    power = np.abs(problem.grid.values_of(codes)) * np.sqrt(np.diagonal(problem.form))
    return np.where(largest_kept(power, budgets), codes, problem.grid.zero)

"""The error that a fine grid is expected to reach: a label beside an interval, never a bound.

For weights that are uniform modulo the grid, and a grid that is wide enough, the mean of the least
error is the second moment of the Voronoi cell of the lattice s Zⁿ in the metric of G. Zador's ball
bound takes the ball of the cell's volume for the cell:

    E ≈ n G_n s² det(G)^(1/n),    G_n = Γ(n/2 + 1)^(2/n) / ((n + 2) π).

No cell has a smaller moment, so that the *mean* over offsets is at least this; a single channel may
lie on either side, and where weights lie outside the grid the box costs decibels more. Source:
Conway and Sloane, "Sphere Packings, Lattices and Groups", chapter 2, section 3.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["expected_error", "log_mean_pivot"]


def log_mean_pivot(gram: NDArray[np.float64]) -> float:
    """log det(G) / n over the inputs that are not always zero; -inf for a singular G.

    O(n³), once a Gram.
    """
    live = gram.any(axis=1)
    if not live.any():
        return -math.inf
    sign, logarithm = np.linalg.slogdet(gram[np.ix_(live, live)])
    return float(logarithm / live.sum()) if sign > 0.0 and math.isfinite(logarithm) else -math.inf


def expected_error(inputs: int, scale: float, log_pivot: float) -> float:
    """Typical least error of one channel on a fine, wide grid; 0 where the Gram is singular.

    Parameters
    ----------
    inputs
        n, the number of inputs that are not always zero.
    scale
        Step s.
    log_pivot
        From :func:`log_mean_pivot`.
    """
    if inputs == 0 or log_pivot == -math.inf:
        return 0.0
    log_moment = 2.0 / inputs * math.lgamma(inputs / 2.0 + 1.0) - math.log((inputs + 2.0) * math.pi)
    return math.exp(math.log(inputs) + log_moment + 2.0 * math.log(scale) + log_pivot)

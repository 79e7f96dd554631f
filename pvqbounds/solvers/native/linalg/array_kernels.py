"""Compiled parts of the interior point on NumPy arrays; what each computes stands in :class:`.Arrays`.

They and LAPACK (:mod:`.lapack`) let other threads run: channels in two threads are solved in half
the time. All arrays are contiguous, float64, the batch first.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from pvqbounds.solvers.native.linalg import lapack

__all__ = [
    "cholesky",
    "covariance_step",
    "inverse",
    "minus_diagonal",
    "newton_matrix",
    "polygon_blocks",
    "polygon_step",
    "polygon_targets",
    "solve",
    "sum_lower",
]

TILE = 32
"""Rows and columns of the tiles in which a matrix is read along its transpose."""


def cholesky(matrix: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Overwrite symmetric matrices, (B, n, n), by their factors (lower rows); which are definite, (B,)."""
    return np.asarray(_cholesky(matrix, lapack.numbers_for(matrix.shape[-1]), lapack.ROUTINES))


def inverse(factor: NDArray[np.float64]) -> None:
    """Overwrite factors by the inverses of their matrices."""
    _inverse(factor, lapack.numbers_for(factor.shape[-1]), lapack.ROUTINES)
    _mirror(factor)


def solve(factor: NDArray[np.float64], right: NDArray[np.float64]) -> None:
    """Overwrite right sides, (B, n), by solutions."""
    _solve(factor, right, lapack.numbers_for(factor.shape[-1]), lapack.ROUTINES)


@numba.njit(cache=True, nogil=True)
def _cholesky(matrix, numbers, routines):  # type: ignore[no-untyped-def]
    definite = np.empty(len(matrix), np.bool_)
    for i in range(len(matrix)):
        definite[i] = lapack.factorise(matrix[i], numbers, routines)
    return definite


@numba.njit(cache=True, nogil=True)
def _inverse(factor, numbers, routines):  # type: ignore[no-untyped-def]
    for i in range(len(factor)):
        lapack.invert(factor[i], numbers, routines)


@numba.njit(cache=True, nogil=True)
def _solve(factor, right, numbers, routines):  # type: ignore[no-untyped-def]
    for i in range(len(factor)):
        lapack.solve(factor[i], right[i], numbers, routines)


@numba.njit(cache=True, nogil=True)
def _mirror(matrix):  # type: ignore[no-untyped-def]
    """Copy the lower triangle to the upper one."""
    n = matrix.shape[1]
    for one in matrix:
        for top in range(0, n, TILE):
            for left in range(0, top + 1, TILE):
                for i in range(top, min(top + TILE, n)):
                    for j in range(left, min(left + TILE, i)):
                        one[j, i] = one[i, j]


@numba.njit(cache=True, nogil=True)
def minus_diagonal(form, values):  # type: ignore[no-untyped-def]
    """Compiled :meth:`.Arrays.minus_diagonal`."""
    n = len(form)
    out = np.empty((len(values), n, n))
    for b in range(len(values)):
        out[b] = form
        for i in range(n):
            out[b, i, i] -= values[b, i]
    return out


@numba.njit(cache=True, nogil=True)
def sum_lower(matrix, step, change):  # type: ignore[no-untyped-def]
    """Compiled :meth:`.Arrays.sum_lower`."""
    out = np.empty_like(matrix)
    n = matrix.shape[1]
    for b in range(len(matrix)):
        for i in range(n):
            for j in range(i + 1):
                out[b, i, j] = matrix[b, i, j] + step[b] * change[b, i, j]
    return out


@numba.njit(cache=True, nogil=True)
def newton_matrix(covariance, inverse, soft, pull, diagonal):  # type: ignore[no-untyped-def]
    """Compiled :meth:`.Arrays.newton_matrix`."""
    out = np.empty_like(covariance)
    n = covariance.shape[1]
    for b in range(len(covariance)):
        for i in range(n):
            for j in range(i + 1):
                out[b, i, j] = (
                    covariance[b, i, j] * inverse[b, i, j] + pull[b, i] * soft[b, i, j] * pull[b, j]
                )
            out[b, i, i] += diagonal[b, i]
    return out


@numba.njit(cache=True, nogil=True)
def covariance_step(product, level, inverse, covariance):  # type: ignore[no-untyped-def]
    """Compiled :meth:`.Arrays.covariance_step`."""
    out = np.empty_like(covariance)
    n = covariance.shape[1]
    for b in range(len(covariance)):
        for top in range(0, n, TILE):
            for left in range(0, top + 1, TILE):
                for i in range(top, min(top + TILE, n)):
                    for j in range(left, min(left + TILE, i + 1)):
                        half = 0.5 * (product[b, i, j] + product[b, j, i])
                        value = level[b] * inverse[b, i, j] - covariance[b, i, j] + half
                        out[b, i, j] = value
                        out[b, j, i] = value
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def polygon_blocks(ratio, features):  # type: ignore[no-untyped-def]
    """Compiled :meth:`.Arrays.polygon_blocks`."""
    count, n, m = ratio.shape
    curvature, slope, soft = np.empty((count, n)), np.empty((count, n)), np.empty((count, n))
    mean, total = np.empty((count, 2, n)), np.empty((count, n))
    for b in range(count):
        for i in range(n):
            weight, y, x = 0.0, 0.0, 0.0
            for v in range(m):
                r = ratio[b, i, v]
                weight += r
                y += r * features[b, 0, i, v]
                x += r * features[b, 1, i, v]
            y /= weight
            x /= weight
            cross, spread = 0.0, 0.0
            for v in range(m):
                off = features[b, 1, i, v] - x
                spread += ratio[b, i, v] * off * off
                cross += ratio[b, i, v] * off * (features[b, 0, i, v] - y)
            s = cross / spread
            rest = 0.0
            for v in range(m):
                off = features[b, 0, i, v] - y - s * (features[b, 1, i, v] - x)
                rest += ratio[b, i, v] * off * off
            curvature[b, i], slope[b, i], soft[b, i] = rest, s, 1.0 / spread
            mean[b, 0, i], mean[b, 1, i], total[b, i] = y, x, weight
    return curvature, slope, soft, mean, total


@numba.njit(cache=True, nogil=True)
def polygon_targets(target, features, mean):  # type: ignore[no-untyped-def]
    """Compiled :meth:`.Arrays.polygon_targets`."""
    count, n, m = target.shape
    moments, excess = np.empty((count, 2, n)), np.empty((count, n))
    for b in range(count):
        for i in range(n):
            total, y, x = 0.0, 0.0, 0.0
            for v in range(m):
                total += target[b, i, v]
                y += target[b, i, v] * features[b, 0, i, v]
                x += target[b, i, v] * features[b, 1, i, v]
            excess[b, i] = 1.0 - total
            moments[b, 0, i] = y + mean[b, 0, i] * (1.0 - total)
            moments[b, 1, i] = x + mean[b, 1, i] * (1.0 - total)
    return moments, excess


@numba.njit(cache=True, nogil=True, error_model="numpy")
def polygon_step(lam, mu, features, ratio, total, excess, target, weight):  # type: ignore[no-untyped-def]
    """Compiled :meth:`.Arrays.polygon_step`."""
    count, n, m = ratio.shape
    t, slack, change = np.empty((count, n)), np.empty_like(ratio), np.empty_like(ratio)
    for b in range(count):
        for i in range(n):
            gain = excess[b, i]
            for v in range(m):
                height = features[b, 0, i, v] * lam[b, i] + features[b, 1, i, v] * mu[b, i]
                slack[b, i, v] = height
                gain += ratio[b, i, v] * height
            gain /= total[b, i]
            t[b, i] = gain
            for v in range(m):
                slack[b, i, v] -= gain
                change[b, i, v] = target[b, i, v] - weight[b, i, v] - ratio[b, i, v] * slack[b, i, v]
    return t, slack, change

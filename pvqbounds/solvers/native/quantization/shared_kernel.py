"""Compiled sweeps of :mod:`pvqbounds.solvers.native.quantization.shared`."""

from __future__ import annotations

import math

import numba

__all__ = ["envelope_sweeps"]

PIECES = 8
"""Pieces of an envelope that are tried for the one of the minimiser."""


@numba.njit(cache=True, nogil=True, error_model="numpy")
def envelope_sweeps(matrix, centre, lam, z, pull, lowest, highest, count):  # type: ignore[no-untyped-def]
    """Coordinate descent on (z-c)ᵀS(z-c) + sum of envelopes of lam (k-c)², in place; pull = S (z-c)."""
    n = len(z)
    for _ in range(count):
        for i in range(n):
            curvature, weight, middle = matrix[i, i], lam[i], centre[i]
            qmin, qmax = lowest[i], highest[i]
            if not curvature > 0.0:  # an input that is always zero
                continue
            free = z[i] - pull[i] / curvature
            if weight <= 0.0:  # the envelope is the chord
                new = free - weight * (qmin + qmax - 2.0 * middle) / (2.0 * curvature)
                new = min(max(new, qmin), qmax)
            else:
                # on [k, k + 1] the slope is weight (2k + 1 - 2c): find the piece of the minimiser
                smooth = (curvature * free + weight * middle) / (curvature + weight)
                piece = min(max(math.floor(smooth - 0.5), qmin), qmax - 1.0)
                new = z[i]
                for _ in range(PIECES):  # rounding may have missed it by one; it must not go to and fro
                    slope = weight * (2.0 * piece + 1.0 - 2.0 * middle)
                    new = free - slope / (2.0 * curvature)
                    if new > piece + 1.0 and piece < qmax - 1.0:
                        next_slope = slope + 2.0 * weight
                        if free - next_slope / (2.0 * curvature) > piece + 1.0:
                            piece += 1.0
                            continue
                        new = piece + 1.0  # the kink
                    elif new < piece and piece > qmin:
                        last_slope = slope - 2.0 * weight
                        if free - last_slope / (2.0 * curvature) < piece:
                            piece -= 1.0
                            continue
                        new = piece
                    break
                new = min(max(new, qmin), qmax)
            step = new - z[i]
            if step == 0.0:
                continue
            z[i] = new
            for j in range(n):
                pull[j] += matrix[i, j] * step

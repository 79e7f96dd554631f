"""Compiled sweeps of :mod:`pvqbounds.solvers.native.low_rank`."""

from __future__ import annotations

import math

import numba
import numpy as np

__all__ = ["ON_CIRCLE", "envelope_sweeps", "sweep"]

ON_CIRCLE = 1e-9
"""Distance, in squared codes, within which a pair counts as lying on a circle."""


@numba.njit(cache=True, nogil=True)
def sweep(form, z, factor, pull, image, qmin, qmax, count):  # type: ignore[no-untyped-def]
    """Update every (z_i, v_i) `count` times in place, with pull = P (z - c) and image = P V."""
    n, rank = factor.shape
    chord, radius = 0.5 * (qmin + qmax), 0.5 * (qmax - qmin)
    change = np.empty(rank)
    for _ in range(count):
        for i in range(n):
            curvature = form[i, i]
            if curvature <= 0.0:
                continue
            # the point to project: the minimiser without the polygon
            x = z[i] - pull[i] / curvature
            square = 0.0
            for t in range(rank):
                change[t] = factor[i, t] - image[i, t] / curvature
                square += change[t] * change[t]
            height = math.sqrt(square)
            new_x, new_height = x, height
            from_chord = x - chord
            if from_chord * from_chord + square > radius * radius:
                shrink = radius / math.sqrt(from_chord * from_chord + square)
                new_x, new_height = chord + shrink * from_chord, shrink * height
            else:
                middle = min(max(math.floor(x), qmin), qmax - 1.0) + 0.5
                offset = x - middle
                distance = offset * offset + square
                if distance < 0.25:
                    if distance < 1e-24:
                        new_x, new_height = middle, 0.5
                    else:
                        grow = 0.5 / math.sqrt(distance)
                        new_x, new_height = middle + grow * offset, grow * height
            scale = new_height / height if height > 0.0 else 0.0
            step = new_x - z[i]
            moved = step * step
            for t in range(rank):
                new = scale * change[t]
                change[t] = new - factor[i, t]
                factor[i, t] = new
                moved += change[t] * change[t]
            z[i] = new_x
            if moved == 0.0:
                continue
            for j in range(n):
                entry = form[i, j]
                pull[j] += entry * step
                for t in range(rank):
                    image[j, t] += entry * change[t]


@numba.njit(cache=True, nogil=True)
def envelope_sweeps(matrix, centre, lam, z, pull, qmin, qmax, count):  # type: ignore[no-untyped-def]
    """Coordinate descent on (z-c)ᵀS(z-c) + sum of envelopes of lam (k-c)², in place; pull = S (z-c)."""
    n = len(z)
    for _ in range(count):
        for i in range(n):
            curvature, weight, middle = matrix[i, i], lam[i], centre[i]
            free = z[i] - pull[i] / curvature
            if weight <= 0.0:  # the envelope is the chord
                new = free - weight * (qmin + qmax - 2.0 * middle) / (2.0 * curvature)
                new = min(max(new, qmin), qmax)
            else:
                # on [k, k + 1] the slope is weight (2k + 1 - 2c): find the piece of the minimiser
                smooth = (curvature * free + weight * middle) / (curvature + weight)
                piece = min(max(math.floor(smooth - 0.5), qmin), qmax - 1.0)
                while True:
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

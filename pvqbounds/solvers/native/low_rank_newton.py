"""Newton's method on the circles of :mod:`pvqbounds.solvers.native.low_rank`.

Coordinate descent finds soon which circle each pair (z_i, v_i) lies on, and then creeps. With the
circles fixed the pairs are points of a product of spheres (those on no circle are free), and what
is minimised there is a quadratic: this is the trust-region method on that manifold, its model
minimised by Steihaug's truncated conjugate gradients (Absil, Baker and Gallivan, "Trust-region
methods on Riemannian manifolds", Foundations of Computational Mathematics 7, 2007). Half the
Hessian is S = P - diag(lam), projected onto the tangent space, with the spheres' multipliers lam:
where it ends, S is the dual's own matrix and lam its solution.

A product with S costs O(n² r). A Cholesky factor of S, shifted to be definite and in single
precision, preconditions: n³/3 operations for several steps, and many times fewer products.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack

from pvqbounds.solvers.base import Clock

__all__ = ["Circles", "Descent", "Preconditioner", "feasible"]

Array = NDArray[np.float64]

ON_CIRCLE = 1e-7
"""Distance, in squared codes, within which a pair counts as lying on a circle."""

MOST_PRODUCTS = 200
"""Products with S in one step."""

ACCURACY = 0.1
"""Relative residual of a step's system at most; less where the gradient is small."""

SHIFTS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
"""Multiples of the diagonal of P that are added to S, one after the other, until it is definite."""

LARGEST_SHARE = 0.999
"""Share of the diagonal that lam may take in the preconditioner."""

HALVINGS = 4
"""Shorter lengths that are tried along a step that fails."""


@dataclass(frozen=True, eq=False)
class Circles:
    """Which circle each pair lies on, and its multiplier."""

    middle: Array
    """z of the circle's centre, shape (n,); 0 on none."""
    radius: Array
    """Shape (n,); 0 on none."""
    lam: Array
    """Of the sign that the constraint has; 0 on none. Shape (n,)."""

    @classmethod
    def of(cls, z: Array, factor: Array, pull: Array, image: Array, qmin: float, qmax: float) -> Circles:
        """The circles of pairs (z, factor) with pull = P (z - c), image = P factor.

        A pair that its multiplier draws off its circle counts as free.
        """
        square = (factor * factor).sum(axis=1)
        cell = np.clip(np.floor(z), qmin, qmax - 1.0) + 0.5
        chord, width = 0.5 * (qmin + qmax), 0.5 * (qmax - qmin)
        above = (z - cell) ** 2 + square - 0.25
        inside = width**2 - (z - chord) ** 2 - square
        on_chord = inside < above
        middle = np.where(on_chord, chord, cell)
        radius = np.where(on_chord, width, 0.5)
        lam = (pull * (z - middle) + (image * factor).sum(axis=1)) / radius**2
        active = (np.minimum(above, inside) < ON_CIRCLE) & np.where(on_chord, lam < 0.0, lam > 0.0)
        return cls(*(np.where(active, values, 0.0) for values in (middle, radius, lam)))


class Preconditioner:
    """A single-precision Cholesky factor of S plus a multiple of the diagonal of P."""

    def __init__(self, form: Array, lam: Array) -> None:
        diagonal = np.diagonal(form)
        safe = np.where(diagonal > 0.0, diagonal, 1.0)
        self._root = np.sqrt(safe).astype(np.float32)[:, None]
        share = np.minimum(lam / safe, LARGEST_SHARE)
        # far from the end S may be indefinite by much: then without the lam above zero
        for part in (share, np.minimum(share, 0.0)):
            for shift in SHIFTS:
                matrix = np.array(form, dtype=np.float32, order="F")
                matrix /= self._root
                matrix /= self._root[:, 0]
                matrix[np.diag_indices(len(lam))] = diagonal / safe - part + shift
                self._factor, info = lapack.spotrf(matrix, lower=1, clean=0, overwrite_a=1)
                if info == 0:
                    return
        self._factor = np.eye(len(lam), dtype=np.float32, order="F")

    def __call__(self, rows: Array) -> Array:
        """About S⁻¹ rows, for rows of shape (n, r + 1)."""
        scaled = np.asfortranarray(rows / self._root, dtype=np.float32)
        half = blas.strsm(1.0, self._factor, scaled, lower=1, overwrite_b=1)
        whole = blas.strsm(1.0, self._factor, half, lower=1, trans_a=1, overwrite_b=1)
        return np.asarray(whole / self._root, dtype=np.float64)


class Descent:
    """Steps of the trust-region method; the radius is what it remembers.

    Parameters
    ----------
    form, centre
        P, shape (n, n), and c, shape (n,).
    ends
        qmin and qmax.
    clock
        Ends the conjugate gradients.
    """

    def __init__(self, form: Array, centre: Array, ends: tuple[float, float], clock: Clock) -> None:
        self._form, self._centre, self._ends, self._clock = form, centre, ends, clock
        self._radius = math.inf

    def error(self, z: Array, factor: Array) -> float:
        """(z - c)ᵀP(z - c) + tr(VᵀPV)."""
        offset = z - self._centre
        return float(offset @ (self._form @ offset) + (factor * (self._form @ factor)).sum())

    def circles(self, z: Array, factor: Array) -> Circles:
        """The circles of pairs."""
        return Circles.of(z, factor, self._form @ (z - self._centre), self._form @ factor, *self._ends)

    def step(self, z: Array, factor: Array, precondition: Preconditioner) -> tuple[Array, Array, float]:
        """(z, factor) with a lower error, and by how much, as a share of it; the same and 0 if none.

        Parameters
        ----------
        z, factor
            Feasible pairs, shape (n,) and (n, r).
        """
        pull, image = self._form @ (z - self._centre), self._form @ factor
        error = float((z - self._centre) @ pull + (factor * image).sum())
        if not error > 0.0:
            return z, factor, 0.0
        circles = Circles.of(z, factor, pull, image, *self._ends)
        on = circles.radius > 0.0
        point = np.column_stack([z - circles.middle, factor])
        normal = np.where(on[:, None], point / np.where(on, circles.radius, 1.0)[:, None], 0.0)

        def tangent(rows: Array) -> Array:
            return np.asarray(rows - normal * (normal * rows).sum(axis=1)[:, None])

        gradient = tangent(np.column_stack([pull, image]))
        direction, promised, at_radius = self._direction(circles.lam, gradient, tangent, precondition, error)
        length = 1.0
        for _ in range(1 + HALVINGS):
            moved = point + length * direction
            size = np.linalg.norm(moved, axis=1)
            moved *= np.where(on, circles.radius / np.where(size > 0.0, size, 1.0), 1.0)[:, None]
            new = feasible(moved[:, 0] + circles.middle, moved[:, 1:], *self._ends)
            fall = error - self.error(*new)
            if length == 1.0:
                self._adapt(fall, promised, at_radius)
            if fall > 0.0:
                return *new, fall / error
            length *= 0.5
        return z, factor, 0.0

    def _adapt(self, fall: float, promised: float, at_radius: bool) -> None:
        """Shrink the radius where the model failed, widen it where it held and was cut short."""
        if fall < 0.25 * promised:
            self._radius *= 0.25
        elif fall > 0.6 * promised and at_radius:
            self._radius *= 2.0

    def _direction(
        self,
        lam: Array,
        gradient: Array,
        tangent: Callable[[Array], Array],
        precondition: Preconditioner,
        error: float,
    ) -> tuple[Array, float, bool]:
        """Steihaug's step in the preconditioner's norm, the fall it promises, and whether it was cut."""
        step, bent = np.zeros_like(gradient), np.zeros_like(gradient)
        residual = -gradient
        search = tangent(precondition(residual))
        product = first = float((residual * search).sum())
        if not product > 0.0:
            return step, 0.0, False
        if math.isinf(self._radius):
            self._radius = math.sqrt(first)
        accuracy = min(ACCURACY, math.sqrt(first / error))
        length_step, between, length_search = 0.0, 0.0, product  # squares and product in that norm
        cut = False
        for _ in range(MOST_PRODUCTS):
            image = tangent(self._form @ search - lam[:, None] * search)
            curvature = float((search * image).sum())
            pace = product / curvature if curvature > 0.0 else math.inf
            reached = length_step + 2.0 * pace * between + pace * pace * length_search
            cut = not (curvature > 0.0 and reached < self._radius**2)
            if cut:
                room = max(self._radius**2 - length_step, 0.0)
                pace = (math.sqrt(between**2 + length_search * room) - between) / length_search
            step += pace * search
            bent += pace * image
            if cut or self._clock.expired:
                break
            residual -= pace * image
            length_step = reached
            image = tangent(precondition(residual))
            before, product = product, float((residual * image).sum())
            if not product > accuracy**2 * first:
                break
            ratio = product / before
            between = ratio * (between + pace * length_search)
            length_search = product + ratio**2 * length_search
            search = tangent(image + ratio * search)
        return step, -float((2.0 * gradient * step + step * bent).sum()), cut


def feasible(z: Array, factor: Array, qmin: float, qmax: float) -> tuple[Array, Array]:
    """Pairs moved along their circle's radius to where the polygons allow them."""
    chord, width = 0.5 * (qmin + qmax), 0.5 * (qmax - qmin)
    square = (factor * factor).sum(axis=1)
    shrink = width / np.maximum(np.sqrt((z - chord) ** 2 + square), width)
    z, factor, square = chord + shrink * (z - chord), factor * shrink[:, None], square * shrink**2
    middle = np.clip(np.floor(z), qmin, qmax - 1.0) + 0.5
    distance = np.maximum(np.sqrt((z - middle) ** 2 + square), 1e-12)
    grow = np.where(shrink < 1.0, 1.0, np.maximum(1.0, 0.5 / distance))
    return middle + grow * (z - middle), np.ascontiguousarray(factor * grow[:, None])

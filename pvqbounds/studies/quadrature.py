"""Any continuous distribution of `scipy.stats`, by adaptive quadrature with its error estimate."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pvqbounds.errors import InputError, shown
from pvqbounds.studies.distributions import (
    NODES,
    WEIGHTS,
    Distribution,
    Estimate,
    Tails,
    adaptive_quadrature,
    gauss_legendre,
)

__all__ = ["ScipyDistribution"]

Array = NDArray[np.float64]

BEYOND = 1e-14
"""Mass beyond the last finite cell on either side; that tail is integrated to infinity by itself."""

FARTHEST = 150.0
"""Natural logarithm of how far beyond its start an endless tail is followed."""

TAIL_EDGES = np.concatenate([[0.0], np.geomspace(1e-3, 1.0, 40)])
"""Panels of such a tail, as parts of its length."""

REFINEMENT = 16
"""Parts into which each cell between two edges is cut for the discrete stand-in."""


class _Side(NamedTuple):
    """W (sign 1) or -W (sign -1) where it is positive, cut where its density may change character."""

    sign: float
    edges: Array
    """Rising, from the least magnitude that occurs."""
    end: float
    """Greatest magnitude that occurs; the last edge, or infinity."""
    mean_above: Array
    """E[|W|] beyond each edge."""


class ScipyDistribution(Distribution):
    """A frozen continuous distribution of `scipy.stats`.

    Errors are integrals over the cells of the grid. All cells are laid over the interval (0, 1)
    and their integrands added, so that one adaptive quadrature (QUADPACK) and one error estimate
    serve them all, with one vectorized call of the density for each of its nodes.

    Parameters
    ----------
    frozen
        Such as ``scipy.stats.gennorm(0.7)``.
    name
        What to call it; the name and the parameters that scipy knows if None.

    Raises
    ------
    InputError
        If it is not a continuous distribution of `scipy.stats`, or if its parameters are invalid.
    """

    def __init__(self, frozen: Any, name: str | None = None) -> None:
        if not all(hasattr(frozen, method) for method in ("pdf", "cdf", "sf", "ppf", "stats", "support")):
            raise InputError(f"A continuous distribution of scipy.stats is needed, not {shown(frozen)}.")
        self._frozen = frozen
        self._name = _name_of(frozen) if name is None else name
        if np.isnan(frozen.cdf(0.0)):
            raise InputError(f"The parameters of {self._name} are invalid.")

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return self._name

    def density(self, x: ArrayLike) -> Array:
        """Probability density at `x`."""
        return np.asarray(self._frozen.pdf(x), dtype=np.float64)

    def moments(self) -> tuple[float, float, float, float]:
        """E[W], E[W²], E[W³], E[W⁴]."""
        mean, variance, skewness, excess = (float(m) for m in self._frozen.stats(moments="mvsk"))
        if not math.isfinite(variance):
            return mean, math.inf, math.nan, math.inf
        second, deviation = variance + mean**2, math.sqrt(variance)
        third = mean**3 + 3.0 * mean * variance + skewness * deviation**3
        if math.isinf(excess):
            return mean, second, third, math.inf
        central = (excess + 3.0) * variance**2 + 4.0 * mean * skewness * deviation**3
        return mean, second, third, central + 6.0 * mean**2 * variance + mean**4

    def sample(self, count: int, random: np.random.Generator) -> Array:
        """Draw `count` independent weights."""
        return np.asarray(self._frozen.rvs(size=count, random_state=random), dtype=np.float64)

    @cached_property
    def kurtosis(self) -> float:
        """Non-excess; from the central moments, which lose no digits where the mean is large."""
        excess = float(self._frozen.stats(moments="k"))
        return excess + 3.0 if math.isfinite(self.signal) else math.nan

    @cached_property
    def landmarks(self) -> Array:
        """Magnitudes between which the density does not change much."""
        return np.union1d(self._sides[0].edges, self._sides[1].edges)

    @cached_property
    def entropy(self) -> float:
        """Differential entropy, bits."""
        return float(self._frozen.entropy()) / math.log(2.0)

    def code_moments(self, scales: Array, qmin: int, qmax: int) -> tuple[Array, Array]:
        """E[W k] and E[k²] over the nearest codes k, nearly."""
        # a discrete stand-in guides the search: fast, and convex to the last digit; errors are
        # integrated afresh
        products, squares = np.zeros(len(scales)), np.zeros(len(scales))
        for (magnitude, mass, mean), reach in zip(self._stand_in, (qmax, -qmin), strict=True):
            j = np.arange(1, reach + 1)
            first = np.searchsorted(magnitude, scales[:, None] * (j - 0.5), side="right")
            products += mean[first].sum(axis=1)
            squares += mass[first] @ (2.0 * j - 1.0)
        return products, squares

    @cached_property
    def _stand_in(self) -> list[tuple[Array, Array, Array]]:
        """Of either side: rising magnitudes, and the mass and mean from each of them on."""
        points = []
        for side in self._sides:
            parts = [np.linspace(*ends, REFINEMENT, endpoint=False) for ends in pairwise(side.edges.tolist())]
            magnitude, weights = gauss_legendre(np.concatenate([*parts, side.edges[-1:]]), 0)
            mass = weights * self._density_of(side, magnitude)
            points.append((magnitude, _sums_from(mass), _sums_from(mass * magnitude)))
        return points

    def tails(self, x: ArrayLike) -> Tails:
        """Mass and mean of both tails beyond x >= 0."""
        x = np.asarray(x, dtype=np.float64)
        above, below = (self._mean_above(side, x) for side in self._sides)
        return Tails(self._frozen.sf(x), above, self._frozen.cdf(-x), below)

    def mass_beyond(self, x: ArrayLike) -> Array:
        """P(|W| > x)."""
        x = np.asarray(x, dtype=np.float64)
        mass: Array = self._frozen.sf(x) + self._frozen.cdf(-x)
        return mass

    def pruning_error(self, threshold: float) -> Estimate:
        """E[W²; |W| <= threshold]."""
        return self._integral(lambda w: w * w, np.array([threshold]), threshold)

    def quantization_error(self, scale: float, qmin: int, qmax: int) -> Estimate:
        """E[(W - s k)²] over the nearest codes k."""
        parts = []
        for side, reach in zip(self._sides, (qmax, -qmin), strict=True):

            def loss(w: Array, reach: int = reach) -> Array:
                squares: Array = (w - scale * np.minimum(np.rint(w / scale), reach)) ** 2
                return squares

            cuts = scale * (np.arange(reach, dtype=np.float64) + 0.5)
            parts.append(self._integral(loss, cuts, math.inf, (side,)))
        return Estimate(sum(p.value for p in parts), sum(p.uncertainty for p in parts))

    def _density_of(self, side: _Side, w: Array) -> Array:
        values = np.asarray(self._frozen.pdf(side.sign * w), dtype=np.float64)
        # a rounding may land on a pole at the end of the support: one point, of measure zero
        return np.where(np.isfinite(values), values, 0.0)

    @cached_property
    def _sides(self) -> tuple[_Side, _Side]:
        return self._side(1.0), self._side(-1.0)

    def _side(self, sign: float) -> _Side:
        low, high = sorted(sign * end for end in self._frozen.support())
        start, end = max(low, 0.0), max(high, 0.0)
        masses = np.concatenate([[BEYOND, 1e-12, 1e-9, 1e-6, 1e-4, 1e-3], np.arange(1, 64) / 64])
        quantiles = sign * self._frozen.ppf(np.concatenate([masses, 1.0 - masses]))
        last = end if math.isfinite(end) else max(float(np.nanmax(quantiles)), start, 0.0)
        end = end if last > 0.0 else 0.0  # less than BEYOND lies on this side: nothing to follow
        steps = last * 2.0 ** -np.arange(0.0, 40.0, 0.25)
        edges = np.unique(np.concatenate([[start, last], quantiles, steps]))
        edges = edges[(edges >= start) & (edges <= last)]
        side = _Side(sign, edges, end, np.zeros(len(edges)))
        means = self._panels(side, edges[:-1], edges[1:])
        beyond = 0.0
        if end > last:
            beyond = self._beyond(side, lambda w: w, last, end).value
        side.mean_above[:] = beyond
        side.mean_above[:-1] += np.cumsum(means[::-1])[::-1]
        return side

    def _panels(self, side: _Side, low: Array, high: Array) -> Array:
        """E[|W|; low < |W| < high] on this side, by Gauss-Legendre."""
        half = 0.5 * (high - low)
        w = (0.5 * (low + high))[..., None] + half[..., None] * NODES
        values: Array = half * ((w * self._density_of(side, w)) @ WEIGHTS)
        return values

    def _mean_above(self, side: _Side, x: Array) -> Array:
        if side.edges[-1] == 0.0:
            return np.zeros_like(x)
        inside = np.clip(x, side.edges[0], side.edges[-1])
        following = np.searchsorted(side.edges, inside)
        return side.mean_above[following] + self._panels(side, inside, side.edges[following])

    def _integral(
        self,
        loss: Callable[[Array], Array],
        cuts: Array,
        limit: float,
        sides: tuple[_Side, ...] | None = None,
    ) -> Estimate:
        """E[loss(|W|); |W| <= limit], the loss being smooth between the cuts."""
        parts = []
        for side in self._sides if sides is None else sides:
            first, last = side.edges[0], min(side.edges[-1], limit)
            edges = np.unique(np.concatenate([side.edges, cuts, [last]]))
            edges = edges[(edges >= first) & (edges <= last)]
            if len(edges) > 1:
                parts.append(self._over_cells(side, loss, edges))
            if limit > last and side.end > last:
                parts.append(self._beyond(side, loss, last, min(side.end, limit)))
        return Estimate(sum(p.value for p in parts), sum(p.uncertainty for p in parts))

    def _over_cells(self, side: _Side, loss: Callable[[Array], Array], edges: Array) -> Estimate:
        start, length = edges[:-1], np.diff(edges)

        def folded(t: float) -> float:
            w = start + length * t
            return float((length * loss(w)) @ self._density_of(side, w))

        return adaptive_quadrature(folded, 0.0, 1.0)

    def _beyond(self, side: _Side, loss: Callable[[Array], Array], start: float, end: float) -> Estimate:
        """E[loss(|W|); start < |W| < end], in log |W|: tails fall exponentially there, or faster."""
        reach = FARTHEST if math.isinf(end) else math.log(end / start)

        def integral(halvings: int) -> float:
            y, weights = gauss_legendre(reach * TAIL_EDGES, halvings)
            w = start * np.exp(y)
            return float((weights * w * loss(w)) @ self._density_of(side, w))

        fine = integral(1)
        return Estimate(fine, abs(fine - integral(0)))


def _sums_from(values: Array) -> Array:
    """Sums of all values from each one on, and the zero after the last."""
    return np.append(np.cumsum(values[::-1])[::-1], 0.0)


def _name_of(frozen: Any) -> str:
    name = getattr(getattr(frozen, "dist", None), "name", type(frozen).__name__)
    values = [f"{value:g}" for value in getattr(frozen, "args", ())]
    values += [f"{key} {value:g}" for key, value in getattr(frozen, "kwds", {}).items()]
    return " ".join([name, ", ".join(values)]).strip()

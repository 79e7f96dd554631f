"""Distributions of weights: tails, moments, and the expected errors that follow from them.

Everything that the range search and the expected errors need are four numbers beyond a threshold:
the mass and the mean of either tail. Gaussian, Laplace, uniform and Student-t weights have them in
closed form, mixtures by linearity; anything else from `scipy.stats` by adaptive quadrature
(:mod:`pvqbounds.studies.quadrature`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import integrate, special

from pvqbounds.errors import InputError

__all__ = [
    "Distribution",
    "Estimate",
    "Gaussian",
    "Laplace",
    "Mixture",
    "StudentT",
    "Tails",
    "Uniform",
    "adaptive_quadrature",
    "gauss_legendre",
]

Array = NDArray[np.float64]

NODES, WEIGHTS = np.polynomial.legendre.leggauss(8)

ROUNDING = 1e-14
"""What rounding may cost a closed form, relative to E[W²]."""


class Estimate(NamedTuple):
    """A number and how far off it may be."""

    value: float
    uncertainty: float

    def deviation(self, expected: Estimate) -> float:
        """How far it lies from an expected value, in units of its own uncertainty."""
        difference = self.value - expected.value
        if difference == 0.0 or self.uncertainty > 0.0:
            return difference / (self.uncertainty or 1.0)
        return math.copysign(math.inf, difference)


def adaptive_quadrature(
    integrand: Callable[[float], float], low: float, high: float, *, tolerance: float = 0.0
) -> Estimate:
    """Integral by QUADPACK to nine digits or to `tolerance`, with its own estimate of the error.

    QUADPACK's warnings are left out: the estimate says the same and goes with the value.
    """
    value, uncertainty, *_ = integrate.quad(
        integrand, low, high, epsabs=tolerance, epsrel=1e-9, limit=200, full_output=1
    )
    return Estimate(value, uncertainty)


def gauss_legendre(edges: Array, halvings: int) -> tuple[Array, Array]:
    """Nodes and weights of a Gauss-Legendre sum over panels between edges, each halved so many times."""
    for _ in range(halvings):
        edges = np.sort(np.concatenate([edges, 0.5 * (edges[:-1] + edges[1:])]))
    half = 0.5 * np.diff(edges)[:, None]
    nodes = 0.5 * (edges[:-1] + edges[1:])[:, None] + half * NODES
    return nodes.ravel(), (half * WEIGHTS).ravel()


class Tails(NamedTuple):
    """What lies beyond thresholds x >= 0: of W above x, and of -W above x."""

    mass: Array
    mean: Array
    """E[W; W > x], not divided by the mass."""
    mass_below: Array
    mean_below: Array
    """E[-W; -W > x]."""


class Distribution(ABC):
    """A distribution of weights W with a density."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called in tables."""

    @abstractmethod
    def density(self, x: ArrayLike) -> Array:
        """Probability density at `x`."""

    @abstractmethod
    def tails(self, x: ArrayLike) -> Tails:
        """Mass and mean of both tails beyond x >= 0."""

    @abstractmethod
    def pruning_error(self, threshold: float) -> Estimate:
        """E[W²; |W| <= threshold]: what pruning all weights up to a magnitude loses."""

    @abstractmethod
    def moments(self) -> tuple[float, float, float, float]:
        """E[W], E[W²], E[W³], E[W⁴]; infinite or NaN where they do not exist."""

    @abstractmethod
    def sample(self, count: int, random: np.random.Generator) -> Array:
        """Draw `count` independent weights."""

    def quantization_error(self, scale: float, qmin: int, qmax: int) -> Estimate:
        """E[(W - s k)²] over the nearest codes k from `qmin` to `qmax` at the scale s."""
        products, squares = self.code_moments(np.array([scale]), qmin, qmax)
        value = self.signal - 2.0 * scale * products[0] + scale**2 * squares[0]
        return Estimate(max(float(value), 0.0), ROUNDING * self.signal)

    def code_moments(self, scales: Array, qmin: int, qmax: int) -> tuple[Array, Array]:
        """E[W k] and E[k²] over the nearest codes k, at each scale."""
        j = np.arange(1, max(-qmin, qmax) + 1)
        tails = self.tails(scales[:, None] * (j - 0.5))
        odd = 2.0 * j - 1.0
        products = tails.mean[:, :qmax].sum(axis=1) + tails.mean_below[:, :-qmin].sum(axis=1)
        squares = tails.mass[:, :qmax] @ odd[:qmax] + tails.mass_below[:, :-qmin] @ odd[:-qmin]
        return products, squares

    @cached_property
    def signal(self) -> float:
        """E[W²], not finite where there is no second moment."""
        return self.moments()[1]

    @cached_property
    def kurtosis(self) -> float:
        """E[(W-μ)⁴] / E[(W-μ)²]², non-excess: 3 for a Gaussian; not finite without a fourth moment."""
        first, second, third, fourth = self.moments()
        if not math.isfinite(fourth):
            return fourth
        variance = second - first**2
        central = fourth - 4.0 * first * third + 6.0 * first**2 * second - 3.0 * first**4
        return central / variance**2 if variance > 0.0 else math.nan

    @cached_property
    def landmarks(self) -> Array:
        """Magnitudes, rising from 0, between which the density does not change much; none lies beyond."""
        masses = np.concatenate([np.linspace(0.9, 0.1, 9), 10.0 ** -np.arange(2.0, 31.0)])
        return np.union1d([0.0], self.magnitude_above(masses))

    @cached_property
    def entropy(self) -> float:
        """Differential entropy, bits; by adaptive quadrature unless a closed form is known."""

        def integrand(x: float) -> float:
            density = float(self.density(x))
            return -density * math.log2(density) if density > 0.0 else 0.0

        pieces = [
            adaptive_quadrature(integrand, *sorted((side * low, side * high)), tolerance=1e-12).value
            for low, high in pairwise(self.landmarks.tolist())
            for side in (-1.0, 1.0)
        ]
        return math.fsum(pieces)

    def spread(self, loss: Callable[[Array], Array], cuts: Array) -> float:
        """Standard deviation of `loss`(W), which is smooth between the cuts in |W|, to some digits."""
        w, weights = gauss_legendre(np.union1d(self.landmarks, cuts), 1)
        w, weights = np.concatenate([w, -w]), np.concatenate([weights, weights])
        weights *= self.density(w)
        values = loss(w)
        return math.sqrt(max(float(weights @ values**2) - float(weights @ values) ** 2, 0.0))

    def magnitude_above(self, mass: ArrayLike) -> Array:
        """The magnitude x with P(|W| > x) = `mass`, by bisection; shape of `mass`."""
        wanted = np.asarray(mass, dtype=np.float64)
        low, high = np.zeros_like(wanted), np.ones_like(wanted)
        while (beyond := self.mass_beyond(high) > wanted).any() and high.max() < 1e300:
            high[beyond] *= 2.0
        for _ in range(200):
            middle = 0.5 * (low + high)
            if ((middle == low) | (middle == high)).all():
                break
            beyond = self.mass_beyond(middle) > wanted
            low, high = np.where(beyond, middle, low), np.where(beyond, high, middle)
        return high

    def mass_beyond(self, x: ArrayLike) -> Array:
        """P(|W| > x)."""
        tails = self.tails(x)
        return tails.mass + tails.mass_below


class _Symmetric(Distribution):
    """A closed form for W and -W alike: a standard shape times a scale."""

    scale: float

    def __post_init__(self) -> None:
        if not 0.0 < self.scale < math.inf:
            raise InputError(f"The scale of a distribution must be positive and finite, not {self.scale}.")

    def tails(self, x: ArrayLike) -> Tails:
        """Mass and mean of both tails beyond x >= 0."""
        standard = np.asarray(x, dtype=np.float64) / self.scale
        mass, mean = self._mass(standard), self.scale * self._mean(standard)
        return Tails(mass, mean, mass, mean)

    def pruning_error(self, threshold: float) -> Estimate:
        """E[W²; |W| <= threshold]."""
        value = self.scale**2 * self._middle(threshold / self.scale)
        return Estimate(value, ROUNDING * self.signal)

    def moments(self) -> tuple[float, float, float, float]:
        """E[W], E[W²], E[W³], E[W⁴]."""
        second, fourth = self._even_moments()
        return 0.0, self.scale**2 * second, 0.0, self.scale**4 * fourth

    def density(self, x: ArrayLike) -> Array:
        """Probability density at `x`."""
        return self._density(np.abs(np.asarray(x, dtype=np.float64)) / self.scale) / self.scale

    @abstractmethod
    def _density(self, x: Array) -> Array: ...

    @abstractmethod
    def _mass(self, x: Array) -> Array:
        """P(W > x) of the standard shape."""

    @abstractmethod
    def _mean(self, x: Array) -> Array:
        """E[W; W > x] of the standard shape."""

    @abstractmethod
    def _middle(self, x: float) -> float:
        """E[W²; |W| <= x] of the standard shape."""

    @abstractmethod
    def _even_moments(self) -> tuple[float, float]:
        """E[W²] and E[W⁴] of the standard shape."""


@dataclass(frozen=True)
class Gaussian(_Symmetric):
    """Gaussian of mean zero; `scale` is the standard deviation."""

    scale: float = 1.0

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return "gaussian"

    @cached_property
    def entropy(self) -> float:
        """Differential entropy, bits."""
        return 0.5 * math.log2(2.0 * math.pi * math.e * self.scale**2)

    def _density(self, x: Array) -> Array:
        values: Array = np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
        return values

    def _mass(self, x: Array) -> Array:
        values: Array = special.ndtr(-x)
        return values

    def _mean(self, x: Array) -> Array:
        return self._density(x)

    def _middle(self, x: float) -> float:
        return math.erf(x / math.sqrt(2.0)) - 2.0 * x * float(self._density(np.asarray(x)))

    def _even_moments(self) -> tuple[float, float]:
        return 1.0, 3.0

    def sample(self, count: int, random: np.random.Generator) -> Array:
        """Draw `count` independent weights."""
        return self.scale * random.standard_normal(count)


@dataclass(frozen=True)
class Laplace(_Symmetric):
    """Laplace of mean zero, density exp(-|w| / scale) / (2 scale)."""

    scale: float = 1.0

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return "laplace"

    @cached_property
    def entropy(self) -> float:
        """Differential entropy, bits."""
        return math.log2(2.0 * math.e * self.scale)

    def _density(self, x: Array) -> Array:
        values: Array = 0.5 * np.exp(-x)
        return values

    def _mass(self, x: Array) -> Array:
        return self._density(x)

    def _mean(self, x: Array) -> Array:
        return (x + 1.0) * self._density(x)

    def _middle(self, x: float) -> float:
        return 2.0 - (x * x + 2.0 * x + 2.0) * math.exp(-x)

    def _even_moments(self) -> tuple[float, float]:
        return 2.0, 24.0

    def sample(self, count: int, random: np.random.Generator) -> Array:
        """Draw `count` independent weights."""
        return random.laplace(scale=self.scale, size=count)


@dataclass(frozen=True)
class Uniform(_Symmetric):
    """Uniform between -`scale` and `scale`."""

    scale: float = 1.0

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return "uniform"

    @cached_property
    def entropy(self) -> float:
        """Differential entropy, bits."""
        return math.log2(2.0 * self.scale)

    def _density(self, x: Array) -> Array:
        return np.where(x <= 1.0, 0.5, 0.0)

    def _mass(self, x: Array) -> Array:
        return 0.5 * (1.0 - np.minimum(x, 1.0))

    def _mean(self, x: Array) -> Array:
        return 0.25 * (1.0 - np.minimum(x, 1.0) ** 2)

    def _middle(self, x: float) -> float:
        return min(x, 1.0) ** 3 / 3.0

    def _even_moments(self) -> tuple[float, float]:
        return 1.0 / 3.0, 1.0 / 5.0

    def sample(self, count: int, random: np.random.Generator) -> Array:
        """Draw `count` independent weights."""
        return random.uniform(-self.scale, self.scale, count)


@dataclass(frozen=True)
class StudentT(_Symmetric):
    """Student-t of `df` degrees of freedom, truncated to (-`range`, `range`); a finite range is the paper's.

    The moments are hypergeometric: for 0 <= x, with c the constant of the density,
    the integral of w^m c (1 + w²/df)^(-(df+1)/2) from 0 to x is
    c x^(m+1) / (m+1) 2F1((m+1)/2, (df+1)/2; (m+3)/2; -x²/df) (DLMF 8.17.8 and 15.6.1).
    """

    df: float = 2.0
    range: float = 10.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.df < math.inf:
            raise InputError(f"Student-t needs a positive number of degrees of freedom, not {self.df}.")
        if not self.range > 0.0:
            raise InputError(f"The range of a truncated Student-t must be positive, not {self.range}.")

    @property
    def name(self) -> str:
        """What it is called in tables."""
        limits = "" if math.isinf(self.range) else f", range {self.range:g}"
        return f"student-t df {self.df:g}{limits}"

    @cached_property
    def _total(self) -> float:
        """Mass of the untruncated distribution within the range."""
        return 1.0 - 2.0 * float(special.stdtr(self.df, -self.range))

    @cached_property
    def _constant(self) -> float:
        """Density at zero."""
        root = math.lgamma((self.df + 1.0) / 2.0) - math.lgamma(self.df / 2.0)
        return math.exp(root) / math.sqrt(self.df * math.pi) / self._total

    def _density(self, x: Array) -> Array:
        values = self._constant * (1.0 + x * x / self.df) ** (-(self.df + 1.0) / 2.0)
        return np.where(x <= self.range, values, 0.0)

    def _mass(self, x: Array) -> Array:
        beyond = special.stdtr(self.df, -x) - special.stdtr(self.df, -self.range)
        values: Array = np.maximum(beyond, 0.0) / self._total
        return values

    def _mean(self, x: Array) -> Array:
        inside = np.minimum(x, self.range)
        if self.df == 1.0:
            values: Array = 0.5 * self._constant * np.log((1.0 + self.range**2) / (1.0 + inside**2))
            return values
        power = (1.0 - self.df) / 2.0
        limit = (1.0 + self.range**2 / self.df) ** power if math.isfinite(self.range) else 0.0
        values = self._constant * self.df / (self.df - 1.0) * ((1.0 + inside**2 / self.df) ** power - limit)
        return values

    def _middle(self, x: float) -> float:
        x = min(x, self.range)
        if self.df == 2.0:  # where 2F1 loses digits
            root = math.sqrt(2.0) * math.asinh(x / math.sqrt(2.0))
            return 4.0 * self._constant * (root - x / math.sqrt(1.0 + 0.5 * x * x))
        return self._power(2, x)

    def _power(self, m: int, x: float) -> float:
        """E[W^m; |W| <= x] for an even m."""
        head = special.hyp2f1((m + 1) / 2, (self.df + 1) / 2, (m + 3) / 2, -x * x / self.df)
        return float(2.0 * self._constant * x ** (m + 1) / (m + 1) * head)

    def _even_moments(self) -> tuple[float, float]:
        if math.isfinite(self.range):
            return self._middle(self.range), self._power(4, self.range)
        second = self.df / (self.df - 2.0) if self.df > 2.0 else math.inf
        fourth = 3.0 * self.df * second / (self.df - 4.0) if self.df > 4.0 else math.inf
        return second, fourth

    def sample(self, count: int, random: np.random.Generator) -> Array:
        """Draw `count` independent weights."""
        low = float(special.stdtr(self.df, -self.range))
        # both tails from small probabilities, which keep their digits
        half = special.stdtrit(self.df, low + (0.5 - low) * (1.0 - random.random(count)))
        values: Array = self.scale * np.where(random.random(count) < 0.5, half, -half)
        return values


@dataclass(frozen=True)
class Mixture(Distribution):
    """With probability `shares[i]` a weight is drawn from `components[i]`."""

    components: tuple[Distribution, ...]
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.components) != len(self.shares) or not self.components:
            raise InputError("A mixture needs one share for each of its components.")
        if min(self.shares) < 0.0 or abs(math.fsum(self.shares) - 1.0) > 1e-12:
            raise InputError(f"The shares of a mixture must be positive and sum to 1, not {self.shares}.")

    @property
    def name(self) -> str:
        """What it is called in tables."""
        parts = zip(self.shares, self.components, strict=True)
        return "mixture " + " + ".join(
            f"{share:g} {component.name} x{getattr(component, 'scale', 1.0):g}" for share, component in parts
        )

    def density(self, x: ArrayLike) -> Array:
        """Probability density at `x`."""
        return self._sum([component.density(x) for component in self.components])

    def tails(self, x: ArrayLike) -> Tails:
        """Mass and mean of both tails beyond x >= 0."""
        parts = zip(*(component.tails(x) for component in self.components), strict=True)
        return Tails(*(self._sum(part) for part in parts))

    def pruning_error(self, threshold: float) -> Estimate:
        """E[W²; |W| <= threshold]."""
        return self._estimate([component.pruning_error(threshold) for component in self.components])

    def quantization_error(self, scale: float, qmin: int, qmax: int) -> Estimate:
        """E[(W - s k)²] over the nearest codes k."""
        parts = [component.quantization_error(scale, qmin, qmax) for component in self.components]
        return self._estimate(parts)

    def moments(self) -> tuple[float, float, float, float]:
        """E[W], E[W²], E[W³], E[W⁴]."""
        parts = zip(*(component.moments() for component in self.components), strict=True)
        first, second, third, fourth = (float(self._sum(part)) for part in parts)
        return first, second, third, fourth

    def sample(self, count: int, random: np.random.Generator) -> Array:
        """Draw `count` independent weights."""
        counts = random.multinomial(count, self.shares)
        parts = [
            component.sample(int(n), random) for n, component in zip(counts, self.components, strict=True)
        ]
        return random.permutation(np.concatenate(parts))

    def _sum(self, parts: Sequence[ArrayLike]) -> Array:
        return np.tensordot(np.array(self.shares), np.stack([np.asarray(p) for p in parts]), axes=1)

    def _estimate(self, parts: Sequence[Estimate]) -> Estimate:
        value, uncertainty = (float(self._sum(part)) for part in zip(*parts, strict=True))
        return Estimate(value, uncertainty)

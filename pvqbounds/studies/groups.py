"""Expected errors where every group of g weights has its own scale and its own pruning budget.

A group's scale is a fixed multiple α of its largest magnitude M, with the α of least expected error:
what a coder does that looks at the range of each group alone. (The scale of least error of each
group by itself does at least as well.) Given M, the other weights are independent draws from the
distribution cut off at M, so that one integral over M remains. Pruning keeps the largest
floor(g b / 16) of every group: a weight goes if that many others are larger, which is a binomial
tail, and again one integral remains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from pvqbounds.problems.validation import whole_number
from pvqbounds.studies.distributions import Distribution, Estimate, Tails, gauss_legendre
from pvqbounds.studies.expected import BASE_BITS, Losses

__all__ = ["LARGEST_GROUP", "group_losses"]

LARGEST_GROUP = 2**20

EDGES = np.concatenate(
    [[0.0], np.geomspace(1e-10, 1.0, 31)[:-1], np.linspace(1.0, 32.0, 32), np.geomspace(32.0, 640.0, 24)[1:]]
)
"""Panels of the logarithm of a tail's mass: fine towards zero, where a group's largest magnitude falls
steeply, and on to where floats end."""

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Largest:
    """The largest magnitude M of a group at the nodes of a quadrature over its distribution."""

    weights: Array
    magnitudes: Array
    tails: Tails
    """Beyond M."""
    power: Array
    """E[W²; |W| <= M]."""


def group_losses(distribution: Distribution, bits: int, qmin: int, qmax: int, size: int) -> Losses:
    """Expected losses of groups of `size` independent weights.

    Integrals are Gauss-Legendre sums over panels; their uncertainty is how far halving the panels
    moves them.

    Raises
    ------
    InputError
        Unless `size` is a whole number from 2 to `LARGEST_GROUP`.
    """
    size = whole_number(size, "The group size", 2, LARGEST_GROUP)
    coarse, fine = (_largest(distribution, size, halvings) for halvings in (0, 1))

    def mean(largest: _Largest, multiple: float, part: int) -> float:
        return float(largest.weights @ _given(distribution, largest, multiple, qmin, qmax, size)[part])

    multiples = np.geomspace(0.25, 2.0, 25) / qmax
    nearest = multiples[np.argmin([mean(coarse, multiple, 0) for multiple in multiples.tolist()])]
    found = optimize.minimize_scalar(
        lambda multiple: mean(coarse, multiple, 0),
        bounds=(0.9 * nearest, 1.1 * nearest),
        method="bounded",
        options={"xatol": 1e-4 * nearest},
    )
    multiple = float(found.x)
    error, zeros = (mean(fine, multiple, part) for part in (0, 1))

    def pruned(density: float) -> Estimate:
        return _pruning_error(distribution, size, int(density * size + 1e-9))

    return Losses(
        multiple,
        zeros,
        Estimate(error, abs(error - mean(coarse, multiple, 0))),
        pruned(bits / BASE_BITS),
        pruned((1.0 - zeros) * bits / BASE_BITS),
        pruned((bits - 1) / BASE_BITS),
    )


@lru_cache(maxsize=8)
def _largest(distribution: Distribution, size: int, halvings: int) -> _Largest:
    # y = -log P(M is larger still): that probability is 1 - (1 - P(|W| > M))^g
    y, weights = gauss_legendre(EDGES, halvings)
    magnitudes = distribution.magnitude_above(-np.expm1(np.log1p(-np.exp(-y)) / size))
    power = np.array([distribution.pruning_error(m).value for m in magnitudes.tolist()])
    return _Largest(weights * np.exp(-y), magnitudes, distribution.tails(magnitudes), power)


def _given(
    distribution: Distribution, largest: _Largest, multiple: float, qmin: int, qmax: int, size: int
) -> tuple[Array, Array]:
    """Expected error of a weight, and its chance of code 0, in groups whose largest magnitude is given."""
    magnitude, beyond = largest.magnitudes, largest.tails
    scale = multiple * magnitude
    j = np.arange(1, max(-qmin, qmax) + 1)
    odd = 2.0 * j - 1.0
    inside = distribution.tails(np.minimum(scale[:, None] * (j - 0.5), magnitude[:, None]))
    mass = inside.mass - beyond.mass[:, None]
    mass_below = inside.mass_below - beyond.mass_below[:, None]
    products = (inside.mean - beyond.mean[:, None])[:, :qmax].sum(axis=1)
    products += (inside.mean_below - beyond.mean_below[:, None])[:, :-qmin].sum(axis=1)
    squares = mass[:, :qmax] @ odd[:qmax] + mass_below[:, :-qmin] @ odd[:-qmin]
    kept = 1.0 - beyond.mass - beyond.mass_below
    others = (largest.power - 2.0 * scale * products + scale**2 * squares) / kept
    zero_others = 1.0 - (mass[:, 0] + mass_below[:, 0]) / kept
    # the largest itself, of either sign
    above, below = distribution.density(magnitude), distribution.density(-magnitude)
    share = np.divide(above, above + below, out=np.full_like(above, 0.5), where=above + below > 0.0)
    code = np.rint(1.0 / multiple)
    own = share * (magnitude - scale * min(code, qmax)) ** 2
    own += (1.0 - share) * (magnitude - scale * min(code, -qmin)) ** 2
    return ((size - 1) * others + own) / size, ((size - 1) * zero_others + float(code == 0.0)) / size


def _pruning_error(distribution: Distribution, size: int, kept: int) -> Estimate:
    """Expected squared magnitude of a weight that `kept` others of its group exceed."""
    if kept >= size:
        return Estimate(0.0, 0.0)
    if kept == 0:
        return Estimate(distribution.signal, 0.0)
    # y = -log of the mass beyond the weight's magnitude; it stays or goes within a few widths of log(g/k)
    middle, width = math.log(size / kept), math.sqrt(1.0 / kept)
    step = middle + width * np.linspace(-8.0, 8.0, 33)
    edges = np.unique(np.concatenate([EDGES, step[step > 0.0]]))

    def error(halvings: int) -> float:
        y, weights = gauss_legendre(edges, halvings)
        mass = np.exp(-y)
        squares = distribution.magnitude_above(mass) ** 2
        return float((weights * mass * squares) @ special.betainc(kept, size - kept, mass))

    fine = error(1)
    return Estimate(fine, abs(fine - error(0)))

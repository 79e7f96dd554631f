"""One budget of non-zeros over the channels of a layer: what their certificates prove together.

A certificate of channel c holds cases of its weights, one or many, and in each of them

    E_c(v) >= constant + sum of extra_i over the inputs that are zero

(:meth:`pvqbounds.relaxations.certificates.Certificate.parts`), with no extra below 0. Let a kept weight
have a price theta >= 0: what the zeros add is at least sum_i min(extra_i, theta), less theta for each weight
that is kept. So with at most `nnz` of all weights kept, and for every theta,

    sum of E_c(v) >= sum_c min over its cases of (constant + sum_i min(extra_i, theta)) - theta nnz

(Everett, Operations Research 11, 1963). The right side is concave in theta. Its slope is the number of
extras above theta, in the cases that are least, less `nnz`: the best theta is found by bisection and is no
part of a certificate. With one case a channel the best bound takes the so many least extras of the layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.enclosures import UNIT, down, total, up
from pvqbounds.problems.least_squares import Problem, common_units
from pvqbounds.relaxations.certificates import Certificate, Proof, SeparableTerms

__all__ = ["layer_dual_bound", "layer_dual_proof", "priced"]

Array = NDArray[np.float64]


class _Channel(NamedTuple):
    """The cases of a channel, L of them."""

    constant: Array
    """Shape (L,)."""
    extra: Array
    """Shape (L, n)."""
    blur: Array
    """Shape (L,)."""
    lowered: bool

    @classmethod
    def of(cls, parts: Sequence[SeparableTerms]) -> _Channel:
        """The same numbers in arrays."""
        return cls(
            np.array([terms.constant for terms in parts]),
            np.stack([terms.extra for terms in parts]),
            np.array([terms.blur for terms in parts]),
            any(terms.lowered for terms in parts),
        )

    def least(self, price: float) -> tuple[float, int]:
        """The least over the cases in plain float64, and how many weights are kept in it."""
        values = self.constant + np.minimum(self.extra, price).sum(axis=1)
        case = int(np.argmin(values))
        return float(values[case]), int((self.extra[case] > price).sum())

    def proved(self, price: float) -> tuple[float, float]:
        """The least over the cases, rounded down, and how much less a repetition may find."""
        values = [
            priced(constant, extra, price)
            for constant, extra in zip(self.constant.tolist(), self.extra, strict=True)
        ]
        least = min(values)
        return least, least - min(v - blur for v, blur in zip(values, self.blur.tolist(), strict=True))


def layer_dual_bound(problems: Sequence[Problem], certificates: Sequence[Certificate], nnz: int) -> float:
    """The lower bound on the summed error of channels that keep `nnz` weights together.

    Parameters
    ----------
    problems
        The channels; their own budgets play no part.
    certificates
        Of each channel; one that is a search proves nothing here.
    nnz
        Non-zeros allowed to all channels together.

    Returns
    -------
    The bound, rounded down; never negative, as E is a mean square.
    """
    return layer_dual_proof(problems, certificates, nnz).value


def layer_dual_proof(problems: Sequence[Problem], certificates: Sequence[Certificate], nnz: int) -> Proof:
    """What the certificates of all channels prove together: see :func:`layer_dual_bound`."""
    units = common_units(problems)
    channels = []
    for problem, certificate in zip(problems, certificates, strict=True):
        inner, parts = problem.in_units(units), []
        if certificate.fits(problem):
            parts = certificate.in_units(units).parts(inner)
        # a channel whose numbers prove nothing counts with E >= 0, and so do all of its inputs
        channels.append(_Channel.of(parts or [SeparableTerms.nothing(problem.n)]))
    found = max((_proved(channels, price, nnz) for price in _best_prices(channels, nnz)), key=_value)
    if not found.value > 0.0:  # nan as well
        return Proof(0.0, 0.0, False)
    return found.in_units(units.inverse)


def priced(constant: float, extra: Array, price: float) -> float:
    """constant + sum_i min(extra_i, price), rounded down."""
    return down(total([constant, *np.minimum(extra, price).tolist()]))


def _value(proof: Proof) -> float:
    return proof.value if math.isfinite(proof.value) else -math.inf


def _proved(channels: Sequence[_Channel], price: float, nnz: int) -> Proof:
    """What holds of all channels at this price of a kept weight, every rounding paid for."""
    found = [channel.proved(price) for channel in channels]
    paid = up(price * nnz)
    value = down(total([*(least for least, _ in found), -paid]))
    blur = math.fsum(own for _, own in found) + 64.0 * UNIT * paid
    return Proof(value, blur, any(channel.lowered for channel in channels))


def _best_prices(channels: Sequence[_Channel], nnz: int) -> tuple[float, float]:
    """Two prices, as near to one another as floats are, with the best one between them or at an end."""

    def keeps_more(price: float) -> bool:
        return sum(channel.least(price)[1] for channel in channels) > nnz

    low, high = 0.0, max(float(channel.extra.max()) for channel in channels)
    if not keeps_more(low):
        return low, low
    while True:
        middle = 0.5 * (low + high)
        if not low < middle < high:
            return low, high
        low, high = (middle, high) if keeps_more(middle) else (low, middle)

"""A quantization relaxation from the problem to a certificate, with any backend that solves SDPs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems import IntegerLeastSquares
from pvqbounds.relaxations.box_hull import BoxHullSDP, box_hull, in_gram_units, park_boyd, tightened
from pvqbounds.relaxations.certificates import BoxHullCertificate
from pvqbounds.solvers.base import SDPSolution

__all__ = ["QUANTIZATION_RELAXATIONS", "Relaxed", "relax"]

QUANTIZATION_RELAXATIONS: dict[str, Callable[[IntegerLeastSquares], BoxHullSDP]] = {
    "box-hull": box_hull,
    "park-boyd": park_boyd,
}

ROUNDS = 5
"""Solves at most, each with the tangents that the one before violates."""


@dataclass(frozen=True, eq=False)
class Relaxed:
    """Multipliers in units of the Gram, and the moments that randomized rounding draws from."""

    certificate: BoxHullCertificate
    mean: NDArray[np.float64]
    """Relaxed z, shape (n,)."""
    covariance: NDArray[np.float64]
    """Z - zzᵀ, shape (n, n)."""
    reported: float
    """The error bound that the solver states."""
    status: str
    """The solver's own word."""


def relax(
    problem: IntegerLeastSquares, relaxation: str, solve: Callable[[BoxHullSDP], SDPSolution]
) -> Relaxed:
    """Solve the relaxation, and again with the tangents that its solution violates."""
    sdp = QUANTIZATION_RELAXATIONS[relaxation](problem)
    solution = solve(sdp)
    for _ in range(ROUNDS - 1):
        tighter = tightened(sdp, solution.mean, solution.covariance) if sdp.chord else None
        if tighter is None:
            break
        sdp, solution = tighter, solve(tighter)
    return Relaxed(
        BoxHullCertificate(*in_gram_units(sdp, solution.lam, solution.nu)),
        solution.mean,
        solution.covariance,
        solution.value * sdp.unit,
        solution.status,
    )

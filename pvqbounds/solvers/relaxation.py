"""A quantization relaxation from the problem to a certificate, with any backend that solves SDPs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.problems import IntegerLeastSquares, LeastSquares
from pvqbounds.relaxations.box_hull import BoxHullSDP, box_hull, in_gram_units, park_boyd, tightened
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.solvers.base import SDPSolution

__all__ = [
    "BLOCKS",
    "DIRECTIONS",
    "QUANTIZATION_RELAXATIONS",
    "Relaxed",
    "relax",
    "relax_levels",
    "relax_together",
]

BuildSDP = Callable[[IntegerLeastSquares, "NDArray[np.float64] | None"], BoxHullSDP]
SolveSDPs = Callable[[Sequence[BoxHullSDP]], list[SDPSolution]]

QUANTIZATION_RELAXATIONS: dict[str, BuildSDP] = {"box-hull": box_hull, "park-boyd": park_boyd}

DIRECTIONS = "directions"
"""A relaxation by cases of directions of next to no power, where the Gram has some."""

BLOCKS = "blocks"
"""The relaxation in which each small group of inputs is taken as a whole, where the support rule has such."""

ROUNDS = 5
"""Solves at most, each with the tangents that the one before violates."""


@dataclass(frozen=True, eq=False)
class Relaxed:
    """Multipliers in units of the Gram, and the moments that randomized rounding draws from.

    Moments of uniform steps without a support rule count in codes, all others in units of the weights.
    """

    certificate: DualCertificate
    mean: NDArray[np.float64]
    """Relaxed z or v, shape (n,)."""
    covariance: NDArray[np.float64]
    """Its covariance in the relaxation, Z - zzᵀ, shape (n, n)."""
    reported: float
    """The error bound that the solver states."""
    status: str
    """The solver's own word."""
    brief: bool = False
    """Whether codes beside it, too, may take no more than a little of the time."""


def relax(
    problem: IntegerLeastSquares,
    relaxation: str,
    solve: Callable[[BoxHullSDP], SDPSolution],
    clock: Clock | None = None,
) -> Relaxed:
    """Solve the relaxation, and again with the tangents that its solution violates while there is time."""
    return relax_together([problem], relaxation, lambda sdps: [solve(sdp) for sdp in sdps], clock)[0]


def relax_together(
    problems: Sequence[IntegerLeastSquares],
    relaxation: str,
    solve: SolveSDPs,
    clock: Clock | None = None,
) -> list[Relaxed]:
    """:func:`relax` for channels of one Gram and one grid of codes, which `solve` takes together."""
    build = QUANTIZATION_RELAXATIONS[relaxation]
    sdps = [build(problems[0], None)]
    sdps += [build(problem, sdps[0].form) for problem in problems[1:]]
    return _relaxed(sdps, solve, clock)


def relax_levels(
    problem: LeastSquares, solve: Callable[[BoxHullSDP], SDPSolution], clock: Clock | None = None
) -> Relaxed:
    """The box-hull relaxation of any finite values without a support rule, by a backend that solves SDPs."""
    sdp = box_hull(problem)
    relaxed = _relaxed([sdp], lambda sdps: [solve(sdp) for sdp in sdps], clock)[0]
    scale = sdp.scale
    covariance = relaxed.covariance * np.multiply.outer(scale, scale)
    return replace(relaxed, mean=relaxed.mean * scale, covariance=covariance)


def _relaxed(sdps: list[BoxHullSDP], solve: SolveSDPs, clock: Clock | None) -> list[Relaxed]:
    """Solve relaxations, and again with the tangents that their solutions violate."""
    solutions = solve(sdps)
    for _ in range(ROUNDS - 1):
        tighter = {
            i: new
            for i, (sdp, found) in enumerate(zip(sdps, solutions, strict=True))
            if sdp.chord and (new := tightened(sdp, found.mean, found.covariance)) is not None
        }
        if not tighter or (clock is not None and clock.expired):
            break
        for i, solution in zip(tighter, solve(list(tighter.values())), strict=True):
            sdps[i], solutions[i] = tighter[i], solution
    return [
        Relaxed(
            DualCertificate(*in_gram_units(sdp, found.lam, found.nu)),
            found.mean,
            found.covariance,
            found.value * sdp.unit,
            found.status,
        )
        for sdp, found in zip(sdps, solutions, strict=True)
    ]

"""Which native engine solves a box-hull SDP, and how many channels it takes at a time.

The interior point (:mod:`.box_hull_dual`) is exact to six digits and costs O(n³) an iteration; where
the time limit does not allow it a path of barriers, followed by a first-order method
(:mod:`.split_dual`), gives what it can.
"""

from __future__ import annotations

from collections.abc import Sequence

from pvqbounds.clock import Clock
from pvqbounds.relaxations.box_hull import BoxHullSDP
from pvqbounds.solvers.base import SDPSolution
from pvqbounds.solvers.native.linalg.arrays import NUMPY, Arrays
from pvqbounds.solvers.native.linalg.lapack import FLOPS_A_SECOND
from pvqbounds.solvers.native.quantization.box_hull_dual import solve_box_hulls
from pvqbounds.solvers.native.quantization.split_dual import solve_by_path

__all__ = ["batch_size", "solve_sdp", "solve_sdps"]

FLOPS = 200.0
"""Operations of an interior-point solve, over n³: about 25 iterations of eight each."""

SHARE = 0.5
"""Share of the time left that an interior point may be expected to take."""

BRIEF = 0.25
"""A solve that is expected to take fewer seconds runs to its end, whatever the time limit."""

MATRICES = 20
"""Matrices of n² numbers that one channel needs at a time, the vertices of its polygons included."""

CPU_BATCH = 100
"""Up to this many inputs a batch pays on the CPU: its calls cost more than their arithmetic."""


def solve_sdp(sdp: BoxHullSDP, clock: Clock, *, tolerance: float = 1e-6) -> SDPSolution:
    """Solve one relaxation on the CPU within the time that is left."""
    return solve_sdps([sdp], clock, tolerance=tolerance)[0]


def solve_sdps(
    sdps: Sequence[BoxHullSDP], clock: Clock, arrays: Arrays = NUMPY, *, tolerance: float = 1e-6
) -> list[SDPSolution]:
    """Solve relaxations that share their form, within the time that is left for each."""
    first = sdps[0]
    seconds = FLOPS * first.n**3 / FLOPS_A_SECOND
    if seconds < BRIEF:
        return solve_box_hulls(sdps, tolerance=tolerance, arrays=arrays)
    too_dear = arrays is NUMPY and seconds > SHARE * clock.remaining
    if first.chord and not first.is_point and too_dear:
        return [solve_by_path(sdp, clock.part(SHARE / (len(sdps) - done))) for done, sdp in enumerate(sdps)]
    return solve_box_hulls(sdps, tolerance=tolerance, clock=clock, arrays=arrays)


def batch_size(n: int, arrays: Arrays) -> int:
    """How many channels of `n` inputs to solve at a time: what fits, one where batches gain nothing."""
    fits = max(1, int(arrays.room / (8.0 * MATRICES * float(n) ** 2)))
    return fits if arrays.batches or n <= CPU_BATCH else 1

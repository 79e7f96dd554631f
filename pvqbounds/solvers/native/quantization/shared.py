"""One lam for all channels of a Gram: O(n²) a channel once a few channels are solved.

The matrices S = P - diag(lam) of definite duals are a convex set that does not depend on the
channel, so that the mean of the lam of a few channels is feasible for all, and so is what lies
beyond it up to the border. What then is left to find for a channel is nu, by coordinate descent.
The bound is valid, and weaker; by how much, ``benchmarks/relaxation.py shared`` prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems import IntegerLeastSquares
from pvqbounds.relaxations.box import KeptInverse
from pvqbounds.relaxations.box_hull import BoxHullSDP, dual_value, in_gram_units, without_tangents
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.solvers.base import SDPSolution
from pvqbounds.solvers.native.quantization import shared_kernel
from pvqbounds.solvers.native.quantization.shared_values import pilots_of, reach_of
from pvqbounds.solvers.relaxation import Relaxed, relax_together

__all__ = ["fitted", "relax_shared"]

SWEEPS = 300
"""Sweeps that fit nu to the shared lam."""

NEGLIGIBLE = 1e-8
"""Share of the mean power up to which lam is what rounding leaves of a singular Gram: some 70 dB wide."""

SHARES = (1.0, 0.5, 0.25, 0.1)
"""Of lam, each for channels of which the one before proves nothing: steps too unlike those of the pilots."""


def relax_shared(
    problems: Sequence[IntegerLeastSquares],
    solve: Callable[[Sequence[BoxHullSDP]], list[SDPSolution]],
) -> Iterator[Relaxed]:
    """Multipliers for channels of one Gram, all with the same lam in its units, whatever their steps.

    Parameters
    ----------
    solve
        Solves the relaxations of the pilot channels: of all of them at once where they have one grid.

    Yields
    ------
    Those of one channel after another, with z in place of its moments.
    """
    pilots = [problems[i] for i in pilots_of(len(problems), problems[0].n)]
    one_grid = len({problem.grid for problem in problems}) == 1
    together = [pilots] if one_grid else [[pilot] for pilot in pilots]
    solved = [found for part in together for found in relax_together(part, "box-hull", solve)]
    lam_of_gram = np.mean([found.certificate.lam for found in solved], axis=0)
    lam_of_gram *= reach_of(problems[0].gram, lam_of_gram)
    # where S has no room for lam, the least error over the box is all that is proved, and nothing to fit
    power = float(np.mean(np.diagonal(problems[0].gram)))
    fits = np.abs(lam_of_gram).max() > NEGLIGIBLE * power
    shares, sweeps = (SHARES, SWEEPS) if fits else (SHARES[:1], 0)
    form, inverse = None, KeptInverse()
    for problem in problems:
        sdp = without_tangents(problem, form, inverse)
        form = sdp.form if one_grid else None
        lam = lam_of_gram * (problem.scale / sdp.unit) * problem.scale
        for share in shares:
            z, nu = fitted(sdp, share * lam, sdp.reference, sweeps)
            value = dual_value(sdp, share * lam, nu) * sdp.unit
            if value > 0.0:
                break
        certificate = DualCertificate(*in_gram_units(sdp, share * lam, nu))
        nothing = np.broadcast_to(0.0, (problem.n, problem.n))
        yield Relaxed(certificate, z, nothing, value, "shared lam", brief=True)


def fitted(
    sdp: BoxHullSDP, lam: NDArray[np.float64], start: NDArray[np.float64], sweeps: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(z, nu), shape (n,) each, with nu near the best for this lam: O(n²) a sweep.

    For fixed lam the dual is that of minimising (z - c)ᵀS(z - c) plus the convex envelopes of
    lam_i (k - c_i)² over the codes; at its minimiser z the best nu is S (z - c).

    Parameters
    ----------
    lam
        Shape (n,), with S = P - diag(lam) positive definite.
    start
        z to start from, shape (n,); it is clipped to the box.
    sweeps
        Sweeps over all inputs.
    """
    matrix = sdp.form - np.diag(lam)
    z = np.clip(start, sdp.low, sdp.high)
    pull = matrix @ (z - sdp.centre)
    shared_kernel.envelope_sweeps(matrix, sdp.centre, lam, z, pull, sdp.low, sdp.high, sweeps)
    return z, np.asarray(matrix @ (z - sdp.centre), dtype=np.float64)

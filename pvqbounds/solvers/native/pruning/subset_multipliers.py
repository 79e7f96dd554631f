"""Perspective multipliers for the subset search: a second, often far higher, bound on every node.

For a diagonal D > 0 with H = G - diag(D) positive definite and any nu, split with d = v - w

    dᵀGd = (dᵀHd - 2 nuᵀd) + sum_i (D_i d_i² + 2 nu_i d_i).

A removed input has d_i = -w_i. A kept one contributes at least -nu_i²/D_i to the sum. With a
proved minorant R of H, m any vector and nu := RᵀR m, every v that removes the inputs T has

    E(v) >= root + min {||R (d - m)||² : d_T = -w_T} + sum over T of extra_i,
    root = -||R m||² - sum_i nu_i²/D_i,      extra_i = D_i (w_i - nu_i/D_i)²,

which is the bound of :mod:`pvqbounds.relaxations.dual` with the inputs T decided: at the
root, T empty, the sum of the least extras completes it. The minimum is the cost that the search
computes anyway, on the inverse of R and with w + m in place of w.

The multipliers come from the interior point of :mod:`.perspective_dual`, drawn back a little:
closer to the boundary of H >= 0 the bound of the root rises, but that of the nodes below falls.
They cost ten milliseconds at 36 inputs and a second bound on every node, which pays from about
50 inputs upwards: the search uses them where it does not end at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.enclosures import TINY, UNIT, down, gamma, up
from pvqbounds.problems import SparseLeastSquares
from pvqbounds.solvers.native.pruning.perspective_dual import maximise_perspective
from pvqbounds.solvers.native.pruning.subset_factor import SubsetFactor, proved_factor

__all__ = ["Multiplied", "multiplied"]

SHARE = 0.8
"""Fraction of the relaxation's optimal multipliers that the nodes are bounded with."""


@dataclass(frozen=True, eq=False)
class Multiplied:
    """What the search needs of H, all in the units of the reduced problem."""

    matrix: NDArray[np.float64]
    """What inputs are eliminated from: W Wᵀ for the inverse W of R, shape (m, m)."""
    target: NDArray[np.float64]
    """w + m, shape (m,)."""
    extra: NDArray[np.float64]
    """Extra cost of removing each input, shape (m,)."""
    root: float
    """Constant of the bound, with all rounding subtracted."""
    gain: float
    """Costs by elimination times 1/gain are proved: the accuracy of costs in H."""


def multiplied(problem: SparseLeastSquares, factor: SubsetFactor) -> Multiplied | None:
    """The bound at the perspective relaxation's multipliers, with its rounding accounted for.

    None where the Gram, or H, is too singular to have any. The outcome depends on the problem alone, so
    that a proof can repeat it.
    """
    if not factor.definite or factor.eliminated is None:
        return None
    certificate = maximise_perspective(problem)
    first = [members[0] for members in factor.members]
    step = factor.exponent // 2
    D = SHARE * np.ldexp(certificate.lam[first], -2 * factor.power)
    nu = SHARE * np.ldexp(certificate.nu[first], -factor.power - step)
    return _evaluated(factor, D, nu)


def _evaluated(factor: SubsetFactor, D: NDArray[np.float64], nu: NDArray[np.float64]) -> Multiplied | None:
    gram, weight = factor.gram, factor.weight
    n = len(weight)
    H = gram.copy()
    H[np.diag_indices(n)] -= D
    D = np.diagonal(gram) - np.diagonal(H)  # exact up to one rounding
    if not (1e-12 * np.diagonal(gram) < D).all():
        return None
    found = proved_factor(H, factor.removals)
    if found is None or found.eliminated is None:
        return None
    R, W = found.factor, found.rows
    gain = found.eliminated.slack / found.relative**2 * (1.0 + gamma(4 * n + 40))
    # m is *defined* by the float64 vector w + m, and nu by m
    target = weight + W @ (W.T @ nu)
    m = target - weight
    image = R @ m
    size = np.abs(R) @ np.abs(m)
    nu = R.T @ image
    nu_error = gamma(2 * n + 8) * (np.abs(R).T @ size)
    norm = up(float(np.sum((np.abs(image) + gamma(n + 4) * size) ** 2)) * (1.0 + gamma(n + 4)), 2)
    kept = nu * nu / D
    rounding = 32.0 * UNIT * (D * weight * weight + 2.0 * np.abs(nu * weight) + kept)
    rounding += 2.0 * nu_error * (np.abs(weight) + (np.abs(nu) + nu_error) / D) * (1.0 + 8.0 * UNIT)
    root = -up(norm + up(math.fsum(kept.tolist())) + up(math.fsum(rounding.tolist())) + TINY, 4)
    extra = D * (weight - nu / D) ** 2
    return Multiplied(found.eliminated.matrix, target, extra, down(root), up(gain, 6))

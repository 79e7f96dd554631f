"""Positive definiteness proved in float64 by one Cholesky factorisation.

Let the floating-point Cholesky factorisation of B = A - diag(c) run to its end with factor R.
Then RᵀR = B + F with |F| <= gamma_{n+1} |Rᵀ||R| (Higham, "Accuracy and Stability of Numerical
Algorithms", Theorem 10.3; any order of the sums, fused or not). The columns of R have squared
norms r_i² = B_ii + F_ii <= A_ii / (1 - gamma_{n+1}), so that for every x

    |xᵀFx| <= gamma_{n+1} (sum_i r_i |x_i|)² <= n gamma_{n+1} / (1 - gamma_{n+1}) sum_i A_ii x_i².

Hence xᵀAx >= ||Rx||² wherever c_i is at least that factor times A_ii (`factor_margin`): R is a
*minorant* of A, and A is positive definite. The margin scales with each diagonal entry, so that
one input of a thousand times the size does not blur the others (compare Rump, "Verification of
positive definiteness", BIT 46, 2006).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from pvqbounds.arithmetic.enclosures import TINY, down, gamma

__all__ = ["equilibration", "minorant", "proof_margin", "proved_shift", "proves_definite"]

LARGEST_ENTRY = 2.0**600
"""Diagonal entries up to which, and from the inverse of which, a factorisation needs no units of its own."""

INVERSE_STEPS = 6
"""Steps of inverse iteration towards the least eigenvalue."""


def equilibration(gram: NDArray[np.float64]) -> NDArray[np.int64]:
    """Exponents p, shape (n,), such that G_ij 2^(-p_i - p_j) has a diagonal between 1/4 and 1.

    Powers of two round nothing, and inputs of very different size no longer drown one another.
    Entries of the diagonal that are not positive get the largest exponent.
    """
    diagonal = np.diagonal(gram)
    positive = diagonal > 0.0
    used = np.where(positive, diagonal, diagonal.max() if positive.any() else 1.0)
    return np.asarray((np.frexp(used)[1] + 1) // 2, dtype=np.int64)


def proof_margin(n: int) -> float:
    """Share of each diagonal entry by which a proof lowers it before the factorisation."""
    # twice the margin of the module's derivation: covers its own rounding and 1 / (1 - gamma)
    return 2.0 * n * gamma(n + 3)


def minorant(
    matrix: NDArray[np.float64], margins: float = 1.0, shift: float = 0.0
) -> NDArray[np.float64] | None:
    """Upper triangular float64 R with xᵀ A x >= ||R x||² + shift ||x||² for every x, or None.

    Parameters
    ----------
    matrix
        A, symmetric, shape (n, n), taken as exact.
    margins
        How many times the margin of a proof to leave: with two of them a proof in any other order of
        sums succeeds with one.
    shift
        Any finite number, negative ones included.

    Returns
    -------
    R, shape (n, n), within about n² u of a Cholesky factor of A; None where A is not positive
    definite by more than that margin, which proves nothing.
    """
    n = len(matrix)
    lowered, places = matrix.copy(), np.diag_indices(len(matrix))
    if shift != 0.0:  # the next float below covers the rounding of the subtraction
        lowered[places] = np.nextafter(lowered[places] - shift, -np.inf)
    diagonal = lowered[places]
    least, largest = diagonal.min(), diagonal.max()
    if not least > 0.0:
        return None
    ordinary = least > 1.0 / LARGEST_ENTRY and largest < LARGEST_ENTRY
    power = None if ordinary else equilibration(lowered)
    if power is not None:
        lowered = np.ldexp(lowered, -power[:, None] - power)
        diagonal = lowered[places]
    lowered[places] = np.nextafter(diagonal - (margins * proof_margin(n) * diagonal + TINY), -np.inf)
    try:
        factor: NDArray[np.float64] = np.ascontiguousarray(np.linalg.cholesky(lowered).T)
    except np.linalg.LinAlgError:
        return None
    if power is not None:
        scaled = np.ldexp(factor, power)
        if not np.array_equal(np.ldexp(scaled, -power), factor):
            return None  # an entry that underflows is no longer that of a minorant
        factor = scaled
    return factor if np.isfinite(factor).all() else None


def proves_definite(matrix: NDArray[np.float64], shift: float, margins: float = 1.0) -> bool:
    """Whether ``matrix - shift * I`` is proved positive definite; False proves nothing.

    Parameters
    ----------
    matrix
        Symmetric, shape (n, n), taken as exact.
    shift
        Any finite number, negative ones included.
    margins
        As for :func:`minorant`.
    """
    return minorant(matrix, margins, shift) is not None


def proved_shift(matrix: NDArray[np.float64], margins: float = 1.0) -> float | None:
    """A proved positive lower bound on the least eigenvalue of `matrix`, or None.

    It is within a factor of a hundred of the eigenvalue, mostly of two, where that is above the
    rounding margin. What is tried comes from inverse iteration: O(n²) a step, where eigenvalues
    would cost more than all the proof. `margins` is as for :func:`minorant`.
    """
    factor, info = lapack.dpotrf(matrix, lower=1, clean=0)
    if info != 0:
        return None
    vector = np.cos(np.arange(1.0, len(matrix) + 1.0))  # any start that is not special
    growth = 1.0
    for _ in range(INVERSE_STEPS):
        vector, _ = lapack.dpotrs(factor, vector / np.linalg.norm(vector), lower=1)
        growth = float(np.linalg.norm(vector))
    # ||A⁻¹v|| for a unit v is at most 1/lambda_min, and near to it after a few steps
    for fraction in (0.7, 0.1, 0.01):
        shift = down(fraction / growth) if growth > 0.0 and np.isfinite(growth) else 0.0
        if shift > 0.0 and proves_definite(matrix, shift, margins):
            return shift
    return None

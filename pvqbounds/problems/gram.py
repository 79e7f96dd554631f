"""The Gram matrix of a layer input, checked once and shared by all channels of the layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pvqbounds.errors import InputError
from pvqbounds.problems.validation import as_real_array

__all__ = ["Gram"]

ASYMMETRY_TOLERANCE = 1e-9
"""Largest |G_ij - G_ji|, as a fraction of the largest diagonal entry, that passes for rounding."""

INDEFINITE_TOLERANCE = 1e-10
"""Largest -lambda_min, as a fraction of the trace, that passes for rounding."""


class Gram:
    """G = XᵀX/N, symmetric positive semidefinite, as data that several problems share.

    Parameters
    ----------
    matrix
        Shape (n, n). It is never damped. An asymmetry within rounding is averaged away, which
        leaves the quadratic form what it was.

    Raises
    ------
    InputError
        If the matrix is not square, not finite, empty, asymmetric or indefinite by more than
        rounding explains.
    """

    matrix: NDArray[np.float64]
    """Shape (n, n), exactly symmetric, read-only."""

    def __init__(self, matrix: ArrayLike) -> None:
        array = as_real_array(matrix, "The Gram matrix", ndim=2)
        if array.shape[0] != array.shape[1]:
            raise InputError(f"The Gram matrix must be square, but its shape is {array.shape}.")
        largest = float(np.abs(array).max())
        asymmetry = float(np.abs(array - array.T).max())
        if asymmetry > ASYMMETRY_TOLERANCE * largest:
            raise InputError(
                f"The Gram matrix is not symmetric: entries differ by up to {asymmetry:.3g}; "
                "compute it as XᵀX/N."
            )
        if asymmetry > 0.0:
            array = 0.5 * array + 0.5 * array.T
            array.flags.writeable = False
        trace = float(np.trace(array / largest)) * largest if largest > 0.0 else 0.0
        if largest > 0.0 and not _is_semidefinite(array / largest):
            smallest = float(np.linalg.eigvalsh(array)[0])
            raise InputError(
                f"The Gram matrix is indefinite (smallest eigenvalue {smallest:.3g}, trace {trace:.3g}); "
                "accumulate it as XᵀX/N in float64."
            )
        self.matrix = array

    @property
    def n(self) -> int:
        """Number of inputs (fan-in)."""
        return len(self.matrix)


def _is_semidefinite(matrix: NDArray[np.float64]) -> bool:
    """Whether a matrix with largest entry 1 is positive semidefinite but for rounding."""
    try:
        np.linalg.cholesky(matrix + INDEFINITE_TOLERANCE * np.trace(matrix) * np.eye(len(matrix)))
    except np.linalg.LinAlgError:
        return False
    return True

"""The Gram matrix of a layer input, checked once and shared by all channels of the layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pvqbounds.errors import InputError

__all__ = ["Gram", "as_real_array"]

ASYMMETRY_TOLERANCE = 1e-9
"""Largest |G_ij - G_ji|, as a fraction of the largest diagonal entry, that passes for rounding."""

INDEFINITE_TOLERANCE = 1e-10
"""Largest -lambda_min, as a fraction of the trace, that passes for rounding."""


def as_real_array(values: ArrayLike, name: str, ndim: int) -> NDArray[np.float64]:
    """`values` as a finite float64 array with `ndim` axes, none of them empty, not writable.

    Raises
    ------
    InputError
        If `values` is not numeric, has another number of axes, is empty or not finite.
    """
    try:
        given = np.asarray(values)
        if given.dtype.kind not in "fiub":
            raise TypeError(f"dtype {given.dtype}")
        array = np.array(given, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must hold real numbers ({error}).") from error
    if array.ndim != ndim:
        raise InputError(f"{name} must have {ndim} axes, but its shape is {array.shape}.")
    if array.size == 0:
        raise InputError(f"{name} is empty (shape {array.shape}).")
    if not np.isfinite(array).all():
        bad = int(array.size - np.isfinite(array).sum())
        raise InputError(f"{name} has {bad} of {array.size} entries that are not finite.")
    array.flags.writeable = False
    return array


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
        trace = float(np.trace(array))
        shift = INDEFINITE_TOLERANCE * trace
        if trace < 0.0 or largest > trace or not _is_positive_definite(array, shift):
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


def _is_positive_definite(matrix: NDArray[np.float64], shift: float) -> bool:
    if not matrix.any():
        return True  # a dead input: the zero matrix is positive semidefinite
    try:
        np.linalg.cholesky(matrix + shift * np.eye(len(matrix)))
    except np.linalg.LinAlgError:
        return False
    return True

"""The Gram matrix of a layer input, checked once and shared by all channels of the layer."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pvqbounds.errors import InputError
from pvqbounds.problems.units import exponent_of, scaled_exactly
from pvqbounds.problems.validation import as_real_array, precision_of

__all__ = ["Gram"]

ASYMMETRY_TOLERANCE = 1e-9
"""Largest |G_ij - G_ji|, as a fraction of the largest entry, that passes for rounding in float64."""

INDEFINITE_TOLERANCE = 1e-10
"""Largest -lambda_min, as a fraction of the trace, that passes for rounding in float64."""

COARSE_ASYMMETRY, COARSE_INDEFINITE = 16.0, 4.0
"""The same for Grams made in a coarser precision, in units of its spacing at 1."""


TILE = 256
"""Rows and columns of a matrix that are compared at a time."""

MOST_PARTS = 4
"""Grams of some of the inputs that are kept for those who ask again."""


class Gram:
    """G = XᵀX/N, symmetric positive semidefinite, as data that several problems share.

    Two of them are equal only if they are one: what depends on a Gram alone is made once and kept by it.

    Parameters
    ----------
    matrix
        Shape (n, n). It is never damped. An asymmetry within rounding, of the precision that it
        was made in, is averaged away, which leaves the quadratic form what it was.

    Raises
    ------
    InputError
        If the matrix is not square, not finite, empty, asymmetric or indefinite by more than
        rounding explains.
    """

    matrix: NDArray[np.float64]
    """Shape (n, n), exactly symmetric, read-only."""
    exponent: int
    """In units of ``2**exponent`` the largest entry is near 1."""

    def __init__(self, matrix: ArrayLike) -> None:
        array = as_real_array(matrix, "The Gram matrix", ndim=2)
        if array.shape[0] != array.shape[1]:
            raise InputError(f"The Gram matrix must be square, but its shape is {array.shape}.")
        largest = float(np.abs(array).max())
        if largest > 0.0:
            array = _checked(array, largest, precision_of(matrix, array))
        self.matrix = array
        self.exponent = exponent_of(largest)
        self._in_units: dict[int, Gram] = {0: self}
        self._among: dict[bytes, Gram] = {}
        self.in_units(self.exponent)  # refuses entries that lie too far apart

    @property
    def n(self) -> int:
        """Number of inputs (fan-in)."""
        return len(self.matrix)

    @cached_property
    def live(self) -> NDArray[np.bool_]:
        """Which inputs are not always zero, shape (n,): the others add nothing to any error."""
        return np.asarray(self.matrix.any(axis=1))

    @cached_property
    def over_mean(self) -> NDArray[np.float64]:
        """The matrix over its mean diagonal, made once; itself where that is zero."""
        mean = float(np.mean(np.diagonal(self.matrix)))
        return self.matrix / mean if mean > 0.0 else self.matrix

    def in_units(self, exponent: int) -> Gram:
        """The Gram over ``2**exponent``, made once.

        Raises
        ------
        InputError
            If an entry is lost by underflow or overflows.
        """
        if exponent not in self._in_units:
            matrix = scaled_exactly(self.matrix, -exponent)
            if matrix is None:
                raise InputError(
                    "The entries of the Gram matrix lie further apart than float64 can hold in one unit; "
                    "rescale the inputs or leave out those of hardly any power."
                )
            self._in_units[exponent] = _unchecked(matrix)
        return self._in_units[exponent]

    def plus(self, form: NDArray[np.float64]) -> Gram:
        """The Gram and a positive semidefinite form of the same size, shape (n, n): new each time."""
        matrix = self.matrix + 0.5 * (form + form.T)
        return _unchecked(matrix)

    def among(self, inputs: NDArray[np.bool_]) -> Gram:
        """The Gram of the inputs of a mask, shape (n,), alone: made once for each mask of the last few."""
        if inputs.all():
            return self
        key = inputs.tobytes()
        if key not in self._among:
            if len(self._among) == MOST_PARTS:  # the oldest goes
                del self._among[next(iter(self._among))]
            self._among[key] = _unchecked(self.matrix[np.ix_(inputs, inputs)])
        return self._among[key]


def _unchecked(matrix: NDArray[np.float64]) -> Gram:
    """A Gram made from one that was checked."""
    gram = Gram.__new__(Gram)
    matrix.flags.writeable = False
    gram.matrix, gram.exponent = matrix, exponent_of(float(np.abs(matrix).max(initial=0.0)))
    gram._in_units, gram._among = {0: gram}, {}
    return gram


def _checked(array: NDArray[np.float64], largest: float, spacing: float) -> NDArray[np.float64]:
    """The matrix, exactly symmetric, if it is a Gram up to rounding in the precision that it was made in."""
    unit = np.ldexp(1.0, int(np.frexp(largest)[1]) - 1)
    small = array / unit  # a power of two: nothing below overflows
    asymmetry = _asymmetry(small)
    coarse = spacing > np.finfo(np.float64).eps
    if asymmetry > max(ASYMMETRY_TOLERANCE, COARSE_ASYMMETRY * spacing * coarse):
        raise InputError(
            f"The Gram matrix is not symmetric: entries differ by up to {asymmetry * unit:.3g}; "
            "compute it as XᵀX/N."
        )
    trace = float(np.trace(small))
    allowed = max(INDEFINITE_TOLERANCE, COARSE_INDEFINITE * spacing * coarse)
    even = small if asymmetry == 0.0 else 0.5 * small + 0.5 * small.T
    if not _is_semidefinite(even, allowed * trace):
        smallest = float(np.linalg.eigvalsh(even)[0])
        raise InputError(
            f"The Gram matrix is indefinite (smallest eigenvalue {smallest * unit:.3g}, "
            f"trace {trace * unit:.3g}); accumulate it as XᵀX/N in float64."
        )
    if asymmetry > 0.0:
        array = 0.5 * array + 0.5 * array.T
        array.flags.writeable = False
    return array


def _asymmetry(matrix: NDArray[np.float64]) -> float:
    """Largest |M_ij - M_ji|, a tile after another: a large matrix is not turned as a whole."""
    starts = range(0, len(matrix), TILE)
    pairs = ((slice(i, i + TILE), slice(j, j + TILE)) for i in starts for j in starts if j <= i)
    return max(float(np.abs(matrix[a, b] - matrix[b, a].T).max()) for a, b in pairs)


def _is_semidefinite(matrix: NDArray[np.float64], allowed: float) -> bool:
    """Whether a matrix with largest entry about 1 has no eigenvalue below -allowed, up to rounding."""
    raised = matrix.copy()
    raised.flat[:: len(matrix) + 1] += allowed
    try:
        np.linalg.cholesky(raised)
    except np.linalg.LinAlgError:
        return False
    return True

"""Forms below the error: quadratic functions of the weights that no allowed weights fall short of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.enclosures import UNIT

__all__ = ["ErrorForm"]


@dataclass(frozen=True, eq=False)
class ErrorForm:
    """Numbers with E >= dᵀAd - 2 pᵀd + kappa for all allowed v, d = v - w, or all of a part of them.

    The exact p lies within `radius` of `linear`; the rounding of A and kappa is paid for in them.
    """

    matrix: NDArray[np.float64]
    """A, symmetric, shape (n, n)."""
    linear: NDArray[np.float64]
    """p, shape (n,)."""
    radius: NDArray[np.float64]
    """Shape (n,)."""
    constant: float
    """kappa."""

    def among(self, inputs: NDArray[np.bool_] | NDArray[np.int64]) -> ErrorForm:
        """The form on the inputs of a mask, where all else is zero, or in another order of inputs."""
        if inputs.dtype == np.bool_ and inputs.all():
            return self
        block = self.matrix[np.ix_(inputs, inputs)]
        return ErrorForm(block, self.linear[inputs], self.radius[inputs], self.constant)

    def in_units(self, power: NDArray[np.int64]) -> ErrorForm:
        """The form in d_i 2^power_i, which rounds nothing but what underflows."""
        return ErrorForm(
            np.ldexp(self.matrix, -power[:, None] - power),
            np.ldexp(self.linear, -power),
            np.ldexp(self.radius, -power),
            self.constant,
        )

    def separable_linear(self, nu: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """nu - p, what is left for the separable part of a dual bound, and its error bound."""
        rest = nu - self.linear
        return rest, np.where(self.linear == 0.0, self.radius, self.radius + 2.0 * UNIT * np.abs(rest))

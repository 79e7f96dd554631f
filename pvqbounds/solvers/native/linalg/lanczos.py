"""Lanczos steps: extreme eigenvalues of a symmetric matrix, from products with it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["lanczos"]

Array = NDArray[np.float64]


def lanczos(times: Callable[[Array], Array], n: int, steps: int) -> tuple[Array, Array]:
    """The diagonal and the other entries of the tridiagonal matrix of some steps from a fixed start.

    Parameters
    ----------
    times
        The product of the matrix, shape (n, n), with a vector.

    Returns
    -------
    Arrays of k <= steps numbers each; the last one of the second is the residual's size beyond the matrix.
    """
    x = np.random.default_rng(0).standard_normal(n)
    basis = np.empty((min(steps, n), n))
    alpha: list[float] = []
    beta: list[float] = []
    for k in range(len(basis)):
        basis[k] = x / np.linalg.norm(x)
        x = times(basis[k])
        alpha.append(float(basis[k] @ x))
        for _ in range(2):  # once does not do where little is left
            x -= basis[: k + 1].T @ (basis[: k + 1] @ x)
        beta.append(float(np.linalg.norm(x)))
        if beta[-1] <= 1e-12 * max(map(abs, alpha)):
            break
    return np.array(alpha), np.array(beta)

"""The continuous minimiser of the error over the box, the relaxation that forgets integrality."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["box_minimiser"]

MAX_STEPS = 100


def box_minimiser(
    form: NDArray[np.float64], centre: NDArray[np.float64], lower: float, upper: float
) -> NDArray[np.float64]:
    """Approximate minimiser of (x - c)ᵀP(x - c) over lower <= x <= upper, shape (n,).

    Projected Newton steps on the coordinates that are free (Bertsekas, "Projected Newton methods
    for optimization problems with simple constraints", SIAM J. Control Optim. 20, 1982). No bound
    depends on how exact the minimiser is.

    Parameters
    ----------
    form, centre
        P, positive semidefinite, shape (n, n), and c, shape (n,).
    lower, upper
        The box, the same for all coordinates.
    """
    x = np.clip(centre, lower, upper)
    if (x == centre).all():
        return x
    n = len(x)
    # a ridge far below the curvature of any input that matters keeps singular forms solvable;
    # it changes the path, not the point that the gradient test accepts
    ridge = 1e-12 * np.trace(form) / n
    value = _value(form, centre, x)
    for _ in range(MAX_STEPS):
        gradient = form @ (x - centre)
        pinned = ((x <= lower) & (gradient > 0.0)) | ((x >= upper) & (gradient < 0.0))
        free = np.flatnonzero(~pinned)
        if len(free) == 0:
            return x
        block = form[np.ix_(free, free)] + ridge * np.eye(len(free))
        step = np.zeros(n)
        step[free] = -np.linalg.solve(block, gradient[free]) if ridge > 0.0 else 0.0
        length = 1.0
        while length > 1e-10:
            trial = np.clip(x + length * step, lower, upper)
            trial_value = _value(form, centre, trial)
            if trial_value < value:
                break
            length *= 0.5
        else:
            return x
        converged = value - trial_value <= 1e-13 * value
        x, value = trial, trial_value
        if converged:
            return x
    return x


def _value(form: NDArray[np.float64], centre: NDArray[np.float64], x: NDArray[np.float64]) -> float:
    return float((x - centre) @ (form @ (x - centre)))

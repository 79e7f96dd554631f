"""The continuous minimiser of the error over the box, the relaxation that forgets integrality."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pvqbounds.clock import Clock

__all__ = ["box_minimiser"]

MAX_STEPS = 100


def box_minimiser(
    form: NDArray[np.float64],
    centre: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    clock: Clock | None = None,
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
        The box, shape (n,) each.
    clock
        Ends the descent between two steps.
    """
    x = np.minimum(np.maximum(centre, lower), upper)  # np.clip, in a third of its time
    if (x == centre).all():
        return x
    n = len(x)
    # a ridge far below the curvature of any input that matters keeps singular forms solvable;
    # it changes the path, not the point that the descent ends at
    ridge = 1e-14 * np.trace(form) / n
    gradient = form @ (x - centre)
    value = float((x - centre) @ gradient)
    for _ in range(MAX_STEPS):
        if clock is not None and clock.expired:
            return x
        before = value
        pinned = ((x <= lower) & (gradient > 0.0)) | ((x >= upper) & (gradient < 0.0))
        free = np.flatnonzero(~pinned)
        if len(free) == 0:
            return x
        step = np.zeros(n)
        if ridge > 0.0:
            block = form[np.ix_(free, free)]
            block[np.diag_indices(len(free))] += ridge
            with suppress(np.linalg.LinAlgError):  # the ridge was lost in rounding: the sweep below steps
                step[free] = -np.linalg.solve(block, gradient[free])
        for length in (1.0, 0.5, 0.25, 0.125, 1e-2, 1e-3):
            trial = np.minimum(np.maximum(x + length * step, lower), upper)
            trial_gradient = form @ (trial - centre)
            trial_value = float((trial - centre) @ trial_gradient)
            if trial_value < value:
                x, gradient, value = trial, trial_gradient, trial_value
                break
        else:  # the step leaves the box too soon: exact descent along each coordinate
            x = _coordinate_sweep(form, centre, x, lower, upper)
            gradient = form @ (x - centre)
            value = float((x - centre) @ gradient)
        if before - value <= 1e-12 * value:
            return x
    return x


def _coordinate_sweep(
    form: NDArray[np.float64],
    centre: NDArray[np.float64],
    start: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
) -> NDArray[np.float64]:
    x = start.copy()
    for i in range(len(x)):
        if form[i, i] > 0.0:
            x[i] = np.clip(x[i] - (form[i] @ (x - centre)) / form[i, i], lower[i], upper[i])
    return x

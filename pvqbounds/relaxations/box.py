"""The continuous minimiser of the error over the box, the relaxation that forgets integrality."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pvqbounds.clock import Clock

__all__ = ["KeptInverse", "box_minimiser"]

MAX_STEPS = 100

ENOUGH = 1e-12
"""Share of the value that the last step gains at most, or of the first value that the last one is at most."""

MOST_QUICK, CREEPING = 16, 1e-5
"""Steps after which those that gain no more than such a share are the last: hundreds like them may follow."""

RIDGE, LARGE_RIDGE = 1e-14, 1e-10
"""Of the mean curvature, which keep singular forms solvable: they change the path, not where it ends."""

STEEP = 1e13
"""Curvature of an input over what the others leave of it, from which on an inverse is lost in rounding."""

NEWTON_ALONE = 8
"""Newton steps before an inverse is made for pivots: hundreds are taken where the form is near singular."""

INVERTED_A_SECOND = 2e9
"""Speed of that, n³ operations, that is held against the time left."""

PATIENCE = 4
"""Exchanges of pivots in blocks that may pass without fewer conditions failing than before."""


def box_minimiser(
    form: NDArray[np.float64],
    centre: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    clock: Clock | None = None,
    inverse: Callable[[NDArray[np.float64]], Inverse | None] | None = None,
) -> NDArray[np.float64]:
    """Approximate minimiser of (x - c)ᵀP(x - c) over lower <= x <= upper, shape (n,).

    Projected Newton steps on the coordinates that are free (Bertsekas, "Projected Newton methods
    for optimization problems with simple constraints", SIAM J. Control Optim. 20, 1982); where a few of
    them do not end, from what pivots come to. No bound depends on how exact the minimiser is.

    Parameters
    ----------
    form, centre
        P, positive semidefinite, shape (n, n), and c, shape (n,).
    lower, upper
        The box, shape (n,) each.
    clock
        Ends the descent between two steps.
    inverse
        That of P, from who has it already: pivots come first then, and are mostly the end.
    """
    x = np.minimum(np.maximum(centre, lower), upper)  # np.clip, in a third of its time
    if (x == centre).all():
        return x
    n = len(x)
    ridge = RIDGE * float(np.trace(form)) / n
    gradient = form @ (x - centre)
    value = first = float((x - centre) @ gradient)
    for number in range(MAX_STEPS):
        if clock is not None and clock.expired:
            return x
        before = value
        known = None
        if number == 0 and inverse is not None:
            known = inverse(form)
            ridge = ridge if known is None else known.ridge
        elif (
            inverse is None
            and number == NEWTON_ALONE
            and (clock is None or clock.remaining > n**3 / INVERTED_A_SECOND)
        ):
            known = _inverse(form)
        if known is not None:
            pivoted = _by_pivots(known.matrix, centre, lower, upper, clock)
            pivoted_gradient = form @ (pivoted - centre)
            pivoted_value = float((pivoted - centre) @ pivoted_gradient)
            if pivoted_value < value:
                x, gradient, value = pivoted, pivoted_gradient, pivoted_value
        pinned = ((x <= lower) & (gradient > 0.0)) | ((x >= upper) & (gradient < 0.0))
        free = np.flatnonzero(~pinned)
        if len(free) == 0:
            return x
        if known is not None:
            slope = np.where(pinned, 0.0, gradient)
            if (
                0.0 <= slope @ known.matrix @ slope <= ENOUGH * value
            ):  # no step beside the pinned ones gains more
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
        enough = CREEPING if number >= MOST_QUICK else ENOUGH
        if before - value <= enough * value or value <= ENOUGH * first:
            return x
    return x


class Inverse(NamedTuple):
    """That of a form and a ridge."""

    matrix: NDArray[np.float64]
    """Shape (n, n)."""
    ridge: float


class KeptInverse:
    """The inverse of a form, for those who ask for that of the same one again."""

    def __init__(self) -> None:
        self._form: NDArray[np.float64] | None = None
        self._inverse: Inverse | None = None

    def __call__(self, form: NDArray[np.float64]) -> Inverse | None:
        """That of the form; None where it has none."""
        if form is not self._form:
            self._form, self._inverse = form, _inverse(form)
        return self._inverse


def _inverse(form: NDArray[np.float64]) -> Inverse | None:
    """With the small ridge where that is enough."""
    diagonal = np.diagonal(form)
    for share in (RIDGE, LARGE_RIDGE):
        ridge = share * float(diagonal.mean())
        with suppress(np.linalg.LinAlgError):
            matrix = np.asarray(np.linalg.inv(form + ridge * np.eye(len(form))))
            steep = np.diagonal(matrix) * diagonal
            if steep.min() >= 0.0 and steep.max() < STEEP:
                return Inverse(matrix, ridge)
    return None


def _by_pivots(
    inverse: NDArray[np.float64],
    centre: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    clock: Clock | None,
) -> NDArray[np.float64]:
    """A point of the box near its minimiser, mostly, where few of the ends of the box are reached.

    The conditions of the minimiser are x = c + P⁻¹u with u_i > 0 only where x_i is at its lower end, u_i < 0
    only at its upper end: a linear complementarity problem whose pivots cost no more than the inputs at an
    end are many. They are exchanged in blocks while fewer and fewer conditions fail (Júdice and Pires, "A
    block principal pivoting algorithm for large-scale strictly monotone linear complementarity problems",
    Computers and Operations Research 21, 1994).
    """
    clipped = np.minimum(np.maximum(centre, lower), upper)
    end = np.where(centre < lower, -1, np.where(centre > upper, 1, 0))  # which one is reached, 0: none
    x, fewest, patience = clipped, len(centre) + 1, PATIENCE
    for _ in range(MAX_STEPS):
        if clock is not None and clock.expired:
            break
        at = np.flatnonzero(end)
        place = np.where(end[at] < 0, lower[at], upper[at])
        try:
            push = np.linalg.solve(inverse[np.ix_(at, at)], place - centre[at])
        except np.linalg.LinAlgError:
            break
        x = centre + inverse[:, at] @ push
        x[at] = place
        wrong = np.zeros(len(centre), dtype=bool)
        wrong[at] = push * end[at] > 0.0
        wrong |= (x < lower) | (x > upper)
        failing = int(wrong.sum())
        if failing < fewest:
            fewest, patience = failing, PATIENCE
        else:
            patience -= 1
        if failing == 0 or patience == 0:
            break
        end = np.where(x < lower, -1, np.where(x > upper, 1, np.where(wrong, 0, end)))
    return np.minimum(np.maximum(x, lower), upper)


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

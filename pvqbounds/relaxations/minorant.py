"""The form below the error that a certificate speaks of: split inequalities, and slabs of the weights."""

from __future__ import annotations

import numpy as np

from pvqbounds.problems.least_squares import Problem
from pvqbounds.relaxations.forms import ErrorForm
from pvqbounds.relaxations.slabs import Slabs, added_slabs
from pvqbounds.relaxations.splits import Splits, subtracted_splits

__all__ = ["error_minorant"]


def error_minorant(problem: Problem, splits: Splits, within: Slabs | None = None) -> ErrorForm:
    """A form with E >= dᵀAd - 2 pᵀd + kappa for all allowed v, or for those that lie within slabs.

    Parameters
    ----------
    splits
        That :meth:`~pvqbounds.relaxations.splits.Splits.fit` the problem; none leave the error itself.
    within
        Slabs of the problem's inputs; None for all weights.
    """
    if len(splits) > 0:
        form = subtracted_splits(problem, splits)
    else:
        nothing = np.zeros(problem.n)
        form = ErrorForm(problem.gram, nothing, nothing, 0.0)
    if within is None:
        return form
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is not finite, and proves nothing
        return added_slabs(form, within)

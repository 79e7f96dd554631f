"""Bounds of one channel on the part of a layer's budget that it was left."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import ContradictionError
from pvqbounds.problems import SparseLeastSquares
from pvqbounds.relaxations.certificates import Certificate
from pvqbounds.results.bounds import Bounds, status_of
from pvqbounds.results.notes import gap_note

__all__ = ["allotted_bounds"]


def allotted_bounds(
    problem: SparseLeastSquares,
    support: NDArray[np.int64],
    certificate: Certificate,
    claimed: float,
    *,
    relaxation: str | None,
    seconds: float,
    ended: str = "",
) -> Bounds:
    """The bounds of a channel on the support that was found for it.

    Parameters
    ----------
    certificate, claimed
        What proves the lower end, and the bound to state from it.
    relaxation
        Name of the one that the certificate is of; None for that of a search.
    ended
        How the search ended.

    Raises
    ------
    ContradictionError
        If the bound lies above the error on the support: a fault of this package.
    """
    point, lower = problem.on_support(support), max(claimed, 0.0)
    if lower > point.upper:
        raise ContradictionError(problem, certificate, point.weight, lower, point.upper)
    status = status_of(lower, point.upper, problem.signal.lower)
    method: Literal["exact", "relax"] = "exact" if relaxation is None else "relax"
    return Bounds(
        error_lower=lower,
        error_upper=point.upper,
        signal_enclosure=problem.signal,
        lower_kind="certified",
        status=status,
        solver="native",
        method=method,
        relaxation=relaxation,
        seconds=seconds,
        weight=point.weight,
        codes=None,
        support=point.support,
        certificate=certificate,
        note=gap_note(status, method, relaxation, ended),
    )

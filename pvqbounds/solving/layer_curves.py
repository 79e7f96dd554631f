"""One budget of non-zeros for the channels of a small layer, exactly: their curves, and how to spend it.

With e_c(k) the least error of channel c on k inputs the layer's optimum is the least sum of e_c(k_c) over
all k_c with a sum of at most the budget, which dynamic programming finds. Lower ends of e_c, whoever proved
them, give a lower end of that sum; errors that were reached give an upper one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.enclosures import down, gamma
from pvqbounds.clock import Clock
from pvqbounds.problems import SparseLeastSquares
from pvqbounds.problems.least_squares import common_units
from pvqbounds.problems.units import scaled_down
from pvqbounds.results.bounds import Bounds
from pvqbounds.solvers.native.pruning.certificate import CurveCertificate, SubsetCertificate
from pvqbounds.solvers.native.pruning.layer_pruning import allocate, table_fits
from pvqbounds.solving.allotted import allotted_bounds
from pvqbounds.solving.budget_curve import searched_curve
from pvqbounds.solving.guards import blas_threads

__all__ = ["Together", "curves_bound", "proved_together", "searched_together", "suits_curves"]

LARGEST_CHANNEL = 40
"""Inputs of a channel up to which all its budgets are searched: some 0.1 s."""


class Together(NamedTuple):
    """Channels under one budget."""

    problems: list[SparseLeastSquares]
    """Each with the number of weights that the best supports found leave it."""
    bounds: list[Bounds]
    """Those of these problems."""
    error_lower: float
    """Certified bound on their summed error, however the budget is spent."""


def suits_curves(problems: Sequence[SparseLeastSquares], nnz: int) -> bool:
    """Whether channels are small enough for a search at every budget, and few enough for a table of sums."""
    n = problems[0].n
    return n <= LARGEST_CHANNEL and table_fits(len(problems), n, nnz)


def searched_together(
    problems: Sequence[SparseLeastSquares], nnz: int, threads: int, jobs: int, clock: Clock
) -> Together:
    """Both ends of channels that keep `nnz` weights together, from searches at every budget of each.

    Parameters
    ----------
    clock
        What the searches may take; those that it ends prove less.
    """
    units = common_units(problems)
    begun = itertools.count()

    def curve(problem: SparseLeastSquares) -> list[Bounds]:
        waiting = math.ceil((len(problems) - next(begun)) / jobs)
        with np.errstate(all="ignore"):
            return list(searched_curve(problem, clock.part(1.0 / max(waiting, 1))))

    with blas_threads(threads), ThreadPoolExecutor(jobs) as pool:
        curves = list(pool.map(curve, problems))
        errors = [
            _errors(problem.in_units(units), own) for problem, own in zip(problems, curves, strict=True)
        ]
    certificates = [_certificate(own) for own in curves]
    lower = curves_bound([certificate.in_units(units).values for certificate in certificates], nnz)
    kept = allocate(np.array(errors), nnz).tolist()
    allotted = [problem.with_nnz(k) for problem, k in zip(problems, kept, strict=True)]
    bounds = [
        _allotted(problem, own[k], certificate)
        for problem, own, certificate, k in zip(allotted, curves, certificates, kept, strict=True)
    ]
    return Together(allotted, bounds, scaled_down(lower, units.error))


def _errors(problem: SparseLeastSquares, curve: Sequence[Bounds]) -> list[float]:
    """Errors of the supports that were found, in the units of `problem`."""
    errors = []
    for own in curve:
        assert own.support is not None
        errors.append(problem.error(problem.refit(own.support)).upper)
    return errors


def _certificate(curve: Sequence[Bounds]) -> CurveCertificate:
    """The claims of all searches of a channel, each raised to those about more inputs."""
    found = [b.certificate if isinstance(b.certificate, SubsetCertificate) else None for b in curve]
    values = np.array([0.0 if own is None else max(own.value, 0.0) for own in found])
    nodes = np.array([0 if own is None else own.nodes for own in found], dtype=np.int64)
    return CurveCertificate(np.maximum.accumulate(values[::-1])[::-1].copy(), nodes)


def _allotted(problem: SparseLeastSquares, found: Bounds, certificate: CurveCertificate) -> Bounds:
    """The bounds of a channel with its part of the budget, on the support that was found for it."""
    assert found.support is not None
    return allotted_bounds(
        problem,
        found.support,
        certificate,
        certificate.claim(problem)[1],
        relaxation=None,
        seconds=found.seconds,
        ended=found.note,
    )


def curves_bound(curves: Sequence[NDArray[np.float64]], nnz: int) -> float:
    """The least sum of one value of each curve whose places add up to at most `nnz`, rounded down.

    Parameters
    ----------
    curves
        Lower bounds on the error of each channel with 0, 1, ..., n inputs, shape (n + 1,) each, none
        negative.

    Notes
    -----
    Sums of c numbers that are not negative are off by a share of gamma_c at most, those that are compared as
    much as the one that is least.
    """
    stacked = np.stack(curves)
    kept = allocate(stacked, nnz)
    least = math.fsum(stacked[np.arange(len(kept)), kept].tolist())
    return max(down(least * (1.0 - 4.0 * gamma(len(kept) + 2)), 2), 0.0)


def proved_together(
    problems: Sequence[SparseLeastSquares],
    certificates: Sequence[CurveCertificate],
    nnz: int,
    time_limit: float = math.inf,
) -> float:
    """What the curves of all channels prove of their summed error, each search repeated.

    Parameters
    ----------
    time_limit
        Seconds for the searches of one channel; what is not proved by then counts as 0.
    """
    units = common_units(problems)
    curves = []
    if not table_fits(len(problems), problems[0].n, nnz):
        return 0.0
    for problem, certificate in zip(problems, certificates, strict=True):
        if not certificate.fits(problem):
            return 0.0
        with blas_threads(1), np.errstate(all="ignore"):
            proved = certificate.proved(problem, Clock(time_limit))
        curves.append(replace(certificate, values=proved).in_units(units).values)
    return scaled_down(curves_bound(curves, nnz), units.error)

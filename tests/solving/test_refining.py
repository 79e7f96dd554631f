"""A relaxation asked for by name: what refines its bound has the time before a search that would take all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.clock import Clock
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.solvers.base import ExactSolution, Options
from pvqbounds.solvers.native.backend import Native
from pvqbounds.solving.kinds import STEPS
from pvqbounds.solving.one import _searched_or_refined

PROBLEM = pvq.IntegerLeastSquares(np.eye(1), np.array([0.4]), scale=1.0, qmin=0, qmax=1)
"""Its least error is 0.16, at the code 0."""


def _proving(share: float) -> DualCertificate:
    """A proof of about this share of the least error."""
    return DualCertificate(np.array([0.999 * share]), np.zeros(1))


class _Refining(Native):
    """Refines what was searched briefly to a share of the least error, or not at all."""

    def __init__(self, share: float | None) -> None:
        self.share, self.asked = share, []

    def refined(self, problem, solution, options):
        self.asked.append(("refined", options.search_share))
        return solution if self.share is None else replace(solution, certificate=_proving(self.share))


def _solved(backend: _Refining, searched: float, status: str = "solved"):
    def solve(_, problem, options):
        backend.asked.append(("search", options.search_share))
        share, code = (0.1, 1) if options.search_share < 1.0 else (searched, 0)
        return ExactSolution(np.array([code]), None, None, _proving(share), status)

    options = Options(relaxation="hybrid", search_share=1.0)
    return _searched_or_refined(PROBLEM, STEPS, backend, solve, options, Clock(60.0))


@pytest.mark.parametrize(
    ("refined", "searched", "best"), [(0.9, 0.5, 0.9), (0.5, 0.9, 0.9), (None, 0.5, 0.5)]
)
def test_the_better_certificate_and_the_better_codes_stand(refined, searched, best):
    backend = _Refining(refined)
    solution = _solved(backend, searched)
    assert solution.certificate.prove(PROBLEM, Clock(60.0)) == pytest.approx(best * 0.16, rel=0.01)
    assert solution.codes.tolist() == [0]
    refinements = [("refined", 0.002)] + ([] if refined is None else [("refined", 1.0)])
    assert backend.asked == [("search", 0.002), *refinements, ("search", 1.0)]


def test_a_brief_search_that_ends_is_all():
    backend = _Refining(None)
    assert _solved(backend, 0.5, "optimal").codes.tolist() == [1]
    assert backend.asked == [("search", 0.002), ("refined", 0.002)]

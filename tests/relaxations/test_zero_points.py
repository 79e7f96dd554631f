"""Boxes of codes that hold those of every zero point: what is proved of them, and what is not."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.clock import Clock
from pvqbounds.problems.any_scale import AnySteps
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.relaxations.zero_points import MOST_BOXES, ZeroPointsCertificate, boxes_of

FOREVER = Clock(math.inf)


@pytest.mark.parametrize(
    "values", [(3, -3, 3, 3), (2, -7, 7, 7), (3, -1, 3, 3), (2, -4, 4, 3), (2, -2, 9, 5)]
)
def test_boxes_hold_what_one_zero_point_allows_and_no_more(values) -> None:
    steps = AnySteps(*values)
    for codes in itertools.product(range(steps.qmin, steps.qmax + 1), repeat=steps.count):
        held = any(low <= min(codes) and max(codes) <= high for low, high in steps.boxes)
        assert held == steps.within(np.array(codes)), codes


@pytest.mark.parametrize("bits", [2, 4, 5, 8])
def test_few_boxes_hold_the_codes_of_all(bits: int) -> None:
    top = 2**bits - 1
    steps = AnySteps(4, -top, top, top)
    few = boxes_of(steps)
    assert len(few) <= MOST_BOXES
    assert all(any(a <= low and high <= b for a, b in few) for low, high in steps.boxes)
    assert max(high - low for low, high in few) <= top + len(steps.boxes) // MOST_BOXES


def solved():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(20, 4))
    problem = pvq.AnyScaleLeastSquares(X.T @ X / 20, rng.normal(size=4) + 0.5, -3, 3, span=3)
    bounds = pvq.solve(problem)
    assert isinstance(bounds.certificate, ZeroPointsCertificate)
    return problem, bounds


def test_what_is_proved_is_what_is_stated_and_no_more() -> None:
    problem, bounds = solved()
    certificate = bounds.certificate
    assert certificate.prove(problem, FOREVER) == certificate.value == bounds.error_lower
    assert replace(certificate, value=1.001 * certificate.value).prove(problem, FOREVER) == 0.0


@pytest.mark.parametrize("left_out", range(4))
def test_every_box_is_needed(left_out: int) -> None:
    problem, bounds = solved()
    certificate, kept = bounds.certificate, [i for i in range(4) if i != left_out]
    proofs = tuple(certificate.proofs[i] for i in kept)
    part = ZeroPointsCertificate(certificate.lows[kept], certificate.highs[kept], proofs, certificate.value)
    assert not part.fits(problem)


@pytest.mark.parametrize(
    "change",
    [
        {"lows": np.zeros(4, dtype=np.int64)},
        {"highs": np.full(4, 9, dtype=np.int64)},
        {"lows": np.array([-3.0, -2.0, -1.0, 0.0])},
        {"value": math.nan},
        {"proofs": ()},
        {"proofs": None},
        {"nested": True},
    ],
)
def test_what_is_no_certificate_does_not_fit(change) -> None:
    problem, bounds = solved()
    certificate = bounds.certificate
    assert certificate.fits(problem)
    if change.pop("nested", False):
        change = {"proofs": (certificate, *certificate.proofs[1:])}
    assert not replace(certificate, **change).fits(problem)


def test_proofs_in_the_wrong_boxes_prove_nothing() -> None:
    problem, bounds = solved()
    certificate = bounds.certificate
    order = np.argsort(certificate.lows)
    sorted_proofs = tuple(certificate.proofs[i] for i in order)
    other = replace(
        certificate, lows=certificate.lows[order], highs=certificate.highs[order], proofs=sorted_proofs[::-1]
    )
    assert other.prove(problem, FOREVER) == 0.0


def test_it_is_about_free_zero_points_alone_but_may_stand_for_one() -> None:
    problem, bounds = solved()
    assert not bounds.certificate.fits(problem.settled)
    zero = np.zeros(problem.n)
    nothing = ZeroPointsCertificate(
        bounds.certificate.lows, bounds.certificate.highs, (DualCertificate(zero, zero),) * 4, 0.0
    )
    assert nothing.fits(problem)
    assert nothing.prove(problem, FOREVER) == 0.0

"""Certificates by cases hold whatever their multipliers say, and nothing else fits."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.clock import Clock
from pvqbounds.relaxations.cases import Case, CasesCertificate
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.relaxations.slabs import Cover
from tests.truth import least_integer_error

FOREVER = Clock(math.inf)


def problem_of(seed: int, n: int = 3, scale: float = 0.4) -> pvq.IntegerLeastSquares:
    """Codes of inputs whose sum has next to no power."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((20, n))
    X -= 0.999 * X.mean(axis=1, keepdims=True)
    return pvq.IntegerLeastSquares(X.T @ X / 20, rng.standard_normal(n), scale, -2, 1)


CUTS = np.linspace(-4.0, 4.0, 81)


def by_cases(problem: pvq.IntegerLeastSquares, chord: float, push: float, cuts=CUTS) -> CasesCertificate:
    """Cases of the sum of d between rising cuts, all with the same multipliers."""
    n, m = problem.n, len(cuts)
    axis, places = np.array([0, -1] * m + [-1]), np.append(np.stack([cuts, np.zeros(m)], axis=1), 0.0)
    cover = Cover(np.ones((1, n)) / math.sqrt(n), axis, places)
    lam = np.full(n, 0.9 * np.linalg.eigvalsh(problem.gram + chord * np.ones((n, n)) / n)[0])
    case = Case(np.array([chord]), np.array([push]), DualCertificate(lam, np.zeros(n)))
    return CasesCertificate(cover, (case,) * (m + 1), 0.0)


def test_no_multipliers_prove_more_than_the_truth() -> None:
    useful = 0
    for seed in range(6):
        problem, rng = problem_of(seed), np.random.default_rng(seed)
        truth = least_integer_error(problem)
        for chord in (0.0, 0.3):
            certificate = by_cases(problem, chord, float(rng.normal(scale=0.01)))
            claimed, value = certificate.claim(problem)
            assert Fraction(value) <= truth
            assert max(value, 0.0) <= Fraction(claimed.prove(problem, FOREVER)) <= truth
            assert claimed.value == value
            liar = replace(claimed, value=2.0 * float(truth))
            assert Fraction(liar.prove(problem, FOREVER)) <= truth
            useful += value > 0.0
    assert useful >= 2


def test_units_move_it_exactly() -> None:
    problem = problem_of(2)
    far = pvq.IntegerLeastSquares(
        np.ldexp(problem.gram, 300), np.ldexp(problem.weight, -90), 0.4 * 2.0**-90, -2, 1
    )
    certificate = by_cases(problem, 0.3, 0.0)
    claimed, value = certificate.claim(problem)
    moved = CasesCertificate(
        replace(certificate.cover, cut=np.ldexp(certificate.cover.cut, -90)),
        tuple(
            Case(
                np.ldexp(case.chord, 300),
                np.ldexp(case.push, 210),
                replace(case.proof, lam=np.ldexp(case.proof.lam, 300), nu=np.ldexp(case.proof.nu, 210)),
            )
            for case in certificate.cases
        ),
        0.0,
    )
    assert moved.claim(far)[1] == math.ldexp(value, 120)
    assert moved.claim(far)[0].prove(far, FOREVER) == math.ldexp(claimed.prove(problem, FOREVER), 120)


def test_nothing_is_proved_once_time_is_up() -> None:
    problem = problem_of(0)
    claimed, value = by_cases(problem, 0.3, 0.0).claim(problem)
    assert value > 0.0
    assert claimed.prove(problem, FOREVER) > 0.0
    assert claimed.prove(problem, Clock(0.0)) == 0.0


def test_a_case_without_room_counts_for_nothing() -> None:
    problem = problem_of(2)
    beyond = by_cases(problem, 0.3, 0.0, np.append(CUTS, 1e3))  # no codes have so large a sum
    assert beyond._leaves(problem.normalised)[-1][1].box.is_empty
    claimed, value = beyond.claim(problem)
    assert Fraction(value) <= least_integer_error(problem)
    assert len(claimed.cases) == len(CUTS) + 2
    assert claimed.prove(problem, FOREVER) >= max(value, 0.0)


def test_inputs_that_were_left_out_have_no_say() -> None:
    problem = problem_of(3)
    gram = np.zeros((5, 5))
    gram[np.ix_([0, 2, 3], [0, 2, 3])] = problem.gram
    weight = np.array([problem.weight[0], 0.7, *problem.weight[1:], -0.2])
    wide = pvq.IntegerLeastSquares(gram, weight, 0.4, -2, 1)
    certificate = by_cases(problem, 0.3, 0.0)
    live = np.array([True, False, True, True, False])
    spread = certificate.spread(live, wide.values)
    assert certificate.spread(np.ones(3, dtype=bool), problem.values) is certificate
    assert not certificate.fits(wide)
    assert spread.claim(wide)[1] == pytest.approx(certificate.claim(problem)[1], rel=1e-12)
    assert Fraction(spread.claim(wide)[1]) <= least_integer_error(problem)


def with_case(certificate: CasesCertificate, **changed: object) -> CasesCertificate:
    return replace(certificate, cases=(replace(certificate.cases[0], **changed), *certificate.cases[1:]))


@pytest.mark.parametrize(
    "spoiled",
    [
        lambda c: replace(c, cover=None),
        lambda c: replace(c, value=math.nan),
        lambda c: replace(c, cases=c.cases[:-1]),
        lambda c: replace(c, cases=list(c.cases)),
        lambda c: replace(c, cases=(*c.cases[:-1], "a case")),
        lambda c: with_case(c, chord=np.array([-0.1])),
        lambda c: with_case(c, chord=np.array([math.inf])),
        lambda c: with_case(c, push=np.zeros(2)),
        lambda c: with_case(c, proof=c),
        lambda c: with_case(c, proof=DualCertificate(np.zeros(4), np.zeros(4))),
    ],
)
def test_what_is_no_certificate_proves_nothing(spoiled) -> None:
    problem = problem_of(1)
    certificate = by_cases(problem, 0.3, 0.0)
    assert certificate.fits(problem)
    assert not spoiled(certificate).fits(problem)
    assert spoiled(certificate).claim(problem)[1] == -math.inf


def test_its_name_is_that_of_its_proofs() -> None:
    certificate = by_cases(problem_of(1), 0.3, 0.0)
    assert certificate.relaxation == "directions"
    assert not certificate.searched

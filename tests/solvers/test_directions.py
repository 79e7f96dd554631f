"""Bounds by cases of near-null directions: below the truth, above the relaxation, proved again."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.clock import Clock
from pvqbounds.problems import Gram
from pvqbounds.relaxations.cases import CasesCertificate
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.solvers.base import ExactSolution, Options
from pvqbounds.solvers.native.directions import pruning, refined
from pvqbounds.solvers.native.directions.codes import code_cases
from pvqbounds.solvers.native.directions.near_null import near_null
from pvqbounds.solvers.native.directions.pruning import pruning_cases
from pvqbounds.solvers.native.quantization.split_dual import BRIEF, relax_with_splits
from tests.truth import least_error_of_any, rational_optimum

LEVELS = np.array([-1.0, -0.55, -0.3, 0.0, 0.2, 0.45, 1.0])


def _gram(rng, n: int, small=(1e-5,)) -> np.ndarray:
    """A Gram with so many directions of next to no power, each of them on all inputs."""
    basis = rng.normal(size=(n, n))
    basis[:, : len(small)] = (
        np.cos(np.outer(np.arange(n), np.arange(len(small)))) + 0.2 * basis[:, : len(small)]
    )
    Q = np.linalg.qr(basis)[0]
    power = np.concatenate([small, rng.uniform(0.5, 2.0, n - len(small))])
    return (Q * power) @ Q.T


def _coded(kind: str, rng):
    n = 5
    gram, weight = _gram(rng, n), rng.normal(size=n)
    if kind == "steps":
        return pvq.IntegerLeastSquares(gram, weight, scale=0.7, qmin=-2, qmax=2)
    if kind == "group steps":
        return pvq.IntegerLeastSquares(gram, weight, scale=rng.uniform(0.4, 0.9, n), qmin=-2, qmax=2)
    if kind == "levels":
        return pvq.CodebookLeastSquares(gram, weight, levels=LEVELS)
    return pvq.IntegerLeastSquares(gram, weight, scale=0.7, qmin=-2, qmax=2, nnz=3)


def _by_cases(problem) -> CasesCertificate:
    near = near_null(problem.shared)
    assert near is not None
    if isinstance(problem, pvq.SparseLeastSquares):
        found = pruning_cases(problem, near, problem.start().weight, 1.0, Clock(60.0))
    else:
        found, _ = code_cases(problem, near, problem.start().codes, 1.0, Clock(60.0))
    assert found is not None
    certificate, value = found.claim(problem)
    assert certificate.value == value
    return certificate


@pytest.mark.parametrize("kind", ["steps", "group steps", "levels", "joint"])
@pytest.mark.parametrize("seed", range(6))
def test_codes_by_cases_are_bounded_and_proved(kind, seed):
    problem = _coded(kind, np.random.default_rng(seed))
    certificate, truth = _by_cases(problem), least_error_of_any(problem)
    assert 0.5 * truth < Fraction(certificate.value) <= truth
    assert certificate.value <= certificate.prove(problem, Clock(60.0)) <= truth


@pytest.mark.parametrize("budget", [{"nnz": 2}, {"nnz": 4}, {"pattern": (1, 2)}, {"pattern": (2, 4)}])
@pytest.mark.parametrize("seed", range(6))
def test_pruning_by_cases_is_bounded_and_proved(budget, seed):
    rng = np.random.default_rng(seed)
    problem = pvq.SparseLeastSquares(_gram(rng, 8), rng.normal(size=8), **budget)
    certificate, truth = _by_cases(problem), rational_optimum(problem)
    assert 0.2 * truth < Fraction(certificate.value) <= truth
    assert certificate.value <= certificate.prove(problem, Clock(60.0)) <= truth


def test_several_directions_are_cut_in_turn():
    rng = np.random.default_rng(3)
    problem = pvq.IntegerLeastSquares(
        _gram(rng, 6, (1e-6, 2e-6)), rng.normal(size=6), scale=0.8, qmin=-2, qmax=1
    )
    certificate = _by_cases(problem)
    assert certificate.cover.direction.shape == (2, 6)
    assert Fraction(certificate.value) <= least_error_of_any(problem)
    assert set(certificate.cover.axis.tolist()) == {-1, 0, 1}


def test_inputs_that_are_always_zero_play_no_part():
    rng = np.random.default_rng(5)
    gram = np.zeros((7, 7))
    live = np.array([0, 1, 3, 4, 6])
    gram[np.ix_(live, live)] = _gram(rng, 5)
    near = near_null(Gram(gram))
    assert near is not None
    assert not near.direction[:, [2, 5]].any()
    weight = rng.normal(size=7)
    problem = pvq.SparseLeastSquares(gram, weight, nnz=2)
    certificate = _by_cases(problem)
    assert certificate.value <= certificate.prove(problem, Clock(60.0)) <= rational_optimum(problem)
    certificate = replace(certificate, cover=replace(certificate.cover, direction=np.ones((1, 7))))
    assert certificate.prove(problem, Clock(60.0)) <= rational_optimum(problem)


@pytest.mark.parametrize(("gram", "power"), [(2.0**140, 0), (2.0**-150, 0), (1.0, 90)])
def test_a_certificate_moves_with_the_units(gram, power):
    rng = np.random.default_rng(7)
    matrix, weight = _gram(rng, 5), rng.normal(size=5)
    problem = pvq.IntegerLeastSquares(matrix, weight, scale=0.7, qmin=-2, qmax=2)
    other = pvq.IntegerLeastSquares(
        gram * matrix, np.ldexp(weight, power), scale=float(np.ldexp(0.7, power)), qmin=-2, qmax=2
    )
    certificate = _by_cases(problem)
    units = pvq.problems.units.Units(-int(np.log2(gram)), -power)
    moved = certificate.in_units(units)
    assert moved.fits(other)
    assert moved.prove(other, Clock(60.0)) == pytest.approx(
        certificate.prove(problem, Clock(60.0)) * gram * 4.0**power, rel=1e-12
    )
    claimed, value = moved.claim(other)
    assert value == pytest.approx(certificate.value * gram * 4.0**power, rel=1e-9)
    assert claimed.prove(other, Clock(60.0)) >= value


def _tampered(certificate: CasesCertificate, rng) -> CasesCertificate:
    """Another certificate of the right shape: cuts, multipliers and claims at random."""
    cover, cases = certificate.cover, list(certificate.cases)
    kind = rng.integers(5)
    if kind == 0:
        cover = replace(cover, cut=cover.cut + rng.normal(size=len(cover.cut)))
    elif kind == 1:
        cover = replace(cover, direction=cover.direction + 0.1 * rng.normal(size=cover.direction.shape))
    else:
        i = int(rng.integers(len(cases)))
        case = cases[i]
        if kind == 2:
            case = replace(case, chord=case.chord * rng.uniform(0.0, 5.0), push=rng.normal(size=1))
        elif kind == 3:
            case = replace(case, proof=replace(case.proof, lam=case.proof.lam * rng.uniform(0.0, 3.0)))
        else:
            case = replace(case, proof=cases[int(rng.integers(len(cases)))].proof)
        cases[i] = case
    return CasesCertificate(cover, tuple(cases), certificate.value * rng.uniform(0.5, 2.0))


@pytest.mark.parametrize("kind", ["steps", "joint"])
def test_no_tampering_proves_more_than_the_truth(kind):
    rng = np.random.default_rng(11)
    problem = _coded(kind, rng)
    certificate, truth = _by_cases(problem), least_error_of_any(problem)
    for _ in range(60):
        other = _tampered(certificate, rng)
        assert other.fits(problem)
        assert other.prove(problem, Clock(60.0)) <= truth


def test_a_leaf_less_or_a_negative_chord_does_not_fit():
    problem = _coded("steps", np.random.default_rng(2))
    certificate = _by_cases(problem)
    first = certificate.cases[0]
    assert not replace(certificate, cases=certificate.cases[1:]).fits(problem)
    negative = (replace(first, chord=-np.ones(1)), *certificate.cases[1:])
    assert not replace(certificate, cases=negative).fits(problem)
    assert not replace(certificate, value=np.nan).fits(problem)
    nested = (replace(first, proof=certificate), *certificate.cases[1:])  # no proof about slabs
    assert not replace(certificate, cases=nested).fits(problem)


def test_cases_are_the_default_where_a_gram_has_such_a_direction():
    rng = np.random.default_rng(4)
    gram = Gram(_gram(rng, 140, (1e-7,)))
    weight = rng.normal(size=140)
    for problem in (
        pvq.IntegerLeastSquares(gram, weight, scale=0.9, qmin=-2, qmax=1),
        pvq.SparseLeastSquares(gram, weight, nnz=35),
    ):
        bounds = pvq.solve(problem, time_limit=20.0)
        assert isinstance(bounds.certificate, CasesCertificate)
        assert "cases of a direction of next to no power" in bounds.note
        assert pvq.verify(problem, bounds)
        plain = "box-hull" if isinstance(problem, pvq.IntegerLeastSquares) else "perspective"
        without = pvq.solve(problem, method="relax", relaxation=plain, time_limit=20.0)
        assert not isinstance(without.certificate, CasesCertificate)
        assert bounds.error_lower > 1.02 * without.error_lower


def test_a_gram_without_such_a_direction_has_none():
    rng = np.random.default_rng(6)
    X = rng.normal(size=(400, 20))
    assert near_null(Gram(X.T @ X / 400)) is None
    assert near_null(Gram(np.eye(3))) is None
    assert near_null(Gram(np.zeros((5, 5)))) is None
    few = rng.normal(size=(10, 20))  # ten of them: too many cases
    assert near_null(Gram(few.T @ few / 10)) is None


def test_one_input_of_little_power_is_no_direction_to_look_at():
    rng = np.random.default_rng(9)
    X = rng.normal(size=(60, 12))
    X[:, 4] *= 1e-4
    assert near_null(Gram(X.T @ X / 60)) is None
    X[:, 7] = X[:, 2] + 1e-2 * rng.normal(size=60)  # and a direction that is one
    near = near_null(Gram(X.T @ X / 60))
    assert near is not None
    assert len(near.direction) == 1
    assert set(np.flatnonzero(np.abs(near.direction[0]) > 0.1).tolist()) == {2, 7}


def test_good_codes_at_the_end_of_t_leave_leaves_without_weights():
    n, rng = 6, np.random.default_rng(10)
    along = np.ones(n) / np.sqrt(n)
    gram = 1e-6 * np.eye(n) + (np.eye(n) - np.outer(along, along)) * 1.5
    problem = pvq.IntegerLeastSquares(gram, 1.2 + 0.2 * rng.random(n), scale=1.0, qmin=0, qmax=1)
    assert problem.codes_of_nearest().all()
    certificate, truth = _by_cases(problem), least_error_of_any(problem)
    assert any(box.is_empty for box in certificate.cover.boxes(problem))
    assert 0.5 * truth < Fraction(certificate.value) <= truth
    assert certificate.value <= certificate.prove(problem, Clock(60.0)) <= truth


@pytest.mark.parametrize(("small", "calls"), [((0.0,), 0), ((1e-5,), 1)])
def test_a_pruning_along_a_direction_without_power_is_not_begun(small, calls, monkeypatch):
    rng = np.random.default_rng(12)
    problem = pvq.SparseLeastSquares(_gram(rng, 8, small), rng.normal(size=8), nnz=2)
    begun = []
    relaxed = pruning.maximise_perspective

    def counted(*args, **options):
        begun.append(args)
        return relaxed(*args, **options)

    monkeypatch.setattr(pruning, "maximise_perspective", counted)
    near = near_null(problem.shared)
    assert near is not None
    found = pruning_cases(problem, near, problem.start().weight, 1.0, Clock(60.0))
    assert (found is None) == (calls == 0)
    assert min(len(begun), 1) == calls


def test_leaves_that_state_more_than_they_prove_replace_nothing(monkeypatch):
    rng = np.random.default_rng(13)
    problem = pvq.IntegerLeastSquares(_gram(rng, 60), rng.normal(size=60), scale=0.3, qmin=-8, qmax=7)
    options = Options(relaxation="hybrid", search_share=0.002)
    relaxed = relax_with_splits(problem, Clock(60.0), BRIEF)
    plain = ExactSolution(problem.codes_of_nearest(), None, None, relaxed.certificate, "solved")
    assert isinstance(refined.refined(problem, plain, options, Clock(60.0)).certificate, CasesCertificate)

    def lying(*args):
        found, codes = code_cases(*args)
        assert found is not None
        nothing = DualCertificate(np.zeros(60), np.zeros(60))
        cases = (*found.cases[:-1], replace(found.cases[-1], proof=nothing))
        return replace(found, cases=cases), codes

    monkeypatch.setattr(refined, "code_cases", lying)
    assert refined.refined(problem, plain, options, Clock(60.0)).certificate is plain.certificate


def test_nothing_is_looked_for_without_time_or_without_a_gap(monkeypatch):
    rng = np.random.default_rng(14)
    gram = _gram(rng, 20)
    exact = pvq.IntegerLeastSquares(gram, rng.integers(-2, 2, 20) * 0.5, scale=0.5, qmin=-2, qmax=1)
    zero = DualCertificate(np.zeros(20), np.zeros(20))
    solution = ExactSolution(exact.codes_of_nearest(), None, None, zero, "solved")
    monkeypatch.setattr(refined, "_by_cases", None)
    assert refined.refined(exact, solution, Options(relaxation="hybrid"), Clock(60.0)) is solution
    monkeypatch.setattr(refined, "near_null", None)
    other = pvq.IntegerLeastSquares(gram, rng.normal(size=20), scale=0.5, qmin=-2, qmax=1)
    assert refined.refined(other, solution, Options(relaxation="hybrid"), Clock(0.0)) is solution
    assert refined.refined(other, solution, Options(relaxation="box-hull"), Clock(60.0)) is solution


def test_prunings_along_two_directions_are_not_begun():
    rng = np.random.default_rng(15)
    problem = pvq.SparseLeastSquares(_gram(rng, 12, (1e-6, 2e-6)), rng.normal(size=12), nnz=4)
    assert refined.cases_of(problem, Options(relaxation="directions"), Clock(60.0)) is None
    codes = pvq.IntegerLeastSquares(problem.shared, problem.weight, scale=0.5, qmin=-2, qmax=1)
    near = refined.cases_of(codes, Options(relaxation="hybrid"), Clock(60.0))
    assert near is not None
    assert len(near.direction) == 2


def test_no_time_leaves_the_solution_as_it_was():
    rng = np.random.default_rng(8)
    problem = pvq.SparseLeastSquares(_gram(rng, 140, (1e-7,)), rng.normal(size=140), nnz=35)
    bounds = pvq.solve(problem, time_limit=0.02)
    assert pvq.verify(problem, bounds)
    assert not isinstance(bounds.certificate, CasesCertificate)


def test_eigenvalues_that_are_all_but_equal_break_nothing_down():
    """LAPACK cannot find some of the eigenvalues of this Gram alone, but all of them at once."""
    gram = 0.7617150233712133 + 1e-9 * np.eye(6)
    bounds = pvq.solve(pvq.IntegerLeastSquares(gram, np.zeros(6), 1.0, -1, 1), method="relax")
    assert bounds.error_upper == 0.0

"""A minute of random and adversarial problems, and whether what looks for faults finds planted ones."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from fuzz import formula, problems, rational, relations, tampering
from fuzz.case import Case, place_of
from fuzz.checks import Plan, check_agreement, check_bounds, solve_all
from fuzz.multipliers import random_dual
from fuzz.run import fuzz, summary
from fuzz.scenarios import SCENARIOS
from fuzz.worker import run_case

import pvqbounds as pvq
from pvqbounds.network import allocation
from pvqbounds.problems import values
from pvqbounds.relaxations import dual, layer_scales, scales
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.relaxations.splits import Splits
from pvqbounds.results.layer import LayerReport
from pvqbounds.solvers.native.pruning.certificate import SubsetCertificate
from pvqbounds.solving import budget_curve, layer_curves

SECONDS = 45.0


def test_nothing_is_found():
    findings = fuzz(1, SECONDS, jobs=1)
    assert sum(findings.cases.values()) > 0
    assert findings.number == 0, summary(findings, 1)


def test_every_scenario_is_in_the_list_of_contributing():
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = text.partition("| scenario |")[2].partition("\n\n")[0].splitlines()
    listed = [name for row in rows for name in re.findall("`([a-z-]+)`", row.split("|")[1] if row else "")]
    assert sorted(listed) == sorted(name for name, own in SCENARIOS.items() if own.share > 0.0)


# --------------------------------------------------------------------------- the truth


@pytest.mark.parametrize(("qmin", "qmax"), [(-2, 1), (0, 0), (5, 7), (-(2**31), 2**31)])
def test_the_truth_of_codes_is_that_of_every_code(qmin, qmax):
    rng = np.random.default_rng(3)
    for n in (1, 2, 3):
        X = rng.integers(-3, 4, (n + 1, n)).astype(float)
        problem = pvq.IntegerLeastSquares(X.T @ X, rng.standard_normal(n) + 0.5 * qmin, 0.5, qmin, qmax)
        near = np.rint(problem.weight / 0.5).astype(np.int64)
        low, high = np.maximum(qmin, near - 12), np.minimum(qmax, near + 12)
        ranges = [range(a, b + 1) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
        expected = min(
            rational.exact_error_of_codes(problem, np.array(codes))
            for codes in np.stack(np.meshgrid(*ranges), -1).reshape(-1, n)
        )
        assert rational.least_value_error(problem) == expected


def test_both_ways_to_the_truth_of_codes_agree():
    rng = np.random.default_rng(4)
    for _ in range(20):
        n = int(rng.integers(1, 5))
        X = rng.standard_normal((n + 2, n))
        problem = pvq.IntegerLeastSquares(X.T @ X, rng.standard_normal(n), 0.3, -4, 3)
        choice = rational._of_the_live(problem)
        assert rational._enumerated(choice) == rational._searched(choice, 10_000)


LEVELS = [[-1.0, 0.0, 0.4], [0.0, 0.4], [-0.3, 0.0, 1e-9, 2.0]]


RULES = [{}, {"nnz": 0}, {"nnz": 1}, {"nnz": 3}, {"pattern": (1, 2)}, {"pattern": (0, 1), "stride": 3}]


def joint_problems(rng):
    """Two problems under each of some rules: levels of each input, and steps with boxes of their own."""
    X = rng.standard_normal((5, 3))
    gram, weight = X.T @ X, rng.standard_normal(3)
    for rule in RULES:
        yield pvq.CodebookLeastSquares(gram, weight, LEVELS, **rule)
        yield pvq.IntegerLeastSquares(gram, weight, [0.1, 0.3, 0.7], [-2, 0, -1], [1, 2, 1], **rule)


def test_the_truth_of_levels_and_joint_problems_is_that_of_every_choice():
    for problem in joint_problems(np.random.default_rng(8)):
        choices = [
            values
            for values in itertools.product(*rational.values_of(problem))
            if all(sum(values[i] != 0 for i in group) <= most for group, most in problem.budgets)
        ]
        errors = [rational.exact_error(problem.gram, problem.weight, values) for values in choices]
        assert rational.least_value_error(problem) == min(errors)
        assert rational._searched(rational._of_the_live(problem), 10_000) == min(errors)


def test_values_are_the_floats_and_the_exact_products():
    levels = next(joint_problems(np.random.default_rng(8)))
    assert rational.exact_values(levels, [0, 1, 2]) == [-1, Fraction(0.4), Fraction(1e-9)]
    assert rational.exact_values(levels, [0, 2, 2]) is None  # a repetition of the last level is none
    steps = pvq.IntegerLeastSquares([[1.0]], [0.0], 0.1, -3, 3)
    assert rational.exact_values(steps, [3]) == [3 * Fraction(0.1)] != [Fraction(3 * 0.1)]
    assert rational.exact_values(steps, [4]) is None


def test_budgets_are_those_of_the_rule():
    gram, weight = np.eye(6), np.ones(6)
    problem = pvq.SparseLeastSquares(gram, weight, pattern=(1, 2), stride=2)
    assert rational.allowed(problem, [1, 0, 0, 1, 0, 1])  # inputs 0 and 2 are one group, 4 is one alone
    assert not rational.allowed(problem, [1, 0, 1, 0, 0, 0])


def test_the_truth_of_pruning():
    G = [[2.0, 1.0], [1.0, 2.0]]
    one = pvq.SparseLeastSquares(G, [1.0, 3.0], nnz=1)
    assert rational.least_sparse_errors(one) == [26, Fraction(3, 2), 0]
    # inputs that are copies of one another: either can do the work of both
    copies = pvq.SparseLeastSquares(np.ones((2, 2)), [0.1, 0.7], nnz=1)
    assert rational.least_sparse_error(copies) == 0
    # c, x | a, 0 | b, 0 with b = a + c/8: c goes at no cost
    V = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [0.125, 0, 1], [0, 0, 0]]).T
    pairs = pvq.SparseLeastSquares(V.T @ V, [1.0, 1, 1, 0, 1, 0], pattern=(1, 2))
    assert rational.least_sparse_error(pairs) == 0
    # a hair indefinite: E, a mean square, is no less than 0 all the same
    G = np.array([[1.0, 1.0], [1.0, 1.0 - 2.0**-40]])
    assert not rational.is_semidefinite(G)
    assert rational.least_sparse_error(pvq.SparseLeastSquares(G, [1.0, 1.0], nnz=1)) == 0


def test_the_truth_of_a_layer():
    channels = [[Fraction(9), Fraction(1), Fraction(0)], [Fraction(5), Fraction(4), Fraction(0)]]
    assert [rational.least_layer_error(channels, k) for k in range(6)] == [14, 6, 5, 1, 0, 0]


# --------------------------------------------------------------------------- planted faults


PROBLEM = pvq.IntegerLeastSquares([[2.0, 1.0], [1.0, 2.0]], [0.3, 0.7], 0.5, -2, 1)


def looked_at(**changes):
    """The kinds of faults that are found in a result with such changes."""
    case = Case(np.random.default_rng(0))
    truth = rational.least_value_error(PROBLEM)
    check_bounds(case, PROBLEM, replace(pvq.solve(PROBLEM), **changes), truth, "here")
    return {fault.kind for fault in case.faults}


def test_planted_faults_are_found():
    truth = float(rational.least_value_error(PROBLEM))
    assert looked_at() == set()
    assert "false lower end (certified)" in looked_at(error_lower=truth * (1 + 1e-9), error_upper=1.0)
    assert "upper end below the least error" in looked_at(error_lower=0.0, error_upper=truth * 0.99)
    assert "optimal with a gap" in looked_at(error_lower=0.5 * truth)
    assert "codes outside the box" in looked_at(codes=np.array([0, 2]))
    assert "ends that are no interval" in looked_at(error_upper=np.inf)
    assert "a result that does not verify" in looked_at(certificate=None)
    low, high = PROBLEM.signal
    assert any("SQNR" in kind for kind in looked_at(signal_enclosure=type(PROBLEM.signal)(2 * low, 2 * high)))


def test_planted_faults_of_joint_problems_are_found():
    problem = pvq.CodebookLeastSquares(np.eye(2), [0.9, 0.8], [0.0, 0.5, 1.0], nnz=1)
    honest, truth = pvq.solve(problem), rational.truth_of(problem)

    def kinds(**changes):
        case = Case(np.random.default_rng(0))
        check_bounds(case, problem, replace(honest, **changes), truth, "here")
        return {fault.kind for fault in case.faults}

    assert kinds() == set()
    both = {"codes": np.array([2, 1]), "weight": np.array([1.0, 0.5])}
    assert "weights beyond the budget" in kinds(**both, support=np.array([0, 1]))
    assert "weights outside the support" in kinds(support=np.array([1]))
    assert "codes outside the box" in kinds(codes=np.array([3, 0]))
    assert "weights that are not the codes' own" in kinds(weight=np.array([0.5, 0.0]))


def test_splits_without_what_levels_take_of_them_would_be_found(monkeypatch):
    # beside 4 and 6 lies 3, half of their distance below: sums of such are not whole
    problem = pvq.CodebookLeastSquares(np.eye(2), [4.0, 5.0], [1.0, 2.0, 3.0, 4.0, 6.0])
    low, high = problem.values.code_ends

    def faults():
        rng, found = np.random.default_rng(0), []
        for _ in range(1000):
            certificate = random_dual(rng, problem)
            found += formula.faults_of_a_form(problem, certificate, rng.integers(low, high + 1))
        return found

    assert faults() == []
    monkeypatch.setattr(values, "_lift", lambda table, low, high, width: np.zeros(len(low)))
    assert len(faults()) > 3


def test_a_proof_that_is_wrong_inside_is_found(monkeypatch):
    problem = next(joint_problems(np.random.default_rng(8)))
    certificate = DualCertificate(np.full(3, 0.1), np.full(3, 0.01))
    assert formula.faults_of_a_proof(problem, certificate) == []
    monkeypatch.setattr(dual, "proved_shift", lambda matrix, margins: 1e3)
    monkeypatch.setattr(dual, "kept_rest", lambda gram, asked, prove: prove())
    (fault,) = formula.faults_of_a_proof(problem, certificate)
    assert "an eigenvalue below" in fault
    monkeypatch.undo()
    monkeypatch.setattr(dual, "minus_inverse_form", lambda definite, nu, radius: (0.0, 0.0))
    (fault,) = formula.faults_of_a_proof(problem, certificate)
    assert "these multipliers stand for" in fault


@pytest.mark.parametrize("name", relations.EQUALS)
def test_equal_problems_have_the_same_truth(name):
    rng, met = np.random.default_rng(9), 0
    for number in range(150):
        known = problems.small(Case(rng), ("groups", "levels", "joint", "own")[number % 4], most=100)
        if known is None or known.truth is None or known.problem.n > 5:
            continue
        other = relations.EQUALS[name](known.problem)
        if other is not None:
            assert rational.truth_of(other, 100_000) == known.truth
            met += 1
    assert met > 0


def test_a_contradiction_is_found():
    bounds = pvq.solve(PROBLEM)
    case = Case(np.random.default_rng(0))
    higher = replace(bounds, error_lower=2.0 * bounds.error_upper, error_upper=3.0 * bounds.error_upper)
    check_agreement(case, [(Plan(), bounds), (Plan(method="relax"), higher)])
    assert [fault.kind for fault in case.faults] == ["contradiction"]


def test_an_escape_is_found(monkeypatch):
    def broken(*arguments, **options):
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(pvq, "solve", broken)
    case = Case(np.random.default_rng(0))
    assert solve_all(case, PROBLEM, None, [Plan()]) == []
    (fault,) = case.faults
    assert fault.kind.startswith("ZeroDivisionError in ")
    assert "pvq.IntegerLeastSquares(G, w, 0.5, -2, 1)" in fault.script
    assert "pvq.solve(p, 'auto'" in fault.script


def test_a_proof_of_what_is_false_is_found(monkeypatch):
    monkeypatch.setattr(DualCertificate, "prove", lambda certificate, problem, clock: 1e3)
    case = Case(np.random.default_rng(0))
    truth = rational.least_value_error(PROBLEM)
    tampering.attack_with_noise(case, PROBLEM, truth, tries=20)
    assert "a proof of what is false" in {fault.kind for fault in case.faults}


def test_an_accepted_lie_is_found(monkeypatch):
    bounds, truth = pvq.solve(PROBLEM), rational.least_value_error(PROBLEM)
    monkeypatch.setattr(pvq, "verify", lambda problem, b, time_limit: pvq.Verification(True, 0.0, 1.0, ""))
    case = Case(np.random.default_rng(0))
    tampering.attack(case, PROBLEM, truth, bounds, Plan(), tries=4)
    assert {fault.kind for fault in case.faults} == {"verify accepts a lie"}


def test_scripts_of_certificates_build_them_again():
    splits = Splits.of_codes(
        np.zeros((1, 3), np.int32), np.zeros((1, 3), np.int8), np.zeros(1, np.int64), np.array([0.1])
    )
    certificate = DualCertificate(np.array([0.1, 1e-300]), np.zeros(2), splits)
    again = eval(tampering.shown(certificate), vars(tampering) | {"np": np})
    assert np.array_equal(again.lam, certificate.lam)
    assert again.splits.sign.dtype == np.int8


@pytest.mark.parametrize(
    ("scenario", "kind"), [("hang", "hang"), ("crash", "death of the process (SIGABRT)")]
)
def test_the_watchdog_sees_what_hangs_and_what_dies(scenario, kind):
    findings = fuzz(1, 600.0, jobs=1, cases=1, scenarios=[scenario], patience=1.0)
    ((found, _place),) = findings.faults
    assert found == kind
    assert f"--seed 1 --scenario {scenario} --case 0" in summary(findings, 1)


def test_a_case_is_the_same_each_time():
    first, second = (run_case("codes", 5, 11) for _ in range(2))
    assert first.script == second.script
    # what Python warns of depends on what else runs in the process
    ours = [{name: n for name, n in case.counts.items() if "warning" not in name} for case in (first, second)]
    assert ours[0] == ours[1]


def test_the_place_of_an_exception_is_in_the_package():
    with pytest.raises(pvq.InputError) as caught:
        pvq.Gram([[1.0, 2.0]])
    assert place_of(caught.value) == "problems/gram.py:__init__"


# --------------------------------------------------------------------------- faults of whole scenarios


def kinds_of(scenario, cases=6):
    """The kinds of faults that the first cases of a scenario find."""
    return {fault.kind for number in range(cases) for fault in run_case(scenario, 3, number).faults}


SUMS = ("curves", "layer-curves", "one-scale", "joint-curve", "tied")


@pytest.mark.parametrize("scenario", SUMS)
def test_without_planted_faults_there_are_none(scenario):
    assert kinds_of(scenario) == set()


def test_lower_ends_of_another_budget_are_found(monkeypatch):
    def shifted(posed, curve):
        raised = [replace(b, error_lower=a.error_lower) for a, b in itertools.pairwise(curve)]
        return [curve[0], *(replace(b, error_upper=max(b.error_upper, b.error_lower)) for b in raised)]

    monkeypatch.setattr(budget_curve, "_lowest", shifted)
    assert "false lower end (certified)" in kinds_of("curves")


def test_searches_that_are_believed_are_found(monkeypatch):
    monkeypatch.setattr(SubsetCertificate, "repeated", lambda certificate, problem, clock: True)
    assert {"verify accepts a lie", "a proof of what is false"} <= kinds_of("curves")


def test_sums_of_curves_that_are_too_large_are_found(monkeypatch):
    monkeypatch.setattr(layer_curves, "gamma", lambda count: -1e-9)  # in place of room for rounding
    assert "a proof of what is false" in kinds_of("layer-curves", 12)


def test_scales_that_reach_too_far_are_found(monkeypatch):
    honest = scales._reach

    def farther(*arguments):
        lows, highs = honest(*arguments)
        return lows / 1.05, highs * 1.05

    monkeypatch.setattr(scales, "_reach", farther)
    assert "a proof of what is false" in kinds_of("one-scale", 12)


def test_a_scale_that_proves_another_is_found(monkeypatch):
    monkeypatch.setattr(layer_scales, "first_gap", lambda *arguments: None)
    assert {"verify accepts a lie", "a proof of what is false"} <= kinds_of("one-scale")


def test_a_false_verdict_is_found(monkeypatch):
    backwards = property(lambda report: tuple((b.worse, b.better) for b in report.relations))
    monkeypatch.setattr(LayerReport, "verdict", backwards)
    assert "a false verdict" in kinds_of("joint-curve")


def test_layers_that_count_twice_are_found(monkeypatch):
    monkeypatch.setattr(allocation, "_together", lambda network, counted: [(name,) for name in counted])
    assert "layers that are not together" in kinds_of("tied")


def test_weights_of_each_layer_in_place_of_those_of_all_are_found(monkeypatch):
    monkeypatch.setattr(allocation, "error_in", lambda side, common: side.error_upper)
    assert "exported weights that are worse than stated" in kinds_of("tied", 12)

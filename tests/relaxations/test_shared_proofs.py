"""Channels that share lam share what is proved of it, where it has to be lowered, too."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.clock import Clock
from pvqbounds.relaxations import dual
from pvqbounds.relaxations.definite_rest import DefiniteRest
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.solving.channels import Execution, solve_all
from pvqbounds.solving.options import SolveOptions


def channels(kind: str) -> list[pvq.IntegerLeastSquares]:
    """Five channels of one singular Gram of four inputs."""
    rng = np.random.default_rng(7)
    X = rng.standard_normal((3 if kind == "few positions" else 30, 4))
    if kind == "copies":
        X[:, 3] = 0.7 * X[:, 1]
    gram = pvq.Gram(X.T @ X / len(X))
    return [pvq.IntegerLeastSquares(gram, rng.normal(size=4), 0.4, -2, 1) for _ in range(5)]


def optimum(problem: pvq.IntegerLeastSquares) -> float:
    return min(problem.error(np.array(codes)).lower for codes in product(range(-2, 2), repeat=4))


@pytest.mark.parametrize("kind", ["few positions", "copies"])
def test_a_kept_proof_is_that_of_the_channel_alone(kind: str) -> None:
    problems = channels(kind)
    rng = np.random.default_rng(3)
    lam = 0.2 * np.diagonal(problems[0].gram)  # more than a singular Gram allows
    for problem in problems:
        asked = DualCertificate(lam, 0.1 * rng.standard_normal(4))
        steady, claimed = asked.claim(problem)
        alone = pvq.IntegerLeastSquares(problem.gram.copy(), problem.weight, 0.4, -2, 1)
        again, claimed_alone = asked.claim(alone)
        assert claimed == pytest.approx(claimed_alone, rel=1e-9, abs=1e-12)
        np.testing.assert_allclose(steady.lam, again.lam, rtol=1e-12)
        assert max(claimed, steady.prove(alone, Clock(10.0))) <= optimum(problem) * (1.0 + 1e-9)


def test_lam_is_lowered_and_proved_once_for_all_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    count, proved = [], dual.nearest_multipliers
    monkeypatch.setattr(dual, "nearest_multipliers", lambda *a: count.append(1) or proved(*a))
    lam = np.full(4, 0.2)
    for problem in channels("copies"):
        DualCertificate(lam, np.zeros(4)).claim(problem)
    assert len(count) == 1


@pytest.mark.parametrize("kind", ["few positions", "copies"])
def test_cheap_bounds_of_a_singular_gram_hold(kind: str) -> None:
    problems = channels(kind)
    asked = SolveOptions(method="relax", relaxation="shared", time_limit=5.0)
    for problem, found in zip(problems, solve_all(problems, asked, Execution(jobs=1)), strict=True):
        least = optimum(problem)
        assert Fraction(found.error_lower) <= Fraction(least) * Fraction(1 + 1e-12)
        assert found.error_upper >= least * (1.0 - 1e-12)
        assert found.lower_kind == "certified"


@pytest.mark.parametrize("lam", [[np.inf, 0.0], [np.nan, 0.0], [1e308, -1e308]])
def test_multipliers_that_overflow_have_no_definite_rest(lam) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        assert dual.nearest_multipliers(np.eye(2), np.array(lam)) is None


def test_a_rest_without_a_factor_is_solved_all_the_same() -> None:
    rest = DefiniteRest(np.array([[0.0, 1.0], [1.0, 0.0]]), 0.0, 0.0)
    assert rest.solve(np.array([1.0, 2.0])).tolist() == [2.0, 1.0]

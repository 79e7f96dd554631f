"""One lam for channels of any values under any rule: true bounds, the best nu, and steps that are minima."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog
from truth import least_error, random_joint_problem, random_levels_problem

import pvqbounds as pvq
from pvqbounds.clock import Clock
from pvqbounds.problems import LeastSquares
from pvqbounds.relaxations.dual import DualCertificate, dual_bound
from pvqbounds.solvers.native.quantization.codes_dual import relax_finite
from pvqbounds.solvers.native.quantization.shared_values import pilots_of, reach_of, relax_shared_values
from pvqbounds.solvers.native.quantization.shared_values_kernel import hull_step

LEVELS = np.array([-1.0, -0.4, 0.0, 0.15, 1.2])


def gram_of(rng, n, rows=None):
    inputs = np.maximum(rng.standard_normal((rows or 6 * n, n)) @ rng.standard_normal((n, n)), 0.0)
    return pvq.Gram(inputs.T @ inputs / len(inputs))


def channels(seed, n=6, count=6, rule=None, gram=None):
    rng = np.random.default_rng(seed)
    gram = gram or gram_of(rng, n)
    weights = rng.standard_normal((count, gram.n)) * 0.6
    return [pvq.CodebookLeastSquares(gram, weight, levels=LEVELS, **(rule or {})) for weight in weights]


def relaxed(problems):
    return list(relax_shared_values(problems, lambda problem: relax_finite(problem, Clock(60.0))))


def least(problem):
    """Minimum of the error over all that is allowed, in float64."""
    codes = [range(low, high + 1) for low, high in zip(*problem.values.code_ends, strict=True)]
    table = [
        [float(problem.values.weight_of(np.full(problem.n, k))[i]) for k in own]
        for i, own in enumerate(codes)
    ]
    points = np.array(list(itertools.product(*table)))
    for group, most in problem.budgets:
        points = points[np.count_nonzero(points[:, group], axis=1) <= most]
    offset = points - problem.weight
    return float(np.einsum("ki,ki->k", offset @ problem.gram, offset).min())


RULES = [{}, {"nnz": 2}, {"nnz": 0}, {"pattern": (2, 4)}, {"pattern": (1, 3)}]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(3))
def test_bounds_are_true_and_proved_and_no_better_than_a_channels_own(seed, rule):
    problems = channels(seed, rule=rule)
    found = pvq.solve_channels(problems, relaxation="shared")
    own = pvq.solve_channels(problems, method="relax", relaxation="box-hull")
    for problem, cheap, tight in zip(problems, found, own, strict=True):
        truth = least(problem)
        assert cheap.error_lower <= truth * (1.0 + 1e-12) <= cheap.error_upper * (1.0 + 1e-9)
        assert cheap.error_lower <= tight.error_lower * (1.0 + 1e-2)
        assert (cheap.method, cheap.relaxation, cheap.lower_kind) == ("relax", "box-hull", "certified")
        assert pvq.verify(problem, cheap)
    assert len({bounds.certificate.lam.tobytes() for bounds in found}) <= 2
    if rule != {"nnz": 0}:
        assert sum(cheap.error_lower for cheap in found) > 0.3 * sum(tight.error_lower for tight in own)


@pytest.mark.parametrize("make", [random_levels_problem, random_joint_problem])
def test_no_bound_is_above_the_optimum_of_a_strange_problem(make):
    for seed in range(40):
        problem = make(np.random.default_rng(seed)).normalised
        for one in relaxed([problem, problem]):
            assert dual_bound(problem, one.certificate) <= least_error(problem) * (1.0 + 1e-9) + 1e-300


def test_steps_with_scales_of_their_own_under_a_pattern():
    rng = np.random.default_rng(5)
    gram = gram_of(rng, 6)
    problems = [
        pvq.IntegerLeastSquares(
            gram, rng.standard_normal(6), rng.uniform(0.3, 0.6, 6), -2, 1, pattern=(1, 2), stride=3
        )
        for _ in range(5)
    ]
    for problem, found in zip(problems, pvq.solve_channels(problems, relaxation="shared"), strict=True):
        assert 0.0 < found.error_lower <= least(problem) <= found.error_upper * (1.0 + 1e-12)
        assert pvq.verify(problem, found)


def test_one_channel_has_the_bound_of_its_own_relaxation():
    (problem,) = channels(3, n=8, count=1)
    (found,) = relaxed([problem.normalised])
    own = relax_finite(problem.normalised, Clock(60.0), 1e-8)
    least, best = (dual_bound(problem.normalised, one.certificate) for one in (found, own))
    assert 0.97 * best < least <= best * (1.0 + 1e-6)


def test_nu_is_the_best_for_its_lam():
    problems = [problem.normalised for problem in channels(4, n=8, count=4, rule={"pattern": (2, 4)})]
    rng = np.random.default_rng(0)
    for problem, found in zip(problems, relaxed(problems), strict=True):
        lam, nu = found.certificate.lam, found.certificate.nu
        best = dual_bound(problem, found.certificate)
        for size in (0.3, 0.03, 3e-3):
            for _ in range(40):
                other = nu + size * np.abs(nu).mean() * rng.standard_normal(8)
                assert dual_bound(problem, DualCertificate(lam, other)) <= best * (1.0 + 1e-2)


def test_inputs_that_are_always_zero_cost_nothing():
    rng = np.random.default_rng(6)
    inputs = np.maximum(rng.standard_normal((60, 6)) @ rng.standard_normal((6, 6)), 0.0)
    small = pvq.Gram(inputs.T @ inputs / 60.0)
    inputs = np.insert(inputs, [2, 5], 0.0, axis=1)
    large = pvq.Gram(inputs.T @ inputs / 60.0)
    weight = rng.standard_normal((4, 8)) * 0.6
    live = np.flatnonzero(large.live)
    wide = pvq.solve_channels(
        [pvq.CodebookLeastSquares(large, w, levels=LEVELS, nnz=3) for w in weight], relaxation="shared"
    )
    narrow = pvq.solve_channels(
        [pvq.CodebookLeastSquares(small, w[live], levels=LEVELS, nnz=3) for w in weight], relaxation="shared"
    )
    for one, other in zip(wide, narrow, strict=True):
        assert one.error_lower == pytest.approx(other.error_lower, rel=1e-2)


def test_a_singular_gram_proves_nothing_false():
    rng = np.random.default_rng(7)
    problems = channels(7, count=4, gram=gram_of(rng, 6, rows=3), rule={"nnz": 3})
    for problem, found in zip(problems, pvq.solve_channels(problems, relaxation="shared"), strict=True):
        assert 0.0 <= found.error_lower <= least(problem) + 1e-12


def test_weights_unlike_those_of_the_pilots_prove_something():
    gram = gram_of(np.random.default_rng(8), 6)
    rows = np.random.default_rng(9).standard_normal((20, 6)) * 0.6
    problems = [pvq.CodebookLeastSquares(gram, row, levels=LEVELS) for row in rows]
    odd = [place for place in range(20) if place not in pilots_of(20, 6)][3]
    problems[odd] = pvq.CodebookLeastSquares(gram, rows[odd], levels=[-40.0, 0.0, 0.3])
    found = pvq.solve_channels(problems, relaxation="shared")
    assert all(0.0 < one.error_lower <= least(p) for p, one in zip(problems, found, strict=True))


# ------------------------------------------------------------------------------------ its parts


def test_lam_is_taken_to_the_border_and_not_beyond():
    gram = gram_of(np.random.default_rng(1), 5).matrix
    lam = np.random.default_rng(2).uniform(0.1, 1.0, 5) * 1e-2
    border = 1.0 / np.linalg.eigvalsh(np.diag(lam**0.5) @ np.linalg.inv(gram) @ np.diag(lam**0.5)).max()
    for size in (1.0, 0.1, 10.0):
        assert 0.99 / size < reach_of(gram, size * border * lam) < 1.0 / size
    assert reach_of(gram, 0.0 * lam) >= 1.0
    wide = np.zeros((6, 6))
    wide[:5, :5] = gram
    assert reach_of(wide, np.append(lam, 0.0)) == pytest.approx(reach_of(gram, lam), rel=1e-9)


def hull(points, costs, at):
    """Least convex combination of costs of points that meet at one, by linear programming."""
    equal = np.vstack([points.T, np.ones(len(points))])
    return linprog(costs, A_eq=equal, b_eq=np.append(at, 1.0)).fun


@pytest.mark.parametrize("seed", range(40))
def test_a_step_is_the_minimiser_over_the_hull(seed):
    """No linear function separates it: h(x) + slope x is least among all allowed points."""
    rng = np.random.default_rng(seed)
    n, most = 3, int(rng.integers(1, 3))
    values = np.sort(np.append(rng.standard_normal((n, 4)), np.zeros((n, 1)), axis=1), axis=1)
    lam, metric = rng.uniform(0.0, 2.0, n) * (rng.random(n) < 0.8), rng.uniform(0.3, 2.0, n)
    y, point, price = 2.0 * rng.standard_normal(n), np.empty(n), np.zeros(1)
    order, starts = np.arange(n), np.array([0, n])
    hull_step(y, lam, metric, values, order, starts, np.array([float(most)]), price, point)
    points = np.array([v for v in itertools.product(*values) if np.count_nonzero(v) <= most])
    costs = points**2 @ lam
    slope = 2.0 * metric * (point - y)
    assert hull(points, costs, point) + slope @ point <= (costs + points @ slope).min() + 1e-6
    hull_step(y, lam, metric, values, order, np.array([0]), np.zeros(0), np.zeros(0), point)
    points = np.array(list(itertools.product(*values)))
    slope = 2.0 * metric * (point - y)
    least = (points**2 @ lam + points @ slope).min()
    assert hull(points, points**2 @ lam, point) + slope @ point <= least + 1e-9


def test_a_value_set_of_ones_own_without_a_grid():
    class Own(type(pvq.CodebookLeastSquares([[1.0]], [0.5], [0.0, 1.0]).values)):
        levels_table = None

    rng = np.random.default_rng(0)
    gram, table = gram_of(rng, 5), np.tile(LEVELS, (5, 1))
    problems = [LeastSquares(gram, rng.standard_normal(5) * 0.6, Own(table)) for _ in range(4)]
    for problem, found in zip(problems, pvq.solve_channels(problems, relaxation="shared"), strict=True):
        same = pvq.CodebookLeastSquares(gram, problem.weight, levels=LEVELS)
        assert 0.0 < found.error_lower <= least(same) <= found.error_upper * (1.0 + 1e-12)

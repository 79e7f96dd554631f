"""Bounds at a few scales: what they prove for every scale, and what they do not."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.arithmetic.enclosures import Enclosure
from pvqbounds.clock import Clock
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.relaxations.scales import (
    Gap,
    ScaleRange,
    ScalesCertificate,
    _reach,
    claimed_value,
    first_gap,
    largest_value,
    range_of,
)
from tests.truth import least_error_at_any_scale, random_any_scale_problem

FOREVER = Clock(math.inf)


def best_at(problem, scale: float) -> float:
    """The least error at one scale, by trying all codes."""
    low, high = problem.values.qmin, problem.values.qmax
    codes = np.array(list(itertools.product(range(low, high + 1), repeat=problem.n)))
    d = scale * codes - problem.weight
    return float(np.einsum("ki,ij,kj->k", d, problem.gram, d).min())


def small(seed: int, n: int = 3, box: tuple[int, int] = (-2, 1)):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(4 * n, n))
    return pvq.AnyScaleLeastSquares(X.T @ X / len(X), rng.normal(size=n), *box)


@pytest.mark.parametrize("box", [(-2, 1), (0, 3), (1, 3), (-1, 0)])
def test_true_bounds_at_any_scales_never_prove_too_much(box) -> None:
    for seed in range(25):
        problem, rng = small(seed, box=box), np.random.default_rng(seed)
        truth = float(least_error_at_any_scale(problem))
        scales = np.sort(np.exp(rng.uniform(-4, 3, rng.integers(1, 60))))
        bounds = np.array([best_at(problem, s) for s in scales])
        value = largest_value(scales, bounds, range_of(problem))
        assert value <= truth + 1e-12 * problem.signal.upper


def test_a_fine_grid_proves_nearly_all() -> None:
    for seed in range(4):
        problem = small(seed)
        scales = np.exp(np.arange(-4.0, 3.5, 0.004))
        bounds = np.array([best_at(problem, s) for s in scales])
        value, truth = (
            largest_value(scales, bounds, range_of(problem)),
            float(least_error_at_any_scale(problem)),
        )
        assert 0.999 * truth - 1e-5 * problem.signal.upper <= value <= truth * (1.0 + 1e-12)


def test_the_largest_value_has_no_gap_and_a_little_more_has_one() -> None:
    problem = small(1)
    scales = np.exp(np.arange(-5.0, 4.0, 0.05))
    bounds = np.array([best_at(problem, s) for s in scales])
    within = range_of(problem)
    value = largest_value(scales, bounds, within)
    assert first_gap(scales, bounds, within, value) is None
    gap = first_gap(scales, bounds, within, value * (1.0 + 1e-9))
    assert gap is not None
    assert gap.low < gap.high


@pytest.mark.parametrize("kept", [slice(0, 40), slice(140, None)])
def test_without_scales_on_one_side_nothing_is_proved(kept) -> None:
    problem = small(2)
    scales = np.exp(np.arange(-5.0, 4.0, 0.05))[kept]
    bounds = np.array([best_at(problem, s) for s in scales])
    assert largest_value(scales, bounds, range_of(problem)) < 1e-3 * problem.signal.lower


def test_the_range_holds_every_best_scale_that_beats_a_value() -> None:
    for seed in range(20):
        problem = small(seed, box=(-4, 3))
        codes = np.array(list(itertools.product(range(-4, 4), repeat=3)))
        gain, square = (
            codes @ problem.gram @ problem.weight,
            np.einsum("ki,ij,kj->k", codes, problem.gram, codes),
        )
        reached = (gain > 0.0) & (square > 0.0)
        scale = gain[reached] / square[reached]
        error = problem.signal.middle - gain[reached] ** 2 / square[reached]
        for value in (0.1, 0.5, 0.9):
            low, high = range_of(problem).ends(value * problem.signal.middle)
            beating = scale[error < value * problem.signal.middle]
            assert ((low <= beating) & (beating <= high)).all()


def test_no_scale_is_too_large_where_many_codes_have_next_to_no_power() -> None:
    X = np.random.default_rng(0).normal(size=(12, 24))
    problem = pvq.AnyScaleLeastSquares(X.T @ X / 12, X[0], -8, 7)
    assert range_of(problem).ends(0.5 * problem.signal.lower)[1] == math.inf


def test_a_value_above_the_signal_is_proved_by_no_bounds() -> None:
    within, scales = ScaleRange(Enclosure(1.0, 1.0), 4.0, 0.25), np.array([0.5, 1.0])
    assert first_gap(scales, np.array([2.0, 2.0]), within, 1.5) == Gap(0.0, math.inf)


def test_without_a_largest_scale_no_value_is_proved() -> None:
    within, scales = ScaleRange(Enclosure(1.0, 1.0), 4.0, 0.0), np.array([0.5, 1.0, 2.0])
    gap = first_gap(scales, np.array([0.9, 0.9, 0.9]), within, 0.5)
    assert gap is not None
    assert gap.high == math.inf
    assert gap.low <= math.sqrt(0.5 / 4.0)  # codes of power 4 that leave half of the signal have that scale


def test_where_no_codes_change_the_error_it_is_the_signal() -> None:
    within, scales, bounds = ScaleRange(Enclosure(1.0, 1.0), 0.0, 0.0), np.array([1.0, 2.0]), np.zeros(2)
    assert largest_value(scales, bounds, within) == 1.0
    value, needed = claimed_value(scales, bounds, within)
    assert 1.0 - 1e-10 < value < 1.0
    assert needed.tolist() == [True, False]  # a certificate holds one of them all the same


@pytest.mark.parametrize("line", [[1.0, -math.sqrt(2.0)], [1.0, -0.5], [1.0, -0.1]])
def test_a_singular_gram_has_a_largest_scale_that_holds(line) -> None:
    problem = pvq.AnyScaleLeastSquares(np.outer(line, line), np.array([1.0, 0.3]), -8, 7)
    codes = np.array(list(itertools.product(range(-8, 8), repeat=2)))
    product, square = codes @ problem.gram @ problem.weight, (codes @ np.array(line)) ** 2
    scale = (product / np.where(square > 1e-12, square, np.inf)).max()
    assert scale <= range_of(problem).ends(0.0)[1] * (1.0 + 1e-9) < math.inf  # the largest is often sharp


def solved(seed: int = 0):
    problem = small(seed, n=4)
    bounds = pvq.solve(problem)
    assert isinstance(bounds.certificate, ScalesCertificate)
    return problem, bounds


def test_a_value_that_is_raised_is_not_proved() -> None:
    problem, bounds = solved()
    certificate = bounds.certificate
    assert certificate.prove(problem, FOREVER) == certificate.value == bounds.error_lower
    assert replace(certificate, value=1.0001 * certificate.value).prove(problem, FOREVER) == 0.0


def test_a_bound_at_one_scale_that_is_raised_is_not_proved() -> None:
    problem, bounds = solved()
    certificate = bounds.certificate
    for i in range(len(certificate.scales)):
        raised = certificate.bounds.copy()
        raised[i] *= 1.01
        assert replace(certificate, bounds=raised).prove(problem, FOREVER) == 0.0


def test_every_scale_that_is_kept_is_needed() -> None:
    problem, bounds = solved()
    certificate = bounds.certificate
    for i in range(len(certificate.scales)):
        without = ScalesCertificate(
            np.delete(certificate.scales, i),
            np.delete(certificate.bounds, i),
            certificate.proofs[:i] + certificate.proofs[i + 1 :],
            certificate.value * 1.000001,
        )
        assert without.prove(problem, FOREVER) == 0.0


def test_a_scale_that_is_moved_is_found() -> None:
    problem, bounds = solved()
    certificate = bounds.certificate
    for factor in (0.5, 2.0):
        moved = replace(certificate, scales=factor * certificate.scales)
        assert moved.prove(problem, FOREVER) == 0.0


@pytest.mark.parametrize(
    "change",
    [
        {"scales": np.zeros(0), "bounds": np.zeros(0), "proofs": ()},
        {"scales": np.array([1.0]), "bounds": np.array([0.1])},
        {"value": math.nan},
        {"value": "0.1"},
        {"proofs": None},
        {"reverse": True},
        {"nested": True},
        {"infinite": True},
        {"far": True},
    ],
)
def test_what_is_no_certificate_does_not_fit(change) -> None:
    problem, bounds = solved()
    certificate = bounds.certificate
    assert certificate.fits(problem)
    if change.pop("reverse", False):
        change = {"scales": certificate.scales[::-1].copy()}
    if change.pop("nested", False):
        change = {"proofs": (certificate, *certificate.proofs[1:])}
    if change.pop("infinite", False):
        change = {"bounds": np.where(np.arange(len(certificate.bounds)) == 0, np.inf, certificate.bounds)}
    if change.pop("far", False):
        change = {"scales": np.concatenate([certificate.scales[:-1], [1e300]])}
    assert not replace(certificate, **change).fits(problem)


def test_it_is_about_problems_of_any_scale_alone() -> None:
    problem, bounds = solved()
    assert not bounds.certificate.fits(problem.settled)
    zero = np.zeros(problem.n)
    assert DualCertificate(zero, zero).fits(problem)
    assert DualCertificate(zero, zero).prove(problem, FOREVER) == 0.0


@pytest.mark.parametrize(("power", "gram_power"), [(100, 0), (-100, -80), (0, 120)])
def test_units_move_it_exactly(power: int, gram_power: int) -> None:
    problem, bounds = solved()
    moved = pvq.AnyScaleLeastSquares(
        np.ldexp(problem.gram, gram_power), np.ldexp(problem.weight, power), -2, 1
    )
    there = pvq.solve(moved)
    assert there.error_lower == pytest.approx(
        math.ldexp(bounds.error_lower, gram_power + 2 * power), rel=1e-9
    )
    assert there.scale == pytest.approx(math.ldexp(bounds.scale, power), rel=1e-12)
    assert pvq.verify(moved, there)
    assert moved.normalised.n == 4
    assert there.certificate.fits(moved)


def test_random_problems_of_all_families() -> None:
    for seed in range(12):
        problem = random_any_scale_problem(np.random.default_rng(1000 + seed))
        within = range_of(problem.normalised)
        assert within.largest >= 0.0
        assert within.smallest >= 0.0


def test_true_bounds_never_prove_too_much_of_singular_grams() -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(2, 4)) if seed % 2 else rng.normal(size=(9, 4)) @ np.diag([1, 1, 1, 0.0])
        X[:, 3] = X[:, 2] if seed % 2 == 0 else X[:, 3]
        problem = pvq.AnyScaleLeastSquares(X.T @ X / len(X), rng.normal(size=4), -2, 1)
        truth = float(least_error_at_any_scale(problem))
        scales = np.exp(np.arange(-4.0, 6.0, 0.02))
        bounds = np.array([best_at(problem, s) for s in scales])
        value = largest_value(scales, bounds, range_of(problem))
        assert value <= truth + 1e-12 * problem.signal.upper
        assert value >= 0.9 * truth - 2e-4 * problem.signal.upper


def test_what_a_bound_next_to_the_signal_serves_is_counted_with_all_its_digits() -> None:
    scales, value, signal = np.array([0.3]), 0.25, 0.7
    for exponent in range(4, 45):
        bounds = np.array([signal * (1.0 - 2.0**-exponent)])
        q = Fraction(float(bounds[0])) - Fraction(value)
        q /= Fraction(signal) - Fraction(value)  # q²
        low, high = (float(end[0]) for end in _reach(scales, bounds, signal, value))
        # s / (1 + q) <= low and high <= s / (1 - q), compared by squares, and next to both
        assert (Fraction(0.3) / Fraction(low) - 1) ** 2 <= q
        assert (1 - Fraction(0.3) / Fraction(high)) ** 2 <= q
        assert (Fraction(0.3) / Fraction(low * (1.0 - 1e-14)) - 1) ** 2 > q
        assert (1 - Fraction(0.3) / Fraction(high * (1.0 + 1e-14))) ** 2 > q


def test_a_claim_beside_the_signal_proves_itself() -> None:
    power = np.array([3.7e-70, 1.1e-105, 2.8e-44, 1.1e-105])
    gram = np.sqrt(power[:, None] * power) * (1.0 - 2e-4 * (1.0 - np.eye(4)))
    weight = np.array([5.5e23, -7.9e23, -3.3e23, -2.9e23])  # best at a scale of zero
    problem = pvq.AnyScaleLeastSquares(gram, weight, 0, 3)
    found = pvq.solve(problem, method="relax", time_limit=5.0)
    assert 0.0 < found.error_lower <= found.error_upper == pytest.approx(problem.signal.upper)
    assert pvq.verify(problem, found)

"""One free scale for all channels: the interval of their sum holds, and is proved again."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.errors import InputError
from pvqbounds.solving.execution import Execution
from pvqbounds.solving.one_scale import bound_one_scale, verify_one_scale
from pvqbounds.solving.options import SolveOptions


def channels(seed: int, n: int = 3, count: int = 3, box: tuple[int, int] = (-2, 1)):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(5 * n, n))
    gram = pvq.Gram(X.T @ X / len(X))
    return [pvq.AnyScaleLeastSquares(gram, rng.normal(size=n), *box) for _ in range(count)]


def least_sum(problems) -> float:
    """The least summed error over all codes of all channels and all scales, by brute force."""
    low, high = problems[0].values.qmin, problems[0].values.qmax
    codes = np.array(list(itertools.product(range(low, high + 1), repeat=problems[0].n)))
    products = [codes @ p.gram @ p.weight for p in problems]
    squares = np.einsum("ki,ij,kj->k", codes, problems[0].gram, codes)
    signal, best = sum(p.signal.middle for p in problems), 0.0
    for choice in itertools.product(range(len(codes)), repeat=len(problems)):
        product = sum(products[c][k] for c, k in enumerate(choice))
        square = sum(squares[k] for k in choice)
        if product > 0.0 and square > 0.0:
            best = max(best, product**2 / square)
    return signal - best


def bound(problems, **options):
    return bound_one_scale(problems, SolveOptions(**options), Execution())


@pytest.mark.parametrize("seed", range(6))
def test_the_sum_holds_against_all_codes_and_scales(seed: int) -> None:
    problems = channels(seed, n=2, count=3)
    found, truth = bound(problems), least_sum(problems)
    assert found.error_lower <= truth * (1.0 + 1e-12)
    assert found.error_upper >= truth * (1.0 - 1e-12)
    assert found.error_lower >= 0.99 * truth
    assert found.error_upper <= 1.01 * truth
    assert verify_one_scale(problems, found)


def test_it_is_no_less_than_a_scale_for_each() -> None:
    problems = channels(7, n=6, count=3)
    found = bound(problems)
    free = [pvq.solve(problem) for problem in problems]
    assert found.error_upper >= sum(own.error_lower for own in free)
    for own, fixed in zip(found.bounds, found.problems, strict=True):
        assert (fixed.step == found.scale).all()
        assert pvq.verify(fixed, own)


def test_what_is_changed_is_not_proved() -> None:
    problems = channels(1)
    found = bound(problems)
    certificate = found.certificate
    assert verify_one_scale(problems, found)
    raised = replace(certificate, bounds=1.01 * certificate.bounds)
    fewer = replace(certificate, scales=certificate.scales[1:])
    gap = replace(
        certificate,
        scales=certificate.scales[1:],
        bounds=certificate.bounds[1:],
        proofs=certificate.proofs[1:],
    )
    for wrong in (raised, fewer, gap, replace(certificate, value=1.001 * certificate.value)):
        assert not verify_one_scale(problems, replace(found, certificate=wrong))
    assert not verify_one_scale(problems, replace(found, certificate=None))
    assert not verify_one_scale(problems, replace(found, scale=1.1 * found.scale))


@pytest.mark.parametrize("end", [np.nan, -1.0])
def test_an_upper_end_that_is_none_is_not_that_of_the_codes(end: float) -> None:
    problems = channels(1)
    found = bound(problems)
    changed = [replace(found.bounds[0], error_upper=end), *found.bounds[1:]]
    assert not verify_one_scale(problems, replace(found, error_lower=0.0, bounds=changed))


def test_singular_grams_and_zeros() -> None:
    rng = np.random.default_rng(5)
    X = rng.normal(size=(2, 4))
    singular = [pvq.AnyScaleLeastSquares(X.T @ X, rng.normal(size=4), -2, 1) for _ in range(2)]
    found, truth = bound(singular, time_limit=5.0), least_sum(singular)
    assert 0.0 < found.error_lower <= truth * (1.0 + 1e-12)
    assert found.error_upper >= truth * (1.0 - 1e-12)
    assert verify_one_scale(singular, found)
    X = rng.normal(size=(2, 14))
    powerless = [pvq.AnyScaleLeastSquares(X.T @ X, rng.normal(size=14), -8, 7) for _ in range(2)]
    found = bound(powerless, time_limit=2.0)
    assert found.error_lower == 0.0
    assert "singular" in found.status
    assert verify_one_scale(powerless, found)
    zeros = [pvq.AnyScaleLeastSquares(np.eye(3), np.zeros(3), -2, 1) for _ in range(2)]
    assert bound(zeros).error_upper < 1e-300


def test_numbers_far_apart_are_bounded_without_a_warning() -> None:
    gram = pvq.Gram([[2.0**-600]])
    apart = [pvq.AnyScaleLeastSquares(gram, [w], 1, 3) for w in (0.0, 2.0**314)]
    apart.append(pvq.AnyScaleLeastSquares([[2.0**-300]], [-(2.0**127)], 1, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = bound(apart, time_limit=0.5)
    assert verify_one_scale(apart, found)


def test_boxes_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match="one box"):
        bound([*channels(0), *channels(1, box=(-4, 3))])


def test_free_zero_points_are_refused() -> None:
    free = pvq.AnyScaleLeastSquares(np.eye(3), np.ones(3), -3, 3, span=3)
    with pytest.raises(InputError, match="zero point"):
        bound([free, free])

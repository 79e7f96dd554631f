"""Codes and scales: the range search against all breakpoints, and its invariances."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm

import pvqbounds.problems.grids as grids
from pvqbounds.errors import InputError
from pvqbounds.problems.grids import minmax_scale, mse_scale, symmetric_codes

weights = arrays(
    np.float64,
    st.integers(1, 6),
    elements=st.integers(-4000, 4000).map(lambda k: k / 1000.0),
)
codes = st.sampled_from([(-2, 1), (-4, 3), (-8, 7), (-3, 3), (0, 3), (-1, 0)])


def squared_error(w: np.ndarray, scale: float, qmin: int, qmax: int) -> float:
    return float(((w - scale * np.clip(np.rint(w / scale), qmin, qmax)) ** 2).sum())


def best_by_breakpoints(w: np.ndarray, qmin: int, qmax: int) -> float:
    """Least squared error: between neighbouring breakpoints the codes are fixed."""
    breakpoints = sorted({0.0} | {abs(x) / (k + 0.5) for x in w for k in range(max(-qmin, qmax))})
    best = float((w**2).sum())
    for low, high in pairwise(breakpoints):
        k = np.clip(np.rint(w / (0.5 * (low + high))), qmin, qmax)
        if k.any() and (w @ k) > 0.0:
            best = min(best, squared_error(w, float(w @ k) / float(k @ k), qmin, qmax))
    return best


@given(weights, codes)
def test_mse_scale_is_the_global_minimum(w, ends):
    found = squared_error(w, mse_scale(w, *ends), *ends)
    assert found <= best_by_breakpoints(w, *ends) * (1 + 1e-9) + 1e-12


@given(weights, codes, st.integers(-300, 300))
def test_mse_scale_follows_the_weights_by_powers_of_two_exactly(w, ends, power):
    movable = np.clip(w * 1e6, *ends).any()
    expected = math.ldexp(mse_scale(w, *ends), power) if movable else 1.0
    assert mse_scale(np.ldexp(w, power), *ends) == expected


@given(weights, st.floats(1e-6, 1e6))
def test_mse_scale_explains_as_much_of_scaled_weights(w, factor):
    # minimisers may tie, so that the error is compared and not the scale
    small = squared_error(w, mse_scale(w, -8, 7), -8, 7)
    large = squared_error(factor * w, mse_scale(factor * w, -8, 7), -8, 7)
    assert large == pytest.approx(factor**2 * small, rel=1e-6, abs=1e-12 * factor**2)


@given(weights, codes, st.integers(-300, 300))
def test_branch_and_bound_finds_what_the_sweep_finds(w, ends, power):
    swept = mse_scale(w, *ends)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grids, "LARGEST_SWEEP", 0)
        bounded = mse_scale(w, *ends)
        movable = np.clip(w * 1e6, *ends).any()
        expected = math.ldexp(bounded, power) if movable else 1.0
        assert mse_scale(np.ldexp(w, power), *ends) == expected
    least = squared_error(w, swept, *ends)
    assert squared_error(w, bounded, *ends) == pytest.approx(least, rel=1e-8, abs=1e-13 * float(w @ w))


@pytest.mark.parametrize("ends", [(-2, 1), (-8, 7), (-7, 7), (-128, 127)])
@pytest.mark.parametrize("shape", ["gaussian", "heavy", "skewed", "quantized", "outlier"])
def test_branch_and_bound_on_larger_tensors(ends, shape, monkeypatch):
    rng = np.random.default_rng(3)
    w = {
        "gaussian": rng.standard_normal(700),
        "heavy": rng.standard_t(2, 700) * 1e-3,
        "skewed": rng.gamma(0.5, size=700) - 0.2,
        "quantized": np.rint(20.0 * rng.standard_normal(700)),
        "outlier": np.append(rng.standard_normal(700), 300.0),
    }[shape]
    monkeypatch.setattr(grids, "LARGEST_SWEEP", 2**40)
    least = squared_error(w, mse_scale(w, *ends), *ends)
    monkeypatch.setattr(grids, "LARGEST_SWEEP", 0)
    assert squared_error(w, mse_scale(w, *ends), *ends) <= least * (1 + 1e-8) + 1e-13 * float(w @ w)


@pytest.mark.parametrize(("bits", "decibel"), [(2, 8.26), (3, 13.91), (4, 19.26), (5, 24.53)])
def test_gaussian_weights_reach_the_known_sqnr(bits, decibel):
    w = 3e-3 * norm.ppf((np.arange(50_000) + 0.5) / 50_000)
    qmin, qmax = symmetric_codes(bits)
    found = 10 * math.log10((w @ w) / squared_error(w, mse_scale(w, qmin, qmax), qmin, qmax))
    assert found == pytest.approx(decibel, abs=0.01)


@given(weights)
def test_minmax_scale_clips_nothing_and_no_smaller_scale_does(w):
    scale = minmax_scale(w, -8, 7)
    assert (scale * 7 >= w).all()
    assert (scale * -8 <= w).all()
    if w.any():
        smaller = scale * (1 - 1e-12)
        assert (smaller * 7 < w).any() or (smaller * -8 > w).any()


def test_weights_that_no_scale_helps():
    assert mse_scale(np.zeros((2, 3)), -8, 7) == minmax_scale(np.zeros(3), -8, 7) == 1.0
    assert mse_scale([-1.0, -2.0], 0, 3) == 1.0
    with pytest.raises(InputError, match="codes of both signs"):
        minmax_scale([-1.0, 2.0], 0, 3)


def test_smallest_and_largest_floats():
    tiny = math.ulp(0.0)
    assert minmax_scale([tiny], -8, 7) == tiny
    assert mse_scale([tiny], -8, 7) == tiny
    assert math.isfinite(mse_scale([1e308, -1.7e308], -8, 7))


def test_symmetric_codes():
    assert symmetric_codes(2) == (-2, 1)
    assert symmetric_codes(16) == (-32768, 32767)
    for bits in (1, 17, 4.0, True, "4"):
        with pytest.raises(InputError, match="from 2 to 16"):
            symmetric_codes(bits)


@pytest.mark.parametrize("bad", [[], [math.nan], [math.inf, 1.0]])
def test_bad_weights(bad):
    for find in (mse_scale, minmax_scale):
        with pytest.raises(InputError, match="weights"):
            find(bad, -8, 7)


def test_the_range_search_needs_code_zero():
    with pytest.raises(InputError, match="code 0"):
        mse_scale([1.0], 1, 3)

"""Enclosures contain the exact value and are as narrow as they claim."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from truth import exact_error

from pvqbounds.arithmetic.enclosures import difference, inner_product, quadratic_form, scaled_difference

SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_quadratic_form_encloses_the_exact_value(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 7))
    X = rng.standard_normal((max(1, n - 1), n)) * 10.0 ** rng.uniform(-6, 6, n)
    gram = (X.T @ X + (X.T @ X).T) / 2
    high, low = rng.standard_normal(n), rng.standard_normal(n) * 2.0**-54
    exact = exact_error(
        gram, [Fraction(float(a)) + Fraction(float(b)) for a, b in zip(high, low, strict=True)]
    )
    enclosure = quadratic_form(gram, high, low)
    assert Fraction(enclosure.lower) <= exact <= Fraction(enclosure.upper)
    size = abs(high) @ abs(gram) @ abs(high)
    assert enclosure.upper - enclosure.lower <= 1e-15 * abs(float(exact)) + 1e-27 * size + 1e-290


def test_quadratic_form_survives_cancellation():
    # 1e16 + 1 - 1e16 in plain float64 loses the one
    gram = np.array([[1e16, 1e16], [1e16, 1e16 + 2.0]])
    assert abs(quadratic_form(gram, np.array([1.0, -1.0])).middle - 2.0) < 1e-9


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_differences_and_products_are_exact(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, 5)) * 10.0 ** rng.uniform(-8, 8, (2, 5))
    high, low = difference(a, b)
    for i in range(5):
        assert Fraction(high[i]) + Fraction(low[i]) == Fraction(a[i]) - Fraction(b[i])
    codes, scale = rng.integers(-200, 200, 5), float(a[0])
    high, low = scaled_difference(scale, codes, b)
    for i in range(5):
        exact = Fraction(scale) * int(codes[i]) - Fraction(b[i])
        terms = abs(Fraction(scale) * int(codes[i])) + abs(Fraction(b[i]))
        assert abs(Fraction(high[i]) + Fraction(low[i]) - exact) <= terms * Fraction(2) ** -102
    enclosure = inner_product(a, b)
    exact = sum(Fraction(x) * Fraction(y) for x, y in zip(a, b, strict=True))
    assert Fraction(enclosure.lower) <= exact <= Fraction(enclosure.upper)


def test_what_overflows_is_enclosed_by_everything():
    with np.errstate(over="ignore", invalid="ignore"):
        enclosure = quadratic_form(np.array([[1e300]]), np.array([1e300]))
    assert (enclosure.lower, enclosure.upper) == (-math.inf, math.inf)

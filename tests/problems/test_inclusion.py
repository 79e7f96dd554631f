"""What allows every weight of what: supports and values against lists of all, least errors against truth."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import truth
from hypothesis import given, settings
from hypothesis import strategies as st

import pvqbounds as pvq
from pvqbounds.problems import AnyScaleLeastSquares, Problem
from pvqbounds.problems.any_scale import AnySteps
from pvqbounds.problems.inclusion import contains
from pvqbounds.problems.supports import AtMost, Groups, Pattern, allow_all_of, checked_budgets
from pvqbounds.problems.values import Levels, Reals, Steps

# ------------------------------------------------------------------------------------ supports


@st.composite
def rules(draw: st.DrawFn, n: int) -> list:
    """The budgets of a rule of n inputs."""
    kind = draw(st.sampled_from(["most", "pattern", "groups"]))
    if kind == "most":
        rule = AtMost(draw(st.integers(0, n)))
    elif kind == "pattern":
        size = draw(st.integers(1, 4))
        rule = Pattern(draw(st.integers(0, size)), size, draw(st.sampled_from([1, 2, 3])))
    else:
        group = draw(st.lists(st.integers(-1, 2), min_size=n, max_size=n))
        most = draw(st.lists(st.integers(0, n), min_size=3, max_size=3))
        rule = Groups(np.array(group), np.array(most))
    return checked_budgets(rule, n)


def supports(budgets: list, n: int) -> set[frozenset[int]]:
    """All that are allowed."""
    every = itertools.chain.from_iterable(itertools.combinations(range(n), k) for k in range(n + 1))
    return {
        frozenset(kept)
        for kept in every
        if all(len(set(kept) & set(group.tolist())) <= most for group, most in budgets)
    }


@given(rules(6), rules(6))
def test_supports_are_within_others_exactly_where_all_of_them_are(larger: list, smaller: list) -> None:
    assert allow_all_of(larger, smaller) == (supports(smaller, 6) <= supports(larger, 6))


@pytest.mark.parametrize(
    ("larger", "smaller", "within"),
    [
        ((2, 4), (1, 4), True),
        ((2, 4), (1, 2), True),
        ((4, 8), (2, 4), True),
        ((1, 2), (2, 4), False),
        ((2, 4), (4, 8), False),
        ((1, 4), (1, 3), False),
        ((2, 3), (1, 2), True),  # of three in a row at most two are first or second of their pairs
    ],
)
def test_patterns_of_other_sizes(larger: tuple, smaller: tuple, within: bool) -> None:
    ours, theirs = (Pattern(*pattern).budgets(24) for pattern in (larger, smaller))
    assert allow_all_of(ours, theirs) is within


# -------------------------------------------------------------------------------------- values


def of_steps(step: float, low: int, high: int) -> Steps:
    return Steps(np.array([step]), np.array([low]), np.array([high]))


STEP = st.sampled_from([0.1, 0.2, 0.3, 0.30000000000000004, 0.5, 1.0, 3.0, 1e-300, 1e300])


@given(STEP, st.integers(-6, 6), st.integers(0, 9), STEP, st.integers(-6, 6), st.integers(1, 5))
def test_steps_hold_others_exactly_where_all_values_are_held(a, low, more, b, low2, more2) -> None:
    larger, smaller = of_steps(a, low, low + more), of_steps(b, low2, low2 + more2)
    values = [
        {Fraction(float(own.step[0])) * k for k in range(own.qmin[0], own.qmax[0] + 1)}
        for own in (larger, smaller)
    ]
    assert larger.contains(smaller) == (values[1] <= values[0])
    if larger.contains(smaller):
        for code in range(low2, low2 + more2 + 1):
            (own,) = larger.codes_of(smaller, np.array([code]))
            assert own * Fraction(a) == code * Fraction(b)


NUMBERS = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.1, 0.5, 2.0]), min_size=1, unique=True).map(sorted)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=3))
def test_levels_hold_others_exactly_where_all_are_held(rows: list) -> None:
    def levels(lists: list) -> Levels:
        width = max(map(len, lists))
        return Levels(np.array([own + [own[-1]] * (width - len(own)) for own in lists]))

    larger, smaller = (levels([pair[at] for pair in rows]) for at in (0, 1))
    assert larger.contains(smaller) == all(set(b) <= set(a) for a, b in rows)
    if larger.contains(smaller):
        codes = smaller.code_ends[1]
        assert np.array_equal(larger.weight_of(larger.codes_of(smaller, codes)), smaller.weight_of(codes))


def test_a_step_of_any_size_holds_those_of_one_step_and_no_more_codes() -> None:
    two = Steps(np.full(2, 0.3), np.full(2, -2), np.full(2, 1))
    assert AnySteps(2, -2, 1).contains(two)
    assert not AnySteps(2, -1, 1).contains(two)
    assert not AnySteps(3, -2, 1).contains(two)
    assert not AnySteps(2, -2, 1).contains(Steps(np.array([0.3, 0.6]), two.qmin, two.qmax))
    assert not AnySteps(2, -8, 7).contains(Levels(np.array([[0.0, 1.0]] * 2)))
    asymmetric = AnySteps(2, -3, 3, span=3)
    assert asymmetric.contains(two)
    assert not asymmetric.contains(Steps(two.step, np.full(2, -2), np.full(2, 2)))  # of four steps
    assert not asymmetric.contains(
        Steps(two.step, np.array([-3, 1]), np.array([-3, 1]))
    )  # of different inputs
    assert asymmetric.contains(AnySteps(2, -2, 1))
    assert not AnySteps(2, -2, 1).contains(asymmetric)
    assert AnySteps(2, -3, 3).contains(asymmetric)
    assert not two.contains(AnySteps(2, -2, 1))
    assert Reals(2).contains(asymmetric)
    assert not Reals(3).contains(asymmetric)


def test_values_of_ones_own_are_held_where_they_are_the_same_alone() -> None:
    class Own(Levels):
        def contains(self, other) -> bool:
            return super(Levels.__base__, self).contains(other)

    one, other = (Own(np.array([[0.0, 1.0]])) for _ in range(2))
    assert one.contains(one)
    assert not one.contains(other)


# ------------------------------------------------------------------------------------ problems

FORMATS = (
    *("50%", "25%", "1:4", "2:4", "1:2", "50%+int2", "2:4+int2", "1:4+int2", "int2", "int3"),
    *("int2:any", "2:4+nf4", "int2:channel", "int2:asym:any"),
)
INPUTS = 5


def whole_gram(rng: np.random.Generator) -> pvq.Gram:
    """One that is semidefinite exactly, often singular."""
    inputs = rng.integers(-3, 4, (int(rng.integers(3, 9)), INPUTS)).astype(float)
    return pvq.Gram(inputs.T @ inputs)


def least(problem: Problem) -> Fraction:
    """The least error, from all weights that are allowed."""
    if isinstance(problem, AnyScaleLeastSquares):
        return truth.least_error_at_any_scale(problem)
    return truth.least_error_of_any(problem) if problem.values.is_finite else truth.rational_optimum(problem)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_what_allows_more_has_no_larger_least_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gram, weights = whole_gram(rng), rng.standard_normal((1, INPUTS))
    posed = {
        name: pvq.formats.parse(name).problems(gram, weights)[0] for name in FORMATS if name != "2:4+nf4"
    }
    truths = {name: least(problem) for name, problem in posed.items() if name != "int2:asym:any"}
    for larger, smaller in itertools.permutations(truths, 2):
        if contains(posed[larger], posed[smaller]):
            assert truths[larger] <= truths[smaller], (larger, smaller)


def test_which_formats_allow_all_of_which() -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((2, 16))
    gram = pvq.Gram(np.eye(16))
    posed = {name: pvq.formats.parse(name).problems(gram, weights)[0] for name in FORMATS}
    found = {pair for pair in itertools.permutations(FORMATS, 2) if contains(*(posed[name] for name in pair))}
    free = {"50%+int2", "2:4+int2", "1:4+int2", "int2", "int2:channel"}
    expected = {
        "50%": {"25%", "1:4", "2:4", "1:2", "50%+int2", "2:4+int2", "1:4+int2", "2:4+nf4"},
        "25%": {"1:4", "1:4+int2"},
        "1:4": {"1:4+int2"},
        "1:2": {"1:4", "1:4+int2"},
        "2:4": {"1:4", "1:2", "2:4+int2", "1:4+int2", "2:4+nf4"},
        "50%+int2": {"2:4+int2", "1:4+int2"},
        "2:4+int2": {"1:4+int2"},
        "int2": {"50%+int2", "2:4+int2", "1:4+int2"},
        "int2:any": free,
        "int2:asym:any": free | {"int2:any"},
    }
    assert found == {(larger, smaller) for larger, held in expected.items() for smaller in held}


def test_nothing_is_known_of_other_grams_weights_or_scales() -> None:
    rng = np.random.default_rng(1)
    gram, weight = np.eye(8), rng.standard_normal(8)
    joint = pvq.IntegerLeastSquares(gram, weight, 0.3, -8, 7, pattern=(2, 4))
    assert contains(pvq.IntegerLeastSquares(gram.copy(), weight.copy(), 0.3, -8, 7), joint)
    for other in (
        pvq.IntegerLeastSquares(gram + np.diag([1e-15] + [0.0] * 7), weight, 0.3, -8, 7),
        pvq.IntegerLeastSquares(gram, np.nextafter(weight, 9.0), 0.3, -8, 7),
        pvq.IntegerLeastSquares(gram, weight, np.nextafter(0.3, 1.0), -8, 7),
        pvq.IntegerLeastSquares(gram, weight, 0.3, -8, 6),
        pvq.IntegerLeastSquares(gram[:4, :4], weight[:4], 0.3, -8, 7),
        pvq.SparseLeastSquares(gram, weight, nnz=3),
    ):
        assert not contains(other, joint)

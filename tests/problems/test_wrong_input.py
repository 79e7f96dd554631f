"""What is no problem is refused in one sentence that says where it is wrong."""

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.problems.supports import Groups

GRAM, WEIGHT = np.eye(4), [0.1, 0.2, 0.3, 0.4]
LEVELS = [-1.0, 0.0, 1.0]


def steps(scale=1.0, qmin=-1, qmax=1, **rule):
    return lambda: pvq.IntegerLeastSquares(GRAM, WEIGHT, scale, qmin, qmax, **rule)


def levels(given, **rule):
    return lambda: pvq.CodebookLeastSquares(GRAM, WEIGHT, given, **rule)


def own(values, rule=None):
    return lambda: pvq.LeastSquares(GRAM, WEIGHT, values, *([] if rule is None else [rule]))


SET = pvq.CodebookLeastSquares(GRAM, WEIGHT, LEVELS).values

WRONG = {
    "a scale too few": (steps([1, 2, 3]), "one scale for each of the 4 inputs, not 3"),
    "a scale of 0 in a group": (steps([1, 1, 0, 1]), "scale of input 2 must be positive"),
    "a scale that is none": (steps([1, 1, np.nan, 1]), "not finite"),
    "a box too few": (steps(qmin=[-1, -1]), "one qmin for each of the 4 inputs, not 2"),
    "a box that is empty": (steps(qmin=[-1, -1, 3, 0]), "qmin = 3 is larger than qmax = 1 at input 2"),
    "half a code": (steps(qmin=[-1, -1, 0.5, 0]), "whole number"),
    "codes beyond 32 bits": (steps(qmin=[-(2**40), 0, 0, 0]), "from -2147483648 to 2147483648"),
    "a box without 0": (steps(qmin=1, qmax=3, nnz=2), "0 is not among the values of input 0"),
    "one box without 0": (steps(qmin=[0, 0, 1, 0], pattern=(1, 2)), "0 is not among the values of input 2"),
    "two rules": (steps(pattern=(1, 2), nnz=3), "either nnz or pattern"),
    "too large a budget": (levels(LEVELS, nnz=5), "from 0 to 4, not 5"),
    "half a weight": (levels(LEVELS, nnz=1.5), "from 0 to 4, not 1.5"),
    "3:2": (levels(LEVELS, pattern=(3, 2)), "from 0 to 2, not 3"),
    "one number of two": (levels(LEVELS, pattern=(3,)), "two whole numbers N, M"),
    "a pattern's name": (levels(LEVELS, pattern="2:4"), "two whole numbers N, M"),
    "a stride that does not divide": (levels(LEVELS, pattern=(1, 2), stride=3), "A stride of 3"),
    "a stride without a pattern": (levels(LEVELS, stride=2), "A stride of 2 needs an N:M pattern"),
    "levels that fall": (levels([0.0, -1.0, 1.0]), "after 0 comes -1: sort them"),
    "levels given twice": (levels([0.0, 0.0, 1.0]), "must rise"),
    "one level": (levels([0.0]), "2 to 65536 levels, not 1"),
    "no level": (levels([]), "empty"),
    "too many levels": (levels(np.arange(70_000.0)), "2 to 65536 levels, not 70000"),
    "a level that is none": (levels([0.0, np.inf]), "not finite"),
    "texts": (levels(["a", "b"]), "real numbers"),
    "complex levels": (levels([0j, 1j]), "real numbers"),
    "a format's name": (levels("nf4"), "a list of rising numbers, or one such list for each input"),
    "a number": (levels(3.0), "a list of rising numbers, or one such list for each input"),
    "nothing": (levels(None), "a list of rising numbers, or one such list for each input"),
    "a number in an array": (levels(np.array(3.0)), "a list of rising numbers, or one such list"),
    "a list too few": (levels([LEVELS] * 3), "one list of levels, or 4, one for each input, not 3"),
    "one list that falls": (levels([LEVELS, LEVELS, LEVELS, [1.0, 0.0]]), "levels of input 3 must rise"),
    "one list of one level": (levels([LEVELS, LEVELS, LEVELS, [1.0]]), "levels of input 3, not 1"),
    "a number among lists": (levels([LEVELS, LEVELS, LEVELS, 1.0]), "list of levels of input 3"),
    "levels without 0": (levels([1.0, 2.0], nnz=2), "0 is not among the values of input 0"),
    "one list without 0": (
        levels([LEVELS, LEVELS, LEVELS, [1.0, 2.0]], pattern=(2, 4)),
        "0 is not among the values of input 3",
    ),
    "levels beyond float64's squares": (levels([-1e300, 0.0, 1.0]), "errors would overflow"),
    "a list for a value set": (own(LEVELS), "must be a ValueSet"),
    "a text for a rule": (own(SET, "2:4"), "a SupportRule"),
    "values of other inputs": (own(SET.among(np.arange(2))), "values for 2 inputs, but 4 weights"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_refused_in_one_sentence(name):
    make, text = WRONG[name]
    with pytest.raises(pvq.InputError) as caught:
        make()
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "codes", "text"),
    [
        (levels(LEVELS), [0, 1, 2, 3], "outside the grid [0, 2]: it is 3, of input 3"),
        (levels(LEVELS), [0, 1, -1, 0], "outside the grid [0, 2]: it is -1, of input 2"),
        (levels([LEVELS, LEVELS, LEVELS, [0.0, 1.0]]), [0, 1, 2, 2], "outside the grid [0, 1]: it is 2"),
        (steps(qmin=[0, 0, 0, -3]), [0, 0, 0, -4], "outside the grid [-3, 1]"),
        (levels(LEVELS, nnz=1), [0, 1, 1, 0], "keeps 2 of inputs 0..3, where 1 are allowed"),
        (steps(pattern=(1, 2), stride=2), [1, 0, 1, 0], "keeps 2 of inputs 0..2 (2 apart), where 1 are"),
        (levels(LEVELS), [0, 1, 1], "4 integers"),
        (levels(LEVELS), [0, 1, 1, 0.5], "4 integers"),
    ],
)
def test_codes_that_are_not_allowed_are_refused(make, codes, text):
    with pytest.raises(pvq.InputError) as caught:
        make().point(codes)
    assert text in str(caught.value)


def test_what_is_no_problem_or_no_result_is_refused_in_one_sentence():
    problem = pvq.SparseLeastSquares(np.eye(3), [1.0, 2.0, 3.0], nnz=1)
    bounds = pvq.solve(problem)
    for wrong in (
        lambda: pvq.solve(None),
        lambda: pvq.solve_channels([problem, None]),
        lambda: pvq.verify(None, bounds),
        lambda: pvq.verify(problem, None),
    ):
        with pytest.raises(pvq.InputError, match=r"not None\."):
            wrong()


def test_pruning_by_groups_that_are_not_alike_is_bounded():
    rule = Groups(np.array([0, 1, 0]), np.array([1, 0]))
    problem = pvq.SparseLeastSquares(np.eye(3), [1.0, 2.0, 3.0], nnz=0).under(rule)
    for method in ("relax", "exact"):
        bounds = pvq.solve(problem, method=method)
        assert bounds.error_lower <= 5.0 <= bounds.error_upper * (1.0 + 1e-12)
        assert pvq.verify(problem, bounds)

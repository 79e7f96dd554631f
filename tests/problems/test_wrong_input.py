"""What is no problem is refused in one sentence that says where it is wrong."""

import numpy as np
import pytest
from truth import least_error_of_any, rational_error

import pvqbounds as pvq
from pvqbounds.problems.sparse import nnz_of_density
from pvqbounds.problems.supports import AtMost, Budget, Groups, Pattern, SupportRule
from pvqbounds.problems.values import Levels, Steps

GRAM, WEIGHT = np.eye(4), [0.1, 0.2, 0.3, 0.4]
LEVELS = [-1.0, 0.0, 1.0]


def steps(scale=1.0, qmin=-1, qmax=1, **rule):
    return lambda: pvq.IntegerLeastSquares(GRAM, WEIGHT, scale, qmin, qmax, **rule)


def levels(given, **rule):
    return lambda: pvq.CodebookLeastSquares(GRAM, WEIGHT, given, **rule)


def own(values, rule=None):
    return lambda: pvq.LeastSquares(GRAM, WEIGHT, values, *([] if rule is None else [rule]))


def table(*rows, kind=np.float64):
    return own_lazily(lambda: Levels(np.array(rows, dtype=kind)))


def grid(step, qmin, qmax, kind=np.int64):
    ends = [np.full(4, end, dtype=kind) for end in (qmin, qmax)]
    return own_lazily(lambda: Steps(np.full(4, step), *ends))


def own_lazily(values, rule=None):
    return lambda: pvq.LeastSquares(GRAM, WEIGHT, values(), *([] if rule is None else [rule()]))


class Theirs(SupportRule):
    """Groups as somebody's rule might give them."""

    def __init__(self, *budgets):
        self.given = [(np.array(group), most) for group, most in budgets]

    def budgets(self, n: int) -> list[Budget]:
        return self.given

    def __str__(self) -> str:
        return "theirs"


def theirs(*budgets):
    return own_lazily(lambda: SET, lambda: Theirs(*budgets))


SPARSE = pvq.SparseLeastSquares(GRAM, WEIGHT, nnz=1)
SET = pvq.CodebookLeastSquares(GRAM, WEIGHT, LEVELS).values

WRONG = {
    "a scale too few": (steps([1, 2, 3]), "one scale for each of the 4 inputs, not 3"),
    "a scale of 0 in a group": (steps([1, 1, 0, 1]), "scale of input 2 must be positive"),
    "a scale that is none": (steps([1, 1, np.nan, 1]), "not finite"),
    "a box too few": (steps(qmin=[-1, -1]), "one qmin for each of the 4 inputs, not 2"),
    "a box that is empty": (steps(qmin=[-1, -1, 3, 0]), "qmin = 3 is larger than qmax = 1 at input 2"),
    "half a code": (steps(qmin=[-1, -1, 0.5, 0]), "whole number"),
    "codes beyond 32 bits": (steps(qmin=[-(2**40), 0, 0, 0]), "from -2147483648 to 2147483648"),
    "a grid whose ends overflow": (steps(1e300, -(2**31), 2**31 - 1), "its ends overflow"),
    "every scale of too many codes": (
        lambda: pvq.AnyScaleLeastSquares(GRAM, WEIGHT, -(2**15), 2**15),
        "65536 codes at most (int16), not for -32768 to 32768",
    ),
    "a density of nothing": (lambda: nnz_of_density(0.0, 4), "density must lie in (0, 1], not 0.0"),
    "an error of other inputs": (lambda: SPARSE.error([1.0, 2.0]), "that of 4 weights, not of 2"),
    "weights of other inputs": (lambda: SPARSE.checked([1.0, 2.0]), "must be 4 weights, not 2"),
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
    "a table of single precision": (table(*[LEVELS] * 4, kind=np.float32), "must be a float64 array"),
    "a table of levels that fall": (table(*[LEVELS] * 3, LEVELS[::-1]), "input 3 must rise, but after 1"),
    "a table that falls behind its largest": (table(*[[0.0, 5.0, 3.0, 5.0]] * 4), "after 5 comes 3"),
    "a table of a level that is none": (table(*[[0.0, np.nan]] * 4), "levels of input 0 are not finite"),
    "a set of steps of 0": (grid(0.0, -1, 1), "step of input 0 must be positive"),
    "a set of negative steps": (grid(-1.0, -1, 1), "step of input 0 must be positive"),
    "a set of steps that are none": (grid(np.nan, -1, 1), "step of input 0 must be positive"),
    "a set of empty boxes": (grid(1.0, 1, -1), "codes of input 0 must rise"),
    "a set of boxes beyond 32 bits": (grid(1.0, 0, 2**40), "codes of input 0 must rise"),
    "a set of half codes": (grid(1.0, -1.5, 1.5, float), "two of int64"),
    "steps of another kind": (lambda: pvq.IntegerLeastSquares.of_steps(GRAM, WEIGHT, SET), "class Steps"),
    "a group beyond the budgets": (
        own_lazily(lambda: SET, lambda: Groups([0, 1, 5, 5], [1, 1])),
        "numbered from 0 to 1",
    ),
    "a negative budget of a group": (own_lazily(lambda: SET, lambda: Groups([0] * 4, [-1])), "not negative"),
    "half a group": (own_lazily(lambda: SET, lambda: Groups([0.5] * 4, [1])), "whole numbers"),
    "a negative budget": (own_lazily(lambda: SET, lambda: AtMost(-1)), "from 0 to"),
    "more of a group than it has": (own_lazily(lambda: SET, lambda: Pattern(3, 2)), "from 0 to 2, not 3"),
    "a pattern of no stride": (own_lazily(lambda: SET, lambda: Pattern(1, 2, 0)), "stride of a pattern"),
    "a rule of overlapping groups": (theirs(([0, 1], 1), ([1, 2], 1)), "input 1 in more than one group"),
    "a rule about other inputs": (theirs(([0, 4], 1)), "names an input outside 0..3"),
    "a rule of half a budget": (theirs(([0, 1], 0.5)), "A budget must be a whole number"),
    "a rule of no groups": (theirs((["a"], 1)), "lists of whole numbers"),
    "another rule that is none": (
        lambda: pvq.SparseLeastSquares(GRAM, WEIGHT, nnz=1).under("2:4"),
        "must be a SupportRule",
    ),
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


@pytest.mark.parametrize("rule", [Theirs(([0, 2], 1)), Groups([0, -1, 0, -1], [1])])
@pytest.mark.parametrize("method", ["exact", "relax"])
def test_inputs_that_a_rule_leaves_out_have_no_limit(rule, method):
    gram, weight = np.eye(4) + 0.3, np.array([0.4, -0.7, 0.9, 0.2])
    coded = pvq.LeastSquares(gram, weight, SET, rule)
    pruned = pvq.SparseLeastSquares(gram, weight, nnz=0).under(rule)
    truths = least_error_of_any(coded), min(rational_error(pruned, kept) for kept in ([0, 1, 3], [1, 2, 3]))
    for problem, truth in zip((coded, pruned), truths, strict=True):
        bounds = pvq.solve(problem, method=method)
        assert bounds.error_lower <= truth <= bounds.error_upper
        assert pvq.verify(problem, bounds)


class MadeWhenAsked(list):
    """Lists of levels that live no longer than it takes to look at them."""

    def __iter__(self):
        return (list(row) for row in super().__iter__())


def test_lists_of_levels_that_are_made_when_asked_are_told_apart():
    given = MadeWhenAsked([[-1.0, 1.0], [-2.0, 2.0, 3.0], [0.0, 1.0], [5.0, 6.0]])
    values = pvq.CodebookLeastSquares(GRAM, WEIGHT, given).values
    assert [np.unique(row).tolist() for row in values.table] == [list(row) for row in given]

"""Formats whose scale is free, and those that a file's values stand for."""

from __future__ import annotations

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.errors import InputError
from pvqbounds.problems.any_scale import AnySteps
from pvqbounds.problems.formats.stored import stored_format
from pvqbounds.problems.values import Levels, Steps

RNG = np.random.default_rng(3)
WEIGHTS = RNG.standard_normal((2, 6))
GRAM = pvq.Gram(np.diag(RNG.uniform(0.5, 2.0, 6)))


def steps(scale: object, low: int = -8, high: int = 7) -> Steps:
    ends = (np.full(6, end, dtype=np.int64) for end in (low, high))
    return Steps(np.broadcast_to(np.asarray(scale, dtype=np.float64), 6).copy(), *ends)


@pytest.mark.parametrize("name", ["int4:any", "int4:tensor:any", "int2:any"])
def test_its_name_leads_back_and_its_problems_have_no_scale(name: str) -> None:
    form = pvq.formats.parse(name)
    assert form.name == name
    assert pvq.formats.parse(form.name) == form
    assert "any" in form.values.text()
    low, high = -(2 ** (form.bits - 1)), 2 ** (form.bits - 1) - 1
    for problem in form.problems(GRAM, WEIGHTS):
        assert isinstance(problem, pvq.AnyScaleLeastSquares)
        assert (problem.values.qmin, problem.values.qmax) == (low, high)


@pytest.mark.parametrize("name", ["int2:asym:any", "int4:any:asym", "2:4+int4:asym:any"])
def test_a_free_zero_point_has_codes_of_so_many_bits_in_a_row(name: str) -> None:
    form = pvq.formats.parse(name)
    assert form.name.endswith("asym:any")
    assert pvq.formats.parse(form.name) == form
    top = 2**form.bits - 1
    for problem in form.problems(GRAM, WEIGHTS):
        assert (problem.values.qmin, problem.values.qmax, problem.values.span) == (-top, top, top)
        assert len(problem.values.boxes) == top + 1
    assert form.values.side_bits((3, 6)) == 3 * (16 + form.bits)


def test_one_zero_point_for_the_layer_is_not_free() -> None:
    with pytest.raises(InputError, match="against another"):
        pvq.formats.parse("int4:tensor:asym:any")


def test_a_scale_for_each_channel_costs_more_than_one_for_all() -> None:
    each, one = (pvq.formats.parse(name).bits_per_weight((2, 6)) for name in ("int4:any", "int4:tensor:any"))
    assert each == 4 + 2 * 16 / 12  # a float16 a channel
    assert one == 4 + 16 / 12


@pytest.mark.parametrize(
    ("name", "values", "fault"),
    [
        ("int4:any", AnySteps(6, -8, 7), None),
        ("int4:any", AnySteps(6, -2, 1), "not that of 4 bits"),
        ("int4:any", steps(0.5), "takes any"),
        ("int4:asym:any", AnySteps(6, -15, 15, 15), None),
        ("int4:asym:any", AnySteps(6, -15, 15), "not that of 4 bits"),
        ("int4:any", AnySteps(6, -8, 7, 3), "not that of 4 bits"),
        ("int4:tensor:any", steps(0.5), None),
        ("int4:tensor:any", steps(0.5, -2, 1), "not that of 4 bits"),
        ("int4:tensor:any", steps([0.5] * 5 + [0.25]), "one for the layer"),
        ("int4:tensor:any", AnySteps(6, -8, 7), "one for the layer"),
    ],
)
def test_values_of_a_file_are_held_against_it(name: str, values: object, fault: str | None) -> None:
    found = pvq.formats.parse(name).values.fault(values)
    assert (found is None) == (fault is None)
    assert fault is None or fault in found[1]


@pytest.mark.parametrize(
    ("name", "free"),
    [
        ("int4", "int4:any"),
        ("int4:g3", "int4:g3"),
        ("25%", "25%"),
        ("int4:any", "int4:any"),
        ("int4:asym", "int4:asym:any"),
        ("int4:channel:asym", "int4:asym:any"),
        ("int4:g3:asym", "int4:g3:asym"),
    ],
)
def test_the_scale_of_a_format_is_freed_where_it_has_one(name: str, free: str) -> None:
    assert pvq.formats.parse(name).at_any_scale().name == free


def test_other_scales_of_groups_are_near_their_own() -> None:
    for name in ("int4:g3", "int4:g3:asym"):
        form = pvq.formats.parse(name)
        own, others = form.grids(WEIGHTS), form.alternatives(WEIGHTS)
        assert len(others) == len(WEIGHTS)
        for mine, theirs in zip(own, others, strict=True):
            assert len(theirs) > 1
            ratios = np.array([other.lattice / mine.lattice for other in theirs])
            assert ratios.min() > 0.5
            assert ratios.max() < 2.0
            assert (ratios != 1.0).any()
    assert pvq.formats.parse("int4").alternatives(WEIGHTS) == [[], []]  # a channel's scale is no group's
    assert pvq.formats.parse("25%").alternatives(WEIGHTS) == [[], []]


def test_no_scale_no_values() -> None:
    free = AnySteps(6, -2, 1)
    assert free.has_zero().all()
    assert not AnySteps(6, 1, 3).has_zero().any()
    np.testing.assert_array_equal(free.lowest, -np.inf)
    np.testing.assert_array_equal(free.highest, np.inf)
    assert str(free) == "any scale, codes -2..1"
    with pytest.raises(InputError, match="scale"):
        free.weight_of(free.zero_codes())


def test_rounding_without_a_scale_is_to_the_scale_of_least_weight_error() -> None:
    weight = WEIGHTS[0]
    rounded = AnySteps(6, -2, 1).rounded(weight)
    scales = np.linspace(0.01, 3.0, 3000)
    least = min(((np.clip(np.rint(weight / s), -2, 1) * s - weight) ** 2).sum() for s in scales)
    assert ((rounded - weight) ** 2).sum() <= least + 1e-9
    all_positive = AnySteps(6, 1, 3).rounded(np.abs(weight))  # no code 0, no range search
    assert all_positive.max() == pytest.approx(np.abs(weight).max())


def test_a_file_has_values_and_no_rule() -> None:
    form = stored_format("int4:g3", 4, True, None, True)
    assert form.name == "kept as in the file+int4:g3"
    assert form.bits == 4
    for rule in (lambda: form.values.side_bits((2, 6)), lambda: form.values.rows(WEIGHTS, WEIGHTS > 0)):
        with pytest.raises(InputError):
            rule()
    with pytest.raises(InputError):
        form.support.rule(6)
    assert form.values.fault(steps(0.5)) is None
    levels = Levels(np.tile([-1.0, 0.0, 2.5], (6, 1)))
    assert form.values.fault(levels)[0] == "grid"
    assert stored_format("nf4", 4, False, None, False).values.fault(levels) is None
    assert stored_format("", 0, False, (2, 4), False).name == "2:4"
    kept = pvq.SparseLeastSquares(GRAM, WEIGHTS[0], nnz=2)
    assert form.support.fault(kept) is None
    assert form.support.fault(pvq.SparseLeastSquares(GRAM, WEIGHTS[0], pattern=(1, 2)))[0] == "nnz"
    assert form.support.text(", keep 2") == "kept as in the file, keep 2"
    assert "as the file keeps" in form.support.condition("channel")

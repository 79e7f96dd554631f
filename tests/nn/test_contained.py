"""Weights found for one side of a layer count for the sides that allow them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import pvqbounds as pvq
from pvqbounds.errors import ContradictionError
from pvqbounds.nn.contained import no_worse_than_contained
from pvqbounds.results.layer import LayerReport, SharedBudget, Side

FORMATS = ("50%", "2:4", "2:4+int3", "int3", "int3:any")


@pytest.fixture(scope="module")
def report() -> LayerReport:
    torch.manual_seed(1)
    model = torch.nn.Linear(8, 2, bias=False)
    return pvq.nn.layer_bounds(model, "", torch.randn(40, 8), formats=FORMATS)


def spoilt(side: Side) -> Side:
    """The side as if nothing but zeros had been found, and nothing proved."""
    slices = []
    for own in side.slices:
        start = own.problem.point(np.zeros(own.problem.n, dtype=np.int64))
        bounds = replace(
            own.bounds, error_lower=0.0, certificate=None, status="bounded", error_upper=start.upper,
            weight=start.weight, codes=start.codes, support=start.support, scale=start.scale,
        )  # fmt: skip
        slices.append(replace(own, bounds=bounds))
    return replace(side, slices=tuple(slices))


@pytest.mark.parametrize(("at", "within"), [(0, 1), (1, 2), (3, 2), (4, 3)])
def test_a_side_takes_better_weights_of_those_within_it(report: LayerReport, at: int, within: int) -> None:
    """Pruning takes pruned and quantized weights, a grid those of few non-zeros, any scale those of one."""
    bad = spoilt(report.sides[at])
    assert bad.error_upper > report.sides[within].error_upper
    taken = no_worse_than_contained([bad, report.sides[within]])
    assert taken[1] is report.sides[within]
    assert taken[0].error_upper <= report.sides[within].error_upper
    assert taken[0].error_upper >= report.sides[at].error_upper * (1.0 - 1e-9)
    for own in taken[0].slices:
        assert pvq.verify(own.problem, own.bounds)
        assert own.problem.point(
            own.bounds.weight if own.bounds.codes is None else own.bounds.codes
        ).upper == (own.bounds.error_upper)


def test_pruned_weights_are_re_fitted_once_they_are_taken(report: LayerReport) -> None:
    taken = no_worse_than_contained([spoilt(report.sides[1]), report.sides[2]])[0]
    for own, joint in zip(taken.slices, report.sides[2].slices, strict=True):
        if np.array_equal(own.bounds.support, joint.bounds.support):
            assert own.bounds.error_upper < joint.bounds.error_upper


def test_nothing_is_taken_the_other_way_or_from_others(report: LayerReport) -> None:
    for at, other in ((2, 1), (1, 3), (3, 1)):
        bad = spoilt(report.sides[at])
        assert no_worse_than_contained([bad, report.sides[other]])[0] is bad
    assert all(a is b for a, b in zip(no_worse_than_contained(report.sides), report.sides, strict=True))


def test_a_side_whose_channels_share_a_budget_is_left_alone(report: LayerReport) -> None:
    shared = replace(spoilt(report.sides[0]), shared=SharedBudget(8, 0.0))
    assert no_worse_than_contained([shared, report.sides[1]])[0] is shared


def test_better_weights_than_a_certified_end_allows_are_a_contradiction(report: LayerReport) -> None:
    """A planted bound that is false: of 2:4, above what 2:4 with codes reaches."""
    joint = report.sides[2]
    false = spoilt(report.sides[1])
    slices = [
        replace(own, bounds=replace(own.bounds, error_lower=1.01 * other.bounds.error_upper, error_upper=1e9))
        for own, other in zip(false.slices, joint.slices, strict=True)
    ]
    with pytest.raises(ContradictionError):
        no_worse_than_contained([replace(false, slices=tuple(slices)), joint])


def test_layers_are_bounded_so(report: LayerReport, monkeypatch: pytest.MonkeyPatch) -> None:
    from pvqbounds.nn import bounds

    found = bounds.bounded_side
    monkeypatch.setattr(
        bounds, "bounded_side", lambda plan, posed, number, *rest: (
            spoilt(found(plan, posed, number, *rest)) if number == 0 else found(plan, posed, number, *rest)
        )
    )  # fmt: skip
    torch.manual_seed(1)
    model = torch.nn.Linear(8, 2, bias=False)
    again = pvq.nn.layer_bounds(model, "", torch.randn(40, 8), formats=FORMATS[:2])
    assert again.sides[0].error_upper <= again.sides[1].error_upper

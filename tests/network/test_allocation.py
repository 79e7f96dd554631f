"""Allocations against enumeration, and what they say."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import network_of

from pvqbounds.errors import InputError
from pvqbounds.network import allocation as module
from pvqbounds.network.allocation import (
    LayerChoices,
    Option,
    allocate,
    allocation_frontier,
    budget_of,
    choices_of,
    notes_of,
)
from pvqbounds.report.allocation import allocation_document, allocation_rows, allocation_text, frontier_steps


@st.composite
def layers(draw):
    """Layers of few weights whose ends are any numbers, far apart in size too."""
    made = []
    for number in range(draw(st.integers(1, 4))):
        options = []
        for form in range(draw(st.integers(1, 4))):
            ends = sorted(draw(st.tuples(*[st.floats(0.0, 1.0) | st.floats(1e-300, 1e-6)] * 2)))
            lower, upper = map(Fraction, ends)
            options.append(Option(f"f{form}", draw(st.integers(1, 100)), lower, upper, "certified"))
        made.append(LayerChoices(f"layer{number}", draw(st.integers(1, 50)), tuple(options)))
    return made


def enumerated(choices, budget):
    """(least sum of lower ends, least sum of reached errors), of all choices that fit."""
    fitting = [
        options
        for options in itertools.product(*(layer.options for layer in choices))
        if sum(option.size for option in options) <= budget
    ]
    return tuple(
        min(sum(getattr(option, end) for option in options) for options in fitting)
        for end in ("lower", "upper")
    )


def sizes(choices):
    each = [[option.size for option in layer.options] for layer in choices]
    return sum(map(min, each)), sum(map(max, each))


@settings(max_examples=25)
@given(st.data(), layers())
def test_against_enumeration(data, choices):
    budget = data.draw(st.integers(*sizes(choices)))
    found = allocate(choices, budget)
    lower, reached = enumerated(choices, budget)
    assert Fraction(found.error_lower) <= lower <= reached <= Fraction(found.error)
    assert found.error == pytest.approx(float(reached), rel=1e-12)
    assert found.error_lower == pytest.approx(float(lower), rel=1e-12)
    # what it says of itself is what its formats have
    named = {layer.layer: {o.format: o for o in layer.options} for layer in choices}
    own = [named[name][form] for name, form in found.choice.items()]
    assert found.size == sum(option.size for option in own) <= budget
    assert Fraction(found.error) >= sum(option.upper for option in own)


@settings(max_examples=8)
@given(st.data(), layers())
def test_a_lying_solver_moves_nothing(data, choices):
    budget = data.draw(st.integers(*sizes(choices)))
    honest = allocate(choices, budget)
    with pytest.MonkeyPatch.context() as patch:
        liar = tuple(data.draw(st.integers(0, len(layer.options) - 1)) for layer in choices)
        patch.setattr(module, "_proposed", lambda classes, budget: liar)
        found = allocate(choices, budget)
    assert (found.error, found.error_lower) == (honest.error, honest.error_lower)
    assert found.size <= budget


def option(form, size, lower, upper, kind="certified"):
    return Option(form, size, Fraction(lower), Fraction(upper), kind)


TWO = [
    LayerChoices("a", 10, (option("int2", 20, 0.25, 0.5), option("int4", 40, 0.0625, 0.125))),
    LayerChoices("b", 10, (option("int2", 20, 0.5, 0.75), option("int4", 40, 0.125, 0.125))),
]


def test_two_layers_by_hand():
    found = allocate(TWO, budget_of(TWO, 3.0))
    assert found.choice == {"a": "int2", "b": "int4"}
    assert (found.error, found.error_lower, found.size) == (0.625, 0.375, 60)
    assert allocation_text(found) == (
        "No choice among these formats at 3 bits a weight has less total error than 0.375; this one, of "
        "3.000 bits a weight, has 0.625, 1.667 times that."
    )
    document = allocation_document(found, "m")
    assert document["layers"][1]["format"] == "int4"
    assert "alike" in document["assumptions"]


def test_a_bound_that_is_not_proved_keeps_its_label():
    reported = [replace(TWO[0], options=(TWO[0].options[0], option("int4", 40, 0.0625, 0.125, "reported")))]
    found = allocate(reported, 40)
    assert found.lower_kind == "reported"
    assert "not proved" in allocation_text(found)


def test_a_budget_that_nothing_fits():
    with pytest.raises(InputError, match=r"smallest takes 2 \(5 bytes\), the largest 4 \(10 bytes\)"):
        allocate(TWO, 39)
    with pytest.raises(InputError, match="positive number"):
        budget_of(TWO, 0.0)


def test_decimals_are_taken_as_written():
    assert budget_of([LayerChoices("a", 10, TWO[0].options)], 4.3) == 43


def test_the_frontier_falls_and_ends_where_nothing_is_gained():
    frontier = allocation_frontier(TWO, 9)
    assert [own.budget for own in frontier] == list(range(40, 81, 5))  # the sizes 40, 60 and 80 among them
    assert [own.budget for own in allocation_frontier(TWO, 4)] == [40, 53, 60, 66, 80]
    errors = [own.error for own in frontier]
    assert errors == sorted(errors, reverse=True)
    assert (errors[0], errors[-1]) == (1.25, 0.25)
    rows = allocation_rows(frontier)
    assert rows[-1]["format of a"] == "int4"
    # what is drawn between two budgets holds there
    for step in frontier_steps(frontier):
        for budget in (step.start, 0.5 * (step.start + step.stop), step.stop):
            between = allocate(TWO, budget_of(TWO, budget))
            assert step.error_lower <= between.error_lower
            assert between.error <= step.error


# --------------------------------------------------------------------------- from reports


@pytest.fixture(scope="module")
def network():
    nn = pytest.importorskip("pvqbounds.nn")
    loaded = nn.load_model("digits")
    first = nn.layer_bounds(loaded, "block1.0", formats=["int2", "int4", "25%"], methods=[])
    return network_of([(first, 36), (replace(first, layer="other"), 360)])


def test_ends_and_sizes_are_those_of_the_sides(network):
    first, second = choices_of(network)
    side = network.layers[0].report.side("int4")
    own = first.options[1]
    assert own.size == round(side.bits_per_weight * 36)
    assert float(own.lower) == pytest.approx(side.error_lower / side.signal_enclosure.middle)
    assert own.lower <= Fraction(side.error_lower) / Fraction(side.signal_enclosure.lower)
    assert second.options[1].size == round(side.bits_per_weight * 360)


def test_sensitivities_weigh_layers(network):
    budget = budget_of(choices_of(network), 4.4)
    weighed = choices_of(network, ["int2", "int4"], {"block1.0": 1e6, "other": 0.0})
    assert weighed[0].options[0].upper == choices_of(network)[0].options[0].upper * 10**6
    assert weighed[1].options[0].upper == 0
    assert allocate(weighed, budget).choice["block1.0"] == "int4"


@pytest.mark.parametrize(
    ("given_ones", "sentence"),
    [
        ({"block1.0": 1.0}, "'other' has no sensitivity"),
        ({"block1.0": 1.0, "other": 1.0, "x": 1.0}, "none of the layers"),
        ({"block1.0": -1.0, "other": 1.0}, "must be 0 or more"),
        ({"block1.0": float("nan"), "other": 1.0}, "must be 0 or more"),
    ],
)
def test_sensitivities_that_do_not_fit(network, given_ones, sentence):
    with pytest.raises(InputError, match=sentence):
        choices_of(network, None, given_ones)


def test_formats_that_no_layer_has(network):
    with pytest.raises(InputError, match=r"no format 'nf4' to choose from; the network has int2, int4, 25%"):
        choices_of(network, ["nf4"])
    with pytest.raises(InputError, match="No layer has a result"):
        choices_of(replace(network, layers=()))


def test_what_a_choice_rests_on_is_said(network):
    assert notes_of(network) == ()
    first, second = network.layers
    part = replace(first, report=replace(first.report, channels=(4, 9)))
    lacking = replace(second, name="c", report=None, failures={"int2": "it broke"})
    told = notes_of(replace(network, layers=(part, second, lacking)))
    assert told == (
        "Neither counted nor given a format, for want of a result: 'c'.",
        "Not to be chosen, as they failed: 1 of the sides.",
        "Not to be chosen, as they have no result yet: 2 of the sides.",
        "Looked at on some channels only, whose error over signal stands for the layer's, in the bound too: "
        "'block1.0'.",
    )


def test_a_bound_on_some_channels_says_so():
    some = tuple(replace(layer, whole=layer.layer == "a") for layer in TWO)
    found = allocate(some, budget_of(some, 3.0))
    assert not found.whole
    assert allocation_text(found).startswith(
        "Of the channels that were looked at, not of whole layers: No choice"
    )
    assert allocation_text(allocate(TWO, budget_of(TWO, 3.0))).startswith("No choice")

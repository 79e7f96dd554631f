"""Weights that several layers share: seen in the model, kept in the store, counted once, exported once."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from command_line import run

torch = pytest.importorskip("torch")
from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations  # noqa: E402

import pvqbounds as pvq  # noqa: E402
from pvqbounds.errors import InputError  # noqa: E402
from pvqbounds.network.allocation import allocate, budget_of, choices_of, notes_of  # noqa: E402
from pvqbounds.network.export import compressed_model, export_weights  # noqa: E402
from pvqbounds.network.tied import common_side, error_in  # noqa: E402
from pvqbounds.nn import find_layer, layer_names  # noqa: E402
from pvqbounds.nn.tied import tied_layers  # noqa: E402
from pvqbounds.results.layer import Side, SliceResult  # noqa: E402
from pvqbounds.results.network import Tied  # noqa: E402
from pvqbounds.storage.network_store import Store  # noqa: E402


def small_tied() -> nn.Sequential:
    """Two layers of the same weights on different inputs, and one of its own."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))
    model[2].weight = model[0].weight
    return model.eval()


def rows() -> torch.Tensor:
    return torch.randn(30, 3, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, 4.0, 0.5])


FORMATS = ["int2", "int3", "25%"]


@pytest.fixture(scope="module")
def model():
    return small_tied()


@pytest.fixture(scope="module")
def store(model, tmp_path_factory):
    place = tmp_path_factory.mktemp("runs") / "tied"
    pvq.nn.network_bounds(model, rows(), store=place, formats=FORMATS, methods=[])
    return place


# ------------------------------------------------------------------------------- in the model


def test_layers_of_one_parameter_are_seen(model):
    assert tied_layers(model, layer_names(model)) == (Tied(("0", "2")),)
    assert tied_layers(model, ["2", "4"]) == (Tied(("2",), ("0.weight",)),)
    assert tied_layers(model, ["4"]) == ()


def test_an_embedding_is_none_of_the_layers():
    model = nn.ModuleDict({"embed": nn.Embedding(7, 3), "head": nn.Linear(3, 7, bias=False)})
    model["head"].weight = model["embed"].weight
    assert tied_layers(model, ["head"]) == (Tied(("head",), ("embed.weight",)),)


def test_parts_of_a_parameter_copies_and_what_is_computed_are_not_shared():
    attention = nn.MultiheadAttention(4, 2)
    assert tied_layers(attention, layer_names(attention)) == ()
    same = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    same.load_state_dict({**same.state_dict(), "1.weight": same[0].weight})
    assert tied_layers(same, ["0", "1"]) == ()
    normed = nn.Sequential(*(parametrizations.weight_norm(nn.Linear(3, 3)) for _ in range(8)))
    assert tied_layers(normed, layer_names(normed)) == ()


def test_a_module_in_two_places_is_one_layer():
    one = nn.Linear(3, 3)
    assert tied_layers(nn.Sequential(one, nn.ReLU(), one), ["0"]) == ()


def test_two_attentions_of_one_parameter():
    first, second = nn.MultiheadAttention(4, 2), nn.MultiheadAttention(4, 2)
    second.in_proj_weight = first.in_proj_weight
    model = nn.ModuleDict({"a": first, "b": second})
    found = tied_layers(model, layer_names(model))
    assert [own.layers for own in found] == [(f"a.{part}_proj", f"b.{part}_proj") for part in "qkv"]
    assert tied_layers(model, ["a.q_proj"]) == (Tied(("a.q_proj",), ("b.in_proj_weight",)),)


# ------------------------------------------------------------------------------- in the store


def test_a_store_keeps_it_and_a_later_run_sees_more(model, tmp_path):
    def tied(layers):
        pvq.nn.network_bounds(
            model, rows(), store=tmp_path / "s", formats=["int2"], methods=[], layers=layers
        )
        return Store.open(tmp_path / "s").read().tied

    assert tied(["0"]) == (Tied(("0",), ("2.weight",)),)
    assert tied(["2"]) == (Tied(("0", "2")),)


def changed(path, tied):
    document = json.loads((path / "network.json").read_text())
    document["tied"] = tied
    (path / "network.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    "tied",
    [
        [{"layers": ["0", "x"], "others": []}],
        [{"layers": ["0", "2"], "others": []}, {"layers": ["2"], "others": ["x"]}],
        [{"layers": ["0", "4"], "others": []}],
        [{"layers": "0", "others": []}],
        "0",
    ],
)
def test_what_cannot_be_shared_is_refused(store, tmp_path, tied):
    (tmp_path / "network.json").write_text((store / "network.json").read_text())
    changed(tmp_path, tied)
    with pytest.raises(InputError, match="tied"):
        Store.open(tmp_path)


def test_a_store_of_earlier_days_says_that_it_does_not_know(store, tmp_path, capsys):
    shutil.copytree(store, tmp_path / "s")
    document = json.loads((store / "network.json").read_text())
    del document["tied"]
    (tmp_path / "s" / "network.json").write_text(json.dumps(document))
    network = Store.open(tmp_path / "s").read()
    assert network.tied is None
    assert len(choices_of(network)) == 3
    assert run("allocate", str(tmp_path / "s"), "--bits-per-weight", "9") == 0
    assert "is not known of this store" in " ".join(capsys.readouterr().out.split())
    # a later run knows
    pvq.nn.network_bounds(small_tied(), store=tmp_path / "s", methods=[])
    assert Store.open(tmp_path / "s").read().tied == (Tied(("0", "2")),)


# ------------------------------------------------------------------------------- in allocations


def least(reports, form):
    """Least summed error over signal of weights of a format that some layers share, by enumeration."""
    sides = [report.side(form) for report in reports]
    signals = [side.signal_enclosure.middle for side in sides]
    total = 0.0
    for slices in zip(*(side.slices for side in sides), strict=True):
        steps = slices[0].problem.values
        boxes = [range(int(low), int(high) + 1) for low, high in zip(*steps.code_ends, strict=True)]
        codes = np.array(list(itertools.product(*boxes)))
        total += min(
            sum(
                float(off @ own.problem.gram @ off) / signal
                for own, signal in zip(slices, signals, strict=True)
                for off in [point * steps.step - own.problem.weight]
            )
            for point in codes
        )
    return total


@pytest.mark.parametrize("bits", [8.0, 8.5, 9.0, 10.0, 99.0])
def test_the_bound_holds_for_all_weights_that_could_be_shared(store, bits):
    network = Store.open(store).read()
    groups = [("0", "2"), ("4",)]
    layers = choices_of(network, ["int2", "int3"])
    assert [(own.layer, own.tied, own.weights) for own in layers] == [("0", ("2",), 9), ("4", (), 6)]
    budget = budget_of(layers, bits)
    found = allocate(layers, budget)
    truth = {
        (names, form): least([network.layer(name).report for name in names], form)
        for names in groups
        for form in ("int2", "int3")
    }
    size = {(layer.layer, option.format): option.size for layer in layers for option in layer.options}
    fitting = [
        forms
        for forms in itertools.product(("int2", "int3"), repeat=2)
        if sum(size[names[0], form] for names, form in zip(groups, forms, strict=True)) <= budget
    ]
    best = min(sum(truth[pair] for pair in zip(groups, forms, strict=True)) for forms in fitting)
    assert found.error_lower <= best * (1.0 + 1e-9)
    assert best <= found.error * (1.0 + 1e-9)
    assert found.choice["0"] == found.choice["2"]
    assert found.weights == 15
    assert found.size <= budget


def side_of(problem, form):
    bounds = pvq.solve(problem)
    return Side(form, 2.0, (SliceResult(0, (0, problem.n), problem, bounds),), {})


def test_what_is_reached_is_the_error_of_the_exact_values_of_codes():
    # 3 times the float64 of 0.1 is none: rounded, it is this weight, and would be without any error
    side = side_of(pvq.IntegerLeastSquares([[1.0]], [0.1 * 3], 0.1, -4, 3), "int3")
    exact = (3 * Fraction(0.1) - Fraction(0.1 * 3)) ** 2
    assert side.error_lower <= exact <= Fraction(error_in(side, side))


def test_codes_of_any_scale_keep_the_scale_that_was_found_for_them():
    weight = [1.0, 0.3]
    first, second = (pvq.AnyScaleLeastSquares(np.diag(power), weight, -2, 1) for power in ([1, 9], [9, 1]))
    own, other = side_of(first, "int2:any"), side_of(second, "int2:any")
    found = other.slices[0].bounds
    assert np.array_equal(found.weight, found.scale * found.codes)
    reached = first.error_of(found.weight).middle
    assert error_in(own, other) == pytest.approx(reached, rel=1e-12)
    assert error_in(own, other) > own.error_upper


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_reached_is_what_is_exported(model, store, tmp_path, form):
    network = Store.open(store).read()
    option = next(own for own in choices_of(network)[0].options if own.format == form)
    changed_model = compressed_model(network, model, form)
    assert changed_model[0].weight is changed_model[2].weight
    reached = 0.0
    for name in ("0", "2"):
        problems = [s.problem for s in network.layer(name).report.side(form).slices]
        off = find_layer(changed_model, name).weight - find_layer(model, name).weight
        signal = sum(problem.signal.middle for problem in problems)
        reached += float(((off @ problems[0].gram) * off).sum()) / signal
    assert float(option.upper) == pytest.approx(reached, rel=1e-5)
    alone = [Fraction(network.layer(name).report.side(form).error_upper) for name in ("0", "2")]
    assert option.upper >= min(alone)
    written = export_weights(network, model, tmp_path / "w.safetensors", choice=form)
    state = load_file(written.path)
    assert torch.equal(state["0.weight"], state["2.weight"])


def test_a_budget_over_the_layer_is_kept_by_what_is_shared(store):
    network = Store.open(store).read()
    shared = compressed_model(network, small_tied(), "25%")
    most = network.layer("0").report.side("25%").shared
    assert int((shared[0].weight != 0).sum()) <= (round(9 * 0.25) if most is None else most.nnz)


def test_sensitivities_of_layers_that_share_add_up(store):
    network = Store.open(store).read()
    equal, first, second = (
        choices_of(network, ["int2"], {"0": a, "2": b, "4": 0.0})[0].options[0]
        for a, b in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0))
    )
    assert equal.lower == first.lower + second.lower
    assert equal.upper == first.upper + second.upper


def test_packed_weights_are_shared_too(model, store, tmp_path):
    written = export_weights(
        Store.open(store).read(), model, tmp_path / "q", "compressed-tensors", {"0": "int3", "2": "int3"}
    )
    state = load_file(written.path / "model.safetensors")
    assert torch.equal(state["0.weight_packed"], state["2.weight_packed"])


def test_what_cannot_be_shared_by_an_export_is_told(model, store):
    network = Store.open(store).read()
    with pytest.raises(
        InputError, match="share their weights, which cannot be those in int2 and int3 of each"
    ):
        compressed_model(network, model, {"0": "int2", "2": "int3"})
    with pytest.raises(InputError, match=r"Layer '0' shares its weights \('0' and '2.weight'\)"):
        compressed_model(network, model, {"0": "int2"})
    with pytest.raises(InputError, match="share their weights, which cannot be those of 'rtn' of each"):
        compressed_model(network, model, "int2", method="rtn")


def test_what_is_counted_is_said(store):
    network = Store.open(store).read()
    assert "Counted once and given one format, as they have the very same weights: '0' and '2'." in notes_of(
        network
    )
    without = network.without(["2"])
    told = notes_of(without)
    assert any("and without what that loses by them: '0' ('2')" in text for text in told)
    assert "Left out, and so neither counted nor given a format: '2'." in told
    assert [own.tied for own in choices_of(without)] == [(), ()]


def test_a_format_that_one_of_them_lacks_is_not_chosen(store):
    network = Store.open(store).read()
    first, second, third = network.layers
    lacking = replace(second, report=replace(second.report, sides=second.report.sides[1:]))
    found = replace(network, layers=(first, lacking, third))
    assert [own.format for own in choices_of(found)[0].options] == ["int3", "25%"]
    assert any("not all of their layers have a result in it: int2" in text for text in notes_of(found))
    none = replace(network, layers=(first, replace(lacking, report=None), third))
    assert [(own.layer, own.tied) for own in choices_of(none)] == [("0", ()), ("4", ())]
    apart = replace(first, report=replace(first.report, sides=first.report.sides[:1]))
    with pytest.raises(InputError, match="no format in common"):
        choices_of(replace(network, layers=(apart, lacking, third)))


def test_layers_on_grids_of_their_own_are_refused():
    weights = [[1.0, 0.3, -0.2]]
    model = nn.ModuleDict({name: nn.Linear(3, 1, bias=False, dtype=torch.float64) for name in "ab"})
    model["a"].weight = nn.Parameter(torch.tensor(weights, dtype=torch.float64))
    model["b"].weight = model["a"].weight
    reports = [
        pvq.nn.layer_bounds(model, name, grams=np.diag(power), formats=["int2"], methods=[])
        for name, power in (("a", [1.0, 1.0, 1.0]), ("b", [0.0, 1.0, 1.0]))
    ]
    with pytest.raises(InputError, match=r"grids of their own \(as other inputs of theirs are always zero\)"):
        common_side(reports, "int2")


def test_layers_that_hold_the_same_weights_in_other_rows_are_refused(store):
    network = Store.open(store).read()
    first, second, third = network.layers
    turned = tuple(replace(side, slices=tuple(reversed(side.slices))) for side in second.report.sides)
    found = replace(
        network, layers=(first, replace(second, report=replace(second.report, sides=turned)), third)
    )
    with pytest.raises(InputError, match="no weights in int2 are known to suit both"):
        choices_of(found)
    assert len(choices_of(found.without(["2"]))) == 2

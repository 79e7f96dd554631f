"""Whole networks: every unit in the store, the same whatever the order, and refusals that say what to do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_network import contents, small_data, small_network
from torch import nn

import pvqbounds as pvq
from pvqbounds.errors import InputError, OutputError
from pvqbounds.nn.carried import carried, model_of
from pvqbounds.nn.gram_files import save_grams
from pvqbounds.nn.layers import find_layer, layer_names
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.network_store import Store, unit_files

FORMATS = ["int4", "25%"]


def bounds(store, **options):
    return pvq.nn.network_bounds(small_network(), small_data(), store=store, **{"formats": FORMATS} | options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "s"
    return folder, bounds(folder)


# ------------------------------------------------------------------------------------- results


def test_every_layer_in_every_format_is_what_the_layer_alone_has(whole):
    _, network = whole
    assert [entry.name for entry in network.layers] == ["0", "3", "5"]
    for entry in network.layers:
        alone = pvq.nn.layer_bounds(small_network(), entry.name, small_data(), formats=FORMATS)
        assert [side.format for side in entry.report.sides] == FORMATS
        for side, other in zip(entry.report.sides, alone.sides, strict=True):
            assert side.error_lower == pytest.approx(other.error_lower, rel=1e-9)
            assert side.error_upper == pytest.approx(other.error_upper, rel=1e-9)
            assert list(side.methods) == list(other.methods)


def test_units_are_proved_again_like_any_result(whole):
    folder, network = whole
    for entry in network.layers:
        for side in FORMATS:
            assert all(finding.holds for finding in verify_file(unit_files(folder, entry.name, side)[0]))


def test_processes_and_order_change_nothing(whole, tmp_path):
    bounds(tmp_path / "s", jobs=2)
    assert contents(tmp_path / "s") == contents(whole[0])


def test_a_later_run_adds_what_is_new_and_solves_nothing_again(whole, tmp_path, monkeypatch):
    bounds(tmp_path / "s", layers=["5"], formats=["25%"])
    path, _ = unit_files(tmp_path / "s", "5", "25%")
    before = path.stat().st_mtime_ns
    forward = nn.Sequential.forward
    bounds(tmp_path / "s", layers=["*"], formats=["int4", "25%"])
    assert path.stat().st_mtime_ns == before
    found = Store.open(tmp_path / "s").read()
    assert found.formats == ("25%", "int4")
    assert found.done == 6

    def never(self, *inputs):
        raise AssertionError("the Grams are there, and the model runs")

    monkeypatch.setattr(nn.Sequential, "forward", never)
    bounds(tmp_path / "s", formats=["int4", "25%", "int3"])
    monkeypatch.setattr(nn.Sequential, "forward", forward)
    assert Store.open(tmp_path / "s").read().done == 9


def test_what_a_later_run_does_not_say_is_as_it_was(tmp_path):
    bounds(tmp_path / "s", layers=["5"], formats=["int3"])
    assert (bounds(tmp_path / "s", formats=None).done, bounds(tmp_path / "s", formats=["25%"]).done) == (1, 2)
    later = bounds(tmp_path / "s", layers=["0"], formats=None)
    assert [entry.name for entry in later.layers] == ["0", "5"]  # as the model has them
    assert [entry.name for entry in bounds(tmp_path / "s", layers=["*"], formats=None).layers] == [
        "0",
        "3",
        "5",
    ]
    assert Store.open(tmp_path / "s").read().done == 6
    # data need not be given again where the Grams are there
    assert pvq.nn.network_bounds(small_network(), store=tmp_path / "s").done == 6


def test_formats_that_mean_nothing_for_a_layer_are_left_out(tmp_path):
    network = bounds(tmp_path / "s", formats=["2:4", "int4"], layers=["5"])
    entry = network.layers[0]
    assert network.planned == network.done == 2
    depthwise = nn.Sequential(nn.Conv2d(2, 2, 3, groups=2, bias=False))
    left = pvq.nn.network_bounds(depthwise, small_data(), store=tmp_path / "d", formats=["2:4", "int4"])
    assert (left.planned, left.done, left.failed) == (1, 1, 0)
    assert "removes none" in left.layers[0].left_out["2:4"]
    assert entry.left_out == {}


def test_methods_go_to_the_formats_that_they_are_for(tmp_path):
    network = bounds(tmp_path / "s", methods=["gptq:act-order", "magnitude"], layers=["5"])
    sides = network.layers[0].report.sides
    assert [list(side.methods) for side in sides] == [["gptq:act-order"], ["magnitude"]]


def test_seeds_are_those_of_the_unit(tmp_path):
    pair = [
        bounds(tmp_path / str(k), methods=["randomized"], layers=list(order), formats=["int4"])
        for k, order in enumerate((["3", "5"], ["5"]))
    ]
    codes = [network.layer("5").report.sides[0].methods["randomized"] for network in pair]
    assert all((one == other).all() for one, other in zip(*codes, strict=True))


def test_grams_may_go_when_their_layer_is_done(tmp_path):
    bounds(tmp_path / "s", layers=["5"], keep_grams=False)
    assert list((tmp_path / "s" / "grams").iterdir()) == []
    bounds(tmp_path / "s", layers=["5"], formats=["int3"], keep_grams=False)  # the model runs again
    assert Store.open(tmp_path / "s").read().done == 3


def test_time_for_the_run_closes_what_is_open(tmp_path):
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Linear(48, 6, bias=False))
    data = torch.randn(300, 48) @ torch.randn(48, 48)
    names = {"store": tmp_path / "s", "formats": ["int3"], "methods": []}
    first = pvq.nn.network_bounds(wide, data, **names, total_time=0.2).layers[0].report.sides[0]
    again = pvq.nn.network_bounds(wide, data, **names, total_time=4.0).layers[0].report.sides[0]
    assert again.error_lower >= first.error_lower
    assert again.error_upper <= first.error_upper
    assert again.error_upper - again.error_lower < first.error_upper - first.error_lower
    assert all(finding.holds for finding in verify_file(unit_files(tmp_path / "s", "0", "int3")[0]))


# ------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"time_limit": 7.0}, r"time_limit = 60\.0, not 7\.0"),
        ({"seed": 3}, "seed = 0, not 3"),
        ({"methods": ["rtn"]}, "methods = None"),
        ({"sample": 8}, "sample = None, not 8"),
        ({"range_method": "minmax"}, "range_method"),
    ],
)
def test_another_setting_is_refused_by_its_name(whole, change, says):
    before = contents(whole[0])
    with pytest.raises(InputError, match=says) as refusal:
        bounds(whole[0], **change)
    assert "another --store" in str(refusal.value)
    assert contents(whole[0]) == before


def test_other_weights_data_and_models_are_refused(whole):
    with pytest.raises(InputError, match="other weights of layer '0'"):
        pvq.nn.network_bounds(small_network(1), small_data(), store=whole[0], formats=FORMATS)
    with pytest.raises(InputError, match="begun with the data, not others"):
        pvq.nn.network_bounds(small_network(), small_data(1), store=whole[0], formats=FORMATS)
    with pytest.raises(InputError, match="holds the model 'Sequential', not 'Linear'"):
        pvq.nn.network_bounds(nn.Linear(3, 2), torch.randn(9, 3), store=whole[0], formats=FORMATS)


def test_grams_that_were_exchanged_are_not_used(tmp_path):
    bounds(tmp_path / "s", layers=["5"], formats=["int4"])
    others = pvq.nn.grams_of_layers(small_network(), ["5"], small_data(1))
    save_grams(others, Store.open(tmp_path / "s").grams_file("5"))
    later = bounds(tmp_path / "s", formats=["25%"]).layer("5")
    assert "does not hold the Grams that the store was begun with" in later.failures["25%"]
    assert [side.format for side in later.report.sides] == ["int4"]


def test_activations_that_are_not_finite_name_layer_and_batch_and_the_others_go_on(tmp_path):
    data = small_data()
    data[33, 0, 0, 0] = torch.inf
    network = pvq.nn.network_bounds(
        small_network(), data, store=tmp_path / "s", formats=["int4"], batch_size=10, layers=["0", "5"]
    )
    assert network.failed >= 1
    assert "layer '0' is not finite in batch 4 of the data" in network.layer("0").failures["int4"]


def test_a_unit_that_fails_is_told_and_the_others_stand(tmp_path, monkeypatch):
    from pvqbounds.network import solved

    solve = solved.solve_unit

    def broken(unit, *rest, **options):
        if unit.key == ("3", "25%"):
            raise ZeroDivisionError("planted")
        return solve(unit, *rest, **options)

    monkeypatch.setattr(solved, "solve_unit", broken)
    network = bounds(tmp_path / "s")
    assert (network.done, network.failed) == (5, 1)
    assert network.layer("3").failures == {"25%": "planted"}
    monkeypatch.setattr(solved, "solve_unit", solve)
    assert bounds(tmp_path / "s").failed == 0  # it is tried again


def test_a_full_disk_is_one_sentence_and_what_stands_is_kept(tmp_path, monkeypatch):
    write = Store.write_unit

    def full(self, report):
        if report.layer == "3":
            raise OutputError("unit.json cannot be written (No space left on device).")
        write(self, report)

    monkeypatch.setattr(Store, "write_unit", full)
    with pytest.raises(OutputError, match="No space left"):
        bounds(tmp_path / "s", layers=["3", "0"], formats=["int4"])
    assert Store.open(tmp_path / "s").read().failed == 0


@pytest.mark.parametrize("sample", [0, 2, 7, 8.5, "x", True])
def test_samples_that_cannot_be(tmp_path, sample):
    with pytest.raises(InputError, match="sample of channels"):
        bounds(tmp_path / "s", sample=sample)
    assert not (tmp_path / "s").exists()


# ------------------------------------------------------------------------------------- layers that travel


class Turned(nn.Module):
    """GPT-2's layer."""

    def __init__(self):
        super().__init__()
        self.nf, self.weight = 3, nn.Parameter(torch.randn(5, 3))

    def forward(self, x):
        return x @ self.weight


Turned.__name__ = "Conv1D"


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(5, 3),
        nn.Linear(5, 3).double(),
        nn.Linear(5, 3).bfloat16(),
        nn.Conv2d(4, 6, 3, groups=2),
        nn.ConvTranspose2d(4, 6, 3, groups=2),
        nn.Conv1d(4, 4, 3, groups=4),
        nn.MultiheadAttention(8, 2),
        Turned(),
    ],
)
def test_a_layer_without_its_model_is_the_same_layer(module):
    model = nn.Module()
    model.add_module("a", nn.Sequential(module))
    for name in layer_names(model):
        layer = find_layer(model, name)
        other = find_layer(model_of(carried(layer)), name)
        assert np.array_equal(other.weight, layer.weight)
        told = "description", "groups", "block", "channels", "inputs", "input_channels"
        assert all(getattr(other, part) == getattr(layer, part) for part in told)
        assert other.kind.parameter.shape == layer.kind.parameter.shape


def test_names_of_a_store_are_no_patterns(tmp_path):
    """Layers called like patterns, and one whose name no file could have, are gone on with as they are."""
    names = ["[ab]*", "a", "a?", "ab", "层" * 100]
    model = nn.ModuleDict({name: nn.Linear(3, 2) for name in names})
    model.forward = lambda x: torch.cat([layer(x) for layer in model.values()], 1)
    rows = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))

    def run(**options):
        found = pvq.nn.network_bounds(model, rows, store=tmp_path / "s", methods=[], **options)
        return [entry.name for entry in found.layers]

    assert run(layers=["[[]ab[]][*]"], formats=["int4"]) == ["[ab]*"]
    assert run(formats=["int4", "int3"]) == ["[ab]*"]
    assert run(layers=["a[?]"], formats=["int4"]) == ["[ab]*", "a?"]
    assert run() == ["[ab]*", "a?"]  # and not "ab"
    # a pattern that is the name of a layer stands for that one, too
    assert run(layers=["[ab]*"]) == ["[ab]*", "a", "a?", "ab"]
    assert run(layers=["层*"]) == names
    assert pvq.nn.network_bounds(model, store=tmp_path / "s", methods=[], jobs=2).done == 2 * len(names)

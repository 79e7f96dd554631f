"""Stores whose parts do not belong together, and results at the edge of what numbers can say."""

from __future__ import annotations

import json
import shutil
from collections import OrderedDict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pvqbounds.errors import InputError
from pvqbounds.network.allocation import LayerChoices, Option, allocate, allocation_frontier, choices_of
from pvqbounds.network.run import network_bounds
from pvqbounds.report.allocation import allocation_text
from pvqbounds.report.network_tables import network_view
from pvqbounds.report.page.document import page_html
from pvqbounds.report.tables import plain_text
from pvqbounds.storage.network_store import Store


def a_model(seed: int, *names: str) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(OrderedDict([(name, nn.Linear(6, 6)) for name in names or ("a", "b")])).eval()


def some_data(inputs: int = 6) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((64, inputs)).astype(np.float32)


def bounded(model: nn.Module, store: Path, **options):
    options = {"formats": ["int3"], "methods": ["rtn"]} | options
    return network_bounds(model, some_data(), store=store, **options)


def test_a_unit_of_another_model_is_refused(tmp_path):
    for seed in (0, 1):
        bounded(a_model(seed), tmp_path / str(seed))
    for kind in ("json", "npz"):
        shutil.copy(tmp_path / f"1/units/b/int3.{kind}", tmp_path / f"0/units/b/int3.{kind}")
    with pytest.raises(InputError, match="about other weights"):
        Store.open(tmp_path / "0").read()


def test_ends_that_cannot_be_are_refused(tmp_path):
    bounded(a_model(0), tmp_path)
    path = tmp_path / "units/a/int3.json"
    document = json.loads(path.read_text())
    for upper in (-1.0, 0.5 * document["sides"][0]["per_channel"][0]["error_lower"]):
        document["sides"][0]["per_channel"][0]["error_upper"] = upper
        path.write_text(json.dumps(document))
        with pytest.raises(InputError, match="ends cannot be"):
            Store.open(tmp_path).read()


def test_layers_are_not_added_of_another_model(tmp_path):
    bounded(a_model(0), tmp_path, layers=["a"])
    with pytest.raises(InputError, match="other weights of the model"):
        bounded(a_model(1), tmp_path, layers=["b"])


def test_compressed_weights_are_held_to_their_contents(tmp_path):
    from safetensors.torch import save_file

    model, file = a_model(0), tmp_path / "q.safetensors"
    save_file({name: t.round(decimals=1) for name, t in model.state_dict().items()}, file)
    bounded(model, tmp_path / "s", layers=["a"], formats=None, compressed=str(file))
    save_file({name: t.round(decimals=2) for name, t in model.state_dict().items()}, file)
    with pytest.raises(InputError, match="another file"):
        bounded(model, tmp_path / "s", layers=["b"], formats=None, compressed=str(file))
    with pytest.raises(InputError, match="no file or folder"):
        bounded(model, tmp_path / "t", formats=None, compressed=str(tmp_path / "none.safetensors"))
    assert not (tmp_path / "t").exists()


def test_plain_weights_of_levels_are_read_in_the_formats_that_they_were_given_beside(tmp_path):
    from safetensors.torch import save_file

    from pvqbounds.problems.formats.nf4 import NF4_LEVELS

    torch.manual_seed(0)
    model = nn.Sequential(OrderedDict(a=nn.Linear(48, 48), b=nn.Linear(48, 3))).eval()
    file, levels, state = tmp_path / "q.safetensors", np.array(NF4_LEVELS), model.state_dict()
    for name in ("a.weight", "b.weight"):
        weight = state[name].double().numpy()
        largest = np.abs(weight).max(axis=1, keepdims=True)
        nearest = np.abs(weight[..., None] / largest[..., None] - levels).argmin(axis=-1)
        state[name] = torch.from_numpy((levels[nearest] * largest).astype(np.float32))
    save_file(state, file)

    def asked(store: str, **options):
        limits = {"methods": [], "time_limit": 0.1}
        return network_bounds(model, some_data(48), store=tmp_path / store, **limits, **options)

    mine = {"mine": str(file)}
    assert asked("alone", layers=["b"], compressed=mine).failed == 1  # a format has to name the levels
    found = asked("s", layers=["b"], formats=["nf4:b48"], compressed=mine)
    assert found.failed == 0
    assert not found.layers[0].report.sides[1].compressed.steps
    again = asked("s", layers=["a"], formats=["int3"])  # the file keeps the formats of before
    assert again.failed == 0
    assert Store.open(tmp_path / "s").manifest.settings["file_formats"] == {"mine": ["nf4:b48"]}


def test_a_network_without_error_has_a_page(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(144, 2)).eval()
    model[0].weight.data[:, 36:] = 0.0  # SparseGPT spends its budget evenly over blocks of 128
    found = network_bounds(
        model, some_data(144), store=tmp_path, formats=["25%"], methods=["sparsegpt"], time_limit=3.0
    )
    assert found.layers[0].report.sides[0].sqnr_interval[0] > 300.0
    assert "no error" in page_html(found, allocation_frontier(choices_of(found)))


def test_names_are_no_markup(tmp_path):
    view = plain_text(network_view(bounded(a_model(0, "[/a]", "[b]c"), tmp_path)))
    assert "[/a]" in view
    assert "[b]c" in view


def test_nothing_is_said_of_a_larger_budget():
    options = [
        Option(name, size, Fraction(error), Fraction(error), "certified")
        for name, size, error in (("small", 3_000_000, "0.5"), ("large", 4_000_600, "0.1"))
    ]
    text = allocation_text(allocate([LayerChoices("a", 1_000_000, tuple(options))], 4_000_550))
    assert "at 4 bits a weight has less total error than 0.5" in text

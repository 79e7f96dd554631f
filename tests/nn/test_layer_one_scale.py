"""A layer with one free scale: its side, words, file, and what is changed in it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pvqbounds import nn as bounds_of
from pvqbounds.errors import InputError
from pvqbounds.network.settings import NetworkSettings, checked_formats
from pvqbounds.problems.formats import parse
from pvqbounds.report.tables import layer_text
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.results_read import read_layer
from pvqbounds.storage.results_written import write_layer


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(4)
    return torch.nn.Sequential(torch.nn.Linear(6, 3, bias=False)), torch.randn(50, 6)


@pytest.fixture(scope="module")
def report(model):
    network, data = model
    return bounds_of.layer_bounds(network, "0", data, formats=["int3", "int3:tensor:any", "int3:any"])


@pytest.fixture
def stored(report, tmp_path: Path) -> Path:
    path = tmp_path / "r.json"
    write_layer(report, path)
    return path


def test_it_lies_between_a_given_scale_and_one_for_each(report) -> None:
    fixed, one, each = report.sides
    assert one.error_lower <= one.error_upper <= fixed.error_upper * (1.0 + 1e-12)
    assert one.error_upper >= each.error_lower
    assert one.error_lower >= each.error_lower * (1.0 - 0.02)
    assert {float(s.problem.step[0]) for s in one.slices} == {one.one_scale.scale}
    assert set(one.methods) == set(fixed.methods)
    assert one.bits_per_weight == fixed.bits_per_weight


def test_words(report) -> None:
    text = " ".join(layer_text(report).split())
    assert "any scale for the layer" in text
    assert "(one" in text  # the words may stand in two lines


def test_a_file_holds_it(report, stored: Path) -> None:
    findings = verify_file(stored)
    assert [finding for finding in findings if not finding.holds] == []
    assert "sides[1].one_scale" in [finding.where for finding in findings]
    again = read_layer(stored).sides[1].one_scale
    own = report.sides[1].one_scale
    assert (again.scale, again.error_lower) == (own.scale, own.error_lower)
    assert np.array_equal(again.certificate.bounds, own.certificate.bounds)


def _fails(path: Path) -> list[str]:
    return [finding.where for finding in verify_file(path) if not finding.holds]


def test_what_is_raised_is_found(stored: Path) -> None:
    document = json.loads(stored.read_text())
    shared = document["sides"][1]["one_scale"]
    shared["error_lower"] *= 1.01
    shared["certificate"]["value"] *= 1.01
    stored.write_text(json.dumps(document))
    assert "sides[1].one_scale" in _fails(stored)


def test_another_scale_is_found(stored: Path) -> None:
    document = json.loads(stored.read_text())
    document["sides"][1]["one_scale"]["scale"] *= 1.1
    stored.write_text(json.dumps(document))
    assert "sides[1].one_scale" in _fails(stored)


def test_multipliers_that_are_changed_prove_nothing(stored: Path) -> None:
    beside = stored.with_suffix(".npz")
    with np.load(beside) as file:
        arrays = dict(file)
    name = next(name for name in arrays if "one_scale/" in name and name.endswith("/lam"))
    arrays[name] = 1.5 * arrays[name] + 0.1
    np.savez(beside, **arrays)
    document = json.loads(stored.read_text())
    document["arrays"]["sha256"] = hashlib.sha256(beside.read_bytes()).hexdigest()
    stored.write_text(json.dumps(document))
    assert "sides[1].one_scale" in _fails(stored)


def test_rows_that_lack_a_channel_are_refused(stored: Path) -> None:
    document = json.loads(stored.read_text())
    document["sides"][1]["one_scale"]["certificate"]["proofs"][0]["channels"].pop()
    stored.write_text(json.dumps(document))
    with pytest.raises(InputError, match="rows of 3 channels"):
        read_layer(stored)


def test_names_and_what_does_not_go_with_it(model) -> None:
    assert parse("int4:any:tensor").name == "int4:tensor:any"
    assert parse("int4:tensor:any").bits_per_weight((10, 16)) == 4 + 16 / 160
    network, data = model
    with pytest.raises(InputError, match="one scale for the whole layer"):
        bounds_of.layer_bounds(network, "0", data, formats=["2:4+int4:tensor:any"])
    with pytest.raises(InputError, match="one scale for the whole layer"):
        bounds_of.layer_bounds(network, "0", data, formats=["int4:tensor:any"], opt_dim=3)


def test_a_network_refuses_it() -> None:
    with pytest.raises(InputError, match="take int4:any"):
        checked_formats(NetworkSettings(), [parse("int4:tensor:any")], 8, others=False)
    checked_formats(NetworkSettings(), [parse("int4:any")], 8, others=False)

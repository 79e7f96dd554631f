"""``pvqbounds allocate`` on a store."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from command_line import run
from conforming import written_as_published
from small_networks import store_of

from pvqbounds import nn


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    loaded = nn.load_model("digits")
    first = nn.layer_bounds(loaded, "block1.0", formats=["int2", "int4", "25%"], methods=[])
    path = tmp_path_factory.mktemp("runs") / "digits"
    store_of([(first, 36), (replace(first, layer="other[red]"), 36)], path)
    return path


def test_an_allocation_is_told_written_and_drawn(store, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    files = ["--json", str(tmp_path / "a.json"), "--plot", str(tmp_path / "f.svg")]
    assert run("allocate", str(store), "--bits-per-weight", "3", *files) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "other[red]" in told
    assert "No choice among these formats at 3 bits a weight has less total error than" in told
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["schema"] == "pvqbounds.allocation/1"
    assert written_as_published(tmp_path / "a.json")
    assert document["error_lower"] <= document["error"]
    assert document["size_bits"] <= document["budget_bits"] == 3 * 72
    assert (tmp_path / "f.svg").stat().st_size > 0


def test_sensitivities_and_bytes(store, tmp_path, capsys):
    (tmp_path / "s.json").write_text('{"block1.0": 1e6, "other[red]": 0}')
    budget = ["--bytes", "31", "--sensitivities", str(tmp_path / "s.json")]
    assert run("allocate", str(store), *budget, "--json", str(tmp_path / "a.json")) == 0
    layers = json.loads((tmp_path / "a.json").read_text())["layers"]
    assert [layer["format"] for layer in layers] == ["int4", "int2"]
    assert "sensitivities given" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Give the budget"),
        (["--bytes", "3", "--bits-per-weight", "4"], "Give the budget"),
        (["--bytes", "3"], "the smallest takes"),
        (["--bits-per-weight", "nan"], "positive number"),
        (["--bits-per-weight", "4", "--format", "nf4"], "no format 'nf4' to choose from"),
        (["--bits-per-weight", "4", "--sensitivities", "no.json"], "There is no file"),
        (["--bits-per-weight", "4", "--plot", "a.json", "--json", "a.json"], "must end in"),
    ],
)
def test_wrong_usage_is_told_in_a_sentence(store, capsys, arguments, sentence):
    assert run("allocate", str(store), *arguments) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_sensitivities_of_another_kind(store, tmp_path, capsys):
    path = tmp_path / "s.json"
    for text, sentence in (("[1]", "an object of numbers"), ('{"a": "1"}', "where a number is wanted")):
        path.write_text(text)
        assert run("allocate", str(store), "--bytes", "999", "--sensitivities", str(path)) == 2
        assert sentence in " ".join(capsys.readouterr().err.split())

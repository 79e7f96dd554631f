"""``pvqbounds export`` on a store of the digits network; on problems: test_export_problem.py."""

from __future__ import annotations

import json

import numpy as np
import pytest
from command_line import run
from conforming import written_as_published
from safetensors import safe_open
from safetensors.torch import load_file
from small_networks import store_of

from pvqbounds import nn
from pvqbounds.nn.calibration import DataOptions, read_data, with_labels
from pvqbounds.storage.network_store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    loaded = nn.load_model("digits")
    report = nn.layer_bounds(loaded, "block1.0", formats=["int2", "int4"], methods=[])
    path = tmp_path_factory.mktemp("runs") / "digits"
    store_of([(report, 36)], path)
    return path


def test_what_is_written_and_what_it_costs(store, tmp_path, capsys):
    path = tmp_path / "best.safetensors"
    assert run("export", str(store), str(path), "--format", "int2", "--json", str(tmp_path / "e.json")) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "1 layers, 1 in int2" in told
    assert "On 360 samples: accuracy" in told  # the test images of the shipped network
    document = json.loads((tmp_path / "e.json").read_text())
    assert written_as_published(tmp_path / "e.json")
    assert document["before"]["accuracy"] > 0.98
    assert document["after"]["output_error"] > 0.0
    weights = load_file(path)["block1.0.weight"].reshape(4, -1)
    assert len(np.unique(weights)) <= 4


def test_an_allocation_and_packed_layers(store, tmp_path, capsys):
    folder = tmp_path / "q"
    budget = ["--bits-per-weight", "4.5", "--form", "compressed-tensors"]
    assert run("export", str(store), str(folder), *budget) == 0
    assert "1 in int4" in capsys.readouterr().out
    assert (folder / "config.json").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["x.safetensors"], "say in which of them"),
        (["x.bin", "--format", "int2"], ".safetensors"),
        (["x.safetensors", "--format", "int2", "--bits-per-weight", "4"], "not both"),
        (["x.safetensors", "--format", "nf4"], "no result in"),
        (["x.safetensors", "--form", "gguf"], "exported as"),
        (["x.lp", "--format", "int2"], "a store of a network, and the form lp is for a problem"),
        (["x.safetensors", "--format", "int2", "--nnz", "3"], "--nnz is for a problem"),
        (["x.safetensors", "--format", "int2", "--leave-out", "*"], "no weights to write"),
    ],
)
def test_wrong_usage_is_told_in_a_sentence(store, tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert run("export", str(store), *arguments) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "two"
    arguments = ["--layer", "block[12].0", "--format", "int4", "--format", "int2", "--jobs", "1"]
    assert run("network", "--store", str(path), *arguments, "--time-limit", "0.01", "--methods", "rtn") == 0
    return path


def test_layers_that_are_left_out_stay_dense_and_are_named(two, tmp_path, capsys):
    dense = dict(nn.load_model("digits").module.state_dict())
    path = tmp_path / "w.safetensors"
    arguments = ["--format", "int2", "--leave-out", "block2*", "--json", str(tmp_path / "e.json")]
    capsys.readouterr()
    assert run("export", str(two), str(path), *arguments) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Left out, and as the model has them: 'block2.0'." in told
    assert "1 layers, 1 in int2" in told
    assert written_as_published(tmp_path / "e.json")
    assert json.loads((tmp_path / "e.json").read_text())["left_out"] == ["block2.0"]
    state = load_file(path)
    assert (state["block2.0.weight"] == dense["block2.0.weight"]).all()
    assert not (state["block1.0.weight"] == dense["block1.0.weight"]).all()
    with safe_open(path, "pt") as file:
        said = file.metadata()
    assert json.loads(said["pvqbounds"]) == {"formats": {"block1.0": "int2"}, "left_out": ["block2.0"]}
    assert said["format"] == "pt"  # as transformers wants it


def test_a_budget_and_a_folder_know_what_is_left_out(two, tmp_path, capsys):
    budget = ["--bits-per-weight", "4.9", "--leave-out", "block1.0"]
    capsys.readouterr()
    assert run("allocate", str(two), *budget, "--json", str(tmp_path / "a.json")) == 0
    assert "Left out, and so neither counted nor given a format: 'block1.0'." in capsys.readouterr().out
    document = json.loads((tmp_path / "a.json").read_text())
    assert [layer["layer"] for layer in document["layers"]] == ["block2.0"]
    assert run("export", str(two), str(tmp_path / "q"), *budget, "--form", "compressed-tensors") == 0
    config = json.loads((tmp_path / "q" / "config.json").read_text())
    assert config["quantization_config"]["ignore"] == ["block1.0"]
    assert run("allocate", str(two), *budget[:2], "--leave-out", "block9*") == 2
    assert "No layer of the network is called like 'block9*'" in " ".join(capsys.readouterr().err.split())


def test_a_network_leaves_layers_out(two, tmp_path, capsys):
    options = ["--format", "int2", "--jobs", "1", "--time-limit", "0.01", "--methods", "rtn"]
    path = tmp_path / "w.safetensors"
    chosen = ["--layer", "block[12].0", "--leave-out", "*2.0", "--export", str(path)]
    capsys.readouterr()
    assert run("network", "--store", str(tmp_path / "s"), *chosen, *options) == 0
    assert "Left out, and as the model has them: 'block2.0'." in capsys.readouterr().out
    assert [own.name for own in Store.open(tmp_path / "s").read().layers] == ["block1.0"]
    # of a store that has it the layer stays, and is not replaced
    leave = ["--leave-out", "block1.0", "--export", str(path)]
    assert run("network", "--store", str(two), *leave, *options) == 0
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["pvqbounds"])["formats"] == {"block2.0": "int2"}
    for arguments, sentence in (
        (["--layer", "block1.0", "--leave-out", "block1*"], "No layer is left"),
        (["--leave-out", "nothing*"], "No layer is called like 'nothing*'"),
    ):
        assert run("network", "--store", str(tmp_path / "t"), *arguments) == 2
        assert sentence in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "t").exists()


def test_labels_beside_the_inputs_of_a_file(store, tmp_path, capsys):
    images, labels = np.random.default_rng(0).random((7, 1, 8, 8), dtype=np.float32), np.arange(7)
    np.savez(tmp_path / "d.npz", inputs=images, labels=labels)
    network = nn.load_model("digits").module
    data = read_data(tmp_path / "d.npz", network, DataOptions())
    found = with_labels(data, tmp_path / "d.npz", network)
    assert sorted(found) == ["images", "labels"]
    best = str(tmp_path / "best.safetensors")
    assert run("export", str(store), best, "--format", "int4", "--data", str(tmp_path / "d.npz")) == 0
    assert "On 7 samples: accuracy" in capsys.readouterr().out
    np.save(tmp_path / "d.npy", images)
    assert run("export", str(store), best, "--format", "int4", "--data", str(tmp_path / "d.npy")) == 0
    told = capsys.readouterr().out
    assert "accuracy" not in told
    assert "the same first class" in told


def test_a_run_ends_in_a_checkpoint(tmp_path, capsys):
    best = tmp_path / "best.safetensors"
    one = ["--store", str(tmp_path / "s"), "--layer", "block1.0", "--jobs", "1", "--export", str(best)]
    assert run("network", "digits", *one, "--format", "int2", "--format", "int3") == 2
    assert "one --format" in " ".join(capsys.readouterr().err.split())
    assert run("network", "digits", *one, "--format", "int2") == 0
    first = load_file(best)["block1.0.weight"]
    # the store has both formats then
    assert run("network", "digits", *one, "--format", "INT3") == 0
    second = load_file(best)["block1.0.weight"]
    assert len(np.unique(first)) <= 4 < len(np.unique(second)) <= 8

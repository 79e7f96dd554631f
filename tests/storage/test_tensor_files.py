"""Files of tensors that say more of themselves than is true."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pvqbounds.errors import InputError
from pvqbounds.nn.calibration import DataOptions, read_data
from pvqbounds.nn.gram_files import read_grams
from pvqbounds.nn.layers import find_layer
from pvqbounds.nn.weights import read_state
from pvqbounds.storage.tensor_files import (
    dense,
    read_index,
    read_safetensors,
    read_torch,
    state_of,
    tensors_in,
)


def _nested() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that they are a prototype
        return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


def _quantized() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8)


STRANGE: dict[str, Callable[[], torch.Tensor]] = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "nested": _nested,
    "meta": lambda: torch.ones(2, 2, device="meta"),
    "quantized": _quantized,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", STRANGE)
def test_tensors_without_their_numbers(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "w.pt"
    torch.save({"a": STRANGE[kind]()}, path)
    content = read_torch(path)
    with pytest.raises(InputError, match=r"'a' in .* is no dense tensor of plain numbers"):
        state_of(content, path)
    ((name, tensor),) = tensors_in(content, path)  # which may be of no interest to who lists them
    with pytest.raises(InputError, match=r"'a' in .* is no dense tensor of plain numbers"):
        dense(name, tensor, path)


def test_one_number_that_is_spread_over_a_shape(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"a": torch.ones(1).expand(2**20, 2**11), "b": torch.ones(1).expand(4, 4)}, path)
    assert path.stat().st_size < 10_000
    with pytest.raises(InputError, match="fewer numbers are stored"):
        state_of(read_torch(path), path)
    torch.save({"b": torch.ones(1).expand(4, 4)}, path)
    assert state_of(read_torch(path), path)["b"].shape == (4, 4)


def test_what_training_scripts_put_around_a_state_dictionary(tmp_path: Path) -> None:
    path, weight = tmp_path / "w.pt", nn.Parameter(torch.ones(2, 2))
    for content in (
        {"a": weight, 3: weight, "epoch": 7},
        {"state_dict": {"a": weight}, "optimizer": {"b": weight}},
        {"model": {"state_dict": {"a": weight}}},
    ):
        torch.save(content, path)
        state = state_of(read_torch(path), path)
        assert list(state) == ["a"]
        assert not state["a"].requires_grad
    for other in ([weight], weight, 3):
        torch.save(other, path)
        with pytest.raises(InputError, match="must hold a state dictionary"):
            state_of(read_torch(path), path)


def test_a_dictionary_that_holds_itself_has_an_end(tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    content["model"] = content
    torch.save(content, tmp_path / "w.pt")
    read = read_torch(tmp_path / "w.pt")
    assert state_of(read, tmp_path / "w.pt") == {}
    with pytest.raises(InputError, match="without an end"):
        list(tensors_in(read, "w.pt"))


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_refused(tmp_path: Path) -> None:
    torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(str(tmp_path / "m.pt"))
    with pytest.raises(InputError, match="TorchScript, whose code is not run"):
        read_torch(tmp_path / "m.pt")


@pytest.mark.parametrize("part", ["../w.safetensors", "..", ".", "", "a/b.safetensors", "a\0.safetensors"])
def test_an_index_that_leads_elsewhere(tmp_path: Path, part: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": part}}))
    with pytest.raises(InputError, match="no file of its own folder"):
        read_index(index)


@pytest.mark.parametrize("document", [[], {}, {"weight_map": []}, {"weight_map": {"a": 3}}])
def test_what_is_no_index(tmp_path: Path, document: Any) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps(document))
    with pytest.raises(InputError, match="no index of weights"):
        read_index(index)


def test_safetensors_of_every_reader_fail_in_one_sentence(tmp_path: Path) -> None:
    path, module = tmp_path / "w.safetensors", nn.Sequential(nn.Linear(2, 2))
    save_file({"0.weight": torch.ones(2, 2)}, path)
    assert torch.equal(read_safetensors(path)["0.weight"], torch.ones(2, 2))
    path.write_bytes(path.read_bytes()[:-3])
    for read in (
        read_safetensors,
        read_state,
        lambda path: read_data(path, module, DataOptions()),
        lambda path: read_grams(path, find_layer(module, "0")),
    ):
        with pytest.raises(InputError, match=r"w\.safetensors is damaged or not a \.safetensors file"):
            read(path)

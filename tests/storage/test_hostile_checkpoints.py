"""Checkpoints that somebody made to deceive or to break: each is refused in one sentence."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import LAYER, gptq, pack_quantized, write
from safetensors.torch import load_file, save_file
from test_checkpoints import CASES

from pvqbounds.errors import InputError
from pvqbounds.storage.checkpoints import open_checkpoint, read_layer


def _safetensors(path: Path, header: str, body: bytes = b"") -> Path:
    text = header.encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


def _tensor(dtype: str, shape: list[int], first: int, last: int) -> str:
    return json.dumps({"dtype": dtype, "shape": shape, "data_offsets": [first, last]})


@pytest.mark.parametrize(
    ("header", "body", "says"),
    [
        (f'{{"a": {_tensor("F32", [1], 0, 4)}, "a": {_tensor("I32", [1], 0, 4)}}}', b"\0" * 4, "twice"),
        (f'{{"a.weight": {_tensor("F32", [2], 0, 4)}}}', b"\0" * 4, "damaged"),
        (f'{{"a.weight": {_tensor("F32", [1], 4, 8)}}}', b"\0" * 4, "damaged"),
        (f'{{"a.weight": {_tensor("F32", [1], 0, 4)}}}', b"", "damaged"),
        (f'{{"a.weight": {_tensor("F32", [2**62, 4], 0, 0)}}}', b"", "damaged"),
        (f'{{"a.weight": {_tensor("Q7", [1], 0, 4)}}}', b"\0" * 4, "damaged"),
        ("[" * 5000, b"", "damaged"),
        ("{", b"", "damaged"),
    ],
)  # fmt: skip
def test_a_header_that_lies(tmp_path: Path, header: str, body: bytes, says: str) -> None:
    path = _safetensors(tmp_path / "model.safetensors", header, body)
    with pytest.raises(InputError, match=says) as error:
        open_checkpoint(path)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("content", [b"", b"abc", struct.pack("<Q", 2**63) + b"{}", struct.pack("<Q", 10**7)])
def test_a_header_without_an_end(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="header does not end"):
        open_checkpoint(path)


class Evil:
    """What runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, ("touch pwned",)


@pytest.mark.filterwarnings("error:Detected pickle protocol")  # a sentence is enough
@pytest.mark.parametrize("suffix", [".pt", ".bin", ".ckpt"])
def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.chdir(tmp_path)
    bare, zipped = tmp_path / f"bare{suffix}", tmp_path / f"zipped{suffix}"
    bare.write_bytes(pickle.dumps({"a.weight": Evil()}))
    torch.save({"a.weight": torch.ones(2, 2), "b": Evil()}, zipped)
    for path in (bare, zipped):
        with pytest.raises(InputError, match="never unpickled"):
            open_checkpoint(path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("content", [torch.ones(2, 2), [torch.ones(2)], 3])
def test_a_torch_file_without_a_state_dictionary(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(InputError, match="state dictionary"):
        open_checkpoint(tmp_path / "w.pt")


def test_sparse_tensors_are_no_weights(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.eye(3).to_sparse()}, tmp_path / "w.pt")
    with pytest.raises(InputError, match="no dense tensor"):
        open_checkpoint(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"quantization_config": {"bits": 4, "bits": 8}}', "twice"),
        ("[" * 3000, "damaged"),
        ('{"quantization_config": {"bits": ' + "9" * 400 + "}}", "digits"),
        ('{"quantization_config": {"bits": "four"}}', "does not say its bits"),
        ('{"quantization_config": {"bits": true}}', "does not say its bits"),
        ('{"quantization_config": {"bits": 5}}', "does not say its bits"),
        ('{"quantization_config": {"bits": 8}}', "not 32 codes of 8 bits"),
        ('{"quantization_config": {"bits": 4, "checkpoint_format": ["gptq"]}}', "version 1 or 2"),
    ],
)
def test_a_config_that_lies(tmp_path: Path, text: str, says: str) -> None:
    path, _ = gptq(tmp_path)
    (path / "config.json").write_text(text)
    with pytest.raises(InputError, match=says) as error:
        read_layer(open_checkpoint(path), LAYER)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("config", [3, "x", None, [], {"config_groups": 7}, {"config_groups": {"g": [1]}}])
def test_a_config_of_another_kind_says_nothing(tmp_path: Path, config: Any) -> None:
    path, weight = pack_quantized(tmp_path, 6)
    (path / "config.json").write_text(json.dumps({"quantization_config": config}))
    assert np.array_equal(read_layer(open_checkpoint(path), LAYER).weight, weight)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: p / "absent", "no file or folder"),
        (lambda p: p, "holds no .safetensors, .gguf or PyTorch file"),
        (lambda p: p / "weights.onnx", "not from"),
    ],
)
def test_what_is_no_checkpoint(tmp_path: Path, make: Callable[[Path], Path], says: str) -> None:
    path = make(tmp_path)
    if path.suffix:
        path.write_bytes(b"x")
    with pytest.raises(InputError, match=says):
        open_checkpoint(path)


def test_scales_whose_products_overflow(tmp_path: Path) -> None:
    scale = {"weight_scale": torch.full((3, 1), 1e307, dtype=torch.float64)}
    path = write(tmp_path, {"weight": torch.full((3, 8), 100, dtype=torch.int8)} | scale)
    with pytest.raises(InputError, match="so large that its weights overflow"):
        read_layer(open_checkpoint(path), LAYER)


def test_a_gptq_file_without_groups(tmp_path: Path) -> None:
    path, _ = gptq(tmp_path)
    tensors = load_file(path / "model.safetensors")
    for name in (f"{LAYER}.scales", f"{LAYER}.qzeros"):
        tensors[name] = tensors[name][:0]
    del tensors[f"{LAYER}.g_idx"]
    save_file(tensors, path / "model.safetensors")
    with pytest.raises(InputError, match="has no scales"):
        read_layer(open_checkpoint(path), LAYER)


@pytest.mark.parametrize("size", [1e308, 3e306, 5e-324, 1e-300])
@pytest.mark.filterwarnings("error")
def test_plain_weights_of_magnitudes_that_no_decoder_had(tmp_path: Path, size: float) -> None:
    weight = ((torch.arange(24).reshape(3, 8) % 7 - 3) / 3.0).double() * size
    path = write(tmp_path, {"weight": weight})
    with pytest.raises(InputError, match="no uniform grid"):
        read_layer(open_checkpoint(path), LAYER)


def test_two_files_that_hold_one_name(tmp_path: Path) -> None:
    path, _ = gptq(tmp_path)
    (path / "other.safetensors").write_bytes((path / "model.safetensors").read_bytes())
    with pytest.raises(InputError, match=r"Both model\.safetensors and other\.safetensors"):
        open_checkpoint(path)


def test_random_bytes_end_in_a_sentence(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path, _ = gptq(tmp_path)
    whole = bytearray((path / "model.safetensors").read_bytes())
    refused = 0
    for _ in range(200):
        damaged = bytearray(whole)
        for place in rng.integers(0, min(len(whole), 700), rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        (path / "model.safetensors").write_bytes(bytes(damaged[: rng.integers(1, len(whole) + 1)]))
        try:
            read_layer(open_checkpoint(path), LAYER)
        except InputError:  # nothing else
            refused += 1
    assert refused > 0


def _mutated(tensor: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """The tensor in another shape, of another length or type, or with other numbers."""
    kinds = (torch.int8, torch.int32, torch.uint8, torch.float32, torch.bfloat16, torch.int64, torch.bool)
    changes: list[Callable[[], torch.Tensor]] = [
        lambda: tensor.reshape(-1),
        lambda: tensor[: max(0, len(tensor) - 1)],
        lambda: torch.cat([tensor, tensor]),
        lambda: tensor.unsqueeze(0),
        lambda: tensor.T if tensor.dim() == 2 else tensor[:0],
        lambda: tensor.to(kinds[rng.integers(len(kinds))]),
        lambda: torch.full(tensor.shape, [0.0, -1.0, 127.0][rng.integers(3)]).to(tensor.dtype),
        lambda: torch.full(tensor.shape, [np.inf, np.nan, 1e38][rng.integers(3)]),
        lambda: torch.tensor(3.0).to(tensor.dtype),
    ]
    return changes[rng.integers(len(changes))]()


@pytest.mark.parametrize("case", CASES)
def test_tensors_that_were_tampered_with_end_in_a_sentence(tmp_path: Path, case: str) -> None:
    rng = np.random.default_rng(sorted(CASES).index(case))
    path, _ = CASES[case][0](tmp_path)
    whole = load_file(path / "model.safetensors")
    for _ in range(25):
        tensors = dict(whole)
        for name in rng.choice(sorted(whole), rng.integers(1, 3)):
            if rng.random() < 0.1 and len(tensors) > 1:
                tensors.pop(name, None)
            elif whole[name].dim():
                tensors[name] = _mutated(whole[name], rng).contiguous().clone()
        save_file(tensors, path / "model.safetensors")
        with contextlib.suppress(InputError):  # nothing else
            layer = read_layer(open_checkpoint(path), LAYER)
            for channel in range(layer.channels if layer.grid is not None else 0):
                layer.codes(channel)

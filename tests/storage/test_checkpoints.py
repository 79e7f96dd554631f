"""Compressed layers of every format: weights from an independent decoder, and the values that they had."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import (
    LAYER,
    awq,
    float8,
    fp4,
    gptq,
    int8,
    nf4,
    pack_quantized,
    packed,
    scales,
    two_four,
    write,
)
from safetensors.torch import load_file, save_file

from pvqbounds.errors import InputError
from pvqbounds.problems.supports import ALL, AtMost, Pattern
from pvqbounds.problems.values import Levels, Steps
from pvqbounds.storage.checkpoints import layers_in, open_checkpoint, read_layer

CT, E5M2 = "compressed-tensors", torch.float8_e5m2
CASES: dict[str, tuple[Callable[[Path], tuple[Path, Any]], str, str, int]] = {
    # what writes it, kind, values, values of a weight
    "pack 4": (pack_quantized, f"{CT} pack-quantized", "int4:g8", 16),
    "pack 3": (lambda p: pack_quantized(p, 3), f"{CT} pack-quantized", "int3:g8", 8),
    "pack 8": (lambda p: pack_quantized(p, 8, None), f"{CT} pack-quantized", "int8:channel", 256),
    "pack asym": (lambda p: pack_quantized(p, asymmetric=True), f"{CT} pack-quantized", "int4:g8:asym", 16),
    "pack 5": (lambda p: pack_quantized(p, 5, asymmetric=True), f"{CT} pack-quantized", "int5:g8:asym", 32),
    "pack act": (lambda p: pack_quantized(p, act_order=True), f"{CT} pack-quantized", "int4:g8", 16),
    "gptq v1": (gptq, "GPTQ version 1", "int4:g8:asym", 16),
    "gptq v2": (lambda p: gptq(p, version=2), "GPTQ version 2", "int4:g8:asym", 16),
    "gptq sym": (lambda p: gptq(p, symmetric=True), "GPTQ version 1", "int4:g8", 16),
    "gptq 3": (lambda p: gptq(p, 3, 2), "GPTQ version 2", "int3:g8:asym", 8),
    "gptq 8": (lambda p: gptq(p, 8), "GPTQ version 1", "int8:g8:asym", 256),
    "gptq act": (lambda p: gptq(p, act_order=True), "GPTQ version 1, act-order", "int4:g8:asym", 16),
    "awq": (awq, "AWQ", "int4:g8:asym", 16),
    "nvfp4": (lambda p: fp4(p, "nvfp4"), f"{CT} NVFP4", "nvfp4", 15),
    "modelopt": (lambda p: fp4(p, "modelopt"), "ModelOpt NVFP4", "nvfp4", 15),
    "mxfp4": (lambda p: fp4(p, "mxfp4"), f"{CT} MXFP4", "mxfp4", 15),
    "fp8 tensor": (lambda p: float8(p, "tensor"), "scaled float8", "fp8", 253),
    "fp8 channel": (lambda p: float8(p, "channel", E5M2), "scaled float8", "fp8:e5m2:channel", 247),
    "fp8 tile": (lambda p: float8(p, "tile"), "scaled float8", "fp8:tiles 4x8", 253),
    "int8": (int8, f"{CT} int8", "int8:channel", 256),
    "int4 naive": (lambda p: int8(p, 4, asymmetric=True), f"{CT} int8", "int4:channel:asym", 16),
    "2:4": (two_four, f"{CT} sparse bitmask", "", 0),
    "2:4 fp8": (
        lambda p: two_four(p, torch.float8_e4m3fn), f"{CT} sparse bitmask of f8_e4m3", "fp8:channel", 253,
    ),
    "nf4": (nf4, "bitsandbytes nf4", "nf4:b16", 16),
    "nf4 nested": (lambda p: nf4(p, nested=True), "bitsandbytes nf4", "nf4:b16:dq", 16),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_layer_is_decoded_to_the_last_bit_and_lies_on_its_own_grid(tmp_path: Path, case: str) -> None:
    build, kind, values, codes = CASES[case]
    path, weight = build(tmp_path)
    layer = read_layer(open_checkpoint(path), LAYER)
    assert (layer.kind, layer.values, layer.name) == (kind, values, LAYER)
    assert np.array_equal(layer.weight, weight)
    assert layer.shape == weight.shape
    if not codes:
        assert layer.grid is None
        return
    assert layer.grid is not None
    for channel, row in enumerate(weight):
        own = layer.grid.values(channel)
        assert isinstance(own, Steps) == layer.grid.has_steps
        assert isinstance(own, Levels) != layer.grid.has_steps
        low, high = own.code_ends
        assert ((high - low + 1) == codes).all()
        assert np.array_equal(own.weight_of(layer.codes(channel)), row)


@pytest.mark.parametrize(
    ("case", "bits"),
    [("pack 4", 4 + 16 / 8), ("pack asym", 4 + 16 / 8 + 4 * 8 / 6 / 8), ("gptq v1", 4 + 16 / 8 + 4 / 8),
     ("gptq act", 4 + 16 / 8 + 4 / 8 + 32 / 16), ("awq", 4 + 16 / 8 + 4 / 8), ("nvfp4", 4.5 + 32 / 256),
     ("mxfp4", 4.25), ("2:4", 8 + 1), ("nf4", 4 + 32 * 4 / 60), ("nf4 nested", 4 + (8 * 4 + 32 * 2) / 60)],
)  # fmt: skip
def test_the_size_is_that_of_the_tensors(tmp_path: Path, case: str, bits: float) -> None:
    layer = read_layer(open_checkpoint(CASES[case][0](tmp_path)[0]), LAYER)
    assert layer.bits_per_weight == pytest.approx(bits, rel=0.02)  # words are filled up


def test_act_order_gives_each_input_its_own_group(tmp_path: Path) -> None:
    path, _ = gptq(tmp_path, act_order=True)
    layer = read_layer(open_checkpoint(path), LAYER)
    own = load_file(path / "model.safetensors")[f"{LAYER}.g_idx"].numpy()
    assert layer.grid is not None
    step = layer.grid.values(3).arrays["step"]
    assert len(np.unique(own)) == len(np.unique(step))
    assert all((step[own == group] == step[own == group][0]).all() for group in np.unique(own))
    assert (np.diff(own) < 0).any()


def test_the_rule_is_that_of_the_zeros(tmp_path: Path) -> None:
    layer = read_layer(open_checkpoint(two_four(tmp_path / "a")[0]), LAYER)
    assert layer.rule(0, 0, 16) == Pattern(2, 4)
    joint = read_layer(open_checkpoint(two_four(tmp_path / "b", torch.float8_e4m3fn)[0]), LAYER)
    assert joint.rule(0, 0, 16) == Pattern(2, 4)
    assert read_layer(open_checkpoint(gptq(tmp_path / "c")[0]), LAYER).rule(0, 0, 32) == ALL


@pytest.mark.parametrize(("channels", "found"), [(1, False), (8, True)])
def test_zeros_of_codes_are_a_pattern_unless_it_may_be_chance(
    tmp_path: Path, channels: int, found: bool
) -> None:
    codes = np.random.default_rng(0).integers(1, 100, (channels, 32))
    codes[:, [0, 3, 4, 5, 9, 10, 12, 14, 17, 18, 20, 21, 25, 27, 30, 31]] = 0
    tensors = {"weight": torch.tensor(codes, dtype=torch.int8), "weight_scale": torch.ones(channels, 1)}
    layer = read_layer(open_checkpoint(write(tmp_path, tensors)), LAYER)
    assert layer.rule(0, 0, 32) == (Pattern(2, 4) if found else ALL)
    codes[0, 0] = codes[0, 3] = 1
    tensors["weight"] = torch.tensor(codes, dtype=torch.int8)
    assert read_layer(open_checkpoint(write(tmp_path, tensors)), LAYER).rule(0, 0, 32) == ALL


# ------------------------------------------------------------------------------- plain weights


def test_pruned_weights_keep_as_many_as_the_file_keeps(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(4, 12)).astype(np.float32)
    weight[0, :5] = weight[1, 3:9] = weight[2:, ::3] = 0.0
    layer = read_layer(open_checkpoint(write(tmp_path, {"weight": torch.tensor(weight)})), LAYER)
    assert layer.grid is None
    assert [layer.rule(c, 0, 12) for c in range(4)] == [AtMost(7), AtMost(6), AtMost(8), AtMost(8)]
    assert layer.rule(0, 0, 6) == AtMost(1)
    assert np.array_equal(layer.weight, weight)


def test_the_pattern_of_a_convolution_runs_along_its_input_channels(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(3, 8, 2, 2)).astype(np.float32)
    weight[:, [0, 1, 6, 7]] = 0.0
    layer = read_layer(open_checkpoint(write(tmp_path, {"weight": torch.tensor(weight)})), LAYER)
    assert layer.rule(0, 0, 32) == Pattern(2, 4, 4)
    assert layer.shape == (3, 8, 2, 2)


def test_weights_that_nobody_compressed_are_refused(tmp_path: Path) -> None:
    weight = torch.randn(4, 12)
    with pytest.raises(InputError, match="no uniform grid of 8 bits or fewer is found"):
        read_layer(open_checkpoint(write(tmp_path, {"weight": weight})), LAYER)


# ---------------------------------------------------------------------------------- containers


def test_a_sharded_folder_and_its_index(tmp_path: Path) -> None:
    path, weight = gptq(tmp_path)
    tensors = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    places = {}
    for i, names in enumerate((sorted(tensors)[:2], sorted(tensors)[2:])):
        part = f"model-0000{i + 1}-of-00002.safetensors"
        save_file({name: tensors[name] for name in names}, path / part)
        places |= dict.fromkeys(names, part)
    index = path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    for where in (path, index):
        assert np.array_equal(read_layer(open_checkpoint(where), LAYER).weight, weight)
    places[f"{LAYER}.absent"] = part
    index.write_text(json.dumps({"weight_map": places}))
    with pytest.raises(InputError, match=r"names 'model\.block\.fc\.absent' in model-00002-of"):
        open_checkpoint(path)
    del places[f"{LAYER}.absent"], places[f"{LAYER}.scales"]
    index.write_text(json.dumps({"weight_map": places}))
    with pytest.raises(InputError, match=r"does not say that .* holds 'model\.block\.fc\.scales'"):
        open_checkpoint(path)
    index.write_text(json.dumps({"weight_map": {"x": "../model.safetensors"}}))
    with pytest.raises(InputError, match="no file of its own folder"):
        open_checkpoint(path)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_torch_state_dict(tmp_path: Path, wrapped: bool) -> None:
    path, weight = pack_quantized(tmp_path)
    state = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    torch.save({"state_dict": state, "epoch": 3} if wrapped else state, path / "pytorch_model.bin")
    for where in (path, path / "pytorch_model.bin"):
        assert np.array_equal(read_layer(open_checkpoint(where), LAYER).weight, weight)


def test_a_layer_is_found_behind_a_prefix_of_either_side(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(gptq(tmp_path)[0])
    assert layers_in(checkpoint) == [LAYER]
    for name in (LAYER, "fc", "block.fc", f"wrapper.{LAYER}"):
        assert read_layer(checkpoint, name).name == LAYER
    with pytest.raises(InputError, match=r"holds no layer 'block\.fd'; did you mean 'model\.block\.fc'\?"):
        read_layer(checkpoint, "block.fd")
    tensors = load_file(tmp_path / "model.safetensors")
    twice = {
        name.replace("block", other): t for name, t in tensors.items() for other in ("block", "other.block")
    }
    save_file({name: t.clone() for name, t in twice.items()}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="nothing tells which"):
        read_layer(open_checkpoint(tmp_path), "fc")


# ------------------------------------------------------------------------- what does not fit


def _changed(path: Path, **tensors: torch.Tensor | None) -> Path:
    """The layer with some of its tensors replaced, added or left out."""
    file = path / "model.safetensors"
    own = {name.removeprefix(f"{LAYER}."): t for name, t in load_file(file).items()} | tensors
    save_file({f"{LAYER}.{name}": t.contiguous() for name, t in own.items() if t is not None}, file)
    return path


@pytest.mark.parametrize(
    ("build", "change", "says"),
    [
        (pack_quantized, {"weight_shape": torch.tensor([6, 40])}, "3 packed words a channel, but 40 codes"),
        (pack_quantized, {"weight_shape": torch.tensor([2**40, 2**40])}, "which no weight of a layer has"),
        (pack_quantized, {"weight_shape": torch.tensor([-6, -24])}, "which no weight of a layer has"),
        (pack_quantized, {"weight_scale": None}, "lacks 'weight_scale'"),
        (pack_quantized, {"weight_scale": scales((6, 5))}, "scales of shape"),
        (pack_quantized, {"weight_scale": torch.full((6, 3), float("nan"))}, "not finite"),
        (pack_quantized, {"weight_scale": torch.ones(6, 3, dtype=torch.int32)}, "of type 'i32'"),
        (pack_quantized, {"weight_zero_point": torch.zeros(3, 3, dtype=torch.int32)}, "zero_point' of shape"),
        (pack_quantized, {"weight_g_idx": torch.full((24,), 9, dtype=torch.int32)}, "names group 9 of 3"),
        (pack_quantized, {"surprise": torch.ones(2)}, "holds 'surprise' as well"),
        (gptq, {"scales": scales((4, 15))}, "in no format that is read"),
        (gptq, {"scales": scales((5, 16))}, "'qzeros' of shape"),
        (gptq, {"qzeros": torch.zeros(4, 3, dtype=torch.int32)}, "'qzeros' of shape"),
        (gptq, {"g_idx": torch.zeros(31, dtype=torch.int32)}, "not 31 codes of 4 bits"),
        (gptq, {"g_idx": torch.full((32,), -1, dtype=torch.int32)}, "names group -1 of 4"),
        (awq, {"scales": scales((3, 16))}, "3 groups of 32 inputs"),
        (lambda p: fp4(p, "nvfp4"), {"weight_global_scale": torch.zeros(1)}, "no number to divide by"),
        (lambda p: fp4(p, "nvfp4"), {"weight_scale": None}, "in no format that is read"),
        (lambda p: fp4(p, "mxfp4"), {"weight_scale": torch.full((4, 2), 255).to(torch.uint8)}, "no number"),
        (lambda p: float8(p, "channel"), {"weight_scale": scales((3, 1))}, "do not fit"),
        (two_four, {"bitmask": torch.zeros(4, 2, dtype=torch.uint8)}, "keeps 0 weights by its mask, but"),
        (two_four, {"row_offsets": torch.arange(4)}, "row offsets that are not those of its mask"),
        (nf4, {"weight": torch.zeros(7, 1, dtype=torch.uint8)}, "7 bytes of codes, where 60"),
        (nf4, {"weight.absmax": torch.ones(3)}, "'weight.absmax' of shape"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_named(
    tmp_path: Path, build: Callable[[Path], tuple[Path, Any]], change: dict[str, Any], says: str
) -> None:
    path = _changed(build(tmp_path)[0], **change)
    with pytest.raises(InputError, match=says) as error:
        read_layer(open_checkpoint(path), LAYER)
    assert len(str(error.value)) < 400


def test_awq_without_zero_points_is_symmetric(tmp_path: Path) -> None:
    path, weight = awq(tmp_path)
    tensors = load_file(path / "model.safetensors")
    zeros = torch.full_like(tensors[f"{LAYER}.qzeros"], 0x88888888 - 2**32)
    stated = read_layer(open_checkpoint(_changed(path, qzeros=zeros)), LAYER)
    left_out = read_layer(open_checkpoint(_changed(path, qzeros=None)), LAYER)
    assert np.array_equal(stated.weight, left_out.weight)
    assert not np.array_equal(stated.weight, weight)
    assert (left_out.values, stated.values) == ("int4:g8", "int4:g8")


def test_the_version_of_a_gptq_file_is_never_guessed(tmp_path: Path) -> None:
    path, _ = gptq(tmp_path)
    (path / "config.json").write_text(json.dumps({"quantization_config": {"bits": 4}}))
    with pytest.raises(InputError, match="GPTQ version 1 or 2"):
        read_layer(open_checkpoint(path), LAYER)
    path, weight = gptq(tmp_path / "symmetric", version=2, symmetric=True)
    (path / "config.json").unlink()  # zero points of 8 throughout tell themselves
    assert np.array_equal(read_layer(open_checkpoint(path), LAYER).weight, weight)


def test_a_weight_off_its_own_grid_is_named(tmp_path: Path) -> None:
    path, _ = int8(tmp_path, 4)
    codes = load_file(path / "model.safetensors")[f"{LAYER}.weight"]
    codes[2, 5] = 100
    layer = read_layer(open_checkpoint(_changed(path, weight=codes)), LAYER)
    assert layer.codes(1).max() < 8
    with pytest.raises(InputError, match=r"of input 5 of output channel 2 .* is off its own grid"):
        layer.codes(2)


def test_zero_and_negative_scales_have_the_values_that_they_decode_to(tmp_path: Path) -> None:
    q = np.array([[-8, 7, 1, 0] * 2] * 3)
    tensors = {
        "weight_packed": packed(q + 8, 4),
        "weight_scale": torch.tensor([[0.5], [0.0], [-0.25]]),
        "weight_shape": torch.tensor([3, 8]),
    }
    with pytest.raises(InputError, match="does not say its bits, and 1 or 2 or 3 or 4 fit"):
        read_layer(open_checkpoint(write(tmp_path / "bare", tensors)), LAYER)
    config = {"config_groups": {"g": {"weights": {"num_bits": 4}}}}
    layer = read_layer(open_checkpoint(write(tmp_path, tensors, config)), LAYER)
    assert layer.grid is not None
    ends = [layer.grid.values(c).code_ends for c in range(3)]
    assert [(int(low[0]), int(high[0])) for low, high in ends] == [(-8, 7), (0, 0), (-7, 8)]
    for channel in range(3):
        layer.codes(channel)
    assert layer.weight[2, 0] == 2.0
    assert not layer.weight[1].any()

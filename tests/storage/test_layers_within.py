"""Layers whose weights are a part of a stored tensor, stand in two, or lie in the order of the module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import E2M1, packed
from safetensors.torch import save_file
from torch import nn

from pvqbounds.errors import InputError
from pvqbounds.nn.carried import carried, model_of
from pvqbounds.nn.compressed import compressed_sides
from pvqbounds.nn.layers import find_layer
from pvqbounds.storage.checkpoints import open_checkpoint, read_layer

EXPERTS, WIDTH, INNER = 3, 64, 32
PREFIX = "model.layers.0.mlp.experts"


def _rng() -> np.random.Generator:
    return np.random.default_rng(3)


def _folder(path: Path, tensors: dict[str, torch.Tensor], config: dict[str, Any] | None = None) -> Path:
    path.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path / "model.safetensors")
    if config is not None:
        (path / "config.json").write_text(json.dumps({"quantization_config": config}))
    return path


def _multiples(shape: tuple[int, ...], step: float = 0.25) -> torch.Tensor:
    """Whole multiples of a step, from -8 to 7, both of them among each 32."""
    codes = _rng().integers(-8, 8, shape)
    codes[..., ::32], codes[..., 1::32] = -8, 7
    return torch.tensor(codes * step, dtype=torch.float32)


# ------------------------------------------------------------------------------ experts in one tensor


@pytest.mark.parametrize("number", range(EXPERTS))
def test_blocks_of_gpt_oss(tmp_path: Path, number: int) -> None:
    """As its files have them: E2M1, low half first, exponents of the scales beside it; biases are let be."""
    blocks = torch.tensor(_rng().integers(0, 256, (EXPERTS, 2 * INNER, WIDTH // 32, 16)), dtype=torch.uint8)
    scales = torch.tensor(_rng().integers(118, 126, (EXPERTS, 2 * INNER, WIDTH // 32)), dtype=torch.uint8)
    name = f"{PREFIX}.gate_up_proj"
    bias = torch.ones(EXPERTS, 2 * INNER)
    tensors = {f"{name}_blocks": blocks, f"{name}_scales": scales, f"{name}_bias": bias}
    checkpoint = open_checkpoint(_folder(tmp_path / "w", tensors))
    layer = read_layer(checkpoint, f"{PREFIX}.{number}.gate_up_proj")
    for row in range(2 * INNER):
        for place in range(WIDTH):
            octet = int(blocks[number, row, place // 32, place % 32 // 2])
            scale = 2.0 ** (int(scales[number, row, place // 32]) - 127)
            assert layer.weight[row, place] == E2M1[octet >> 4 if place % 2 else octet & 15] * scale
        layer.codes(row)
    assert (layer.kind, layer.values, layer.bits_per_weight) == ("gpt-oss MXFP4", "mxfp4", 4.25)
    assert layer.name == f"{name}[{number}]"
    with pytest.raises(InputError, match="has 3 experts, and none of number 3"):
        read_layer(checkpoint, f"{PREFIX}.3.gate_up_proj")
    del tensors[f"{name}_scales"]
    with pytest.raises(InputError, match="lacks 'weight_scales'"):
        read_layer(open_checkpoint(_folder(tmp_path / "w", tensors)), f"{PREFIX}.0.gate_up_proj")


def test_blocks_of_gpt_oss_as_transformers_decodes_them(tmp_path: Path) -> None:
    mxfp4 = pytest.importorskip("transformers.integrations.mxfp4")
    blocks = torch.tensor(_rng().integers(0, 256, (EXPERTS, 2 * INNER, WIDTH // 32, 16)), dtype=torch.uint8)
    scales = torch.tensor(_rng().integers(118, 126, (EXPERTS, 2 * INNER, WIDTH // 32)), dtype=torch.uint8)
    name = f"{PREFIX}.down_proj"
    path = _folder(tmp_path / "w", {f"{name}_blocks": blocks, f"{name}_scales": scales})
    decoded = mxfp4.convert_moe_packed_tensors(blocks, scales)  # (experts, in, out)
    for number in range(EXPERTS):
        layer = read_layer(open_checkpoint(path), f"{PREFIX}.{number}.down_proj")
        assert np.array_equal(layer.weight, decoded[number].mT.double().numpy())


class Experts(nn.Module):
    """Experts in one parameter, with an output a row or an input a row."""

    def __init__(self, turned: bool, concatenated: bool = True) -> None:
        super().__init__()
        self.is_concatenated = concatenated
        up, down = (EXPERTS, 2 * INNER, WIDTH), (EXPERTS, WIDTH, INNER)
        shapes = [(a, c, b) if turned else (a, b, c) for a, b, c in (up, down)]
        self.gate_up_proj, self.down_proj = (nn.Parameter(torch.randn(shape)) for shape in shapes)
        self.is_transposed = turned

    def forward(self, x: Any) -> Any:
        return x


def _layer(model: nn.Module, name: str, path: Path) -> Any:
    """What a file holds of a layer of the model, after it was held against its shape."""
    own = find_layer(model, name)
    (side,) = compressed_sides(path, own)
    alone = carried(own)  # as a network's layers travel
    (again,) = compressed_sides(path, find_layer(model_of(alone), name))
    assert np.array_equal(again.stored.weight, side.stored.weight)
    return side.stored


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("projection", ["gate_up_proj", "down_proj"])
def test_dequantized_experts_in_one_tensor(tmp_path: Path, turned: bool, projection: str) -> None:
    model = Experts(turned)
    own = getattr(model, projection)
    rows = own.mT if turned else own
    dense = _multiples(tuple(rows.shape)) * torch.tensor([1.0, 0.5, 0.125])[:, None, None]
    path = _folder(tmp_path / "w", {f"x.{projection}": dense.mT if turned else dense})
    wrapped = nn.Module()
    wrapped.x = model
    for number in range(EXPERTS):
        stored = _layer(wrapped, f"x.{number}.{projection}", path)
        assert np.array_equal(stored.weight, dense[number].double().numpy())
        assert stored.grid.values(0).step[0] == [0.25, 0.125, 0.03125][number]
        assert stored.values == "int4"


def test_groups_of_turned_experts_run_along_their_inputs(tmp_path: Path) -> None:
    wrapped = nn.Module()
    wrapped.x = Experts(True)
    each = torch.tensor(_rng().uniform(0.01, 0.02, (EXPERTS, WIDTH, 1, 1)).astype(np.float32))
    codes = _multiples((EXPERTS, WIDTH, 1, INNER), 1.0)
    dense = (codes * each).flatten(2)
    path = _folder(tmp_path / "w", {"x.down_proj": dense.mT})
    stored = _layer(wrapped, "x.1.down_proj", path)
    assert stored.values == "int4:channel"
    assert np.allclose(stored.weight, dense[1].double().numpy(), rtol=1e-6)


def test_float8_of_all_experts(tmp_path: Path) -> None:
    codes = torch.tensor(_rng().normal(size=(EXPERTS, WIDTH, INNER)) * 50).to(torch.float8_e4m3fn)
    scale = torch.tensor(_rng().uniform(0.01, 0.02, (EXPERTS, 2, 2)).astype(np.float32))
    name = f"{PREFIX}.down_proj"
    checkpoint = open_checkpoint(_folder(tmp_path / "w", {name: codes, f"{name}_scale_inv": scale}))
    for number in range(EXPERTS):
        layer = read_layer(checkpoint, f"{PREFIX}.{number}.down_proj")
        for row, place in ((0, 0), (31, 17), (40, 3), (63, 31)):
            factor = scale[number, row // 32, place // 16]
            wanted = codes[number, row, place].float() * factor
            assert layer.weight[row, place] == float(wanted)


@pytest.mark.parametrize("number", range(EXPERTS))
def test_zero_points_of_all_experts(tmp_path: Path, number: int) -> None:
    """As if the expert stood alone: int8 with a zero point for each channel."""
    name, rng = f"{PREFIX}.down_proj", _rng()
    codes = torch.tensor(rng.integers(-128, 128, (EXPERTS, WIDTH, INNER)), dtype=torch.int8)
    scale = torch.tensor(rng.uniform(0.01, 0.02, (EXPERTS, WIDTH, 1)).astype(np.float32))
    zero = torch.tensor(rng.integers(-5, 6, (EXPERTS, WIDTH, 1)), dtype=torch.int8)
    fused = {
        name: codes,
        f"{name}_scale": scale,
        f"{name}_zero_point": zero,
        f"{name}_input_scale": scale + 1,
    }
    layer = read_layer(open_checkpoint(_folder(tmp_path / "w", fused)), f"{PREFIX}.{number}.down_proj")
    wanted = (codes[number].double() - zero[number].double()) * scale[number].double()
    assert np.array_equal(layer.weight, wanted.numpy())
    assert layer.values == "int8:channel:asym"
    own = f"{PREFIX}.{number}.down_proj.weight"
    apart = {own: codes[number], f"{own}_scale": scale[number], f"{own}_zero_point": zero[number]}
    alone = read_layer(open_checkpoint(_folder(tmp_path / "apart", apart)), f"{PREFIX}.{number}.down_proj")
    assert np.array_equal(layer.weight, alone.weight)


@pytest.mark.parametrize("rest", ["_scale_2", "_zero", "_weight_scale", ".weight_scale", ".scale"])
@pytest.mark.parametrize("shape", [(), (EXPERTS,), (EXPERTS, WIDTH, 1)])
def test_what_lies_beside_all_experts_and_is_not_known_is_refused(
    tmp_path: Path, rest: str, shape: tuple[int, ...]
) -> None:
    codes = torch.tensor(_rng().normal(size=(EXPERTS, WIDTH, INNER)) * 50).to(torch.float8_e4m3fn)
    name = f"{PREFIX}.down_proj"
    fused = {name: codes, f"{name}_scale": torch.ones(EXPERTS, WIDTH, 1), f"{name}{rest}": torch.ones(shape)}
    checkpoint = open_checkpoint(_folder(tmp_path / "w", fused))
    with pytest.raises(InputError, match=f"holds '{rest}' as well, which its format does not have"):
        read_layer(checkpoint, f"{PREFIX}.1.down_proj")


def test_a_scale_that_all_experts_share(tmp_path: Path) -> None:
    codes = torch.tensor(_rng().integers(-128, 128, (EXPERTS, WIDTH, INNER)), dtype=torch.int8)
    name = f"{PREFIX}.down_proj"
    path = _folder(tmp_path / "w", {name: codes, f"{name}_scale": torch.tensor(0.5)})
    layer = read_layer(open_checkpoint(path), f"{PREFIX}.2.down_proj")
    assert np.array_equal(layer.weight, 0.5 * codes[2].double().numpy())


def test_what_is_not_of_as_many_experts_is_refused(tmp_path: Path) -> None:
    codes = torch.zeros(EXPERTS, WIDTH, INNER, dtype=torch.int8)
    name = f"{PREFIX}.down_proj"
    path = _folder(tmp_path / "w", {name: codes, f"{name}_scale": torch.ones(EXPERTS - 1, WIDTH, 1)})
    with pytest.raises(InputError, match=r"has 3 experts, but 'weight_scale' beside it is of shape \(2, "):
        read_layer(open_checkpoint(path), f"{PREFIX}.0.down_proj")


def test_two_names_of_one_tensor_of_all_experts_are_refused(tmp_path: Path) -> None:
    name = f"{PREFIX}.down_proj"
    dense = _multiples((EXPERTS, WIDTH, INNER))
    path = _folder(tmp_path / "w", {name: dense, f"{name}.weight": -dense})
    with pytest.raises(InputError, match=r"holds both .* nothing tells which of the two is meant"):
        read_layer(open_checkpoint(path), f"{PREFIX}.0.down_proj")


@pytest.mark.parametrize("shape", [(0, WIDTH), (6, 0)])
def test_packed_projections_without_weights_are_refused(tmp_path: Path, shape: tuple[int, int]) -> None:
    path = _folder(tmp_path / "w", {"a.in_proj_weight": torch.zeros(shape)})
    with pytest.raises(InputError, match="which is none of a layer"):
        read_layer(open_checkpoint(path), "a.q_proj")


def test_what_lies_beside_packed_projections_is_refused(tmp_path: Path) -> None:
    packed_rows = _multiples((3 * WIDTH, WIDTH))
    tensors = {"a.in_proj_weight": packed_rows, "a.in_proj_weight_scale": torch.ones(3 * WIDTH, 1)}
    with pytest.raises(InputError, match="holds '_scale' as well"):
        read_layer(open_checkpoint(_folder(tmp_path / "w", tensors)), "a.q_proj")


def test_experts_of_gguf(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    kind, path = gguf.GGMLQuantizationType.Q4_0, tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "qwen3moe")
    writer.add_block_count(2)
    rows = {}
    for name, shape in (("gate", (INNER, WIDTH)), ("up", (INNER, WIDTH)), ("down", (WIDTH, INNER))):
        weight = _rng().normal(size=(EXPERTS, *shape)).astype(np.float32) * len(name)
        rows[name] = gguf.quants.quantize(weight, kind)
        writer.add_tensor(f"blk.0.ffn_{name}_exps.weight", rows[name], raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    decoded = {name: gguf.quants.dequantize(each, kind).astype(np.float64) for name, each in rows.items()}
    checkpoint = open_checkpoint(path)
    for number in range(EXPERTS):
        down = read_layer(checkpoint, f"{PREFIX}.{number}.down_proj")
        assert np.array_equal(down.weight, decoded["down"][number])
        both = read_layer(checkpoint, f"{PREFIX}.{number}.gate_up_proj")
        assert np.array_equal(both.weight, np.concatenate([decoded["gate"][number], decoded["up"][number]]))
        assert both.bits_per_weight == 4.5
        turns = read_layer(checkpoint, f"{PREFIX}.{number}.gate_up_proj", interleaved=True)
        assert np.array_equal(turns.weight[0::2], decoded["gate"][number])
        assert np.array_equal(turns.weight[1::2], decoded["up"][number])
        for row in range(2 * INNER):
            both.codes(row)


# ------------------------------------------------------------------------------ experts apart


@pytest.mark.parametrize("words", [("gate_proj", "up_proj"), ("w1", "w3")])
@pytest.mark.parametrize("bits", [4, 8])
def test_gate_and_up_that_stand_apart_are_one_layer(tmp_path: Path, words: Any, bits: int) -> None:
    """As llmcompressor writes them, a matrix for each: packed integers, and Mixtral's names."""
    parent = PREFIX if words[0] == "gate_proj" else "model.layers.0.block_sparse_moe.experts"
    half, tensors, wanted = 1 << (bits - 1), {}, []
    for place, word in enumerate(words):
        codes = _rng().integers(-half, half, (INNER, WIDTH)) * (1 - 2 * place) - place
        scale = torch.tensor(_rng().uniform(0.01, 0.02, (INNER, 2)) * (place + 1)).half()
        each = {
            "weight_packed": packed(codes + half, bits),
            "weight_scale": scale,
            "weight_shape": torch.tensor([INNER, WIDTH]),
        }
        tensors |= {f"{parent}.1.{word}.{name}": tensor for name, tensor in each.items()}
        wanted.append(codes * np.repeat(scale.double().numpy(), WIDTH // 2, axis=1))
    config = {"config_groups": {"g": {"weights": {"num_bits": bits}}}}
    checkpoint = open_checkpoint(_folder(tmp_path / "w", tensors, config))
    layer = read_layer(checkpoint, f"{PREFIX}.1.gate_up_proj")
    assert np.array_equal(layer.weight, np.concatenate(wanted))
    assert layer.values == f"int{bits}:g32"
    assert layer.bits_per_weight == bits + 16 / 32
    for row in range(2 * INNER):
        assert np.array_equal(layer.grid.values(row).weight_of(layer.codes(row)), np.concatenate(wanted)[row])
    with pytest.raises(InputError, match="holds no layer"):
        read_layer(checkpoint, f"{PREFIX}.2.gate_up_proj")
    alone = {name: tensor for name, tensor in tensors.items() if f".{words[1]}." not in name}
    with pytest.raises(InputError, match="holds no layer"):
        read_layer(open_checkpoint(_folder(tmp_path / "w", alone, config)), f"{PREFIX}.1.gate_up_proj")


@pytest.mark.parametrize("concatenated", [True, False])
@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize("stored", ["plain", "int8", "float8", "mxfp4"])
def test_channels_of_gate_and_up_come_in_the_order_of_the_model(
    tmp_path: Path, concatenated: bool, turned: bool, stored: str
) -> None:
    """One above the other, or by turns as gpt-oss has them: the model's own product says which."""
    wrapped, tensors, wanted = nn.Module(), {}, []
    wrapped.x = Experts(turned, concatenated)
    for place, word in enumerate(("gate_proj", "up_proj")):
        scale = torch.tensor(_rng().uniform(0.01, 0.02, (INNER, 1)).astype(np.float32)) * (place + 1)
        if stored == "mxfp4":
            octets = torch.tensor(_rng().integers(0, 256, (INNER, WIDTH // 2)), dtype=torch.uint8) ^ place
            exponents = torch.full((INNER, 2), 120 + place, dtype=torch.uint8)
            tensors |= {
                f"x.1.{word}.weight_packed": octets,
                f"x.1.{word}.weight_scale": exponents + (torch.arange(INNER) % 3)[:, None].to(torch.uint8),
            }
            codes = torch.stack([octets & 15, octets >> 4], dim=-1).reshape(INNER, WIDTH)
            factor = 2.0 ** (tensors[f"x.1.{word}.weight_scale"][:, :1].double() - 127)
            wanted.append(torch.tensor(E2M1, dtype=torch.float64)[codes.long()] * factor)
            continue
        codes = _multiples((INNER, WIDTH), 1.0 - 2.0 * place)
        kind = {"plain": torch.float32, "int8": torch.int8, "float8": torch.float8_e4m3fn}[stored]
        if stored == "plain":
            tensors[f"x.1.{word}.weight"] = codes * scale
        else:
            tensors |= {f"x.1.{word}.weight": codes.to(kind), f"x.1.{word}.weight_scale": scale}
        wanted.append((codes * scale).double())
    layer = _layer(wrapped, "x.1.gate_up_proj", _folder(tmp_path / "w", tensors))
    found = torch.from_numpy(layer.weight)
    gate, up = found.chunk(2) if concatenated else (found[::2], found[1::2])
    torch.testing.assert_close(gate, wanted[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(up, wanted[1], rtol=1e-6, atol=0)
    for row in range(2 * INNER):
        assert np.array_equal(layer.grid.values(row).weight_of(layer.codes(row)), layer.weight[row])


def test_halves_of_different_numbers_of_channels_do_not_come_by_turns(tmp_path: Path) -> None:
    name = f"{PREFIX}.0"
    tensors = {f"{name}.gate_proj.weight": _multiples((INNER, WIDTH))}
    tensors[f"{name}.up_proj.weight"] = _multiples((2 * INNER, WIDTH))
    checkpoint = open_checkpoint(_folder(tmp_path / "w", tensors))
    assert read_layer(checkpoint, f"{name}.gate_up_proj").channels == 3 * INNER
    with pytest.raises(InputError, match="whose channels come by turns"):
        read_layer(checkpoint, f"{name}.gate_up_proj", interleaved=True)


def test_halves_that_are_stored_in_two_ways_are_refused(tmp_path: Path) -> None:
    name = f"{PREFIX}.0"
    tensors = {
        f"{name}.gate_proj.weight": _multiples((INNER, WIDTH)),
        f"{name}.up_proj.weight": torch.zeros(INNER, WIDTH, dtype=torch.int8),
        f"{name}.up_proj.weight_scale": torch.ones(INNER, 1),
    }
    with pytest.raises(InputError, match="are one layer of the model, but are stored in different ways"):
        read_layer(open_checkpoint(_folder(tmp_path / "w", tensors)), f"{PREFIX}.0.gate_up_proj")


def test_levels_of_two_halves(tmp_path: Path) -> None:
    tensors, wanted = {}, []
    for place, word in enumerate(("gate_proj", "up_proj")):
        octets = torch.tensor(_rng().integers(0, 256, (INNER, WIDTH // 2)), dtype=torch.uint8)
        exponents = torch.tensor(_rng().integers(118, 122, (INNER, 2)) + place, dtype=torch.uint8)
        name = f"{PREFIX}.0.{word}"
        tensors |= {f"{name}.weight_packed": octets, f"{name}.weight_scale": exponents}
        codes = np.stack([octets & 15, octets >> 4], axis=-1).reshape(INNER, WIDTH)
        scale = np.repeat(2.0 ** (exponents.double().numpy() - 127), 32, axis=1)
        wanted.append(np.array(E2M1)[codes] * scale)
    layer = read_layer(open_checkpoint(_folder(tmp_path / "w", tensors)), f"{PREFIX}.0.gate_up_proj")
    assert np.array_equal(layer.weight, np.concatenate(wanted))
    for row in range(2 * INNER):
        values = layer.grid.values(row)
        assert np.array_equal(values.weight_of(layer.codes(row)), np.concatenate(wanted)[row])


# ------------------------------------------------------------------------------ turned layers


class Conv1D(nn.Module):
    """As in GPT-2: the weight has an input a row."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf)), nn.Parameter(torch.randn(nf))

    def forward(self, x: Any) -> Any:
        return torch.addmm(self.bias, x.reshape(-1, self.nx), self.weight).view(*x.shape[:-1], self.nf)


@pytest.mark.parametrize("channels", [24, 64])
def test_gpt2s_layer_in_a_state_dictionary_and_in_gptqs_layout(tmp_path: Path, channels: int) -> None:
    """Dequantized, an input a row as the module has it; packed, an output a column as every GPTQ file."""
    model = nn.Sequential(Conv1D(channels, WIDTH))
    codes = _rng().integers(0, 16, (channels, WIDTH))
    codes[:, ::32], codes[:, 1::32] = 0, 15
    scale = torch.tensor(_rng().uniform(0.01, 0.02, (channels, 2))).half()
    dense = (codes - 8) * np.repeat(scale.double().numpy(), 32, axis=1)
    plain = _folder(tmp_path / "plain", {"0.weight": torch.tensor(dense.T.astype(np.float32))})
    stored = _layer(model, "0", plain)
    assert np.array_equal(stored.weight, dense)
    assert stored.values == "int4:g32"
    gptq = {
        "0.qweight": packed(codes, 4).T,
        "0.qzeros": packed(np.full((2, channels), 8), 4),
        "0.scales": scale.T,
        "0.g_idx": torch.arange(WIDTH, dtype=torch.int32) // 32,
    }
    config = {"quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq_v2"}
    assert np.array_equal(_layer(model, "0", _folder(tmp_path / "gptq", gptq, config)).weight, dense)
    wrong = _folder(tmp_path / "wrong", {"0.weight": torch.tensor(dense[:, :40].astype(np.float32))})
    with pytest.raises(InputError, match=r"has weights of shape .*, where the model's are \(64, "):
        _layer(model, "0", wrong)


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions(tmp_path: Path, groups: int) -> None:
    model = nn.Sequential(nn.ConvTranspose2d(8, 4, 3, groups=groups))
    own = find_layer(model, "0")
    rows = _multiples((4, 8 // groups * 9))
    as_stored = own.kind.as_stored(rows)
    assert as_stored.shape == model[0].weight.shape
    stored = _layer(model, "0", _folder(tmp_path / "w", {"0.weight": as_stored}))
    assert np.array_equal(stored.weight, rows.double().numpy())
    x = torch.randn(2, 8, 5, 5, dtype=torch.float64)
    model.double()
    with torch.no_grad():
        model[0].weight.copy_(as_stored)
        model[0].bias.zero_()
        wanted = model(x)
    found = own.kind.rows(x) @ torch.from_numpy(stored.weight).reshape(groups, 4 // groups, -1).mT
    torch.testing.assert_close(
        found.transpose(0, 1).flatten(1), wanted.movedim(1, -1).reshape(-1, 4), rtol=1e-12, atol=1e-12
    )


def test_pruned_to_two_four_along_the_inputs_of_a_turned_layer(tmp_path: Path) -> None:
    model = nn.Sequential(Conv1D(24, 16))
    weight = model[0].weight.detach().clone()
    weight.view(4, 4, 24)[:, :2] = 0.0
    stored = _layer(model, "0", _folder(tmp_path / "w", {"0.weight": weight}))
    assert stored.pattern == (2, 4)
    assert np.array_equal(stored.weight, weight.T.double().numpy())


def test_codes_in_bytes_of_a_turned_layer(tmp_path: Path) -> None:
    """Scales stand beside the rows that are stored, which are inputs here."""
    model = nn.Sequential(Conv1D(24, 16))
    codes = torch.tensor(_rng().integers(-128, 128, (16, 24)), dtype=torch.int8)
    scale = torch.tensor(_rng().uniform(0.01, 0.02, (16, 1)).astype(np.float32))
    stored = _layer(model, "0", _folder(tmp_path / "w", {"0.weight": codes, "0.weight_scale": scale}))
    wanted = codes.double().numpy() * scale.double().numpy()
    assert np.array_equal(stored.weight, wanted.T)
    for channel in range(24):
        assert np.array_equal(stored.grid.values(channel).step, scale.double().numpy().ravel())
        stored.codes(channel)


def test_convolutions_of_another_kernel_are_refused(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(4, 2, 3))
    path = _folder(tmp_path / "w", {"0.weight": _multiples((2, 9, 2, 2))})
    with pytest.raises(InputError, match=r"of the model has weights of shape \(2, 4, 3, 3\)"):
        _layer(model, "0", path)


# ------------------------------------------------------------------------------ attention


@pytest.mark.parametrize("part", ["q_proj", "k_proj", "v_proj", "out_proj"])
def test_projections_of_torchs_attention(tmp_path: Path, part: str) -> None:
    model = nn.Sequential(nn.MultiheadAttention(WIDTH, 2))
    packed_weight = _multiples((3 * WIDTH, WIDTH))
    tensors = {"0.in_proj_weight": packed_weight, "0.out_proj.weight": _multiples((WIDTH, WIDTH), 0.5)}
    path = _folder(tmp_path / "w", tensors)
    stored = _layer(model, f"0.{part}", path)
    place = "qkvo".index(part[0])
    wanted = tensors["0.out_proj.weight"] if place == 3 else packed_weight.chunk(3)[place]
    assert np.array_equal(stored.weight, wanted.double().numpy())

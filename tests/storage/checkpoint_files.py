"""Small checkpoints, written from the published layouts one number at a time, and what their weights are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

LAYER = "model.block.fc"


def words(codes: Sequence[int], bits: int) -> list[int]:
    """Codes as int32 words: one stream of bits, the lowest first."""
    stream = sum(int(code) << (bits * i) for i, code in enumerate(codes))
    count = -(-len(codes) * bits // 32)
    unsigned = [(stream >> (32 * i)) & 0xFFFFFFFF for i in range(count)]
    return [word - 2**32 if word >= 2**31 else word for word in unsigned]


def packed(rows: NDArray[Any], bits: int) -> torch.Tensor:
    """One row of words for each row of codes."""
    return torch.tensor([words(list(row), bits) for row in rows], dtype=torch.int32)


def write(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    config: Mapping[str, Any] | None = None,
    layer: str = LAYER,
) -> Path:
    """A folder with the tensors of one layer, and a config that says how it is quantized."""
    path.mkdir(parents=True, exist_ok=True)
    save_file({f"{LAYER}.{name}": t.contiguous() for name, t in tensors.items()}, path / "model.safetensors")
    if config is not None:
        (path / "config.json").write_text(json.dumps({"quantization_config": config}))
    return path


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def scales(shape: tuple[int, ...], dtype: torch.dtype = torch.float16) -> torch.Tensor:
    return torch.tensor(rng().uniform(0.01, 0.03, shape)).to(dtype)


def pack_quantized(
    path: Path, bits: int = 4, group: int | None = 8, *, asymmetric: bool = False, act_order: bool = False
) -> tuple[Path, NDArray[np.float64]]:
    """compressed-tensors' packed integers; the weights of 6 channels with 24 inputs."""
    channels, inputs = 6, 24
    groups = inputs // (group or inputs)
    q = rng().integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (channels, inputs))
    z = rng().integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (channels, groups)) * asymmetric
    scale = scales((channels, groups), torch.bfloat16)
    own = rng().permutation(inputs) % groups if act_order else np.arange(inputs) // (group or inputs)
    tensors = {
        "weight_packed": packed(q + 2 ** (bits - 1), bits),
        "weight_scale": scale,
        "weight_shape": torch.tensor([channels, inputs]),
    }
    if asymmetric:
        tensors["weight_zero_point"] = packed((z + 2 ** (bits - 1)).T, bits).T
    if act_order:
        tensors["weight_g_idx"] = torch.tensor(own, dtype=torch.int32)
    weight = np.array(
        [
            [float(scale[c, own[i]]) * (int(q[c, i]) - int(z[c, own[i]])) for i in range(inputs)]
            for c in range(channels)
        ]
    )
    config = {"config_groups": {"group_0": {"weights": {"num_bits": bits}}}, "format": "pack-quantized"}
    return write(path, tensors, config), weight


def gptq(
    path: Path, bits: int = 4, version: int = 1, *, symmetric: bool = False, act_order: bool = False
) -> tuple[Path, NDArray[np.float64]]:
    """GPTQ's layout: 32 inputs in 4 groups, 16 channels."""
    channels, inputs, groups = 16, 32, 4
    q = rng().integers(0, 2**bits, (inputs, channels))
    z = rng().integers(1, 2**bits, (groups, channels))
    if symmetric:
        z[:] = 2 ** (bits - 1)
    scale = scales((groups, channels))
    own = rng().permutation(inputs) % groups if act_order else np.arange(inputs) // (inputs // groups)
    tensors = {
        "qweight": packed(q.T, bits).T,
        "qzeros": packed(z - (version == 1), bits),
        "scales": scale,
        "g_idx": torch.tensor(own, dtype=torch.int32),
        "bias": torch.zeros(channels),
    }
    weight = np.array(
        [
            [float(scale[own[i], c]) * (int(q[i, c]) - int(z[own[i], c])) for i in range(inputs)]
            for c in range(channels)
        ]
    )
    form = "gptq" if version == 1 else "gptq_v2"
    config = {"quant_method": "gptq", "bits": bits, "group_size": inputs // groups, "checkpoint_format": form}
    return write(path, tensors, config), weight


def awq(path: Path) -> tuple[Path, NDArray[np.float64]]:
    """AWQ's GEMM layout: output 8k + (0, 2, 4, 6, 1, 3, 5, 7)[j] in the j-th four bits of a word."""
    channels, inputs, groups = 16, 32, 4
    q, z = rng().integers(0, 16, (inputs, channels)), rng().integers(0, 16, (groups, channels))
    scale = scales((groups, channels))

    def ordered(codes: NDArray[Any]) -> torch.Tensor:
        places = [8 * word + j for word in range(channels // 8) for j in (0, 2, 4, 6, 1, 3, 5, 7)]
        return packed(codes[:, places], 4)

    tensors = {"qweight": ordered(q), "qzeros": ordered(z), "scales": scale}
    weight = np.array(
        [
            [float(scale[i // 8, c]) * (int(q[i, c]) - int(z[i // 8, c])) for i in range(inputs)]
            for c in range(channels)
        ]
    )
    config = {"quant_method": "awq", "bits": 4, "group_size": 8, "version": "gemm", "zero_point": True}
    return write(path, tensors, config), weight


E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0]


def fp4(path: Path, kind: str) -> tuple[Path, NDArray[np.float64]]:
    """E2M1 in blocks: "nvfp4", "modelopt" or "mxfp4"; 4 channels of 64 inputs."""
    channels, inputs, size = 4, 64, 32 if kind == "mxfp4" else 16
    codes = rng().integers(0, 16, (channels, inputs))
    octets = torch.tensor(codes[:, ::2] + 16 * codes[:, 1::2], dtype=torch.uint8)
    if kind == "mxfp4":
        exponents = rng().integers(118, 126, (channels, inputs // size))
        scale, factor = 2.0 ** (exponents - 127.0), np.float32(1.0)
        tensors = {"weight_packed": octets, "weight_scale": torch.tensor(exponents, dtype=torch.uint8)}
    else:
        stored = torch.tensor(rng().uniform(30.0, 448.0, (channels, inputs // size))).to(torch.float8_e4m3fn)
        scale = stored.double().numpy()
        tensors = {"weight_scale": stored}
        if kind == "nvfp4":
            factor = np.float32(1.0) / np.float32(3333.0)
            tensors |= {"weight_packed": octets, "weight_global_scale": torch.tensor([3333.0])}
        else:
            factor = np.float32(0.00037)
            tensors |= {"weight": octets, "weight_scale_2": torch.tensor(0.00037)}
    weight = np.array(
        [
            [np.float32(E2M1[codes[c, i]] * scale[c, i // size] * float(factor)) for i in range(inputs)]
            for c in range(channels)
        ],
        dtype=np.float64,
    )
    return write(path, tensors), weight


def float8(
    path: Path, scope: str, dtype: torch.dtype = torch.float8_e4m3fn
) -> tuple[Path, NDArray[np.float64]]:
    """float8 with scales for the "tensor", "channel" or "tile" (of 4 x 8), 8 channels of 16 inputs."""
    codes = torch.tensor(rng().normal(size=(8, 16)) * 50.0).to(dtype)
    shapes = {"tensor": (1,), "channel": (8, 1), "tile": (2, 2)}
    scale = scales(shapes[scope], torch.float32)
    name = "weight_scale_inv" if scope == "tile" else "weight_scale"
    table = {"tensor": lambda c, i: 0, "channel": lambda c, i: c, "tile": lambda c, i: 2 * (c // 4) + i // 8}[
        scope
    ]
    flat = scale.ravel()
    weight = np.array(
        [
            [float(np.float32(codes[c, i].item()) * np.float32(flat[table(c, i)])) for i in range(16)]
            for c in range(8)
        ]
    )
    return write(path, {"weight": codes, name: scale}), weight


def int8(path: Path, bits: int = 8, *, asymmetric: bool = False) -> tuple[Path, NDArray[np.float64]]:
    """Naive and int-quantized: a code in each byte."""
    half = 2 ** (bits - 1)
    q = rng().integers(-half, half, (8, 16))
    z = rng().integers(-half, half, (8, 1)) * asymmetric
    scale = scales((8, 1), torch.bfloat16)
    tensors = {"weight": torch.tensor(q, dtype=torch.int8), "weight_scale": scale}
    if asymmetric:
        tensors["weight_zero_point"] = torch.tensor(z, dtype=torch.int8)
    weight = np.array([[float(scale[c, 0]) * int(q[c, i] - z[c, 0]) for i in range(16)] for c in range(8)])
    return write(path, tensors, {"config_groups": {"g": {"weights": {"num_bits": bits}}}}), weight


def two_four(
    path: Path, dtype: torch.dtype = torch.float16, channels: int = 4, inputs: int = 16
) -> tuple[Path, NDArray[np.float64]]:
    """sparse-24-bitmask: two of four inputs, of weights or of float8 codes with scales."""
    dense = np.zeros((channels, inputs))
    mask = np.zeros((channels, inputs), dtype=bool)
    for row in range(channels):
        for start in range(0, inputs, 4):
            mask[row, start + rng().choice(4, 2, replace=False)] = True
    dense[mask] = np.round(rng().normal(size=mask.sum()) * 16) + 0.5
    stored = torch.tensor(dense).to(dtype)
    octets = [[sum(int(row[8 * b + i]) << i for i in range(8)) for b in range(inputs // 8)] for row in mask]
    tensors = {
        "compressed": stored[torch.tensor(mask)].reshape(channels, -1) if dtype == torch.float16 else None,
        "bitmask": torch.tensor(octets, dtype=torch.uint8),
        "shape": torch.tensor([[channels], [inputs]]),
    }
    weight = stored.double().numpy()
    if dtype != torch.float16:
        bare = stored.view(torch.int8)[torch.tensor(mask)].reshape(channels, -1).view(dtype)
        scale = scales((channels, 1), torch.float32)
        tensors |= {"compressed": bare, "weight_scale": scale}
        weight = np.asarray(
            np.float32(weight) * np.float32(scale.numpy()), dtype=np.float64
        )  # one float32 product
    return write(path, tensors), weight


def nf4(path: Path, *, nested: bool = False) -> tuple[Path, NDArray[np.float64]]:
    """bitsandbytes: blocks of 16 along the flattened weight of 3 channels with 20 inputs."""
    size, block = 60, 16
    levels = np.linspace(-1.0, 1.0, 16).astype(np.float32)
    codes = rng().integers(0, 16, size)
    octets = torch.tensor(16 * codes[::2] + codes[1::2], dtype=torch.uint8).reshape(-1, 1)
    state: dict[str, Any] = {"quant_type": "nf4", "blocksize": block, "dtype": "float32", "shape": [3, 20]}
    tensors = {"weight": octets, "weight.quant_map": torch.tensor(levels)}
    if nested:
        table = np.linspace(-1.0, 1.0, 256).astype(np.float32)
        own, largest = rng().integers(128, 256, 4), np.array([0.3, 0.7], dtype=np.float32)
        offset = np.float32(0.1)
        absmax = [table[own[b]] * largest[b // 2] + offset for b in range(4)]
        state |= {"nested_blocksize": 2, "nested_offset": float(offset), "nested_dtype": "float32"}
        tensors |= {
            "weight.absmax": torch.tensor(own, dtype=torch.uint8),
            "weight.nested_absmax": torch.tensor(largest),
            "weight.nested_quant_map": torch.tensor(table),
        }
    else:
        absmax = list(rng().uniform(0.1, 1.0, 4).astype(np.float32))
        tensors["weight.absmax"] = torch.tensor(np.array(absmax))
    text = json.dumps(state).encode()
    tensors["weight.quant_state.bitsandbytes__nf4"] = torch.tensor(list(text), dtype=torch.uint8)
    weight = np.array([float(levels[codes[k]] * absmax[k // block]) for k in range(size)]).reshape(3, 20)
    return write(path, tensors), weight

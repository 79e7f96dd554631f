"""Files that the tools themselves write, decoded to the last bit of what they decode; skipped without them.

compressed-tensors brings transformers along, which is too much for the extras of tests: install it, and
bitsandbytes, to run these.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import LAYER, awq, pack_quantized, write
from safetensors.torch import load_file

from pvqbounds.problems.values import Steps
from pvqbounds.storage.checkpoints import open_checkpoint, read_layer

CHANNELS, INPUTS = 24, 256


def _weight(dtype: torch.dtype) -> torch.Tensor:
    torch.manual_seed(0)
    return (torch.randn(CHANNELS, INPUTS) * 0.05).to(dtype)


def _scheme(name: str) -> Any:
    quantization = pytest.importorskip("compressed_tensors.quantization")
    args = quantization.QuantizationArgs
    kinds: dict[str, dict[str, Any]] = {
        "pack-quantized": {"num_bits": 4, "group_size": 64, "strategy": "group"},
        "pack-quantized asym": {"num_bits": 4, "group_size": 64, "strategy": "group", "symmetric": False},
        "pack-quantized 3": {"num_bits": 3, "strategy": "channel"},
        "int-quantized": {"num_bits": 8, "strategy": "channel"},
        "float-quantized": {"num_bits": 8, "type": "float", "strategy": "channel"},
    }
    return quantization.QuantizationScheme(targets=["Linear"], weights=args(**kinds[name]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "name",
    ["pack-quantized", "pack-quantized asym", "pack-quantized 3", "int-quantized", "float-quantized"],
)
def test_compressed_tensors(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization.utils import calculate_qparams

    scheme, weight = _scheme(name), _weight(dtype)
    grouped = weight.reshape(CHANNELS, -1, scheme.weights.group_size or INPUTS)
    scale, zero = calculate_qparams(grouped.amin(-1), grouped.amax(-1), scheme.weights)
    tensors = {"weight": weight, "weight_scale": scale.to(dtype)}
    if not scheme.weights.symmetric:
        tensors["weight_zero_point"] = zero
    compressor = BaseCompressor.get_value_from_registry(name.split()[0])
    stored = compressor.compress(dict(tensors), scheme)
    config = {"config_groups": {"g": {"weights": {"num_bits": scheme.weights.num_bits}}}, "format": name}
    layer = read_layer(open_checkpoint(write(tmp_path, stored, config)), LAYER)
    decoded = compressor.decompress(dict(stored), scheme)["weight"]
    # ours is exact, theirs is rounded to the type of the scale
    assert np.array_equal(torch.tensor(layer.weight).to(decoded.dtype).double(), decoded.double())
    for channel in range(CHANNELS):
        layer.codes(channel)
    assert layer.grid is not None
    assert isinstance(layer.grid.values(0), Steps) == (name != "float-quantized")


def test_compressed_tensors_reads_awq_alike(tmp_path: Path) -> None:
    converters = pytest.importorskip("compressed_tensors.entrypoints.convert.converters.autoawq")
    from compressed_tensors.compressors import BaseCompressor

    path, weight = awq(tmp_path)
    converter = converters.AutoAWQConverter(group_size=8, ignore=())
    tensors = converter.process(load_file(path / "model.safetensors"))
    own = {name.removeprefix(f"{LAYER}."): tensor for name, tensor in tensors.items()}
    scheme = next(iter(converter._build_quant_config().config_groups.values()))
    compressor = BaseCompressor.get_value_from_registry("pack-quantized")
    decoded = compressor.decompress(own, scheme)["weight"]
    assert np.array_equal(torch.tensor(weight).to(decoded.dtype).double(), decoded.double())


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 8])
def test_packing_is_that_of_compressed_tensors(tmp_path: Path, bits: int) -> None:
    helpers = pytest.importorskip("compressed_tensors.compressors.pack_quantized.helpers")
    path, weight = pack_quantized(tmp_path, bits)
    packed = load_file(path / "model.safetensors")[f"{LAYER}.weight_packed"]
    codes = helpers.unpack_from_int32(packed, bits, torch.Size(weight.shape))
    assert torch.equal(helpers.pack_to_int32(codes, bits), packed)
    scale = load_file(path / "model.safetensors")[f"{LAYER}.weight_scale"].double().repeat_interleave(8, 1)
    assert np.array_equal(codes.double() * scale, weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_bitsandbytes(tmp_path: Path, kind: str, nested: bool, dtype: torch.dtype) -> None:
    pytest.importorskip("bitsandbytes")
    import bitsandbytes as bnb
    from bitsandbytes.functional import dequantize_4bit

    linear = bnb.nn.Linear4bit(200, CHANNELS, bias=False, compress_statistics=nested, quant_type=kind)
    weight = bnb.nn.Params4bit(
        _weight(dtype)[:, :200].contiguous(),
        requires_grad=False,
        quant_type=kind,
        compress_statistics=nested,
        blocksize=64,
    )
    linear.weight = weight._quantize("cpu")
    layer = read_layer(open_checkpoint(write(tmp_path, linear.state_dict())), LAYER)
    decoded = dequantize_4bit(linear.weight.data, linear.weight.quant_state)
    assert layer.values == f"{kind}:b64{':dq' * nested}"
    assert np.array_equal(torch.tensor(layer.weight).to(decoded.dtype).double(), decoded.double())
    for channel in range(CHANNELS):
        layer.codes(channel)

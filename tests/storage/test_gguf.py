"""GGUF: what is decoded is what the package of llama.cpp decodes, and files that lie are refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pvqbounds.errors import InputError
from pvqbounds.problems.values import Steps
from pvqbounds.storage.checkpoints import open_checkpoint, read_layer
from pvqbounds.storage.checkpoints.gguf_blocks import LAYOUTS

gguf = pytest.importorskip("gguf")

CHANNELS, INPUTS = 4, 512

FP16_AT = {
    **{"q2_k": (80, 82), "q3_k": (108,), "q4_k": (0, 2), "q5_k": (0, 2)},
    **{"q6_k": (208,), "iq4_nl": (0,), "iq4_xs": (0,)},
}
"""Where the scales lie that have to be numbers, in blocks which the package cannot write."""


def _blocks(kind: str) -> np.ndarray:
    """Rows of blocks, quantized by the package where it can, else at random with scales that are numbers."""
    rng = np.random.default_rng(0)
    form = gguf.GGMLQuantizationType[kind.upper()]
    if kind not in FP16_AT:
        weight = rng.normal(size=(CHANNELS, INPUTS)).astype(np.float32)
        return np.asarray(gguf.quants.quantize(weight, form))
    size, octets = gguf.GGML_QUANT_SIZES[form]
    blocks = rng.integers(0, 256, (CHANNELS * INPUTS // size, octets), dtype=np.uint8)
    for place in FP16_AT[kind]:
        blocks[:, place : place + 2] = rng.normal(size=(len(blocks), 1)).astype(np.float16).view(np.uint8)
    return blocks.reshape(CHANNELS, -1)


def _file(path: Path, kind: str, name: str = "blk.0.ffn_up.weight", arch: str = "llama") -> np.ndarray:
    rows = _blocks(kind)
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(2)
    writer.add_head_count(2)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_tensor(name, rows, raw_dtype=gguf.GGMLQuantizationType[kind.upper()])
    writer.add_tensor("output_norm.weight", np.ones(INPUTS, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return rows


@pytest.mark.parametrize("kind", LAYOUTS)
def test_blocks_are_decoded_and_bounded_as_the_package_decodes_them(tmp_path: Path, kind: str) -> None:
    rows = _file(tmp_path / "m.gguf", kind)
    layer = read_layer(open_checkpoint(tmp_path / "m.gguf"), "blk.0.ffn_up")
    decoded = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[kind.upper()])
    assert np.array_equal(layer.weight, decoded.astype(np.float64))
    size, octets = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind.upper()]]
    assert layer.bits_per_weight == 8 * octets / size
    assert layer.values == kind
    assert layer.grid is not None
    for channel in range(CHANNELS):
        layer.codes(channel)
        low, high = layer.grid.values(channel).code_ends
        assert (high - low).max() <= (1 << layer.code_bits) - 1
    exact = kind in ("q4_0", "q5_0", "q8_0", "q3_k", "q6_k")
    assert isinstance(layer.grid.values(0), Steps) == exact


@pytest.mark.parametrize("kind", ["q4_0", "q4_1"])
def test_the_grid_is_that_of_the_published_formula(tmp_path: Path, kind: str) -> None:
    rows = _file(tmp_path / "m.gguf", kind).reshape(-1, {"q4_0": 18, "q4_1": 20}[kind])
    layer = read_layer(open_checkpoint(tmp_path / "m.gguf"), "blk.0.ffn_up")
    assert layer.grid is not None
    values = layer.grid.values(0)
    for i in (0, 31, 32, 500):
        block = rows[i // 32]
        d = block[:2].copy().view(np.float16)[0].astype(np.float32)
        if kind == "q4_0":
            wanted = sorted(float(d * np.float32(q - 8)) for q in range(16))
            assert isinstance(values, Steps)
            have = [float(values.step[i]) * k for k in range(values.qmin[i], values.qmax[i] + 1)]
        else:
            m = block[2:4].copy().view(np.float16)[0].astype(np.float32)
            wanted = sorted(float(d * np.float32(q) + m) for q in range(16))
            have = list(values.arrays["levels"][i])
        assert have == wanted


def test_rows_of_queries_come_back_in_the_order_of_the_model(tmp_path: Path) -> None:
    rows = _file(tmp_path / "m.gguf", "q8_0", "blk.1.attn_q.weight")
    decoded = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType.Q8_0)
    checkpoint = open_checkpoint(tmp_path / "m.gguf")
    layer = read_layer(checkpoint, "model.layers.1.self_attn.q_proj")
    assert layer.name == "blk.1.attn_q"
    heads = 2  # llama.cpp takes (head, half, pair) to (head, pair, half)
    stored = (
        layer.weight.reshape(heads, 2, CHANNELS // heads // 2, INPUTS)
        .swapaxes(1, 2)
        .reshape(CHANNELS, INPUTS)
    )
    assert np.array_equal(stored, decoded)
    _file(tmp_path / "g.gguf", "q8_0", "blk.1.attn_q.weight", arch="gpt2")
    plain = read_layer(open_checkpoint(tmp_path / "g.gguf"), "blk.1.attn_q")
    assert np.array_equal(plain.weight, decoded)


def _changed(content: bytes, old: bytes, new: bytes) -> bytes:
    assert old in content
    return content.replace(old, new, 1)


HUGE = struct.pack("<Q", 2**61)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: b"GGUX" + c[4:], "does not begin"),
        (lambda c: c[:4] + struct.pack("<I", 9) + c[8:], "does not begin"),
        (lambda c: c[:8] + HUGE + c[16:], "announces 2305843009213693952 things"),
        (lambda c: c[:16] + HUGE + c[24:], "announces 2305843009213693952 things"),
        (lambda c: c[:24] + HUGE + c[32:], "announces 2305843009213693952 things"),
        (lambda c: _changed(c, b"numbers\x09", b"numbers\x63"), "type 99"),
        (lambda c: _changed(c, struct.pack("<Qi", 3, 1), HUGE + struct.pack("<i", 1)), "announces"),
        (lambda c: _changed(c, b"general.architecture", b"general.architect\0\0\0"), "holds no layer"),
        (lambda c: c[: len(c) // 2], "beyond its end"),
        (lambda c: c[:60], "damaged"),
        (lambda c: c[:3], "beyond its end"),
    ],
)  # fmt: skip
def test_a_file_that_lies_is_refused(tmp_path: Path, change: Callable[[bytes], bytes], says: str) -> None:
    path = tmp_path / "m.gguf"
    _file(path, "q4_k")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=says) as error:
        read_layer(open_checkpoint(path), "model.layers.0.mlp.up_proj")
    assert len(str(error.value)) < 400


def _bare(path: Path, kind: int, shape: tuple[int, ...], body: bytes) -> Path:
    """A file of one tensor by hand."""
    name = b"fc.weight"
    tensor = struct.pack("<Q", len(name)) + name + struct.pack("<I", len(shape))
    tensor += b"".join(struct.pack("<Q", size) for size in reversed(shape)) + struct.pack("<IQ", kind, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + tensor
    path.write_bytes(head + b"\0" * (-len(head) % 32) + body)
    return path


@pytest.mark.parametrize("shape", [(0, 32), (3, 0), (0, 0)])
def test_a_tensor_that_holds_nothing_is_refused(tmp_path: Path, shape: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="holds nothing"):
        open_checkpoint(_bare(tmp_path / "m.gguf", 2, shape, bytes(54)))


@pytest.mark.parametrize(
    ("kind", "block"),
    [
        (2, struct.pack("<e", np.inf) + bytes([0x88] * 16)),
        (2, struct.pack("<e", np.nan) + bytes(16)),
        (39, b"\xfe" + bytes(16)),
    ],
)
def test_blocks_whose_other_codes_are_no_numbers_are_refused(tmp_path: Path, kind: int, block: bytes) -> None:
    path = _bare(tmp_path / "m.gguf", kind, (3, 32), 3 * block)
    with pytest.raises(InputError, match="scales that are not finite"):
        read_layer(open_checkpoint(path), "fc")


def test_names_that_stand_twice_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    _file(path, "q4_0", "output_nort.weight")
    path.write_bytes(_changed(path.read_bytes(), b"output_nort.weight", b"output_norm.weight"))
    with pytest.raises(InputError, match=r"'output_norm\.weight' stands twice"):
        open_checkpoint(path)
    _file(path, "q4_0")
    path.write_bytes(_changed(path.read_bytes(), b"numbers", b"general"))
    open_checkpoint(path)


def test_random_bytes_end_in_a_sentence(tmp_path: Path) -> None:
    rng, path = np.random.default_rng(0), tmp_path / "m.gguf"
    _file(path, "q4_k")
    whole: Any = bytearray(path.read_bytes())
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(0, 500, rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            read_layer(open_checkpoint(path), "blk.0.ffn_up")
        except InputError:  # nothing else
            refused += 1
    assert refused > 0

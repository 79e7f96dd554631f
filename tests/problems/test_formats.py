"""Formats by name: their values bit by bit, their sizes, and the names themselves."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from itertools import chain
from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm

import pvqbounds as pvq
from pvqbounds import formats
from pvqbounds.errors import InputError
from pvqbounds.formats import parse
from pvqbounds.problems.formats.nf4 import NF4_LEVELS, dynamic_levels
from pvqbounds.problems.formats.number_types import BF16, E4M3, E5M2, FP16, FP32
from pvqbounds.problems.formats.registry import VALUE_RULES
from pvqbounds.problems.grids import mse_scale
from pvqbounds.problems.values import Levels, Reals, Steps, ValueSet

EVERY = [
    "int2", "int4", "int7", "int4:channel", "int4:g128", "int3:g32:asym", "int4:asym", "int4:channel:minmax",
    "int4:g64:mse", "int4:g128:bf16", "int8:g32:fp32", "nf4", "nf4:b32", "nf4:dq", "nf4:b128:dq", "nvfp4",
    "nvfp4:4over6", "nvfp4:mse", "mxfp4", "mxfp4:ct", "mxfp4:rceil", "fp8", "fp8:e5m2", "fp8:channel",
    "fp8:g128:bf16", "q4_0", "q4_1", "q8_0", "iq4_nl",
]  # fmt: skip
SPARSE = ["2:4", "1:8", "25%", "12.5%", "0.1%", "100%", "2:4+int4:g128", "50%+nf4", "3:8+nvfp4"]


@pytest.fixture(scope="module")
def gaussian() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1024, 1024)).astype(np.float32).astype(np.float64)


def values_of(grid: ValueSet) -> list[np.ndarray]:
    """All values of each input, ascending."""
    if isinstance(grid, Steps):
        return [s * np.arange(a, b + 1) for s, a, b in zip(grid.step, grid.qmin, grid.qmax, strict=True)]
    assert isinstance(grid, Levels)
    return [np.unique(row) for row in grid.levels]


def float32_weights(rows: int, inputs: int, seed: int) -> np.ndarray:
    """Weights of widely different rows, as a checkpoint has them."""
    rng = np.random.default_rng(seed)
    sizes = 10.0 ** rng.uniform(-3, 1, (rows, 1))
    return (sizes * rng.standard_normal((rows, inputs))).astype(np.float32)


# --- the figures of round to nearest


@pytest.mark.parametrize(
    ("name", "decibels"),
    [
        ("int4:g128", 19.11),
        ("int4:g32", 20.46),
        ("int4:g128:asym", 19.95),
        ("int4:g32:asym", 21.86),
        ("nvfp4", 20.44),
        ("nvfp4:4over6", 21.22),
        ("mxfp4", 18.79),
        ("mxfp4:ct", 19.03),
        ("mxfp4:rceil", 18.76),
        ("nf4", 20.73),
        ("nf4:dq", 20.73),
        ("q4_0", 21.31),
    ],
)
def test_round_to_nearest_of_a_normal_has_the_known_sqnr(name, decibels, gaussian):
    error = ((gaussian - parse(name).round_to_nearest(gaussian)) ** 2).sum()
    assert 10.0 * np.log10((gaussian**2).sum() / error) == pytest.approx(decibels, abs=0.01)


def test_the_best_of_all_block_scales_is_as_good_as_the_best_of_forty_five(gaussian):
    few = gaussian[:64]
    error = ((few - parse("nvfp4:mse").round_to_nearest(few)) ** 2).sum()
    assert 10.0 * np.log10((few**2).sum() / error) == pytest.approx(21.81, abs=0.04)


# --- number types against others' arithmetic


def test_eight_bit_floats_are_those_of_torch():
    codes = torch.arange(256, dtype=torch.uint8)
    for kind, theirs in ((E4M3, torch.float8_e4m3fn), (E5M2, torch.float8_e5m2)):
        numbers = codes.view(theirs).double().numpy()
        np.testing.assert_array_equal(kind.levels(), np.unique(numbers[np.isfinite(numbers)]))


@given(arrays(np.float64, 20, elements=st.floats(-7e4, 7e4) | st.floats(-1e-6, 1e-6)))
def test_rounding_is_that_of_numpy_and_torch(numbers):
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(FP16.nearest(numbers), numbers.astype(np.float16).astype(np.float64))
    single = numbers.astype(np.float32).astype(np.float64)
    np.testing.assert_array_equal(FP32.nearest(numbers), single)
    theirs = torch.from_numpy(single).float()
    np.testing.assert_array_equal(BF16.nearest(single), theirs.bfloat16().double().numpy())
    inside = np.clip(single, -448.0, 448.0)
    theirs = torch.from_numpy(inside).float().to(torch.float8_e4m3fn)
    np.testing.assert_array_equal(E4M3.nearest(inside), theirs.double().numpy())


# --- values against decoders written from the published layouts


def decoded_gguf(name: str, blocks: np.ndarray) -> list[np.ndarray]:
    """Per block of 32, what its stored bytes give for every code, as ggml-quants.c encodes and decodes."""
    values = []
    for x in blocks:
        extreme = x[np.abs(x).argmax()]
        if name == "q4_0":
            stored = np.array([extreme / np.float32(-8)], dtype=np.float16).tobytes()
            d = np.frombuffer(stored, dtype=np.float16).astype(np.float32)
            packed = np.arange(16, dtype=np.uint8) | (np.arange(16, dtype=np.uint8)[::-1] << 4)
            assert sorted(packed >> 4) == list(range(16))  # both nibbles take every code
            values.append(((packed & 0xF).astype(np.int8) - 8).astype(np.float32) * d)
        elif name == "q8_0":
            d = np.float32(np.float16(np.abs(x).max() / np.float32(127)))
            values.append(np.arange(-128, 128).astype(np.int8).astype(np.float32) * d)
        else:
            d = np.float32(np.float16((x.max() - x.min()) / np.float32(15)))
            m = np.float32(np.float16(x.min()))
            values.append(np.arange(16, dtype=np.float32) * d + m)
    return [np.unique(v).astype(np.float64) for v in values]


@pytest.mark.parametrize("name", ["q4_0", "q4_1", "q8_0"])
def test_gguf_blocks_have_the_values_that_their_bytes_decode_to(name):
    weights = float32_weights(8, 96, seed=1)
    expected = decoded_gguf(name, weights.reshape(-1, 32))
    for channel, grid in enumerate(parse(name).grids(weights)):
        for i, values in enumerate(values_of(grid)):
            np.testing.assert_array_equal(values, expected[3 * channel + i // 32])


def iq4_nl_scale(x: list[float]) -> float:
    """Scale of a block of 32, one number after another, as llama.cpp finds it."""
    table = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]
    extreme = max(x, key=abs)

    def sums(inverse: float) -> tuple[float, float]:
        products = squares = 0.0
        for value in x:
            level = min(table, key=lambda t: abs(t - value * inverse))
            products += value**2 * level * value
            squares += value**2 * level**2
        return products, squares

    products, squares = sums(-table[0] / extreme)
    scale = products / squares
    best = scale * products
    for place in range(table[0] - 7, table[0] + 8):
        products, squares = sums(place / extreme)
        if squares > 0.0 and products**2 > best * squares:
            scale = products / squares
            best = scale * products
    return scale


def test_iq4_nl_has_the_scale_that_llama_cpp_searches_for():
    weights = float32_weights(3, 64, seed=2)
    table = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113])
    for row, grid in zip(weights, parse("iq4_nl").grids(weights), strict=True):
        for i, values in enumerate(values_of(grid)):
            block = row[i // 32 * 32 :][:32].astype(float).tolist()
            scale = np.float32(np.float16(iq4_nl_scale(block)))
            np.testing.assert_array_equal(values, np.sort(scale * table.astype(np.float32)))


def test_nf4_levels_are_normal_quantiles():
    offset = 0.9677083
    positive = norm.ppf(np.linspace(offset, 0.5, 9)[:-1])
    negative = -norm.ppf(np.linspace(offset, 0.5, 8)[:-1])
    levels = np.sort(np.concatenate([positive, [0.0], negative]))
    np.testing.assert_allclose(NF4_LEVELS, levels / levels.max(), rtol=6e-7)
    np.testing.assert_array_equal(NF4_LEVELS, NF4_LEVELS.astype(np.float32))


def test_nf4_values_are_float32_products():
    weights = float32_weights(4, 128, seed=3)
    absmax = torch.from_numpy(weights).reshape(4, 2, 64).abs().amax(dim=2)
    products = torch.from_numpy(NF4_LEVELS).float() * absmax[..., None]
    for channel, grid in enumerate(parse("nf4").grids(weights)):
        for i, values in enumerate(values_of(grid)):
            np.testing.assert_array_equal(values, products[channel, i // 64].double().numpy())


def test_double_quantization_decodes_the_absmax_of_blocks_in_float32():
    weights = float32_weights(20, 64 * 16, seed=4)  # 320 blocks: two of absmax blocks
    code = []
    for i in range(7):
        ends = torch.linspace(0.1, 1, 2**i + 1, dtype=torch.float32)
        means = (ends[:-1] + ends[1:]) / 2.0
        code += (10 ** (-6 + i) * means).tolist() + (-(10 ** (-6 + i)) * means).tolist()
    code = torch.tensor(sorted([*code, 0.0, 1.0]), dtype=torch.float32)
    np.testing.assert_allclose(dynamic_levels(), code.double().numpy(), rtol=3e-7)
    absmax = torch.from_numpy(weights).reshape(-1, 64).abs().amax(dim=1)
    offset = absmax.double().mean().float()
    centred = torch.nn.functional.pad(absmax - offset, (0, 192)).reshape(-1, 256)
    largest = centred.abs().amax(dim=1, keepdim=True)
    stored = ((centred / largest)[..., None] - code).abs().argmin(dim=-1).to(torch.uint8)
    code = torch.from_numpy(dynamic_levels()).float()
    decoded = (code[stored.long()] * largest).reshape(-1)[:320] + offset
    assert (decoded != absmax).any()
    products = (torch.from_numpy(NF4_LEVELS).float() * decoded[:, None]).sort(dim=-1).values
    for channel, grid in enumerate(parse("nf4:dq").grids(weights)):
        np.testing.assert_array_equal(
            grid.levels[::64], products[16 * channel : 16 * (channel + 1)].double().numpy()
        )


E2M1_TABLE = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
"""Values of the three low bits; the fourth is the sign."""


def test_nvfp4_values_are_number_times_block_scale_times_tensor_scale():
    weights = float32_weights(6, 64, seed=6)
    given = torch.from_numpy(weights)
    tensor_scale = (given.abs().max().double() / 2688.0).float()
    block = given.reshape(6, 4, 16).abs().amax(dim=2).double() / 6.0 / tensor_scale.double()
    stored = block.clamp(2.0**-9, 448.0).float().to(torch.float8_e4m3fn)
    numbers = torch.cat([-E2M1_TABLE.flip(0), E2M1_TABLE[1:]])
    values = (numbers * stored.float()[..., None]) * tensor_scale
    for channel, grid in enumerate(parse("nvfp4").grids(weights)):
        np.testing.assert_array_equal(grid.levels[::16], values[channel].double().numpy())


@pytest.mark.parametrize(
    ("name", "exponent"),
    [
        ("mxfp4", lambda amax: np.floor(np.log2(amax)) - 2),
        (
            "mxfp4:ct",
            lambda amax: np.floor(np.log2(amax)) - 2 + (amax / 2 ** np.floor(np.log2(amax)) >= 1.75),
        ),
        ("mxfp4:rceil", lambda amax: np.ceil(np.log2(amax / 6))),
    ],
)
def test_mxfp4_values_are_numbers_times_powers_of_two(name, exponent):
    weights = float32_weights(40, 64, seed=7)
    stored = exponent(np.abs(weights.astype(float)).reshape(40, 2, 32).max(axis=2)) + 127
    assert stored.dtype == np.float64
    numbers = np.concatenate([-E2M1_TABLE.numpy()[::-1], E2M1_TABLE.numpy()[1:]])
    for channel, grid in enumerate(parse(name).grids(weights)):
        expected = numbers * 2.0 ** (stored[channel].astype(np.uint8)[:, None].astype(float) - 127)
        np.testing.assert_array_equal(grid.levels[::32], expected)


def test_fp8_values_are_float32_products():
    weights = float32_weights(3, 20, seed=8)
    numbers = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    numbers = numbers[numbers.isfinite()].unique()
    for row, grid in zip(weights, parse("fp8:channel").grids(weights), strict=True):
        scale = np.float32(np.float64(np.abs(row).max()) / 448.0)
        expected = np.unique(numbers.numpy() * scale).astype(np.float64)
        for values in values_of(grid):
            np.testing.assert_array_equal(values, expected)


def test_packed_integers_of_compressed_tensors_decode_to_the_steps_of_groups():
    weights = float32_weights(4, 64, seed=9)
    amax = torch.from_numpy(weights).reshape(4, 2, 32).abs().amax(dim=2)
    scale = (amax.double() / 7.5).half()
    for channel, grid in enumerate(parse("int4:g32").grids(weights)):
        for i, values in enumerate(values_of(grid)):
            for half in (range(8), range(8, 16)):  # eight codes to an int32, each with 8 added
                packed = sum(code << (4 * place) for place, code in enumerate(half))
                codes = [(packed >> (4 * place) & 0xF) - 8 for place in range(8)]
                decoded = torch.tensor(codes, dtype=torch.float32) * scale[channel, i // 32].float()
                np.testing.assert_array_equal(values[half[0] : half[-1] + 1], decoded.double().numpy())


def test_zero_points_shift_the_box_by_whole_codes():
    weights = float32_weights(5, 48, seed=10) + np.float32(0.02)
    for row, grid in zip(weights, parse("int4:g16:asym").grids(weights), strict=True):
        for i, values in enumerate(values_of(grid)):
            block = row[i // 16 * 16 :][:16].astype(float)
            low, high = min(block.min(), 0.0), max(block.max(), 0.0)
            scale = float(np.float16((high - low) / 15))
            zero = int(np.clip(np.round(-low / scale), 0, 15))
            np.testing.assert_array_equal(values, [scale * (q - zero) for q in range(16)])
            assert 0.0 in values


def test_int4_has_the_scale_that_layer_has_always_had():
    weights = float32_weights(6, 18, seed=11).astype(float)
    live = np.arange(18) % 5 != 0
    (scale,) = {float(s) for grid in parse("int4").grids(weights, live) for s in grid.step}
    assert scale == mse_scale(weights[:, live].ravel(), -8, 7)
    for row, grid in zip(weights, parse("int4:channel:fp64").grids(weights, live), strict=True):
        assert set(grid.step) == {mse_scale(row[live], -8, 7)}


# --- what holds of all


@pytest.mark.parametrize("name", EVERY)
def test_rounding_goes_to_the_nearest_value(name):
    weights = float32_weights(3, 50, seed=12).astype(float)
    format_ = parse(name)
    rounded = format_.round_to_nearest(weights)
    for row, near, grid in zip(weights, rounded, format_.grids(weights), strict=True):
        for w, v, values in zip(row, near, values_of(grid), strict=True):
            assert v in values
            assert abs(v - w) <= np.abs(values - w).min() * (1 + 1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_dead_inputs_change_no_scale(name):
    weights = float32_weights(3, 50, seed=13).astype(float)
    live = np.random.default_rng(0).random(50) < 0.7
    other = np.where(live, weights, 1e3)
    each = np.broadcast_to(live, weights.shape)
    grids = [parse(name).grids(*given) for given in ((weights, live), (other, live), (other, each))]
    for first, second, third in zip(*grids, strict=True):
        for values in zip(values_of(first), values_of(second), values_of(third), strict=True):
            np.testing.assert_array_equal(values[0], values[1])
            np.testing.assert_array_equal(values[0], values[2])


@pytest.mark.parametrize(
    "name", ["int4:g32", "int4:g32:asym", "nf4:b32", "mxfp4", "q4_0", "q4_1", "q8_0", "iq4_nl"]
)
def test_a_group_that_is_left_over_is_shorter(name):
    weights = float32_weights(2, 40, seed=14)
    parts = [values_of(parse(name).grids(part)[1]) for part in (weights[:, :32], weights[:, 32:])]
    for values, expected in zip(values_of(parse(name).grids(weights)[1]), chain(*parts), strict=True):
        np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-30])
def test_zero_and_vanishing_groups_keep_a_grid(name, size):
    weights = np.ones((2, 256))
    weights[0, 64:192] = size * np.linspace(-1.0, 1.0, 128)
    weights[1] = size
    for row, grid in zip(weights, parse(name).grids(weights), strict=True):
        values = values_of(grid)
        assert all(len(v) > 1 and np.isfinite(v).all() for v in values)
        if size == 0.0 and parse(name).values.has_zero:
            assert all(0.0 in v for v, w in zip(values, row, strict=True) if w == 0.0)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_weights_that_are_not_finite_are_refused(name, value):
    with pytest.raises(InputError, match="1 of 6 entries that are not finite"):
        parse(name).grids([[1.0, 2.0, value], [0.0, 1.0, 2.0]])


def test_scales_that_overflow_are_refused():
    weights = np.full((1, 32), 1e7)
    for name in ("int4:g32", "q4_0", "q4_1", "q8_0", "iq4_nl"):
        with pytest.raises(InputError, match=r"more than fp16 holds \(65504\); rescale"):
            parse(name).grids(weights if name != "iq4_nl" else 1e3 * weights)
    assert parse("int4:g32:bf16").grids(weights)
    for name in ("fp8", "nvfp4", "nf4", "mxfp4"):
        with pytest.raises(InputError, match="rescale the weights"):
            parse(name).grids(np.full((1, 32), 1e300))


@pytest.mark.parametrize("name", EVERY)
def test_a_layer_of_dead_inputs_has_the_grids_of_zeros(name):
    for shape in ((1, 1), (2, 33)):
        dead = parse(name).grids(np.full(shape, 3.0), np.zeros(shape[1], dtype=bool))
        zeros = parse(name).grids(np.zeros(shape))
        for ours, theirs in zip(dead, zeros, strict=True):
            for values in zip(values_of(ours), values_of(theirs), strict=True):
                np.testing.assert_array_equal(*values)


def test_a_mask_that_does_not_fit_is_refused():
    for mask in (np.ones(3, dtype=bool), np.ones(4)):
        with pytest.raises(InputError, match="must hold 4 booleans"):
            parse("int4").grids(np.ones((2, 4)), mask)


def test_supports_keep_the_largest_magnitudes():
    weights = np.array([[1.0, -5.0, 3.0, 2.0, 0.5, 0.25, -0.75, 0.1]])
    kept = parse("2:4").round_to_nearest(weights)
    np.testing.assert_array_equal(kept, [[0.0, -5.0, 3.0, 0.0, 0.5, 0.0, -0.75, 0.0]])
    apart = parse("1:4").round_to_nearest(weights, stride=2)
    np.testing.assert_array_equal(apart, [[0.0, -5.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    assert np.count_nonzero(parse("25%").round_to_nearest(weights)) == 2
    (grid,) = parse("25%").grids(weights)
    assert isinstance(grid, Reals)
    assert grid.n == 8
    joint, alone = (parse(name).round_to_nearest(weights) for name in ("2:4+int8:g8", "int8:g8"))
    np.testing.assert_array_equal(joint, np.where(kept != 0.0, alone, 0.0))


# --- sizes


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("int4", 4 + 16 / 2**20),
        ("int4:channel", 4 + 16 / 1024),
        ("int4:g128", 4.125),
        ("int4:g128:asym", 4 + 20 / 128),
        ("int4:g128:fp32", 4.25),
        ("nf4", 4.5),
        ("nf4:dq", 4 + 8 / 64 + 32 / (64 * 256) + 32 / 2**20),
        ("nvfp4", 4.5 + 32 / 2**20),
        ("mxfp4", 4.25),
        ("fp8:channel", 8 + 32 / 1024),
        ("q4_0", 18 * 8 / 32),
        ("q4_1", 20 * 8 / 32),
        ("q8_0", 34 * 8 / 32),
        ("iq4_nl", 18 * 8 / 32),
        ("25%", 16 / 4 + 1),
        ("2:4", 16 / 2 + 1),
        ("2:4+int4:g128", 4 / 2 + 1 + 16 / 128),
        ("25%+int8", 8 / 4 + 1 + 16 / 2**20),
        ("1:4", 16 / 4 + 2 / 4),
        ("4:8", 16 / 2 + 3 / 2),
    ],
)
def test_bits_a_weight_count_scales_zero_points_and_masks(name, bits):
    assert parse(name).bits_per_weight((1024, 1024)) == pytest.approx(bits, rel=1e-12)


def test_masks_may_be_counted_in_other_ways():
    def mask_bits(name: str, mask: str, inputs: int = 64) -> float:
        size = parse(name).bits_per_weight
        return size((8, inputs), mask) - size((8, inputs), "none")

    assert mask_bits("2:4+int4:g64", "entropy") == pytest.approx(np.log2(6) / 4)  # 0.646
    assert mask_bits("2:4", "stored") == pytest.approx(1.0)
    assert mask_bits("25%", "entropy") == pytest.approx(np.log2(float(comb(64, 16))) / 64)
    shannon = -0.25 * np.log2(0.25) - 0.75 * np.log2(0.75)
    assert shannon - 0.01 < mask_bits("25%", "entropy", 1024) < shannon
    assert mask_bits("2:4", "entropy", 6) == pytest.approx(np.log2(6) / 6)  # the last two are both kept
    assert mask_bits("int4", "bitmap") == 0.0
    assert mask_bits("25%", "stored") == mask_bits("25%", "bitmap") == 1.0
    assert mask_bits("1:4", "stored") == 0.5  # two bits for each kept one
    with pytest.raises(InputError, match="one of bitmap, entropy, stored, none, not 'zip'"):
        mask_bits("25%", "zip")
    for shape in ((0, 4), (4,), 4):
        with pytest.raises(InputError):
            parse("int4").bits_per_weight(shape)


@pytest.mark.parametrize("mask", ["stored", "bitmap", "entropy", "none"])
@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8, 11])
def test_formats_of_one_size(bits, mask):
    shape = (32, 64)
    names = formats.of_size(bits, shape, mask)
    assert len(set(names)) == len(names) >= 2
    assert names[-1] == f"int{bits}"
    dense = parse(names[-1]).bits_per_weight(shape)
    sizes = {name: parse(name).bits_per_weight(shape, mask) for name in names}
    assert all(size == pytest.approx(dense, rel=0.01) for size in sizes.values())
    # no larger density has the size
    for name in (name for name in names if "%" in name):
        percent, _, values = name.partition("%")
        denser = parse(f"{float(percent) + 0.1:.1f}%{values}")
        assert denser.bits_per_weight(shape, mask) > dense >= sizes[name]


def test_the_papers_sizes_are_among_them():
    assert {"25%", "50%+int8", "2:4+int8", "int4"} <= set(formats.of_size(4, (256, 256), "none"))
    assert {"50%+int6", "2:4+int6", "int4"} <= set(formats.of_size(4, (256, 256)))  # a mask of one bit
    for wrong in (1, 16, 2.5, True, "4"):
        with pytest.raises(InputError, match="bits of the dense grid"):
            formats.of_size(wrong, (8, 8))


def test_a_pattern_along_the_channels_of_a_convolution_is_counted_along_them():
    size = parse("2:4").bits_per_weight  # three channels at nine positions: two of each three are kept
    assert size((8, 27), "none", stride=9) == pytest.approx(16 * 2 / 3)
    assert size((8, 27), "entropy", stride=9) == pytest.approx(16 * 2 / 3 + np.log2(3) / 3)


def test_a_shorter_group_has_a_whole_scale():
    assert parse("int4:g32").bits_per_weight((10, 40)) == pytest.approx(4 + 2 * 16 / 40)


# --- names


@pytest.mark.parametrize("name", [*EVERY, *SPARSE, "int16:g8:asym:fp64"])
def test_names_lead_back_to_their_formats(name):
    assert parse(name).name == name
    assert parse(name.upper()) == parse(f" {name} ") == parse(name)


@given(
    st.sampled_from([*SPARSE[:6], None]),
    st.integers(2, 16),
    st.permutations(["g64", "asym", "bf16"]).flatmap(lambda o: st.integers(0, 3).map(lambda k: o[:k])),
)
def test_options_come_in_any_order(sparse, bits, options):
    text = ":".join([f"int{bits}", *options]) + (f"+{sparse}" if sparse else "")
    found = parse(text)
    assert parse(found.name) == found
    assert (found.support is None) == (sparse is None)


@given(st.text("int4nfvpqx_0128:+%gbasymdch. ", max_size=16) | st.text(max_size=8))
def test_any_other_name_is_refused_in_a_sentence(name):
    try:
        found = parse(name)
    except InputError as error:
        sentence = str(error)
    else:
        sentence = f"{found.name}."
        assert parse(found.name) == found
    assert "\n" not in sentence
    assert sentence[-1] in ".?"


@pytest.mark.parametrize(
    ("longer", "name"),
    [
        ("int4:tensor", "int4"),
        ("int4:mse", "int4"),
        ("int4:fp64", "int4"),
        ("int4:g128:absmax:fp16", "int4:g128"),
        ("nf4:b64", "nf4"),
        ("fp8:e4m3", "fp8"),
        ("fp8:fp32", "fp8"),
        ("mxfp4:ocp", "mxfp4"),
        ("nvfp4:amax", "nvfp4"),
        ("25.0%", "25%"),
        ("0000000000000000002:4", "2:4"),
        ("int4:g00000000000000064", "int4:g64"),
        ("int4:g128+2:4", "2:4+int4:g128"),
        ("int4 + 25%", "25%+int4"),
    ],
)
def test_what_is_usual_is_left_out_of_a_name(longer, name):
    assert parse(longer).name == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nvpf4", "no format 'nvpf4'; did you mean 'nvfp4'"),
        ("int17", "did you mean 'int"),
        ("q4_2", "did you mean 'q4_"),
        ("", "no format ''; they are int2 to int16, nf4"),
        ("gptq", "no format 'gptq'; they are int2 to int16, nf4"),
        ("int4:g128:x", "channel, tensor, gN, asym, absmax, mse, minmax, fp16, bf16, fp32, fp64, each"),
        ("int4:g0", "N of 'g0' must be a whole number from 1"),
        ("int4:128", "Option '128' of format 'int4' is unknown"),
        ("int4:g32:g64", "'g64' of format 'int4' is unknown, repeated"),
        ("int4:channel:g64", "one scale for a tensor, a channel or a group"),
        ("int4:asym:mse", "'mse' of format 'int4' is unknown, repeated or against another"),
        ("q4_0:g64", "has no options; leave out 'g64'"),
        ("nf4:", "Option '' of format 'nf4'"),
        ("int4:g" + "9" * 5000, "must be a whole number from 1 to 2147483648"),
        ("2:" + "9" * 5000, "M of the pattern N:M must be a whole number"),
        ("4:2", "N of the pattern N:M must be a whole number from 0 to 2"),
        ("0%", "above 0% and up to 100%"),
        ("101%", "above 0% and up to 100%"),
        ("x%", "not 'x%'"),
        ("int4+int8", "at most one pattern or density with one format"),
        ("2:4+25%", "at most one pattern or density"),
        ("2:4+q4_1", "'q4_1' lack 0, which 2:4 needs"),
        ("50%+iq4_nl", "'iq4_nl' lack 0"),
        (4, "a text, like int4:g128, not 4"),
    ],
)
def test_names_that_cannot_be_used_say_why(name, message):
    with pytest.raises(InputError) as error:
        parse(name)
    assert message in str(error.value)


# --- one format in one place


@dataclass(frozen=True)
class Ternary(pvq.formats.ValueRule):
    """-s, 0, s."""

    name = "ternary"
    code_bits = 2

    def side_bits(self, shape):
        return 16

    def rows(self, weights, live):
        size = np.abs(weights[live]).mean()
        levels = np.tile(size * np.array([-1.0, 0.0, 1.0]), (weights.shape[1], 1))
        return iter([Levels(levels)] * len(weights))


def test_a_format_of_ones_own_is_registered(monkeypatch):
    monkeypatch.setattr("pvqbounds.problems.formats.registry.VALUE_RULES", dict(VALUE_RULES))
    pvq.formats.register("ternary", lambda options: Ternary())
    assert "ternary" in pvq.formats.names()
    found = pvq.formats.parse("2:4+ternary")
    assert found.name == "2:4+ternary"
    np.testing.assert_array_equal(found.round_to_nearest([[3.0, 1.0, -3.0, 1.0]]), [[2.0, 0.0, -2.0, 0.0]])
    for name, message in (("int4", "already"), ("Int4", "lower-case")):
        with pytest.raises(InputError, match=message):
            pvq.formats.register(name, lambda options: Ternary())


def test_formats_are_found_on_first_use():
    code = (
        "import sys, pvqbounds as p; assert 'pvqbounds.formats' not in sys.modules; p.formats.parse('int4')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

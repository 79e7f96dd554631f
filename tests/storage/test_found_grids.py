"""The grid of dequantized weights, found from the weights alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_files import LAYER, write
from hypothesis import given, settings
from hypothesis import strategies as st

from pvqbounds.problems.formats import parse
from pvqbounds.problems.values import Levels, Steps
from pvqbounds.storage.checkpoints import open_checkpoint, read_layer
from pvqbounds.storage.checkpoints.found_grids import FoundGrid, find_grid
from pvqbounds.storage.checkpoints.grids import StepGrid

KINDS = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
CHANNELS, INPUTS = 6, 64
COUNTS = {"tensor": (1, 1), "channel": (CHANNELS, 1), "g16": (CHANNELS, 4)}
"""Scales along the channels and along the inputs."""


def _codes(bits: int, shift: bool, seed: int = 0, scope: str = "g16") -> np.ndarray:
    """Codes that reach both ends of their box in each block, as those of a quantizer do."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2**bits, (CHANNELS, INPUTS))
    codes[:, 0::16], codes[:, 1::16] = 0, 2**bits - 1
    codes[:, 2::16] = 2 ** (bits - 1) + 1
    rows, columns = COUNTS[scope]
    zeros = np.repeat(rng.integers(1, 2 ** (bits - 1), (rows, columns)), INPUTS // columns, axis=1)
    return np.asarray(codes - (zeros if shift else 2 ** (bits - 1)))


def _steps(scope: str, seed: int = 1) -> np.ndarray:
    """A step for each weight, as scales of 16 bits are."""
    rng = np.random.default_rng(seed)
    count = COUNTS[scope]
    step = torch.tensor(rng.uniform(0.01, 0.03, count)).to(torch.float16).double().numpy()
    return np.broadcast_to(np.repeat(step, INPUTS // count[1], axis=1), (CHANNELS, INPUTS))


def _stored(weight: np.ndarray, kind: str) -> np.ndarray:
    return np.asarray(torch.tensor(weight).to(KINDS[kind]).double().numpy())


@pytest.mark.parametrize("scope", ["tensor", "channel", "g16"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("bits", "shift"), [(2, False), (3, True), (4, False), (4, True), (8, False)])
def test_the_grid_of_a_quantizer_is_found_again(scope: str, kind: str, bits: int, shift: bool) -> None:
    codes, step = _codes(bits, shift, scope=scope), _steps(scope)
    weight = _stored(step * codes, kind)
    found = find_grid(weight, kind)
    if kind == "bf16" and bits == 8:
        assert found is None  # rounding to 8 bits hides the steps
        return
    assert found is not None
    name = f"int{bits}" + ("" if scope == "tensor" else f":{scope}")
    assert found.name == name + ":asym" * shift
    for channel in range(CHANNELS):
        values = found.grid.values(channel)
        assert isinstance(values, Steps if kind == "f32" else Levels)
        own = values.nearest(found.weight[channel])
        assert own is not None
        assert np.array_equal(values.weight_of(own), found.weight[channel])
        assert np.allclose(found.weight[channel], weight[channel], rtol=2.0**-23, atol=0)
        if isinstance(values, Steps):
            assert np.allclose(values.step, step[channel], rtol=1e-6)
            low, high = codes[channel].min(), codes[channel].max()
            assert (values.qmin <= low).any()
            assert (values.qmax >= high).any()


def test_stored_weights_of_16_bits_are_levels_that_the_file_can_hold() -> None:
    weight = _stored(_steps("channel") * _codes(4, False), "bf16")
    found = find_grid(weight, "bf16")
    assert isinstance(found, FoundGrid)
    values = found.grid.values(2)
    assert isinstance(values, Levels)
    assert np.array_equal(_stored(values.levels, "bf16"), values.levels)
    assert len(np.unique(values.levels)) == 16


def test_the_box_of_an_unseen_zero_point_holds_all_that_are_possible() -> None:
    codes = _codes(4, True)
    codes[3, 16:32] = np.resize([1, 2, 3], 16)
    found = find_grid(_steps("g16") * codes, "f64")
    assert isinstance(found, FoundGrid)
    assert found.name == "int4:g16:asym"
    values = found.grid.values(3)
    assert isinstance(values, Steps)
    assert (values.qmin[16], values.qmax[16]) == (-12, 15)  # zero points from 0 to 12
    assert any("zero point" in note for note in found.notes)


def test_a_step_that_may_be_half_is_said() -> None:
    codes = _codes(4, False)
    codes[2] = 2 * (codes[2] // 4)
    found = find_grid(_steps("channel") * codes, "f64")
    assert isinstance(found, FoundGrid)
    assert any(note.startswith("In 1 of 6 blocks") for note in found.notes)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_on_no_grid_have_none(kind: str) -> None:
    weight = _stored(np.random.default_rng(3).normal(size=(CHANNELS, INPUTS)), kind)
    assert find_grid(weight, kind) is None
    grid = _stored(_steps("channel") * _codes(4, False), kind)
    grid[4, 9] *= 1.0137
    assert find_grid(grid, kind) is None


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.sampled_from([2, 3, 4, 5]), st.sampled_from(["f32", "f16", "bf16"]))
def test_found_values_hold_the_weights(seed: int, bits: int, kind: str) -> None:
    weight = _stored(_steps("g16", seed) * _codes(bits, False, seed), kind)
    found = find_grid(weight, kind)
    if found is None:
        assert kind == "bf16"
        assert bits == 5
        return
    for channel in range(CHANNELS):
        values = found.grid.values(channel)
        own = values.nearest(found.weight[channel])
        assert own is not None
        assert np.array_equal(values.weight_of(own), found.weight[channel])


@pytest.mark.parametrize("name", ["nf4:b16", "mxfp4", "fp8:channel"])
def test_levels_are_found_where_their_format_is_named(name: str) -> None:
    form = parse(name)
    weight = np.random.default_rng(5).normal(size=(CHANNELS, INPUTS))
    decoded = form.round_to_nearest(weight)
    assert find_grid(_stored(decoded, "f32"), "f32") is None or name == "mxfp4"
    found = find_grid(decoded, "f32", [name])
    assert found is not None
    if name != "mxfp4":
        assert found.name == name
    for channel in range(CHANNELS):
        values = found.grid.values(channel)
        own = values.nearest(found.weight[channel])
        assert own is not None
        assert np.array_equal(values.weight_of(own), decoded[channel])


def test_a_plain_file_says_that_its_grid_was_found(tmp_path: Path) -> None:
    weight = torch.tensor(_steps("g16") * _codes(4, False), dtype=torch.float32)
    layer = read_layer(open_checkpoint(write(tmp_path, {"weight": weight})), LAYER)
    assert (layer.kind, layer.values) == ("plain weights", "int4:g16")
    assert layer.notes[0] == "The grid is found from the weights: no file says it."
    assert layer.bits_per_weight == 5.0
    assert np.allclose(layer.weight, weight.numpy(), rtol=2.0**-23, atol=0)


@pytest.mark.parametrize(
    ("bits", "low", "even"),
    [
        (4, -8, [-8, 6, 2, -4, 0, 4, -2, 6]),
        (4, -3, [-2, 12, 4, 2, 0, 8, 6, 10]),
        (2, -2, [-2, 0, 0, -2, 0, 0, -2, 0]),
        (4, -8, [6, -6, 2, 0, 0, 4, -2, 6]),
    ],
)
def test_a_step_that_may_be_half_of_what_is_seen_is_told(bits: int, low: int, even: list[int]) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(low, low + 2**bits, (6, 8))
    codes[:, 0], codes[:, 1], codes[:, 2] = low, low + 2**bits - 1, low + 1
    step = rng.uniform(0.01, 0.02, (6, 1)).astype(np.float16).astype(np.float64)
    told = "In 1 of 6 blocks the weights use half of their codes at most"
    whole = find_grid(step * codes, "f32")
    assert whole is not None
    assert not any(note.startswith(told) for note in whole.notes)
    codes[0] = even
    found = find_grid(step * codes, "f32")
    assert found is not None
    assert any(note.startswith(told) for note in found.notes)
    assert isinstance(found.grid, StepGrid)
    assert found.grid.step[0] == pytest.approx(2.0 * step[0, 0])


def test_a_block_with_a_weight_off_its_grid_is_told() -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(-8, 8, (20, 8))
    codes[:, 0], codes[:, 1], codes[:, 2] = -8, 7, 1
    weight = np.asarray(codes * rng.uniform(0.01, 0.02, (20, 1)).astype(np.float16), dtype=np.float64)
    whole = find_grid(weight, "f32")
    assert whole is not None
    assert whole.name == "int4:channel"
    assert not any("off its grid" in note for note in whole.notes)
    weight[3, 5] += 0.3 * abs(weight[3, 2])
    found = find_grid(weight, "f32")
    assert found is not None
    (told,) = (note for note in found.notes if "off its grid" in note)
    assert told.startswith("In 1 of 20 blocks the weights need up to 8 bits, in most others 4; the first is")
    assert "of input 0 of output channel 3:" in told

"""The grid of dequantized weights, found from the weights alone."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_files import LAYER, write
from hypothesis import given, settings
from hypothesis import strategies as st

from pvqbounds.errors import InputError
from pvqbounds.problems.formats import parse
from pvqbounds.problems.values import Levels, Steps
from pvqbounds.storage.checkpoints import open_checkpoint, read_layer
from pvqbounds.storage.checkpoints.found_grids import FoundGrid, find_grid
from pvqbounds.storage.checkpoints.grids import StepGrid

KINDS = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
LAST_PLACE = {"f32": 2.0**-22, "f16": 2.0**-10, "bf16": 2.0**-7}
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
    step = _steps("g16")[3, 16]
    reached = np.rint(values.step[16] * np.array([values.qmin[16], values.qmax[16]]) / step)
    assert reached.tolist() == [-12, 15]  # zero points from 0 to 12
    assert "in 1 of 24 blocks, which use few codes, it holds for every step and zero point" in found.presumed


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16"])
@pytest.mark.parametrize(("most", "shift"), [(1, False), (2, False), (3, False), (5, True)])
def test_a_block_that_may_have_had_a_finer_step_has_the_values_of_all(
    kind: str, most: int, shift: bool
) -> None:
    """Whichever part of the step that is seen was the quantizer's, all that it could choose is there."""
    rng = np.random.default_rng(most)
    low = -3 if shift else -8
    codes = rng.integers(low, low + 16, (6, 16))
    codes[:, 0], codes[:, 1], codes[:, 2] = low, low + 15, low + 1
    few = rng.integers(-most if not shift else 0, most + 1, 16)
    few[:2] = most, most - 1
    codes[4] = few
    step = _stored(rng.uniform(0.01, 0.02, (6, 1)), "f16")
    weight = _stored(step * codes, kind)
    found = find_grid(weight, kind)
    assert found is not None
    assert found.name == "int4:channel" + ":asym" * shift
    assert "in 1 of 6 blocks, which use few codes, it holds for every step" in found.presumed
    assert found.mixed == (4,)
    values = found.grid.values(4)
    for parts in range(1, 17):
        own = parts * few
        if shift:
            zeros = range(max(0, -int(own.min())), 16 - max(0, int(own.max())))
            boxes = [(-zero, 15 - zero) for zero in zeros]
        else:
            boxes = [(-8, 7)] * int(own.min() >= -8 and own.max() <= 7)
        for first, last in boxes:
            allowed = step[4, 0] / parts * np.arange(first, last + 1)
            if kind != "f32":
                allowed = _stored(allowed, kind)
            for value in allowed:
                nearest = values.weight_of(values.nearest(np.full(16, value)))
                assert nearest == pytest.approx(value, rel=LAST_PLACE[kind], abs=1e-12)
    sure = find_grid(np.delete(weight, 4, axis=0), kind)
    assert sure is not None
    assert sure.mixed == ()
    rounded = (
        "; that each weight is its product rounded once, in the end; values that no weight of a block has "
        "may be neighbours in 16 bits: it holds for all, and what was found may have any"
    )
    left = "; values to the last place of float32" if kind == "f32" else rounded
    assert sure.presumed == f"presumes {found.name}, found from the weights{left}"


def test_what_nothing_shows_is_presumed() -> None:
    codes = _codes(8, False, scope="channel")
    codes[2] = np.resize([0, 1], INPUTS)  # the step may be any of 127 parts
    codes[5] = 0
    found = find_grid(_steps("channel") * codes, "f32")
    assert found is not None
    assert found.presumed == (
        "presumes int8:channel, found from the weights; values to the last place of float32; in 1 of 6 "
        "blocks the step that is seen, which may have been a part of it; in 1 of 6 blocks, whose weights are "
        "all 0, nothing else"
    )
    values = found.grid.values(5)
    assert isinstance(values, Steps)
    assert not values.qmin.any()
    assert not values.qmax.any()


@pytest.mark.parametrize(
    ("hints", "name", "told"),
    [
        ((), "int3:channel", 0),
        (("int4:channel",), "int4:channel", 0),
        (("int4:g16:asym",), "int4:channel:asym", 0),
        (("int4", "int8"), "int4:channel", 0),
        (("int3", "int8"), "int3:channel", 0),
        (("int2",), "int3:channel", 1),
        (("nf4",), "int3:channel", 1),
    ],
)
def test_a_format_that_is_named_says_how_many_codes_there_were(hints, name: str, told: int) -> None:
    found = find_grid(_steps("channel") * _codes(3, False, scope="channel"), "f32", hints)
    assert found is not None
    assert found.name == name
    off = [note for note in found.notes if "are off" in note]
    assert len(off) == told
    if told:
        assert off[0] == (
            f"The weights are off {parse(hints[0]).values.name}, asked for beside them: the grid that they "
            f"lie on is {name}."
        )
    if name.startswith("int4"):  # twice the codes would have been some of them
        assert "in 6 of 6 blocks, which use few codes" in found.presumed


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
def test_a_step_that_may_be_half_of_what_is_seen_is_allowed(bits: int, low: int, even: list[int]) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(low, low + 2**bits, (6, 8))
    codes[:, 0], codes[:, 1], codes[:, 2] = low, low + 2**bits - 1, low + 1
    step = rng.uniform(0.01, 0.02, (6, 1)).astype(np.float16).astype(np.float64)
    told = "in 1 of 6 blocks, which use few codes"
    whole = find_grid(step * codes, "f32")
    assert whole is not None
    assert told not in whole.presumed
    codes[0] = even
    found = find_grid(step * codes, "f32")
    assert found is not None
    assert told in found.presumed
    assert isinstance(found.grid, StepGrid)
    assert found.grid.step[0] == pytest.approx(step[0, 0])  # that of the quantizer, not twice that
    assert found.grid.qmin[0] <= low
    assert found.grid.qmax[0] >= low + 2**bits - 1


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
    assert "of input 0 of output channel 3: the weight" in told
    assert "of input 5 of output channel 3 is off its grid, on which the others there lie" in told


@pytest.mark.parametrize(
    ("kind", "bits", "few"),
    [("bf16", 6, [19, 20]), ("bf16", 6, [13, 22]), ("f16", 8, [-59, 100]), ("f16", 8, [51, 88])],
)
def test_another_step_that_rounding_to_16_bits_hides_is_allowed(kind: str, bits: int, few: list[int]) -> None:
    half, rng = 2 ** (bits - 1), np.random.default_rng(0)
    codes = rng.integers(-half // 2, half // 2, (6, 32))
    codes[:, 0], codes[:, 1], codes[:, 2] = -half, half - 1, 1
    codes[3], codes[3, :2] = 0, few
    told = False
    for seed in range(20):
        step = np.random.default_rng(seed).uniform(0.01, 0.03, (6, 1))
        step = torch.tensor(step).to(KINDS[kind]).double().numpy()
        found = find_grid(_stored(step * codes, kind), kind)
        assert found is not None
        assert found.name == f"int{bits}:channel"
        values = found.grid.values(3)
        assert isinstance(values, Levels)
        allowed = _stored(step[3] * np.arange(-half, half), kind)
        apart = np.abs(allowed[:, None] - values.levels[0]).min(axis=1)
        assert (apart <= LAST_PLACE[kind] * np.abs(allowed)).all()
        told = told or found.mixed == (3,)
    assert told


def _allowed(found: FoundGrid, channel: int, value: float) -> float:
    """What of a channel is nearest to a value, the same for all of its inputs."""
    values = found.grid.values(channel)
    codes = values.nearest(np.full(found.weight.shape[1], value))
    assert codes is not None
    (nearest,) = np.unique(values.weight_of(codes))
    return float(nearest)


def test_the_largest_code_that_16_bits_leave_counts_for_other_steps() -> None:
    """Codes -28 and 27 have the numbers of -32 and 31 at another step: those of 32 are looked at, too."""
    weight = np.full((1, 12), 3.78125)
    weight[0, ::2] = -3.90625
    found = find_grid(weight, "bf16", ["int6"])
    assert found is not None
    step = 0.1219482421875
    assert np.array_equal(_stored(step * np.array([-32.0, 31.0]), "bf16"), weight[0, :2])
    for value in _stored(step * np.arange(-32, 32), "bf16"):
        assert _allowed(found, 0, value) == pytest.approx(value, rel=LAST_PLACE["bf16"])


def test_below_the_normal_numbers_of_16_bits_roundings_hide_more() -> None:
    codes = np.array([[-8, 7, 1, 3, -5, 2, 4, -1]])
    assert find_grid(_stored(codes * 1.3e-7, "f16"), "f16") is None
    found = find_grid(_stored(codes * 2.0**-24, "f16"), "f16")
    assert found is None  # 1 may have been rounded from a half to one and a half
    assert find_grid(_stored(codes * 2.0**-14, "f16"), "f16") is not None


def test_blocks_that_take_fewer_bits_go_before_larger_ones_with_a_common_step() -> None:
    """Steps as 2 to 3 make a grid of 6 bits, whose box leaves out what the second channel may have."""
    codes = np.array([[-8, 7, 1, 3, -5, 2, 4, -1, 6, -6, 0, 5], [-5, 4, 1, 3, -5, 2, 4, -1, -3, 3, 0, 2]])
    weight = codes * np.array([[0.02], [0.03]])
    for hints in ([], ["nf4"], ["int4:channel"]):
        found = find_grid(np.tile(weight, 2), "f64", hints)
        assert found is not None
        assert found.name == "int4:channel"
        assert _allowed(found, 1, 8 * -0.03) == pytest.approx(8 * -0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_the_blocks_of_a_named_format_are_those_of_few_weights(kind: str) -> None:
    """Scales of powers of two have a common step; in a small layer the name tells that there were several."""
    codes = np.array([[-4, 3, 1, 2, -3, 0], [-8, 7, 1, 5, -6, 3]])
    weight = codes * np.array([[0.25], [0.125]])
    found = find_grid(weight, kind, ["int5:channel"])
    assert found is not None
    assert found.name == "int5:channel"
    for value in 0.25 * np.arange(-16, 16):
        assert _allowed(found, 0, value) == value
    wide = np.tile(weight, (8, 1))  # of sixteen channels none has more bits: they share a step
    found = find_grid(wide, kind, ["int4:channel"])
    assert found is not None
    assert found.name == "int4"


def test_no_grid_of_more_than_8_bits_is_found() -> None:
    codes = np.array([[-200, 199, 1, 3], [-9, 8, 1, 3]])
    assert find_grid(codes * 0.01, "f32") is None
    found = find_grid(np.array([[-200, 55, 1, 3], [-55, 200, 1, 3]]) * 0.01, "f32")
    assert found is not None
    assert found.name == "int8:channel:asym"


@pytest.mark.parametrize("kind", KINDS)
def test_zero_points_and_few_codes_leave_every_step_open(kind: str) -> None:
    """A block of zeros and one weight, whose scale is from its range: the weight has the last code."""
    codes = np.zeros((6, 16), dtype=np.int64)
    codes[:] = np.random.default_rng(0).integers(-3, 13, (6, 16))
    codes[:, 0], codes[:, 1], codes[:, 2] = -3, 12, 1
    codes[2] = 0
    codes[2, 5] = 15
    step = _stored(np.full((6, 1), 0.0117), "f16") * np.arange(1, 7)[:, None] ** 0.5
    step = _stored(step, "f16")
    found = find_grid(_stored(step * codes, kind), kind)
    assert found is not None
    assert found.name == "int4:channel:asym"
    assert "the step that is seen" not in found.presumed
    assert found.mixed == (2,)
    for value in _stored(step[2] * np.arange(16), kind):
        assert _allowed(found, 2, value) == pytest.approx(value, rel=LAST_PLACE[kind])
    for channel in range(6):
        values = found.grid.values(channel)
        own = values.nearest(found.weight[channel])
        assert own is not None
        assert np.array_equal(values.weight_of(own), found.weight[channel])


def test_a_block_of_few_levels_has_those_of_every_scale_that_fits() -> None:
    """MXFP4 whose largest weight has the number 4, or 6 at a scale that has another third."""
    rng = np.random.default_rng(0)
    units = parse("mxfp4").values.units
    weight = rng.choice(units, (4, 32))
    weight[:, :6] = 6, 4, 0.5, 1.5, 3, -1
    weight[2] = np.resize([0, 3, -1.5, 0.0], 32)
    found = find_grid(weight, "f32", ["mxfp4"])
    assert found is not None
    assert found.name == "mxfp4"
    assert found.mixed == (2,)
    assert "in 1 of 4 blocks, which use few levels, it holds for every scale" in found.presumed
    for value in [*units, *(0.5 * units)]:
        assert _allowed(found, 2, value) == value
    # a grid of two bits says these weights in fewer bits than levels do
    few = find_grid(rng.integers(-1, 2, (4, 32)).astype(float), "f32", ["mxfp4"])
    assert few is not None
    assert few.name == "int2"


@pytest.mark.parametrize("kind", ["f16", "bf16"])
@pytest.mark.parametrize("name", ["nf4:b16", "nvfp4"])
def test_levels_that_16_bits_leave_open_are_all_there(name: str, kind: str) -> None:
    """Whatever the scale was, to the last bit: no weight of a level shows how that is rounded."""
    rng = np.random.default_rng(0)
    units = parse(name).values.units
    several = 0
    for _ in range(100):
        scale = rng.uniform(0.01, 0.03, (20, 1)).astype(np.float32).astype(float)
        weight = _stored((scale * rng.choice(units, (20, 16))).astype(np.float32).astype(float), kind)
        found = find_grid(weight, kind, [name])
        assert found is not None
        assert found.name == name
        assert "may be neighbours in 16 bits: it holds for all" in found.presumed
        for channel in range(20):
            values = found.grid.values(channel)
            assert isinstance(values, Levels)
            levels = np.unique(values.levels[0])
            allowed = _stored((scale[channel] * units).astype(np.float32).astype(float), kind)
            assert np.isin(allowed, levels).all()
            assert np.isin(weight[channel], levels).all()
            several += len(levels) > len(units)
    assert several


def test_a_named_format_of_few_blocks_of_levels_comes_before_steps_of_as_many_bits() -> None:
    """Small numbers of E2M1 are codes of 4 bits too, in a box that leaves out its 6."""
    weight = 0.25 * np.resize([-4.0, -3.0, 1.5, 3.0, 0.0, -0.5], (1, 32))
    named, unnamed = find_grid(weight, "f32", ["mxfp4"]), find_grid(weight, "f32")
    assert named is not None
    assert named.name == "mxfp4"
    assert unnamed is not None
    assert unnamed.name == "int4"
    both = find_grid(weight, "f32", ["mxfp4", "int4"])
    assert both is not None
    assert both.name == "int4"


@pytest.mark.parametrize(("name", "hint"), [("int2:g16", "int4:g16"), ("nf4:b16", "nf4:b16")])
def test_a_file_of_many_blocks_is_read_in_seconds(name: str, hint: str) -> None:
    """A million weights in blocks of few codes: one block after the other they took 42 s, with values 67."""
    weight = 0.02 * np.random.default_rng(0).normal(size=(1024, 1024))
    weight = _stored(np.asarray(parse(name).round_to_nearest(weight)), "bf16")
    start = time.process_time()
    found = find_grid(weight, "bf16", [hint])
    assert found is not None
    assert found.name == hint
    for channel in range(0, 1024, 4):
        found.grid.values(channel)
    assert time.process_time() - start < 12.0


@pytest.mark.parametrize("scope", ["tensor", "channel", "g16"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_that_leaves_no_grid_is_named(tmp_path: Path, scope: str, kind: str) -> None:
    step = _steps(scope)
    weight = _stored(step * _codes(4, False, scope=scope), kind)
    weight[4, 37] = _stored(np.array([step[4, 37] * 2.3713]), kind)[0]
    path = write(tmp_path, {"weight": torch.tensor(weight).to(KINDS[kind])})
    with pytest.raises(InputError) as refused:
        read_layer(open_checkpoint(path), LAYER)
    text = str(refused.value)
    assert f"the weight {weight[4, 37]:.9g} of input 37 of output channel 4 is off its grid" in text
    nearest = float(text.partition("nearest value is ")[2].partition(")")[0])
    assert nearest == pytest.approx(2 * step[4, 37], rel=LAST_PLACE[kind])
    assert LAYER in text
    assert text.count(": ") == 1


def test_weights_of_which_many_are_off_are_not_named(tmp_path: Path) -> None:
    weight = torch.tensor(np.random.default_rng(3).normal(size=(CHANNELS, INPUTS)), dtype=torch.float32)
    with pytest.raises(
        InputError, match="no uniform grid of 8 bits or fewer is found, and which are not pruned: if"
    ):
        read_layer(open_checkpoint(write(tmp_path, {"weight": weight})), LAYER)


def test_levels_that_fit_are_not_said_to_be_off() -> None:
    few = np.random.default_rng(0).integers(-1, 2, (4, 32)).astype(float)
    found = find_grid(few, "f32", ["mxfp4", "nf4"])
    assert found is not None
    assert found.name == "int2"
    assert not any("mxfp4" in note for note in found.notes)
    assert any("are off nf4," in note for note in found.notes)


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_values_that_16_bits_leave_open_are_all_there(kind: str) -> None:
    """Whatever the step was, to the last bit: no weight of its largest codes shows how those are rounded."""
    rng = np.random.default_rng(0)
    several = 0
    for _ in range(200):
        step = rng.uniform(0.01, 0.03)
        codes = rng.integers(-8, 8, (1, 16))
        codes[0, :3] = -8, 3, 1
        codes[codes == 7] = 6
        found = find_grid(_stored(step * codes, kind), kind, ["int4"])
        assert found is not None
        values = found.grid.values(0)
        assert isinstance(values, Levels)
        levels = np.unique(values.levels[0])
        assert np.isin(_stored(step * np.arange(-8, 8), kind), levels).all()
        several += len(levels) > 16
    assert several


def test_the_smallest_numbers_of_16_bits_leave_many_values_open() -> None:
    """A step of 101 of them is known to one in a hundred: eight of it to eight of them."""
    step = 101.4 * 2.0**-24
    weight = _stored(step * np.resize([1.0, 0.0, -1.0, 1.0], (1, 16)), "f16")
    found = find_grid(weight, "f16", ["int4"])
    assert found is not None
    values = found.grid.values(0)
    assert isinstance(values, Levels)
    for own in np.linspace(100.51, 101.49, 99) * 2.0**-24:
        assert np.isin(_stored(own * np.arange(-8, 8), "f16"), values.levels[0]).all()


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16"])
def test_numbers_that_were_rounded_before_are_presumed_away(kind: str) -> None:
    """Of weights dequantized in 16 bits and stored in 32, exact multiples are not what was chosen from."""
    codes = np.resize([-2.0, 1.0, 0.0, -1.0], (1, 16))
    step = float(_stored(np.array([0.123]), "bf16")[0])
    found = find_grid(_stored(step * codes, kind), kind, ["int3"])
    assert found is not None
    told = "no 16 bits, which hold all of its numbers, rounded them before"
    assert (told if kind == "f32" else "each weight is its product rounded once") in found.presumed
    longer = find_grid(_stored(0.123 * codes, "f32"), "f32", ["int3"])
    assert longer is not None
    assert "rounded" not in longer.presumed
    levels = find_grid(_stored(step * np.resize(parse("mxfp4").values.units, (1, 32)), kind), kind, ["mxfp4"])
    assert levels is not None
    assert (told if kind == "f32" else "each weight is its product rounded once") in levels.presumed


def test_levels_below_the_normal_numbers_of_16_bits_are_all_there() -> None:
    """Their numbers may be those of a level beside: they tell no scale, and no level is theirs alone."""
    rng, units = np.random.default_rng(0), parse("fp8:e5m2").values.units
    for scale in rng.uniform(1e-8, 5e-8, 300):
        codes = rng.choice(units[np.abs(units) < 2000.0], (1, 32))
        codes[0, 0] = units.max()
        found = find_grid(_stored(scale * codes, "f16"), "f16", ["fp8:e5m2"])
        if found is None or not found.name.startswith("fp8"):
            continue
        values = found.grid.values(0)
        assert isinstance(values, Levels)
        assert np.isin(_stored(scale * units, "f16"), values.levels[0]).all()


def test_a_named_format_of_levels_comes_before_steps_of_as_many_bits_and_blocks() -> None:
    """24 blocks of NVFP4 without its largest numbers: codes of int4, whose box leaves -12, 8 and 12 out."""
    units = parse("nvfp4").values.units
    weight = np.resize(units[np.abs(units) < 4.0], (24, 16)) * (0.01 + 0.001 * np.arange(24))[:, None]
    weight[:, 0] = 0.0
    found = find_grid(weight, "f32", ["nvfp4"])
    assert found is not None
    assert found.name == "nvfp4"

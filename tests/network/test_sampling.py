"""Estimates from samples of channels: they cover the truth, and never leave what is certified."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import pvqbounds as pvq
from pvqbounds.network.sampled import sampled_channels
from pvqbounds.report.frames import layer_rows
from pvqbounds.results.sampling import CONFIDENCE, estimated_total
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.network_store import Store, unit_files

COVERED = 90
"""Of 100 samples, at a confidence of 95 %."""


def population(seed: int, channels: int, skew: float, drift: float) -> tuple[np.ndarray, np.ndarray]:
    """Errors of channels, and cheap bounds that lose from 5 to 45 %, more on large channels by `drift`."""
    rng = np.random.default_rng(seed)
    errors = np.exp(rng.normal(0.0, skew, channels))
    kept = rng.uniform(0.55, 0.95, channels) * np.clip(1.0 - drift * np.log(errors), 0.5, 1.05)
    return errors, errors * kept


def covered(errors: np.ndarray, cheap: np.ndarray, sample: int, samples: int = 100) -> int:
    """How many random samples have intervals that hold the total."""
    held = 0
    for seed in range(samples):
        chosen = np.random.default_rng(seed).choice(len(errors), sample, replace=False)
        found = estimated_total(errors[chosen], cheap[chosen], np.delete(cheap, chosen))
        assert found.low <= found.value <= found.high
        held += found.low <= errors.sum() <= found.high
    return held


@pytest.mark.parametrize("channels", [64, 384, 1536])
@pytest.mark.parametrize("drift", [0.0, 0.05])
@pytest.mark.parametrize("above", [False, True])
def test_intervals_cover_the_truth_of_skewed_populations(channels, drift, above):
    held = []
    for seed in range(5):
        errors, cheap = population(seed, channels, 1.0, drift)
        held.append(covered(errors, errors**2 / cheap if above else cheap, 16 if channels == 64 else 32))
    assert sum(held) / 5 >= COVERED


def test_controls_of_zero_leave_a_plain_mean():
    errors = np.random.default_rng(0).gamma(3.0, 1.0, 300)
    assert covered(errors, np.zeros(300), 32) >= COVERED
    half = np.where(np.arange(300) % 2 == 0, errors, 0.0)
    assert covered(errors, half, 32) >= COVERED


def test_a_perfect_control_leaves_nothing_to_doubt():
    errors, _ = population(0, 200, 1.0, 0.0)
    found = estimated_total(errors[:20], 0.5 * errors[:20], 0.5 * errors[20:])
    assert found.value == pytest.approx(errors.sum(), rel=1e-9)
    assert found.high - found.low <= 1e-9 * errors.sum()


@pytest.mark.parametrize("unit", [1e-200, 1.0, 1e200])
def test_units_do_not_count(unit):
    errors, cheap = population(1, 100, 1.0, 0.0)
    found = estimated_total(errors[:20], cheap[:20], cheap[20:])
    scaled = estimated_total(unit * errors[:20], unit * cheap[:20], unit * cheap[20:])
    assert scaled == pytest.approx(tuple(unit * end for end in found), rel=1e-9)


# ------------------------------------------------------------------------------------- layers


@pytest.fixture(scope="module")
def wide():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 40, bias=False))
    with torch.no_grad():
        model[0].weight *= torch.exp(torch.randn(40, 1))
    return model, torch.randn(200, 10) @ torch.randn(10, 10)


@pytest.fixture(scope="module")
def sampled(wide, tmp_path_factory):
    store = tmp_path_factory.mktemp("sampled") / "s"
    formats = ["int3", "25%", "nf4", "2:4"]
    return store, pvq.nn.network_bounds(*wide, store=store, formats=formats, methods=[], sample=12)


def test_ends_are_certified_for_all_channels_and_estimates_lie_within_them(wide, sampled):
    _, network = sampled
    for side in network.layers[0].report.sides:
        whole = pvq.nn.layer_bounds(*wide[:1], "0", wide[1], formats=[side.format], methods=[]).sides[0]
        assert len(side.slices) == 40
        assert side.lower_kind == "certified"
        assert side.error_lower <= whole.error_lower * (1.0 + 1e-6)
        assert side.error_upper >= whole.error_upper * (1.0 - 1e-6)
        found = side.estimate
        assert found.sample == tuple(sampled_channels(0, "0", 40, 12))
        for ends in (found.error_lower, found.error_upper):
            assert side.error_lower <= ends.low <= ends.value <= ends.high <= side.error_upper * (1 + 1e-12)


def test_channels_of_the_sample_are_as_tight_as_alone(wide, sampled):
    _, network = sampled
    side = network.layers[0].report.side("int3")
    whole = pvq.nn.layer_bounds(*wide[:1], "0", wide[1], formats=["int3"], methods=[]).sides[0]
    for channel in side.estimate.sample:
        mine, other = (s.slices[channel].bounds for s in (side, whole))
        assert mine.error_lower >= other.error_lower * (1.0 - 1e-9)
        assert mine.error_upper <= other.error_upper * (1.0 + 1e-9)


def test_channels_without_signal_are_known_and_not_estimated(tmp_path):
    torch.manual_seed(1)
    model, data = nn.Sequential(nn.Linear(10, 40, bias=False)), torch.randn(200, 10)
    with torch.no_grad():
        model[0].weight[::2] = 0.0
    network = pvq.nn.network_bounds(
        model, data, store=tmp_path / "s", formats=["int3", "25%"], methods=[], sample=20
    )
    for side in network.layers[0].report.sides:
        whole = pvq.nn.layer_bounds(model, "0", data, formats=[side.format], methods=[]).sides[0]
        for found, end in (
            (side.estimate.error_lower, whole.error_lower),
            (side.estimate.error_upper, whole.error_upper),
        ):
            assert found.low * (1.0 - 1e-6) <= end <= found.high * (1.0 + 1e-6)


def test_labels_reach_files_tables_and_proofs(sampled):
    store, network = sampled
    report = network.layers[0].report
    assert "estimated from 12 of 40 channels, no bound" in str(report)
    for row in layer_rows(report):
        assert row["sampled_channels"] == 12
        assert row["estimated_sqnr_lower_95"] <= row["estimated_sqnr_lower"]
    for side in report.sides:
        path, _ = unit_files(store, "0", side.format)
        assert all(finding.holds for finding in verify_file(path))
    assert Store.open(store).read().layers[0].report.sides[0].estimate == report.sides[0].estimate


def test_an_estimate_that_does_not_follow_is_found_out(sampled, tmp_path):
    store, _ = sampled
    path, _ = unit_files(store, "0", "int3")
    text = path.read_text()
    there = tmp_path / path.name
    there.with_suffix(".npz").write_bytes(path.with_suffix(".npz").read_bytes())
    there.write_text(text.replace(f'"confidence": {CONFIDENCE}', '"confidence": 0.99'))
    assert any("estimate.confidence" in finding.where for finding in verify_file(there) if not finding.holds)


def test_a_layer_of_no_more_channels_than_the_sample_is_solved_whole(wide, tmp_path):
    network = pvq.nn.network_bounds(*wide, store=tmp_path / "s", formats=["25%"], methods=[], sample=40)
    assert network.layers[0].report.sides[0].estimate is None


@pytest.mark.long
@pytest.mark.parametrize("form", ["int4", "25%"])
def test_intervals_cover_the_truth_of_a_layer_solved_whole(form):
    loaded = pvq.nn.load_model("digits")
    grams = pvq.nn.gram_of_layer(loaded.module, "block5.0", loaded.data)
    options = {"grams": grams, "formats": [form], "methods": [], "method": "relax"}
    tight = pvq.nn.layer_bounds(loaded, "block5.0", **options).sides[0].slices
    cheap = pvq.nn.layer_bounds(loaded, "block5.0", relaxation="shared", **options).sides[0].slices
    pairs = [(one.bounds, other.bounds) for one, other in zip(tight, cheap, strict=True)]
    lower = np.array([max(one.error_lower, other.error_lower) for one, other in pairs])
    upper = np.array([min(one.error_upper, other.error_upper) for one, other in pairs])
    assert covered(lower, np.array([other.error_lower for _, other in pairs]), 16) >= COVERED
    assert covered(upper, np.array([other.error_upper for _, other in pairs]), 16) >= COVERED
    assert math.fsum(lower) < math.fsum(upper)

"""Estimates from samples of channels: they cover the truth, and never leave what is certified."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import pvqbounds as pvq
from pvqbounds.methods import proposals, proposing
from pvqbounds.network import unit
from pvqbounds.network.sampled import sampled_channels
from pvqbounds.network.unit import CANDIDATES
from pvqbounds.report.frames import layer_rows
from pvqbounds.results.estimate import Estimated
from pvqbounds.results.sampling import CONFIDENCE, estimated_total
from pvqbounds.solving.kinds import CodedKind
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.network_store import Store, unit_files

COVERED = 90
"""Of 100 samples, at a confidence of 95 %."""


def population(seed: int, channels: int, drift: float) -> tuple[np.ndarray, ...]:
    """Tight and cheap ends of many channels: cheap ones lose more on large channels by `drift`."""
    rng = np.random.default_rng(seed)
    errors = np.exp(rng.normal(0.0, 1.0, channels))
    lower, upper = errors * rng.uniform(0.75, 0.9, channels), errors * rng.uniform(1.0, 1.1, channels)
    lost = np.clip(1.0 - drift * np.log(errors), 0.5, 1.05)
    below = lower * rng.uniform(0.55, 0.95, channels) * lost
    return lower, upper, below, upper * rng.uniform(1.05, 1.5, channels) / lost


def covered(ends: np.ndarray, below: np.ndarray, above: np.ndarray, sample: int, samples: int = 100) -> int:
    """How many random samples have intervals that hold the total."""
    held = 0
    for seed in range(samples):
        chosen = np.random.default_rng(seed).choice(len(ends), sample, replace=False)
        found = estimate(ends, below, above, chosen)
        assert found.low <= found.value <= found.high
        held += found.low <= ends.sum() <= found.high
    return held


def estimate(ends: np.ndarray, below: np.ndarray, above: np.ndarray, chosen: np.ndarray) -> Estimated:
    rest = np.delete(below, chosen), np.delete(above, chosen)
    return estimated_total(ends[chosen], (below[chosen], above[chosen]), rest)


@pytest.mark.parametrize("channels", [64, 384, 1536])
@pytest.mark.parametrize("drift", [0.0, 0.05])
@pytest.mark.parametrize("end", [0, 1])
def test_intervals_cover_the_truth_of_skewed_populations(channels, drift, end):
    held = []
    for seed in range(5):
        *tight, below, above = population(seed, channels, drift)
        held.append(covered(tight[end], below, above, 16 if channels == 64 else 32))
    assert sum(held) / 5 >= COVERED


def test_cheap_bounds_of_zero_leave_the_other_end_as_control():
    lower, _, below, above = population(0, 300, 0.0)
    assert covered(lower, np.zeros(300), above, 32) >= COVERED
    assert covered(lower, np.where(np.arange(300) % 2 == 0, below, 0.0), above, 32) >= COVERED


@pytest.mark.parametrize("part", [0.03, 0.1, 0.2])
def test_channels_that_cheap_bounds_reach_and_hardly_any_of_the_sample_does(part):
    """As MiniLM's queries: l/u was 0 to 0.02 on the sample, up to 0.9 elsewhere, and the ends crossed."""
    held = np.zeros(2)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        reached = np.where(rng.random(384) < part, rng.beta(1.2, 2.0, 384), 0.0)
        above = np.exp(rng.normal(0.0, 0.05, 384)) * (1.0 + 4.0 * reached)
        between = rng.uniform(0.19, 0.25, 384) * np.where(reached > 0.0, 2.0, 1.0)
        lower = above * (reached + (1.0 - reached) * between)
        upper = above * (1.0 - (1.0 - reached) * rng.uniform(0.03, 0.2, 384))
        held += [covered(end, reached * above, above, 16) for end in (lower, upper)]
        for sample in range(100):
            chosen = np.random.default_rng(sample).choice(384, 16, replace=False)
            ends = [estimate(end, reached * above, above, chosen) for end in (lower, upper)]
            assert ends[0].value <= ends[1].value
    assert (held / 5 >= COVERED).all()


def test_a_perfect_control_leaves_nothing_to_doubt():
    *_, below, above = population(0, 200, 0.0)
    ends = below + 0.3 * (above - below)
    found = estimate(ends, below, above, np.arange(20))
    assert found.value == pytest.approx(ends.sum(), rel=1e-9)
    assert found.high - found.low <= 1e-9 * above.sum()


@pytest.mark.parametrize("unit", [1e-200, 1.0, 1e200])
def test_units_do_not_count(unit):
    lower, _, below, above = population(1, 100, 0.0)
    found = estimate(lower, below, above, np.arange(20))
    scaled = estimate(unit * lower, unit * below, unit * above, np.arange(20))
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
    formats = ["int3", "25%", "nf4", "2:4", "2:4+int3", "mxfp4"]
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


def test_no_channel_has_more_error_than_gptq_leaves_it(sampled):
    _, network = sampled
    for side in network.layers[0].report.sides:
        problems = [s.problem for s in side.slices]
        names = proposing(CANDIDATES, problems)
        assert names or side.task == "pruning"
        for points in proposals(names, problems).values():
            for found, point in zip(side.slices, points, strict=True):
                assert found.bounds.error_upper <= found.problem.point(point).upper


def test_a_method_that_is_better_counts_where_nobody_asked_for_it(wide, tmp_path, monkeypatch):
    options = {"formats": ["nf4"], "methods": [], "sample": 12}
    nearest = lambda kind, problem, *others: problem.codes_of_nearest()  # noqa: E731
    monkeypatch.setattr(CodedKind, "descended", nearest)
    found = pvq.nn.network_bounds(*wide, store=tmp_path / "a", **options).layers[0].report.sides[0]
    monkeypatch.setattr(unit, "CANDIDATES", ())
    other = pvq.nn.network_bounds(*wide, store=tmp_path / "b", **options).layers[0].report.sides[0]
    assert found.error_upper < other.error_upper
    assert found.methods == other.methods == {}


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
@pytest.mark.parametrize("form", ["int4", "25%", "nf4", "2:4+int4"])
def test_intervals_cover_the_truth_of_a_layer_solved_whole(form):
    loaded = pvq.nn.load_model("digits")
    grams = pvq.nn.gram_of_layer(loaded.module, "block5.0", loaded.data)
    options = {"grams": grams, "formats": [form], "methods": [], "method": "relax"}
    tight = pvq.nn.layer_bounds(loaded, "block5.0", **options).sides[0].slices
    cheap = pvq.nn.layer_bounds(loaded, "block5.0", relaxation="shared", **options).sides[0].slices
    pairs = [(one.bounds, other.bounds) for one, other in zip(tight, cheap, strict=True)]
    lower = np.array([max(one.error_lower, other.error_lower) for one, other in pairs])
    upper = np.array([min(one.error_upper, other.error_upper) for one, other in pairs])
    below, above = (
        np.array([getattr(other, end) for _, other in pairs]) for end in ("error_lower", "error_upper")
    )
    assert covered(lower, below, above, 16) >= COVERED
    assert covered(upper, below, above, 16) >= COVERED

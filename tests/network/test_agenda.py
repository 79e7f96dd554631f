"""What comes next within a time for a run, and Grams in as many runs of the model as memory asks for."""

from __future__ import annotations

import pytest
import torch
from small_network import contents, small_data, small_network
from torch import nn

import pvqbounds as pvq
from pvqbounds.errors import InputError
from pvqbounds.network import capture
from pvqbounds.network.agenda import gap_of
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.network_store import Store, unit_files


def wide(channels: int, inputs: int = 40) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(inputs, channels, bias=False))
    return model, torch.randn(6 * inputs, inputs) @ torch.randn(inputs, inputs)


def test_the_channels_that_are_chosen_make_up_most_of_the_gap(tmp_path):
    model, data = wide(12)
    options = {"formats": ["int3"], "methods": [], "method": "relax", "relaxation": "box-hull"}
    report = pvq.nn.layer_bounds(model, "0", data, **options)
    gap, chosen = gap_of(report)
    side = report.sides[0]
    widths = [s.bounds.error_upper - s.bounds.error_lower for s in side.slices]
    assert gap == pytest.approx(sum(widths) / side.error_upper)
    within = sum(widths[channel] for channel in chosen)
    assert 0.8 * sum(widths) <= within < sum(widths)
    assert min(widths[channel] for channel in chosen) >= max(
        width for channel, width in enumerate(widths) if channel not in chosen
    )


def test_a_sample_that_is_closed_further_keeps_its_estimate_true(tmp_path):
    model, data = wide(24)
    options = {"store": tmp_path / "s", "formats": ["int3"], "methods": [], "sample": 8}
    first = pvq.nn.network_bounds(model, data, **options, total_time=0.2).layers[0].report.sides[0]
    again = pvq.nn.network_bounds(model, data, **options, total_time=3.0).layers[0].report.sides[0]
    assert again.estimate.sample == first.estimate.sample
    assert again.estimate.cheap_lower == first.estimate.cheap_lower
    assert again.error_lower >= first.error_lower
    closed = {
        s.channel
        for s, t in zip(again.slices, first.slices, strict=True)
        if s.bounds.error_lower > t.bounds.error_lower
    }
    assert closed
    assert closed <= set(first.estimate.sample)
    path, _ = unit_files(tmp_path / "s", "0", "int3")
    assert all(finding.holds for finding in verify_file(path))


def test_little_memory_takes_more_runs_of_the_model_and_the_same_grams(tmp_path, monkeypatch):
    options = {"formats": ["25%"], "methods": []}
    pvq.nn.network_bounds(small_network(), small_data(), store=tmp_path / "one", **options)
    monkeypatch.setattr(capture, "available_memory", lambda: 0.0)
    pvq.nn.network_bounds(small_network(), small_data(), store=tmp_path / "many", **options)
    assert contents(tmp_path / "one") == contents(tmp_path / "many")
    once = iter([small_data()])
    with pytest.raises(InputError, match="read only once"):
        pvq.nn.network_bounds(small_network(), once, store=tmp_path / "none", **options)


def test_a_run_that_ended_among_the_grams_takes_the_others_only(tmp_path, monkeypatch):
    options = {"formats": ["25%"], "methods": []}
    monkeypatch.setattr(capture, "available_memory", lambda: 0.0)  # a layer a run
    taken = []
    real = capture.grams_of_layers

    def counted(model, layers, *rest, **named):
        if len(taken) == 2 and "ended" not in taken:
            taken.append("ended")
            raise KeyboardInterrupt
        taken.extend(layer.name for layer in layers)
        return real(model, layers, *rest, **named)

    monkeypatch.setattr(capture, "grams_of_layers", counted)
    with pytest.raises(KeyboardInterrupt):
        pvq.nn.network_bounds(small_network(), small_data(), store=tmp_path / "s", **options)
    network = pvq.nn.network_bounds(small_network(), small_data(), store=tmp_path / "s", **options)
    assert taken == ["0", "3", "ended", "5"]
    assert network.done == 3
    assert all(layer.grams for layer in Store.open(tmp_path / "s").manifest.layers)

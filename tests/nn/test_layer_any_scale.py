"""A layer whose scales are free: its side, methods, words and file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pvqbounds import nn as bounds_of
from pvqbounds.errors import InputError
from pvqbounds.problems.formats import parse
from pvqbounds.report.tables import layer_text
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.results_read import read_layer
from pvqbounds.storage.results_written import write_layer


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(8, 3, bias=False)), torch.randn(60, 8)


@pytest.fixture(scope="module")
def report(model):
    network, data = model
    return bounds_of.layer_bounds(network, "0", data, formats=["int3:channel", "int3:any", "1:4+int3:any"])


def test_a_free_scale_is_never_worse_than_one_that_is_found(report) -> None:
    fixed, free, _ = report.sides
    assert free.error_lower <= fixed.error_upper
    assert free.error_upper <= fixed.error_upper * (1.0 + 1e-12)
    assert free.status == "optimal"
    assert all(s.bounds.scale > 0.0 for s in free.slices)


def test_methods_count_at_the_best_scale_of_their_codes(report) -> None:
    fixed, free, _ = report.sides
    assert set(free.methods) == set(fixed.methods)
    for channel, result in enumerate(free.slices):
        for name, points in free.methods.items():
            error = result.problem.error(points[channel]).upper
            assert error >= result.bounds.error_lower
            if name == "rtn":  # the same codes, and a scale that fits them
                assert np.array_equal(points[channel], fixed.methods[name][channel])
                assert error <= fixed.method_errors[name][channel] * (1.0 + 1e-12)


def test_a_file_holds_it(report, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_layer(report, path)
    assert [finding for finding in verify_file(path) if not finding.holds] == []
    again = read_layer(path)
    assert [side.format for side in again.sides] == ["int3:channel", "int3:any", "1:4+int3:any"]
    assert [s.bounds.scale for s in again.sides[1].slices] == [s.bounds.scale for s in report.sides[1].slices]


def test_the_option_frees_the_scales_of_plain_formats(model) -> None:
    network, data = model
    report = bounds_of.layer_bounds(network, "0", data, bits=2, any_scale=True)
    assert [side.format for side in report.sides] == ["int2:any", "12.5%"]
    text = layer_text(report)
    assert "any scale a channel" in text


def test_the_verdict_says_so(model) -> None:
    network, data = model
    formats = ["int6:channel", "int2:any"]
    text = " ".join(layer_text(bounds_of.layer_bounds(network, "0", data, formats=formats)).split())
    assert "whatever its scales" in text


@pytest.mark.parametrize("formats", [["int4:g4"], ["nf4", "2:4"], ["int4", "int4:channel"]])
def test_what_cannot_be_freed_is_refused(model, formats) -> None:
    network, data = model
    with pytest.raises(InputError, match=r"any_scale|any scale"):
        bounds_of.layer_bounds(network, "0", data, formats=formats, any_scale=True)


def test_names_and_sizes() -> None:
    form = parse("INT4:any")
    assert form.name == parse("int4:channel:any").name == "int4:any"
    assert form.bits_per_weight((32, 128)) == 4 + 16 / 128
    assert parse("2:4+int4:any").any_scale
    with pytest.raises(InputError):
        parse("int4:g32:any")
    with pytest.raises(InputError):
        parse("int4:any:mse")

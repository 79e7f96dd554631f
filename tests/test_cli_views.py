"""Tables, verdicts and pictures say what is true, in words that fit the terminal."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import pvqbounds as pvq
from pvqbounds.errors import OutputError
from pvqbounds.problems import magnitude_support
from pvqbounds.report.layer import LayerReport, Side, SliceResult
from pvqbounds.report.plot import plot_layer
from pvqbounds.report.tables import interval_text, layer_view, rounded_down, rounded_up, verdict_text


@pytest.fixture(scope="module")
def report() -> LayerReport:
    """One channel of six inputs at 4 bits, and with three weights kept."""
    inputs = np.random.default_rng(0).normal(size=(40, 6))
    gram, weight = pvq.Gram(inputs.T @ inputs / 40), np.random.default_rng(1).normal(size=6)
    integer = pvq.IntegerLeastSquares(gram, weight, 0.3, -8, 7)
    sparse = pvq.SparseLeastSquares(gram, weight, nnz=3)
    quantized, pruned = (SliceResult(0, (0, 6), p, pvq.solve(p)) for p in (integer, sparse))
    points = {"magnitude+refit": (sparse.refit(magnitude_support(sparse)),)}
    return LayerReport(
        model="tiny",
        layer="conv",
        description="Linear 6->1",
        protocol="full",
        inputs=6,
        channels=(1, 1),
        positions=40,
        range_method="mse",
        quantization=Side("quantization", 4, None, (quantized,), {"rtn": (integer.codes_of_nearest(),)}),
        pruning=Side("pruning", None, 0.5, (pruned,), points),
        seconds=0.1,
    )


def _with_pruning(report: LayerReport, **changes: object) -> LayerReport:
    result = report.pruning.slices[0]
    changed = replace(result, bounds=replace(result.bounds, **changes))  # type: ignore[arg-type]
    return replace(report, pruning=replace(report.pruning, slices=(changed,)))


def _shown(report: LayerReport) -> str:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(layer_view(report))
    return " ".join(console.export_text().split())


@given(st.floats(-290, 290))
def test_printed_intervals_contain_the_true_ones(value: float) -> None:
    assert float(rounded_down(value)) <= value <= float(rounded_up(value))
    assert float(rounded_up(value)) - float(rounded_down(value)) <= 0.0101


def test_intervals_without_numbers() -> None:
    assert interval_text(math.nan, math.nan) == "no signal"
    assert interval_text(1e9, math.inf) == "∞ (no error)"
    assert interval_text(20.001, math.inf) == "20.00 .. ∞ dB"


def test_the_verdict_names_both_numbers_it_rests_on(report: LayerReport) -> None:
    assert report.verdict == "quantization"
    text = verdict_text(report)
    assert "quantization (4 bits) is provably better than pruning (density 0.5)" in text
    assert rounded_down(report.quantization.sqnr_interval[0]) in text
    assert rounded_up(report.pruning.sqnr_interval[1]) in text


def test_overlapping_intervals_decide_nothing(report: LayerReport) -> None:
    open_ended = _with_pruning(report, error_lower=0.0, status="bounded")
    assert open_ended.verdict == "undecided"
    assert "the intervals overlap" in verdict_text(open_ended)


def test_a_reported_bound_decides_nothing(report: LayerReport) -> None:
    reported = _with_pruning(report, lower_kind="reported", certificate=None)
    assert reported.verdict == "undecided"
    assert "not proved" in verdict_text(reported)
    assert "reported (1 of 1 not proved)" in _shown(reported)


def test_the_table_says_what_it_rests_on(report: LayerReport) -> None:
    text = _shown(report)
    for words in ("one fixed scale", "weights only", "calibration data", "a pruning budget for each channel"):
        assert words in text
    assert "certified" in text


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_every_kind_of_report_can_be_drawn(tmp_path: Path, report: LayerReport, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"plot{suffix}"
    for drawn in (report, _with_pruning(report, lower_kind="reported"), replace(report, protocol="chunked")):
        plot_layer(drawn, path)
        assert path.stat().st_size > 5000
    assert list(tmp_path.iterdir()) == [path]


def test_a_picture_of_another_kind(tmp_path: Path, report: LayerReport) -> None:
    with pytest.raises(OutputError, match=r"\.png"):
        plot_layer(report, tmp_path / "plot.gif")

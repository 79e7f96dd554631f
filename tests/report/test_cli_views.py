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
from pvqbounds.report.comparison import comparison_view, entries_of
from pvqbounds.report.plot import plot_layer
from pvqbounds.report.tables import (
    error_text,
    layer_view,
    plain_text,
    problem_view,
    reason_text,
    solvers_view,
    verdict_text,
)
from pvqbounds.results.decibels import interval_text, rounded_down, rounded_up, sqnr_text
from pvqbounds.results.layer import LayerReport, Side, SliceResult
from pvqbounds.results.notes import gap_note, times


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
        sides=(
            Side("int4", 4 + 16 / 6, (quantized,), {"rtn": (integer.codes_of_nearest(),)}),
            Side("50%", 9.0, (pruned,), points),
        ),
        seconds=0.1,
    )


def _with_pruning(report: LayerReport, **changes: object) -> LayerReport:
    result = report.pruning.slices[0]
    changed = replace(result, bounds=replace(result.bounds, **changes))  # type: ignore[arg-type]
    return replace(report, sides=(report.quantization, replace(report.pruning, slices=(changed,))))


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


@given(st.floats(-100, 290), st.floats(0, 1e-5))
def test_an_optimum_is_one_number_of_certain_digits(value: float, width: float) -> None:
    text = sqnr_text(value, value + width, optimal=True)
    if ".." in text:  # a boundary of three decimals lies between
        assert text == interval_text(value, value + width)
        return
    digits = text.removesuffix(" dB")
    unit = 10.0 ** -len(digits.partition(".")[2])
    assert float(digits) <= value
    assert value + width < float(digits) + unit * (1.0 + 1e-9)


def test_numbers_of_an_optimum() -> None:
    assert sqnr_text(27.3851, 27.3852, optimal=True) == "27.38 dB"  # as 27.38 is what the weights reach
    assert sqnr_text(27.3899, 27.39001, optimal=True) == "27.38 .. 27.40 dB"
    assert sqnr_text(27.3851, 27.3852, optimal=False) == "27.38 .. 27.39 dB"
    assert sqnr_text(math.nan, math.nan, optimal=True) == "no signal"
    assert sqnr_text(math.inf, math.inf, optimal=True) == "∞ (no error)"
    assert error_text(4.833261e-4, 4.833262e-4, optimal=True) == "0.000483326"
    assert error_text(4.833265e-4, 4.8332651e-4, optimal=True) in ("0.000483326", "0.000483327")
    assert error_text(0.0, 0.0, optimal=True) == "0"
    assert error_text(1.0000009, 1.0000011, optimal=False) == "1 .. 1.00001"  # outwards


def test_no_bound_says_why(report: LayerReport) -> None:
    endless = _with_pruning(report, error_lower=0.0, status="bounded", note="time limit")
    few = " ".join(plain_text(layer_view(replace(endless, positions=5))).split())
    assert "∞ dB" in few
    assert "fewer positions (5) than the layer has inputs (6)" in few
    many = " ".join(plain_text(layer_view(endless)).split())
    assert "Pruning has no bound: nothing above 0 is proved of its error (time limit)." in many


def test_bounded_says_why(report: LayerReport) -> None:
    sides = (report.quantization, report.pruning)
    assert [reason_text(side, 40) for side in sides] == ["", ""]
    bounds = report.pruning.slices[0].bounds
    loose = 0.5 * bounds.error_lower
    told = _with_pruning(report, error_lower=loose, status="bounded", note="time limit")
    assert "Pruning is bounded: time limit." in _shown(told)
    untold = _with_pruning(
        report, error_lower=loose, status="bounded", method="relax", relaxation="perspective"
    )
    assert "the gap of the perspective relaxation" in _shown(untold)
    view = plain_text(problem_view(untold.pruning.slices[0], "p.npz"))
    assert "because" in view
    assert "the gap of the perspective relaxation" in view


def test_every_bounded_result_has_a_reason() -> None:
    inputs = np.random.default_rng(0).normal(size=(40, 24))
    gram, weight = pvq.Gram(inputs.T @ inputs / 40), np.random.default_rng(1).normal(size=24)
    integer = pvq.IntegerLeastSquares(gram, weight, 0.3, -8, 7)
    sparse = pvq.SparseLeastSquares(gram, weight, nnz=12)
    solved = [pvq.solve(p, method="relax") for p in (integer, sparse)]
    solved += [pvq.solve(integer, method="relax", relaxation=name) for name in ("box-hull", "park-boyd")]
    solved += pvq.solve_channels([integer, integer], relaxation="shared")
    bounded = [bounds for bounds in solved if bounds.status == "bounded"]
    assert len(bounded) > 2
    assert all(bounds.note for bounds in bounded)
    assert not any("0.0e+00" in bounds.note or "of 0 nodes" in bounds.note for bounds in solved)
    assert gap_note("bounded", "exact", None) != ""
    assert gap_note("optimal", "exact", None) == ""
    counts = {0: "0", 390: "390", 12_000: "12,000", 3.4e6: "3.4 million", 5e12: "5.0e+12"}
    assert {count: times(count) for count in counts} == counts


def test_a_layer_without_signal_is_not_called_reported(report: LayerReport) -> None:
    problem = pvq.SparseLeastSquares(np.eye(6), np.zeros(6), nnz=3)
    dead = SliceResult(0, (0, 6), problem, pvq.solve(problem))
    side = replace(report.pruning, slices=(dead,), methods={})
    silent = replace(report, sides=(report.quantization, side))
    assert "no signal" in verdict_text(silent)
    assert "reported" not in verdict_text(silent)


def test_a_report_in_a_session(report: LayerReport) -> None:
    assert len(repr(report)) < 200
    assert "quantization" in repr(report)
    assert "optimal, certified" in repr(report)
    assert str(report).splitlines() == plain_text(layer_view(report)).splitlines()
    assert max(map(len, str(report).splitlines())) <= 80
    assert "Verdict" in str(report)
    for part in (report.pruning, report.pruning.slices[0], report.pruning.slices[0].bounds):
        assert len(repr(part)) < 200
        assert "array(" not in repr(part)


def test_the_comparison_explains_its_columns(report: LayerReport) -> None:
    text = " ".join(plain_text(comparison_view("title", entries_of("native", report))).split())
    assert "stated: the bound in dB that the solver states itself" in text


def test_cvxpys_solvers_are_listed_together() -> None:
    text = " ".join(plain_text(solvers_view(pvq.solvers())).split())
    assert "cvxpy:NAME" in text


def test_the_verdict_names_both_numbers_it_rests_on(report: LayerReport) -> None:
    assert report.verdict == (("int4", "50%"),)
    text = verdict_text(report)
    assert "quantization (4 bits) is provably better than pruning (density 0.5)" in text
    assert rounded_down(report.quantization.sqnr_interval[0]) in text
    assert rounded_up(report.pruning.sqnr_interval[1]) in text


def test_overlapping_intervals_decide_nothing(report: LayerReport) -> None:
    open_ended = _with_pruning(report, error_lower=0.0, status="bounded")
    assert open_ended.verdict == ()
    assert "the intervals overlap" in verdict_text(open_ended)


def test_a_reported_bound_decides_nothing(report: LayerReport) -> None:
    reported = _with_pruning(report, lower_kind="reported", certificate=None)
    assert reported.verdict == ()
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


def test_the_words_of_a_distribution_lie_within_its_picture(
    tmp_path: Path, report: LayerReport, monkeypatch
) -> None:
    figures = pytest.importorskip("matplotlib.figure")
    drawn, save = [], figures.Figure.savefig

    def kept(figure, *arguments, **options):
        drawn.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(figures.Figure, "savefig", kept)
    sides = tuple(replace(side, slices=side.slices[:1] * 50, methods={}) for side in report.sides)
    plot_layer(replace(report, sides=sides), tmp_path / "many.png", words=False)
    (figure,) = drawn
    figure.draw_without_rendering()
    (axes,) = (axes for axes in figure.axes if "share of them" in axes.get_xlabel())
    words, plot = axes.xaxis.label.get_window_extent(), axes.get_window_extent()
    assert words.width <= 0.85 * plot.width  # names of sides beside it may be longer


def test_a_picture_has_the_notes(tmp_path: Path, report: LayerReport) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "picture.svg"
    noted = replace(report, notes=("Interrupted: $ and $ cost no picture.",))
    plot_layer(noted, path)
    assert "Note: Interrupted: $ and $ cost no picture." in path.read_text()
    plot_layer(noted, path, words=False)
    assert "Interrupted" not in path.read_text()


def test_a_picture_of_another_kind(tmp_path: Path, report: LayerReport) -> None:
    with pytest.raises(OutputError, match=r"\.png"):
        plot_layer(report, tmp_path / "plot.gif")

"""Reports as rows, in files, and kept and drawn from Python."""

from __future__ import annotations

import csv
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import run

from pvqbounds import nn
from pvqbounds.errors import InputError, OutputError
from pvqbounds.report.frames import check_table_path, layer_rows, write_table
from pvqbounds.results.layer import LayerReport


@pytest.fixture(scope="module")
def report():
    loaded = nn.load_model("digits")
    return nn.layer_bounds(
        loaded, "block1.0", formats=["int2", "25%"], methods=["rtn"], held_out=loaded.data[:9]
    )


def test_rows_say_what_the_report_does(report):
    rows = layer_rows(report)
    assert [row["format"] for row in rows] == ["int2", "25%"]
    assert (rows[0]["sqnr_lower"], rows[0]["sqnr_upper"]) == report.sides[0].sqnr_interval
    assert rows[0]["rtn_sqnr"] == report.sides[0].method_sqnr("rtn")
    assert rows[1]["held_out_best_sqnr"] == report.held_out.sqnr(1)
    channels = layer_rows(report, per_channel=True)
    assert len(channels) == 8
    assert [row["channel"] for row in channels[:4]] == [0, 1, 2, 3]
    assert channels[5]["error_upper"] == report.sides[1].slices[1].bounds.error_upper


def test_tables_in_files(report, tmp_path):
    rows = layer_rows(report)
    write_table(rows, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as stream:
        read = list(csv.DictReader(stream))
    assert float(read[0]["error_lower"]) == rows[0]["error_lower"]
    assert read[1]["rtn_sqnr"] == ""
    parquet = pytest.importorskip("pyarrow.parquet")
    write_table(rows, tmp_path / "t.parquet")
    columns = parquet.read_table(tmp_path / "t.parquet").to_pydict()
    assert columns["sqnr_upper"] == [row["sqnr_upper"] for row in rows]
    assert columns["rtn_sqnr"][1] is None


def test_latex_rounds_intervals_outwards(tmp_path):
    rows = [
        {"format": "25%", "sqnr_lower": 1.239, "sqnr_upper": 1.231, "error_lower": 0.0012399},
        {"format": "a_b", "sqnr_lower": math.nan, "sqnr_upper": math.inf, "error_lower": 0.0},
    ]
    write_table(rows, tmp_path / "t.tex")
    lines = (tmp_path / "t.tex").read_text().splitlines()
    assert r"25\% & 1.23 & 1.24 & 0.00123 \\" in lines
    assert r"a\_b & -- & $\infty$ & 0.00 \\" in lines
    assert lines[0] == r"\begin{tabular}{lrrr}"


@pytest.mark.parametrize("kind", ["csv", "parquet", "tex"])
def test_names_that_are_no_text_are_written_all_the_same(tmp_path, kind):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"t.{kind}"
    write_table([{"layer": "a\udcff", "of b\udcfe": 1.0}], path)
    assert path.stat().st_size > 0
    if kind == "csv":
        assert path.read_text("utf-8").splitlines() == [r"layer,of b\udcfe", r"a\udcff,1.0"]


def test_a_table_of_another_kind_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"\.csv, \.parquet or \.tex"):
        check_table_path(tmp_path / "t.xls")


def test_a_report_is_kept_and_drawn_from_python(report, tmp_path):
    report.save(tmp_path / "r.json")
    again = LayerReport.load(tmp_path / "r.json")
    assert str(again) == str(report)
    assert again.held_out == report.held_out
    report.plot(tmp_path / "a.svg")
    report.plot(tmp_path / "b.svg", words=False)
    assert (tmp_path / "a.svg").stat().st_size > (tmp_path / "b.svg").stat().st_size


def test_a_data_frame_has_the_rows_as_they_are(report):
    pytest.importorskip("pandas")
    frame = report.to_frame()
    assert list(frame["channel"]) == [0, 1, 2, 3] * 2
    ends = [s.bounds.error_lower for side in report.sides for s in side.slices]
    assert list(frame["error_lower"]) == ends
    assert frame["rtn_sqnr"].notna().tolist() == [True] * 4 + [False] * 4
    sides = report.to_frame(per_channel=False)
    assert list(sides["format"]) == ["int2", "25%"]
    assert sides.loc[1, "sqnr_upper"] == report.sides[1].sqnr_interval[1]


def test_a_data_frame_without_pandas_says_what_to_install(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="pip install pandas"):
        report.to_frame()


def test_show_prints_and_redraws(report, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    report.save("r.json")
    assert run("show", "r.json", "--plot", "p.png", "--no-words", "--table", "t.csv") == 0
    assert "digits block1.0" in capsys.readouterr().out
    assert Path("p.png").stat().st_size > 0
    assert len(Path("t.csv").read_text().splitlines()) == 3
    assert run("show", "none.json") == 2
    np.savez("p.npz", gram=np.eye(2), weight=np.ones(2), scale=1.0, qmin=-2, qmax=1)
    assert run("solve", "p.npz", "--json", "q.json") == 0
    capsys.readouterr()
    assert run("show", "q.json") == 0
    assert capsys.readouterr().out


def test_many_channels_are_drawn_as_a_distribution(tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 50))
    many = nn.layer_bounds(model, "0", torch.randn(20, 3), formats=["int2", "50%"], methods=[])
    many.plot(tmp_path / "many.png")
    few = replace(many, sides=tuple(replace(side, slices=side.slices[:40]) for side in many.sides))
    few.plot(tmp_path / "few.png")

    def height(name):
        return int.from_bytes((tmp_path / name).read_bytes()[20:24], "big")

    assert height("many.png") < height("few.png") / 2


def test_channels_without_a_bound_have_their_share_of_a_distribution():
    """The line of the bounds ends where those begin that have none, and says how many they are."""
    from matplotlib.figure import Figure

    from pvqbounds.report import plot

    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 50))
    many = nn.layer_bounds(model, "0", torch.randn(20, 3), formats=["int2"], methods=[])
    (side,) = many.sides
    unbounded = [
        replace(s, bounds=replace(s.bounds, error_lower=0.0)) if s.channel < 10 else s for s in side.slices
    ]
    axes = Figure().subplots()
    plot._draw_distributions(axes, replace(many, sides=(replace(side, slices=tuple(unbounded)),)))
    found, bound = axes.lines[:2]
    assert np.isfinite(found.get_xdata()).sum() == 50
    assert np.isfinite(bound.get_xdata()).sum() == 40
    last = bound.get_ydata()[np.isfinite(bound.get_xdata())].max()
    assert last == pytest.approx(0.85 * 39.5 / 50)
    assert len(axes.collections) == 1  # and the area between them
    assert axes.get_yticklabels()[0].get_text() == "int2\n50 channels\n10 without a bound"


def test_markers_of_many_sides_are_told_apart_in_the_legend():
    from matplotlib.figure import Figure

    from pvqbounds.report import plot

    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 2))
    formats = ["int2", "int3", "50%", "50%+int2"]
    report = nn.layer_bounds(model, "0", torch.randn(20, 6), formats=formats, methods=["all"])
    figure = Figure()
    plot._draw_legend(figure, report)
    handles = figure.legends[0].legend_handles
    shown = [(h.get_marker(), h.get_markeredgecolor()) for h in handles if hasattr(h, "get_marker")]
    assert len(shown) == len(set(shown)) > 15


def test_latex_has_no_letter_that_it_reads_as_something_else(tmp_path):
    write_table([{"layer": "a{0}~b^c_d\\e"}], tmp_path / "t.tex")
    row = (tmp_path / "t.tex").read_text().splitlines()[4]
    assert row == r"a\{0\}\textasciitilde{}b\textasciicircum{}c\_d\textbackslash{}e \\"

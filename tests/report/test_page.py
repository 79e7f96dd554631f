"""The page of a network: what it says, and what a browser makes of it."""

from __future__ import annotations

import csv
import html
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from chromium import chromium
from command_line import run
from small_networks import network_of, store_of

from pvqbounds import nn
from pvqbounds.results.estimate import Estimate, Estimated
from pvqbounds.results.network import NetworkReport

pytest.importorskip("jinja2")
from pvqbounds.network.allocation import allocation_frontier, choices_of
from pvqbounds.report.page.document import page_html, summary_text, write_page
from pvqbounds.report.page.figures import duels_of, gap_panels_of, intervals_of, wins_of
from pvqbounds.report.page.scales import Axis, decibel_axis, linear_axis, logarithmic_axis

HOSTILE = """<img src=x onerror="document.title='taken'">'"&{{ 7*7 }}</script><script>alert(1)</script>"""


FORMATS = ("int2", "int4", "25%")


@pytest.fixture(scope="module")
def layer():
    loaded = nn.load_model("digits")
    return nn.layer_bounds(loaded, "block1.0", formats=FORMATS, methods=["rtn", "gptq", "magnitude"])


@pytest.fixture(scope="module")
def network(layer) -> NetworkReport:
    """Three layers: as it is, with a sampled side, and with a reported one alone."""
    sides = layer.sides
    ends = sides[0].error_lower, sides[0].error_upper
    low, high = (Estimated(end, 0.9 * end, 1.1 * end) for end in ends)
    sampled = replace(sides[0], estimate=Estimate((0, 1), low, high, (), ()))
    reported = [replace(s, bounds=replace(s.bounds, lower_kind="reported")) for s in sides[1].slices]
    second = replace(layer, layer="b.2", sides=(sampled, *sides[1:]))
    third = replace(layer, layer=HOSTILE, sides=(replace(sides[1], slices=tuple(reported)),))
    made = network_of([(layer, 36), (second, 36), (third, 100)])
    last = replace(made.layers[2], failures={"int2": HOSTILE}, left_out={"25%": "it means nothing"})
    return replace(made, layers=(*made.layers[:2], last), notes=("A note.",))


# ------------------------------------------------------------------------------- figures as data


def test_intervals_are_those_of_the_sides(network, layer):
    rows = intervals_of(network)
    assert [(row.depth, row.format) for row in rows] == [
        *((1, form) for form in ("int2", "int4", "25%")),
        *((2, form) for form in ("int2", "int4", "25%")),
        (3, "int4"),
    ]
    for row, side in zip(rows[:3], layer.sides, strict=True):
        assert (row.lower, row.upper) == side.sqnr_interval
        assert row.best_mark.value == max(map(side.method_sqnr, side.methods))
    assert rows[1].beats == ("int2", "25%")
    assert [row.labels for row in rows[3:]] == [
        ("certified", "estimated"),
        ("certified",),
        ("certified",),
        ("reported",),
    ]
    outer, inner, far, farthest = rows[3].estimated
    assert outer < inner <= far < farthest


def test_what_is_expected_is_no_method(network):
    row = intervals_of(network)[1]
    assert [mark.name for mark in row.marks] == ["rtn", "gptq", "expected"]
    assert row.best_mark.name != "expected"
    assert {panel.method for panel in gap_panels_of(intervals_of(network))} == {"rtn", "gptq", "magnitude"}


def test_duels_count_what_is_proved(network, layer):
    duels = {(duel.x, duel.y): duel for duel in duels_of(network)}
    assert set(duels) == {("int2", "int4"), ("int2", "25%"), ("int4", "25%")}
    assert duels_of(network)[0].across
    for (x, y), duel in duels.items():
        assert [box.layer for box in duel.boxes] == ["block1.0", "b.2"]
        assert duel.boxes[0].x == layer.side(x).sqnr_interval
        assert duel.boxes[0].y == layer.side(y).sqnr_interval
        winner = "x" if (x, y) in layer.verdict else "y" if (y, x) in layer.verdict else ""
        assert duel.count(winner) == 2


def test_wins_are_counted_over_the_layers(network, layer):
    wins = {(one, other): n for one, row in wins_of(network) for other, n in zip(FORMATS, row, strict=True)}
    for one in FORMATS:
        for other in FORMATS:
            expected = 2 * ((one, other) in layer.verdict) if one != other else None
            assert wins[one, other] == expected


def test_gaps_lie_between_what_was_found_and_the_bound(network, layer):
    panels = {(panel.format, panel.method): panel for panel in gap_panels_of(intervals_of(network))}
    bars = panels["int2", "rtn"].bars
    side = layer.side("int2")
    assert [bar.depth for bar in bars] == [1, 2]
    assert bars[0].least == pytest.approx(side.sqnr_interval[0] - side.method_sqnr("rtn"))
    assert bars[0].most == pytest.approx(side.sqnr_interval[1] - side.method_sqnr("rtn"))


def test_axes_hold_what_they_are_made_of():
    axis = linear_axis([1.0, 3.0])
    assert axis.place(axis.low) == 0.0
    assert axis.place(2.0) == pytest.approx(50.0)
    assert axis.place(99.0) == 100.0
    assert [tick.text for tick in Axis(0.0, 10.0).ticks] == ["0", "2", "4", "6", "8", "10"]
    assert [tick.text for tick in Axis(-0.3, 0.32).ticks] == ["-0.2", "0", "0.2"]
    errors = logarithmic_axis([0.001, 1.0, 0.0])
    assert errors.place(math.sqrt(0.001)) == pytest.approx(50.0)
    assert [tick.text for tick in errors.ticks] == ["0.001", "0.01", "0.1", "1"]
    assert errors.place(0.0) == 0.0
    far = decibel_axis([20.0, 30.0, math.inf], [-80.0, 10.0])
    assert far.holds(10.0)
    assert not far.holds(-80.0)
    assert linear_axis([]).low < linear_axis([]).high
    assert linear_axis([2.0, 2.0]).place(2.0) == pytest.approx(50.0)


# ------------------------------------------------------------------------------------- the page


class Reader(HTMLParser):
    """What a page refers to and runs."""

    def __init__(self):
        super().__init__()
        self.tags, self.links = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        named = dict(attributes)
        self.links += [named[name] for name in ("src", "href") if name in named]
        assert not any(name.startswith("on") or name == "style" for name in named)


def test_a_page_says_what_it_knows_and_runs_nothing_of_a_stranger(network):
    text = page_html(network, allocation_frontier(choices_of(network)), {"r.csv": "layers"}, ["one note"])
    reader = Reader()
    reader.feed(text)
    assert reader.tags.count("script") == 1
    assert "img" not in reader.tags
    assert [link for link in reader.links if not link.startswith(("#", "data:"))] == ["r.csv"]
    assert html.escape(HOSTILE, quote=False).split("&lt;/script")[0].split("&#")[0][:20] in text
    for said in (
        "certified",
        "reported",
        "estimated",
        "expected",
        "0.1.0",
        "pvqbounds network digits",
        "A note.",
    ):
        assert said in text
    assert text.count("data-estimated-lower95=") == 1  # saved beside the certified ends of that row
    assert "No choice among these formats at" in text
    assert "it means nothing" in text
    assert "{{ 7*7 }}" in text  # what looks like a template is none
    assert summary_text(network, intervals_of(network)) in html.unescape(text)


def test_the_policy_lets_nothing_else_run(network):
    text = page_html(network)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert html.unescape(policy).startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy


def test_layers_without_a_bound_or_a_signal_are_drawn(network, layer):
    side = layer.sides[2]
    none = [replace(s, bounds=replace(s.bounds, error_lower=0.0)) for s in side.slices]
    endless = replace(layer, layer="no bound", sides=(replace(side, slices=tuple(none)),))
    gram = side.slices[0].problem.shared
    dead = nn.layer_bounds(
        nn.load_model("digits"),
        "block1.0",
        grams=np.zeros_like(gram.matrix),
        formats=["int2"],
        methods=["rtn"],
    )
    text = page_html(network_of([(endless, 36), (replace(dead, layer="dead"), 36)]))
    assert "∞" in text
    assert "no bound" in text
    assert "no signal" in text
    assert "nan%" not in text
    assert "inf%" not in text


def test_tables_lie_beside_the_page(layer, tmp_path, capsys):
    store_of([(layer, 36), (replace(layer, layer="other"), 36)], tmp_path / "s")
    assert run("report", str(tmp_path / "s"), "--json", str(tmp_path / "r.json")) == 0
    document = json.loads((tmp_path / "r.json").read_text())
    assert len(document["rows"]) == 6
    assert document["allocations"][0]["error_lower"] <= document["allocations"][0]["error"]
    assert "shows 6 of 6 results" in " ".join(capsys.readouterr().out.split())
    with (tmp_path / "s" / "report.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["layer"] for row in rows] == ["block1.0"] * 3 + ["other"] * 3
    assert float(rows[0]["error_lower"]) == layer.sides[0].error_lower
    with (tmp_path / "s" / "report-channels.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 24
    parquet = pytest.importorskip("pyarrow.parquet")
    assert parquet.read_table(tmp_path / "s" / "report.parquet").num_rows == 6
    assert parquet.read_table(tmp_path / "s" / "report-allocations.parquet").num_rows > 1


def test_a_name_that_is_no_text_costs_no_page(layer, tmp_path):
    store_of([(replace(layer, layer="a\udcff"), 36)], tmp_path / "s")
    assert run("report", str(tmp_path / "s")) == 0
    assert r"a\udcff" in (tmp_path / "s" / "report.html").read_text("utf-8")
    assert (
        run("allocate", str(tmp_path / "s"), "--bits-per-weight", "5", "--json", str(tmp_path / "a.json"))
        == 0
    )


def test_wrong_usage_is_told_in_a_sentence(layer, tmp_path, capsys):
    store = store_of([(layer, 36)], tmp_path / "s")
    for path in (store.path / "units").rglob("*.json"):
        path.unlink()
    for arguments, sentence in (
        ([str(tmp_path / "none")], "no store"),
        ([str(store.path), "--out", "x.pdf"], ".html file"),
        ([str(store.path), "--out", str(tmp_path / "no" / "x.html")], "no"),
        ([str(store.path)], "has a result yet"),
    ):
        assert run("report", *arguments) == 2
        assert sentence in " ".join(capsys.readouterr().err.split())


# ----------------------------------------------------------------------------------- in a browser


SHOWN = "[...document.querySelectorAll('#rows tbody tr')].filter(row => !row.hidden)"
LAYERS = f"{SHOWN}.map(row => row.dataset.layer)"


def choose(page, name: str, value: str) -> None:
    """Set a field as a person does."""
    field = f"document.getElementById('{name}')"
    page.run(f"{field}.value = {value!r}; {field}.dispatchEvent(new Event('input', {{bubbles: true}}))")


def test_in_a_browser(network, tmp_path):
    write_page(network, tmp_path / "page.html", allocation_frontier(choices_of(network)), {"r.csv": "layers"})
    with chromium(tmp_path) as page:
        page.look(1400)
        page.open(tmp_path / "page.html")
        assert len(page.run(LAYERS)) == 7
        assert page.run(LAYERS)[-1] == HOSTILE
        assert page.run("document.title") == "digits: how far from the best possible"

        choose(page, "sort", "lower")
        lower = page.run(f"{SHOWN}.map(row => Number(row.dataset.lower))")
        assert lower == sorted(lower)
        page.run("document.querySelector('th[data-key=lower]').click()")
        assert page.run(f"{SHOWN}.map(row => Number(row.dataset.lower))") == lower[::-1]
        assert page.run("document.querySelector('th[data-key=lower]').ariaSort") == "descending"
        page.run("document.querySelector('th[data-key=depth]').click()")
        assert page.run(f"{SHOWN}.map(row => row.dataset.depth)") == list("1112223")

        choose(page, "format", "int4")
        assert page.run(LAYERS) == ["block1.0", "b.2", HOSTILE]
        choose(page, "find", "B.2")
        assert page.run(LAYERS) == ["b.2"]
        assert page.run("document.getElementById('count').textContent") == "1 of 7 rows"
        choose(page, "find", "")
        choose(page, "format", "")
        choose(page, "label", "estimated")
        assert page.run(LAYERS) == ["b.2"]

        seen = "[...document.querySelectorAll('.choice[data-choice=duel]')].filter(own => !own.hidden).length"
        assert page.run(seen) == 1
        assert page.faults() == []
        assert page.requests() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_narrow_and_wide_windows(network, tmp_path, scheme):
    write_page(network, tmp_path / "page.html", allocation_frontier(choices_of(network)))
    brightness = "getComputedStyle(document.body).backgroundColor"
    with chromium(tmp_path) as page:
        page.open(tmp_path / "page.html")
        for width in (400, 1400):
            page.look(width, scheme)
            assert page.run("document.documentElement.scrollWidth") <= width
            bars = page.run(
                "[...document.querySelectorAll('.bar')].map(bar => bar.getBoundingClientRect().width)"
            )
            assert min(bars) > 0.3 * width
        paper = page.run(brightness)
        page.run("document.getElementById('theme').click()")
        switched = page.run(brightness)
        assert {paper, switched} == {"rgb(255, 255, 255)", "rgb(20, 23, 26)"}
        assert (paper == "rgb(20, 23, 26)") == (scheme == "dark")
        assert page.faults() == []

"""Formats that are never worse, as they allow every weight of others: reports, words, page and files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.problems.formats import parse
from pvqbounds.report.tables import layer_text, verdict_text
from pvqbounds.results.layer import LayerReport, SharedBudget, SharedScale, Side, SliceResult
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.results_read import read_layer
from pvqbounds.storage.results_written import write_layer

CHANNELS, INPUTS = 2, 16


def report_of(formats: Sequence[str], protocol: Any = "full") -> LayerReport:
    """A layer in some formats, with a cheap bound, so that few of them are decided."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(200, INPUTS)) + rng.normal(size=(200, 1))
    weights = rng.normal(size=(CHANNELS, INPUTS))
    gram = pvq.Gram(inputs.T @ inputs / 200)
    sides = []
    for name in formats:
        form = parse(name)
        problems = form.problems(gram, weights)
        slices = []
        for i, problem in enumerate(problems):
            found = pvq.solve(problem)
            loose = replace(found, error_lower=0.0, certificate=None, status="bounded", note="loosened")
            slices.append(SliceResult(i, (0, INPUTS), problem, loose))
        counted = None if form.support is None else "stored"
        size = form.size(problems, (CHANNELS, INPUTS))
        sides.append(Side(name, size, tuple(slices), {}, mask_cost=counted))
    return LayerReport(
        model="tiny", layer="head", description="Linear 16->2", protocol=protocol, inputs=INPUTS,
        channels=(CHANNELS, CHANNELS), positions=200, range_method="mse", sides=tuple(sides), seconds=0.1,
    )  # fmt: skip


FOUR = ("50%", "2:4", "2:4+int3", "int4")


@pytest.fixture(scope="module")
def four() -> LayerReport:
    return report_of(FOUR)


@pytest.fixture(scope="module")
def pair() -> LayerReport:
    return report_of(FOUR[1:3])


def plain(text: str) -> str:
    return " ".join(text.split())


# ------------------------------------------------------------------------------------ reports


def test_it_is_known_where_no_interval_says_so(four: LayerReport) -> None:
    assert four.verdict == four.dominates == ()
    assert set(four.contains) == {("50%", "2:4"), ("50%", "2:4+int3"), ("2:4", "2:4+int3")}
    assert four.never_worse == four.contains
    assert four.undominated == FOUR
    assert "50% >= 2:4, 50% >= 2:4+int3, ..." in repr(four)


def test_what_intervals_decide_says_more(pair: LayerReport) -> None:
    worse = pair.sides[1]
    exact = [replace(s.bounds, error_lower=s.bounds.error_upper) for s in worse.slices]
    tight = tuple(replace(s, bounds=b) for s, b in zip(worse.slices, exact, strict=True))
    decided = replace(pair, sides=(pair.sides[0], replace(worse, slices=tight)))
    assert decided.verdict == decided.contains == (("2:4", "2:4+int3"),)
    assert decided.never_worse == ()
    assert "2:4 is provably better than 2:4+int3" in verdict_text(decided)


def test_sides_about_other_weights_are_not_compared(pair: LayerReport) -> None:
    larger, smaller = pair.sides
    moved = tuple(replace(s, channel=s.channel + 1) for s in larger.slices)
    assert replace(pair, sides=(replace(larger, slices=moved), smaller)).contains == ()
    assert replace(pair, sides=(replace(larger, slices=larger.slices[:1]), smaller)).contains == ()
    first, second = larger.slices
    assert replace(pair, sides=(replace(larger, slices=(second, first)), smaller)).contains == ()
    problem = pvq.SparseLeastSquares(2.0 * first.problem.gram, first.problem.weight, pattern=(2, 4))
    other = (replace(first, problem=problem), second)
    assert replace(pair, sides=(replace(larger, slices=other), smaller)).contains == ()


def test_a_budget_of_the_layer_holds_those_of_channels_and_no_other_way() -> None:
    report = report_of(("50%", "25%", "2:4", "25%+int3"))

    def shared(at: int, nnz: int) -> LayerReport:
        sides = list(report.sides)
        sides[at] = replace(sides[at], shared=SharedBudget(nnz, 0.0))
        return replace(report, sides=tuple(sides))

    half = shared(0, 16)  # as many as 2:4 keeps of the layer
    assert {held for larger, held in half.contains if larger == "50%"} == {"25%", "2:4", "25%+int3"}
    assert {held for larger, held in shared(0, 15).contains if larger == "50%"} == {"25%", "25%+int3"}
    assert ("50%", "2:4") in shared(0, 10**15).contains  # as a file may say
    # a quarter of the layer, all of it spent on one channel, is half of that channel's weights
    quarter = shared(1, 8)
    assert ("50%", "25%") in quarter.contains
    assert ("2:4", "25%") not in quarter.contains
    assert ("50%", "25%") not in shared(1, 9).contains
    assert ("25%", "25%+int3") in quarter.contains


def test_one_free_scale_of_the_layer_holds_one_given_scale_alone() -> None:
    report = report_of(("int3:tensor:any", "int3:any", "int3", "int3:channel", "2:4+int3"))
    found = SharedScale(0.3, 0.0, None)
    given = parse("int3").problems(
        report.sides[0].slices[0].problem.shared,
        np.stack([s.problem.weight for s in report.sides[0].slices]),
    )
    at_scale = tuple(
        replace(s, problem=pvq.IntegerLeastSquares(p.shared, p.weight, 0.3, -4, 3))
        for s, p in zip(report.sides[0].slices, given, strict=True)
    )
    one = replace(report.sides[0], slices=at_scale, one_scale=found)
    report = replace(report, sides=(one, *report.sides[1:]))
    held = {name: {b for a, b in report.contains if a == name} for name in report.names}
    assert held["int3:tensor:any"] == {"int3", "2:4+int3"}
    assert held["int3:any"] == {"int3:tensor:any", "int3", "int3:channel", "2:4+int3"}
    assert held["int3"] == {"2:4+int3"}


def test_values_that_a_file_could_not_choose_freely_hold_nothing(pair: LayerReport) -> None:
    from pvqbounds.results.compressed import AS_STORED, Compressed

    larger, smaller = pair.sides
    origin = Compressed("f", "head", "plain", "", 0, False, (2, 4), False)
    points = {AS_STORED: tuple(s.bounds.weight for s in larger.slices)}
    stored = replace(larger, format="file", compressed=origin, methods=points)
    assert replace(pair, sides=(stored, smaller)).contains == (("file", "2:4+int3"),)
    unfree = replace(stored, compressed=replace(origin, mixed=(1,)))
    assert replace(pair, sides=(unfree, smaller)).contains == ()


# -------------------------------------------------------------------------------------- words


def test_a_pair_is_told_in_a_sentence(pair: LayerReport) -> None:
    assert verdict_text(pair) == (
        "Verdict: 2:4 is never worse than 2:4+int3, all of whose weights it allows; whether it is better is "
        "undecided, the intervals overlap."
    )
    turned = replace(pair, sides=pair.sides[::-1])
    assert verdict_text(turned) == verdict_text(pair)
    assert verdict_text(report_of(("2:4", "int4"))).startswith("Verdict: undecided, the intervals overlap")
    alike = verdict_text(report_of(("25%", "26%")))
    assert alike == "Verdict: 25% and 26% allow the same weights."


def test_some_formats_are_told_in_words_and_in_the_matrix(four: LayerReport) -> None:
    text = verdict_text(four)
    assert (
        "Never worse, allowing every weight of the other: 50% than 2:4 and 2:4+int3; 2:4 than 2:4+int3."
        in text
    )
    assert "Undecided: 50% and int4, 2:4 and int4, 2:4+int3 and int4 (the intervals overlap)." in text
    table = layer_text(four)
    assert max(map(len, table.splitlines())) <= 80
    assert ">= never worse: it allows every weight of the other" in plain(table)
    rows = [line.split() for line in table.splitlines() if line.strip()[:2] in ("1 ", "2 ", "3 ", "4 ")]
    assert [row[2:] for row in rows] == [
        [">=", ">=", "?"],
        ["<=", ">=", "?"],
        ["<=", "<=", "?"],
        ["?", "?", "?"],
    ]


def test_many_formats_are_counted() -> None:
    many = report_of(("50%", "2:4", "2:4+int3", "int4", "1:4", "25%", "26%"))
    pairs = {frozenset(pair) for pair in many.contains}
    text = verdict_text(many)
    assert text.startswith("Verdict: none of 21 pairs is decided.")
    assert f"In {len(pairs)} more one format is never worse: it allows every weight of the other." in text
    assert "= both allow the same weights" in plain(layer_text(many))


def test_chunks_are_told_of_too(four: LayerReport, pair: LayerReport) -> None:
    text = verdict_text(replace(pair, protocol="chunked"))
    assert (
        "2:4 is provably better on 0, 2:4+int3 on 0; 2:4 is never worse than 2:4+int3, all of whose weights "
        "it allows, so on the other 2 too."
    ) in text
    assert "2:4+int3 is provably better on 0, int4 on 0; 2 are undecided" in verdict_text(
        replace(four, protocol="chunked")
    )


def test_the_page_says_it(four: LayerReport) -> None:
    pytest.importorskip("jinja2")
    from small_networks import network_of

    from pvqbounds.report.page.document import page_html, summary_text
    from pvqbounds.report.page.figures import duels_of, intervals_of

    network = network_of([(four, 32)])
    rows = {row.format: row for row in intervals_of(network)}
    assert rows["50%"].holds == ("2:4", "2:4+int3")
    assert rows["50%"].beats == rows["int4"].holds == ()
    duels = {frozenset((duel.x, duel.y)): duel for duel in duels_of(network)}
    known = duels[frozenset(("2:4", "2:4+int3"))]
    assert known.held == (("2:4 is never worse, as it allows every weight of 2:4+int3", 1),)
    assert known.count("") == 0
    assert duels[frozenset(("2:4", "int4"))].held == ()
    assert duels[frozenset(("2:4", "int4"))].count("") == 1
    assert "0 are decided with a proof; in 3 more one format allows every weight" in summary_text(
        network, list(rows.values())
    )
    page = plain(page_html(network))
    assert "never worse than 2:4, 2:4+int3" in page
    assert "0 are undecided. On 1 more 2:4 is never worse, as it allows every weight of 2:4+int3." in page


# -------------------------------------------------------------------------------------- files


def test_files_hold_it_and_earlier_ones_do_not(four: LayerReport, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_layer(four, path)
    document = json.loads(path.read_text())
    assert document["contains"] == [list(pair) for pair in four.contains]
    assert read_layer(path).contains == four.contains
    assert all(finding.holds for finding in verify_file(path))
    del document["contains"]
    path.write_text(json.dumps(document))
    assert read_layer(path).contains == four.contains
    assert all(finding.holds for finding in verify_file(path))


@pytest.mark.parametrize("wrong", [[], [["2:4+int3", "2:4"]], [["int4", "2:4"]]])
def test_a_wrong_claim_of_a_file_is_found(four: LayerReport, tmp_path: Path, wrong: Any) -> None:
    path = tmp_path / "r.json"
    write_layer(four, path)
    document = json.loads(path.read_text())
    document["contains"] = wrong or document["contains"][1:]
    path.write_text(json.dumps(document))
    faults = [finding.where for finding in verify_file(path) if not finding.holds]
    assert faults
    assert all(where.startswith("contains") for where in faults)

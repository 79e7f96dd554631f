"""Reports of one, two and five sides: table, picture, file and proof, whatever the formats are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pvqbounds as pvq
from pvqbounds.errors import InputError
from pvqbounds.problems.formats import asked_formats, density_format, int_format, parse, pattern_format
from pvqbounds.report.plot import colours_of, plot_layer
from pvqbounds.report.tables import conditions_text, verdict_text
from pvqbounds.results.decibels import rounded_down
from pvqbounds.results.layer import LayerReport, Side, SliceResult
from pvqbounds.results.relation import size_beside
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.results_read import read_layer
from pvqbounds.storage.results_written import layer_document, write_layer

FIVE = ("int4", "int3", "25%", "2:4", "50%")
CHANNELS, INPUTS = 2, 8


def _report(formats: tuple[str, ...], protocol: Any = "full") -> LayerReport:
    """Two channels of eight inputs in each of the formats."""
    rng = np.random.default_rng(0)
    inputs, weights = rng.normal(size=(40, INPUTS)), rng.normal(size=(CHANNELS, INPUTS))
    gram = pvq.Gram(inputs.T @ inputs / 40)
    sides = []
    for name in formats:
        form = parse(name)
        problems = form.problems(gram, weights)
        bounds = pvq.solve_channels(problems)
        slices = tuple(
            SliceResult(i, (0, INPUTS), p, b) for i, (p, b) in enumerate(zip(problems, bounds, strict=True))
        )
        points = {"best": tuple(b.weight if b.codes is None else b.codes for b in bounds)}
        size = form.size(problems, (CHANNELS, INPUTS))
        counted = None if form.support is None else "stored"
        sides.append(Side(name, size, slices, points, mask_cost=counted))
    return LayerReport(
        model="tiny",
        layer="head",
        description="Linear 8->2",
        protocol=protocol,
        inputs=INPUTS,
        channels=(CHANNELS, CHANNELS),
        positions=40,
        range_method="mse",
        sides=tuple(sides),
        seconds=0.1,
    )


@pytest.fixture(scope="module", params=[("int4",), ("2:4",), ("int4", "25%"), ("int4", "int3"), FIVE])
def report(request: pytest.FixtureRequest) -> LayerReport:
    return _report(request.param)


@pytest.fixture(scope="module")
def five() -> LayerReport:
    return _report(FIVE)


# ------------------------------------------------------------------------------------ formats


@pytest.mark.parametrize(
    ("name", "form", "bits"),
    [
        ("int4", int_format(4), 4 + 16 / 64),
        ("int16", int_format(16), 16 + 16 / 64),
        ("25%", density_format(0.25), 5.0),
        ("12.5%", density_format(0.125), 3.0),
        ("2:4", pattern_format((2, 4)), 0.5 * 18),
    ],
)
def test_a_name_and_its_format(name: str, form: Any, bits: float) -> None:
    assert parse(name) == form
    assert form.name == name
    one = pvq.IntegerLeastSquares(np.eye(2), np.ones(2), 0.5, -2, 1)
    assert form.size([one, one], (4, 16)) == form.bits_per_weight((4, 16)) == bits
    other = pvq.IntegerLeastSquares(np.eye(2), np.ones(2), 0.25, -2, 1)
    assert int_format(4).size([one, other], (4, 16)) == 5.0  # a scale a channel of 16 inputs


@given(st.floats(0.0, 1.0, exclude_min=True))
def test_any_density_comes_back_from_its_name(density: float) -> None:
    assert parse(density_format(density).name) == density_format(density)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("int1", "int2 to int16"),
        ("int17", "int2 to int16"),
        ("0%", "above 0% and up to 100%"),
        ("101%", "above 0% and up to 100%"),
        ("5:4", "N of the pattern"),
        ("2:0", "M of the pattern"),
        ("in4", "no format 'in4'; did you mean 'int4'"),
        ("", "format"),
        ("9" * 5000 + "%", "density is a percentage above 0%"),
        (4, "format"),
        (None, "format"),
    ],
)
def test_what_is_no_format(name: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        parse(name)
    assert len(str(error.value)) < 250


def test_formats_and_their_short_forms() -> None:
    def names(*given: Any) -> list[str]:
        return [form.name for form in asked_formats(*given)]

    assert names(None, None, None, None) == ["int4", "25%"]
    assert names(None, 3, None, None) == ["int3", "18.75%"]
    assert names(None, None, 0.5, None) == ["int4", "50%"]
    assert names(None, 8, None, (2, 4)) == ["int8", "2:4"]
    assert names(["25.0%", "2:4", "int4"], None, None, None) == ["25%", "2:4", "int4"]
    for wrong, says in (
        ((["int4"], 4, None, None), "short forms"),
        ((["int4", "int4:tensor"], None, None, None), "int4 is given 2 times"),
        (([], None, None, None), "at least one"),
        (("int4", None, None, None), "list of names"),
        ((None, None, 0.5, (2, 4)), "not both"),
    ):
        with pytest.raises(InputError, match=says):
            asked_formats(*wrong)


# ------------------------------------------------------------------------------------ reports


def test_a_report_names_its_sides(five: LayerReport) -> None:
    assert five.names == FIVE
    assert _report(("int4", "25%")).names == ("quantization", "pruning")
    assert five.quantization is five.sides[0]
    assert five.pruning is five.sides[2]
    with pytest.raises(InputError, match="no side of pruning, only int4"):
        _ = _report(("int4",)).pruning
    with pytest.raises(InputError, match="different formats"):
        replace(five, sides=(five.sides[0], five.sides[0]))
    with pytest.raises(InputError, match="at least one"):
        replace(five, sides=())


def test_the_verdict_is_all_pairs_of_which_one_is_provably_better(five: LayerReport) -> None:
    ends = {side.format: side.sqnr_interval for side in five.sides}
    wanted = {(a, b) for a in FIVE for b in FIVE if ends[a][0] > ends[b][1]}
    assert set(five.verdict) == wanted
    assert len(wanted) == 10  # all are solved, and none are equal
    text = verdict_text(five)
    assert all(f"{better} than" in text for better, _ in wanted)
    assert "Undecided" not in text
    assert _report(FIVE, "chunked").verdict == ()


def test_a_better_format_dominates_those_that_are_no_smaller(five: LayerReport) -> None:
    size = {side.format: side.bits_per_weight for side in five.sides}
    wanted = {(a, b) for a, b in five.verdict if size[a] <= 1.01 * size[b]}
    assert set(five.dominates) == wanted
    assert ("int4", "25%") in wanted  # of one size
    assert ("int4", "int3") not in wanted  # better, and larger
    assert {pair.size for pair in five.relations if not pair.dominates} == {"larger"}
    losers = {b for _, b in wanted}
    assert five.undominated == tuple(name for name in FIVE if name not in losers)
    assert "No other is provably better and no larger: int4 and int3." in verdict_text(five)


@pytest.mark.parametrize(
    ("own", "other", "size"),
    [(4.0, 4.04, "equal"), (4.04, 4.0, "equal"), (4.0, 4.05, "smaller"), (4.05, 4.0, "larger")],
)
def test_sizes_are_equal_up_to_a_hundredth(own: float, other: float, size: str) -> None:
    assert size_beside(own, other) == size


def _matrix(report: LayerReport) -> dict[tuple[str, str], str]:
    """What the printed matrix says of each pair."""
    lines = str(report).splitlines()
    first = next(i for i, line in enumerate(lines) if "this, beside" in line)
    names = [side.format for side in report.sides]
    starts = [lines[first].index(f" {number} ") + 1 for number in range(1, len(names))]
    starts.append(len(lines[first].rstrip()) - 1)
    rows = lines[first + 2 : first + 2 + len(names)]
    return {
        (name, other): row[start : start + 2].strip()
        for name, row in zip(names, rows, strict=True)
        for other, start in zip(names, starts, strict=True)
    }


def test_the_matrix_says_what_the_relations_are(five: LayerReport) -> None:
    told = _matrix(five)
    for pair in five.relations:
        marks = (">>", "<<") if pair.dominates else (">", "<")
        assert (told[pair.better, pair.worse], told[pair.worse, pair.better]) == marks
    assert all(told[name, name] == "" for name in FIVE)


def test_many_formats_are_counted_and_the_matrix_has_the_pairs(five: LayerReport) -> None:
    wide = []
    for s in five.sides[
        0
    ].slices:  # a hair of another scale, so that it is not known to allow the same weights
        scale = np.nextafter(s.problem.step[0], 1.0)
        problem = pvq.IntegerLeastSquares(s.problem.shared, s.problem.weight, scale, -8, 7)
        wide.append(replace(s, problem=problem, bounds=replace(s.bounds, error_lower=0.0)))
    loose = replace(five.sides[0], slices=tuple(wide))
    more = replace(five, sides=(*five.sides, replace(loose, format="int5")))
    text = str(more)
    assert max(map(len, text.splitlines())) <= 80
    # int5 is reached as int4 is, and nothing bounds it: it is better than all but int4, and never worse
    assert "14 of 15 pairs are decided" in verdict_text(more)
    assert "? undecided: the intervals overlap" in " ".join(text.split())
    assert _matrix(more)["int4", "int5"] == "?"


def test_what_is_not_decided_is_said(five: LayerReport) -> None:
    unproved = [
        replace(s, bounds=replace(s.bounds, lower_kind="reported", certificate=None))
        for s in five.sides[2].slices
    ]
    told = replace(
        five, sides=(*five.sides[:2], replace(five.sides[2], slices=tuple(unproved)), *five.sides[3:])
    )
    assert not [pair for pair in told.verdict if pair[1] == "25%"]
    text = verdict_text(told)
    assert "Undecided: int4 and 25%" in text
    assert "the deciding bound is reported, not proved" in text


def test_the_table_fits_and_says_everything(report: LayerReport) -> None:
    text = str(report)
    assert max(map(len, text.splitlines())) <= 80
    for name, side in zip(report.names, report.sides, strict=True):
        assert name in text
        assert rounded_down(side.sqnr_interval[0]) in text
    assert "certified" in text
    assert "weights only" in text
    assert "no bound" in text or report.sides[0].task == "pruning"  # of the expected value
    assert len(repr(report)) < 250
    assert ("verdict" in repr(report)) == (len(report.sides) > 1)


def test_a_loose_side_of_many_says_why(five: LayerReport) -> None:
    loose = [
        replace(
            s, bounds=replace(s.bounds, error_lower=0.5 * s.bounds.error_lower, status="bounded", note="time")
        )
        for s in five.sides[3].slices
    ]
    told = replace(five, sides=(*five.sides[:3], replace(five.sides[3], slices=tuple(loose)), five.sides[4]))
    assert "2:4 is bounded: time." in str(told)
    assert max(map(len, str(told).splitlines())) <= 80


def test_conditions_name_what_the_sides_rest_on(five: LayerReport) -> None:
    assert conditions_text(five).startswith(
        "For weights only, one fixed scale (mse), a pruning budget for each channel, and the output error"
    )
    only = conditions_text(replace(five, sides=five.sides[3:4]))
    assert only.startswith("For weights only and the output error")


@pytest.mark.parametrize("protocol", ["full", "chunked"])
def test_any_number_of_sides_can_be_drawn(tmp_path: Path, report: LayerReport, protocol: Any) -> None:
    pytest.importorskip("matplotlib")
    plot_layer(replace(report, protocol=protocol), tmp_path / "r.svg")
    text = (tmp_path / "r.svg").read_text()
    assert len(set(colours_of(report))) == len(report.sides)
    assert all(colour.lower() in text.lower() for colour in colours_of(report))


# -------------------------------------------------------------------------------------- files


def test_it_comes_back_and_is_proved(tmp_path: Path, report: LayerReport) -> None:
    path = tmp_path / "r.json"
    write_layer(report, path)
    document = json.loads(path.read_text())
    assert document["schema"] == "pvqbounds.layer/2"
    assert [side["format"] for side in document["sides"]] == [side.format for side in report.sides]
    assert document["verdict"] == [list(pair) for pair in report.verdict]
    again = read_layer(path)
    assert layer_document(again)[0] == layer_document(report)[0]
    assert str(again) == str(report)
    findings = verify_file(path)
    assert all(finding.holds for finding in findings)
    assert len(findings) == CHANNELS * len(report.sides)


def _spoilt(path: Path, change: Callable[[Any, dict[str, Any]], Any]) -> None:
    """Change the document and the arrays, and the hash with them."""
    npz = path.with_suffix(".npz")
    with np.load(npz) as loaded:
        arrays = dict(loaded)
    document = json.loads(path.read_text())
    change(document, arrays)
    np.savez(npz, **arrays)
    document["arrays"]["sha256"] = hashlib.sha256(npz.read_bytes()).hexdigest()
    path.write_text(json.dumps(document))


def _raised(number: int) -> Callable[[Any, Any], None]:
    def change(document: Any, arrays: Any) -> None:
        document["sides"][number]["per_channel"][1]["error_lower"] *= 1.5

    return change


@pytest.mark.parametrize(
    "change",
    [
        *(_raised(number) for number in range(5)),
        lambda d, a: d["sides"][3].update(format="4:8"),
        lambda d, a: d["sides"][3].update(format="75%"),
        lambda d, a: d["sides"][4].update(format="2:4"),
        lambda d, a: d["sides"][4].update(bits_per_weight=8.0),
        lambda d, a: d["sides"][2].update(budget="layer", nnz=4),
        lambda d, a: d["sides"][0].update(budget="layer", nnz=16),
        lambda d, a: d["sides"][1].update(format="int04"),
        lambda d, a: d["sides"].reverse(),
        lambda d, a: d["sides"].pop(),
        lambda d, a: d["sides"].append(d["sides"][0]),
        lambda d, a: d["verdict"].pop(),
        lambda d, a: d["verdict"].append(["25%", "int4"]),
        lambda d, a: d["verdict"][0].reverse(),
        lambda d, a: d["dominates"].pop(),
        lambda d, a: d["dominates"].append(["int4", "int3"]),  # better, and larger
        lambda d, a: d["sides"][2].update(mask_cost="none"),
        lambda d, a: d["sides"][2].update(mask_cost="zip"),
        lambda d, a: d["sides"][0].update(mask_cost="stored"),
        lambda d, a: d.update(sides={"int4": d["sides"][0]}),
        lambda d, a: a["sides/3/kept/0"].__setitem__((0, slice(None)), True),
        lambda d, a: a["sides/1/codes/0"].__iadd__(1),
        lambda d, a: a.pop("sides/4/method/best/0"),
        lambda d, a: a.update({"sides/5/weight/0": a["sides/4/weight/0"]}),
    ],
)
def test_tampering_with_any_side_is_found(
    tmp_path: Path, five: LayerReport, change: Callable[[Any, Any], Any]
) -> None:
    path = tmp_path / "r.json"
    write_layer(five, path)
    _spoilt(path, change)
    try:
        holds = all(finding.holds for finding in verify_file(path))
    except InputError:
        return
    assert not holds


def test_the_place_of_a_fault_is_named(tmp_path: Path, five: LayerReport) -> None:
    write_layer(five, tmp_path / "r.json")
    _spoilt(tmp_path / "r.json", _raised(3))
    places = [finding.where for finding in verify_file(tmp_path / "r.json") if not finding.holds]
    assert places[0] == "sides[3].per_channel[1]"

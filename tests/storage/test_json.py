"""Results on disk: they come back exactly, and every planted fault is found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.errors import InputError, OutputError
from pvqbounds.problems import magnitude_support
from pvqbounds.problems.formats import parse
from pvqbounds.results.layer import LayerReport, Side, SliceResult
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.results_read import read_layer, read_record
from pvqbounds.storage.results_written import check_result_path, layer_document, write_layer, write_problem

CHANNELS = 3


def _report(protocol: str = "full") -> LayerReport:
    """Three channels of four inputs, the last one dead; in chunks of two inputs if wanted."""
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(30, 4))
    matrix = inputs.T @ inputs / len(inputs)
    weights = generator.normal(size=(CHANNELS, 4))
    weights[-1] = 0.0
    ranges = [(0, 4)] if protocol == "full" else [(0, 2), (2, 4)]
    grams = {r: pvq.Gram(matrix[r[0] : r[1], r[0] : r[1]]) for r in ranges}
    places = [(channel, r) for channel in range(CHANNELS) for r in ranges]
    integer = [pvq.IntegerLeastSquares(grams[r], weights[c, r[0] : r[1]], 0.25, -2, 1) for c, r in places]
    sparse = [
        pvq.SparseLeastSquares(grams[r], weights[c, r[0] : r[1]], nnz=(r[1] - r[0]) // 2) for c, r in places
    ]

    def side(form: str, problems: list, methods: dict) -> Side:
        solved = pvq.solve_channels(problems)
        slices = tuple(
            SliceResult(c, r, problem, bounds)
            for (c, r), problem, bounds in zip(places, problems, solved, strict=True)
        )
        size = parse(form).size(problems, (5, 4))
        return Side(form, size, slices, {name: tuple(map(f, problems)) for name, f in methods.items()})

    return LayerReport(
        model="tiny",
        layer="conv",
        description="Conv2d",
        protocol=protocol,  # type: ignore[arg-type]
        inputs=4,
        channels=(CHANNELS, 5),
        positions=30,
        range_method="mse",
        sides=(
            side("int2", integer, {"rtn": lambda p: p.codes_of_nearest()}),
            side("50%", sparse, {"magnitude+refit": lambda p: p.refit(magnitude_support(p))}),
        ),
        seconds=0.1,
    )


@pytest.fixture(scope="module")
def report() -> LayerReport:
    return _report()


@pytest.fixture
def result(report: LayerReport, tmp_path: Path) -> Path:
    write_layer(report, tmp_path / "r.json")
    return tmp_path / "r.json"


@pytest.mark.parametrize("protocol", ["full", "chunked"])
def test_a_result_comes_back_exactly(tmp_path: Path, protocol: str) -> None:
    report = _report(protocol)
    path = tmp_path / "r.json"
    write_layer(report, path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.json", "r.npz"]
    document, arrays = layer_document(report)
    again, arrays_again = layer_document(read_layer(path))
    assert again == document
    assert arrays.keys() == arrays_again.keys()
    assert all((arrays[name] == arrays_again[name]).all() for name in arrays)
    assert all(finding.holds for finding in verify_file(path))
    assert (document["sides"][0]["error_lower"] is None) == (protocol == "chunked")


def test_dead_inputs_are_counted_again_and_older_results_need_not_name_them(result: Path) -> None:
    document = json.loads(result.read_text())
    assert (document["dead_inputs"], document["notes"]) == (0, [])
    result.write_text(json.dumps(document | {"dead_inputs": 1}))
    assert [f.where for f in verify_file(result) if not f.holds] == ["dead_inputs"]
    result.write_text(json.dumps({k: v for k, v in document.items() if k not in ("dead_inputs", "notes")}))
    assert all(finding.holds for finding in verify_file(result))
    result.write_text(json.dumps(document | {"notes": [3]}))
    with pytest.raises(InputError, match="notes must be a list of texts"):
        read_record(result)


def test_the_schema_is_the_documented_one(result: Path) -> None:
    document = json.loads(result.read_text())
    assert document["schema"] == "pvqbounds.layer/2"
    assert {
        "model",
        "layer",
        "protocol",
        "inputs",
        "channels",
        "verdict",
        "seconds",
        "arrays",
    } <= document.keys()
    wanted = {"error_lower", "error_upper", "sqnr_lower", "sqnr_upper", "signal", "status", "lower_kind"}
    sizes = {"format", "bits_per_weight"}
    assert [(side["format"], side["bits_per_weight"]) for side in document["sides"]] == [
        ("int2", 2 + 16 / 20),
        ("50%", 0.5 * 16 + 1),
    ]
    for side in document["sides"]:
        assert wanted | sizes | {"solver", "method", "per_channel", "methods"} <= side.keys()
        assert wanted | {"channel", "certificate"} <= side["per_channel"][0].keys()
    assert set(document["sides"][0]["methods"]["rtn"]) == {"error", "sqnr"}
    dead = document["sides"][0]["per_channel"][-1]
    assert dead["dead"] is True
    assert dead["sqnr_lower"] is None


def _edited(path: Path, where: str, change: Callable[[Any], Any]) -> None:
    document = json.loads(path.read_text())
    *parents, last = [int(part) if part.isdecimal() else part for part in where.split("/")]
    node = document
    for part in parents:
        node = node[part]
    node[last] = change(node.get(last) if isinstance(node, dict) else node[last])
    path.write_text(json.dumps(document))


def _edited_arrays(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change arrays, and the hash with them, as somebody who wants to deceive would."""
    npz = path.with_suffix(".npz")
    with np.load(npz) as loaded:
        arrays = dict(loaded)
    change(arrays)
    np.savez(npz, **arrays)
    _edited(path, "arrays/sha256", lambda _: hashlib.sha256(npz.read_bytes()).hexdigest())


def _found(path: Path) -> bool:
    """Whether something is found to be wrong with the file."""
    try:
        return not all(finding.holds for finding in verify_file(path))
    except InputError:
        return True


ENDS = ("error_lower", "error_upper", "sqnr_lower", "sqnr_upper", "signal")


@pytest.mark.parametrize("factor", [1.0 + 1e-9, 1.01, 0.99, 0.5])
@pytest.mark.parametrize("side", ["sides/0", "sides/1"])
@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("entry", ["", "per_channel/0/", "per_channel/1/"])
def test_no_number_can_be_changed(result: Path, side: str, entry: str, name: str, factor: float) -> None:
    _edited(result, f"{side}/{entry}{name}", lambda value: value * factor)
    assert _found(result)


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("verdict", lambda verdict: [] if verdict else [["int2", "50%"]]),
        ("verdict", lambda verdict: [["50%", "int2"], ["int2", "50%"]]),
        ("verdict", lambda verdict: "undecided"),
        ("inputs", lambda n: n + 1),
        ("channels", lambda n: n + 1),
        ("channels_in_layer", lambda n: 1),
        ("protocol", lambda _: "chunked"),
        ("sides/0/format", lambda _: "int3"),
        ("sides/0/format", lambda _: "50%"),
        ("sides/0/format", lambda _: "int02"),
        ("sides/0/bits_per_weight", lambda size: size - 0.5),
        ("sides/0/task", lambda _: "pruning"),
        ("sides/0/budget", lambda _: "layer"),
        ("sides", lambda sides: sides[::-1]),
        ("sides", lambda sides: [sides[0], sides[0]]),
        ("sides", lambda sides: sides[:1]),
        ("sides", lambda sides: []),
        ("sides/0/qmin", lambda qmin: qmin - 1),
        ("sides/0/qmax", lambda qmax: qmax + 1),
        ("sides/0/status", lambda _: "bounded"),
        ("sides/0/lower_kind", lambda _: "reported"),
        ("sides/0/methods/rtn/sqnr", lambda sqnr: sqnr + 0.1),
        ("sides/0/methods/rtn/error", lambda error: 0.9 * error),
        ("sides/0/per_channel/0/methods/rtn", lambda error: 0.9 * error),
        ("sides/0/per_channel/0/certificate", lambda _: None),
        ("sides/0/per_channel/0/certificate/kind", lambda _: "box-hull dual"),
        ("sides/0/per_channel/0/certificate/value", lambda value: 0.9 * value),
        ("sides/0/per_channel/0/channel", lambda _: 1),
        ("sides/0/per_channel/0/inputs", lambda _: [0, 3]),
        ("sides/0/per_channel/0/gram", lambda _: 1),
        ("sides/0/per_channel/2/dead", lambda _: False),
        ("sides/0/per_channel/2/sqnr_upper", lambda _: 60.0),
        ("sides/0/per_channel", lambda entries: entries[:-1]),
        ("sides/1/format", lambda _: "25%"),
        ("sides/1/format", lambda _: None),
        ("sides/1/format", lambda _: "2:4"),
        ("sides/1/pattern", lambda _: [2, 4]),
        ("sides/1/per_channel/0/nnz", lambda nnz: nnz - 1),
        ("sides/1/per_channel/0/nnz", lambda nnz: nnz + 1),
        ("sides/1/per_channel/0/status", lambda _: "bounded"),
        ("sides/1/per_channel/0/extra", lambda _: 1),
        ("arrays/sha256", lambda digest: digest[::-1]),
        ("arrays/file", lambda _: "../r.npz"),
        ("schema", lambda _: "pvqbounds.layer/1"),
        ("seconds", lambda _: "soon"),
    ],
)
def test_planted_faults_in_the_json(result: Path, where: str, change: Callable[[Any], Any]) -> None:
    _edited(result, where, change)
    assert _found(result)


def test_a_bound_cannot_be_raised_consistently(result: Path, report: LayerReport) -> None:
    """Also somebody who edits the certificate, the sums and the labels along with it is found."""
    slices = list(report.quantization.slices)
    bounds = slices[0].bounds
    certificate = replace(bounds.certificate, value=2.0 * bounds.error_lower)  # type: ignore[type-var]
    raised = replace(
        bounds,
        error_lower=certificate.value,
        error_upper=2.0 * bounds.error_upper,
        certificate=certificate,
    )
    slices[0] = replace(slices[0], bounds=raised)
    raised_side = replace(report.quantization, slices=tuple(slices))
    write_layer(replace(report, sides=(raised_side, report.pruning)), result)
    failures = [finding for finding in verify_file(result) if not finding.holds]
    assert [finding.where for finding in failures] == ["sides[0].per_channel[0]"]


def test_a_reported_bound_cannot_be_called_certified(result: Path, report: LayerReport) -> None:
    slices = tuple(
        replace(s, bounds=replace(s.bounds, certificate=None, lower_kind="reported"))
        for s in report.pruning.slices
    )
    write_layer(replace(report, sides=(report.quantization, replace(report.pruning, slices=slices))), result)
    assert not _found(result)  # it holds as far as its label goes
    assert any("not proved" in finding.text for finding in verify_file(result))
    _edited(result, "sides/1/per_channel/0/lower_kind", lambda _: "certified")
    assert _found(result)


def _flip(row: np.ndarray) -> None:
    row[0] = row[0] - 1 if row[0] > -2 else row[0] + 1


@pytest.mark.parametrize(
    "change",
    [
        lambda a: _flip(a["sides/0/codes/0"][0]),
        lambda a: a["sides/0/codes/0"].__setitem__((0, 0), 7),
        lambda a: a["sides/0/scale/0"].__imul__(1.01),
        lambda a: a["weight/0"].__imul__(1.01),
        lambda a: a["gram/0"].__imul__(2.0),
        lambda a: a["gram/0"].__setitem__((0, 1), 9.0),
        lambda a: a["sides/1/weight/0"].__setitem__(0, a["sides/1/weight/0"][0] * 1.01),
        lambda a: a["sides/1/kept/0"].__setitem__(0, True),
        lambda a: a["sides/1/kept/0"].__setitem__(0, False),
        lambda a: a["sides/0/method/rtn/0"].__setitem__((0, 0), 7),
        lambda a: a.pop("gram/0"),
        lambda a: a.update(more=np.zeros(1)),
        lambda a: a.update({"gram/0": a["gram/0"].astype(np.float32)}),
        lambda a: a.update({"sides/0/codes/0": a["sides/0/codes/0"][:-1]}),
        lambda a: a["weight/0"].__setitem__((0, 0), np.nan),
    ],
)
def test_planted_faults_in_the_arrays(result: Path, change: Callable[[dict], Any]) -> None:
    _edited_arrays(result, change)
    assert _found(result)


def test_other_arrays_than_the_named_ones(result: Path) -> None:
    with result.with_suffix(".npz").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(InputError, match="SHA-256"):
        read_record(result)
    result.with_suffix(".npz").unlink()
    with pytest.raises(InputError, match="no file"):
        read_record(result)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"schema": NaN}', "[" * 100_000, '{"schema": "x"}', "\xff"]
)
def test_files_that_are_no_result(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError) as error:
        read_record(path)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("task", ["quantization", "pruning"])
def test_the_result_of_one_problem(tmp_path: Path, report: LayerReport, task: str) -> None:
    path = tmp_path / "p.json"
    slices = getattr(report, task).slices
    write_problem(replace(slices[0], channel=0), "p.npz", path)
    assert [finding.holds for finding in verify_file(path)] == [True]
    _edited(path, "result/error_lower", lambda value: 1.01 * value)
    assert _found(path)
    with pytest.raises(InputError, match="not of a layer"):
        read_layer(path)


def test_a_result_never_replaces_its_input(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="its own input"):
        check_result_path(tmp_path / "p.json", tmp_path / "p.npz")
    with pytest.raises(OutputError, match=r"\.json"):
        check_result_path(tmp_path / "p.npz")

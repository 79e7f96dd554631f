"""The store of a network: units as they come, what is refused, and what a reader gets."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.errors import InputError, OutputError
from pvqbounds.problems.formats import parse
from pvqbounds.results.layer import LayerReport, Side, SliceResult
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.archive import replacing
from pvqbounds.storage.network_manifest import Manifest, PlannedLayer, digest_of
from pvqbounds.storage.network_store import Failure, Store, file_name, unit_files

LAYERS = ("a", "b.c")
FORMATS = ("int4", "25%")


def data() -> tuple[pvq.Gram, np.ndarray]:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((60, 6))
    return pvq.Gram(rows.T @ rows / 60), rng.standard_normal((2, 6))


def report_of(layer: str, form: str, **options: str) -> LayerReport:
    gram, weights = data()
    problems = parse(form).problems(gram, weights)
    found = pvq.solve_channels(problems, **options)
    slices = [SliceResult(i, (0, 6), p, b) for i, (p, b) in enumerate(zip(problems, found, strict=True))]
    side = Side(form, parse(form).size(problems, (2, 6)), tuple(slices), {})
    return LayerReport("net", layer, "Linear 6->2", "full", 6, (2, 2), 60, "mse", (side,), 0.1, ("a note",))


def manifest() -> Manifest:
    gram, weights = data()
    digests = digest_of([weights]), digest_of([gram.matrix])
    layers = tuple(PlannedLayer(name, "Linear 6->2", 6, 2, 12, *digests) for name in LAYERS)
    unfit = replace(layers[1], left_out={"25%": "it has no meaning there"})
    return Manifest("0.1.0", "", "net", (), {"seed": 0}, FORMATS, {}, (layers[0], unfit))


def test_a_store_comes_back_with_what_stands_and_what_does_not(tmp_path):
    store = Store.create(tmp_path / "s", manifest())
    assert [(layer.name, side) for layer, side in store.units()] == [
        ("a", "int4"),
        ("a", "25%"),
        ("b.c", "int4"),
    ]
    store.write_unit(report_of("a", "25%"))
    store.write_unit(report_of("a", "int4"))
    store.write_failure("b.c", "int4", Failure("ValueError", "it broke\nbadly"))
    again = Store.open(tmp_path / "s")
    network = again.read()
    assert again.manifest == store.manifest
    first, second = network.layers
    assert [side.format for side in first.report.sides] == ["int4", "25%"]  # in the formats' order
    assert first.report.sides[0].slices[0].problem.shared is first.report.sides[1].slices[0].problem.shared
    assert second.report is None
    assert second.failures == {"int4": "it broke badly"}
    assert second.left_out == {"25%": "it has no meaning there"}
    assert (network.planned, network.done, network.failed) == (3, 2, 1)
    store.write_unit(report_of("b.c", "int4"))  # whoever succeeds later has not failed
    assert Store.open(tmp_path / "s").read().failed == 0


def test_a_unit_is_a_result_like_any_other(tmp_path):
    store = Store.create(tmp_path / "s", manifest())
    store.write_unit(report_of("a", "int4"))
    path, _ = unit_files(tmp_path / "s", "a", "int4")
    assert all(finding.holds for finding in verify_file(path))


def test_files_that_were_made_elsewhere_are_the_same_unit(tmp_path):
    one, other = Store.create(tmp_path / "1", manifest()), Store.create(tmp_path / "2", manifest())
    one.write_unit(report_of("a", "int4"))
    path, _ = unit_files(one.path, "a", "int4")
    name = other.arrays_name("a", "int4")
    other.write_files("a", "int4", path.read_bytes(), path.with_suffix(".npz").read_bytes(), name)
    assert (
        other.read().layers[0].report.sides[0].error_lower == one.read().layers[0].report.sides[0].error_lower
    )


def test_a_better_result_replaces_one_that_stands_under_another_name(tmp_path):
    store = Store.create(tmp_path / "s", manifest())
    first, better = report_of("a", "int4", method="relax", relaxation="box-hull"), report_of("a", "int4")
    store.write_unit(first)
    path, _ = unit_files(store.path, "a", "int4")
    for report, arrays in ((better, "int4.2.npz"), (first, "int4.npz"), (better, "int4.2.npz")):
        before = set(path.parent.iterdir())
        store.rewrite_unit(report)
        assert [entry.name for entry in path.parent.glob("*.npz")] == [arrays]
        assert len(before) == len(set(path.parent.iterdir())) == 2
        read = store.read().layers[0].report.sides[0]
        assert read.error_lower == report.sides[0].error_lower


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "2:4+int4:g128", "25%", "%2E", "ü\n"])
def test_names_of_files_stay_in_their_folder(name):
    found = file_name(name)
    assert "/" not in found
    assert "\n" not in found
    assert not found.startswith(".")
    others = ["", ".", "..", "a/b", "2:4+int4:g128", "25%", "%2E", "%00", "ü\n", "a%2Fb"]
    assert [other for other in others if file_name(other) == found] == [name]


def test_long_names_are_cut_short_and_stay_apart(tmp_path):
    stem = "块" * 80
    names = [stem + end for end in ("", "甲", "乙", "a" * 5000)]
    found = [file_name(name) for name in names]
    assert len(set(found)) == len(names)
    for own in found:
        assert len(own.encode()) <= 241
        assert own.startswith("%E5%9D%97%E5")
        unquote(own.partition("%~")[0], errors="strict")  # no part of a letter
    assert file_name(found[0]) not in found  # a layer may be called like such a file
    # names as earlier versions wrote them, to the longest that they could
    assert file_name("a" * 241) == "a" * 241
    assert len(file_name("a" * 242)) <= 241


def test_units_of_long_names_stand_fail_and_are_replaced(tmp_path):
    layer, side = "层" * 100, "边" * 100
    planned = replace(manifest().layers[0], name=layer, left_out={})
    store = Store.create(tmp_path / "s", replace(manifest(), layers=(planned,), formats=(side,)))
    store.write_failure(layer, side, Failure("E", "it broke"))
    assert Store.open(store.path).failure(layer, side).text == "it broke"
    document, arrays = b"{}", b"x"
    for _ in range(2):
        store.write_files(layer, side, document, arrays, store.arrays_name(layer, side))
        assert Store.open(store.path).is_done(layer, side)
    with replacing(store.grams_file(layer)) as temporary:
        temporary.write_bytes(b"g")
    assert store.grams_file(layer).read_bytes() == b"g"


def test_a_store_is_claimed_by_one_run_and_cleared_of_what_was_half_written(tmp_path):
    store = Store.create(tmp_path / "s", manifest())
    store.write_unit(report_of("a", "int4"))
    place = unit_files(store.path, "a", "int4")[0].parent
    half = [place / ".25%25.x.npz", place / ".int4.x.json", store.path / ".network.x.json"]
    for path in half:
        path.touch()
    with store.claimed():
        assert not any(path.exists() for path in half)
        with pytest.raises(OutputError, match="Another run"), Store.open(store.path).claimed():
            pass
    with Store.open(store.path).claimed():
        assert store.is_done("a", "int4")


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(OutputError, match=r"thesis\.tex"):
        Store.create(tmp_path, manifest())
    with pytest.raises(InputError, match="no store"):
        Store.open(tmp_path)


LAYER = {"name": "a", "description": "", "inputs": 6, "channels": 2, "weights": 12, "digest": "0" * 64}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": "pvqbounds.network/9"}, "schema"),
        ({"digest": "0"}, "digest"),
        ({"layers": [{"name": 3}]}, "name"),
        ({"settings": []}, "settings"),
        ({"formats": ["int4", "int4"]}, "different names"),
        ({"left_out": None}, r"left_out must be a list of objects, not null\."),
        ({"layers": [{}]}, r"layers\[0\] lacks 'name'\."),
        ({"layers": [LAYER | {"weights": 0}]}, "weights must be"),
        ({"layers": [LAYER | {"weights": 2**52}]}, "weights must be the inputs of all channels"),
        ({"layers": [LAYER | {"name": "\ud800"}]}, "names of letters"),
        ({"formats": ["\ud800"]}, "names of letters"),
    ],
)
def test_a_strangers_manifest_is_refused_in_a_sentence(tmp_path, change, says):
    Store.create(tmp_path / "s", manifest())
    path = tmp_path / "s" / "network.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=says):
        Store.open(tmp_path / "s")


def test_units_of_another_layer_or_model_are_refused(tmp_path):
    store = Store.create(tmp_path / "s", manifest())
    store.write_unit(report_of("a", "int4"))
    here, _ = unit_files(store.path, "a", "int4")
    there, _ = unit_files(store.path, "b.c", "int4")
    there.parent.mkdir()
    here.rename(there)
    here.with_suffix(".npz").rename(there.with_suffix(".npz"))
    with pytest.raises(InputError, match=r"no result of layer 'b\.c'"):
        store.read()


def test_a_pickle_in_a_store_is_not_loaded(tmp_path):
    store = Store.create(tmp_path / "s", manifest())
    store.write_unit(report_of("a", "int4"))
    path, _ = unit_files(store.path, "a", "int4")
    beside = path.with_suffix(".npz")
    np.savez(beside, allow_pickle=True, evil=np.array([{}], dtype=object))
    document = json.loads(path.read_text())
    document["arrays"]["sha256"] = hashlib.sha256(Path(beside).read_bytes()).hexdigest()
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="pickled"):
        store.read()

"""The published JSON Schemas hold for what is written, know all of it, and refuse what is wrong."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run
from conforming import faults

import pvqbounds as pvq
from pvqbounds.errors import InputError
from pvqbounds.relaxations.cases import Case, CasesCertificate
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.relaxations.slabs import Cover
from pvqbounds.results.layer import SliceResult
from pvqbounds.solvers.native.quantization.certificate import SearchCertificate
from pvqbounds.storage.results_written import write_problem
from pvqbounds.storage.schemas import SCHEMAS, schema_of

jsonschema = pytest.importorskip("jsonschema")
pytest.importorskip("torch")  # layers are bounded

GOLDEN = Path(__file__).parents[1] / "golden" / "layer-2"
PACKAGE = Path(pvq.__file__).parent
NO_DOCUMENTS = {
    "pvqbounds.layer/1",  # read, no longer written
    "pvqbounds.failure/1",
    "pvqbounds.recipe/1",
    "pvqbounds.checkpoint/1",
    "pvqbounds.compressed/1",
}
"""The others are read by the package alone, or are no JSON."""


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_one(name: str) -> None:
    schema = schema_of(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["properties"]["schema"]["const"] == name


def test_a_schema_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(InputError, match=r"pvqbounds\.layer/2"):
        schema_of("pvqbounds.layer/9")


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_files_of_earlier_days_conform(path: Path) -> None:
    assert faults(read(path), closed=True) == []


COMMANDS = {
    "exact": ("--format", "int3", "--format", "nf4", "--format", "25%"),
    "joint": ("--method", "relax", "--format", "2:4+int4", "--format", "25%+nf4"),
    "groups of scales": ("--format", "int4:g3:asym", "--format", "nvfp4"),
    "splits": ("--method", "relax", "--relaxation", "splits", "--format", "int3"),
    "every scale": ("--any-scale", "--bits", "2"),
    "one free scale": ("--format", "int2:tensor:any"),
    "one budget": ("--method", "relax", "--budget", "layer", "--bits", "3"),
    "chunks": ("--opt-dim", "9", "--bits", "3"),
}


@pytest.mark.parametrize("options", COMMANDS.values(), ids=COMMANDS)
def test_what_layer_writes_conforms(options: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    layer = "block2.0" if "2:4+int4" in options else "block1.0"
    limits = ("--out-channels", "2", "--methods", "rtn,magnitude", "--time-limit", "2")
    methods = limits if "--format" not in options else (*limits[:2], "--methods", "none", *limits[4:])
    assert run("layer", "--layer", layer, *options, *methods, "--json", str(path)) == 0
    assert faults(read(path), closed=True) == []


def test_a_certificate_by_cases_conforms(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    X, n = rng.standard_normal((40, 6)), 6
    problem = pvq.IntegerLeastSquares(X.T @ X / 40, rng.standard_normal(n), scale=0.3, qmin=-8, qmax=7)
    zero, one = np.zeros(n), np.zeros(1)
    leaves = [
        Case(one, one, DualCertificate(zero, zero)),
        Case(one, one, SearchCertificate(zero, zero, 0.0, 3)),
    ]
    cover = Cover(np.ones((1, n)), np.array([0, -1, -1]), np.array([0.1, 0.0, 0.0]))
    bounds = replace(pvq.solve(problem), certificate=CasesCertificate(cover, tuple(leaves), 0.0))
    write_problem(SliceResult(0, (0, n), problem, bounds), "here", tmp_path / "p.json")
    document = read(tmp_path / "p.json")
    assert document["result"]["certificate"]["kind"] == "cases"
    assert faults(document) == []
    document["result"]["certificate"]["leaves"] = 0
    assert faults(document) != []


@pytest.mark.parametrize("options", [("--bits", "3"), ("--nnz", "3"), ("--pattern", "2:4"), ("--curve",)])
def test_what_solve_writes_conforms(options: tuple[str, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    X = rng.standard_normal((40, 8))
    np.savez(tmp_path / "p.npz", gram=X.T @ X / 40, weight=rng.standard_normal(8))
    assert run("solve", str(tmp_path / "p.npz"), *options, "--json", str(tmp_path / "r.json")) == 0
    assert faults(read(tmp_path / "r.json")) == []


def test_a_quadratic_program_conforms(tmp_path: Path) -> None:
    np.savez(tmp_path / "q.npz", P=[[0.0, 2.0], [2.0, 0.0]], q=[-1.0, -1.5], qmin=0, qmax=1)
    assert run("solve", str(tmp_path / "q.npz"), "--json", str(tmp_path / "r.json")) == 0
    document = read(tmp_path / "r.json")
    assert document["result"]["objective"]["lower"] == -3.0
    assert faults(document) == []


def test_the_manifest_of_a_network_and_its_units_conform(tmp_path: Path) -> None:
    formats = ("--format", "int3", "--format", "2:4", "--methods", "none", "--jobs", "1")
    assert run("network", "--layer", "block[12].0", *formats, "--store", str(tmp_path / "s")) == 0
    manifest = read(tmp_path / "s" / "network.json")
    assert manifest["left_out"]
    assert faults(manifest, closed=True) == []
    units = list((tmp_path / "s" / "units").rglob("*.json"))
    assert units
    for unit in units:
        assert faults(read(unit), closed=True) == []


# ----------------------------------------------------------------------------- planted faults


def planted(change: str) -> dict[str, Any]:
    document = copy.deepcopy(read(GOLDEN / "exact.json"))
    side, entry = document["sides"][0], document["sides"][0]["per_channel"][0]
    match change:
        case "no signal":
            del entry["signal"]
        case "a text for a number":
            entry["error_lower"] = str(entry["error_lower"])
        case "a negative error":
            entry["error_lower"] = -1.0
        case "a label of nobody":
            side["lower_kind"] = "proved"
        case "a certificate without a value":
            del entry["certificate"]["value"]
        case "a certificate of no kind":
            entry["certificate"]["kind"] = "oracle"
        case "no side":
            document["sides"] = []
        case "one end of a box":
            del side["qmax"]
        case "a verdict of three":
            document["verdict"] = [["int4", "nf4", "25%"]]
        case "a digest that is none":
            document["arrays"]["sha256"] = "0" * 63
        case _:
            raise AssertionError(change)
    return document


@pytest.mark.parametrize(
    "change",
    [
        "no signal",
        "a text for a number",
        "a negative error",
        "a label of nobody",
        "a certificate without a value",
        "a certificate of no kind",
        "no side",
        "one end of a box",
        "a verdict of three",
        "a digest that is none",
    ],
)
def test_a_wrong_file_is_found(change: str) -> None:
    assert faults(planted(change)) != []


def test_the_schemas_names_are_those_of_the_writers() -> None:
    """What says of itself that it is a document: results first, then what other commands write of them."""
    written = "".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))
    named = set(re.findall(r'"(pvqbounds\.[a-z-]+/\d)"', written))
    assert named - NO_DOCUMENTS == set(SCHEMAS)


def test_a_problem_of_a_free_zero_point_conforms(tmp_path: Path) -> None:
    problem = pvq.AnyScaleLeastSquares(np.diag([1.0, 0.5, 2.0]), [0.3, -0.2, 0.9], -3, 3, span=3)
    bounds = pvq.solve(problem)
    write_problem(SliceResult(0, (0, 3), problem, bounds), "p.npz", tmp_path / "p.json")
    document = json.loads((tmp_path / "p.json").read_text())
    assert document["result"]["certificate"]["kind"] == "zero points"
    assert faults(document) == []
    document["result"]["certificate"]["proofs"][0]["kind"] = "dual"
    assert faults(document)

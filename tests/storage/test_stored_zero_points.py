"""Results for every scale and zero point in files: they come back, and what is changed is found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.errors import InputError
from pvqbounds.results.layer import SliceResult
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.certificates import certificate_fields
from pvqbounds.storage.problem_files import load_problem, write_npz
from pvqbounds.storage.results_read import read_layer, read_record
from pvqbounds.storage.results_written import write_layer, write_problem


@pytest.fixture(scope="module")
def solved():
    rng = np.random.default_rng(6)
    X = rng.normal(size=(30, 5))
    problem = pvq.AnyScaleLeastSquares(X.T @ X / 30, rng.normal(size=5) + 0.5, -3, 3, span=3)
    return problem, pvq.solve(problem)


@pytest.fixture
def stored(solved, tmp_path: Path) -> Path:
    problem, bounds = solved
    write_problem(SliceResult(0, (0, 5), problem, bounds), "p.npz", tmp_path / "p.json")
    return tmp_path / "p.json"


def _changed(path: Path, change) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_it_comes_back_exactly_and_is_proved(solved, stored: Path) -> None:
    problem, bounds = solved
    result = read_record(stored).result
    before, after = certificate_fields(bounds.certificate), certificate_fields(result.bounds.certificate)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert result.problem.values == problem.values
    assert [finding.holds for finding in verify_file(stored)] == [True]


def test_a_value_that_is_raised_is_found(stored: Path) -> None:
    def change(document):
        document["result"]["certificate"]["value"] *= 1.01
        document["result"]["error_lower"] *= 1.01

    _changed(stored, change)
    assert not all(finding.holds for finding in verify_file(stored))


def test_a_wider_span_is_another_problem(stored: Path) -> None:
    def change(document):
        (part,) = (p for p in (document, document["result"], document.get("problem", {})) if "span" in p)
        part["span"] = 6

    _changed(stored, change)
    assert not all(finding.holds for finding in verify_file(stored))


@pytest.mark.parametrize("proofs", [[], None, [{"kind": "dual"}] * 4, [{"kind": "scales"}] * 20, [3]])
def test_proofs_that_are_none_are_refused(stored: Path, proofs) -> None:
    _changed(stored, lambda document: document["result"]["certificate"].update(proofs=proofs))
    with pytest.raises(InputError):
        read_record(stored)


def test_a_problem_in_a_file_keeps_its_span(solved, tmp_path: Path) -> None:
    problem, _ = solved
    write_npz(problem, tmp_path / "p.npz")
    assert load_problem(tmp_path / "p.npz").values == problem.values


def test_a_layer_of_free_zero_points_is_verified_from_its_file(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from pvqbounds.report.tables import layer_text

    torch.manual_seed(3)
    network, data = torch.nn.Sequential(torch.nn.Linear(5, 2, bias=False)), torch.randn(60, 5)
    report = pvq.nn.layer_bounds(network, "0", data, formats=["int2:asym", "int2:asym:any"])
    fixed, free = report.sides
    assert free.error_lower <= fixed.error_upper
    assert free.error_upper <= fixed.error_upper * (1.0 + 1e-12)
    assert "any scale and zero point a channel" in " ".join(layer_text(report).split())
    write_layer(report, tmp_path / "r.json")
    assert all(finding.holds for finding in verify_file(tmp_path / "r.json"))
    again = read_layer(tmp_path / "r.json").sides[1]
    assert again.error_lower == free.error_lower

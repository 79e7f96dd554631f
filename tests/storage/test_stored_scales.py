"""Results for every scale in files: they come back as they were, and what is changed is found."""

from __future__ import annotations

import hashlib
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
from pvqbounds.storage.results_read import read_record
from pvqbounds.storage.results_written import write_problem


@pytest.fixture(scope="module")
def solved():
    rng = np.random.default_rng(6)
    X = rng.normal(size=(40, 8))
    problem = pvq.AnyScaleLeastSquares(X.T @ X / 40, rng.normal(size=8), -4, 3)
    return problem, pvq.solve(problem)


@pytest.fixture
def stored(solved, tmp_path: Path) -> Path:
    problem, bounds = solved
    path = tmp_path / "p.json"
    write_problem(SliceResult(0, (0, 8), problem, bounds), "p.npz", path)
    return path


def _change(path: Path, document_change=None, array_change=None) -> None:
    beside = path.with_suffix(".npz")
    document = json.loads(path.read_text())
    if array_change is not None:
        with np.load(beside) as file:
            arrays = dict(file)
        array_change(arrays)
        np.savez(beside, **arrays)
        document["arrays"]["sha256"] = hashlib.sha256(beside.read_bytes()).hexdigest()
    if document_change is not None:
        document_change(document)
    path.write_text(json.dumps(document))


def _named(arrays, end: str) -> str:
    return next(name for name in arrays if name.endswith(end))


def test_it_comes_back_exactly_and_is_proved(solved, stored: Path) -> None:
    _, bounds = solved
    again = read_record(stored).result.bounds
    before, after = certificate_fields(bounds.certificate), certificate_fields(again.certificate)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert again.scale == bounds.scale
    assert np.array_equal(again.weight, bounds.weight)
    assert [finding.holds for finding in verify_file(stored)] == [True]


@pytest.mark.parametrize("end", ["/scales", "/bounds", "/proofs/0/lam", "/proofs/3/nu"])
def test_arrays_that_are_changed_prove_nothing(stored: Path, end: str) -> None:
    def change(arrays):
        arrays[_named(arrays, end)] = 1.3 * arrays[_named(arrays, end)] + 0.01

    _change(stored, array_change=change)
    assert not all(finding.holds for finding in verify_file(stored))


def test_a_value_or_a_scale_that_is_changed_is_found(stored: Path) -> None:
    def change(document):
        document["result"]["certificate"]["value"] *= 1.01
        document["result"]["error_lower"] *= 1.01
        document["result"]["scale"] *= 1.5

    _change(stored, change)
    found = [finding.where for finding in verify_file(stored) if not finding.holds]
    assert "result" in found
    assert "result.scale" in found


def test_codes_that_are_changed_are_found(stored: Path) -> None:
    def change(arrays):
        name = _named(arrays, "codes/0")
        arrays[name] = -arrays[name].clip(-3, 3)

    _change(stored, array_change=change)
    assert not all(finding.holds for finding in verify_file(stored))


@pytest.mark.parametrize(
    "proofs", [[], None, [{"kind": "scales"}], [{"kind": "dual"}] * 2000, [{"kind": "other"}], [3]]
)
def test_proofs_that_are_none_are_refused(stored: Path, proofs) -> None:
    _change(stored, lambda document: document["result"]["certificate"].update(proofs=proofs))
    with pytest.raises(InputError):
        read_record(stored)


def test_a_problem_of_any_scale_in_a_file(solved, tmp_path: Path) -> None:
    problem, _ = solved
    write_npz(problem, tmp_path / "p.npz")
    again = load_problem(tmp_path / "p.npz")
    assert isinstance(again, pvq.AnyScaleLeastSquares)
    assert (again.values, again.rule) == (problem.values, problem.rule)
    ruled = pvq.AnyScaleLeastSquares(problem.shared, problem.weight, -2, 1, pattern=(2, 4))
    write_npz(ruled, tmp_path / "r.npz")
    assert load_problem(tmp_path / "r.npz").pattern == (2, 4)

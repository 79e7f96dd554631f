"""Certificates by cases in files: they come back as they were, and what is changed is found."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.errors import InputError
from pvqbounds.relaxations.cases import CasesCertificate
from pvqbounds.results.layer import SliceResult
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.certificates import certificate_fields
from pvqbounds.storage.results_read import read_record
from pvqbounds.storage.results_written import write_problem


@pytest.fixture(scope="module", params=["steps", "pruning"])
def solved(request):
    rng = np.random.default_rng(4)
    Q = np.linalg.qr(rng.normal(size=(140, 140)))[0]
    gram = (Q * np.concatenate([[1e-7], rng.uniform(0.5, 2.0, 139)])) @ Q.T
    weight = rng.normal(size=140)
    if request.param == "steps":
        problem = pvq.IntegerLeastSquares(gram, weight, scale=0.9, qmin=-2, qmax=1)
    else:
        problem = pvq.SparseLeastSquares(gram, weight, nnz=35)
    bounds = pvq.solve(problem, time_limit=20.0)
    assert isinstance(bounds.certificate, CasesCertificate)
    return problem, bounds


@pytest.fixture
def stored(solved, tmp_path: Path) -> Path:
    problem, bounds = solved
    path = tmp_path / "p.json"
    write_problem(SliceResult(0, (0, 140), problem, bounds), "p.npz", path)
    return path


def _with_arrays(path: Path, change) -> None:
    """Change the arrays, and the digest that the JSON holds of them."""
    beside = path.with_suffix(".npz")
    with np.load(beside) as file:
        arrays = dict(file)
    change(arrays, next(name for name in arrays if name.endswith("/axis")).removesuffix("axis"))
    np.savez(beside, **arrays)
    document = json.loads(path.read_text())
    document["arrays"]["sha256"] = hashlib.sha256(beside.read_bytes()).hexdigest()
    path.write_text(json.dumps(document))


def test_they_come_back_exactly_and_are_proved(solved, stored: Path) -> None:
    _, bounds = solved
    again = read_record(stored).result.bounds.certificate
    before, after = certificate_fields(bounds.certificate), certificate_fields(again)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert [finding.holds for finding in verify_file(stored)] == [True]


@pytest.mark.parametrize("name", ["lam", "nu", "chord", "cut"])
def test_multipliers_that_are_changed_prove_less(stored: Path, name: str) -> None:
    def change(arrays, prefix):
        arrays[prefix + name] = arrays[prefix + name] * 1.3 + 0.01

    _with_arrays(stored, change)
    assert not all(finding.holds for finding in verify_file(stored))


def test_a_tree_that_is_none_is_found(stored: Path) -> None:
    _with_arrays(stored, lambda arrays, prefix: arrays[prefix + "axis"].sort())
    assert not all(finding.holds for finding in verify_file(stored))


@pytest.mark.parametrize(("name", "value"), [("leaves", 0), ("leaves", 10**9), ("directions", 7)])
def test_counts_that_are_not_those_of_the_arrays_are_refused(stored: Path, name: str, value: int) -> None:
    document = json.loads(stored.read_text())
    document["result"]["certificate"][name] = value
    stored.write_text(json.dumps(document))
    with pytest.raises(InputError):
        read_record(stored)


def test_counts_of_splits_that_do_not_add_up_are_refused(stored: Path) -> None:
    document = json.loads(stored.read_text())
    if "splits" not in document["result"]["certificate"]:
        pytest.skip("weights that are re-fitted have no splits")

    def change(arrays, prefix):
        arrays[prefix + "splits/count"][0] += 1

    _with_arrays(stored, change)
    with pytest.raises(InputError, match="as many inequalities"):
        read_record(stored)

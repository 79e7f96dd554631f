"""Files that somebody made to deceive or to break: each ends in a finding or in one sentence."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.errors import InputError, OutputError, PvqError, one_line, shown
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.relaxations.splits import MOST_SPLITS, Splits
from pvqbounds.results.layer import SliceResult
from pvqbounds.solvers.native.pruning import forward_search, subset_search
from pvqbounds.solvers.native.pruning.certificate import SubsetCertificate
from pvqbounds.solvers.native.quantization.certificate import SearchCertificate
from pvqbounds.solving.one import weak_bounds
from pvqbounds.solving.verified_files import Finding, verify_file
from pvqbounds.storage.archive import native_array, parse_arrays
from pvqbounds.storage.problem_files import Budget, load_problem
from pvqbounds.storage.results_written import check_result_path, write_problem

GOLDEN = Path(__file__).parents[1] / "golden" / "0.1.0"


class Result:
    """A result of an earlier version that can be changed."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / "r.json"
        self.document: Any = json.loads((GOLDEN / f"{name}.json").read_text())
        self.arrays = dict(np.load(GOLDEN / f"{name}.npz"))

    def write(self, text: Callable[[str], str] = str) -> Path:
        """Write it with the hash that belongs to it, as somebody who wants to deceive would."""
        beside = self.path.with_suffix(".npz")
        np.savez(beside, **self.arrays)
        if isinstance(self.document.get("arrays"), dict):
            digest = hashlib.sha256(beside.read_bytes()).hexdigest()
            self.document["arrays"] = {"file": "r.npz", "sha256": digest}
        self.path.write_text(text(json.dumps(self.document)))
        return self.path


def _faults(path: Path) -> list[Finding]:
    return [finding for finding in verify_file(path, time_limit=20.0) if not finding.holds]


# ------------------------------------------------------------------------------ the document


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: '{"verdict": "pruning", ' + text[1:], "twice"),
        (lambda text: text.replace('"positions": ', '"positions": ' + "9" * 401, 1), "digits"),
        (lambda text: text.replace('"positions": ', '"positions": ' + "9" * 5000, 1), "digits"),
        (lambda text: text.replace('"seconds": ', '"seconds": 1e999, "x": ', 1), "float64"),
        (lambda text: '{"x": ' + "[" * 1200 + "]" * 1200 + ", " + text[1:], "recursion"),
    ],
)
def test_json_that_means_two_things_or_too_much(
    tmp_path: Path, change: Callable[[str], str], says: str
) -> None:
    path = Result(tmp_path, "budget-layer").write(change)
    with pytest.raises(InputError, match=says) as error:
        verify_file(path)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("name", ["nnz", "density"])
def test_a_negative_budget(tmp_path: Path, name: str) -> None:
    result = Result(tmp_path, "budget-layer")
    result.document["pruning"][name] = -5
    with pytest.raises(InputError, match=r"not negative|must lie in"):
        verify_file(result.write())


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("exact", lambda d: d.update(verdict="undecided")),
        ("exact", lambda d: d.update(verdict="pruning")),
        ("exact", lambda d: d.update(verdict=[["int4", "25%"]])),
        ("exact", lambda d: d["quantization"].update(bits=3)),
        ("exact", lambda d: d["quantization"].update(format="int4")),
        ("exact", lambda d: d["pruning"].update(density=0.5)),
        ("exact", lambda d: d["pruning"].update(density=None)),
        ("two-of-four", lambda d: d["pruning"].update(density=0.25)),
        ("two-of-four", lambda d: d["pruning"].update(pattern=[2, 5])),
        ("exact", lambda d: d["pruning"]["per_channel"][0].update(error_lower=1.0)),
        ("budget-layer", lambda d: d["pruning"].update(nnz=7)),
        ("budget-layer", lambda d: d["quantization"].update(budget="layer", nnz=7)),
        ("exact", lambda d: d.update(schema="pvqbounds.layer/2")),
        ("exact", lambda d: d.pop("pruning")),
    ],
)
def test_faults_in_files_of_version_0_1_0_are_found(
    tmp_path: Path, name: str, change: Callable[[Any], Any]
) -> None:
    result = Result(tmp_path, name)
    assert _faults(result.write()) == []
    change(result.document)
    try:
        assert _faults(result.write()) != []
    except InputError:
        return


@pytest.mark.parametrize("change", [{"inputs": [0, 18]}, {"inputs": [5, 41]}, {"channel": 3}])
def test_a_problem_alone_is_about_all_of_its_inputs(tmp_path: Path, change: dict[str, Any]) -> None:
    result = Result(tmp_path, "problem-quantize-relaxed")
    assert _faults(result.write()) == []
    result.document["result"].update(change)
    assert [finding.where for finding in _faults(result.write())] == ["result.inputs"]


def test_multipliers_at_which_a_sum_overflows(tmp_path: Path) -> None:
    result = Result(tmp_path, "budget-layer")
    for i in range(4):
        diagonal = result.arrays[f"pruning/certificate/{i}/diagonal"]
        result.arrays[f"pruning/certificate/{i}/nu"] = 1.1e154 * np.sqrt(np.maximum(diagonal, 0.0))
    assert any("the certificates prove 0.0" in finding.text for finding in _faults(result.write()))


def test_a_file_of_a_channel_that_failed_verifies(tmp_path: Path) -> None:
    problem = pvq.IntegerLeastSquares([[2.0, 1.0], [1.0, 2.0]], [0.3, 0.7], 0.5, -2, 1)
    bounds = weak_bounds(problem, "native", "native failed on this channel")
    for kind in ("certified", "reported"):  # a bound of 0 needs no proof, and may be called less than it is
        labelled = replace(bounds, lower_kind=kind)  # type: ignore[arg-type]
        write_problem(SliceResult(0, (0, 2), problem, labelled), "x.npz", tmp_path / "weak.json")
        assert _faults(tmp_path / "weak.json") == []
    raised = replace(bounds, error_lower=0.5 * bounds.error_upper, lower_kind="certified")
    write_problem(SliceResult(0, (0, 2), problem, raised), "x.npz", tmp_path / "weak.json")
    assert _faults(tmp_path / "weak.json")


def _places(node: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield where
    keys = node.keys() if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        yield from _places(node[key], (*where, key))


NUMBERS = [-1, 2**31, 2**53, 2**63, 10**25, -0.0, 1e-320, 1e308]
TEXTS = ["", "certified", "\ud800", "../../x", "a\0b", "x" * 5000]
VALUES = [None, True, *NUMBERS, *TEXTS, [], {}, [[]], [1, 2], ["a"], {"a": 1}, [0] * 1000]


@pytest.mark.parametrize("seed", range(4))
def test_any_change_ends_in_findings_or_a_sentence(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    names = ["splits", "budget-layer", "problem-radius", "chunks", "exact", "problem-reported-quantize"]
    for _ in range(40):
        result = Result(tmp_path, dice.choice(names))
        for _ in range(dice.choice([1, 1, 3])):
            where = dice.choice([place for place in _places(result.document) if place])
            node = result.document
            for key in where[:-1]:
                node = node[key]
            if dice.random() < 0.2:
                del node[where[-1]]
            elif isinstance(node, dict) and dice.random() < 0.1:
                node[dice.choice(["extra\n\x1b[31m", "nnz", "radius", "splits", "budget"])] = -1
            else:
                node[where[-1]] = copy.deepcopy(dice.choice(VALUES))
        name = dice.choice(list(result.arrays))
        array = result.arrays[name]
        if dice.random() < 0.5:
            kinds = [np.float32, np.int8, np.bool_, ">f8"]
            changed: list[Any] = [array[:0], array.reshape(-1), *(array.astype(kind) for kind in kinds)]
            result.arrays[name] = dice.choice([*changed, array * np.float64(1e160)])
        for text in _texts(result.write()):
            assert len(text) < 500


def _texts(path: Path) -> list[str]:
    """All that is said of a file."""
    try:
        return [finding.where + finding.text for finding in verify_file(path, time_limit=5.0)]
    except PvqError as error:
        return [str(error)]


# ------------------------------------------------------------------------------ certificates


def test_split_inequalities_are_about_whole_numbers() -> None:
    problem = pvq.IntegerLeastSquares([[2.0]], [1.0], 1.0, -2, 2)  # the optimum is 0, at z = 1
    bounds = pvq.solve(problem)
    index, zero = np.zeros((1, 3), np.int32), np.zeros(1)
    sign, low, y = np.array([[1, 0, 0]], np.int8), np.array([0]), np.array([1.9])
    honest = Splits.of_codes(index, sign, low, y)
    assert honest.fit(1)
    for other in (
        replace(honest, low=np.array([0.5])),
        replace(honest, sign=np.array([[0.5, 0, 0]])),
        replace(honest, sign=np.array([[-128, 0, 0]], np.int8)),  # its absolute value is -128
        replace(honest, index=index.astype(np.float64)),
        replace(honest, index=index + 1),
        replace(honest, low=np.array([2**60])),
        replace(honest, multiplier=np.array(["1.9"])),
        replace(honest, multiplier=[1.9]),
        replace(honest, multiplier=np.array([-1.9])),
    ):
        assert not other.fit(1)
        for certificate in (
            DualCertificate(zero, zero, other),
            SearchCertificate(zero, zero, 0.4, 10, other),
        ):
            claim = replace(bounds, error_lower=0.4, error_upper=0.5, certificate=certificate)
            assert not pvq.verify(problem, claim)


def test_more_inequalities_than_a_problem_justifies(tmp_path: Path) -> None:
    m = MOST_SPLITS + 1
    index, sign = np.zeros((m, 3), np.int32), np.zeros((m, 3), np.int8)
    many = Splits.of_codes(index, sign, np.zeros(m, np.int64), np.zeros(m))
    assert not many.fit(1)
    result = Result(tmp_path, "splits")
    result.document["quantization"]["per_channel"][0]["certificate"]["splits"] = 2**40
    with pytest.raises(InputError, match="at most"):
        verify_file(result.write())


def test_a_search_that_no_solve_would_begin_asks_for_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = pvq.SparseLeastSquares(np.diag([1.0, 2.0, 3.0, 4.0]), np.ones(4), nnz=2)
    bounds = pvq.solve(problem)
    assert isinstance(bounds.certificate, SubsetCertificate)
    assert pvq.verify(problem, bounds)
    monkeypatch.setattr(subset_search, "LARGEST_STACK", 2 * 4**2 - 1)  # entries of its stack
    monkeypatch.setattr(forward_search, "MOST_SUPPORTS", 0)  # nor is there a search by what is kept
    monkeypatch.setattr(subset_search, "subset_factor", None)  # whatever it takes is not begun
    assert not pvq.verify(problem, bounds)


# ------------------------------------------------------------------------------------ arrays


@pytest.mark.parametrize("kind", [">f8", "<f8", ">f4", np.float16, np.longdouble, ">i4", np.int8, bool])
def test_arrays_as_other_programs_write_them(tmp_path: Path, kind: Any) -> None:
    gram = np.diag([1, 2, 1]).astype(bool if kind is bool else np.float64)
    np.savez(tmp_path / "p.npz", gram=gram.astype(kind), weight=np.ones(3, dtype=kind), nnz=1)
    problem = load_problem(tmp_path / "p.npz")
    assert (problem.gram == gram).all()
    assert problem.gram.dtype == np.float64


def test_numbers_are_not_rounded_silently() -> None:
    third = np.ones(3, dtype=np.longdouble) / 3
    if third.dtype.itemsize == 8:
        pytest.skip("long double is double here")
    with pytest.raises(InputError, match="float64 cannot hold"):
        native_array(third, "The array")


def test_a_small_file_that_unpacks_to_much(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, gram=np.zeros((3000, 3000)), weight=np.zeros(3000), nnz=3)
    with pytest.raises(InputError, match="times its own size"):
        load_problem(path)
    np.savez_compressed(path, gram=np.eye(1000), weight=np.zeros(1000))
    assert load_problem(path, Budget(nnz=3)).n == 1000  # it is small, unpacked as well


def test_names_from_a_file_do_not_steer_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    with (
        zipfile.ZipFile(path, "w") as archive,
        archive.open("a\n\x1b[31m" + "x" * 900 + ".npy", "w") as stream,
    ):
        np.lib.format.write_array(stream, np.array(["text"]))
    with pytest.raises(InputError, match="real numbers") as error:
        parse_arrays(path.read_bytes(), path)
    assert len(str(error.value).replace(str(path), "")) < 200
    assert one_line("a\n\x1b[31mb\x00\x07") == "a \\x1b[31mb\\x00\\x07"


def test_long_values_are_shortened_in_sentences() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

    nested: list[Any] = []
    for _ in range(5000):
        nested = [nested]
    for value in (np.arange(10_000), "x" * 10_000, 10**6000, list(range(10_000)), nested, Odd()):
        assert len(shown(value)) <= 60
        assert "\n" not in shown(value)
        with pytest.raises(InputError) as error:
            pvq.SparseLeastSquares(np.eye(3), np.ones(3), nnz=value)  # type: ignore[arg-type]
        assert len(str(error.value)) < 150


# ------------------------------------------------------------------------------- what is written


def test_arrays_of_a_result_replace_nothing_but_those_of_a_result(tmp_path: Path) -> None:
    problem = pvq.SparseLeastSquares(np.eye(2), np.ones(2), nnz=1)
    result = SliceResult(0, (0, 2), problem, pvq.solve(problem))
    np.savez(tmp_path / "g.npz", mine=np.ones(3))
    before = (tmp_path / "g.npz").read_bytes()
    for name in ("g.csv", "g.json"):
        with pytest.raises(OutputError, match=r"g\.npz"):
            check_result_path(tmp_path / name)
        with pytest.raises(OutputError, match=r"g\.npz"):
            write_problem(result, "x.npz", tmp_path / name)
    assert (tmp_path / "g.npz").read_bytes() == before
    for _ in range(2):  # a result may be written again
        write_problem(result, "x.npz", tmp_path / "r.json")
    assert _faults(tmp_path / "r.json") == []

"""Files of binary quadratic programs and maximum cuts: what they mean, and what is wrong with them."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.cli import main
from pvqbounds.errors import InputError
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.problem_files import Budget, load_problem, write_npz

TINY = "# three variables\n3 5\n1 1 -4\n1 2 3\n3 1 2\n2 2 -3\n3 3 -1\n"
"""Least at z = (1, 0, 0): -4; (0, 1, 1) has the same."""

TRIANGLE = "4 4\n1 2 5\n2 3 1\n1 3 4\n3 4 -2\n"
"""The largest cut has {1} on one side: 5 + 4."""

BESIDE = Path(__file__).parents[3] / "shared" / "instances" / "biqmac"
INSTANCES = Path(os.environ.get("PVQBOUNDS_INSTANCES", BESIDE))
"""Where instances of the library lie, if they do: they are no part of this project."""


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.lower().endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "text", "least"),
    [
        ("a.sparse", TINY, -4.0),
        ("A.Sparse.GZ", TINY, -4.0),
        ("a.sparse", TINY.replace("\n", "\r\n") + "\n\n", -4.0),
        ("a.1.mc", TRIANGLE, -9.0),
        ("a.mc.gz", TRIANGLE, -9.0),
        ("a.mc", "2 0", 0.0),
    ],
)
def test_what_a_file_means(tmp_path: Path, name: str, text: str, least: float) -> None:
    problem = load_problem(written(tmp_path, name, text))
    assert isinstance(problem, pvq.IntegerLeastSquares)
    assert problem.quadratic is not None
    assert problem.quadratic.objective_bounds(pvq.solve(problem)) == (least, least)


def test_the_matrix_of_a_file(tmp_path: Path) -> None:
    problem = load_problem(written(tmp_path, "a.sparse", TINY))
    assert problem.quadratic.matrix.tolist() == [[-4.0, 3.0, 2.0], [3.0, -3.0, 0.0], [2.0, 0.0, -1.0]]
    assert not problem.quadratic.linear.any()
    assert (problem.qmin, problem.qmax) == (0, 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("3\n", "Line 1 of .* must be 'n m'"),
        ("3 x\n", "must be 'n m'"),
        ("-3 0\n", "must be 'n m'"),
        ("0 0\n", "must be 'n m'"),
        ("9" * 5000 + " 0\n", "must be 'n m'"),
        ("999999999999 0\n", "larger than what is read"),
        ("2 2\n1 1 3\n", "1 entries, but its first line says 2"),
        ("2 1\n1 1 3\n2 2 4\n", "2 entries, but its first line says 1"),
        ("2 1\n1 3 4\n", "Line 2 .* i and j from 1 to 2"),
        ("2 1\n0 1 4\n", "Line 2 .* i and j from 1 to 2"),
        ("2 1\n1 1\n", "'i j q'"),
        ("2 1\n1 1 2 3\n", "'i j q'"),
        ("2 1\n1.5 1 2\n", "'i j q'"),
        ("2 1\n1 1 nan\n", "finite q"),
        ("2 1\n1 1 1e999\n", "finite q"),
        ("2 1\n1 1 \u00e9\n", "no text of numbers"),
        ("2 2\n1 2 3\n2 1 3\n", "Line 3 .* gives a pair that an earlier line has given"),
        ("2 1\n1 1 1e300\n", "overflow"),
        ("1 1\n1 1 " + "7" * 400 + "\n", "not '1 1 777"),
    ],
)
def test_wrong_files_are_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        load_problem(written(tmp_path, "a.sparse", text))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_a_node_has_no_edge_to_itself(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Line 2 .* joins a node with itself"):
        load_problem(written(tmp_path, "a.mc", "2 1\n1 1 3\n"))


def test_packed_files_that_are_damaged_or_bombs(tmp_path: Path) -> None:
    whole = gzip.compress(TINY.encode())
    for content in (b"", b"no gzip", whole[:-9], whole[:12] + b"\xff" + whole[13:]):
        (tmp_path / "a.sparse.gz").write_bytes(content)
        with pytest.raises(InputError, match="damaged or not a gzip file"):
            load_problem(tmp_path / "a.sparse.gz")
    (tmp_path / "b.sparse.gz").write_bytes(gzip.compress(bytes(80 * 2**20)))
    with pytest.raises(InputError, match="unpacks to"):
        load_problem(tmp_path / "b.sparse.gz")
    with pytest.raises(InputError, match="no file"):
        load_problem(tmp_path / "missing.sparse")


def test_a_program_states_its_budget(tmp_path: Path) -> None:
    for name in ("a.sparse", "a.npz"):
        path = written(tmp_path, "a.sparse", TINY)
        if name == "a.npz":
            write_npz(load_problem(path), tmp_path / name)
        with pytest.raises(InputError, match="itself; leave the options for it out"):
            load_problem(tmp_path / name, Budget(bits=4))


@pytest.mark.parametrize(("qmin", "qmax"), [(-2, 3), ([-1, 0, 0], [4, 1, 1])])
def test_programs_in_npz(tmp_path: Path, qmin: object, qmax: object) -> None:
    rng = np.random.default_rng(1)
    A = rng.standard_normal((3, 3))
    problem = pvq.IntegerLeastSquares.from_quadratic(A @ A.T + A.T @ A, rng.standard_normal(3), qmin, qmax)
    write_npz(problem, tmp_path / "p.npz")
    assert set(np.load(tmp_path / "p.npz")) == {"P", "q", "qmin", "qmax"}
    again = load_problem(tmp_path / "p.npz")
    for name in ("gram", "weight", "low", "high"):
        assert np.array_equal(getattr(again, name), getattr(problem, name))
    assert np.array_equal(again.quadratic.matrix, problem.quadratic.matrix)


def test_solve_and_verify_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, result = written(tmp_path, "tiny.sparse", TINY), tmp_path / "r.json"
    with pytest.raises(SystemExit) as end:
        main(["solve", str(path), "--json", str(result)])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert "quadratic program, 3 whole variables from 0 to 1" in printed
    assert "least objective   -4 " in printed
    assert "SQNR" not in printed
    document = json.loads(result.read_text())
    assert document["result"]["objective"] == {"lower": -4.0, "upper": -4.0}
    assert [finding for finding in verify_file(result) if not finding.holds] == []


def _with(result: Path, arrays: dict[str, np.ndarray], document: dict) -> None:
    np.savez(result.with_suffix(".npz"), **arrays)
    digest = hashlib.sha256(result.with_suffix(".npz").read_bytes()).hexdigest()
    result.write_text(json.dumps(document | {"arrays": {"file": "r.npz", "sha256": digest}}))


def test_lies_about_an_objective_are_found(tmp_path: Path) -> None:
    path, result = written(tmp_path, "tiny.sparse", TINY), tmp_path / "r.json"
    with pytest.raises(SystemExit):
        main(["solve", str(path), "--json", str(result)])
    document, arrays = json.loads(result.read_text()), dict(np.load(tmp_path / "r.npz"))

    def faults(changes: dict, **other: np.ndarray) -> list[str]:
        _with(result, arrays | other, document | {"result": document["result"] | changes})
        return [finding.where for finding in verify_file(result) if not finding.holds]

    assert faults({}) == []
    assert faults({"objective": {"lower": -3.0, "upper": -4.0}}) == ["result.objective.lower"]
    assert faults({"objective": {"lower": -4.0, "upper": -5.0}}) == ["result.objective.upper"]
    q = np.array([-1.0, 0.0, 0.0])  # another objective than that of the problem
    assert "result.objective.lower" in faults({}, **{"quadratic/q": q})
    high = document["result"]["error_upper"] + 9.0
    assert "result.objective" in faults({"error_lower": high, "error_upper": high + 1.0})
    for other in (np.ones((3, 3)), np.full((3, 3), np.nan), np.eye(2)):
        with pytest.raises(InputError):
            faults({}, **{"quadratic/P": other})
    with pytest.raises(InputError, match="which no result has"):
        faults({"objective": None})
    with pytest.raises(InputError, match="scale 1"):
        faults({"scale": 2.0}, **{"quantization/scale/0": np.array([2.0])})


@pytest.mark.skipif(not INSTANCES.exists(), reason="the library's instances are not here")
@pytest.mark.parametrize("name", ["gka1b", "gka6a", "gka7a", "gka2b"])
def test_published_optima(name: str) -> None:
    optimum = json.loads((INSTANCES / "optima.json").read_text())[name]
    problem = load_problem(INSTANCES / f"{name}.sparse.gz")
    assert problem.quadratic.objective_bounds(pvq.solve(problem)) == (optimum, optimum)

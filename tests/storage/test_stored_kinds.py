"""Levels, joint problems and any rules in files: they come back, and hostile ones end in a sentence."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run

import pvqbounds as pvq
from pvqbounds.errors import InputError, PvqError
from pvqbounds.problems.supports import Groups
from pvqbounds.problems.values import Levels, Steps
from pvqbounds.results.layer import LayerReport, Side, SliceResult
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.problem_files import Budget, load_problem, write_npz
from pvqbounds.storage.results_read import read_record
from pvqbounds.storage.results_written import write_layer, write_problem

N = 6
GROUPS = Groups(np.array([0, 1, 0, 1, -1, 0]), np.array([1, 2]))


def gram() -> pvq.Gram:
    X = np.random.default_rng(0).standard_normal((40, N))
    return pvq.Gram(X.T @ X / 40)


WEIGHT = np.random.default_rng(1).standard_normal(N)
ROWS = [[-1.0, 0.0, 0.5], [-2.0, 0.0, 1.0, 2.0], [-1.0, 0.0, 0.5], [0.0, 1.0], [-1.0, 0.0], [-3.0, 0.0, 3.0]]


def problems() -> dict[str, Any]:
    """One of each kind that files can hold."""
    g = gram()
    steps = np.linspace(0.1, 0.4, N)
    coded = {
        "uniform": pvq.IntegerLeastSquares(g, WEIGHT, 0.3, -4, 3),
        "steps": pvq.IntegerLeastSquares(g, WEIGHT, steps, -np.arange(N), 3),
        "levels": pvq.CodebookLeastSquares(g, WEIGHT, [-1.0, -0.2, 0.0, 0.7]),
        "rows": pvq.CodebookLeastSquares(g, WEIGHT, ROWS),
    }
    joint = {
        f"{name} {word}": problem.under(rule)
        for name, problem in coded.items()
        for word, rule in (
            ("nnz", pvq.SparseLeastSquares(g, WEIGHT, nnz=2).rule),
            ("pattern", pvq.SparseLeastSquares(g, WEIGHT, pattern=(1, 2), stride=3).rule),
            ("groups", GROUPS),
        )
    }
    return coded | joint | {"pruned groups": pvq.SparseLeastSquares(g, WEIGHT, nnz=0).under(GROUPS)}


@pytest.mark.parametrize("name", list(problems()))
def test_a_problem_and_its_result_come_back(name, tmp_path):
    problem = problems()[name]
    write_npz(problem, tmp_path / "p.npz")
    again = load_problem(tmp_path / "p.npz")
    assert again.task == problem.task
    assert [(g.tolist(), m) for g, m in again.budgets] == [(g.tolist(), m) for g, m in problem.budgets]
    assert again.values.arrays.keys() == problem.values.arrays.keys()
    for part, array in problem.values.arrays.items():
        np.testing.assert_array_equal(again.values.arrays[part], array)
    bounds = pvq.solve(again, time_limit=1.0)
    path = tmp_path / "r.json"
    write_problem(SliceResult(0, (0, N), again, bounds), "p.npz", path)
    assert json.loads(path.read_text())["task"] == problem.task
    assert [finding.text for finding in verify_file(path) if not finding.holds] == []
    stored = read_record(path).result
    assert isinstance(stored, SliceResult)
    np.testing.assert_array_equal(stored.bounds.weight, bounds.weight)
    if bounds.support is not None:
        np.testing.assert_array_equal(stored.bounds.support, bounds.support)


def test_groups_without_members_are_left_out(tmp_path):
    rule = Groups(np.array([-1, 4, -1, 4, -1, -1]), np.zeros(9, dtype=np.int64))
    problem = pvq.SparseLeastSquares(gram(), WEIGHT, nnz=0).under(rule)
    bounds = pvq.solve(problem, method="exact", time_limit=1.0)
    write_problem(SliceResult(0, (0, N), problem, bounds), "p.npz", tmp_path / "r.json")
    assert all(finding.holds for finding in verify_file(tmp_path / "r.json"))


def test_the_command_line_solves_and_verifies_such_files(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, words in (
        ("rows groups", "joint compression of 6 weights, 3 groups with budgets of their own, up to 4 levels"),
        ("levels", "quantization of 6 weights, 4 levels from -1 to 0.7"),
        ("uniform nnz", "joint compression of 6 weights, keep 2, scale 0.3, codes -4..3"),
        ("steps pattern", "joint compression of 6 weights, pattern 1:2, scales 0.1 to 0.4"),
    ):
        write_npz(problems()[name], "p.npz")
        assert run("solve", "p.npz", "--time-limit", "1", "--json", "r.json") == 0
        assert words in " ".join(capsys.readouterr().out.split())
        assert run("verify", "r.json") == 0
        capsys.readouterr()


def test_a_format_is_a_budget_of_a_bare_file(tmp_path, capsys):
    np.savez(tmp_path / "bare.npz", gram=gram().matrix, weight=WEIGHT)
    problem = load_problem(tmp_path / "bare.npz", Budget(format="1:2+nf4:b3"))
    assert (problem.task, problem.pattern) == ("joint", (1, 2))
    expected = pvq.formats.parse("nf4:b3").grids(WEIGHT[None])[0]
    np.testing.assert_array_equal(problem.values.arrays["levels"], expected.arrays["levels"])
    assert run("solve", str(tmp_path / "bare.npz"), "--format", "25%+int4", "--time-limit", "1") == 0
    assert "keep 1" in capsys.readouterr().out
    for options, says in (
        (["--format", "nf5"], "no format 'nf5'; did you mean 'nf4'"),
        (["--format", "nf4", "--bits", "4"], "Say how to compress"),
        (["--format", "nf4", "--scale", "0.1"], "A scale belongs to quantization"),
    ):
        assert run("solve", str(tmp_path / "bare.npz"), *options) == 2
        assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"levels": [0.0, 1.0, 1.0]}, "must rise, but after 1 comes 1"),
        ({"levels": [1.0, 0.0]}, "must rise, but after 1 comes 0"),
        ({"levels": [1.0]}, "2 to 65536 levels, not 1"),
        ({"levels": np.zeros((2, 3))}, "one list of levels, or 3"),
        ({"levels": [[0, 1, 0.5, 1]] * 3}, "row 0 must rise, but after 1 comes 0.5"),
        ({"levels": [[0.0, 1.0], [0.0, np.nan], [0.0, 1.0]]}, "not finite"),
        ({"levels": [0.0, 1.0], "scale": 1.0, "qmin": 0, "qmax": 1}, "it must hold scale, qmin and qmax, or"),
        ({"levels": [1.0, 2.0], "nnz": 1}, "0 is not among the values of input 0"),
        ({"levels": [0.0, 2.0], "nnz": 1, "pattern": [1, 2]}, "it must hold"),
        ({"levels": [0.0, 2.0], "nnz": 4}, "nnz must be a whole number from 0 to 3"),
        ({"levels": [0.0, 2.0], "pattern": [3, 2]}, "N of the pattern"),
        ({"levels": [0.0, 2.0], "pattern": [1, 2], "stride": 2}, "stride of 2 needs"),
        ({"levels": [0.0, 2.0], "stride": 2}, "it must hold"),
        ({"scale": 1.0, "qmin": 1, "qmax": 2, "nnz": 1}, "0 is not among the values"),
        ({"scale": 1.0, "qmin": -1}, "it must hold"),
        ({"group": [0, 0, 1]}, "it must hold"),
        ({"group": [0, 0, 1], "group_nnz": [1]}, "group in .* must name for each of 3 inputs"),
        ({"group": [0, 0, -2], "group_nnz": [1]}, "group in .* must name"),
        ({"group": [0, 0], "group_nnz": [1]}, "group in .* must name"),
        ({"group": [0, 0, 0.5], "group_nnz": [1]}, "whole numbers"),
        ({"group": [0, 0, 0], "group_nnz": [-1]}, "no budget may be negative"),
        ({"group": [0, 0, 0], "group_nnz": [1e300]}, "whole numbers"),
    ],
)
def test_problem_files_that_cannot_be(tmp_path, arrays, says):
    np.savez(tmp_path / "p.npz", gram=np.eye(3), weight=np.ones(3), **arrays)
    with pytest.raises(InputError, match=says) as error:
        load_problem(tmp_path / "p.npz")
    assert "\n" not in str(error.value)


def test_values_that_files_cannot_hold_are_refused(tmp_path):
    class Odd(Steps):
        @property
        def arrays(self):
            return {"odd": np.zeros(2)}

    values = Odd(np.ones(2), np.zeros(2, dtype=np.int64), np.ones(2, dtype=np.int64))
    problem = pvq.LeastSquares(np.eye(2), np.ones(2), values)
    with pytest.raises(InputError, match="made of odd"):
        write_npz(problem, tmp_path / "p.npz")
    bounds = pvq.solve(problem)
    with pytest.raises(InputError, match=r"Files hold values that are made of .* not of odd"):
        write_problem(SliceResult(0, (0, 2), problem, bounds), "p.npz", tmp_path / "r.json")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- layers


def report() -> LayerReport:
    """Two channels on one Gram and two on another, in levels, jointly, and under a rule of groups."""
    rng = np.random.default_rng(3)
    grams = [gram(), pvq.Gram(np.diag(np.arange(1.0, N + 1.0)))]
    weights = rng.standard_normal((4, N))
    weights[3, :3] = 0.0
    sides = []
    for name in ("nf4:b3", "1:2+nf4:b3", "1:2+int3:g3"):
        form = pvq.formats.parse(name)
        posed = [form.problems(grams[i // 2], weights[i : i + 1])[0] for i in range(4)]
        bounds = pvq.solve_channels(posed, time_limit=1.0)
        slices = tuple(
            SliceResult(i, (0, N), p, b) for i, (p, b) in enumerate(zip(posed, bounds, strict=True))
        )
        starts = tuple(p.codes_of_nearest() for p in posed)
        sides.append(Side(name, form.size(posed, (4, N)), slices, {"start": starts}))
    return LayerReport(
        model="tiny", layer="conv", description="Conv", protocol="full", inputs=N, channels=(4, 4),
        positions=40, range_method="mse", sides=tuple(sides), seconds=0.1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("layer") / "r.json"
    write_layer(report(), path)
    return path


def test_levels_are_held_once_each(written):
    with np.load(written.with_suffix(".npz")) as arrays:
        assert arrays["sides/0/levels/0"].shape == (4, 16)  # two channels of two groups
        assert arrays["sides/0/level_row/0"].shape == (2, N)
        assert "sides/0/scale/0" not in arrays
        assert arrays["sides/1/codes/0"].dtype == np.int64
    sides = json.loads(written.read_text())["sides"]
    assert [side["task"] for side in sides] == ["quantization", "joint", "joint"]
    assert [side.get("grid") for side in sides] == ["levels", "levels", "steps"]
    assert [side.get("pattern") for side in sides] == [None, [1, 2], [1, 2]]
    assert all(entry["nnz"] is None for entry in sides[1]["per_channel"])
    assert [finding for finding in verify_file(written) if not finding.holds] == []


def changed(written: Path, folder: Path, change: Callable[[Any, dict[str, Any]], Any]) -> Path:
    """A copy with something changed, and the hash with it."""
    path = folder / "r.json"
    document = json.loads(written.read_text())
    with np.load(written.with_suffix(".npz")) as loaded:
        arrays = {name: loaded[name].copy() for name in loaded}
    change(document, arrays)
    np.savez(path.with_suffix(".npz"), **arrays)
    digest = hashlib.sha256(path.with_suffix(".npz").read_bytes()).hexdigest()
    document["arrays"] = {"file": "r.npz", "sha256": digest}
    path.write_text(json.dumps(document))
    return path


def entry(document: Any, side: int, number: int = 0) -> Any:
    return document["sides"][side]["per_channel"][number]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d, a: a["sides/0/levels/0"].__setitem__((0, 1), -9.0), "levels/0 in .* must rise"),
        (lambda d, a: a["sides/0/levels/0"].__setitem__((0, 1), np.inf), "not finite"),
        (lambda d, a: a.update({"sides/0/levels/0": np.zeros((4, 1))}), "2 to 65536 levels in each row"),
        (lambda d, a: a.update({"sides/0/levels/0": np.zeros(4)}), "must have 2 axes"),
        (lambda d, a: a.update({"sides/0/levels/0": np.zeros((0, 16))}), "are empty"),
        (lambda d, a: a["sides/0/level_row/0"].__setitem__((0, 0), 4), "names a row that"),
        (lambda d, a: a["sides/0/level_row/0"].__setitem__((0, 0), -1), "names a row that"),
        (lambda d, a: a.pop("sides/0/level_row/1"), "lack sides/0/level_row/1"),
        (lambda d, a: a.update({"sides/0/level_row/0": np.zeros((2, 9), dtype=np.int64)}), "must have shape"),
        (lambda d, a: a["sides/0/codes/0"].__setitem__((0, 0), 16), "codes? .*outside|lies outside"),
        (lambda d, a: a["sides/0/codes/0"].__setitem__((0, 0), -1), "lies outside"),
        (lambda d, a: a["sides/0/method/start/0"].__setitem__((0, 0), -1), "lies outside|numbers from 0"),
        (lambda d, a: a["sides/1/codes/0"].__setitem__((0, slice(None)), 0), "The support keeps"),
        (lambda d, a: a["sides/1/method/start/0"].__setitem__((0, slice(None)), 0), "The support keeps"),
        (lambda d, a: d["sides"][0].update(grid="table"), "grid must be one of steps, levels"),
        (lambda d, a: d["sides"][0].update(grid=None), "lacks 'qmin'"),
        (lambda d, a: d["sides"][0].update(grid="steps"), "lack sides/0/step/0"),
        (lambda d, a: d["sides"][1].update(pattern=None), "either nnz or a pattern"),
        (lambda d, a: d["sides"][1].update(pattern=[2, 2]), "pattern"),
        (lambda d, a: d["sides"][1].update(pattern=[3, 2]), "N of the pattern"),
        (lambda d, a: d["sides"][1].update(pattern_stride=4), "stride of 4"),
        (lambda d, a: d["sides"][1].update(rule="groups"), "lack sides/1/group/0"),
        (lambda d, a: d["sides"][1].update(rule="some"), "rule must be one of groups"),
        (lambda d, a: entry(d, 1).update(nnz=2), "either nnz or a pattern"),
        (lambda d, a: d["sides"][1].update(task="quantization"), "task"),
        (
            lambda d, a: d["sides"][1].update(format="nf4:b2"),
            "no result has this",
        ),
        (lambda d, a: d["sides"][0].update(format="1:2+nf4:b3"), "nnz|pattern|either"),
        (lambda d, a: d["sides"][0].update(format="nf4:b6"), "differ within a group of 6"),
        (lambda d, a: d["sides"][0].update(format="fp8:g3"), "are not those of fp8:g3 at any scale"),
        (lambda d, a: d["sides"][0].update(format="int4:g3"), "levels, but those of int4:g3"),
        (
            lambda d, a: d["sides"][2].update(format="1:2+nf4:b2"),
            "multiples of a step, but nf4:b2 has levels",
        ),
        (lambda d, a: a["sides/2/step/0"].__imul__(1.5), "error_upper|holds|proves|follows"),
        (lambda d, a: entry(d, 1).update(error_upper=0.0), "lower end|error"),
    ],
)
def test_tampering_is_found(written, tmp_path, change, says):
    path = changed(written, tmp_path, change)
    try:
        texts = [f"{f.where} {f.text}" for f in verify_file(path) if not f.holds]
    except InputError as error:
        texts = [str(error)]
    assert texts
    assert all("\n" not in text and len(text) < 400 for text in texts)
    assert any(re.search(says, text) for text in texts), texts


def grouped(tmp_path: Path) -> Path:
    problem = problems()["rows groups"]
    path = tmp_path / "one.json"
    write_problem(SliceResult(0, (0, N), problem, pvq.solve(problem, time_limit=1.0)), "p.npz", path)
    return path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d, a: a["joint/group/0"].__setitem__((0, 0), 3), "names a group that"),
        (lambda d, a: a["joint/group/0"].__setitem__((0, 0), -2), "names a group that"),
        (
            lambda d, a: a["joint/group_nnz/0"].__setitem__((0, 0), -1),
            "must hold one row for each of 1 entries",
        ),
        (lambda d, a: a.update({"joint/group_nnz/0": np.zeros((2, 2), dtype=np.int64)}), "one row for each"),
        (lambda d, a: a.update({"joint/group_nnz/0": np.zeros((1, 7), dtype=np.int64)}), "at most 6 numbers"),
        (lambda d, a: a.update({"joint/group_nnz/0": np.zeros((1, 0), dtype=np.int64)}), "one row for each"),
        (lambda d, a: a.update({"joint/group_nnz/0": np.zeros(3, dtype=np.int64)}), "one row for each"),
        (lambda d, a: a.pop("joint/group_nnz/0"), "lack joint/group_nnz/0"),
    ],
)
def test_groups_that_cannot_be(tmp_path, change, says):
    path = grouped(tmp_path)
    assert all(finding.holds for finding in verify_file(path))
    with pytest.raises(InputError, match=says):
        verify_file(changed(path, tmp_path, change))


def test_any_value_anywhere_is_a_finding_or_a_sentence(written, tmp_path):
    """No change of one value or one array ends in anything else."""
    dice = random.Random(5)
    values = [None, True, -1, 2**53, 0.5, 1e308, "", "levels", "groups", [], [1, 2], {}, [[0]], "nf4:b3"]
    for _ in range(150):

        def spoil(document: Any, arrays: dict[str, Any]) -> None:
            if dice.random() < 0.5:
                node: Any = document["sides"][dice.randrange(3)]
                node = node if dice.random() < 0.5 else node["per_channel"][dice.randrange(4)]
                node[dice.choice([*node, "grid", "rule", "pattern", "nnz", "pattern_stride"])] = dice.choice(
                    values
                )
                return
            name = dice.choice(list(arrays))
            array = arrays[name]
            place = tuple(dice.randrange(size) for size in array.shape)
            number = dice.choice([0, -1, 1, 7, 2**40, -(2**62)])
            arrays[name][place] = number if array.dtype.kind == "i" else float(number)

        path = changed(written, tmp_path, spoil)
        try:
            texts = [finding.text for finding in verify_file(path, time_limit=5.0)]
        except PvqError as error:
            texts = [str(error)]
        assert all("\n" not in text for text in texts)


def test_two_entries_of_other_lengths_share_no_row_by_mistake(tmp_path):
    """Channels whose tables differ in width are padded, and come back as they were."""
    g, name = gram(), "q4_1"
    tables = [np.array([[-1.0, 0.0, 1.0]] * N), np.array([[-1.0, 0.0, 0.5, 2.0]] * N)]
    posed = [pvq.LeastSquares(g, WEIGHT, Levels(table)) for table in tables]
    bounds = pvq.solve_channels(posed, time_limit=1.0)
    slices = tuple(SliceResult(i, (0, N), p, b) for i, (p, b) in enumerate(zip(posed, bounds, strict=True)))
    form = pvq.formats.parse(name)
    side = Side(name, form.size(posed, (2, N)), slices, {})
    layer = LayerReport(
        model="m", layer="l", description="d", protocol="full", inputs=N, channels=(2, 2), positions=40,
        range_method="mse", sides=(side,), seconds=0.0,
    )  # fmt: skip
    write_layer(layer, tmp_path / "r.json")
    assert all(finding.holds for finding in verify_file(tmp_path / "r.json"))
    back = read_record(tmp_path / "r.json").result
    assert isinstance(back, LayerReport)
    np.testing.assert_array_equal(
        back.sides[0].slices[0].problem.values.arrays["levels"],
        np.pad(tables[0], ((0, 0), (0, 1)), mode="edge"),
    )

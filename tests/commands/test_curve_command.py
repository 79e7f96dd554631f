"""``pvqbounds solve --curve``: printed, drawn, written, read and proved again; what is changed is found."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from command_line import run as command

import pvqbounds as pvq
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.results_read import read_record


def run(*arguments: object) -> int:
    return command(*map(str, arguments))


@pytest.fixture
def problem_file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((40, 8))
    np.savez(tmp_path / "p.npz", gram=rows.T @ rows / 40, weight=rng.standard_normal(8))
    return tmp_path / "p.npz"


@pytest.mark.parametrize("options", [[], ["--nnz", "3"], ["--format", "int3"], ["--format", "nf4:b8"]])
def test_a_curve_is_written_and_proved(problem_file, tmp_path, options, capsys):
    pytest.importorskip("matplotlib")
    files = {name: tmp_path / f"c.{name}" for name in ("json", "svg", "csv")}
    arguments = ["--json", files["json"], "--plot", files["svg"], "--table", files["csv"]]
    assert run("solve", problem_file, "--curve", *options, *arguments) == 0
    printed = capsys.readouterr().out
    assert "9 of 9 budgets optimal" in printed
    assert "<svg" in files["svg"].read_text()
    rows = list(csv.DictReader(files["csv"].open()))
    assert [int(row["nnz"]) for row in rows] == list(range(9))
    document = json.loads(files["json"].read_text())
    assert document["schema"] == "pvqbounds.curve/1"
    assert [entry["nnz"] for entry in document["budgets"]] == list(range(9))
    findings = verify_file(files["json"])
    assert len(findings) == 9
    assert all(finding.holds for finding in findings)
    assert run("verify", files["json"]) == 0
    capsys.readouterr()
    assert run("show", files["json"], "--table", tmp_path / "again.csv") == 0
    assert capsys.readouterr().out.split()[1:] == printed.split()[1:]  # but for the file's name
    assert (tmp_path / "again.csv").read_text() == files["csv"].read_text()


def spoilt(path: Path, change) -> None:
    with np.load(path.with_suffix(".npz")) as file:
        arrays = dict(file)
    document = json.loads(path.read_text())
    change(document, arrays)
    np.savez(path.with_suffix(".npz"), **arrays)
    document["arrays"]["sha256"] = hashlib.sha256(path.with_suffix(".npz").read_bytes()).hexdigest()
    path.write_text(json.dumps(document))


def raise_end(document, arrays):
    document["budgets"][3]["error_lower"] *= 1.01
    document["budgets"][3]["certificate"]["value"] *= 1.01


@pytest.mark.parametrize(
    "change",
    [
        raise_end,
        lambda d, a: d["budgets"].reverse(),
        lambda d, a: d["budgets"].pop(),
        lambda d, a: d["budgets"][2].update(nnz=3),
        lambda d, a: d["budgets"][2].update(channel=1),
        lambda d, a: d["budgets"][2].update(status="bounded"),
        lambda d, a: a["weight/0"].__setitem__((4, 1), 9.0),
        lambda d, a: a["pruning/kept/0"].__setitem__((1, slice(None)), True),
        lambda d, a: d.update(task="quantization"),
    ],
)
def test_what_is_changed_is_found(problem_file, tmp_path, change):
    path = tmp_path / "c.json"
    assert run("solve", problem_file, "--curve", "--json", path) == 0
    spoilt(path, change)
    try:
        holds = all(finding.holds for finding in verify_file(path))
    except pvq.InputError:
        return
    assert not holds


def test_curves_of_many_inputs_have_few_rows(tmp_path, capsys):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((400, 90))
    np.savez(tmp_path / "p.npz", gram=rows.T @ rows / 400, weight=rng.standard_normal(90))
    files = (tmp_path / "p.npz", "--json", tmp_path / "c.json")
    assert run("solve", *files, "--curve", "--time-limit", "2") == 0
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) < 55
    assert "of 91 budgets optimal" in printed
    assert len(read_record(tmp_path / "c.json").result.entries) == 91


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--curve", "--pattern", "2:4"], "not about a pattern"),
        (["--curve", "--solver", "clarabel"], "leave out --solver"),
        (["--curve", "--method", "exact"], "leave out --solver"),
        (["--nnz", "2", "--plot", "c.svg"], "add --curve"),
        (["--nnz", "2", "--table", "c.csv"], "add --curve"),
        (["--curve", "--table", "c.xls"], ".csv"),
        ([], "Say how to compress"),
    ],
)
def test_options_that_do_not_go_together(problem_file, options, says, capsys):
    assert run("solve", problem_file, *options) == 2
    assert says in " ".join(capsys.readouterr().err.split())

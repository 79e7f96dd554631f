"""``pvqbounds solve`` of several files and folders: each as by itself, and a bad one costs no other."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from command_line import run as command
from scipy.io import savemat

import pvqbounds as pvq
from pvqbounds.solving import one
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.problem_files import Budget, load_problem, write_npz

INPUTS = 9


def run(*arguments: object) -> int:
    return command(*map(str, arguments))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three problems of the paper's MATLAB script, in its own units, in the folder `mats`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    mats = tmp_path / "mats"
    mats.mkdir()
    for number in range(3):
        rng = np.random.default_rng(number)
        X, x0 = rng.standard_normal((40, INPUTS)), rng.standard_normal(INPUTS)
        P = 2.0 * X.T @ X
        values = {"P": P, "q": -P @ x0, "x0": x0, "r": 0.5 * x0 @ P @ x0}
        savemat(mats / f"000{number}_0000.mat", values, do_compression=number == 1)
    return mats


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open()))


def test_each_file_of_a_folder_is_as_it_is_by_itself(folder, capsys):
    assert run("solve", folder, "--density", 0.3, "--table", "rows.csv", "--json", "r-{file}.json") == 0
    rows = rows_of(Path("rows.csv"))
    assert [row["file"] for row in rows] == [f"000{number}_0000.mat" for number in range(3)]
    for row in rows:
        alone = pvq.solve(load_problem(folder / row["file"], Budget(density=0.3)))
        assert float(row["error_lower"]) == alone.error_lower
        assert float(row["error_upper"]) == alone.error_upper
        assert (row["status"], row["lower_kind"], row["task"]) == ("optimal", "certified", "pruning")
        result = Path(f"r-{row['file']}.json")
        assert json.loads(result.read_text())["source"] == row["file"]
        assert all(finding.holds for finding in verify_file(result))
    assert "3 of 3 files optimal, 0 failed." in capsys.readouterr().out


def test_one_file_alone_gives_its_name_too(folder):
    assert run("solve", folder / "0000_0000.mat", "--density", 0.3, "--json", "r-{file}.json") == 0
    assert Path("r-0000_0000.mat.json").exists()
    assert not Path("r-{file}.json").exists()


def test_a_bad_file_is_named_and_the_others_go_on(folder, capsys):
    (folder / "0001_0000.mat").write_bytes((folder / "0001_0000.mat").read_bytes()[:200])
    (folder / "0003_0000.mat").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(600))
    (folder / "notes.txt").write_text("no problem, and not read")
    assert run("solve", folder, "--bits", 3, "--table", "rows.csv") == 1
    rows = {row["file"]: row for row in rows_of(Path("rows.csv"))}
    assert set(rows) == {f"000{number}_0000.mat" for number in range(4)}
    assert "damaged" in rows["0001_0000.mat"]["failed"]
    assert "save -v7" in rows["0003_0000.mat"]["failed"]
    assert [bool(row["error_upper"]) for row in rows.values()] == [True, False, True, False]
    printed = " ".join(capsys.readouterr().out.split())
    assert "2 of 4 files optimal, 2 failed." in printed
    assert "is a MATLAB 7.3 (HDF5) file" in printed


def test_files_of_all_kinds_state_their_own_budget(folder, capsys):
    gram, weight = np.eye(3), np.array([0.3, -1.2, 0.9])
    write_npz(pvq.SparseLeastSquares(gram, weight, nnz=1), Path("own.npz"))
    Path("cut.mc").write_text("3 3\n1 2 1\n2 3 1\n1 3 1\n")
    Path("qubo.sparse").write_text("2 3\n1 1 -1\n2 2 -1\n1 2 1\n")
    assert run("solve", "own.npz", "cut.mc", "qubo.sparse", "--table", "rows.csv") == 0
    own, cut, qubo = rows_of(Path("rows.csv"))
    assert float(own["error_upper"]) == pytest.approx(0.3**2 + 0.9**2)
    assert float(cut["objective_lower"]) == float(cut["objective_upper"]) == -2.0  # of a triangle two edges
    assert float(qubo["objective_lower"]) == float(qubo["objective_upper"]) == -1.0
    assert cut["status"] == "optimal"
    capsys.readouterr()
    # what a file states itself and what is asked for beside it are no more reconciled than of one file
    assert run("solve", "own.npz", "cut.mc", folder, "--nnz", 2) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "own.npz states nnz itself" in printed
    assert "3 of 5 files optimal, 2 failed." in printed


def test_an_interrupt_keeps_the_files_before(folder, monkeypatch):
    solve, done = one.solve, []

    def interrupted(problem, **options):
        done.append(problem)
        if len(done) == 2:
            options["cancelled"].set()  # what the first Ctrl-C does
        return solve(problem, **options)

    monkeypatch.setattr(one, "solve", interrupted)
    assert run("solve", folder, "--density", 0.3, "--table", "rows.csv") == 130
    assert len(rows_of(Path("rows.csv"))) == len(done) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mats", "--density", "0.3", "--json", "r.json"], "put {file} into its name"),
        (["mats", "--curve"], "give one file"),
        (["mats", "--density", "0.3", "--plot", "p.svg"], "give one file"),
        (["mats", "mats/0000_0000.mat", "--density", "0.3"], "given 2 times"),
        (["mats", "--density", "0.3", "--table", "rows.xls"], ".csv"),
        (["nosuch"], "There is no file and no folder nosuch."),
        (["empty"], "holds no file that ends in .npz"),
        (["mats", "--density", "0.3", "--nnz", "2"], "Say how to compress"),
    ],
)
def test_wrong_usage_is_told_in_one_sentence(folder, arguments, words, capsys):
    Path("empty").mkdir()
    assert run("solve", *arguments) in (1, 2)
    printed = capsys.readouterr()
    assert words in " ".join((printed.out + printed.err).split())


def test_results_of_files_of_one_name_would_replace_each_other(folder, capsys):
    other = folder.parent / "other"
    other.mkdir()
    (other / "0000_0000.mat").write_bytes((folder / "0000_0000.mat").read_bytes())
    assert run("solve", folder, other, "--density", 0.3, "--json", "r-{file}.json") == 2
    assert "Several files called 0000_0000.mat" in " ".join(capsys.readouterr().err.split())
    assert run("solve", "mats", "other", "--density", 0.3, "--table", "rows.csv") == 0
    names = ["mats/0000_0000.mat", "0001_0000.mat", "0002_0000.mat", "other/0000_0000.mat"]
    assert [row["file"] for row in rows_of(Path("rows.csv"))] == names

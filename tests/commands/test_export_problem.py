"""``pvqbounds export`` on problems: what it writes is what `solve` would solve."""

from __future__ import annotations

import json

import numpy as np
import pytest
from command_line import run
from conforming import written_as_published
from form_readers import offset_of, read_cbf

import pvqbounds as pvq
from pvqbounds.storage.problem_files import Budget


@pytest.fixture
def folder(tmp_path, monkeypatch):
    X = np.random.default_rng(0).standard_normal((30, 4))
    np.savez(tmp_path / "p.npz", gram=X.T @ X / 30, weight=np.array([0.5, -0.2, 0.9, 0.1]))
    (tmp_path / "b.mc").write_text("3 2\n1 2 5\n2 3 1\n")
    (tmp_path / "store").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "options", "holds"),
    [
        ("q.lp", ["--format", "int3"], "the integer program of <IntegerLeastSquares"),
        ("q.mps", ["--bits", "2", "--scale", "0.3"], "scale 0.3, codes -2..1"),
        (
            "q.txt",
            ["--density", "0.5", "--form", "cbf"],
            "the semidefinite relaxation of <SparseLeastSquares",
        ),
        ("q.dat-s", ["--pattern", "1:2"], "pattern 1:2"),
        ("q.qubo", ["--format", "int2"], "without constraints"),
        ("q.npz", ["--format", "1:2+int3"], "the problem itself"),
    ],
)
def test_what_is_written(folder, capsys, file, options, holds):
    assert run("export", "p.npz", file, *options, "--json", "e.json") == 0
    assert holds in " ".join(capsys.readouterr().out.split())
    told = json.loads((folder / "e.json").read_text())
    assert told["schema"] == "pvqbounds.exported-problem/1"
    assert written_as_published("e.json")
    assert (told["path"], told["inputs"]) == (file, 4)
    assert (folder / file).stat().st_size > 0


def test_the_problem_written_is_the_one_that_solve_takes(folder):
    assert run("export", "p.npz", "r.cbf", "--format", "int3") == 0
    assert run("export", "p.npz", "again.npz", "--format", "int3") == 0
    problem = pvq.load_problem("p.npz", Budget(format="int3"))
    again = pvq.load_problem("again.npz")
    assert np.array_equal(again.gram, problem.gram)
    assert again.scale == problem.scale
    bounds = pvq.solve(problem)
    assert offset_of(folder / "r.cbf") - read_cbf(folder / "r.cbf").value() <= bounds.error_upper + 1e-8


def test_a_maximum_cut_as_a_qubo(folder, capsys):
    assert run("export", "b.mc", "b.qubo") == 0
    assert "3 inputs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["p.npz", "q.lp"], "Say how to compress"),
        (["p.npz", "p.npz", "--format", "int2"], "would replace the problem"),
        (["p.npz", "q.lp", "--format", "int2", "--nnz", "2"], "give one of"),
        (["p.npz", "q.lp", "--format", "int2", "--model", "digits"], "--model is for weights"),
        (["p.npz", "q.safetensors", "--format", "int2"], "the form dense is for weights"),
        (["p.npz", "q", "--format", "int2"], "the form compressed-tensors is for weights"),
        (["p.npz", "q.gams", "--format", "int2"], "problems as npz, mps, lp, cbf, sdpa, qubo"),
        (["p.npz", "q.lp", "--format", "int2", "--form", "gams"], "not as 'gams'"),
        (["p.npz", "q.qubo", "--nnz", "2"], "write it as mps or lp"),
        (["missing.npz", "q.lp"], "There is no file"),
        (["b.mc", "q.lp", "--bits", "3"], "itself; leave the options for it out"),
        (["q.gams", "q.lp"], "neither the folder of a store nor a problem"),
        (["store", "best.safetensors"], "no store in store"),
    ],
)
def test_wrong_usage_is_told_in_a_sentence(folder, capsys, arguments, sentence):
    assert run("export", *arguments) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert sentence in said
    assert said.count("Error") == 1

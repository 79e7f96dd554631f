"""Several backends on one layer, and a backend of one's own, as the documentation shows it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from test_miqp_backends import integer

import pvqbounds as pvq
from pvqbounds import cli, solvers

DOCUMENT = Path(__file__).parents[2] / "docs" / "adding-a-backend.md"
SMALL = ["compare", "--layer", "block1.0", "--bits", "3", "--time-limit", "5"]


def run(*arguments: str) -> int:
    try:
        cli.main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_compare_prints_draws_and_writes(tmp_path, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    picture, result = tmp_path / "c.png", tmp_path / "c.json"
    names = ["native", "clarabel", "highs"] if "highs" in pvq.available_solvers() else ["native", "clarabel"]
    chosen = [part for name in names for part in ("--solver", name)]
    assert run(*SMALL, *chosen, "--json", str(result), "--plot", str(picture)) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)
    assert picture.read_bytes()[:4] == b"\x89PNG"
    entries = json.loads(result.read_text())["entries"]
    assert [e["solver"] for e in entries] == [name for name in names for _ in range(2)]
    for task in ("quantization", "pruning"):
        solved = [e for e in entries if e["task"] == task and e["method"]]
        best = max(e["sqnr_lower"] for e in solved)
        # every certified bound lies above what any backend found
        assert {e["lower_kind"] for e in solved} == {"certified"}
        assert min(e["sqnr_upper"] for e in solved) >= best


def test_compare_says_why_a_solver_is_missing(capsys, monkeypatch, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("gurobipy")
    monkeypatch.setenv("GRB_LICENSE_FILE", "/no/such/file")
    assert run(*SMALL, "--solver", "gurobi") == 2
    assert "no licence" in capsys.readouterr().err
    assert run(*SMALL, "--solver", "gurobi", "--solver", "clarabel") == 0
    assert "no licence" in capsys.readouterr().out


def test_each_solver_can_be_cited(capsys):
    for name in solvers.BACKENDS:
        assert run("solvers", "--cite", name) == 0
        text = capsys.readouterr().out
        assert re.match(r"@\w+\{\w+,", text)
        assert text.count("{") == text.count("}")


def documented_backend(monkeypatch):
    """The code block of the page, imported as a module of its own and registered."""
    code = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL).group(1)
    module = type(sys)("toy_backend")
    exec(compile(code, str(DOCUMENT), "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "toy_backend", module)
    monkeypatch.setitem(solvers.BACKENDS, "toy", ("toy_backend", "Toy"))


def test_the_documented_backend_works(monkeypatch):
    documented_backend(monkeypatch)
    problem = integer(4)
    bounds, truth = pvq.solve(problem, "toy", "exact"), pvq.solve(problem)
    np.testing.assert_array_equal(bounds.codes, truth.codes)
    assert (bounds.solver, bounds.lower_kind) == ("toy", "certified")
    assert bounds.reported_lower == pytest.approx(truth.error_upper, rel=1e-9)
    assert pvq.verify(problem, bounds)
    assert "toy" in pvq.available_solvers()
    with pytest.raises(pvq.SolverError, match="at most 6 inputs"):
        pvq.solve(integer(8), "toy", "exact")
    with pytest.raises(pvq.SolverError, match="no option 'speed'"):
        pvq.solve(problem, "toy", "exact", solver_options={"speed": 2})
    with pytest.raises(pvq.SolverError, match="cannot do"):
        pvq.solve(pvq.SparseLeastSquares(problem.gram, problem.weight, nnz=2), "toy")

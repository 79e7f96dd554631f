"""How an interval closed: what is recorded, in whose units, and where it goes."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from command_line import run
from truth import correlated_problem

import pvqbounds as pvq
from pvqbounds.results import history as history_module
from pvqbounds.results.history import Moment, after, closed_by
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.problem_files import write_npz
from pvqbounds.storage.results_read import read_record


@pytest.fixture(autouse=True)
def _however_fast_the_machine(monkeypatch):
    monkeypatch.setattr(history_module, "SHORTEST", 0.0)


def _gram(n):
    X = np.random.default_rng(1).standard_normal((4 * n, n)) @ np.random.default_rng(2).standard_normal(
        (n, n)
    )
    return np.maximum(X, 0.0).T @ np.maximum(X, 0.0) / (4 * n)


SEARCHED = {
    "steps": (correlated_problem(72, 3, 0), 20.0),
    "joint": (pvq.IntegerLeastSquares(_gram(40), np.linspace(-1, 1, 40), 0.25, -4, 3, pattern=(2, 4)), 2.0),
    "pruning": (pvq.SparseLeastSquares(_gram(56), np.linspace(-1, 1, 56), nnz=14), 2.0),
}


@pytest.mark.parametrize("name", SEARCHED)
def test_an_interval_closes_up_to_the_result(name):
    problem, limit = SEARCHED[name]
    bounds = pvq.solve(problem, method="exact", time_limit=limit)
    history = bounds.history
    assert len(history) >= 2
    assert all(a.seconds <= b.seconds and a.nodes <= b.nodes for a, b in itertools.pairwise(history))
    for before, then in itertools.pairwise(history):
        assert before.error_lower <= then.error_lower <= then.error_upper <= before.error_upper
    last = history[-1]
    assert last == Moment(bounds.seconds, last.nodes, bounds.error_lower, bounds.error_upper)
    assert history[0].seconds >= 0.0
    assert last.nodes > 0


def test_cases_of_a_direction_of_next_to_no_power_tell_their_rounds():
    n, rng = 24, np.random.default_rng(7)
    X = rng.standard_normal((4 * n, n)) * np.linspace(0.7, 1.4, n)
    X -= (X.mean(axis=1) * 0.9999)[:, None]  # the mean of the inputs is almost constant
    problem = pvq.SparseLeastSquares(X.T @ X / len(X), rng.standard_normal(n), nnz=6)
    bounds = pvq.solve(problem, method="relax", relaxation="directions", time_limit=10.0)
    assert bounds.relaxation == "directions"
    assert len(bounds.history) >= 3
    assert bounds.history[0].error_lower < bounds.history[-1].error_lower == bounds.error_lower


def test_no_moment_claims_what_is_false():
    problem, limit = SEARCHED["steps"]
    best = pvq.solve(problem, method="exact", time_limit=60.0)
    assert best.status == "optimal"
    brief = pvq.solve(problem, method="exact", time_limit=limit).history
    assert all(moment.error_lower <= best.error_upper for moment in brief)
    assert all(moment.error_upper >= best.error_lower for moment in brief)


def test_history_is_in_the_problems_own_units():
    problem, limit = SEARCHED["steps"]
    huge = pvq.IntegerLeastSquares(
        problem.gram * 2.0**100,
        problem.weight * 2.0**-90,
        problem.scale * 2.0**-90,
        problem.qmin,
        problem.qmax,
    )
    bounds = pvq.solve(huge, method="exact", time_limit=limit)
    plain = pvq.solve(problem, method="exact", time_limit=limit)
    assert bounds.history[0].error_lower == pytest.approx(plain.history[0].error_lower * 2.0**-80, rel=1e-6)


def test_what_ends_at_once_has_none():
    problem = correlated_problem(8, 3, 0)
    assert pvq.solve(problem).history == ()


def test_searches_after_one_another_add_their_nodes():
    first, second = Moment(1.0, 5, 0.1, 1.0), Moment(2.0, 7, 0.2, 1.0)
    assert [moment.nodes for moment in after([first], [second])] == [5, 12]
    assert after([], [second]) == (second,)


def test_what_is_known_never_falls_and_never_passes_the_result():
    told = [
        Moment(1.0, 1, -3.0, 9.0),
        Moment(2.0, 2, 4.0, 7.0),
        Moment(3.0, 3, 2.0, 8.0),
        Moment(4.0, 4, 5.1, 4.9),
    ]
    end = Moment(5.0, 0, 5.0, 5.0)
    ends = [(moment.error_lower, moment.error_upper) for moment in closed_by(told, end)]
    assert ends == [(0.0, 9.0), (4.0, 7.0), (5.0, 5.0), (5.0, 5.0)]
    assert closed_by(told, end)[-1].nodes == 4
    assert closed_by([], end) == ()


def test_brief_solves_have_none(monkeypatch):
    monkeypatch.setattr(history_module, "SHORTEST", 6.0)
    assert closed_by([Moment(1.0, 1, 0.0, 9.0)], Moment(5.0, 0, 5.0, 5.0)) == ()


def test_files_carry_it_and_old_ones_have_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    problem, _ = SEARCHED["steps"]
    write_npz(problem, "p.npz")
    assert run("solve", "p.npz", "--method", "exact", "--time-limit", "20", "--json", "r.json") == 0
    bounds = read_record("r.json").result.bounds
    document = json.loads((tmp_path / "r.json").read_text())
    stored = document["result"]["history"]
    assert [moment["nodes"] for moment in stored] == [moment.nodes for moment in bounds.history]
    assert all(finding.holds for finding in verify_file("r.json", time_limit=20.0))
    capsys.readouterr()
    assert run("show", "r.json", "--history") == 0
    shown = capsys.readouterr().out
    assert "nodes" in shown
    assert "certified is the last line" in shown.lower()
    assert run("show", "r.json", "--history", "--plot", "h.svg") == 0
    assert (tmp_path / "h.svg").read_text().startswith("<?xml")
    # it is no claim of the file, but it has to be what it is, and to say no more than the result
    for name, false in (
        ("error_lower", 12345.0),
        ("error_lower", -1.0),
        ("error_upper", 0.0),
        ("seconds", -1e308),
        ("seconds", 1e308),
        ("nodes", "many"),
        ("nodes", 10**9),
    ):
        kept, stored[0][name] = stored[0][name], false
        (tmp_path / "r.json").write_text(json.dumps(document))
        capsys.readouterr()
        assert run("show", "r.json", "--history") == 2
        assert "history" in capsys.readouterr().err
        assert run("verify", "r.json") == 2
        stored[0][name] = kept
    twice = stored[-1] | {"error_lower": 2.0 * bounds.error_upper}
    document["result"]["history"] = [*stored[:-1], twice]
    (tmp_path / "r.json").write_text(json.dumps(document))
    assert run("show", "r.json", "--history") == 2
    del document["result"]["history"]
    (tmp_path / "r.json").write_text(json.dumps(document))
    assert read_record("r.json").result.bounds.history == ()
    assert run("show", "r.json", "--history") == 0
    assert "No history" in capsys.readouterr().out
    assert run("show", "r.json", "--history", "--plot", "h.svg") == 2
    assert "no history to draw" in " ".join(capsys.readouterr().err.split())


def test_a_layer_has_no_one_history(capsys, tmp_path):
    from pathlib import Path

    golden = Path(__file__).parents[1] / "golden" / "layer-2" / "exact.json"
    assert run("show", str(golden), "--history") == 2
    assert "one problem" in " ".join(capsys.readouterr().err.split())

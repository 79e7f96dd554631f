"""``pvqbounds network``: the same store from the command line, its exit codes and what it says."""

from __future__ import annotations

import json

import pytest
from command_line import run
from conforming import written_as_published

from pvqbounds.network import solved
from pvqbounds.storage.network_store import Store

QUICK = ["network", "--layer", "block1.*", "--format", "int4", "--format", "2:4", "--jobs", "1", "--store"]


def test_a_network_from_the_command_line(tmp_path, capsys):
    store, table = tmp_path / "s", tmp_path / "t.csv"
    code = run(*QUICK, str(store), "--json", str(tmp_path / "r.json"), "--table", str(table))
    said = capsys.readouterr().out
    assert code == 0
    assert "block1.0" in said
    assert "means nothing here" in said
    assert "certified" in said
    document = json.loads((tmp_path / "r.json").read_text())
    assert (document["schema"], document["done"], document["planned"]) == ("pvqbounds.network-result/1", 1, 1)
    assert written_as_published(tmp_path / "r.json")
    assert document["rows"][0]["layer"] == "block1.0"
    assert document["left_out"][0]["side"] == "2:4"
    assert table.read_text().count("\n") == 2
    assert Store.open(store).manifest.settings["seed"] == 0

    code = run("network", *QUICK[1:], str(store), "--time-limit", "5")
    assert code == 2
    assert "time_limit = 60.0, not 5.0" in capsys.readouterr().err


def test_a_unit_that_fails_is_exit_code_one(tmp_path, capsys, monkeypatch):
    def broken(*arguments):
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(solved, "solve_unit", broken)
    assert run(*QUICK, str(tmp_path / "s")) == 1
    assert "block1.0 int4 failed: planted." in capsys.readouterr().out


def test_ctrl_c_keeps_what_stands(tmp_path, capsys, monkeypatch):
    solve = solved.solve_unit

    def interrupted(unit, *rest):
        if unit.side == "25%":
            raise KeyboardInterrupt
        return solve(unit, *rest)

    monkeypatch.setattr(solved, "solve_unit", interrupted)
    arguments = [word.replace("2:4", "25%") for word in QUICK]
    assert run(*arguments, str(tmp_path / "s")) == 130
    assert "what stands is kept" in capsys.readouterr().err
    monkeypatch.setattr(solved, "solve_unit", solve)
    assert run(*arguments, str(tmp_path / "s")) == 0
    assert Store.open(tmp_path / "s").read().done == 2


@pytest.mark.parametrize("extra", [["--sample", "3"], ["--format", "int77"], ["--methods", "nothing"]])
def test_what_cannot_be_is_refused_before_a_store_is_there(tmp_path, capsys, extra):
    assert run("network", "--layer", "block1.0", "--store", str(tmp_path / "s"), *extra) == 2
    assert capsys.readouterr().err.startswith("Error: ")
    assert not (tmp_path / "s").exists()

"""The instances in the repository are what their table says, and their best known values hold."""

from __future__ import annotations

import hashlib
import importlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import pvqbounds as pvq

SMALL = Path(__file__).parents[1] / "benchmarks" / "instances" / "small"
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
ROWS = pq.read_table(SMALL / "instances.parquet").to_pylist()


def test_there_is_a_file_for_each_row_and_a_row_for_each_file():
    assert {row["file"] for row in ROWS} == {path.name for path in SMALL.glob("*.npz")}
    assert len({row["name"] for row in ROWS}) == len(ROWS)
    assert sum(path.stat().st_size for path in SMALL.iterdir()) < 10**6
    assert {row["kind"] for row in ROWS} == {"quantization", "pruning", "joint"}
    assert all(row["licence"] and row["package"] and row["data"] for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_a_file_is_what_its_row_says(row):
    path = SMALL / row["file"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == row["sha256"]
    problem = pvq.load_problem(path)
    assert (problem.task, problem.n) == (row["kind"], row["n"])
    assert problem.n <= 36
    assert problem.signal.middle == pytest.approx(row["signal"], rel=1e-12)
    assert 0.0 <= row["bound"] <= row["best"] <= problem.start().upper * (1.0 + 1e-12)
    assert row["bound_kind"] == "certified"


@pytest.mark.parametrize("row", ROWS[::6], ids=lambda row: row["name"])
def test_a_bound_today_does_not_contradict_the_best_known_value(row):
    problem = pvq.load_problem(SMALL / row["file"])
    bounds = pvq.solve(problem, time_limit=2.0)
    assert bounds.error_lower <= row["best"] * (1.0 + 1e-9)
    assert row["bound"] <= bounds.error_upper * (1.0 + 1e-9)
    if row["status"] == bounds.status == "optimal":
        assert np.isclose(bounds.error_upper, row["best"], rtol=1e-6, atol=1e-12 * row["signal"])


@pytest.fixture
def programs(monkeypatch):
    """`compare.py` and `page.py`, which stand beside the instances."""
    monkeypatch.syspath_prepend(SMALL.parent)
    return importlib.import_module("compare"), importlib.import_module("page")


def test_a_comparison_goes_on_where_it_was_ended(programs, tmp_path):
    compare, _ = programs
    path, row = tmp_path / compare.RUNNING, ROWS[0]

    def solve():
        return {"seconds": 0.5, "upper": 1.0, "lower": 1.0}

    begun = compare.Running(path, {"seconds": 3.0, "commit": "a"})
    first = begun.line("exact", row, "native", solve)
    begun.line("exact", row, "scip", lambda: None)
    path.write_text(path.read_text()[:-5])  # ended while it wrote the second
    again = compare.Running(path, {"seconds": 3.0, "commit": "a"})
    assert again.done == {("exact", row["name"], "native"): first}
    assert again.line("exact", row, "native", lambda: pytest.fail("solved twice")) == first
    assert again.line("exact", row, "scip", solve)["outcome"] == "solved"
    assert len(compare.Running(path, {"seconds": 3.0, "commit": "a"}).done) == 2
    with pytest.raises(SystemExit, match="is of another setting"):
        compare.Running(path, {"seconds": 3.0, "commit": "b"})


def test_the_page_says_version_commit_machine_and_limit(programs, tmp_path, monkeypatch):
    compare, page = programs
    rows = [next(row for row in ROWS if row["kind"] == kind) for kind in ("quantization", "pruning")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "instances.parquet")
    for row in rows:
        shutil.copy(SMALL / row["file"], tmp_path)
    (tmp_path / "built.json").write_text('{"command": "python build.py", "seconds": 4.0}')
    monkeypatch.setattr(compare, "installed", lambda names: ["native"])
    monkeypatch.setattr("sys.argv", ["compare.py", str(tmp_path), "--seconds", "2"])
    compare.main()
    assert not (tmp_path / compare.RUNNING).exists()
    said = " ".join(page.page(tmp_path).split())
    assert f"pvqbounds {pvq.__version__} (commit {compare.commit()})" in said
    assert "2 s for each and each solver" in said
    assert f"\n{' '.join(['python', 'compare.py', str(tmp_path), '--seconds', '2'])}\n" in page.page(tmp_path)
    assert re.search(r"it had \d+% of one", said)
    assert compare.setting(2.0)["processor"] in said

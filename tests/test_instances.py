"""The instances in the repository are what their table says, and their best known values hold."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

import pvqbounds as pvq

SMALL = Path(__file__).parents[1] / "benchmarks" / "instances" / "small"
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

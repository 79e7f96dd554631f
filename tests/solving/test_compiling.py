"""What is compiled, or loaded, at first use is no part of any solve's time."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.commands.console import progress_bar
from pvqbounds.solvers.base import Options
from pvqbounds.solvers.native import compiling
from pvqbounds.solving import channels, layer_budget
from pvqbounds.solving.channels import solve_channels
from pvqbounds.solving.layer_budget import solve_layer_budget


@pytest.fixture
def slow(monkeypatch):
    """A process in which nothing is compiled yet, and compiling takes half a second."""
    monkeypatch.setattr(compiling, "_done", set())
    monkeypatch.setattr(compiling, "_seconds", 0.0)
    monkeypatch.setattr(compiling, "TELL_AFTER", 0.1)
    for module, name in ((compiling, "_quantize"), (compiling, "_prune"), (layer_budget, "_prune_together")):
        monkeypatch.setattr(module, name, lambda *_: time.sleep(0.5))


def problems():
    gram = pvq.Gram(np.eye(4) + 0.2)
    weights = np.random.default_rng(0).standard_normal((3, 4))
    return [
        [pvq.IntegerLeastSquares(gram, w, 0.3, -4, 3) for w in weights],
        [pvq.SparseLeastSquares(gram, w, nnz=2) for w in weights],
    ]


class Watch:
    """What passed in a block beside compiling: no seconds of a result may add up to more."""

    def __enter__(self):
        self._before = time.perf_counter() - compiling.seconds_compiling()
        return self

    def __exit__(self, *_):
        self.passed = time.perf_counter() - compiling.seconds_compiling() - self._before + 1e-3


@pytest.mark.parametrize("side", [0, 1])
def test_compiling_counts_neither_in_the_seconds_nor_against_the_limit(side, slow):
    problem = problems()[side][0]
    told = []
    with compiling.telling(told.append):
        with Watch() as watch:
            bounds = pvq.solve(problem, time_limit=0.2)
        assert told == [True, False]
        assert bounds.status == "optimal"
        assert bounds.seconds <= watch.passed
        compiled = compiling.seconds_compiling()
        assert compiled >= 0.5
        pvq.solve(problem, time_limit=0.2)
    assert told == [True, False]  # once
    assert compiling.seconds_compiling() == compiled


def test_a_proof_has_its_time_after_compiling(slow):
    problem = problems()[0][0]
    bounds = pvq.solve(problem)
    compiling._done.clear()
    assert pvq.verify(problem, bounds, time_limit=0.3)


def test_a_layer_budget_has_its_time_after_compiling(slow):
    sparse = problems()[1]
    with Watch() as watch:
        _, bounds, _ = solve_layer_budget(sparse, 5)
    assert sum(b.seconds for b in bounds) <= watch.passed
    assert compiling.seconds_compiling() >= 0.5


def test_channels_wait_for_one_compilation(slow):
    with Watch() as watch:
        bounds = solve_channels(problems()[0], jobs=3, time_limit=0.2)
    assert 0.5 <= compiling.seconds_compiling() < 1.0  # one, for which the other two wait
    assert all(b.seconds <= watch.passed for b in bounds)


def test_no_thread_goes_on_before_the_compilation_of_another_ended(slow, monkeypatch):
    """Else it waits inside its own solve, at numba's lock, and counts that."""
    ended = threading.Event()

    def compiles(_):
        compiling.compile_for(problem, Options())  # what is solved to compile comes by here, too
        time.sleep(0.3)
        ended.set()

    monkeypatch.setattr(compiling, "_quantize", compiles)
    problem = problems()[0][0]

    def went_on_after_the_end(_):
        compiling.compile_for(problem, Options())
        return ended.is_set()

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(went_on_after_the_end, range(4)))


def test_the_bar_says_what_it_waits_for(slow, monkeypatch):
    from rich.progress import Progress

    said = []
    update = Progress.update

    def note(self, task, **change):
        said.append(change.get("description"))
        update(self, task, **change)

    monkeypatch.setattr(Progress, "update", note)
    with progress_bar("bounds") as report:
        report(0, 1, "quantization")
        pvq.solve(problems()[0][0])
    assert said == ["quantization", compiling.COMPILING, "quantization"]


def test_what_solves_need_is_compiled_before_their_clock_starts():
    """In a process of its own: nothing that solves and proofs call is compiled by them."""
    probe = Path(__file__).with_name("compiled_probe.py")
    place = os.environ | {"PYTHONPATH": str(Path(pvq.__file__).parents[1])}
    command = [sys.executable, str(probe)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500, env=place)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_channel_counts_its_share_of_a_batch(jobs, monkeypatch):
    integer = problems()[0]
    true = channels._relaxed

    def slow_relaxed(*arguments):
        time.sleep(0.6)
        return true(*arguments)

    solve_channels(integer, method="relax", relaxation="box-hull")
    monkeypatch.setattr(channels, "_relaxed", slow_relaxed)
    started = time.perf_counter()
    bounds = solve_channels(integer, method="relax", relaxation="box-hull", jobs=jobs)
    passed = time.perf_counter() - started
    assert all(b.seconds >= 0.2 for b in bounds)
    assert 0.6 <= sum(b.seconds for b in bounds) <= 1.1 * jobs * passed

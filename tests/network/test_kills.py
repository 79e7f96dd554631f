"""SIGKILL at any moment, of the run or of a worker: the final store is that of a run that nothing ended."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from small_network import contents

from pvqbounds.storage.network_store import Store

PROGRAM = Path(__file__).with_name("bound_small.py")

PATIENCE = 300.0
"""Seconds within which anything happens, on any machine."""

LONG = [
    *("-m", "pvqbounds", "network", "--layer", "block[12].0", "--format", "int4", "--format", "25%"),
    *("--format", "nf4", "--methods", "all", "--jobs", "2", "--store"),
]
"""The embedded network, as far as no search comes near its time limit."""


def started(arguments: list[str], folder: Path) -> subprocess.Popen[bytes]:
    paths = os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": paths},
        stdout=(folder / "out").open("ab"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def finished(arguments: list[str], folder: Path) -> None:
    assert started(arguments, folder).wait(PATIENCE) == 0, (folder / "out").read_text()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.002)


def units(store: Path) -> int:
    return len(list(store.glob("units/*/*.json")))


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Processes that a run has started for its units."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in listed if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for the workers in /proc")
def test_a_run_that_is_killed_three_times_and_loses_a_worker_ends_in_the_same_store(tmp_path):
    # by the same program: torch's sums of a Gram round as its threads are, which other tests may set
    finished([str(PROGRAM), str(tmp_path / "whole"), "1"], tmp_path)
    whole = Store.open(tmp_path / "whole").read()
    assert (whole.done, whole.failed) == (9, 0)
    store = tmp_path / "s"
    arguments = [str(PROGRAM), str(store), "1"]
    for stand in (0, 2, 5):  # units that stand at least when it is killed
        process = started(arguments, tmp_path)
        wait_for(lambda stand=stand: (store / "network.json").exists() and units(store) >= stand, process)
        process.kill()
        process.wait()
        assert units(store) < 9
    process = started([*arguments[:-1], "2"], tmp_path)
    wait_for(lambda: len(workers_of(process)) == 2, process)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    assert process.wait(PATIENCE) == 0, (tmp_path / "out").read_text()
    assert contents(store) == contents(tmp_path / "whole")


@pytest.mark.long
def test_the_embedded_network_killed_twenty_times(tmp_path):
    whole, store = tmp_path / "whole", tmp_path / "s"
    finished([*LONG, str(whole)], tmp_path)
    began = time.monotonic()
    finished([*LONG, str(tmp_path / "again")], tmp_path)
    seconds = time.monotonic() - began
    chance = random.Random(0)
    for _ in range(20):
        process = started([*LONG, str(store)], tmp_path)
        time.sleep(chance.uniform(0.0, 0.8 * seconds))
        process.kill()
        process.wait()
    finished([*LONG, str(store)], tmp_path)
    assert contents(tmp_path / "again") == contents(whole)
    assert contents(store) == contents(whole)

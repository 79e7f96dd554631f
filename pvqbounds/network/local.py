"""Units in processes of this machine, of one BLAS thread each; one that is lost costs its unit's time.

Workers are started afresh (spawn) with the number of BLAS threads in their environment, before NumPy is
imported there. Each reads the Grams of its unit from the store and writes its result there, so that what
stands survives whatever ends. They end with the process that started them.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from pvqbounds.errors import InputError, OutputError
from pvqbounds.network.agenda import Agenda
from pvqbounds.network.unit import Unit
from pvqbounds.storage.network_store import Failure

__all__ = ["Outcome", "failure_of", "in_processes"]

TRIES = 2
"""Times that a unit is begun whose process is lost."""

LOOK = 0.2
"""Seconds between two looks at what the workers say."""

GRACE = 5.0
"""Seconds in which a worker whose pipe is closed may end by itself."""

ONE_THREAD = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "BLIS_NUM_THREADS"),
)
"""What says to BLAS libraries how many threads they may have."""

Outcome = Failure | None
"""What happened to a unit; None where its result stands."""

Told = Callable[[Unit, int, int], None]
Ended = Callable[[Unit, Outcome], None]


def failure_of(error: BaseException) -> Failure:
    """What is kept of an error."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError):
        text = "the memory of this machine ran out; take fewer jobs or a smaller sample"
    return Failure(type(error).__name__, text)


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """What processes that are started within the block find in their environment."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


# -------------------------------------------------------------------------------- in the worker


def _work(pipe: Any, store: str) -> None:
    """What a worker does: units as they come, until there are none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started it hears of Ctrl-C
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from pvqbounds.network.solved import solve_in_store

    pipe.send(("ready",))
    while True:
        try:
            unit: Unit | None = pipe.recv()
        except EOFError:
            return
        if unit is None:
            return

        def told(done: int, total: int, _doing: str) -> None:
            pipe.send(("progress", done, total))

        try:
            solve_in_store(unit, Path(store), told)
        except OutputError as error:
            pipe.send(("stop", str(error)))
        except Exception as error:
            pipe.send(("failed", failure_of(error)))
        else:
            pipe.send(("done",))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


# ------------------------------------------------------------------------------- in the parent


@dataclass(eq=False)
class _Worker:
    """A process, and the unit that it works on."""

    process: SpawnProcess
    pipe: Any
    unit: Unit | None = None
    ready: bool = False


@dataclass(eq=False)
class _Pool:
    """Workers, and the units that wait."""

    store: str
    agenda: Agenda
    told: Told
    ended: Ended
    workers: list[_Worker] = field(default_factory=list)
    lost: dict[tuple[str, str], int] = field(default_factory=dict)
    never: int = 0
    """Workers that ended before they were ready."""

    def start(self) -> None:
        """Start a worker."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self.store), daemon=True)
        with _one_blas_thread():
            process.start()
        theirs.close()
        self.workers.append(_Worker(process, ours))

    def give(self, worker: _Worker) -> None:
        """Hand out the next unit."""
        worker.unit = self.agenda.take()
        if worker.unit is None:
            return
        try:
            worker.pipe.send(worker.unit)
        except OSError:  # it has just ended, as its sentinel says next
            self.agenda.back(worker.unit)
            worker.unit = None

    def hear(self, worker: _Worker) -> None:
        """Take what a worker says."""
        word, *rest = worker.pipe.recv()
        unit = worker.unit
        if word == "ready":
            worker.ready = True
        elif word == "stop":
            raise OutputError(rest[0])
        elif unit is not None and word == "progress":
            self.told(unit, rest[0], rest[1])
            return
        elif unit is not None:
            worker.unit = None
            self.ended(unit, rest[0] if word == "failed" else None)
        self.give(worker)
        for other in self.workers:  # what has ended may have made room for more
            if other.ready and other.unit is None:
                self.give(other)

    def bury(self, worker: _Worker) -> None:
        """A worker has ended by itself: its unit is begun again, by another."""
        self.workers.remove(worker)
        worker.process.join(GRACE)
        worker.process.kill()  # one that has closed its pipe is of no use
        worker.process.join()
        code, unit = worker.process.exitcode or 0, worker.unit
        if not worker.ready:
            self.never += 1
            if self.never > TRIES:
                raise InputError(
                    "Worker processes end before they begin: each imports the script that asks for them, so "
                    "put what that does under `if __name__ == '__main__':`, or take jobs=1."
                )
        if unit is not None:
            self.lost[unit.key] = self.lost.get(unit.key, 0) + 1
            if self.lost[unit.key] < TRIES:
                self.agenda.back(unit)
            else:
                how = f"by signal {-code}" if code < 0 else f"with code {code}"
                text = f"its process ended {how}, {TRIES} times; memory may have run out: take fewer jobs"
                self.ended(unit, Failure("LostProcess", text))
        self.start()

    @property
    def busy(self) -> bool:
        """Whether anything is left to do: a worker that is not ready yet may find something."""
        return any(worker.unit is not None or not worker.ready for worker in self.workers)


def in_processes(store: Path, agenda: Agenda, jobs: int, told: Told, ended: Ended) -> None:
    """Bound units in so many processes; each stands in the store, or has failed, when `ended` hears of it.

    Parameters
    ----------
    told
        Called with a unit that is being worked on, its problems done, and their number.
    ended
        Called with each unit, and what happened where it failed.

    Raises
    ------
    OutputError
        If the store cannot be written.
    InputError
        If no worker starts.
    """
    pool = _Pool(str(store), agenda, told, ended)
    try:
        for _ in range(jobs):
            pool.start()
        while pool.busy:
            places: dict[Any, _Worker] = {worker.pipe: worker for worker in pool.workers}
            places |= {worker.process.sentinel: worker for worker in pool.workers}
            said = connection.wait(list(places), timeout=LOOK)
            for worker in {id(places[place]): places[place] for place in said}.values():
                try:
                    if worker.pipe.poll():
                        pool.hear(worker)
                    elif not worker.process.is_alive():
                        pool.bury(worker)
                except (EOFError, ConnectionResetError):
                    pool.bury(worker)
    finally:
        for worker in pool.workers:
            worker.process.terminate()
        for worker in pool.workers:
            worker.process.join()

"""Units in processes of this machine, of one BLAS thread each; one that is lost costs its unit's time.

Workers are started afresh (spawn) with the number of BLAS threads in their environment, before NumPy is
imported there, and get ready while the Grams are taken. Each reads the Grams of its unit from the store
and writes its result there, so that what stands survives whatever ends. They end with the process that
started them.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from pvqbounds.errors import InputError, OutputError
from pvqbounds.network.agenda import Agenda
from pvqbounds.network.unit import Unit
from pvqbounds.storage.network_store import Failure

__all__ = ["Outcome", "Pool", "failure_of", "processes"]

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


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes that are started within the block do not hear of Ctrl-C, which a terminal sends to all."""
    if not hasattr(signal, "pthread_sigmask"):  # not on this platform
        yield
        return
    resource_tracker.ensure_running()  # its start would let them hear again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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


class Pool:
    """Workers, and the units that wait.

    Parameters
    ----------
    store
        Folder of the Grams and the results.
    """

    def __init__(self, store: Path) -> None:
        self._store = str(store)
        self._workers: list[_Worker] = []
        self._lost: dict[tuple[str, str], int] = {}
        self._never = 0
        """Workers that ended before they were ready."""
        self._agenda = Agenda([])
        self._told: Told = lambda unit, done, total: None
        self._ended: Ended = lambda unit, outcome: None

    def work(self, agenda: Agenda, told: Told, ended: Ended) -> None:
        """Bound units; each stands in the store, or has failed, when `ended` hears of it.

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
        self._agenda, self._told, self._ended = agenda, told, ended
        while self._busy:
            places: dict[Any, _Worker] = {worker.pipe: worker for worker in self._workers}
            places |= {worker.process.sentinel: worker for worker in self._workers}
            said = connection.wait(list(places), timeout=LOOK)
            for worker in {id(places[place]): places[place] for place in said}.values():
                try:
                    if worker.pipe.poll():
                        self._hear(worker)
                    elif not worker.process.is_alive():
                        self._bury(worker)
                except (EOFError, ConnectionResetError):
                    self._bury(worker)

    def end(self) -> None:
        """End the workers, whatever they do."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()

    def start(self) -> None:
        """Start a worker."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self._store), daemon=True)
        with _one_blas_thread(), _deaf():
            process.start()
        theirs.close()
        self._workers.append(_Worker(process, ours))

    def _give(self, worker: _Worker) -> None:
        """Hand out the next unit."""
        worker.unit = self._agenda.take()
        if worker.unit is None:
            return
        try:
            worker.pipe.send(worker.unit)
        except OSError:  # it has just ended, as its sentinel says next
            self._agenda.back(worker.unit)
            worker.unit = None

    def _hear(self, worker: _Worker) -> None:
        """Take what a worker says."""
        word, *rest = worker.pipe.recv()
        unit = worker.unit
        if word == "ready":
            worker.ready = True
        elif word == "stop":
            raise OutputError(rest[0])
        elif unit is not None and word == "progress":
            self._told(unit, rest[0], rest[1])
            return
        elif unit is not None:
            worker.unit = None
            self._ended(unit, rest[0] if word == "failed" else None)
        self._give(worker)
        for other in self._workers:  # what has ended may have made room for more
            if other.ready and other.unit is None:
                self._give(other)

    def _bury(self, worker: _Worker) -> None:
        """A worker has ended by itself: its unit is begun again, by another."""
        self._workers.remove(worker)
        worker.process.join(GRACE)
        worker.process.kill()  # one that has closed its pipe is of no use
        worker.process.join()
        code, unit = worker.process.exitcode or 0, worker.unit
        if not worker.ready:
            self._never += 1
            if self._never > TRIES:
                raise InputError(
                    "Worker processes end before they begin: each imports the script that asks for them, so "
                    "put what that does under `if __name__ == '__main__':`, or take jobs=1."
                )
        if unit is not None:
            self._lost[unit.key] = self._lost.get(unit.key, 0) + 1
            if self._lost[unit.key] < TRIES:
                self._agenda.back(unit)
            else:
                how = f"by signal {-code}" if code < 0 else f"with code {code}"
                text = f"its process ended {how}, {TRIES} times; memory may have run out: take fewer jobs"
                self._ended(unit, Failure("LostProcess", text))
        self.start()

    @property
    def _busy(self) -> bool:
        """Whether anything is left to do: a worker that is not ready yet may find something."""
        return any(worker.unit is not None or not worker.ready for worker in self._workers)


@contextmanager
def processes(store: Path, count: int) -> Iterator[Pool]:
    """So many workers for units of a store, until the block ends."""
    pool = Pool(store)
    try:
        for _ in range(count):
            pool.start()
        yield pool
    finally:
        pool.end()

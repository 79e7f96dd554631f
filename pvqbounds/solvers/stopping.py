"""How a solve is stopped from outside: by another thread, or by Ctrl-C.

Solvers differ in what they offer. Some have a method that may be called from any thread
(:func:`on_cancel`), some call back now and then (:class:`Stop`); some take the signal for
themselves, so that the backend raises KeyboardInterrupt afterwards.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pvqbounds.clock import Clock

__all__ = ["Stop", "on_cancel"]

T = TypeVar("T")


class Stop:
    """What a solver that calls back asks: whether to stop.

    Parameters
    ----------
    cancelled
        Set by another thread to stop the solve.
    clock
        For solvers that look at the clock too seldom: it also stops them where a step as long as the
        longest one between two calls would end too late.
    """

    def __init__(self, cancelled: threading.Event | None, clock: Clock | None = None) -> None:
        self._cancelled, self._clock = cancelled, clock
        self._interrupted = threading.Event()
        self._last: float | None = None
        self._longest = 0.0
        self.out_of_time = False
        """Whether the clock stopped it."""

    def __call__(self, *_: Any) -> bool:
        """Whether to stop; takes whatever the solver has to say."""
        if self._clock is not None:
            now = time.monotonic()
            self._longest = max(self._longest, 0.0 if self._last is None else now - self._last)
            self._last = now
            self.out_of_time |= self._clock.remaining < self._longest
        return (
            self.out_of_time
            or self._interrupted.is_set()
            or (self._cancelled is not None and self._cancelled.is_set())
        )

    def guard(self, solve: Callable[[], T]) -> T:
        """Run the solve in a thread of its own, so that Ctrl-C arrives in this one.

        Signals arrive where the main thread runs Python code. That may be within the solver's call
        back, and an exception from there is lost in some solvers and ends the process in others.
        """
        results: list[T] = []
        errors: list[BaseException] = []
        done = threading.Event()  # Thread.join, once interrupted, takes its thread for ended

        def run() -> None:
            try:
                results.append(solve())
            except BaseException as error:  # raised again where it was asked for
                errors.append(error)
            finally:
                done.set()

        try:
            threading.Thread(target=run, daemon=True).start()
            while not done.wait(0.1):
                pass
        except KeyboardInterrupt:
            self._interrupted.set()
            done.wait()
            raise
        if errors:
            raise errors[0]
        return results[0]


@contextmanager
def on_cancel(cancelled: threading.Event | None, stop: Callable[[], Any]) -> Iterator[None]:
    """Call `stop` from another thread, again and again, once `cancelled` is set while the block runs."""
    if cancelled is None:
        yield
        return
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            if cancelled.is_set():
                stop()  # not all solvers listen before their search has begun

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()

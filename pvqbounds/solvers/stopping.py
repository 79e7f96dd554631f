"""How a solve is stopped from outside: by another thread, or by Ctrl-C.

Solvers differ in what they offer. Some have a method that may be called from any thread
(:func:`on_cancel`), some call back now and then (:class:`Stop`); some take the signal for
themselves, so that the backend raises KeyboardInterrupt afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Stop", "on_cancel"]


class Stop:
    """What a solver that calls back asks: whether to stop.

    Signals arrive where Python code runs, which during such a solve is here. An exception must not
    pass through the solver: it is kept and raised afterwards.

    Parameters
    ----------
    cancelled
        Set by another thread to stop the solve.
    """

    def __init__(self, cancelled: threading.Event | None) -> None:
        self._cancelled = cancelled
        self._interrupted = False

    def __call__(self, *_: Any) -> bool:
        """Whether to stop; takes whatever the solver has to say."""
        try:
            return self._interrupted or (self._cancelled is not None and self._cancelled.is_set())
        except KeyboardInterrupt:
            self._interrupted = True
            return True

    def raise_interrupt(self) -> None:
        """Raise the KeyboardInterrupt that came during the solve."""
        if self._interrupted:
            raise KeyboardInterrupt


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

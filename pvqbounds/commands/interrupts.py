"""Ctrl-C on a command that has something to keep: the first one stops the work, the second one ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["INTERRUPTED", "Interrupts", "keeping_what_stands"]

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended, with what stood by then or without."""

SAID = b"\nInterrupted: what stands is being written; once more ends at once.\n"


class Interrupts:
    """What an interrupt means now: the end at once, until something stands that can be kept."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        """Set by the first interrupt."""
        self.keeps = False
        """Whether something stands."""

    def arrived(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        if not self.keeps or self.stop.is_set():
            self.stop.set()  # solvers in other threads, too
            raise KeyboardInterrupt
        self.stop.set()
        if sys.stderr is not None:
            os.write(2, SAID)  # no stream: the signal may have come while one was being written


@contextmanager
def keeping_what_stands() -> Iterator[Interrupts]:
    """Within the block an interrupt asks the work to stop, where it has something to keep."""
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():  # it hears of no signal
        yield interrupts
        return
    before = signal.signal(signal.SIGINT, interrupts.arrived)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)

"""Time limits and cancellation, as every engine looks at them."""

from __future__ import annotations

import threading
import time

__all__ = ["Clock"]


class Clock:
    """A time limit that starts with the object, and that another thread can cut short.

    Parameters
    ----------
    time_limit
        Seconds.
    cancelled
        Set by the caller to stop early.
    """

    def __init__(self, time_limit: float, cancelled: threading.Event | None = None) -> None:
        self._end = time.monotonic() + time_limit
        self._cancelled = cancelled

    def part(self, share: float) -> Clock:
        """A clock that runs out when `share` of the time left has passed."""
        return Clock(share * self.remaining, self._cancelled)

    @property
    def remaining(self) -> float:
        """Seconds left, 0 once cancelled."""
        if self._cancelled is not None and self._cancelled.is_set():
            return 0.0
        return max(0.0, self._end - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether it is time to stop."""
        return self.remaining == 0.0

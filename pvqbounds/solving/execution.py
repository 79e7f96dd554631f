"""How many problems are solved at a time, where, and who is told: validated once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from pvqbounds.errors import InputError, shown
from pvqbounds.problems.validation import whole_number
from pvqbounds.results.bounds import Bounds

__all__ = ["Execution"]


@dataclass(frozen=True)
class Execution:
    """How the problems of a layer are worked through.

    Raises
    ------
    InputError
        If a value cannot be used.
    """

    jobs: int = 1
    """Problems at a time."""
    device: str = "cpu"
    """Where the native relaxations of uniform steps are solved: "cpu", or "cuda" in batches (PyTorch)."""
    progress: Callable[[int], None] | None = None
    """Called with the number of problems done after each one."""
    found: Callable[[int, Bounds], None] | None = None
    """Called with a problem's position and its bounds, each time they are found or closed further."""
    total_time: float | None = None
    """Seconds for all problems together; None where each has its own limit alone."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "jobs", whole_number(self.jobs, "The number of jobs", 1, 2**16))
        if not isinstance(self.device, str):
            raise InputError(f"The device is given by its name, not {shown(self.device)}.")
        total = self.total_time
        number = isinstance(total, int | float) and not isinstance(total, bool)
        if total is not None and not (number and 0.0 < total < math.inf and total <= 1e300):
            raise InputError(f"The total time must be a positive number of seconds, not {shown(total)}.")

    def report(self, done: int) -> None:
        """Say how many problems are done to whoever wants to know."""
        if self.progress is not None:
            self.progress(done)

    def tell(self, position: int, bounds: Bounds) -> None:
        """Say what is known of a problem to whoever wants to know."""
        if self.found is not None:
            self.found(position, bounds)

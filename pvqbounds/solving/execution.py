"""How many problems are solved at a time, where, and who is told: validated once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pvqbounds.errors import InputError, shown
from pvqbounds.problems.validation import whole_number

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

    def __post_init__(self) -> None:
        object.__setattr__(self, "jobs", whole_number(self.jobs, "The number of jobs", 1, 2**16))
        if not isinstance(self.device, str):
            raise InputError(f"The device is given by its name, not {shown(self.device)}.")

    def report(self, done: int) -> None:
        """Say how many problems are done to whoever wants to know."""
        if self.progress is not None:
            self.progress(done)

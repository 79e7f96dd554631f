"""Somebody's compressed weights beside the bounds of what they could have been."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from pvqbounds.problems.formats import Format
from pvqbounds.problems.formats.stored import stored_format

__all__ = ["AS_STORED", "Compressed"]

AS_STORED = "compressed"
"""What the weights of the file are called among the methods of a side."""


@dataclass(frozen=True)
class Compressed:
    """Where compressed weights come from, and what the file allowed."""

    source: str
    """Name of the file or folder."""
    layer: str
    """What the file calls the layer."""
    kind: str
    """How it is stored, in words."""
    values: str
    """Its values in words, such as int4:g128; empty where kept weights are any real numbers."""
    bits: int
    """Of a code."""
    steps: bool
    """Whether values are whole multiples of a step."""
    pattern: tuple[int, int] | None = None
    kept: bool = False
    """Whether each channel may keep as many weights as the file keeps of it."""
    presumed: str = ""
    """What the interval holds for, to follow "the interval", where the file does not say what it allowed."""

    mixed: tuple[int, ...] = ()
    """Channels whose values are more than the compression was allowed to choose at once: the bound holds, and
    what was found on them may be out of its reach, so that the file's own weights are what is reached."""

    @property
    def label(self) -> str:
        """What is presumed, in two words, to stand behind what an interval is; empty where nothing is."""
        if not self.presumed:
            return ""
        return "grid presumed" if self.values else "pruning presumed"

    @property
    def condition(self) -> str:
        """What is presumed, as a sentence; empty where the file says what it allowed."""
        return f"The interval {self.presumed}." if self.presumed else ""

    @cached_property
    def form(self) -> Format:
        """What the file allowed, as a format."""
        return stored_format(self.values, self.bits, self.steps, self.pattern, self.kept)

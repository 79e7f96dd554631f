"""The code blocks of Markdown pages, with what comments before them say.

A comment right before a block says how it is run, for readers of the source and of the tests alike:

- ``<!-- not run: REASON -->``: it cannot be run here.
- ``<!-- needs: MODULE, ... -->``: it is run where these are installed.
- ``<!-- long: REASON -->``: it is run by `make test-long` alone.
- ``<!-- given: NAME, ... -->``: what it presupposes, made by ``tests/docs/page_given.py``.
- ``<!-- exit: CODE -->``: its last command ends with this code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

LANGUAGES = {"python": "python", "sh": "shell", "bash": "shell", "console": "console"}
"""Languages that are run, by the words behind the fence."""

MARKERS = ("not run", "needs", "long", "given", "exit")

FENCE = re.compile(r"^( *)(`{3,})(\S*)(.*)$")
MARKER = re.compile(r"^ *<!-- *(" + "|".join(MARKERS) + r") *: *(.+?) *-->$")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    """Of its first line of code, from 1."""
    language: str
    """The word behind the fence."""
    text: str
    markers: Mapping[str, str]

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    def listed(self, marker: str) -> list[str]:
        """What a marker names, comma by comma."""
        return [name.strip() for name in self.markers.get(marker, "").split(",") if name.strip()]


def pages() -> list[Path]:
    """README and every page of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(text: str, page: str) -> list[Block]:
    """The blocks of a page in order, whatever their language.

    Raises
    ------
    ValueError
        If a block does not end, or a marker stands before something else than a block.
    """
    found: list[Block] = []
    markers: dict[str, str] = {}
    fence, start, lines = None, 0, []
    for number, line in enumerate(text.splitlines(), 1):
        if fence is not None:
            if line.strip() == fence[2]:
                cut = len(fence[1])
                code = "\n".join(row[cut:] if not row[:cut].strip() else row for row in lines)
                found.append(Block(page, start, fence[3], code, markers))
                fence, markers = None, {}
            else:
                lines.append(line)
        elif opened := FENCE.match(line):
            fence, start, lines = opened, number + 1, []
        elif marked := MARKER.match(line):
            markers[marked[1]] = marked[2]
        elif line.strip() and markers:
            raise ValueError(f"{page}:{number}: a marker stands before something else than a block of code")
    if fence is not None or markers:
        raise ValueError(f"{page}:{start}: a block does not end, or a marker has none")
    return found

"""How much memory this process may still take: the machine's, its control group's and its own limit."""

from __future__ import annotations

import math
import sys
from pathlib import Path

__all__ = ["available_memory"]

MEMORY_INFO, GROUP, GROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")

LEAST_UNLIMITED = 2**60
"""Limits from here on are none: control groups of the first version say so by a large number."""


def available_memory() -> float:
    """Bytes that can still be had; inf where nothing here tells."""
    return max(0.0, min(_of_machine(), _of_groups(), _of_process()))


def _of_machine() -> float:
    for line in _lines(MEMORY_INFO):
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return 1024.0 * float(rest.split()[0])
    return math.inf


def _of_groups() -> float:
    """The least room in the control groups that this process is in, and in those that hold them."""
    rooms = [math.inf]
    for line in _lines(GROUP):
        _, controllers, place = (*line.split(":", 2), "", "")[:3]
        if controllers and "memory" not in controllers.split(","):
            continue
        first = GROUPS / "memory" if controllers else GROUPS
        names = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes")
            if controllers
            else ("memory.max", "memory.current")
        )
        parts = [part for part in place.split("/") if part and part != ".."]
        for depth in range(len(parts) + 1):
            folder = first.joinpath(*parts[:depth])
            limit, used = (_number(folder / name) for name in names)
            if limit is not None and used is not None and limit < LEAST_UNLIMITED:
                rooms.append(limit - used + _cache(folder))
    return min(rooms)


def _cache(folder: Path) -> float:
    """Bytes of files in a group's memory, which it gives back when they are wanted."""
    for line in _lines(folder / "memory.stat"):
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file") and value.isdecimal():
            return float(value)
    return 0.0


def _of_process() -> float:
    """What a limit on this process's address space leaves."""
    if sys.platform == "win32":
        return math.inf
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return math.inf
    pages = next(iter(_lines(Path("/proc/self/statm"))), "0").split()[0]
    return float(limit - int(pages) * resource.getpagesize())


def _number(path: Path) -> float | None:
    text = next(iter(_lines(path)), "").strip()
    return float(text) if text.isdecimal() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []

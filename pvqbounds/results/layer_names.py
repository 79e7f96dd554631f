"""Layers by patterns of their names."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

__all__ = ["is_pattern", "names_like"]


def is_pattern(name: str) -> bool:
    """Whether a name has letters that stand for others: ``*``, ``?`` and ``[...]``."""
    return any(letter in name for letter in "*?[")


def names_like(pattern: str, names: Iterable[str]) -> list[str]:
    """Those that a pattern stands for: a name that looks like a pattern is like itself, too."""
    return [name for name in names if name == pattern or fnmatchcase(name, pattern)]

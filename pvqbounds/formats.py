"""Formats by name: the door to :mod:`pvqbounds.problems.formats`."""

from pvqbounds.problems.formats import (
    Format,
    LevelRule,
    Options,
    Sparsity,
    StepRule,
    ValueRule,
    levels_of,
    names,
    of_size,
    parse,
    register,
    register_support,
)

__all__ = [
    "Format",
    "LevelRule",
    "Options",
    "Sparsity",
    "StepRule",
    "ValueRule",
    "levels_of",
    "names",
    "of_size",
    "parse",
    "register",
    "register_support",
]

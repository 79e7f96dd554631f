"""Formats by name: the door to :mod:`pvqbounds.problems.formats`."""

from pvqbounds.problems.formats import Format, Options, ValueRule, levels_of, names, parse, register

__all__ = ["Format", "Options", "ValueRule", "levels_of", "names", "parse", "register"]

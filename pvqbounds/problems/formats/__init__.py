"""Quantization formats and sparsity by name: ``parse("2:4+int4:g128")``."""

from pvqbounds.problems.formats.format import Format
from pvqbounds.problems.formats.options import Options
from pvqbounds.problems.formats.registry import names, parse, register
from pvqbounds.problems.formats.rules import ValueRule, levels_of

__all__ = ["Format", "Options", "ValueRule", "levels_of", "names", "parse", "register"]

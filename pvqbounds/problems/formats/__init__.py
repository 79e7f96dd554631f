"""Quantization formats and sparsity by name: ``parse("2:4+int4:g128")``."""

from pvqbounds.problems.formats.equal_size import EQUAL_SIZE, of_size
from pvqbounds.problems.formats.format import Format
from pvqbounds.problems.formats.options import Options
from pvqbounds.problems.formats.registry import names, parse, register, register_support
from pvqbounds.problems.formats.rules import AskedScales, LevelRule, StepRule, ValueRule, levels_of
from pvqbounds.problems.formats.short_forms import asked_formats, density_format, int_format, pattern_format
from pvqbounds.problems.formats.sparsity import MASKS, Sparsity, checked_mask

__all__ = [
    "EQUAL_SIZE",
    "MASKS",
    "AskedScales",
    "Format",
    "LevelRule",
    "Options",
    "Sparsity",
    "StepRule",
    "ValueRule",
    "asked_formats",
    "checked_mask",
    "density_format",
    "int_format",
    "levels_of",
    "names",
    "of_size",
    "parse",
    "pattern_format",
    "register",
    "register_support",
]

"""The formats that a layer is asked for: by name, or by the short forms bits, density and pattern."""

from __future__ import annotations

from collections.abc import Sequence

from pvqbounds.errors import InputError, shown
from pvqbounds.problems.formats.format import Format
from pvqbounds.problems.formats.options import Options
from pvqbounds.problems.formats.registry import parse
from pvqbounds.problems.formats.sparsity import Density, NofM
from pvqbounds.problems.formats.uniform import uniform
from pvqbounds.problems.grids import symmetric_codes
from pvqbounds.problems.supports import checked_pattern

__all__ = ["asked_formats", "density_format", "int_format", "pattern_format"]


def int_format(bits: int) -> Format:
    """The plain ``int4`` of so many bits.

    Raises
    ------
    InputError
        Unless `bits` is a whole number from 2 to 16.
    """
    symmetric_codes(bits)
    return Format(uniform(int(bits), Options(f"int{bits}", [])))


def density_format(density: float) -> Format:
    """The format that keeps a fraction of each channel's weights.

    Raises
    ------
    InputError
        If the density is not in (0, 1].
    """
    return Format(support=Density(density))


def pattern_format(pattern: tuple[int, int]) -> Format:
    """The format of a pattern (N, M).

    Raises
    ------
    InputError
        If it is none.
    """
    return Format(support=NofM(*checked_pattern(pattern)))


def asked_formats(
    formats: Sequence[str] | None,
    bits: int | None,
    density: float | None,
    pattern: tuple[int, int] | None,
) -> list[Format]:
    """The formats by name, or those that the short forms stand for: int4 beside 25% if nothing is said.

    Raises
    ------
    InputError
        If a name is unknown or given twice, there is none, or both are given.
    """
    if formats is None:
        return _short_forms(4 if bits is None else bits, density, pattern)
    if any(short is not None for short in (bits, density, pattern)):
        raise InputError("Give either formats or their short forms bits, density and pattern, not both.")
    if isinstance(formats, str):
        raise InputError(f"The formats are a list of names, not {shown(formats)}; put it in brackets.")
    chosen = [parse(name) for name in formats]
    names = [form.name for form in chosen]
    if not names:
        raise InputError("Name at least one format, such as int4.")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"The format {name} is given {names.count(name)} times; give it once.")
    return chosen


def _short_forms(bits: int, density: float | None, pattern: tuple[int, int] | None) -> list[Format]:
    """Quantization beside pruning to a pattern, a density, or the size of so many bits without the mask."""
    if pattern is not None and density is not None:
        raise InputError("Give either a density or an N:M pattern for pruning, not both.")
    if density is not None and (isinstance(density, bool) or not isinstance(density, int | float)):
        raise InputError(f"The density must be a number in (0, 1], not {shown(density)}.")
    quantized = int_format(bits)
    if pattern is not None:
        return [quantized, pattern_format(pattern)]
    return [quantized, density_format(bits / 16 if density is None else float(density))]

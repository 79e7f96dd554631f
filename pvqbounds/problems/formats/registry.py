"""From names to formats: the registry, and what reads it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from pvqbounds.errors import InputError, nearest_name, shown
from pvqbounds.problems.formats.format import Format
from pvqbounds.problems.formats.fp4 import mxfp4, nvfp4
from pvqbounds.problems.formats.fp8 import fp8
from pvqbounds.problems.formats.gguf import IQ4NL, Q40, Q41, Q80
from pvqbounds.problems.formats.nf4 import nf4
from pvqbounds.problems.formats.options import Options
from pvqbounds.problems.formats.rules import ValueRule
from pvqbounds.problems.formats.sparsity import Sparsity, density, pattern
from pvqbounds.problems.formats.uniform import uniform

__all__ = ["SUPPORT_RULES", "VALUE_RULES", "names", "parse", "register", "register_support"]

T = TypeVar("T")

VALUE_RULES: dict[str, Callable[[Options], ValueRule]] = {
    **{f"int{bits}": partial(uniform, bits) for bits in range(2, 17)},
    "nf4": nf4,
    "nvfp4": nvfp4,
    "mxfp4": mxfp4,
    "fp8": fp8,
    "q4_0": lambda options: Q40(),
    "q4_1": lambda options: Q41(),
    "q8_0": lambda options: Q80(),
    "iq4_nl": lambda options: IQ4NL(),
}
"""What makes a value rule of the options behind each name."""

SPARSITIES: tuple[tuple[str, Callable[[str], Sparsity]], ...] = (
    (r"[0-9]+:[0-9]+", pattern),
    (r".*%", density),
)
"""How names of patterns and densities look, and what reads them."""

SUPPORT_RULES: dict[str, Callable[[Options], Sparsity]] = {}
"""What makes a support rule of the options behind each other name."""

ALIKE = 0.5
"""Share of letters in common from which one name may be meant by another."""
LONGEST_NAME = 10_000
"""Characters; the smallest positive float64 in full has 343 digits as a percentage."""


def names() -> list[str]:
    """Names of formats, without options, densities and patterns."""
    return [*VALUE_RULES, *SUPPORT_RULES]


def register(name: str, rule: Callable[[Options], ValueRule]) -> None:
    """Add a format of values.

    Parameters
    ----------
    name
        Lower-case letters, digits and _, with a letter first; options follow it after colons.
    rule
        What makes the value rule of the options, whose :attr:`ValueRule.name` must lead back to it.

    Raises
    ------
    InputError
        If the name has other characters or is taken.
    """
    _check_new(name)
    VALUE_RULES[name] = rule


def register_support(name: str, rule: Callable[[Options], Sparsity]) -> None:
    """Add a format that says which weights may be non-zero, alone (``mine``) or joined (``mine+int4``).

    Parameters
    ----------
    name, rule
        As for :func:`register`; what `rule` makes is a :class:`Sparsity`.

    Raises
    ------
    InputError
        If the name has other characters or is taken.
    """
    _check_new(name)
    SUPPORT_RULES[name] = rule


def _check_new(name: str) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise InputError(
            f"A format's name has lower-case letters, digits and _, with a letter first, not {shown(name)}."
        )
    if name in names():
        raise InputError(f"There is a format '{name}' already; take another name.")


def parse(name: str) -> Format:
    """The format of a name: ``int4:g128``, ``nf4:b32``, ``2:4``, ``25%``, ``2:4+int4:g128``, in any case.

    Raises
    ------
    InputError
        If there is none; the nearest name is given.
    """
    if not isinstance(name, str):
        raise InputError(f"The name of a format is a text, like int4:g128, not {shown(name)}.")
    if len(name) > LONGEST_NAME:
        raise InputError(f"There is no format of {len(name)} characters, {shown(name)}.")
    values: list[ValueRule] = []
    supports: list[Sparsity] = []
    for part in name.lower().split("+"):
        text = part.strip()
        reader = next((read for look, read in SPARSITIES if re.fullmatch(look, text)), None)
        if reader is not None:
            supports.append(reader(text))
        elif text.partition(":")[0] in SUPPORT_RULES:
            supports.append(_built(SUPPORT_RULES, text))
        else:
            values.append(_value_rule(text, name))
    if len(values) > 1 or len(supports) > 1:
        raise InputError(
            f"A format joins at most one pattern or density with one format of values, like 2:4+int4, "
            f"not {shown(name)}."
        )
    return Format(values[0] if values else None, supports[0] if supports else None)


def _value_rule(text: str, name: str) -> ValueRule:
    head = text.partition(":")[0]
    if head not in VALUE_RULES:
        near = nearest_name(head, names(), cutoff=ALIKE)
        known = f"{_listed()}, N:M, P% and N:M+int4"
        hint = f"did you mean '{near}' (formats are {known})?" if near else f"they are {known}."
        raise InputError(f"There is no format {shown(name)}; {hint}")
    return _built(VALUE_RULES, text)


def _built(rules: Mapping[str, Callable[[Options], T]], text: str) -> T:
    """The rule of a name and its options."""
    head, *texts = text.split(":")
    options = Options(head, texts)
    rule = rules[head](options)
    options.finish()
    return rule


def _listed() -> str:
    others = [name for name in names() if not re.fullmatch("int[0-9]+", name)]
    return ", ".join(["int2 to int16", *others])

"""Formats by name, as far as they are problems: ``int4``, ``int4:g128``, ``25%``, ``2:4``.

A format says its name, its size in bits a weight, and whether a problem is one of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import ceil, log2
from typing import ClassVar, Literal, Protocol

import numpy as np

from pvqbounds.errors import InputError, shown
from pvqbounds.problems.formats import Format, parse
from pvqbounds.problems.grids import symmetric_codes
from pvqbounds.problems.integer import IntegerLeastSquares
from pvqbounds.problems.least_squares import Problem
from pvqbounds.problems.sparse import SparseLeastSquares, nnz_of_density
from pvqbounds.problems.supports import checked_pattern
from pvqbounds.problems.values import Steps

__all__ = [
    "Density",
    "Pattern",
    "PlainFormat",
    "Stepped",
    "Task",
    "Uniform",
    "asked_formats",
    "parse_format",
]


Task = Literal["quantization", "pruning"]
"""Kind of the problems of a format."""

FULL_BITS = 16
"""Bits of a weight that is kept as it is, and of a scale."""


class PlainFormat(Protocol):
    """What results, files and layers ask of a format."""

    task: ClassVar[Task]
    """Kind of its problems."""

    @property
    def name(self) -> str:
        """The name that :func:`parse_format` reads."""

    def bits_per_weight(self, problems: Sequence[Problem], weights: int, inputs: int) -> float:
        """Size with scales and masks counted, of a layer of so many weights, `inputs` a channel."""

    def fault(self, problem: Problem) -> tuple[str, str] | None:
        """Which field of a problem is not that of the format, and why; None if it is one."""

    def text(self, problems: Sequence[Problem], nnz: int | None) -> str:
        """The size in words; `nnz` is how many weights all problems keep together, where that is shared."""


@dataclass(frozen=True)
class Uniform:
    """A symmetric uniform grid of so many bits, with one scale for the layer or one a channel."""

    task: ClassVar[Task] = "quantization"
    bits: int

    def __post_init__(self) -> None:
        symmetric_codes(self.bits)

    @property
    def name(self) -> str:
        """As :func:`parse_format` reads it."""
        return f"int{self.bits}"

    def bits_per_weight(self, problems: Sequence[Problem], weights: int, inputs: int) -> float:
        """`bits`, and the bits of the scale: a single one counts as one for the layer."""
        scales = {float(p.step[0]) for p in problems if isinstance(p, IntegerLeastSquares)}
        return self.bits + FULL_BITS / (weights if len(scales) == 1 else inputs)

    def fault(self, problem: Problem) -> tuple[str, str] | None:
        """Which field is not that of the format, and why."""
        if not isinstance(problem, IntegerLeastSquares):
            return "format", f"{self.name}, but the entry is one of pruning"
        if (problem.qmin, problem.qmax) != symmetric_codes(self.bits):
            return "codes", f"the grid {problem.qmin}..{problem.qmax} is not that of {self.bits} bits"
        return None

    def text(self, problems: Sequence[Problem], nnz: int | None) -> str:
        """Its bits and its codes."""
        return "{} bits, codes {}..{}".format(self.bits, *symmetric_codes(self.bits))


@dataclass(frozen=True)
class Stepped:
    """A format of uniform steps in groups or with zero points: int4:g128, int3:g64:asym, q8_0."""

    task: ClassVar[Task] = "quantization"
    form: Format

    @property
    def name(self) -> str:
        """As :func:`parse_format` reads it."""
        return self.form.name

    def bits_per_weight(self, problems: Sequence[Problem], weights: int, inputs: int) -> float:
        """Codes, scales and zero points."""
        return self.form.bits_per_weight((weights // inputs, inputs))

    def fault(self, problem: Problem) -> tuple[str, str] | None:
        """Which field is not that of the format, and why."""
        if not isinstance(problem, IntegerLeastSquares):
            return "format", f"{self.name}, but the entry is one of pruning"
        assert self.form.values is not None
        codes, most = int((problem.high - problem.low).max()) + 1, 2**self.form.values.code_bits
        if codes > most:
            return "codes", f"{codes} codes of an input, but {self.name} has {most}"
        return None

    def text(self, problems: Sequence[Problem], nnz: int | None) -> str:
        """Its name."""
        return self.name


@dataclass(frozen=True)
class Density:
    """A fraction of the weights is kept, of each channel or of the layer."""

    task: ClassVar[Task] = "pruning"
    density: float

    def __post_init__(self) -> None:
        nnz_of_density(self.density, 1)

    @property
    def name(self) -> str:
        """As :func:`parse_format` reads it."""
        return f"{Decimal(repr(float(self.density))).scaleb(2):f}%"  # exactly: it is read back as it was

    def bits_per_weight(self, problems: Sequence[Problem], weights: int, inputs: int) -> float:
        """The kept weights, and one bit a weight for which they are."""
        return self.density * FULL_BITS + 1.0

    def fault(self, problem: Problem) -> tuple[str, str] | None:
        """Which field is not that of the format, and why."""
        if not isinstance(problem, SparseLeastSquares):
            return "format", f"{self.name}, but the entry is one of quantization"
        if problem.pattern is not None:
            return "pattern", f"the format {self.name} has none"
        allowed = nnz_of_density(self.density, problem.n)
        if problem.nnz != allowed:
            return "nnz", f"{problem.nnz}, but a density of {self.density} allows {allowed}"
        return None

    def text(self, problems: Sequence[Problem], nnz: int | None) -> str:
        """The density, and how many weights are kept of how many, where that is one number."""
        kept = {(p.nnz, p.n) for p in problems if isinstance(p, SparseLeastSquares)}
        if nnz is not None:
            kept = {(nnz, sum(p.n for p in problems))}
        detail = ", keep {} of {}".format(*min(kept)) if len(kept) == 1 else ""
        return f"density {self.density:g}{detail}"


@dataclass(frozen=True)
class Pattern:
    """At most N of every M consecutive input channels are kept."""

    task: ClassVar[Task] = "pruning"
    kept: int
    size: int

    def __post_init__(self) -> None:
        checked_pattern((self.kept, self.size))

    @classmethod
    def of(cls, pair: tuple[int, int]) -> Pattern:
        """The pattern of a pair (N, M)."""
        return cls(*checked_pattern(pair))

    @property
    def name(self) -> str:
        """As :func:`parse_format` reads it."""
        return f"{self.kept}:{self.size}"

    @property
    def density(self) -> float:
        """Fraction of the weights that it keeps."""
        return self.kept / self.size

    def bits_per_weight(self, problems: Sequence[Problem], weights: int, inputs: int) -> float:
        """The kept weights, each with its position in its group."""
        return self.density * (FULL_BITS + ceil(log2(self.size)))

    def fault(self, problem: Problem) -> tuple[str, str] | None:
        """Which field is not that of the format, and why."""
        if not isinstance(problem, SparseLeastSquares):
            return "format", f"{self.name}, but the entry is one of quantization"
        if problem.pattern != (self.kept, self.size):
            return "pattern", f"{problem.pattern}, but the format is {self.name}"
        return None

    def text(self, problems: Sequence[Problem], nnz: int | None) -> str:
        """The pattern."""
        return f"pattern {self.name}"


def parse_format(name: str) -> PlainFormat:
    """The format of a name like ``int4``, ``25%`` or ``2:4``.

    Raises
    ------
    InputError
        If there is none of that name, or its numbers cannot be.
    """
    text = name.strip() if isinstance(name, str) and len(name) <= LONGEST_NAME else ""
    if match := re.fullmatch(r"int([0-9]+)", text):
        return Uniform(int(match[1]))
    if match := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)%", text):
        return Density(float(Decimal(match[1]).scaleb(-2)))
    if match := re.fullmatch(r"([0-9]+):([0-9]+)", text):
        return Pattern(int(match[1]), int(match[2]))
    known = parse(text or name)
    if known.support is not None or not isinstance(known.grids(PROBE)[0], Steps):
        raise InputError(
            f"The format {known.name} is known, but nothing is bounded in it yet; take uniform codes like "
            "int4:g128, a density like 25% or a pattern like 2:4."
        )
    return Stepped(known)


def asked_formats(
    formats: Sequence[str] | None,
    bits: int | None,
    density: float | None,
    pattern: tuple[int, int] | None,
) -> list[PlainFormat]:
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
    chosen = [parse_format(name) for name in formats]
    names = [form.name for form in chosen]
    if not names:
        raise InputError("Name at least one format, such as int4.")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"The format {name} is given {names.count(name)} times; give it once.")
    return chosen


def _short_forms(bits: int, density: float | None, pattern: tuple[int, int] | None) -> list[PlainFormat]:
    """Quantization beside pruning to a pattern, a density, or the size of so many bits without the mask."""
    if pattern is not None and density is not None:
        raise InputError("Give either a density or an N:M pattern for pruning, not both.")
    quantized = Uniform(bits)
    if pattern is not None:
        return [quantized, Pattern.of(pattern)]
    return [quantized, Density(bits / 16 if density is None else float(density))]


PROBE = np.ones((1, 256))
"""Weights that tell which kind of values a format has."""

LONGEST_NAME = 400
"""Characters: the smallest positive float64 in full has 343 digits as a percentage."""

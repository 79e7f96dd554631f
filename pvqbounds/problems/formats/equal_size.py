"""Formats of one size: the same bits a weight, spent on the precision of what is kept or on keeping more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pvqbounds.problems.formats.format import REAL_BITS, Format
from pvqbounds.problems.formats.short_forms import int_format
from pvqbounds.problems.formats.sparsity import Density, NofM, checked_mask
from pvqbounds.problems.validation import whole_number

__all__ = ["EQUAL_SIZE", "of_size"]

EQUAL_SIZE = 0.01
"""Relative difference up to which two sizes in bits a weight count as equal."""

MOST_BITS = 8
"""Bits of the finest codes, unless the size itself is more: finer ones gain nothing but lose weights."""

STEPS = 1000
"""Densities that are tried, in parts of a thousand."""

PATTERNS = ((1, 4), (2, 4), (4, 8))
"""Those that hardware and libraries know."""


def of_size(bits: int, shape: tuple[int, int], mask: str | None = None, stride: int = 1) -> list[str]:
    """Names of the formats that have the size of the dense grid of so many bits, and trade bits for zeros.

    Parameters
    ----------
    bits
        Bits of the dense grid, 2 to 15; its scale counts as well.
    shape
        Shape of the weights, (output channels, inputs).
    mask, stride
        As for :meth:`~pvqbounds.problems.formats.format.Format.bits_per_weight`.

    Returns
    -------
    In the order of falling precision of what is kept: pruning alone, where weights that are kept have 16
    bits; ``int8``, ``int7``, ... at the largest density that is no larger, in steps of 0.1 %; the dense grid.
    A pattern (1:4, 2:4, 4:8) stands behind the density of the same codes. All sizes are equal within
    `EQUAL_SIZE`.

    Raises
    ------
    InputError
        If `bits` is out of range, the shape or the way to count masks is none.
    """
    bits = whole_number(bits, "The bits of the dense grid", 2, REAL_BITS - 1)
    size = int_format(bits).bits_per_weight(shape, checked_mask(mask))
    found: list[str] = []
    finer = [int_format(own).values for own in range(max(MOST_BITS, bits), bits, -1)]
    for values in (None, *finer):
        forms = [_densest(Format(values, Density(1.0)), size, shape, mask, stride)]
        forms += [Format(values, NofM(*pattern)) for pattern in PATTERNS]
        sizes = [0.0 if form is None else form.bits_per_weight(shape, mask, stride) for form in forms]
        found += [form.name for form, own in zip(forms, sizes, strict=True) if form and _alike(own, size)]
    return [*found, int_format(bits).name]


def _alike(size: float, other: float) -> bool:
    return abs(size - other) <= EQUAL_SIZE * max(size, other)


def _densest(
    form: Format, bits: float, shape: tuple[int, int], mask: str | None, stride: int
) -> Format | None:
    """The format with the largest density that has a size of at most so many bits; None if none has."""
    for sparse in _densities(form):
        if sparse.bits_per_weight(shape, mask, stride) <= bits:
            return sparse
    return None


def _densities(form: Format) -> Iterator[Format]:
    """The format with falling densities, all weights excepted."""
    for step in range(STEPS - 1, 0, -1):
        yield replace(form, support=Density(step / STEPS))

"""How the values of problems lie in the files of a result: one scale a channel, any scale, steps, or levels.

What a value set is made of (:attr:`~pvqbounds.problems.values.ValueSet.arrays`) says which of these it
is; a side of a layer, or one problem alone, has one layout for all of its entries.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError
from pvqbounds.problems import (
    AnyScaleLeastSquares,
    CodebookLeastSquares,
    Gram,
    IntegerLeastSquares,
    LeastSquares,
)
from pvqbounds.problems.codebook import checked_table
from pvqbounds.problems.values import Levels, ValueSet
from pvqbounds.storage.nodes import Arrays, Document, Node, StoredArrays

__all__ = ["ValueLayout", "layout_of", "stated_layout"]

Given = Sequence[tuple[Gram, NDArray[np.float64]]]


class ValueLayout(ABC):
    """Fields and arrays of the values of some problems."""

    grid: ClassVar[str | None]
    """What the field ``grid`` says; None where it is left out."""

    def common(self, values: ValueSet) -> Document:
        """What all entries share, by one of them."""
        return {} if self.grid is None else {"grid": self.grid}

    def alone(self, values: ValueSet) -> Document:
        """The same of a problem without a layer."""
        return self.common(values)

    @abstractmethod
    def arrays(self, values: Sequence[ValueSet]) -> Arrays:
        """The arrays of entries of one Gram."""

    @abstractmethod
    def read(
        self, entries: Sequence[Node], common: Node, arrays: StoredArrays, prefix: str, given: Given
    ) -> list[LeastSquares]:
        """The problems without their support rule, each on its Gram and weight in `given`."""


class UniformLayout(ValueLayout):
    """One scale for each entry, one box for all."""

    grid = None

    def common(self, values: ValueSet) -> Document:
        return _box(values)

    def alone(self, values: ValueSet) -> Document:
        return {"scale": float(values.arrays["step"][0])} | self.common(values)

    def arrays(self, values: Sequence[ValueSet]) -> Arrays:
        return {"scale": np.array([own.arrays["step"][0] for own in values])}

    def read(
        self, entries: Sequence[Node], common: Node, arrays: StoredArrays, prefix: str, given: Given
    ) -> list[LeastSquares]:
        ends = common.whole("qmin"), common.whole("qmax")
        scales = arrays.rows(entries, f"{prefix}/scale", np.float64)
        return [
            IntegerLeastSquares(gram, weight, float(scale), *ends)
            for (gram, weight), scale in zip(given, scales, strict=True)
        ]


class AnyScaleLayout(ValueLayout):
    """One box for all, and any scale; with a span, any zero point too."""

    grid = "any scale"

    def common(self, values: ValueSet) -> Document:
        span = values.arrays.get("span")
        return super().common(values) | _box(values) | ({} if span is None else {"span": int(span[0])})

    def arrays(self, values: Sequence[ValueSet]) -> Arrays:
        return {}

    def read(
        self, entries: Sequence[Node], common: Node, arrays: StoredArrays, prefix: str, given: Given
    ) -> list[LeastSquares]:
        ends = common.whole("qmin"), common.whole("qmax")
        span = common.optional("span", common.whole)
        return [AnyScaleLeastSquares(gram, weight, *ends, span=span) for gram, weight in given]


class EachStep(ValueLayout):
    """A step and a box for each input."""

    grid = "steps"
    kinds: ClassVar[Mapping[str, type[Any]]] = {"step": np.float64, "qmin": np.int64, "qmax": np.int64}

    def arrays(self, values: Sequence[ValueSet]) -> Arrays:
        return {name: np.stack([own.arrays[name] for own in values]) for name in self.kinds}

    def read(
        self, entries: Sequence[Node], common: Node, arrays: StoredArrays, prefix: str, given: Given
    ) -> list[LeastSquares]:
        sizes = [gram.n for gram, _ in given]
        parts = [arrays.rows(entries, f"{prefix}/{name}", kind, sizes) for name, kind in self.kinds.items()]
        return [
            IntegerLeastSquares(gram, weight, *own)
            for (gram, weight), *own in zip(given, *parts, strict=True)
        ]


class EachLevels(ValueLayout):
    """Tables of levels that are told apart, and which of them each input has."""

    grid = "levels"

    def arrays(self, values: Sequence[ValueSet]) -> Arrays:
        tables = [np.asarray(own.arrays["levels"]) for own in values]
        most = max(table.shape[1] for table in tables)
        rows = np.concatenate([np.pad(t, ((0, 0), (0, most - t.shape[1])), mode="edge") for t in tables])
        levels, number = np.unique(rows, axis=0, return_inverse=True)
        return {"levels": levels, "level_row": number.reshape(len(tables), -1).astype(np.int64)}

    def read(
        self, entries: Sequence[Node], common: Node, arrays: StoredArrays, prefix: str, given: Given
    ) -> list[LeastSquares]:
        sizes = [gram.n for gram, _ in given]
        rows = arrays.rows(entries, f"{prefix}/level_row", np.int64, sizes)
        tables: dict[int, NDArray[np.float64]] = {}
        problems: list[LeastSquares] = []
        for entry, (gram, weight), row in zip(entries, given, rows, strict=True):
            g = entry.count("gram")
            if g not in tables:
                tables[g] = _table(arrays, f"{prefix}/levels/{g}")
            if row.min() < 0 or row.max() >= len(tables[g]):
                raise InputError(
                    f"{prefix}/level_row/{g} in the arrays of {arrays.path} names a row that "
                    f"{prefix}/levels/{g} does not have."
                )
            own = tables[g][row] if (row != row[0]).any() else tables[g][row[:1]]
            shared = np.broadcast_to(own, (len(row), own.shape[1]))  # one table for all inputs is held once
            problems.append(CodebookLeastSquares.of_levels(gram, weight, Levels(shared)))
        return problems


def _box(values: ValueSet) -> Document:
    """The box that all inputs have."""
    return {name: int(end[0]) for name, end in zip(("qmin", "qmax"), values.code_ends, strict=True)}


def _table(arrays: StoredArrays, name: str) -> NDArray[np.float64]:
    table = arrays.take(name, np.float64)
    try:
        return checked_table(table)
    except InputError as error:
        raise InputError(f"{name} in the arrays of {arrays.path} cannot be used: {error}") from error


UNIFORM, ANY_SCALE, STEPS, LEVELS = UniformLayout(), AnyScaleLayout(), EachStep(), EachLevels()
NAMED: Mapping[str, ValueLayout] = {"steps": STEPS, "levels": LEVELS, "any scale": ANY_SCALE}


def layout_of(values: Sequence[ValueSet]) -> ValueLayout:
    """The layout that serves all of these value sets.

    Raises
    ------
    InputError
        If a value set is made of anything else.
    """
    parts = {frozenset(own.arrays) for own in values}
    if parts == {frozenset(("levels",))}:
        return LEVELS
    if parts in ({frozenset(("qmin", "qmax"))}, {frozenset(("qmin", "qmax", "span"))}):
        return ANY_SCALE
    if parts != {frozenset(EachStep.kinds)}:
        raise InputError(
            "Files hold values that are made of 'step', 'qmin' and 'qmax', or of 'levels', each an array "
            f"with a row for each input, not of {', '.join(sorted(set().union(*parts))) or 'nothing'}."
        )
    first = values[0].arrays
    one_box = all((own.arrays[end] == first[end][0]).all() for own in values for end in ("qmin", "qmax"))
    one_step = all((own.arrays["step"] == own.arrays["step"][0]).all() for own in values)
    return UNIFORM if one_box and one_step else STEPS


def stated_layout(common: Node) -> ValueLayout:
    """The layout that a file names."""
    name = common.optional("grid", lambda name: common.text(name, tuple(NAMED)))
    return UNIFORM if name is None else NAMED[name]

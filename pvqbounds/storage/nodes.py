"""Parts of a result's files that hand out what they hold only in the kind that is wanted."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError, shown
from pvqbounds.problems import Gram

__all__ = ["Arrays", "Document", "GramPool", "Node", "StoredArrays"]

Document = dict[str, Any]
Arrays = dict[str, NDArray[Any]]

T = TypeVar("T")


class Node:
    """An object of the document that hands out its values only in the kind that is wanted."""

    def __init__(self, values: Any, where: str, path: Path) -> None:
        self.where, self.path = where, path
        if not isinstance(values, dict):
            self.fail("", "an object", values)
        self.values: Mapping[str, Any] = values

    def fail(self, name: str, wanted: str, found: Any) -> NoReturn:
        """Raise InputError: a value of this name is not what it must be."""
        where = ".".join(part for part in (self.where, name) if part) or "the file"
        said = "null" if found is None else shown(found)
        raise InputError(f"{self.path} is no result of pvqbounds: {where} must be {wanted}, not {said}.")

    def check_there(self, name: str) -> None:
        """Raise InputError if there is no value of this name."""
        if name not in self.values:
            where = self.where or "the file"
            raise InputError(f"{self.path} is no result of pvqbounds: {where} lacks {shown(name)}.")

    def _value(self, name: str, wanted: str, fits: Callable[[Any], bool]) -> Any:
        self.check_there(name)
        value = self.values.get(name)
        if not fits(value):
            self.fail(name, wanted, value)
        return value

    def text(self, name: str, allowed: Sequence[str] = ()) -> str:
        """A text, one of `allowed` if given."""
        wanted = f"one of {', '.join(allowed)}" if allowed else "a text"
        fits = allowed.__contains__ if allowed else lambda value: isinstance(value, str)
        return cast(str, self._value(name, wanted, fits))

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        fits = lambda value: isinstance(value, list) and all(isinstance(text, str) for text in value)  # noqa: E731
        return tuple(self._value(name, "a list of texts", fits))

    def whole(self, name: str) -> int:
        """A whole number that float64 holds."""
        return cast(int, self._value(name, "a whole number", _is_whole))

    def count(self, name: str) -> int:
        """A whole number that is not negative."""
        fits = lambda value: _is_whole(value) and value >= 0  # noqa: E731
        return cast(int, self._value(name, "a whole number that is not negative", fits))

    def number(self, name: str) -> float:
        """A finite number."""
        return float(self._value(name, "a finite number", _is_number))

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of finite numbers."""
        fits = lambda value: isinstance(value, list) and all(map(_is_number, value))  # noqa: E731
        return tuple(map(float, self._value(name, "a list of finite numbers", fits)))

    def counts(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers that are not negative."""
        fits = lambda value: isinstance(value, list) and all(_is_whole(v) and v >= 0 for v in value)  # noqa: E731
        return tuple(self._value(name, "a list of whole numbers that are not negative", fits))

    def flag(self, name: str) -> bool:
        """True or false."""
        return bool(self._value(name, "true or false", lambda value: isinstance(value, bool)))

    def pair(self, name: str) -> tuple[int, int]:
        """Two whole numbers."""
        fits = lambda value: isinstance(value, list) and len(value) == 2 and all(map(_is_whole, value))  # noqa: E731
        first, second = self._value(name, "two whole numbers", fits)
        return first, second

    def optional(self, name: str, read: Callable[[str], T]) -> T | None:
        """What `read` makes of the value of this name; None where there is none."""
        return None if self.values.get(name) is None else read(name)

    def node(self, name: str) -> Node:
        """An object."""
        self.check_there(name)
        return Node(self.values.get(name), f"{self.where}.{name}".lstrip("."), self.path)

    def nodes(self, name: str) -> list[Node]:
        """A list of objects, not empty."""
        values = self._value(name, "a list of objects", lambda value: isinstance(value, list) and value != [])
        return [Node(value, f"{self.where}.{name}[{i}]", self.path) for i, value in enumerate(values)]


def _is_whole(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**53


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (type(value) is float and math.isfinite(value))


GramPool = dict[str, Gram]
"""Grams that were read, by the SHA-256 of their entries: results of one layer in several files share them."""


class StoredArrays:
    """The arrays of a result, each of the type and the shape that the rest of the file implies."""

    def __init__(self, arrays: Arrays, path: Path, pool: GramPool | None = None) -> None:
        self.arrays, self.path = arrays, path
        self.used: set[str] = set()
        self.grams: dict[int, Gram] = {}
        self.pool: GramPool = {} if pool is None else pool

    def has(self, name: str) -> bool:
        """Whether there is an array of this name."""
        return name in self.arrays

    def take(self, name: str, kind: type[np.generic], shape: tuple[int, ...] | None = None) -> NDArray[Any]:
        """The array of this name, finite, of this type, and of this shape if given."""
        array = self.arrays.get(name)
        if array is None:
            raise InputError(f"The arrays of {self.path} lack {name}.")
        self.used.add(name)
        if array.dtype != kind:
            raise InputError(
                f"{name} in the arrays of {self.path} must be {kind.__name__}, not {array.dtype}."
            )
        if shape is not None and array.shape != shape:
            raise InputError(
                f"{name} in the arrays of {self.path} must have shape {shape}, not {array.shape}."
            )
        if not np.isfinite(array).all():
            raise InputError(f"{name} in the arrays of {self.path} has entries that are not finite.")
        return array

    def gram(self, g: int) -> Gram:
        """The Gram matrix of number `g`."""
        # one object for all sides: that they share it is how a layer knows its groups
        if g not in self.grams:
            matrix = self.take(f"gram/{g}", np.float64)
            digest = hashlib.sha256(matrix.tobytes()).hexdigest()
            if digest not in self.pool or self.pool[digest].matrix.shape != matrix.shape:
                self.pool[digest] = Gram(matrix)
            self.grams[g] = self.pool[digest]
        return self.grams[g]

    def rows(
        self, entries: Sequence[Node], name: str, kind: type[np.generic], sizes: Sequence[int] | None = None
    ) -> list[NDArray[Any]]:
        """One row for each entry, from the array of its Gram matrix; of length `sizes` if given."""
        rows: dict[int, list[NDArray[Any]]] = {}
        numbers = [entry.count("gram") for entry in entries]
        for i, g in enumerate(numbers):
            if g not in rows:
                shape = (numbers.count(g),) if sizes is None else (numbers.count(g), sizes[i])
                rows[g] = list(self.take(f"{name}/{g}", kind, shape))
        return [rows[g].pop(0) for g in numbers]

    def check_all_used(self) -> None:
        """Raise InputError where there are arrays that nobody has taken."""
        left = sorted(self.arrays.keys() - self.used)
        if left:
            raise InputError(f"The arrays of {self.path} hold {shown(left[0])}, which no result has.")

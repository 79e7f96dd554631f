"""GGUF files: the container, read within its bounds, and what llama.cpp calls the layers of a model.

The container is walked here, because a file that lies about its counts must not be followed; what its
blocks of codes mean is asked of the `gguf` package (:mod:`pvqbounds.storage.checkpoints.gguf_blocks`).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError, shown
from pvqbounds.storage.checkpoints.files import Checkpoint, StoredTensor

__all__ = ["gguf_package", "open_gguf"]

VERSIONS = (2, 3)
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Types of values by their numbers, as struct has them."""
STRING, ARRAY = 8, 9
MOST_AXES, DEEPEST = 4, 4

FLOATS = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}

PERMUTED = ("llama",)
"""Architectures whose rotary embedding takes the rows of queries and keys in another order than the model."""


@dataclass
class _Cursor:
    """A place in a file, which is never left."""

    data: NDArray[np.uint8]
    path: Path
    at: int = 0

    def fail(self, why: str) -> NoReturn:
        raise InputError(f"{self.path} is damaged or not a .gguf file ({why}).")

    def bytes(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            self.fail(f"{count} bytes at {self.at} lie beyond its end")
        found = self.data[self.at : self.at + count].tobytes()
        self.at += count
        return found

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.bytes(struct.calcsize(f"<{code}")))[0]

    def count(self, each: int) -> int:
        """How many things follow, of so many bytes at least."""
        number = int(self.number("Q"))
        if number > (len(self.data) - self.at) // each:
            self.fail(f"it announces {number} things, which it has no room for")
        return number

    def text(self) -> str:
        try:
            return self.bytes(self.count(1)).decode("utf-8")
        except UnicodeDecodeError:
            self.fail("a name is no text")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind == STRING:
            return self.text()
        if kind != ARRAY or depth >= DEEPEST:
            self.fail(f"a value is of the unknown type {kind}")
        inner = int(self.number("I"))
        if inner in SCALARS:
            size = struct.calcsize(f"<{SCALARS[inner]}")
            count = self.count(size)
            return struct.unpack(f"<{count}{SCALARS[inner]}", self.bytes(count * size))
        return tuple(self.value(inner, depth + 1) for _ in range(self.count(8)))


def open_gguf(path: Path) -> Checkpoint:
    """The tensors of a `.gguf` file.

    Raises
    ------
    InputError
        If it is damaged, a name stands twice, a tensor lies beyond its end, or the package `gguf` is missing.
    """
    gguf = gguf_package()
    try:
        cursor = _Cursor(np.memmap(path, dtype=np.uint8, mode="r"), path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}).") from error
    if cursor.bytes(4) != b"GGUF" or cursor.number("I") not in VERSIONS:
        cursor.fail("it does not begin as one of version 2 or 3 does")
    tensors, pairs = cursor.count(24), cursor.count(12)
    about: dict[str, Any] = {}
    for _ in range(pairs):
        name = cursor.text()
        if name in about:
            cursor.fail(f"{shown(name)} stands twice")
        about[name] = cursor.value(int(cursor.number("I")))
    described = [_described(cursor) for _ in range(tensors)]
    alignment = about.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        cursor.fail(f"its alignment is {shown(alignment)}")
    start = -(-cursor.at // alignment) * alignment
    found: dict[str, StoredTensor] = {}
    for name, shape, kind, offset in described:
        if name in found:
            cursor.fail(f"{shown(name)} stands twice")
        found[name] = _tensor(cursor, gguf, name, shape, kind, start + offset, about)
    return Checkpoint(path, found, about, renamed=_renamed(gguf, about), turns=True)


def gguf_package() -> Any:
    """The package that knows what GGUF's blocks mean.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        return import_module("gguf")
    except ImportError as error:
        raise InputError(
            f"Reading GGUF needs the package gguf ({error}); install it with "
            "`pip install 'pvqbounds[checkpoints]'`."
        ) from error


def _described(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """Name, shape (rows first), number of the type, and offset behind the header."""
    name, axes = cursor.text(), int(cursor.number("I"))
    if not 1 <= axes <= MOST_AXES:
        cursor.fail(f"{shown(name)} has {axes} axes")
    shape = tuple(int(cursor.number("Q")) for _ in range(axes))[::-1]
    return name, shape, int(cursor.number("I")), int(cursor.number("Q"))


def _tensor(
    cursor: _Cursor,
    gguf: Any,
    name: str,
    shape: tuple[int, ...],
    number: int,
    start: int,
    about: Mapping[str, Any],
) -> StoredTensor:
    """A tensor whose bytes lie within the file: rows of numbers, or of blocks of codes."""
    try:
        kind = gguf.GGMLQuantizationType(number)
        size, octets = gguf.GGML_QUANT_SIZES[kind]
    except (KeyError, ValueError):
        cursor.fail(f"{shown(name)} is of the unknown type {number}")
    if 0 in shape:
        cursor.fail(f"{shown(name)} has the shape {shape}, which holds nothing")
    if shape[-1] % size:
        cursor.fail(f"the rows of {shown(name)} have {shape[-1]} numbers, no whole blocks of {size}")
    length = math.prod(shape) // size * octets
    if length > len(cursor.data) - start:
        cursor.fail(f"{shown(name)} lies beyond its end")
    order = _order(name, shape, about)

    def take(index: Any) -> NDArray[Any]:
        rows = np.asarray(cursor.data[start : start + length]).reshape(*shape[:-1], -1)
        rows = np.array(rows[index] if order is None else rows[order][index])
        if kind.name == "BF16":
            wide = rows.view("<u2").astype(np.uint32) << np.uint32(16)
            return np.asarray(wide.view(np.float32), dtype=np.float64)
        return (
            np.asarray(rows.view(np.dtype(FLOATS[kind.name])), dtype=np.float64)
            if kind.name in FLOATS
            else rows
        )

    return StoredTensor(kind.name.lower(), shape, length, take)


def _order(name: str, shape: tuple[int, ...], about: Mapping[str, Any]) -> NDArray[np.int64] | None:
    """The rows of a tensor in the order of the model; None where the file has that."""
    arch = about.get("general.architecture")
    heads = {"attn_q": about.get(f"{arch}.attention.head_count"), "attn_k": None}
    heads["attn_k"] = about.get(f"{arch}.attention.head_count_kv", heads["attn_q"])
    parts = name.split(".")
    count = heads.get(parts[-2]) if len(parts) > 1 else None
    if arch not in PERMUTED or type(count) is not int or count < 1 or shape[0] % (2 * count):
        return None
    pairs = np.arange(shape[0]).reshape(count, shape[0] // count // 2, 2)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).ravel()


def _renamed(gguf: Any, about: Mapping[str, Any]) -> Callable[[str], str | None] | None:
    """What the file calls a layer of a Hugging Face model, by the package's own tables."""
    arch = about.get("general.architecture")
    blocks = about.get(f"{arch}.block_count")
    known = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    if not isinstance(arch, str) or arch not in known or type(blocks) is not int or not 0 < blocks < 10_000:
        return None
    names = gguf.get_tensor_name_map(known[arch], blocks)

    def renamed(layer: str) -> str | None:
        for candidate in (layer, f"model.{layer}"):
            own = names.get_name(candidate)
            if own is not None:
                return str(own)
        return None

    return renamed

"""Real numeric matrices of a MATLAB level-5 file (``save -v6`` and ``-v7``).

The part of the format that a problem needs, and no more: structs, cells, objects, functions and
sparse matrices are named in the error and never built. Every length is held against the bytes
that are there, so that a damaged file ends in a sentence. Source: MathWorks, "MAT-File Format",
chapter "Level 5 MAT-File Format".
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError
from pvqbounds.storage.archive import inflated

__all__ = ["parse_matlab"]

HEADER_BYTES = 128
MATRIX, COMPRESSED = 14, 15
STORED_AS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""numpy type of each numeric data type."""
NUMERIC_CLASSES = frozenset(range(6, 16))
OTHER_CLASSES = {1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 16: "function", 17: "object"}
COMPLEX, LOGICAL = 0x0800, 0x0200
REMEDIES = {"sparse": "; save full({name})", "logical array": "; save double({name})"}
"""What to save instead."""


class _DamagedError(Exception):
    """A length or a tag that cannot be."""


def parse_matlab(content: bytes, names: Collection[str], path: str | Path) -> dict[str, NDArray[np.float64]]:
    """Read the variables called `names`, as float64 arrays in MATLAB's shape (at least two axes).

    Parameters
    ----------
    content
        The file's bytes.
    names
        Variables to read; others are skipped.
    path
        What to call the file in messages.

    Raises
    ------
    InputError
        If the file is damaged or of another format, if a variable is missing, or if it is not
        a real numeric matrix.
    """
    if content[:8] == b"\x89HDF\r\n\x1a\n" or content[512:520] == b"\x89HDF\r\n\x1a\n":
        raise InputError(f"{path} is a MATLAB 7.3 (HDF5) file; save it with `save -v7`.")
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None:
        raise InputError(
            f"{path} is no MATLAB level-5 file: it is damaged, or of level 4 or another kind; "
            "save it with `save -v7`."
        )
    found: dict[str, NDArray[np.float64]] = {}
    try:
        for kind, data in _elements(memoryview(content)[HEADER_BYTES:], order):
            if kind == COMPRESSED:
                ((kind, data),) = _elements(memoryview(inflated(data, path)), order)
            if kind == MATRIX:
                name, array = _matrix(data, order, names, path)
                if array is not None:
                    found[name] = array
    except (_DamagedError, UnicodeDecodeError, ValueError, OverflowError, struct.error, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged: it ends or turns to nonsense within a variable.") from error
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory.") from error
    missing = sorted(set(names) - found.keys())
    if missing:
        raise InputError(
            f"{path} lacks the variable{'s' * (len(missing) > 1)} {', '.join(missing)}; "
            f"the variables that are read are {', '.join(names)}."
        )
    return found


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and content of the data elements that stand one after the other in `data`."""
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise _DamagedError
        kind, length = struct.unpack_from(order + "II", data, at)
        if kind >> 16:  # the small format: type, length and up to four bytes in eight
            kind, length, start, following = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        else:
            start = at + 8
            padding = 0 if kind == COMPRESSED else -length % 8
            following = start + length + padding
        if start + length > min(following, len(data)):
            raise _DamagedError
        yield kind, data[start : start + length]
        at = following


def _matrix(
    data: memoryview, order: str, names: Collection[str], path: str | Path
) -> tuple[str, NDArray[np.float64] | None]:
    """Name and values of one matrix element; no values where the name is not wanted."""
    parts = _elements(data, order)
    (_, flags), (_, dimensions), (_, label) = (next(parts, (0, memoryview(b""))) for _ in range(3))
    name = bytes(label).decode("ascii")
    if name not in names:
        return name, None
    word = struct.unpack_from(order + "I", flags)[0]
    kind = word & 0xFF
    if kind not in NUMERIC_CLASSES or word & (COMPLEX | LOGICAL):
        what = OTHER_CLASSES.get(kind, "complex array" if word & COMPLEX else "logical array")
        remedy = REMEDIES.get(what, "").format(name=name)
        raise InputError(
            f"{name} in {path} is a MATLAB {what}, where a real numeric matrix is wanted{remedy}."
        )
    shape = tuple(int(size) for size in np.frombuffer(dimensions, order + "i4"))
    stored, values = next(parts, (0, memoryview(b"")))
    if stored not in STORED_AS or len(shape) < 2 or min(shape) < 0:
        raise _DamagedError
    array = np.frombuffer(values, order + STORED_AS[stored])
    if len(array) != math.prod(shape):
        raise _DamagedError
    return name, array.reshape(shape, order="F").astype(np.float64)

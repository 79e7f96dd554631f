"""Arrays on disk: `.npz` files that are never unpickled and never half-written.

Reading takes nothing on trust: the size that each member announces is held against the size
that it has before memory is asked for, and only plain numeric arrays pass. Writing goes to a
temporary file in the same folder that takes the name of the target once it is complete.
"""

from __future__ import annotations

import io
import json
import lzma
import math
import os
import struct
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError, OutputError, shown

__all__ = [
    "FREELY_UNPACKED",
    "LARGEST_FILE",
    "check_unpacked",
    "check_writable",
    "inflated",
    "json_bytes",
    "native_array",
    "parse_arrays",
    "parse_json",
    "read_bytes",
    "refuse_repeated",
    "replacing",
    "write_arrays",
]

LARGEST_FILE = 4 * 2**30
"""Bytes: largest file, and largest sum of the arrays in one, that is read."""

LONGEST_REASON = 200
"""Characters of another library's message that are passed on."""

LONGEST_PREFIX = 50
"""Characters of a file's name in that of the one that is to replace it: 200 bytes at most."""

LONGEST_WHOLE = 20
"""Digits and sign of a whole number in JSON: 64 bits have no more."""

FREELY_UNPACKED, LARGEST_RATIO = 64 * 2**20, 100
"""Bytes that any file may unpack to, and how many times its own size a larger one may."""

GZIP = 16
"""What tells zlib that a stream has the frame of a gzip file."""

DAMAGED = (
    EOFError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What zipfile and numpy raise on a file that is damaged, encrypted or something else."""


def refuse_repeated(paths: Iterable[Path]) -> None:
    """Refuse a file that is named more than once, under whatever name.

    Raises
    ------
    InputError
        If one is.
    """
    for path, times in Counter(path.resolve() for path in paths).items():
        if times > 1:
            raise InputError(f"{path} is given {times} times; give it once.")


def read_bytes(path: Path, limit: int = LARGEST_FILE) -> bytes:
    """Read a whole file of at most `limit` bytes.

    Raises
    ------
    InputError
        If it is missing, unreadable, not a plain file or too large.
    """
    try:
        if not path.exists():
            raise InputError(f"There is no file {path}.")
        if not path.is_file():
            raise InputError(f"{path} is not a file.")
        size = path.stat().st_size
        if size > limit:
            raise InputError(f"{path} has {size} bytes, more than the {limit} that are read at most.")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error


def parse_arrays(content: bytes, name: str | Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of a `.npz` file, by name.

    Parameters
    ----------
    content
        The file's bytes.
    name
        What to call it in messages.

    Raises
    ------
    InputError
        If it is no `.npz` file, damaged, too large, or holds anything but real numbers (an
        array of objects would have to be unpickled, which can run code).
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            check_unpacked(sum(member.file_size for member in members), len(content), name)
            arrays = {
                member.filename.removesuffix(".npy"): _read_member(archive, member, name)
                for member in members
            }
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{name} does not fit into memory.") from error
    except DAMAGED as error:
        raise InputError(f"{name} is damaged or not an .npz file ({_first_line(error)}).") from error
    if len(arrays) != len(members):
        raise InputError(f"{name} holds two arrays of one name.")
    return arrays


def check_unpacked(size: int, packed: int, name: str | Path) -> None:
    """Refuse, before memory is asked for, a file that unpacks to far more than it holds.

    Parameters
    ----------
    size, packed
        Bytes after and before.
    name
        What to call the file.

    Raises
    ------
    InputError
        If it is larger than `LARGEST_FILE`, or more than `LARGEST_RATIO` times as large as packed.
    """
    if size > LARGEST_FILE:
        raise InputError(f"{name} unpacks to more than the {LARGEST_FILE} bytes that are read at most.")
    if size > max(FREELY_UNPACKED, LARGEST_RATIO * packed):
        raise InputError(
            f"{name} unpacks to {size} bytes, {size // max(packed, 1)} times its own size; "
            "if it is meant, save it without compression."
        )


def inflated(data: bytes | memoryview, name: str | Path, *, gzip: bool = False) -> bytes:
    """Unpack a zlib stream, or a gzip file, to as much as :func:`check_unpacked` lets pass.

    Raises
    ------
    InputError
        If it is larger than that.
    zlib.error
        If it is damaged, or ends too early.
    """
    stream = zlib.decompressobj(zlib.MAX_WBITS | GZIP if gzip else zlib.MAX_WBITS)
    most = min(max(FREELY_UNPACKED, LARGEST_RATIO * len(data)), LARGEST_FILE)
    content = stream.decompress(data, most + 1)
    check_unpacked(len(content), len(data), name)
    if not stream.eof:
        raise zlib.error("the packed data end too early")
    return content


def parse_json(content: bytes, name: str | Path, *, constants: bool = False) -> Any:
    """Read a JSON document that can be understood in one way only.

    Parameters
    ----------
    content
        The file's bytes.
    name
        What to call it in messages.
    constants
        Whether NaN and Infinity, which are no JSON, are read.

    Raises
    ------
    InputError
        If it is not JSON in UTF-8, if a name stands twice in one object, or if a number is not finite
        or has more digits than 64 bits have.
    """
    try:
        return json.loads(
            content.decode("utf-8"),
            parse_constant=float if constants else _no_number,
            parse_float=_finite_number,
            parse_int=_whole_number,
            object_pairs_hook=_each_name_once,
        )
    except (RecursionError, ValueError) as error:
        raise InputError(f"{name} is damaged or not a JSON file ({_first_line(error)}).") from error
    except MemoryError as error:
        raise InputError(f"{name} does not fit into memory.") from error


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")


def _finite_number(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"{shown(text)} is more than a float64 can hold")
    return float(text)


def _whole_number(text: str) -> int:
    if len(text) > LONGEST_WHOLE:
        raise ValueError(f"a whole number has {len(text)} digits")
    return int(text)


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:  # which of the two counts would be the reader's choice
            raise ValueError(f"{shown(name)} stands twice in one object")
        values[name] = value
    return values


def native_array(array: NDArray[Any], what: str) -> NDArray[Any]:
    """Real numbers in this machine's byte order, and of at most 64 bits if none of them is changed by it.

    Parameters
    ----------
    what
        What to call the array in messages.

    Raises
    ------
    InputError
        If it holds anything else, or numbers that float64 cannot hold.
    """
    if array.dtype.kind not in "fiub":
        raise InputError(f"{what} is of type {array.dtype}, where real numbers are wanted.")
    if array.dtype.itemsize > 8:
        with np.errstate(all="ignore"):
            rounded = array.astype(np.float64)
        if not ((rounded == array) | np.isnan(array)).all():
            raise InputError(
                f"{what} holds {array.dtype} numbers that float64 cannot hold; round them yourself, and save "
                "them as float64."
            )
        return rounded
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str | Path) -> NDArray[Any]:
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
        if dtype.hasobject:
            raise InputError(
                f"{name} holds pickled objects ({shown(member.filename)}), which are never loaded."
            )
        what = f"{shown(member.filename)} in {name}"
        if dtype.kind not in "fiub":
            raise InputError(f"{what} is of type {shown(dtype)}, where real numbers are wanted.")
        if stream.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
            raise InputError(f"{name} is damaged: {what} is not as long as its shape says.")
    with archive.open(member) as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return native_array(array, what)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")[:LONGEST_REASON]


def check_writable(path: Path) -> None:
    """Find out before any work whether `path` can be written; leaves nothing behind.

    Raises
    ------
    OutputError
        If its folder is missing or cannot be written to, or if it is a folder itself, a device or a pipe.
    """
    try:
        with tempfile.TemporaryFile(dir=_replaced(path).parent):
            pass
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error}).") from error


def _replaced(path: Path) -> Path:
    """The file that what is written to `path` replaces: where it is a link, what that leads to.

    Raises
    ------
    OutputError
        If it is no ordinary file: a device that is replaced is lost to everybody.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file.")
    if path.exists() and not path.is_file():
        raise OutputError(f"{path} is a device or a pipe; give the name of a file.")
    return path.resolve() if path.is_symlink() else path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file beside `path` that replaces it when the block ends without an error.

    Raises
    ------
    OutputError
        If the folder or the file cannot be written, or if it is no ordinary file.
    """
    temporary: Path | None = None
    try:
        target = _replaced(path)
        prefix = f".{target.stem[:LONGEST_PREFIX]}."  # or it were too long where the target's name is not
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=prefix, suffix=target.suffix)
        temporary = Path(name)
        os.close(handle)
        temporary.chmod(0o666 & ~_umask())
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        if isinstance(error, OutputError | InputError):
            raise
        raise OutputError(f"{path} cannot be written ({error.strerror or error}).") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    # the process can only be asked for its mask by setting it
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def json_bytes(document: Mapping[str, Any]) -> bytes:
    """A document as JSON in UTF-8, with a line's end.

    Names of files that are no UTF-8 hold lone surrogates; JSON's escapes bring them back as they were.
    """
    text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False)
    return (text + "\n").encode("utf-8", "backslashreplace")


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a `.npz` file; `path` is taken as it is, so use it inside :func:`replacing`."""
    with path.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **dict(arrays))

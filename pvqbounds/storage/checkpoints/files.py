"""Checkpoints on disk: `.safetensors`, PyTorch's own files, GGUF, and folders of them with their config.

Headers are read strictly and before any tensor: names that stand twice, sizes that do not fit and offsets
beyond the file are refused. Nothing of PyTorch's files is unpickled but tensors
(:mod:`pvqbounds.storage.tensor_files`).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError, shown
from pvqbounds.storage.archive import parse_json, read_bytes
from pvqbounds.storage.tensor_files import INDICES, TORCH_SUFFIXES, read_index, read_torch, state_of

__all__ = ["Checkpoint", "StoredTensor", "open_checkpoint"]

LARGEST_HEADER, LARGEST_CONFIG = 100_000_000, 2**26
"""Bytes."""

CONFIGS = ("config.json", "quantize_config.json", "quant_config.json", "hf_quant_config.json")

TORCH_KINDS = {
    "float64": "f64",
    "float32": "f32",
    "float16": "f16",
    "bfloat16": "bf16",
    "float8_e4m3fn": "f8_e4m3",
    "float8_e5m2": "f8_e5m2",
    "float8_e8m0fnu": "f8_e8m0",
    "int64": "i64",
    "int32": "i32",
    "int16": "i16",
    "int8": "i8",
    "uint64": "u64",
    "uint32": "u32",
    "uint16": "u16",
    "uint8": "u8",
    "bool": "bool",
}
"""Types by torch's names, as safetensors calls them in small letters."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that has not been read yet."""

    kind: str
    """Type as stored: "i32", "f16", "bf16", "f8_e4m3", or a type of GGUF such as "q4_0"."""
    shape: tuple[int, ...]
    bytes: int
    take: Callable[[Any], NDArray[Any]]
    """Reads what an index along its first axis stands for, or all of it for an Ellipsis."""

    def read(self) -> NDArray[Any]:
        """Floating-point numbers in float64, which holds them all; whole numbers as they are stored."""
        return self.take(...)

    def at(self, place: int) -> StoredTensor:
        """One part of it along the first axis, which it has."""
        return replace(
            self,
            shape=self.shape[1:],
            bytes=self.bytes // max(1, self.shape[0]),
            take=lambda index: self.take(slice(place, place + 1))[0][index],
        )

    def rows(self, first: int, last: int) -> StoredTensor:
        """Some of it along the first axis."""
        return replace(
            self,
            shape=(last - first, *self.shape[1:]),
            bytes=self.bytes // max(1, self.shape[0]) * (last - first),
            take=lambda index: self.take(slice(first, last))[index],
        )


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Tensors by name, and what the files beside them say of their quantization."""

    path: Path
    tensors: Mapping[str, StoredTensor]
    config: Mapping[str, Any] = field(default_factory=dict)
    """What `config.json` and its like say of the quantization; empty where they say nothing."""
    notes: tuple[str, ...] = ()
    renamed: Callable[[str], str | None] | None = None
    """What the file calls a layer of a Hugging Face model, where it has names of its own (GGUF)."""
    turns: bool = False
    """Whether every matrix has a channel a row, also where the model has an input a row (GGUF)."""


def open_checkpoint(path: str | Path) -> Checkpoint:
    """The tensors of a file or a folder.

    Raises
    ------
    InputError
        If it is missing, damaged, of an unknown kind, or holds anything that would have to be unpickled.
    """
    path = Path(path)
    if path.is_dir():
        return _of_folder(path)
    if not path.is_file():
        raise InputError(f"There is no file or folder {path}.")
    if path.name.endswith(".index.json"):
        return Checkpoint(path, _sharded(path), _config(path.parent))
    if path.suffix == ".gguf":
        from pvqbounds.storage.checkpoints.gguf_files import open_gguf

        return open_gguf(path)
    return Checkpoint(path, dict(_of_file(path)), _config(path.parent))


def _of_folder(folder: Path) -> Checkpoint:
    for name in INDICES:
        if (folder / name).is_file():
            return Checkpoint(folder, _sharded(folder / name), _config(folder))
    for suffixes in ((".safetensors",), (".gguf",), TORCH_SUFFIXES):
        files = sorted(file for file in folder.iterdir() if file.suffix in suffixes and file.is_file())
        if files and suffixes == (".gguf",):
            if len(files) > 1:
                raise InputError(f"The folder {folder} holds {len(files)} GGUF files; give one of them.")
            return open_checkpoint(files[0])
        if files:
            return Checkpoint(folder, _united(files), _config(folder))
    raise InputError(f"The folder {folder} holds no .safetensors, .gguf or PyTorch file.")


def _united(files: list[Path]) -> dict[str, StoredTensor]:
    """The tensors of several files; a name that two of them have has no meaning."""
    tensors: dict[str, StoredTensor] = {}
    homes: dict[str, Path] = {}
    for file in files:
        for name, tensor in _of_file(file):
            if name in tensors:
                raise InputError(
                    f"Both {homes[name].name} and {file.name} in {file.parent} hold {shown(name)}; give one "
                    "file, or the folder with the index of its parts."
                )
            tensors[name], homes[name] = tensor, file
    return tensors


def _sharded(index: Path) -> dict[str, StoredTensor]:
    """The tensors that an index names, each in the part where it says."""
    places = read_index(index)
    tensors: dict[str, StoredTensor] = {}
    for name in dict.fromkeys(places.values()):
        for tensor, stored in _of_file(index.parent / name):
            if places.get(tensor) != name:
                raise InputError(f"{index} does not say that {name} holds {shown(tensor)}, as it does.")
            tensors[tensor] = stored
    missing = sorted(places.keys() - tensors.keys())
    if missing:
        raise InputError(f"{index} names {shown(missing[0])} in {places[missing[0]]}, which lacks it.")
    return tensors


def _config(folder: Path) -> Mapping[str, Any]:
    """What a folder's config files say of the quantization."""
    for name in CONFIGS:
        if (folder / name).is_file():
            document = parse_json(read_bytes(folder / name, LARGEST_CONFIG), folder / name, constants=True)
            if isinstance(document, dict):
                own = document.get("quantization_config", document if name != "config.json" else None)
                if isinstance(own, dict):
                    return own
    return {}


def _of_file(path: Path) -> Iterator[tuple[str, StoredTensor]]:
    if path.suffix == ".safetensors":
        return _of_safetensors(path)
    if path.suffix in TORCH_SUFFIXES:
        return _of_torch(path)
    raise InputError(
        f"Compressed weights are read from .safetensors, .gguf, {', '.join(TORCH_SUFFIXES)} or a folder of "
        f"them, not from {path}."
    )


# ---------------------------------------------------------------------------------- safetensors


def _of_safetensors(path: Path) -> Iterator[tuple[str, StoredTensor]]:
    safetensors = _package("safetensors")
    _check_header(path)
    try:
        with safetensors.safe_open(path, framework="pt") as archive:
            described = {name: archive.get_slice(name) for name in archive.keys()}  # noqa: SIM118
            listed = [
                (name, str(s.get_dtype()).lower(), tuple(s.get_shape())) for name, s in described.items()
            ]
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise InputError(f"{path} is damaged or not a .safetensors file ({_line(error)}).") from error
    for name, kind, shape in listed:
        size = math.prod(shape) * BYTES.get(kind, 1)
        yield name, StoredTensor(kind, shape, size, partial(_read_safetensor, path, name))


def _check_header(path: Path) -> None:
    """Refuse a header that can be read in two ways: a name that stands twice, which readers choose from."""
    try:
        with path.open("rb") as stream:
            start = stream.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else LARGEST_HEADER + 1
            header = stream.read(length) if length <= LARGEST_HEADER else b""
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    if len(header) != length:
        raise InputError(f"{path} is damaged or not a .safetensors file (its header does not end).")
    parse_json(header, path)


BYTES = {"f64": 8, "i64": 8, "u64": 8, "f32": 4, "i32": 4, "u32": 4, "f16": 2, "bf16": 2, "i16": 2, "u16": 2}
"""Of a number; one of other types."""


def _read_safetensor(path: Path, name: str, index: Any) -> NDArray[Any]:
    safetensors = _package("safetensors")
    try:
        with safetensors.safe_open(path, framework="pt") as archive:
            whole = index is ...
            return _array(archive.get_tensor(name) if whole else archive.get_slice(name)[index])
    except (OSError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise InputError(f"{shown(name)} cannot be read from {path} ({_line(error)}).") from error


# ---------------------------------------------------------------------------------------- torch


def _of_torch(path: Path) -> Iterator[tuple[str, StoredTensor]]:
    _package("torch")
    for name, tensor in state_of(read_torch(path), path).items():
        kind = TORCH_KINDS.get(str(tensor.dtype).removeprefix("torch."), str(tensor.dtype))
        size = tensor.numel() * tensor.element_size()
        yield name, StoredTensor(kind, tuple(tensor.shape), size, partial(_part_of, tensor))


def _part_of(tensor: Any, index: Any) -> NDArray[Any]:
    return _array(tensor[index])


def _array(tensor: Any) -> NDArray[Any]:
    """Floating-point numbers in float64, whole numbers as they are."""
    array: NDArray[Any] = (tensor.double() if tensor.is_floating_point() else tensor).cpu().numpy()
    return np.ascontiguousarray(array)


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(
            f"Reading weights needs {name} ({error}); install it with `pip install 'pvqbounds[nn]'`."
        ) from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__

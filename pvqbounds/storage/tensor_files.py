"""Files of tensors as PyTorch writes them, and indices of the parts of a checkpoint.

PyTorch's files are pickles: they are read with ``weights_only=True``, so that nothing is unpickled but
tensors, numbers and containers of them, and what a tensor says of itself is not believed.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from pvqbounds.errors import InputError, one_line, shown
from pvqbounds.storage.archive import FREELY_UNPACKED, LARGEST_FILE, parse_json, read_bytes

__all__ = [
    "INDICES",
    "TORCH_SUFFIXES",
    "dense",
    "import_safetensors",
    "not_dense",
    "read_index",
    "read_safetensors",
    "read_torch",
    "state_of",
    "tensors_in",
]

TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")

INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
"""Names of files that say which part holds which tensor."""

LARGEST_INDEX = 2**26
"""Bytes."""

WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
"""Names under which training scripts put a state dictionary."""

DEEPEST = 4
"""Dictionaries within each other: a file may hold one that holds itself."""


def read_torch(path: Path) -> Any:
    """What one of PyTorch's own files holds, mapped into memory where it can be.

    Raises
    ------
    InputError
        If it is damaged, TorchScript, or holds anything that would have to be unpickled.
    """
    if _is_torchscript(path):
        raise InputError(
            f"{path} is TorchScript, whose code is not run; save the state_dict of the module that it was "
            "made from."
        )
    torch: Any = import_module("torch")
    options: dict[str, Any] = {"map_location": "cpu", "weights_only": True}
    try:
        with warnings.catch_warnings():  # what it cannot read fails, whatever it warns of before
            warnings.simplefilter("ignore", UserWarning)
            return _loaded(torch, path, options)
    except Exception as error:
        raise InputError(
            f"{path} is damaged or holds more than tensors, which is never unpickled "
            f"({type(error).__name__}); save the state_dict as .safetensors."
        ) from error


def _loaded(torch: Any, path: Path, options: dict[str, Any]) -> Any:
    """What a file holds, mapped where it can be."""
    try:
        return torch.load(path, mmap=True, **options)
    except (RuntimeError, ValueError):  # the format before zip archives cannot be mapped
        if path.stat().st_size > LARGEST_FILE:
            raise
        return torch.load(path, **options)


def read_safetensors(path: Path) -> dict[str, Any]:
    """The tensors of a ``.safetensors`` file, of torch's, by name.

    Raises
    ------
    InputError
        If it is damaged, or the package is missing.
    """
    safetensors = import_safetensors()
    try:
        tensors: dict[str, Any] = safetensors.torch.load_file(path)
    except (KeyError, OSError, RuntimeError, ValueError, safetensors.SafetensorError) as error:
        why = one_line(str(error)).rstrip(".") or type(error).__name__
        raise InputError(f"{path} is damaged or not a .safetensors file ({why}).") from error
    return tensors


def import_safetensors() -> Any:
    """The package, or a sentence that says how to get it."""
    try:
        import_module("safetensors.torch")
        return import_module("safetensors")
    except ImportError as error:
        raise InputError(
            f"Reading weights needs safetensors ({error}); install it with `pip install 'pvqbounds[nn]'`."
        ) from error


def _is_torchscript(path: Path) -> bool:
    """Whether a zip of PyTorch holds code."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def state_of(content: Any, path: Path) -> dict[str, Any]:
    """The tensors of a state dictionary, or of the one inside what a training script saves, by name.

    Raises
    ------
    InputError
        If there is no dictionary, or a tensor is none of plain numbers.
    """
    for _ in range(DEEPEST):
        inner = [name for name in WRAPPERS if isinstance(content, Mapping) and name in content]
        inner = [name for name in inner if isinstance(content[name], Mapping)]
        if inner:
            content = content[inner[0]]
    if not isinstance(content, Mapping):
        raise InputError(f"{path} must hold a state dictionary: tensors by their names.")
    tensor: Any = import_module("torch").Tensor
    named = {name: v for name, v in content.items() if isinstance(name, str) and isinstance(v, tensor)}
    return {name: dense(name, value, path) for name, value in named.items()}


def tensors_in(content: Any, origin: Path | str) -> Iterator[tuple[str, Any]]:
    """The tensors of dictionaries within each other, under dotted names; not all need be :func:`dense`.

    Parameters
    ----------
    origin
        What to call the place that they come from in messages.

    Raises
    ------
    InputError
        If the dictionaries lie too deep.
    """
    tensor: Any = import_module("torch").Tensor

    def walk(value: Any, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
        if isinstance(value, tensor):
            yield prefix.removesuffix(".") or "tensor", value
        elif isinstance(value, Mapping):
            if depth > 2 * DEEPEST:
                raise InputError(f"{origin} holds dictionaries within each other without an end.")
            for key, inner in value.items():
                yield from walk(inner, f"{prefix}{key}.", depth + 1)

    return walk(content, "", 0)


def dense(name: str, tensor: Any, origin: Path | str) -> Any:
    """A tensor, cut off from what computed it.

    Raises
    ------
    InputError
        If it does not hold every number that its shape says.
    """
    reason = not_dense(tensor)
    if reason is not None:
        raise InputError(f"{shown(name)} in {origin} {reason}.")
    return tensor.detach()


def not_dense(tensor: Any) -> str | None:
    """Why a tensor does not hold every number that its shape says, to follow its name; None if it does."""
    torch: Any = import_module("torch")
    plain = tensor.layout == torch.strided and not (
        tensor.is_nested or tensor.is_quantized or tensor.device.type == "meta"
    )
    if not plain:
        return "is no dense tensor of plain numbers"
    size = tensor.numel() * tensor.element_size()
    if size > max(FREELY_UNPACKED, tensor.untyped_storage().nbytes()):  # one number, spread over a shape
        return (
            f"has the shape {tuple(tensor.shape)}, but fewer numbers are stored; save a contiguous copy of it"
        )
    return None


def read_index(index: Path) -> dict[str, str]:
    """Which file of its own folder holds each tensor, by an index of the parts of a checkpoint.

    Raises
    ------
    InputError
        If it is damaged, or names a file elsewhere.
    """
    document = parse_json(read_bytes(index, LARGEST_INDEX), index)
    places = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(places, dict) or not all(isinstance(part, str) for part in places.values()):
        raise InputError(f"{index} is no index of weights: its weight_map must name a file for each tensor.")
    for part in dict.fromkeys(places.values()):
        if not part or Path(part).name != part or part == ".." or "\0" in part:
            raise InputError(f"{index} names {shown(part)}, which is no file of its own folder.")
    return places

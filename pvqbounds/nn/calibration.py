"""Calibration data from files: arrays, images, text."""

from __future__ import annotations

import io
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pvqbounds.errors import InputError
from pvqbounds.nn.batches import Data
from pvqbounds.nn.image_folders import image_batches
from pvqbounds.nn.positions import POSITION_MASK
from pvqbounds.nn.signature import LABELS, inputs_of
from pvqbounds.nn.weights import check_file, line
from pvqbounds.problems.validation import whole_number
from pvqbounds.storage.archive import native_array, parse_arrays, read_bytes
from pvqbounds.storage.tensor_files import read_safetensors

__all__ = ["DataOptions", "read_array", "read_data"]

INPUTS_KEY = "inputs"
"""Name of the array that is the model's first input in a data file with several."""

TEXTS = (".txt", ".md", ".text")
MOST = 2**31
IMAGES = 256
"""Images of a folder that are drawn if nothing is said."""


@dataclass(frozen=True)
class DataOptions:
    """How calibration data are read."""

    tokenizer: Path | None = None
    """A ``tokenizer.json``, or the folder of one; that of the model's own folder if None."""
    max_tokens: int = 256
    """Longest piece of a text; longer lines are cut into several."""
    samples: int | None = None
    """So many at most; of images that many, evenly from the classes, 256 if None."""
    position_mask: Path | None = None
    """A file with a number for each sample and position: which count, or with what weight."""
    seed: int = 0
    """Of the draw of images."""


def read_data(path: Path, module: nn.Module, options: DataOptions) -> Data:
    """Read calibration data, as :func:`pvqbounds.nn.grams_of_layers` takes them.

    Parameters
    ----------
    path
        ``.npy``; ``.npz`` or ``.safetensors`` with one array, or several under the names of the model's
        inputs, labels left out; a text file; a folder of images.
    module
        The model that they are for.

    Raises
    ------
    InputError
        If the file cannot be read, or holds what the model has no place for.
    """
    if options.samples is not None:
        whole_number(options.samples, "The number of samples", 1, MOST)
    if path.is_dir():
        data: Data = image_batches(path, module, options.samples or IMAGES, options.seed)
    elif path.suffix in TEXTS:
        data = _tokens(path, options)
    else:
        check_file(path, {".npy", ".npz", ".safetensors", ".txt"}, "Calibration inputs")
        data = _arrays(path, module, options.samples)
    if options.position_mask is None:
        return data
    mask = torch.from_numpy(read_array(options.position_mask))
    first = inputs_of(module).first
    if isinstance(data, Tensor) and first is not None:
        data = {first: data}
    if not isinstance(data, dict):
        raise InputError("A position mask belongs to data in a file of arrays; leave it out.")
    return data | {POSITION_MASK: _first(mask, options.samples)}


def with_labels(data: Data, path: Path, module: nn.Module) -> Data:
    """Data that were read from a file, with the labels that it has beside them, where there are some.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    inputs = inputs_of(module)
    if path.suffix not in (".npz", ".safetensors") or inputs.first is None:
        return data
    named = {name: tensor for name, tensor in _tensors(path).items() if name in LABELS}
    labels = {name: tensor for name, tensor in named.items() if name not in inputs.named}
    parts: dict[str, Any] = dict(data) if isinstance(data, dict) else {inputs.first: data}
    if len(labels) != 1 or not all(isinstance(part, Tensor) for part in parts.values()):
        return data
    ((name, tensor),) = labels.items()
    samples = min((len(part) for part in parts.values() if part.dim()), default=None)
    return parts | {name: _first(tensor, samples)}


# ------------------------------------------------------------------------------------- arrays


def _arrays(path: Path, module: nn.Module, samples: int | None) -> Data:
    """The array of a data file, or several by the names of the model's inputs."""
    if path.suffix == ".npy":
        return _first(torch.from_numpy(read_array(path)), samples)
    tensors, inputs = _tensors(path), inputs_of(module)
    if len(tensors) == 1 and not set(tensors) <= {*inputs.named, *LABELS} - {inputs.first}:
        return _first(next(iter(tensors.values())), samples)
    taken = {name: tensor for name, tensor in tensors.items() if name in inputs.named or name not in LABELS}
    if set(taken) == {INPUTS_KEY}:
        return _first(taken[INPUTS_KEY], samples)
    if INPUTS_KEY in taken and INPUTS_KEY not in inputs.named and inputs.first is not None:
        taken = {inputs.first if name == INPUTS_KEY else name: tensor for name, tensor in taken.items()}
    mask = taken.pop(POSITION_MASK, None)
    try:
        named = inputs.by_name(taken)
    except InputError as error:
        raise InputError(f"{path} does not fit the model: {error}") from error
    if mask is not None:
        named[POSITION_MASK] = mask
    return {name: _first(tensor, samples) for name, tensor in named.items()}


def _first(tensor: Tensor, samples: int | None) -> Tensor:
    """So many samples, which lie along the first axis; a single number is left for whoever takes batches."""
    return tensor[:samples] if tensor.dim() else tensor


def _tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".npz":
        return {name: torch.from_numpy(array) for name, array in parse_arrays(read_bytes(path), path).items()}
    return read_safetensors(path)


def read_array(path: Path) -> NDArray[Any]:
    """Read the array of a ``.npy`` file, as it stands there.

    Raises
    ------
    InputError
        If there is none of real numbers.
    """
    check_file(path, {".npy"}, "Arrays")
    try:
        array = np.load(io.BytesIO(read_bytes(path)), allow_pickle=False)
    except (EOFError, OSError, SyntaxError, TypeError, ValueError, MemoryError) as error:
        raise InputError(f"{path} is damaged, or not a .npy file of numbers ({line(error)}).") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise InputError(f"{path} must hold one array of real numbers.")
    return native_array(array, f"The array in {path}")


# --------------------------------------------------------------------------------------- text


def _tokens(path: Path, options: DataOptions) -> list[dict[str, Tensor]]:
    """Batches of the lines of a text, the shortest first so that little is padded."""
    if options.tokenizer is None:
        raise InputError(
            f"{path} is a text, which a tokenizer has to read; give its tokenizer.json or the folder of one."
        )
    try:
        lines = [text for text in path.read_text("utf-8").splitlines() if text.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text in UTF-8 ({line(error)}).") from error
    longest = whole_number(options.max_tokens, "The most tokens of a piece", 1, MOST)
    pieces = _pieces(lines, options.tokenizer, longest)[: options.samples]
    if not pieces:
        raise InputError(f"{path} holds no text.")
    pieces.sort(key=len)
    return [_padded(pieces[start : start + 32]) for start in range(0, len(pieces), 32)]


def _pieces(lines: list[str], tokenizer: Path, longest: int) -> list[list[int]]:
    """Token ids of each line, those of a long one in several pieces."""
    file = tokenizer / "tokenizer.json" if tokenizer.is_dir() else tokenizer
    if not file.is_file():
        raise InputError(f"There is no tokenizer {file}; give a tokenizer.json or the folder of one.")
    try:
        tokenizers: Any = import_module("tokenizers")
    except ImportError as error:
        raise InputError(
            f"Reading text needs tokenizers ({error}); install it with `pip install 'pvqbounds[hf]'`."
        ) from error
    try:
        reader = tokenizers.Tokenizer.from_str(file.read_text("utf-8"))
    except Exception as error:  # whatever its parser raises
        raise InputError(f"{file} is damaged or no tokenizer ({line(error)}).") from error
    reader.no_padding()
    reader.enable_truncation(longest)
    pieces = []
    for encoding in reader.encode_batch(lines):
        pieces += [list(piece.ids) for piece in (encoding, *encoding.overflowing) if piece.ids]
    return pieces


def _padded(pieces: list[list[int]]) -> dict[str, Tensor]:
    length = max(map(len, pieces))
    ids = torch.zeros(len(pieces), length, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, piece in enumerate(pieces):
        ids[row, : len(piece)] = torch.tensor(piece)
        mask[row, : len(piece)] = 1
    return {"input_ids": ids, "attention_mask": mask}

"""Data as they come, tensors, arrays, dictionaries and iterables of them, as batches of model inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pvqbounds.errors import InputError
from pvqbounds.nn.positions import MASKS, POSITION_MASK
from pvqbounds.nn.signature import OUTLET, Inputs
from pvqbounds.problems.validation import whole_number

__all__ = ["Batch", "Data", "batches_of"]

LARGEST_BATCH = 2**31

Data = Tensor | NDArray[Any] | Mapping[str, Any] | Iterable[Any]
"""Model inputs: one tensor or array, or a dictionary of them by the names of the model's inputs, cut into
batches along the first axis; or an iterable of batches, each a tensor, an array, a dictionary or a tuple
that begins with one (inputs, labels). What follows the first is taken for labels only where the model's
forward has no place for it."""


@dataclass(frozen=True)
class Batch:
    """What a model is called with."""

    first: Tensor | None
    """The input without a name, where there is one."""
    named: Mapping[str, Any]
    samples: int
    mask: Tensor | None = None
    """Which positions count, apart from what the model is given."""

    @property
    def tensors(self) -> list[Tensor]:
        """All of its inputs that are tensors."""
        found = [] if self.first is None else [self.first]
        return found + [value for value in self.named.values() if isinstance(value, Tensor)]


def batches_of(
    data: Data, batch_size: int, inputs: Inputs, position_mask: Tensor | NDArray[Any] | None = None
) -> Iterator[Batch]:
    """Model inputs, a batch at a time.

    Parameters
    ----------
    batch_size
        Samples a batch, where the data are not in batches already.
    inputs
        What the model takes.
    position_mask
        A number for each sample and position, for data that are one tensor, array or dictionary.

    Raises
    ------
    InputError
        If the data are empty, of no known kind, or hold what the model has no place for.
    """
    size, empty = whole_number(batch_size, "The batch size", 1, LARGEST_BATCH), True
    for batch in _cut(data, size, inputs, position_mask):
        if batch.samples and all(tensor.numel() for tensor in batch.tensors):
            empty = False
            yield from _oblong(batch)
    if empty:
        raise InputError("The data are empty; give at least one sample.")


def _oblong(batch: Batch) -> Iterator[Batch]:
    """A batch, in two parts where a mask of it has as many samples as positions.

    Such a mask would fit layers that have positions before samples as well, and mean others there.
    """
    named = batch.named
    masks = [value for name, value in named.items() if name in MASKS and isinstance(value, Tensor)]
    square = any(tuple(mask.shape) == (batch.samples, batch.samples) for mask in masks)
    together = [*batch.tensors, *([] if batch.mask is None else [batch.mask])]
    unknown = any("mask" in name and name not in MASKS for name in named)
    if not square or batch.samples < 2 or unknown or any(t.shape[:1] != (batch.samples,) for t in together):
        yield batch
        return
    for part in (slice(batch.samples // 2), slice(batch.samples // 2, None)):
        own = {name: value[part] if isinstance(value, Tensor) else value for name, value in named.items()}
        first = None if batch.first is None else batch.first[part]
        mask = None if batch.mask is None else batch.mask[part]
        yield Batch(first, own, len(range(batch.samples)[part]), mask)


def _cut(
    data: Data, size: int, inputs: Inputs, position_mask: Tensor | NDArray[Any] | None
) -> Iterator[Batch]:
    whole = isinstance(data, Tensor | np.ndarray | Mapping)
    if position_mask is not None and not whole:
        raise InputError(
            "A position mask belongs to data in one tensor or dictionary; give batches that hold "
            f"'{POSITION_MASK}'."
        )
    if not whole:
        _check_separate(data, inputs)
        try:
            batches = iter(data)
        except TypeError as error:
            raise InputError(
                f"The data must be a tensor, an array, a dictionary or an iterable of batches, not a "
                f"{type(data).__name__}."
            ) from error
        for batch in batches:
            yield _batch(batch, inputs)
        return
    if isinstance(data, Mapping):
        parts: dict[str, Any] = {
            str(name): _as_tensor(value) for name, value in data.items() if value is not None
        }
    else:
        parts = {"": _as_tensor(data)}
    if position_mask is not None:
        parts[POSITION_MASK] = _as_tensor(position_mask)
    samples = _common_length(parts)
    for start in range(0, samples, size):
        piece = {name: tensor[start : start + size] for name, tensor in parts.items()}
        mask = piece.pop(POSITION_MASK, None)
        yield _batch(piece.pop("") if "" in piece else piece, inputs, mask)


def _common_length(parts: Mapping[str, Tensor]) -> int:
    lengths = {}
    for name, tensor in parts.items():
        if tensor.dim() == 0:
            which = f"'{name}' is" if name else "they are"
            raise InputError(f"The data must have samples along their first axis, but {which} one number.")
        lengths[name] = len(tensor)
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name or 'inputs'} {length}" for name, length in lengths.items())
        raise InputError(
            f"The data must have the same samples along their first axes, but they have {listed}."
        )
    return next(iter(lengths.values()), 0)


def _batch(batch: Any, inputs: Inputs, mask: Tensor | None = None) -> Batch:
    """One batch, its labels left out where the model has no place for them."""
    batch = inputs.only(batch)
    if not isinstance(batch, Mapping):
        inputs.check_alone()
        first = _as_tensor(batch)
        return Batch(first, {}, len(first) if first.dim() else 1, mask)
    held = dict(batch)
    if POSITION_MASK not in inputs.named:
        mask = held.pop(POSITION_MASK, mask)
    named = {name: _value(value) for name, value in inputs.by_name(held).items()}
    sizes = [len(value) for value in named.values() if isinstance(value, Tensor) and value.dim()]
    if not sizes:
        raise InputError(f"A batch of data holds no tensor; {OUTLET}.")
    return Batch(None, named, sizes[0], None if mask is None else _as_tensor(mask))


def _value(value: Any) -> Any:
    """An input by name: tensors and arrays as tensors, switches as they are."""
    return value if isinstance(value, bool | int | float | str) else _as_tensor(value)


def _check_separate(data: Data, expected: Inputs) -> None:
    """Find out whether what should be batches are the inputs of one: ids and their mask."""
    if not isinstance(data, tuple | list) or len(data) < 2 or not expected.possible:
        return
    tensors = [part for part in data if isinstance(part, Tensor | np.ndarray)]
    if len(tensors) == len(data) and any(map(expected.looks_like_a_mask, map(_as_tensor, tensors[1:]))):
        raise InputError(
            f"One of the batches holds only zeros and ones, as an attention mask does; {OUTLET}, or batches "
            "of the model's first input alone."
        )
    if isinstance(data, tuple):
        raise InputError(
            f"The data are a tuple of {len(data)}, which the model could take as several inputs; {OUTLET}, "
            "or batches of its first input alone in a list."
        )


def _as_tensor(batch: Any) -> Tensor:
    if isinstance(batch, Tensor):
        if batch.layout != torch.strided or batch.is_nested or batch.is_meta:
            raise InputError("A batch of data is a sparse, nested or meta tensor; give a dense one.")
        return batch
    if isinstance(batch, np.ndarray) and batch.dtype.kind in "fiub":
        return torch.from_numpy(np.ascontiguousarray(batch))
    if isinstance(batch, list) and batch and _are_numbers(batch):  # as tokenizers return them
        return torch.tensor(batch)
    raise InputError(
        "A batch of data must be a tensor, an array of real numbers, a dictionary of them or a tuple that "
        f"begins with one, not {_kind(batch)}."
    )


def _are_numbers(values: list[Any]) -> bool:
    """Whether a list is one of numbers, or of lists of them that are equally long."""
    if all(isinstance(value, list) for value in values):
        return len({len(value) for value in values}) == 1 and all(map(_are_numbers, values))
    return all(isinstance(value, int | float) for value in values)


def _kind(value: Any) -> str:
    return f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"

"""What a format of compressed layers is, and the tensors of one layer that it takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError, shown
from pvqbounds.storage.checkpoints.files import StoredTensor
from pvqbounds.storage.checkpoints.layer import CompressedLayer

__all__ = ["FLOATS", "LARGEST_LAYER", "LayerFormat", "Layout", "Parts", "checked_shape", "packed", "unpacked"]

Array = NDArray[np.float64]

FLOATS = ("f16", "bf16", "f32", "f64")
"""Types that scales are stored in."""

LARGEST_LAYER = 2**31
"""Weights of a layer: beyond them a file says nonsense, or cannot be held as float64."""

OF_ACTIVATIONS = ("input", "output", "k_", "v_", "q_")
"""How names of tensors begin that quantize activations, which are none of our business."""

BESIDE = ("bias",)


@dataclass(frozen=True, eq=False)
class Layout:
    """How a model has the weights of a layer that it does not have a channel a row."""

    stored: tuple[int, ...]
    """Shape of the weights as the module has them."""
    dense: tuple[int, ...]
    """(output channels, input channels, size of the kernel)."""
    order: NDArray[np.int64]
    """Which of them, counted as they lie, stand in each row, shape (channels, inputs)."""


@dataclass
class Parts:
    """The tensors of one layer, by what follows its name; each is taken once, and none may be left."""

    layer: str
    tensors: Mapping[str, StoredTensor]
    config: Mapping[str, Any]
    path: Path
    hints: Sequence[str] = ()
    """Names of formats that the weights may be in, where the file does not say."""
    layout: Layout | None = None
    """How the model has the weights, where it is not a channel a row."""
    taken: set[str] = field(default_factory=set)
    bytes: int = 0
    """Of the tensors that were taken and count."""

    def fail(self, text: str) -> NoReturn:
        """Raise InputError about this layer."""
        raise InputError(f"Layer {shown(self.layer)} in {self.path} {text}")

    def take(
        self,
        name: str,
        kinds: Sequence[str],
        shape: tuple[int | None, ...] | None = None,
        *,
        counts: bool = True,
    ) -> NDArray[Any]:
        """The numbers of a tensor of one of these types, finite; of this shape, None standing for any length.

        Parameters
        ----------
        counts
            Whether it is part of the layer's size.
        """
        tensor = self.tensors.get(name)
        if tensor is None:
            self.fail(f"lacks '{name}'.")
        if tensor.kind not in kinds:
            self.fail(f"has '{name}' of type {shown(tensor.kind)}, where {' or '.join(kinds)} is wanted.")
        if shape is not None and (
            len(shape) != len(tensor.shape)
            or any(want is not None and want != have for want, have in zip(shape, tensor.shape, strict=True))
        ):
            wanted = ", ".join("any" if want is None else str(want) for want in shape)
            self.fail(f"has '{name}' of shape {tensor.shape}, where ({wanted}) fits the rest.")
        if np.prod(tensor.shape, dtype=np.float64) > LARGEST_LAYER:
            self.fail(f"has '{name}' of shape {tensor.shape}, more than can be held.")
        self.taken.add(name)
        self.bytes += tensor.bytes * counts
        array = tensor.read()
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            self.fail(f"has entries in '{name}' that are not finite.")
        return array

    def dense_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(channels, input channels, *kernel) of weights that a file has in the shape of the module."""
        if self.layout is None:
            return shape
        if shape != self.layout.stored:
            self.fail(f"has weights of shape {shape}, where the model's are {self.layout.stored}.")
        return self.layout.dense

    def rows(self, array: NDArray[Any]) -> NDArray[Any]:
        """A number for each weight, in the shape of the module, as a channel a row."""
        return array.reshape(len(array), -1) if self.layout is None else array.ravel()[self.layout.order]

    def refuse_leftovers(self) -> None:
        """Raise InputError where there are tensors that the format does not know."""
        left = sorted(
            name
            for name in self.tensors
            if name not in self.taken and name not in BESIDE and not name.startswith(OF_ACTIVATIONS)
        )
        if left:
            self.fail(f"holds {shown(left[0])} as well, which its format does not have.")

    def bits_per_weight(self, weights: int) -> float:
        """Size of what was taken."""
        return 8.0 * self.bytes / weights


class LayerFormat(ABC):
    """One way to store a compressed layer."""

    name: ClassVar[str]
    """What it is called, in words."""

    @abstractmethod
    def fits(self, parts: Parts) -> bool:
        """Whether the tensors of a layer are in this format, by their names and types."""

    @abstractmethod
    def read(self, parts: Parts) -> CompressedLayer:
        """The layer.

        Raises
        ------
        InputError
            If a tensor is missing, or of another type or shape than the rest implies.
        """


def checked_shape(parts: Parts, shape: Iterable[Any]) -> tuple[int, int]:
    """(channels, inputs) as a file states them."""
    sizes = [int(size) for size in shape]
    channels, inputs = sizes if len(sizes) == 2 else (0, 0)
    if channels < 1 or inputs < 1 or channels * inputs > LARGEST_LAYER:
        parts.fail(f"states the shape {shown(sizes)}, which no weight of a layer has.")
    return channels, inputs


def unpacked(words: NDArray[Any], bits: int, count: int) -> NDArray[np.int64]:
    """The first `count` codes of each row of a stream of bits, the lowest ones first, shape (rows, count).

    Parameters
    ----------
    words
        Whole numbers of any width, shape (rows, words); a code may go across two of them.
    """
    rows = np.ascontiguousarray(words)
    stream = np.unpackbits(
        rows.astype(rows.dtype.newbyteorder("<")).view(np.uint8), axis=1, bitorder="little"
    )
    digits = stream[:, : count * bits].reshape(len(rows), count, bits)
    codes = np.zeros((len(rows), count), dtype=np.int64)
    for place in range(bits):
        codes |= digits[:, :, place].astype(np.int64) << place
    return codes


def packed(codes: NDArray[np.int64], bits: int) -> NDArray[np.int32]:
    """Codes of each row as such a stream in words of 32 bits, filled up with zeros: unpacked gives them back.

    Parameters
    ----------
    codes
        From 0 to 2^bits - 1, shape (rows, count).
    """
    digits = (codes[:, :, None] >> np.arange(bits)) & 1
    stream = digits.reshape(len(codes), -1).astype(np.uint8)
    filled = np.pad(stream, ((0, 0), (0, -stream.shape[1] % 32)))
    words = np.packbits(filled, axis=1, bitorder="little").view(np.dtype("<u4"))
    return words.astype(np.uint32).view(np.int32)

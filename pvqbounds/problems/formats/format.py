"""A format: values and a support rule with their storage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pvqbounds.errors import InputError, shown
from pvqbounds.problems.formats.rules import ValueRule
from pvqbounds.problems.formats.sparsity import MASKS, Sparsity
from pvqbounds.problems.validation import as_real_array, whole_number
from pvqbounds.problems.values import Reals, ValueSet

__all__ = ["REAL_BITS", "Format"]

Array = NDArray[np.float64]

REAL_BITS = 16
"""Bits that a weight which is kept and not quantized is counted with."""

MOST_CHANNELS = MOST_INPUTS = 2**31


@dataclass(frozen=True)
class Format:
    """What the weights of a layer may be, and how many bits that takes.

    Parameters
    ----------
    values
        How values are found from weights; None where kept weights may be any real number.
    support
        Which weights may be non-zero; None where all may.

    Raises
    ------
    InputError
        If both are None, or if the values lack the 0 that a support rule needs.
    """

    values: ValueRule | None = None
    support: Sparsity | None = None

    def __post_init__(self) -> None:
        if self.values is None and self.support is None:
            raise InputError("A format has values, like int4, or a support, like 2:4, or both.")
        if self.values is not None and self.support is not None and not self.values.has_zero:
            raise InputError(
                f"The values of '{self.values.name}' lack 0, which {self.support.name} needs for what it "
                "removes; take a format with 0, like int4:g32."
            )

    @property
    def name(self) -> str:
        """The name that is parsed to this format, as short as it can be."""
        return "+".join(part.name for part in (self.support, self.values) if part is not None)

    def bits_per_weight(self, shape: tuple[int, int], mask: str = "bitmap", stride: int = 1) -> float:
        """Size of weights of a shape (output channels, inputs): codes, scales, zero points, the mask.

        Parameters
        ----------
        shape
            Shape of the weights; a convolution's inputs are those of all kernel positions.
        mask
            How the mask of a support rule is counted: "bitmap" (1 bit a weight), "entropy" (what tells
            the masks apart), "stored" (N:M: the positions of the kept ones) or "none".
        stride
            How far apart the inputs of a pattern's group lie.

        Raises
        ------
        InputError
            If the shape or the way of counting is none.
        """
        if not isinstance(mask, str) or mask not in MASKS:
            raise InputError(f"A mask is counted as one of {', '.join(MASKS)}, not {shown(mask)}.")
        try:
            channels, inputs = shape
        except (TypeError, ValueError) as error:
            raise InputError(f"The shape must be (output channels, inputs), not {shown(shape)}.") from error
        channels = whole_number(channels, "The number of output channels", 1, MOST_CHANNELS)
        inputs = whole_number(inputs, "The number of inputs", 1, MOST_INPUTS)
        kept, mask_bits = 1.0, 0.0
        stride = whole_number(stride, "The stride", 1, inputs)
        if self.support is not None:
            kept = self.support.kept(inputs, stride)
            mask_bits = MASKS[mask](self.support, inputs, stride)
        if self.values is None:
            return REAL_BITS * kept + mask_bits
        side_bits = self.values.side_bits((channels, inputs)) / (channels * inputs)
        return self.values.code_bits * kept + side_bits + mask_bits

    def grids(self, weights: ArrayLike, live: ArrayLike | None = None) -> list[ValueSet]:
        """The values that the weights of each output channel may take, by the format's own scale rule.

        Parameters
        ----------
        weights
            Shape (output channels, inputs).
        live
            Which inputs scales are found from, shape (inputs,) or that of the weights; all by default.
            The others have the values of their group as well.

        Raises
        ------
        InputError
            If weights are not finite, the mask does not fit, or a scale overflows what stores it.
        """
        return list(self._rows(*_checked(weights, live)))

    def round_to_nearest(
        self, weights: ArrayLike, live: ArrayLike | None = None, stride: int = 1
    ) -> NDArray[np.float64]:
        """Weights as they are decoded after each was rounded to the nearest value, the lower code on ties.

        Under a support rule the largest magnitudes are kept, the lower index on ties; the weights of a
        pattern lie `stride` inputs apart.
        """
        array, alive = _checked(weights, live)
        decoded = array.copy()
        for row, values in zip(decoded, self._rows(array, alive), strict=True):
            codes = values.nearest(row)
            rounded = row if codes is None else values.weight_of(codes)
            row[:] = np.where(self._magnitude(row, stride), rounded, 0.0)
        return decoded

    def _rows(self, weights: Array, live: NDArray[np.bool_]) -> Iterator[ValueSet]:
        """One value set after another, so that only one need be held."""
        if self.values is None:
            return iter([Reals(weights.shape[1])] * len(weights))
        return self.values.rows(weights, live)

    def _magnitude(self, row: Array, stride: int) -> NDArray[np.bool_]:
        """Which weights magnitude pruning keeps."""
        if self.support is None:
            return np.ones(len(row), dtype=np.bool_)
        kept = np.zeros(len(row), dtype=np.bool_)
        for inputs, budget in self.support.rule(len(row), stride).budgets(len(row)):
            kept[inputs[np.argsort(-np.abs(row[inputs]), kind="stable")[:budget]]] = True
        return kept


def _checked(weights: ArrayLike, live: ArrayLike | None) -> tuple[Array, NDArray[np.bool_]]:
    array = as_real_array(weights, "The weights", ndim=2)
    mask = np.ones(array.shape[1], dtype=np.bool_) if live is None else np.asarray(live)
    if mask.dtype != np.bool_ or mask.shape not in (array.shape, array.shape[1:]):
        raise InputError(
            f"The mask of live inputs must hold {array.shape[1]} booleans, or as many for each channel, "
            f"not shape {mask.shape} of {mask.dtype}."
        )
    return array, np.broadcast_to(mask, array.shape)

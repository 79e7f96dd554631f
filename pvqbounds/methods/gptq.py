"""GPTQ: column after column, with the errors made good by those behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.methods.base import RoundingMethod
from pvqbounds.methods.channels import Channels, for_each_gram
from pvqbounds.methods.columns import settled
from pvqbounds.methods.inverse import checked_damping, inverse_factor
from pvqbounds.problems import LeastSquares
from pvqbounds.problems.gram import Gram

__all__ = ["Gptq"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Gptq(RoundingMethod):
    """Round to nearest an input at a time, on the inverse of the damped Gram; scales are the format's."""

    name: ClassVar[str] = "gptq"
    label: ClassVar[str] = "GPTQ"
    citation: ClassVar[str] = (
        'Frantar, Ashkboos, Hoefler and Alistarh, "GPTQ: accurate post-training quantization for generative '
        'pre-trained transformers", ICLR 2023'
    )
    listed_up_to: ClassVar[float] = inf

    damp: float = 0.01
    """Added to the diagonal of the Gram, as a fraction of its mean, for the factor alone."""
    act_order: bool = False
    """Inputs of most power first, in place of their own order."""

    def __post_init__(self) -> None:
        checked_damping(self.damp)

    def rounded(self, problems: Sequence[LeastSquares]) -> list[NDArray[np.int64]]:
        """All channels of one Gram together, on one factor."""
        return for_each_gram(problems, self._factor, _rounded)

    def _factor(self, gram: Gram) -> tuple[NDArray[np.int64], Array]:
        order = np.arange(gram.n)
        if self.act_order:
            order = np.argsort(-np.diagonal(gram.matrix), kind="stable")
        return order, inverse_factor(gram, self.damp, order)


def _rounded(prepared: tuple[NDArray[np.int64], Array], channels: Channels) -> Array:
    order, factor = prepared
    nearest, values = channels.nearest, np.empty_like(channels.weight)
    values[:, order] = settled(
        channels.weight[:, order], factor, lambda place, now, _: nearest(int(order[place]), now)
    )
    return values

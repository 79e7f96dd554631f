"""Wanda: magnitude times the power of the input."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.methods.base import PruningMethod
from pvqbounds.methods.channels import Channels, for_each_gram
from pvqbounds.problems import SparseLeastSquares
from pvqbounds.problems.gram import Gram

__all__ = ["Wanda", "kept_by_wanda"]

Array = NDArray[np.float64]


class Wanda(PruningMethod):
    """Keep the weights of largest |w| times root mean square of their input, as they are."""

    name: ClassVar[str] = "wanda"
    label: ClassVar[str] = "Wanda"
    citation: ClassVar[str] = (
        'Sun, Liu, Bair and Kolter, "A simple and effective pruning approach for large language models", '
        "ICLR 2024"
    )
    listed_up_to: ClassVar[float] = inf

    def propose(self, problems: Sequence[SparseLeastSquares], seed: int = 0) -> list[NDArray[np.float64]]:
        """All channels of one Gram together."""
        return for_each_gram(problems, lambda gram: gram, _pruned)


def kept_by_wanda(gram: Gram, channels: Channels) -> NDArray[np.bool_]:
    """Mask of what is kept, shape (channels, n)."""
    return channels.largest(np.abs(channels.weight) * np.sqrt(np.diagonal(gram.matrix)))


def _pruned(gram: Gram, channels: Channels) -> Array:
    return np.where(kept_by_wanda(gram, channels), channels.weight, 0.0)

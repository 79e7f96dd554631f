"""A format of somebody else's: signed powers of two, with values and a scale rule in one file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds import formats
from pvqbounds.problems.values import Tabulated

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PowersOfTwo(Tabulated):
    """{0, ±s, ±s/2, ..., ±s/2^(count - 1)} with a largest level s for each input."""

    largest_level: Array
    count: int

    @property
    def table(self) -> Array:
        """Ascending."""
        positive = np.ldexp(1.0, np.arange(1 - self.count, 1))
        return self.largest_level[:, None] * np.concatenate([-positive[::-1], [0.0], positive])

    def among(self, inputs: NDArray[np.bool_] | NDArray[np.int64]) -> PowersOfTwo:
        """Those of some inputs."""
        return PowersOfTwo(self.largest_level[inputs], self.count)

    def times(self, power: int | NDArray[np.int64]) -> PowersOfTwo:
        """The levels times ``2**power``."""
        return PowersOfTwo(np.ldexp(self.largest_level, power), self.count)


@dataclass(frozen=True)
class Logarithmic(formats.ValueRule):
    """log4: seven powers of two, the largest a channel's own that clips nothing."""

    name = "log4"
    code_bits = 4

    def side_bits(self, shape: tuple[int, int]) -> int:
        """An exponent of eight bits for each channel."""
        return 8 * shape[0]

    def rows(self, weights: Array, live: NDArray[np.bool_]) -> Iterator[PowersOfTwo]:
        """One channel after another."""
        for row, alive in zip(weights, live, strict=True):
            largest = float(np.abs(row[alive]).max(initial=0.0)) or 1.0
            scale = np.ldexp(1.0, int(np.ceil(np.log2(largest))))
            yield PowersOfTwo(np.full(len(row), scale), 7)

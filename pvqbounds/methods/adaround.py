"""AdaRound: up or down by gradient descent on a relaxed choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError
from pvqbounds.methods.base import RoundingMethod
from pvqbounds.methods.channels import Channels, for_each_gram
from pvqbounds.problems import LeastSquares, Problem
from pvqbounds.problems.code_grids import grid_of, has_grid
from pvqbounds.problems.gram import Gram
from pvqbounds.problems.values import ValueSet

__all__ = ["AdaRound"]

Array = NDArray[np.float64]

LOW, HIGH = -0.1, 1.1
"""Ends to which the sigmoid is stretched before it is cut off at 0 and 1."""

FIRST_EXPONENT, LAST_EXPONENT, WARM_UP = 20.0, 2.0, 0.2
"""Of the term that draws each choice to 0 or 1, and the fraction of the steps without it."""

MEAN, SQUARE, TINY = 0.9, 0.999, 1e-8
"""Adam's."""


@dataclass(frozen=True)
class AdaRound(RoundingMethod):
    """Each weight to one of the two values around it, by Adam on rectified sigmoids.

    The paper takes batches of inputs; on the Gram every step sees them all, so that fewer, larger steps do.
    """

    name: ClassVar[str] = "adaround"
    label: ClassVar[str] = "AdaRound"
    citation: ClassVar[str] = (
        "Nagel, Amjad, van Baalen, Louizos and Blankevoort, "
        '"Up or down? Adaptive rounding for post-training quantization", ICML 2020'
    )

    steps: int = 1000
    rate: float = 0.03
    penalty: float = 50.0
    """Weight of the term that draws each choice to 0 or 1, in units of the error of round to nearest."""

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.rate > 0.0 or not self.penalty >= 0.0:
            raise InputError(
                "AdaRound takes steps=1000, rate=0.03 and penalty=50, or other positive numbers."
            )

    def proposes_for(self, problem: Problem) -> bool:
        """Whether values are steps or in a table."""
        return super().proposes_for(problem) and has_grid(problem.values)

    def rounded(self, problems: Sequence[LeastSquares]) -> list[NDArray[np.int64]]:
        """All channels of one Gram together."""
        return for_each_gram(problems, lambda gram: gram, partial(_chosen, self))


def _around(values: ValueSet, weight: Array) -> tuple[Array, Array]:
    """The values below and above weights, or the two at the end next to them."""
    grid = grid_of(values)
    points = weight / grid.unit
    below = np.floor(points) if grid.table is None else (grid.table <= points[:, None]).sum(axis=1) - 1.0
    below = np.clip(below, grid.low, np.maximum(grid.low, grid.high - 1.0))
    above = np.minimum(below + 1.0, grid.high)
    return grid.values_of(below) * grid.unit, grid.values_of(above) * grid.unit


def _chosen(settings: AdaRound, gram: Gram, channels: Channels) -> Array:
    form, weight = gram.over_mean, channels.weight
    pairs = [_around(p.values, row) for p, row in zip(channels.problems, weight, strict=True)]
    below, above = (np.stack([pair[side] for pair in pairs]) for side in (0, 1))
    width = above - below
    share = np.divide(weight - below, width, out=np.zeros_like(weight), where=width > 0.0)
    nearest = np.where(share > 0.5, above, below) - weight
    unit = np.einsum("ci,ij,cj->c", nearest, form, nearest, optimize=True)  # channels count alike
    unit = np.maximum(unit, np.finfo(np.float64).tiny)[:, None]
    opened = (np.clip(share, 0.01, 0.99) - LOW) / (HIGH - LOW)
    variable = np.log(opened / (1.0 - opened))
    mean, square = np.zeros_like(variable), np.zeros_like(variable)
    for step in range(settings.steps):
        sigmoid = 1.0 / (1.0 + np.exp(-variable))
        stretched = sigmoid * (HIGH - LOW) + LOW
        up = np.clip(stretched, 0.0, 1.0)
        slope = 2.0 * ((below + up * width - weight) @ form) * width / unit
        slope += settings.penalty / len(form) * _drawn(up, step / settings.steps)
        inside = (stretched > 0.0) & (stretched < 1.0)
        slope *= np.where(inside, sigmoid * (1.0 - sigmoid) * (HIGH - LOW), 0.0)
        mean += (1.0 - MEAN) * (slope - mean)
        square += (1.0 - SQUARE) * (slope**2 - square)
        towards = mean / (1.0 - MEAN ** (step + 1))
        variable -= settings.rate * towards / (np.sqrt(square / (1.0 - SQUARE ** (step + 1))) + TINY)
    return np.where(variable > 0.0, above, below)


def _drawn(up: Array, time: float) -> Array | float:
    """Slope of 1 - |2h - 1|^β by h, whose exponent falls from the end of the warm-up on."""
    progress = (time - WARM_UP) / (1.0 - WARM_UP)
    if progress <= 0.0:
        return 0.0
    exponent = LAST_EXPONENT + (FIRST_EXPONENT - LAST_EXPONENT) * (1.0 - progress)
    offset = 2.0 * up - 1.0
    return np.asarray(-2.0 * exponent * np.sign(offset) * np.abs(offset) ** (exponent - 1.0))

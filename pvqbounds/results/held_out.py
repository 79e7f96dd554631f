"""What was found on the calibration data, evaluated on other data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.gram import Gram
from pvqbounds.problems.least_squares import LeastSquares
from pvqbounds.results.bounds import sqnr

if TYPE_CHECKING:
    from pvqbounds.results.layer import Side, SliceResult

__all__ = ["BEST", "HeldOut", "held_out_errors"]

BEST = "best"
"""Name of the best weights found, beside those of methods."""


@dataclass(frozen=True)
class HeldOut:
    """Errors of a layer's solutions on data that they were not made from. No bound belongs to them."""

    positions: int
    """Positions behind the errors."""
    signal: float
    errors: tuple[Mapping[str, float], ...]
    """For each side, error of the best weights found and of each method's, by its name."""

    def sqnr(self, side: int, name: str = BEST) -> float:
        """SQNR in dB of a solution of a side."""
        return sqnr(self.signal, self.errors[side][name])


def held_out_errors(side: Side, grams: Sequence[Gram]) -> tuple[float, dict[str, float]]:
    """Signal, and the errors of a side's solutions, on Grams of its slices, one for each."""
    signal = math.fsum(_form(s.problem.weight, gram) for s, gram in zip(side.slices, grams, strict=True))
    points: dict[str, Sequence[NDArray[Any]]] = {BEST: [s.bounds.weight for s in side.slices]}
    for name, proposed in side.methods.items():
        points[name] = [_weight(s, point) for s, point in zip(side.slices, proposed, strict=True)]
    errors = {
        name: math.fsum(
            _form(weight - s.problem.weight, gram)
            for s, weight, gram in zip(side.slices, weights, grams, strict=True)
        )
        for name, weights in points.items()
    }
    return signal, errors


def _form(vector: NDArray[np.float64], gram: Gram) -> float:
    return max(0.0, float(vector @ gram.matrix @ vector))


def _weight(result: SliceResult, point: NDArray[Any]) -> NDArray[np.float64]:
    """What a proposal stands for: codes are those of its problem's values."""
    problem = result.problem
    return problem.weight_of(point) if isinstance(problem, LeastSquares) else np.asarray(point, float)

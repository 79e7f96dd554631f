"""Optimal brain quantization: the input whose rounding costs least goes next, the others make it good."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.methods.base import RoundingMethod
from pvqbounds.methods.channels import Channels, for_each_gram
from pvqbounds.methods.inverse import conditioned_inverse
from pvqbounds.methods.obs import OptimalBrainSurgeon
from pvqbounds.problems import LeastSquares, Problem, SparseLeastSquares
from pvqbounds.problems.code_grids import CodeGrid, grid_of, has_grid

__all__ = ["OptimalBrainQuantization"]

Array = NDArray[np.float64]

LARGEST_LOT = 2**27
"""Bytes of the inverses, one for each channel, that are held at one time."""


class OptimalBrainQuantization(RoundingMethod):
    """Round one input at a time, each the cheapest, (q(w_i) - w_i)² / (H⁻¹)_ii; first what leaves the grid.

    Under a support rule what optimal brain surgeon keeps, around its re-fit. A singular Gram gets a ridge of
    1e-10 of each input's power for its inverse.
    """

    name: ClassVar[str] = "obq"
    label: ClassVar[str] = "OBQ"
    citation: ClassVar[str] = (
        'Frantar, Singh and Alistarh, "Optimal brain compression: a framework for accurate post-training '
        'quantization and pruning", NeurIPS 2022'
    )
    on_singular: ClassVar[str] = OptimalBrainSurgeon.on_singular

    def proposes_for(self, problem: Problem) -> bool:
        """Whether values are steps or in a table."""
        return super().proposes_for(problem) and has_grid(problem.values)

    def kept(self, problems: Sequence[LeastSquares]) -> list[NDArray[np.bool_]]:
        """What optimal brain surgeon keeps."""
        sparse = [SparseLeastSquares(p.shared, p.weight, nnz=p.n).under(p.rule) for p in problems]
        return [weight != 0.0 for weight in OptimalBrainSurgeon().propose(sparse)]

    def rounded(self, problems: Sequence[LeastSquares]) -> list[NDArray[np.int64]]:
        """Each channel on a copy of one inverse."""
        return for_each_gram(problems, conditioned_inverse, _in_lots)


def _in_lots(inverse: Array, channels: Channels) -> Array:
    size = max(1, LARGEST_LOT // inverse.nbytes)
    lots = [channels.problems[i : i + size] for i in range(0, len(channels.problems), size)]
    return np.concatenate([_rounded(inverse, Channels(lot)) for lot in lots])


def _rounded(inverse: Array, channels: Channels) -> Array:
    w, rows = channels.weight.copy(), np.arange(len(channels.problems))
    inverses = np.broadcast_to(inverse, (len(rows), *inverse.shape)).copy()
    grids = [grid_of(problem.values) for problem in channels.problems]
    low, high = (np.stack(ends) for ends in zip(*map(_last_points, grids), strict=True))
    values, left = np.zeros_like(w), np.ones(w.shape, dtype=np.bool_)
    for _ in range(w.shape[1]):
        rounded = np.stack([_nearest(grid, row) for grid, row in zip(grids, w, strict=True)])
        cost, powers = np.square(rounded - w), np.diagonal(inverses, axis1=1, axis2=2)
        next_up = np.where(left, cost / powers, np.inf).argmin(axis=1)
        outside = left & ((w < low) | (w > high))
        furthest = np.where(outside, cost, -1.0).argmax(axis=1)
        i = np.where(outside.any(axis=1), furthest, next_up)
        values[rows, i] = rounded[rows, i]
        column, power = inverses[rows, :, i], powers[rows, i]
        w -= column * ((w[rows, i] - values[rows, i]) / power)[:, None]
        left[rows, i] = False
        inverses -= column[:, :, None] * (column / power[:, None])[:, None]
        inverses[rows, i, i] = 1.0  # settled: no division by what is left of it
    return values


def _nearest(grid: CodeGrid, weight: Array) -> Array:
    return grid.values_of(grid.nearest(weight / grid.unit)) * grid.unit


def _last_points(grid: CodeGrid) -> tuple[Array, Array]:
    """Half a step beyond the ends of the grid, from where on a weight is rounded at once, shape (n,) each."""
    second, last = np.minimum(grid.low + 1.0, grid.high), np.maximum(grid.high - 1.0, grid.low)
    below = 0.5 * (3.0 * grid.lowest - grid.values_of(second))
    above = 0.5 * (3.0 * grid.highest - grid.values_of(last))
    one = grid.high == grid.low  # a single value has no step
    return np.where(one, -np.inf, below) * grid.unit, np.where(one, np.inf, above) * grid.unit

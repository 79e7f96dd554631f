"""Sums of XᵀX in float64, a block of rows at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import blas
from torch import Tensor

from pvqbounds.errors import InputError

__all__ = ["Accumulator"]

SQUARES_HOLD = 1e-150
"""Inputs that are smaller throughout lose their squares to underflow: they would pass for zero."""

BLOCK = 2**18
"""Float64 entries of the rows that are multiplied at a time, at least: 2 MiB stay in a processor's cache."""


def _empty_like(rows: Tensor, height: int) -> Tensor:
    """Room for so many rows in float64, in the order that they have in memory."""
    groups, inputs = rows.shape[0], rows.shape[-1]
    if rows.stride(-2) == 1 < rows.stride(-1):  # positions next to each other
        return torch.empty(groups, inputs, height, dtype=torch.float64, device=rows.device).mT
    return torch.empty(groups, height, inputs, dtype=torch.float64, device=rows.device)


def _add_half(sums: NDArray[np.float64], rows: NDArray[np.float64]) -> None:
    """Add rowsᵀ rows to the lower triangle of the sums, in place: half the work, and nothing besides."""
    turned = rows.flags.c_contiguous  # BLAS has columns next to each other
    blas.dsyrk(1.0, rows.T if turned else rows, beta=1.0, c=sums.T, trans=not turned, overwrite_c=True)


class Accumulator:
    """Sum of XᵀX of rows that come in pieces, in memory that does not depend on their number.

    Rows are gathered, in float64, until there are about as many as inputs, unless so many come at once in
    float64: products of fewer would cost more for adding up than for multiplying.

    Parameters
    ----------
    name
        What to call the layer in messages.
    groups, inputs
        Groups of the layer, and n of each.
    """

    def __init__(self, name: str, groups: int, inputs: int) -> None:
        self._name, self._shape = name, (groups, inputs)
        self._rows: Tensor | None = None
        self._filled = 0
        self._origins: list[tuple[int, int]] = []
        """From which of the rows on they are of which batch."""
        self._sums: Tensor | None = None
        self._halved = False
        """Whether sums have their lower triangle alone."""
        self._largest = np.zeros((groups, inputs))
        self._narrow = True  # float32 and less: no square leaves the range of float64
        self.positions = 0
        self.weight = 0.0
        """Sum of the weights of the positions."""

    @property
    def height(self) -> int:
        """Rows that are worth a product."""
        groups, inputs = self._shape
        return max(inputs, BLOCK // (groups * inputs), 1)

    def add(
        self, rows: Tensor, weights: Tensor | None = None, batch: int = 0, *, narrow: bool = False
    ) -> None:
        """Take in rows, shape (groups, *positions, n), each times its weight, shape (positions,), or 1.

        Whether they are finite is seen in the sums of their squares, once they are multiplied.

        Parameters
        ----------
        batch
            Number of the batch that they come from, for messages; 0 where it is not known.
        narrow
            Whether rows in float64 come from a narrower type.

        Raises
        ------
        InputError
            If they are complex, or some that were taken in are not finite or their squares leave
            float64's range.
        """
        if rows.is_complex():
            raise InputError(f"The input of layer '{self._name}' is complex, and bounds exist for real ones.")
        if rows.device.type == "mps":  # the one kind of device that has no float64
            rows = rows.cpu()
        wide, count = rows.dtype == torch.float64, math.prod(rows.shape[1:-1])
        self._narrow = self._narrow and (narrow or not wide)
        if wide and weights is None and not self._filled and count >= self.height:
            self._multiply(rows.reshape(len(rows), count, -1), [(0, batch)])
        else:
            self._gather(rows, None if weights is None else weights.to(rows.device).sqrt()[:, None], batch)
        self.positions += count
        self.weight += count if weights is None else float(weights.sum())

    def _gather(self, rows: Tensor, roots: Tensor | None, batch: int) -> None:
        """Keep rows, each times its number, until there are enough of them."""
        count, start = math.prod(rows.shape[1:-1]), 0
        if self._rows is None:  # whole batches fill it, so that BLAS takes it as it lies
            spare = self.height % count if 0 < count <= self.height else 0
            self._rows = _empty_like(rows, self.height - spare)
        capacity = self._rows.shape[1]
        at_once = roots is None and count <= capacity
        if at_once and count > capacity - self._filled:
            self._flush()
        self._origins.append((self._filled, batch))
        if at_once:
            room: Tensor = self._rows[:, self._filled : self._filled + count]
            room.view(rows.shape).copy_(rows)  # wherever they lie
            self._filled += count
            return
        rows = rows.reshape(len(rows), count, -1)
        while start < count:
            taken = min(count - start, capacity - self._filled)
            room = self._rows[:, self._filled : self._filled + taken]
            room.copy_(rows[:, start : start + taken])
            if roots is not None:
                room *= roots[start : start + taken]
            self._filled += taken
            start += taken
            if self._filled == capacity:
                self._flush()
                self._origins.append((0, batch))

    def _flush(self) -> None:
        """Add what was gathered to the sums."""
        assert self._rows is not None
        filled, self._filled = self._filled, 0
        origins, self._origins = self._origins, []
        self._multiply(self._rows[:, :filled], origins)

    def _multiply(self, rows: Tensor, origins: Sequence[tuple[int, int]]) -> None:
        """Add the products of rows in float64 to the sums; from which row on they are of which batch."""
        if self._sums is None:
            groups, inputs = self._shape
            self._sums = torch.zeros(groups, inputs, inputs, dtype=torch.float64, device=rows.device)
            self._halved = groups == 1 and rows.device.type == "cpu"
        if not self._narrow:
            self._largest = np.maximum(self._largest, rows.abs().amax(dim=1).cpu().numpy())
        if self._halved:
            _add_half(self._sums[0].numpy(), rows[0].numpy())
        else:
            self._sums.baddbmm_(rows.mT, rows)
        if not torch.isfinite(self._sums.diagonal(dim1=1, dim2=2)).all():
            self._refuse_rows(rows, origins)

    def _refuse_rows(self, rows: Tensor, origins: Sequence[tuple[int, int]]) -> None:
        finite = torch.isfinite(rows).all(dim=2).all(dim=0)
        if bool(finite.all()):
            self._refuse(f"large as {float(rows.abs().max()):.3g}")
        first = int((~finite).nonzero()[0])
        batch = max((start, number) for start, number in origins if start <= first)[1]
        where = f" in batch {batch} of the data" if batch else ""
        raise InputError(
            f"The input of layer '{self._name}' is not finite{where}; "
            "check the data and the weights before the layer."
        )

    def _refuse(self, extreme: str) -> None:
        raise InputError(
            f"The input of layer '{self._name}' has entries as {extreme}, whose squares float64 "
            "does not hold; rescale the data."
        )

    def sums(self) -> NDArray[np.float64]:
        """XᵀX of all rows so far, shape (groups, n, n).

        Raises
        ------
        InputError
            If an input is not finite, or its squares leave float64's range.
        """
        if self._filled:
            self._flush()
        if self._sums is None:
            return np.zeros((self._shape[0], self._shape[1], self._shape[1]))
        lost = self._largest[(self._largest > 0.0) & (self._largest < SQUARES_HOLD)]
        if len(lost):
            self._refuse(f"small as {lost.min():.3g}")
        sums: NDArray[np.float64] = self._sums.cpu().numpy()
        return sums + np.tril(sums[0], -1).T if self._halved else sums

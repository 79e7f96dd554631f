"""Sums of XᵀX in float64, a block of rows at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import blas
from torch import Tensor

from pvqbounds.errors import InputError

__all__ = ["Accumulator"]

SQUARES_HOLD = 1e-150
"""Inputs that are smaller throughout lose their squares to underflow: they would pass for zero."""

BLOCK = 2**17
"""Float64 entries of the rows that are multiplied at a time, at least: 1 MiB stays in a processor's cache."""

SMALL, SMALL_OF_MANY = 8, 48
"""Inputs up to which half of a product takes as long as the whole: alone, and group by group."""

TILE = 256
"""Rows and columns of a matrix that are turned at a time."""


def _pieces(rows: Tensor, inner: int, most: int) -> Iterator[Tensor]:
    """Equal parts of rows, shape (groups, *positions, *inputs), with about so many positions each."""
    positions = rows.shape[1 : rows.dim() - inner]
    parts = round(math.prod(positions) / most)
    axis = next((axis for axis, size in enumerate(positions, start=1) if size > 1), 0)
    if parts <= 1 or not axis:
        yield rows
        return
    size = math.ceil(rows.shape[axis] / parts)
    for part in torch.split(rows, size, dim=axis):
        yield from _pieces(part, inner, most)


def _empty_like(rows: Tensor, inner: int, inputs: int, height: int) -> Tensor:
    """Room for so many rows in float64, in the order that they have in memory."""
    groups, lines = len(rows), rows.dim() - inner
    if rows.stride(lines - 1) < rows.stride(lines):  # positions next to each other
        return torch.empty(groups, inputs, height, dtype=torch.float64, device=rows.device).mT
    return torch.empty(groups, height, inputs, dtype=torch.float64, device=rows.device)


def _copy(rows: Tensor, room: Tensor) -> None:
    """Bring rows to float64, by NumPy where it can: torch takes five times as long where it knows no AVX."""
    if rows.device.type == "cpu" and rows.dtype in (torch.float32, torch.float64):
        np.copyto(room.numpy(), rows.numpy(force=True))
    else:
        room.copy_(rows)


def _add_half(sums: NDArray[np.float64], rows: NDArray[np.float64]) -> None:
    """Add rowsᵀ rows to the lower triangle of the sums, in place: half the work, and nothing besides."""
    turned = rows.flags.c_contiguous  # BLAS has columns next to each other
    blas.dsyrk(1.0, rows.T if turned else rows, beta=1.0, c=sums.T, trans=not turned, overwrite_c=True)


def _mirror(sums: NDArray[np.float64]) -> None:
    """Fill the upper triangle from the lower one, in place."""
    for start in range(0, len(sums), TILE):
        stop = start + TILE
        sums[start:stop, stop:] = sums[stop:, start:stop].T
        tile = sums[start:stop, start:stop]
        tile[:] = np.tril(tile) + np.tril(tile, -1).T


class Accumulator:
    """Sum of XᵀX of rows that come in pieces, in memory that does not depend on their number.

    Rows are gathered, in float64, until there are about as many as inputs: products of fewer would cost more
    for adding up than for multiplying, and more would leave a processor's cache before they are multiplied.

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

    def add(self, rows: Tensor, weights: Tensor | None = None, batch: int = 0, *, inner: int = 1) -> None:
        """Take in rows, each times the weight of its position or 1; those without weight stay out.

        Whether they are finite is seen in the sums of their squares, once they are multiplied.

        Parameters
        ----------
        rows
            Shape (groups, *positions, *inputs), wherever they lie: views are not unfolded as a whole.
        weights
            Shape (positions,), flat.
        batch
            Number of the batch that they come from, for messages; 0 where it is not known.
        inner
            How many of the last axes hold the n inputs.

        Raises
        ------
        InputError
            If they are complex, or some that were taken in are not finite or their squares leave
            float64's range.
        """
        if rows.is_complex():
            raise InputError(f"The input of layer '{self._name}' is complex, and bounds exist for real ones.")
        self._narrow = self._narrow and rows.dtype != torch.float64
        if weights is not None and bool((weights == 1.0).all()):
            weights = None
        start = 0
        for part in _pieces(rows, inner, self.height):
            count = math.prod(part.shape[1 : part.dim() - inner])
            if weights is None:
                self._gather(part, inner, count, batch)
                self.weight += count
            else:
                self._gather_weighted(
                    part.flatten(-inner).flatten(1, -2), weights[start : start + count], batch
                )
            start += count

    def _gather_weighted(self, rows: Tensor, weights: Tensor, batch: int) -> None:
        """Keep those of rows, shape (groups, positions, n), that have a weight."""
        counting = weights > 0.0
        rows, weights = rows[:, counting.to(rows.device)], weights[counting].double()
        room = self._gather(rows, 1, len(weights), batch)
        room *= weights.sqrt()[:, None].to(rows.device)
        self.weight += float(weights.sum())

    def _gather(self, rows: Tensor, inner: int, count: int, batch: int) -> Tensor:
        """Keep so many rows until there are enough of them; give where they are, (groups, count, n)."""
        room = self._room(rows, inner, count)
        _copy(rows, room.view(rows.shape))
        self._origins.append((self._filled, batch))
        self._filled += count
        self.positions += count
        return room

    def _room(self, rows: Tensor, inner: int, count: int) -> Tensor:
        """Where so many rows have their place, shape (groups, count, n)."""
        if self._rows is None or count > self._rows.shape[1]:
            self._flush()
            # whole batches fill it, so that BLAS takes it as it lies
            spare = self.height % count if 0 < count <= self.height else 0
            self._rows = _empty_like(rows, inner, self._shape[1], max(count, self.height - spare))
        elif count > self._rows.shape[1] - self._filled:
            self._flush()
        return self._rows[:, self._filled : self._filled + count]

    def _flush(self) -> None:
        """Add what was gathered to the sums."""
        if self._rows is None or not self._filled:
            return
        filled, self._filled = self._filled, 0
        origins, self._origins = self._origins, []
        self._multiply(self._rows[:, :filled], origins)

    def _multiply(self, rows: Tensor, origins: Sequence[tuple[int, int]]) -> None:
        """Add the products of rows in float64 to the sums; from which row on they are of which batch."""
        if self._sums is None:
            groups, inputs = self._shape
            self._sums = torch.zeros(groups, inputs, inputs, dtype=torch.float64, device=rows.device)
            small = SMALL if groups == 1 else SMALL_OF_MANY
            self._halved = inputs > small and rows.device.type == "cpu"
        if not self._narrow:
            self._largest = np.maximum(self._largest, rows.abs().amax(dim=1).cpu().numpy())
        if self._halved:
            halves = self._sums.numpy()
            for half, own in zip(halves, rows.numpy(), strict=True):
                _add_half(half, own)
            finite = bool(np.isfinite(halves.diagonal(axis1=1, axis2=2)).all())
        else:
            self._sums.baddbmm_(rows.mT, rows)
            finite = bool(torch.isfinite(self._sums.diagonal(dim1=1, dim2=2)).all())
        if not finite:
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
        """XᵀX of all rows so far, shape (groups, n, n); what is added later may change it.

        Raises
        ------
        InputError
            If an input is not finite, or its squares leave float64's range.
        """
        self._flush()
        if self._sums is None:
            return np.zeros((self._shape[0], self._shape[1], self._shape[1]))
        lost = self._largest[(self._largest > 0.0) & (self._largest < SQUARES_HOLD)]
        if len(lost):
            self._refuse(f"small as {lost.min():.3g}")
        sums: NDArray[np.float64] = self._sums.cpu().numpy()
        if self._halved:
            for each in sums:
                _mirror(each)
        return sums

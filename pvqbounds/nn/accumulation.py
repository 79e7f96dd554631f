"""Sums of XᵀX in float64, a block of rows at a time."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pvqbounds.errors import InputError

__all__ = ["Accumulator"]

SQUARES_HOLD = 1e-150
"""Inputs that are smaller throughout lose their squares to underflow: they would pass for zero."""

BLOCK = 2**18
"""Float64 entries of the rows that are multiplied at a time, at least: 2 MiB stay in a processor's cache."""


class Accumulator:
    """Sum of XᵀX of rows that come in pieces, in memory that does not depend on their number.

    Rows are gathered, in float64, until there are about as many as inputs: products of fewer would cost
    more for adding up than for multiplying.

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
        self._sums: Tensor | None = None
        self._largest = np.zeros((groups, inputs))
        self._narrow = True  # float32 and less: no square leaves the range of float64
        self.positions = 0
        self.weight = 0.0
        """Sum of the weights of the positions."""

    def add(self, rows: Tensor, weights: Tensor | None = None, batch: int = 0) -> None:
        """Take in rows, shape (groups, positions, n), each times its weight, shape (positions,), or 1.

        Parameters
        ----------
        batch
            Number of the batch that they come from, for messages; 0 where it is not known.

        Raises
        ------
        InputError
            If they are complex or not finite, or their squares leave float64's range.
        """
        groups, inputs = self._shape
        if rows.is_complex():
            raise InputError(f"The input of layer '{self._name}' is complex, and bounds exist for real ones.")
        if not torch.isfinite(rows).all():
            where = f" in batch {batch} of the data" if batch else ""
            raise InputError(
                f"The input of layer '{self._name}' is not finite{where}; "
                "check the data and the weights before the layer."
            )
        if rows.device.type == "mps":  # the one kind of device that has no float64
            rows = rows.cpu()
        if self._rows is None:
            height = max(inputs, BLOCK // (groups * inputs), 1)
            self._rows = torch.empty(groups, height, inputs, dtype=torch.float64, device=rows.device)
            self._sums = torch.zeros(groups, inputs, inputs, dtype=torch.float64, device=rows.device)
        self._narrow = self._narrow and rows.dtype != torch.float64
        roots = None if weights is None else weights.to(rows.device).sqrt()[:, None]
        start, count = 0, rows.shape[1]
        while start < count:
            taken = min(count - start, self._rows.shape[1] - self._filled)
            room = self._rows[:, self._filled : self._filled + taken]
            room.copy_(rows[:, start : start + taken])
            if roots is not None:
                room *= roots[start : start + taken]
            self._filled += taken
            start += taken
            if self._filled == self._rows.shape[1]:
                self._multiply()
        self.positions += count
        self.weight += count if weights is None else float(weights.sum())

    def _multiply(self) -> None:
        """Add what was gathered to the sums."""
        assert self._rows is not None
        assert self._sums is not None
        rows = self._rows[:, : self._filled]
        self._filled = 0
        if not self._narrow:
            self._largest = np.maximum(self._largest, rows.abs().amax(dim=1).cpu().numpy())
        if rows.device.type == "cpu" and len(rows) == 1:  # NumPy computes half of a product with itself
            own, sums = rows[0].numpy(), self._sums[0].numpy()
            with np.errstate(all="ignore"):  # what is not finite is told below
                sums += own.T @ own
        else:
            self._sums.baddbmm_(rows.mT, rows)
        if not torch.isfinite(self._sums.diagonal(dim1=1, dim2=2)).all():
            self._refuse(f"large as {float(rows.abs().max()):.3g}")

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
            self._multiply()
        if self._sums is None:
            return np.zeros((self._shape[0], self._shape[1], self._shape[1]))
        lost = self._largest[(self._largest > 0.0) & (self._largest < SQUARES_HOLD)]
        if len(lost):
            self._refuse(f"small as {lost.min():.3g}")
        sums: NDArray[np.float64] = self._sums.cpu().numpy()
        return sums

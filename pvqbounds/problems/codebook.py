"""Quantization of one output channel to the levels of a codebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pvqbounds.errors import InputError
from pvqbounds.problems.gram import Gram
from pvqbounds.problems.least_squares import LeastSquares, checked_pair
from pvqbounds.problems.supports import rule_of
from pvqbounds.problems.validation import as_real_array
from pvqbounds.problems.values import Levels, rises

__all__ = ["CodebookLeastSquares", "checked_table"]

MOST_LEVELS = 2**16


@dataclass(frozen=True, eq=False, repr=False)
class CodebookLeastSquares(LeastSquares):
    """Minimise E(v) = (v - w)ᵀ G (v - w) over v_i among the sorted levels of input i.

    Parameters
    ----------
    gram
        G = XᵀX/N, shape (n, n), or a :class:`Gram`.
    weight
        w, shape (n,).
    levels
        The levels in rising order, at least two: one list for all inputs, shape (m,), or a list of n of
        them, which may differ in length. Scales are multiplied in. In an array, shape (n, m), rows that
        have fewer levels repeat their last one.
    nnz
        At most so many non-zeros in all (joint compression); 0 must be a level of each input then.
    pattern
        (N, M) in place of `nnz`: at most N non-zeros in each group of M weights.
    stride
        How far apart the weights of a group of `pattern` lie, as for :class:`SparseLeastSquares`.

    Raises
    ------
    InputError
        If levels are not finite, not rising or fewer than two, if lists do not fit the inputs, or as for
        :class:`IntegerLeastSquares`.

    Notes
    -----
    Codes are the numbers of levels, from 0 on.
    """

    values: Levels
    """The levels of each input."""

    def __init__(
        self,
        gram: Gram | ArrayLike,
        weight: ArrayLike,
        levels: ArrayLike | Sequence[ArrayLike],
        *,
        nnz: int | None = None,
        pattern: tuple[int, int] | None = None,
        stride: int = 1,
    ) -> None:
        shared, vector = checked_pair(gram, weight)
        table = _table(levels, len(vector))
        super().__init__(shared, vector, Levels(table), rule_of(len(vector), nnz, pattern, stride))

    @classmethod
    def of_levels(cls, gram: Gram | ArrayLike, weight: ArrayLike, levels: Levels) -> CodebookLeastSquares:
        """The problem of level sets that are sorted already; rows that share memory go on sharing it."""
        problem = cls.__new__(cls)
        LeastSquares.__init__(problem, gram, weight, levels)
        return problem


def _table(levels: ArrayLike | Sequence[ArrayLike], n: int) -> NDArray[np.float64]:
    """The levels of each input, shape (n, m): shorter lists repeat their last level."""
    try:
        axes = np.ndim(levels)  # type: ignore[arg-type]
    except ValueError:  # lists of different lengths
        axes = 2
    if axes == 1:
        row = _checked_levels(cast(ArrayLike, levels), "")
        return np.broadcast_to(row, (n, len(row)))
    if axes == 0 or not isinstance(levels, Sequence | np.ndarray):  # a text has no axes either
        raise InputError("The levels must be a list of rising numbers, or one such list for each input.")
    if len(levels) != n:
        raise InputError(f"There must be one list of levels, or {n}, one for each input, not {len(levels)}.")
    if isinstance(levels, np.ndarray) and levels.dtype != np.object_:
        return checked_table(levels)
    given = list(cast(Sequence[Any], levels))  # held, so that no two lists have one identity
    known: dict[int, NDArray[np.float64]] = {}  # groups share their lists
    rows = []
    for i, listed in enumerate(given):
        if id(listed) not in known:
            known[id(listed)] = _checked_levels(listed, f" of input {i}")
        rows.append(known[id(listed)])
    most = max(len(row) for row in rows)
    table = np.array([np.pad(row, (0, most - len(row)), mode="edge") for row in rows])
    table.flags.writeable = False
    return table


def checked_table(levels: ArrayLike) -> NDArray[np.float64]:
    """Rows of rising levels, shape (rows, m), of which those that have fewer repeat their last one.

    Raises
    ------
    InputError
        If they are anything else.
    """
    table = as_real_array(levels, "The levels", ndim=2)
    if not 2 <= table.shape[1] <= MOST_LEVELS:
        raise InputError(f"There must be 2 to {MOST_LEVELS} levels in each row, not {table.shape[1]}.")
    wrong = np.argwhere(~rises(table))
    if len(wrong):
        row, place = wrong[0]
        a, b = table[row, place : place + 2]
        raise InputError(
            f"The levels in row {row} must rise, but after {a:g} comes {b:g}: sort them, each once; only the "
            "last may be repeated."
        )
    return table


def _checked_levels(levels: ArrayLike, where: str) -> NDArray[np.float64]:
    row = as_real_array(levels, f"The list of levels{where}", ndim=1)
    if not 2 <= len(row) <= MOST_LEVELS:
        raise InputError(f"There must be 2 to {MOST_LEVELS} levels{where}, not {len(row)}.")
    falling = np.flatnonzero(np.diff(row) <= 0.0)
    if len(falling):
        a, b = row[falling[0]], row[falling[0] + 1]
        raise InputError(f"The levels{where} must rise, but after {a:g} comes {b:g}: sort them, each once.")
    return row

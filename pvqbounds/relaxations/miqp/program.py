"""What a mixed-integer quadratic program is here.

    minimise   yᵀQy + qᵀx + constant,   y the first n of the m unknowns x,
    subject to A x <= b, with "=" in the first `equations` rows,
               lower <= x <= upper,   x_i integer where `integer`,
               (x_a / size)² <= x_b x_c (x_b, x_c >= 0) for every row (a, b, c) of `cones`.

The first n unknowns are codes or weights (in some unit), one for each input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pvqbounds.arithmetic.definite import proves_definite
from pvqbounds.errors import InputError
from pvqbounds.problems.supports import Budget

__all__ = ["MIQP", "Indicators", "budget_rows", "without_diagonal"]

INDEFINITE = 1e-9
"""Share of the trace by which the least eigenvalue of a form may miss zero: rounding explains it."""


@dataclass(frozen=True, eq=False)
class Indicators:
    """One binary unknown for every level of every input, those of an input side by side."""

    ends: NDArray[np.int64]
    """Where those of input i begin and end: ``ends[i]`` and ``ends[i + 1]``; shape (n + 1,)."""
    codes: NDArray[np.int64]
    """The code that each stands for, shape (levels,)."""
    levels: NDArray[np.float64]
    """Its value, in the unit of the unknown of its input, shape (levels,)."""

    @property
    def inputs(self) -> NDArray[np.int64]:
        """The input of each, shape (levels,)."""
        return np.repeat(np.arange(len(self.ends) - 1), np.diff(self.ends))

    def chosen(self, x: NDArray[np.float64]) -> NDArray[np.int64]:
        """The codes of the largest indicator of each input, shape (n,)."""
        best = [start + int(np.argmax(x[start:end])) for start, end in pairwise(self.ends.tolist())]
        return self.codes[best]

    def of(self, codes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of them are one at these codes, shape (levels,)."""
        return np.asarray(self.codes == codes[self.inputs])


@dataclass(frozen=True, eq=False)
class MIQP:
    """One mixed-integer quadratic program (see the module for its form)."""

    kind: Literal["quantization", "one-hot", "big-M", "perspective"]
    n: int
    """Fan-in."""
    Q: NDArray[np.float64]
    """Shape (n, n), symmetric, positive semidefinite."""
    q: NDArray[np.float64]
    """Shape (m,)."""
    constant: float
    A: Any
    """scipy.sparse.csr_matrix, shape (rows, m)."""
    b: NDArray[np.float64]
    """Shape (rows,)."""
    lower: NDArray[np.float64]
    """Shape (m,), -inf where free."""
    upper: NDArray[np.float64]
    """Shape (m,)."""
    integer: NDArray[np.bool_]
    """Shape (m,)."""
    cones: NDArray[np.int64]
    """Rows (a, b, c), shape (number, 3)."""
    sizes: NDArray[np.float64]
    """The size of x_a in each of them, shape (number,)."""
    equations: int = 0
    """The first so many rows of A are equations."""
    indicators: Indicators | None = None
    """What the unknowns from the n-th on stand for in the one-hot form."""
    start: NDArray[np.float64] | None = None
    """A feasible point, shape (m,), for solvers that can begin with one."""

    def objective(self, x: NDArray[np.float64]) -> float:
        """Value at x, shape (m,), in units of E."""
        y = x[: self.n]
        return float(y @ self.Q @ y + self.q @ x) + self.constant

    def codes(self, x: NDArray[np.float64]) -> NDArray[np.int64]:
        """Codes of a solution of a program for values that have some, shape (n,)."""
        if self.indicators is not None:
            return self.indicators.chosen(x[self.n :])
        return np.rint(x[: self.n]).astype(np.int64)

    def support(self, x: NDArray[np.float64]) -> NDArray[np.int64]:
        """Kept inputs of a solution of the big-M or the perspective form."""
        return np.flatnonzero(x[self.n : 2 * self.n] > 0.5)

    def over(self, unit: float) -> MIQP:
        """The same with its objective divided by `unit`, a power of two."""
        return replace(self, Q=self.Q / unit, q=self.q / unit, constant=self.constant / unit)


def without_diagonal(form: NDArray[np.float64], diagonal: NDArray[np.float64]) -> NDArray[np.float64]:
    """A quadratic form less a diagonal that other terms of a program make up for, shape (n, n).

    Raises
    ------
    InputError
        If the diagonal is so large that the rest is not positive semidefinite.
    """
    if not diagonal.any():
        return form
    rest: NDArray[np.float64] = form - np.diag(diagonal)
    if not proves_definite(rest, -INDEFINITE * float(np.trace(form))):
        raise InputError("The Gram matrix minus the diagonal must be positive semidefinite.")
    return rest


def budget_rows(budgets: Sequence[Budget], n: int) -> tuple[Any, NDArray[np.float64]]:
    """Rows over n keeps, one a group, and how many of each may be kept: shapes (groups, n), (groups,)."""
    inputs = np.concatenate([group for group, _ in budgets])
    group = np.repeat(np.arange(len(budgets)), [len(group) for group, _ in budgets])
    rows = sparse.csr_matrix((np.ones(len(inputs)), (group, inputs)), (len(budgets), n))
    return rows, np.array([most for _, most in budgets], dtype=np.float64)

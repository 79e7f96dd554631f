"""The relaxation of any problem as one semidefinite program: plain data, for those who solve it elsewhere.

It is the best certificate of :mod:`pvqbounds.relaxations.dual`, posed as a program. Unknown are lam, nu and
gamma with

    [[G - diag(lam), nu], [nuᵀ, gamma]]  positive semidefinite,

so that E(v) >= sum_i phi_i(v_i) - gamma, phi_i(v) = lam_i (v - w_i)² + 2 nu_i (v - w_i), for all v; and t,
theta that bound the least sum of the phi_i over what is allowed. With theta_g >= 0 the price of a non-zero
in group g:

    maximise  sum_i t_i - sum_g most_g theta_g - gamma
    finite    t_i <= phi_i(v) + theta_g(i) [v != 0]  for every value v of input i,
    real      t_i <= phi_i(0),  t_i <= theta_g(i) - s_i,  s_i lam_i >= nu_i².

Groups that may keep all have no price. The objective of any feasible point is a lower bound on the error.
Of values without a rule this is the box-hull SDP with all of its tangents, of pruning the perspective
relaxation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pvqbounds.errors import InputError
from pvqbounds.problems import Problem
from pvqbounds.problems.values import ValueSet

__all__ = ["MOST_VALUES", "SemidefiniteDual", "semidefinite_dual", "values_of_inputs"]

MOST_VALUES = 4_000_000
"""Values of all inputs together, a row each, up to which the program is written down."""

Rows = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Number of the row, unknown and coefficient of each entry."""


@dataclass(frozen=True, eq=False)
class SemidefiniteDual:
    """maximise costᵀx subject to rows x >= 0, products, and [[G - diag(lam), nu], [nuᵀ, gamma]] semidefinite.

    The unknowns x are lam (n), nu (n), gamma, t (n), theta (one a group that has a price) and, of reals,
    s (n).
    """

    gram: NDArray[np.float64]
    """G, shape (n, n)."""
    cost: NDArray[np.float64]
    """Shape (m,)."""
    rows: Any
    """scipy.sparse.csr_matrix, shape (rows, m)."""
    products: NDArray[np.int64]
    """Rows (a, b, c): x_a x_b >= x_c² with x_a, x_b >= 0; shape (number, 3)."""

    @property
    def n(self) -> int:
        """Fan-in."""
        return len(self.gram)

    @property
    def corner(self) -> int:
        """Which unknown gamma is."""
        return 2 * self.n


def semidefinite_dual(problem: Problem) -> SemidefiniteDual:
    """The relaxation of a problem, in its own units.

    Raises
    ------
    InputError
        If its values are more than :data:`MOST_VALUES`.
    """
    n, finite = problem.n, problem.values.is_finite
    priced = [(group, most) for group, most in problem.budgets if most < len(group)]
    price = np.full(n, -1)
    first = 3 * n + 1
    for number, (group, _) in enumerate(priced):
        price[group] = first + number
    least = np.array([float(most) for _, most in priced])
    count = first + len(priced)
    blocks = [_of_values(problem, price)] if finite else _of_reals(problem, price, count)
    thetas = np.arange(first, count)
    blocks.append((np.arange(len(thetas)), thetas, np.ones(len(thetas))))
    unknowns = count if finite else count + n
    cost = np.zeros(unknowns)
    cost[2 * n], cost[2 * n + 1 : first], cost[first:count] = -1.0, 1.0, -least
    inputs = np.arange(n)
    products = np.zeros((0, 3), dtype=np.int64)
    if not finite:
        products = np.stack([count + inputs, inputs, n + inputs], axis=1)
    return SemidefiniteDual(problem.gram, cost, _stacked(blocks, unknowns), products)


def values_of_inputs(values: ValueSet) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Input, code and value of every value of a finite set, those of an input side by side.

    Raises
    ------
    InputError
        If they are more than :data:`MOST_VALUES`.
    """
    low, high = values.code_ends
    counts = high - low + 1
    if int(counts.sum()) > MOST_VALUES:
        raise InputError(
            f"The inputs have {int(counts.sum())} values, a row each of the relaxation, and {MOST_VALUES} "
            "are written at most; take fewer bits, or mps or lp."
        )
    inputs, starts = np.repeat(np.arange(values.n), counts), np.cumsum(counts) - counts
    codes = np.arange(len(inputs)) - np.repeat(starts, counts) + low[inputs]
    numbers = np.empty(len(inputs))
    for k in range(int(counts.max())):  # the k-th value of each input that has so many
        own = np.flatnonzero(counts > k)
        numbers[starts[own] + k] = values.weight_of(np.minimum(low + k, high))[own]
    return inputs, codes, numbers


def _of_values(problem: Problem, price: NDArray[np.int64]) -> Rows:
    """lam u² + 2 nu u + theta [v != 0] - t >= 0 with u = v - w, a row for each value."""
    n = problem.n
    inputs, _, values = values_of_inputs(problem.values)
    u, row = values - problem.weight[inputs], np.arange(len(inputs))
    paid = np.flatnonzero((price[inputs] >= 0) & (values != 0.0))
    return _entries(
        (row, inputs, u * u),
        (row, n + inputs, 2.0 * u),
        (row, 2 * n + 1 + inputs, np.full(len(row), -1.0)),
        (paid, price[inputs[paid]], np.ones(len(paid))),
    )


def _of_reals(problem: Problem, price: NDArray[np.int64], first: int) -> list[Rows]:
    """t <= phi(0) where a budget holds, and t <= theta - s; s stands from unknown `first` on."""
    n, w = problem.n, problem.weight
    inputs, limited = np.arange(n), np.flatnonzero(price >= 0)
    number = np.arange(len(limited))
    zero = _entries(
        (number, limited, w[limited] ** 2),
        (number, n + limited, -2.0 * w[limited]),
        (number, 2 * n + 1 + limited, np.full(len(limited), -1.0)),
    )
    kept = _entries(
        (inputs, 2 * n + 1 + inputs, np.full(n, -1.0)),
        (inputs, first + inputs, np.full(n, -1.0)),
        (limited, price[limited], np.ones(len(limited))),
    )
    return [zero, kept]


def _entries(*parts: Rows) -> Rows:
    rows, unknowns, numbers = zip(*parts, strict=True)
    return np.concatenate(rows), np.concatenate(unknowns), np.concatenate(numbers)


def _stacked(blocks: list[Rows], unknowns: int) -> Any:
    """The rows of all blocks, one below the other."""
    heights = [int(rows.max(initial=-1)) + 1 for rows, _, _ in blocks]
    matrices = [
        sparse.csr_matrix((numbers, (rows, columns)), (height, unknowns))
        for height, (rows, columns, numbers) in zip(heights, blocks, strict=True)
    ]
    return sparse.csr_matrix(sparse.vstack(matrices))

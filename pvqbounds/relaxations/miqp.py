"""Both problems as mixed-integer quadratic programs: plain data for any backend.

    minimise   xᵀQx + qᵀx + constant
    subject to A x <= b,  lower <= x <= upper,  x_i integer where `integer`,
               x_a² <= x_b x_c (x_b, x_c >= 0) for every row (a, b, c) of `cones`.

- **Quantization**: x = z - the codes themselves; objective E(s z).
- **Pruning, big-M**: x = (u, k), u = v - w, k_i in {0, 1} whether input i is kept. A removed input
  has u_i = -w_i, a kept one |u_i| <= M_i:  u_i <= -w_i + (M_i + w_i) k_i and
  -u_i <= w_i + (M_i - w_i) k_i. M is proved: some optimal v has E(v) <= U for the error U of any
  allowed weight, and E(v) <= U implies |v_i - w_i| <= sqrt(U (G⁻¹)_ii).
- **Pruning, perspective**: G = H + diag(D), D > 0 and H positive semidefinite. With x = (v, k, s)
  the term D_i v_i² is replaced by D_i s_i, v_i² <= s_i k_i, which is the same for k_i in {0, 1}
  and far tighter between; no M is needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.definite import proved_shift, proves_definite
from pvqbounds.errors import InputError
from pvqbounds.problems import IntegerLeastSquares, SparseLeastSquares, magnitude_support

__all__ = ["MIQP", "big_m_program", "integer_program", "perspective_program", "proved_big_m"]


@dataclass(frozen=True, eq=False)
class MIQP:
    """One mixed-integer quadratic program (see the module for its form)."""

    kind: Literal["quantization", "big-M", "perspective"]
    Q: NDArray[np.float64]
    """Shape (m, m), symmetric, positive semidefinite."""
    q: NDArray[np.float64]
    """Shape (m,)."""
    constant: float
    A: NDArray[np.float64]
    """Shape (rows, m)."""
    b: NDArray[np.float64]
    """Shape (rows,)."""
    lower: NDArray[np.float64]
    """Shape (m,), -inf where free."""
    upper: NDArray[np.float64]
    """Shape (m,)."""
    integer: NDArray[np.bool_]
    """Shape (m,)."""
    cones: NDArray[np.int64]
    """Rows (a, b, c): x_a² <= x_b x_c; shape (number, 3)."""
    n: int
    """Fan-in: x starts with the n codes or weights, then come the n keeps k of a pruning program."""
    start: NDArray[np.float64] | None = None
    """A feasible point, shape (m,), for solvers that can begin with one."""

    def objective(self, x: NDArray[np.float64]) -> float:
        """Value at x, shape (m,), in units of E."""
        return float(x @ self.Q @ x + self.q @ x) + self.constant

    def codes(self, x: NDArray[np.float64]) -> NDArray[np.int64]:
        """Codes of a solution of a quantization program, rounded to whole numbers, shape (n,)."""
        return np.rint(x[: self.n]).astype(np.int64)

    def support(self, x: NDArray[np.float64]) -> NDArray[np.int64]:
        """Kept inputs of a solution of a pruning program."""
        return np.flatnonzero(x[self.n : 2 * self.n] > 0.5)


def integer_program(problem: IntegerLeastSquares) -> MIQP:
    """Quantization of one channel: minimise (z - c)ᵀ P (z - c), P = s²G, over codes z in the box."""
    P = problem.gram * problem.step[:, None] * problem.step
    pull = P @ problem.centre
    n = problem.n
    return MIQP(
        kind="quantization",
        Q=P,
        q=-2.0 * pull,
        constant=float(problem.centre @ pull),
        A=np.zeros((0, n)),
        b=np.zeros(0),
        lower=problem.low.copy(),
        upper=problem.high.copy(),
        integer=np.ones(n, dtype=bool),
        cones=np.zeros((0, 3), dtype=np.int64),
        n=n,
    )


def proved_big_m(problem: SparseLeastSquares, error: float | None = None) -> NDArray[np.float64]:
    """Bounds M_i >= |v_i - w_i| for every weight v with E(v) <= `error`, rounded up, shape (n,).

    Let B be the float64 inverse of G and F = G B - I. Then |(G⁻¹ - B) e_i| = |G⁻¹ F e_i| <=
    ||F e_i|| / mu with a proved mu <= lambda_min(G), so (G⁻¹)_ii <= B_ii + ||F e_i|| / mu.

    Parameters
    ----------
    problem
        Pruning of one channel.
    error
        An error that some allowed weight attains; by default that of magnitude pruning, re-fitted.

    Raises
    ------
    InputError
        If the Gram cannot be proved positive definite: then no M exists.
    """
    n, gram = problem.n, problem.gram
    smallest = proved_shift(gram)
    if smallest is None:
        raise InputError(
            "A big-M needs a positive definite Gram matrix, and this one is singular: "
            "use method='exact' with solver='native', which needs none."
        )
    if error is None:
        error = problem.error(problem.refit(magnitude_support(problem))).upper
    inverse = np.linalg.inv(gram)
    # 4 (n + 4) u covers the rounding of the product and of the sums, see Higham, section 3.1
    residual = np.abs(gram @ inverse - np.eye(n))
    residual += (n + 4) * 2.0**-51 * (np.abs(gram) @ np.abs(inverse) + np.eye(n))
    column = np.linalg.norm(residual, axis=0) * (1.0 + 1e-12)
    variance = (np.abs(np.diagonal(inverse)) + column / smallest) * (1.0 + 1e-12)
    M: NDArray[np.float64] = np.sqrt(max(error, 0.0) * variance) * (1.0 + 1e-12) + 1e-300
    return M


def big_m_program(problem: SparseLeastSquares, error: float | None = None) -> MIQP:
    """Pruning of one channel with a proved big-M; x = (u, k), u = v - w.

    Raises
    ------
    InputError
        If the Gram is singular (see :func:`proved_big_m`).
    """
    n, w, M = problem.n, problem.weight, proved_big_m(problem, error)
    eye, none = np.eye(n), np.zeros((n, n))
    # a kept input has u <= M, a removed one u = -w; M >= |w| keeps both rows valid at k = 1
    M = np.maximum(M, np.abs(w))
    budget, kept = _budgets(problem)
    return MIQP(
        kind="big-M",
        Q=np.block([[problem.gram, none], [none, none]]),
        q=np.zeros(2 * n),
        constant=0.0,
        A=np.block([[eye, -np.diag(M + w)], [-eye, -np.diag(M - w)], [np.zeros_like(budget), budget]]),
        b=np.concatenate([-w, w, kept]),
        lower=np.concatenate([-M, np.zeros(n)]),
        upper=np.concatenate([M, np.ones(n)]),
        integer=np.repeat([False, True], n),
        cones=np.zeros((0, 3), dtype=np.int64),
        n=n,
    )


def perspective_program(problem: SparseLeastSquares, diagonal: NDArray[np.float64] | None = None) -> MIQP:
    """Pruning of one channel with perspective terms; x = (v, k, s).

    Parameters
    ----------
    problem
        Pruning of one channel.
    diagonal
        D, shape (n,), entries >= 0 with G - diag(D) positive semidefinite; by default almost the
        least eigenvalue of G throughout.

    Raises
    ------
    InputError
        If D is negative or too large, or the Gram is singular and no D is given.
    """
    n, w, gram = problem.n, problem.weight, problem.gram
    if diagonal is None:
        smallest = proved_shift(gram)
        if smallest is None:
            raise InputError(
                "The perspective form needs a positive definite Gram matrix, and this one is singular: "
                "use method='exact' with solver='native', which needs none."
            )
        diagonal = np.full(n, smallest)
    if diagonal.shape != (n,) or not (diagonal >= 0.0).all():
        raise InputError(f"The diagonal of a perspective form must be {n} numbers, none of them negative.")
    rest = gram - np.diag(diagonal)
    if not proves_definite(rest, -1e-9 * float(np.trace(gram))):
        raise InputError("The Gram matrix minus the diagonal of a perspective form must be semidefinite.")
    pull = gram @ w
    none = np.zeros((n, n))
    budget, kept = _budgets(problem)
    inputs = np.arange(n)
    return MIQP(
        kind="perspective",
        Q=np.block([[rest, none, none], [none, none, none], [none, none, none]]),
        q=np.concatenate([-2.0 * pull, np.zeros(n), diagonal]),
        constant=float(w @ pull),
        A=np.hstack([np.zeros_like(budget), budget, np.zeros_like(budget)]),
        b=kept,
        lower=np.concatenate([np.full(n, -math.inf), np.zeros(2 * n)]),
        upper=np.concatenate([np.full(n, math.inf), np.ones(n), np.full(n, math.inf)]),
        integer=np.repeat([False, True, False], n),
        cones=np.stack([inputs, 2 * n + inputs, n + inputs], axis=1),
        n=n,
    )


def _budgets(problem: SparseLeastSquares) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows over k, one a group, and how many may be kept: shapes (groups, n), (groups,)."""
    rows = np.zeros((len(problem.budgets), problem.n))
    kept = np.zeros(len(problem.budgets))
    for row, (group, budget) in enumerate(problem.budgets):
        rows[row, group] = 1.0
        kept[row] = budget
    return rows, kept

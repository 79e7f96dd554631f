"""Pruning as mixed-integer quadratic programs, posed in two ways.

- **big-M**: x = (u, k), u = v - w, k_i in {0, 1} whether input i is kept. A removed input has u_i = -w_i,
  a kept one |u_i| <= M_i:  u_i <= -w_i + (M_i + w_i) k_i and -u_i <= w_i + (M_i - w_i) k_i. M is proved:
  some optimal v has E(v) <= U for the error U of any allowed weight, and E(v) <= U implies
  |v_i - w_i| <= sqrt(U (G⁻¹)_ii).
- **perspective**: G = H + diag(D), D > 0 and H positive semidefinite. With x = (v, k, s) the term D_i v_i²
  is replaced by D_i s_i, v_i² <= s_i k_i, which is the same for k_i in {0, 1} and far tighter between; no
  M is needed.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pvqbounds.arithmetic.definite import proved_shift
from pvqbounds.errors import InputError
from pvqbounds.problems import Problem, SparseLeastSquares, magnitude_support
from pvqbounds.problems.units import scaled_up
from pvqbounds.relaxations.miqp.program import MIQP, budget_rows, without_diagonal

__all__ = ["big_m_program", "perspective_program", "proved_big_m", "proved_reach"]


class SingularGramError(InputError):
    """A Gram that is not proved definite: weights of little error may lie anywhere."""


def proved_big_m(problem: SparseLeastSquares, error: float | None = None) -> NDArray[np.float64]:
    """Bounds M_i >= |v_i - w_i| for every weight v with E(v) <= `error`, rounded up, shape (n,).

    Parameters
    ----------
    problem
        Pruning of one channel.
    error
        An error that some allowed weight attains; by default that of magnitude pruning, re-fitted.

    Raises
    ------
    SingularGramError
        If the Gram cannot be proved positive definite: then no M exists.
    """
    if error is None:
        error = problem.error(problem.refit(magnitude_support(problem))).upper
    reach = proved_reach(problem, error)
    if reach is None:
        raise SingularGramError(
            "A big-M needs a positive definite Gram matrix, and this one is singular: "
            "use method='exact' with solver='native', which needs none."
        )
    return reach


def proved_reach(problem: Problem, error: float) -> NDArray[np.float64] | None:
    """Bounds on |v_i - w_i| for every v with E(v) <= `error`, rounded up, shape (n,); None if G is singular.

    Let B be the float64 inverse of G and F = G B - I. Then |(G⁻¹ - B) e_i| = |G⁻¹ F e_i| <=
    ||F e_i|| / mu with a proved mu <= lambda_min(G), so (G⁻¹)_ii <= B_ii + ||F e_i|| / mu.
    """
    units = problem.units
    if units != (0, 0):
        inner = proved_reach(problem.normalised, scaled_up(error, -units.error))
        return None if inner is None else np.ldexp(inner, units.weight)
    n, gram = problem.n, problem.gram
    smallest = proved_shift(gram)
    if smallest is None:
        return None
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
    SingularGramError
        If the Gram is singular (see :func:`proved_big_m`).
    """
    n, w, M = problem.n, problem.weight, proved_big_m(problem, error)
    eye = sparse.identity(n)
    # a kept input has u <= M, a removed one u = -w; M >= |w| keeps both rows valid at k = 1
    M = np.maximum(M, np.abs(w))
    budget, most = budget_rows(problem.budgets, n)
    return MIQP(
        kind="big-M",
        n=n,
        Q=problem.gram,
        q=np.zeros(2 * n),
        constant=0.0,
        A=sparse.csr_matrix(
            sparse.bmat([[eye, -sparse.diags(M + w)], [-eye, -sparse.diags(M - w)], [None, budget]])
        ),
        b=np.concatenate([-w, w, most]),
        lower=np.concatenate([-M, np.zeros(n)]),
        upper=np.concatenate([M, np.ones(n)]),
        integer=np.repeat([False, True], n),
        cones=np.zeros((0, 3), dtype=np.int64),
        sizes=np.zeros(0),
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
    if not (diagonal >= 0.0).all():
        raise InputError("The diagonal of a perspective form must not be negative.")
    pull = gram @ w
    budget, most = budget_rows(problem.budgets, n)
    nothing = sparse.csr_matrix(budget.shape)
    inputs = np.arange(n)
    return MIQP(
        kind="perspective",
        n=n,
        Q=without_diagonal(gram, diagonal),
        q=np.concatenate([-2.0 * pull, np.zeros(n), diagonal]),
        constant=float(w @ pull),
        A=sparse.csr_matrix(sparse.hstack([nothing, budget, nothing])),
        b=most,
        lower=np.concatenate([np.full(n, -math.inf), np.zeros(2 * n)]),
        upper=np.concatenate([np.full(n, math.inf), np.ones(n), np.full(n, math.inf)]),
        integer=np.repeat([False, True, False], n),
        cones=np.stack([inputs, 2 * n + inputs, n + inputs], axis=1),
        sizes=np.ones(n),
    )

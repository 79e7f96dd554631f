"""Values that have codes as mixed-integer quadratic programs: steps, levels, and both under a support rule.

- **Steps** v_i = s_i z_i: the codes z themselves, whole numbers in their box; objective E(s z).
- **Steps under a rule**: x = (z, k), k_i in {0, 1} whether input i is kept, low_i k_i <= z_i <= high_i k_i:
  the box is the big M. The perspective form has x = (z, k, s) and replaces the part D_i v_i² of the error
  by a multiple of s_i as it does for pruning (:mod:`~pvqbounds.relaxations.miqp.pruning`).
- **Levels** l_ij: x = (v, b), b_ij in {0, 1}, sum_j b_ij = 1, v_i = sum_j l_ij b_ij ("one-hot"). The
  objective is dense in the n weights alone. On such b a separable part of it is linear,
  lam_i (v_i - w_i)² = sum_j lam_i (l_ij - w_i)² b_ij, for any real lam with G - diag(lam) positive
  semidefinite; with the multipliers of the relaxation (:mod:`pvqbounds.relaxations.dual`) the program's
  continuous relaxation is no weaker than that. A rule limits the b_ij of levels that are not 0.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pvqbounds.arithmetic.definite import proved_shift
from pvqbounds.errors import InputError
from pvqbounds.problems import LeastSquares, Problem
from pvqbounds.problems.values import ValueSet
from pvqbounds.relaxations.miqp.program import MIQP, Indicators, budget_rows, without_diagonal
from pvqbounds.relaxations.miqp.pruning import proved_reach

__all__ = [
    "indicators_of",
    "integer_program",
    "joint_perspective_program",
    "joint_program",
    "one_hot_program",
]


def indicators_of(problem: Problem) -> int:
    """Binary unknowns that the one-hot form of a problem takes; 0 for values that have another form."""
    values = problem.settled.values
    if not values.is_finite or values.lattice is not None:
        return 0
    low, high = values.code_ends
    return int((high - low + 1).sum())


def integer_program(problem: LeastSquares) -> MIQP:
    """Steps: minimise (z - c)ᵀ P (z - c), P = diag(s) G diag(s), c = w/s, over codes z in the box.

    Raises
    ------
    InputError
        If the values are no steps.
    """
    n = problem.n
    P, centre, (low, high) = _in_codes(problem)
    pull = P @ centre
    return MIQP(
        kind="quantization",
        n=n,
        Q=P,
        q=-2.0 * pull,
        constant=float(centre @ pull),
        A=sparse.csr_matrix((0, n)),
        b=np.zeros(0),
        lower=low,
        upper=high,
        integer=np.ones(n, dtype=bool),
        cones=np.zeros((0, 3), dtype=np.int64),
        sizes=np.zeros(0),
    )


def joint_program(problem: LeastSquares, error: float = math.inf) -> MIQP:
    """Steps under a support rule; x = (z, k), which the box alone ties together.

    Parameters
    ----------
    problem
        Steps whose boxes hold 0.
    error
        An error that some allowed codes attain: boxes end where more is unavoidable.

    Raises
    ------
    InputError
        If the values are no steps.
    """
    n = problem.n
    P, centre, box = _in_codes(problem)
    low, high = _box_within(problem, box, error)
    pull = P @ centre
    budget, most = budget_rows(problem.budgets, n)
    eye = sparse.identity(n)
    rows = sparse.bmat([[eye, -sparse.diags(high)], [-eye, sparse.diags(low)], [None, budget]])
    return MIQP(
        kind="big-M",
        n=n,
        Q=P,
        q=np.concatenate([-2.0 * pull, np.zeros(n)]),
        constant=float(centre @ pull),
        A=sparse.csr_matrix(rows),
        b=np.concatenate([np.zeros(2 * n), most]),
        lower=np.concatenate([low, np.zeros(n)]),
        upper=np.concatenate([high, np.ones(n)]),
        integer=np.ones(2 * n, dtype=bool),
        cones=np.zeros((0, 3), dtype=np.int64),
        sizes=np.zeros(0),
    )


def joint_perspective_program(
    problem: LeastSquares, diagonal: NDArray[np.float64], error: float = math.inf
) -> MIQP:
    """The same with perspective terms; x = (z, k, s), (z_i / size_i)² <= s_i k_i.

    Parameters
    ----------
    problem, error
        As for :func:`joint_program`.
    diagonal
        D, shape (n,), entries >= 0 with G - diag(D) positive semidefinite.

    Raises
    ------
    InputError
        If the values are no steps, or D is negative or too large.
    """
    plain = joint_program(problem, error)
    if not (diagonal >= 0.0).all():
        raise InputError("The diagonal of a perspective form must not be negative.")
    n, inputs = problem.n, np.arange(problem.n)
    D = diagonal * _steps(problem.values) ** 2
    # s is z² in units of a square at the ends of the box: codes of a fine grid are large
    sizes = np.exp2(np.ceil(np.log2(np.maximum(1.0, np.maximum(-plain.lower, plain.upper)[:n]))))
    return MIQP(
        kind="perspective",
        n=n,
        Q=without_diagonal(plain.Q, D),
        q=np.concatenate([plain.q, D * sizes**2]),
        constant=plain.constant,
        A=sparse.csr_matrix(sparse.hstack([plain.A, sparse.csr_matrix((len(plain.b), n))])),
        b=plain.b,
        lower=np.concatenate([plain.lower, np.zeros(n)]),
        upper=np.concatenate([plain.upper, np.full(n, math.inf)]),
        integer=np.repeat([True, True, False], n),
        cones=np.stack([inputs, 2 * n + inputs, n + inputs], axis=1),
        sizes=sizes,
    )


def one_hot_program(
    problem: LeastSquares,
    diagonal: NDArray[np.float64] | None = None,
    power: NDArray[np.int64] | None = None,
) -> MIQP:
    """Any finite values, under a rule or without one, with an indicator for each; x = (v, b).

    Parameters
    ----------
    problem
        Values of any kind; it is for those that are no steps.
    diagonal
        lam, shape (n,), of any sign with G - diag(lam) positive semidefinite: the part of the error that is
        linear in b; by default almost the least eigenvalue throughout of G in the units of x, or zero.
    power
        x holds 2**power_i v_i in place of v_i, so that inputs of very different size are no harder than
        others; zeros by default, shape (n,).

    Raises
    ------
    InputError
        If lam is too large.
    """
    n = problem.n
    power = np.zeros(n, dtype=np.int64) if power is None else power
    gram = np.ldexp(problem.gram, -power[:, None] - power)
    w, values = np.ldexp(problem.weight, power), problem.values.times(power)
    lam = np.full(n, proved_shift(gram) or 0.0) if diagonal is None else np.ldexp(diagonal, -2 * power)
    rest = without_diagonal(gram, lam)
    pull = rest @ w
    indicators = _indicators(values)
    inputs, levels = indicators.inputs, indicators.levels
    count = len(levels)
    one_each = sparse.csr_matrix((np.ones(count), (inputs, np.arange(count))), (n, count))
    blocks = [[None, one_each], [-sparse.identity(n), one_each @ sparse.diags(levels)]]
    right = [np.ones(n), np.zeros(n)]
    if problem.is_restricted:
        budget, most = budget_rows(problem.budgets, n)
        blocks.append([None, budget @ one_each @ sparse.diags((levels != 0.0).astype(np.float64))])
        right.append(most)
    return MIQP(
        kind="one-hot",
        n=n,
        Q=rest,
        q=np.concatenate([-2.0 * pull, lam[inputs] * (levels - w[inputs]) ** 2]),
        constant=float(w @ pull),
        A=sparse.csr_matrix(sparse.bmat(blocks)),
        b=np.concatenate(right),
        lower=np.concatenate([values.lowest, np.zeros(count)]),
        upper=np.concatenate([values.highest, np.ones(count)]),
        integer=np.repeat([False, True], [n, count]),
        cones=np.zeros((0, 3), dtype=np.int64),
        sizes=np.zeros(0),
        equations=2 * n,
        indicators=indicators,
    )


def _steps(values: ValueSet) -> NDArray[np.float64]:
    """s, shape (n,), of values that are steps."""
    if values.lattice is None:
        raise InputError("Levels that are no whole multiples of a step take the one-hot form.")
    return values.lattice


def _in_codes(
    problem: LeastSquares,
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """P, shape (n, n), c, shape (n,), and the box of codes, shape (n,) each."""
    step = _steps(problem.values)
    low, high = problem.values.code_ends
    form = problem.gram * step[:, None] * step
    return form, problem.weight / step, (low.astype(np.float64), high.astype(np.float64))


def _box_within(
    problem: LeastSquares, box: tuple[NDArray[np.float64], NDArray[np.float64]], error: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The part of a box of codes where their error can be at most `error`, and 0.

    A box of a million codes would let a k within the solver's tolerance of 0 pass for 0 where z is not.
    """
    low, high = box
    reach = proved_reach(problem, error) if math.isfinite(error) else None
    if reach is None:
        return low, high
    step = _steps(problem.values)
    # a code more than needed pays for the rounding of the division
    least = np.floor((problem.weight - reach) / step) - 1.0
    most = np.ceil((problem.weight + reach) / step) + 1.0
    return np.minimum(np.maximum(low, least), 0.0), np.maximum(np.minimum(high, most), 0.0)


def _indicators(values: ValueSet) -> Indicators:
    """One for every code of every input."""
    low, high = values.code_ends
    counts = high - low + 1
    # column k holds the k-th value of each input, its last one where it has fewer
    table = np.stack([values.weight_of(np.minimum(low + k, high)) for k in range(int(counts.max()))], axis=1)
    there = np.arange(table.shape[1]) < counts[:, None]
    codes = low[:, None] + np.arange(table.shape[1])
    return Indicators(np.concatenate([[0], np.cumsum(counts)]), codes[there], table[there])

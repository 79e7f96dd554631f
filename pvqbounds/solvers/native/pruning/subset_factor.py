"""The reduced problem behind a subset search, and what its floating-point costs prove.

**Exact reductions.** An input whose row of the Gram is zero costs nothing and is dropped.
Inputs of one group with identical rows act as one input that carries the sum of their weights:
at most one of them needs to be kept.

**Scaling.** Powers of two bring all inputs to about the same power: no rounding, and an input of
large power does not spoil the accuracy of the others.

**Minorant.** Cholesky's factorisation of fl(G + s I) gives an upper triangular R with
G + tau I >= RᵀR, tau = s + margin (:mod:`pvqbounds.arithmetic.definite` derives the margin).
s = -margin is tried first: where it succeeds G is proved positive definite, tau = 0, and costs
prove bounds. Otherwise s is raised until the factorisation succeeds: with that ridge the search
still finds good supports, but it proves nothing, since E(v) >= ||R (v - w)||² - tau ||v - w||² says
nothing of re-fits that are large enough, and those of a numerically singular Gram may be.

**Costs.** Let W be the float64 inverse of R and f >= ||R W - I||, so that ||R x|| >= (1 - f)
||W⁻¹ x||. Removing the inputs T costs at least (1 - f)² min {||y||² : W_T y = -w_T}, found by
reflecting the rows W_T onto coordinate axes one after the other and substituting forwards.

**Rounding.** Write u for the unit roundoff and r for the length of the rows. A computed
reflection I - beta h hᵀ has |error of h_1| <= (r/2 + 2) u |h_1|, a relative error of beta of at
most (r + 5) u, an error of the inner product of r u |h| |row|, and four roundings more; with
beta |h|² = 2 the row moves by at most (6 r + 28) u of its length. Forward substitution in k
steps is exact for factors changed by (k + 4) u of themselves. Together the computed y solves
(W + dW)_T y = -w_T with rows |dW_j| <= eta |W_j|,

    eta = 1.01 (k (6 n + 28) + n + 4) u,

and because W + dW = W (I + W⁻¹ dW), the true minimum satisfies ||y_true|| >= (1 - alpha) ||y||
where alpha = eta sqrt(k) (sum_j |W_j|² |R_j|²)^(1/2) / (1 - f) >= ||W⁻¹ dW||. This is the
square root of the condition number times u. The
sum of squares and the comparisons with the threshold add (4 n + 40) u.

**Elimination.** The same minimum is w_Tᵀ C_TT⁻¹ w_T for C = W Wᵀ, and Cholesky's elimination of T from C
has it in fewer operations, and less accurately. With c_i² = C_ii, C is computed to gamma_(n+2) c_i c_j;
row d of the factor is C_ij - sum_t l_ti l_tj in at most k + 8 roundings of terms that add up to
2.02 c_i c_j (Cauchy and Schwarz), what is left of the diagonal likewise, and forward substitution is exact
for factors changed by gamma_(k+5) of themselves (Higham, theorem 8.5). So the computed cost is, but
for (k + 4) u of itself, the exact one of a matrix that is epsilon c_i c_j from C at most, epsilon =
1.1 (n + 5 k + 50) u, and at most 1 / (1 - alpha') times that of C:

    alpha' = k epsilon / lambda_min,     1 / lambda_min <= || (R_ij |W_j|) ||² / (1 - f)²,

lambda_min the least eigenvalue of C scaled to a diagonal of ones. It is the condition number itself times
u. A cost by elimination that is `slack` = 1 / (1 - alpha') times a cost proves what that does.

Merged weights are
rounded sums: by the triangle inequality in the norm of G, that costs at most
beta = sum_c sqrt(G_cc) |rounding of w_c| in the square root of E.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from pvqbounds.arithmetic.enclosures import TINY, UNIT, down, gamma, up
from pvqbounds.problems import SparseLeastSquares

__all__ = ["Eliminated", "ProvedFactor", "SubsetFactor", "proved_factor", "subset_factor"]

LEAST_ACCURACY = 0.9
"""A factor with larger rounding errors, relative to the square root of a cost, is not used."""

MOST_SLACK = 1.0001
"""Where elimination needs more, the rows are reflected: many sets may lie within the slack."""


class Eliminated(NamedTuple):
    """What inputs are eliminated from."""

    matrix: NDArray[np.float64]
    """C = W Wᵀ, shape (m, m)."""
    slack: float
    """A cost by elimination that is so many times a cost proves as much."""


class ProvedFactor(NamedTuple):
    """An upper triangular R with xᵀAx >= ||Rx||² for a matrix A, and what costs in it are worth."""

    factor: NDArray[np.float64]
    """R, shape (m, m)."""
    rows: NDArray[np.float64]
    """W, its computed inverse."""
    relative: float
    """Accuracy of square roots of costs by reflections."""
    eliminated: Eliminated | None
    """None where elimination loses too much."""


@dataclass(frozen=True, eq=False)
class SubsetFactor:
    """A reduced, scaled problem: remove ``need[g]`` inputs of each group g, at least cost.

    Costs are in units of ``2**exponent``.
    """

    members: tuple[NDArray[np.int64], ...]
    """The inputs behind each reduced input."""
    gram: NDArray[np.float64]
    """Scaled Gram of the reduced inputs, shape (m, m)."""
    weight: NDArray[np.float64]
    """Their scaled weights, shape (m,)."""
    group: NDArray[np.int64]
    """Budget group of each, shape (m,)."""
    need: NDArray[np.int64]
    """How many of each group have to go, shape (groups,)."""
    rows: NDArray[np.float64]
    """W, shape (m, m)."""
    eliminated: Eliminated | None
    """C = W Wᵀ; None where rows have to be reflected."""
    power: NDArray[np.int64]
    """Weights are in units of ``2**(exponent // 2 - power)``, Gram entries of ``2**(power_i + power_j)``."""
    exponent: int
    relative: float
    """(1 - f)(1 - alpha) and the rounding of sums, rounded down."""
    beta: float
    """Absolute error of the square root of a cost."""
    definite: bool
    """Whether the Gram is proved positive definite; otherwise `rows` belong to it with a ridge, and no
    cost proves a bound."""

    @property
    def removals(self) -> int:
        """How many inputs have to go."""
        return int(self.need.sum())

    def threshold(self, value: float) -> float:
        """Return the computed cost from which on a set is proved to have an error of at least `value`."""
        with np.errstate(over="ignore"):
            scaled = float(np.ldexp(value, -self.exponent))
        return self._scaled_threshold(scaled) if self.definite else math.inf

    def proved(self, cost: float) -> float:
        """Return an error that :meth:`threshold` proves for sets of this computed cost; never negative."""
        if not self.definite:
            return 0.0
        # one part in 1e12 and the error of the costs once more: a repetition on another machine
        # rounds differently
        slack = 1.0 - 1e-12 - 2.0 * (1.0 - self.relative)
        value = max(self.relative * math.sqrt(cost) * slack - self.beta, 0.0) ** 2
        step = 1e-12
        while value > 0.0 and self._scaled_threshold(value) > cost:
            value, step = value * (1.0 - step) - TINY, 2.0 * step
        return max(down(float(np.ldexp(value, self.exponent))), 0.0)

    def _scaled_threshold(self, value: float) -> float:
        root = up(math.sqrt(up(max(value, 0.0))) + self.beta, 3)
        return up((root / self.relative) ** 2, 6)

    def support(self, removed: NDArray[np.int64]) -> NDArray[np.int64]:
        """Original inputs kept when the reduced inputs `removed` go: one for each of the others."""
        gone = set(removed.tolist())
        kept = [members[0] for i, members in enumerate(self.members) if i not in gone]
        return np.sort(np.array(kept, dtype=np.int64))


def subset_factor(problem: SparseLeastSquares) -> SubsetFactor:
    """Reduce, scale and factor `problem`."""
    members, group, need = _reduce(problem)
    first = [m[0] for m in members]
    gram = problem.gram[np.ix_(first, first)]
    weight, beta = _merged_weights(problem, members)
    # powers of two: inputs to about unit power, then weights to at most one
    power = _half_exponents(np.diagonal(gram))
    step = _largest_exponent(weight, power)
    gram = np.ldexp(gram, -power[:, None] - power)
    weight = np.ldexp(weight, power - step)
    rows, relative, eliminated, definite = _minorant(gram, int(need.sum()))
    return SubsetFactor(
        members=members,
        gram=gram,
        weight=weight,
        group=group,
        need=need,
        rows=rows,
        eliminated=eliminated,
        power=power,
        exponent=2 * step,
        relative=relative,
        beta=up(math.ldexp(beta, -step) + TINY, 2),
        definite=definite,
    )


def _reduce(
    problem: SparseLeastSquares,
) -> tuple[tuple[NDArray[np.int64], ...], NDArray[np.int64], NDArray[np.int64]]:
    """Classes of inputs that act as one, their group, and the removals left to each group."""
    members: list[NDArray[np.int64]] = []
    group: list[int] = []
    need: list[int] = []
    for g, (inputs, kept) in enumerate(problem.budgets):
        classes: dict[bytes, list[int]] = {}
        for i in inputs.tolist():
            row = problem.gram[i]
            if row.any():
                classes.setdefault((row + 0.0).tobytes(), []).append(i)  # + 0.0: no negative zeros
        members += [np.array(c, dtype=np.int64) for c in classes.values()]
        group += [g] * len(classes)
        need.append(max(0, len(classes) - kept))
    return tuple(members), np.array(group, dtype=np.int64), np.array(need, dtype=np.int64)


def _merged_weights(
    problem: SparseLeastSquares, members: tuple[NDArray[np.int64], ...]
) -> tuple[NDArray[np.float64], float]:
    """Weight of each class, and beta: what its rounding moves the square root of E by."""
    weight = np.array([math.fsum(problem.weight[m].tolist()) for m in members])
    beta = math.fsum(
        math.sqrt(abs(problem.gram[m[0], m[0]])) * UNIT * abs(total)
        for m, total in zip(members, weight.tolist(), strict=True)
        if len(m) > 1
    )
    return weight, up(2.0 * beta, 4)


def _half_exponents(diagonal: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return k with diagonal about 4**k; the largest where an entry is not positive."""
    if not (diagonal > 0.0).any():
        return np.zeros(len(diagonal), dtype=np.int64)
    used = np.where(diagonal > 0.0, diagonal, diagonal.max())
    return np.frexp(used)[1].astype(np.int64) // 2


def _largest_exponent(weight: NDArray[np.float64], power: NDArray[np.int64]) -> int:
    used = weight != 0.0
    return int((np.frexp(weight[used])[1] + power[used]).max()) if used.any() else 0


def _minorant(
    gram: NDArray[np.float64], removals: int
) -> tuple[NDArray[np.float64], float, Eliminated | None, bool]:
    """W, the accuracy of costs by it, what inputs are eliminated from, and whether costs prove anything."""
    n = len(gram)
    trace = math.fsum(np.abs(np.diagonal(gram)).tolist())
    if n == 0 or removals == 0 or trace == 0.0:
        return np.zeros((n, n)), 1.0, None, True
    base = _margin(n, 2.0 * trace)
    dominant = float(np.abs(gram).sum(axis=1).max())  # entries that are no Gram's but for its rounding
    ladder = (base * 4.0**attempt for attempt in range(60))
    for shift in (-base, *ladder, *(dominant * 4.0**attempt for attempt in range(1, 30))):
        found = _factored(gram, shift, removals)
        if found is not None:
            return found.rows, found.relative, found.eliminated, shift < 0.0
    raise ArithmeticError("a large enough shift makes any symmetric matrix positive definite")


def proved_factor(matrix: NDArray[np.float64], removals: int) -> ProvedFactor | None:
    """Factor a matrix, rounded down.

    None where it is not definite by more than rounding, or too ill-conditioned to be of use.
    """
    margin = _margin(len(matrix), 2.0 * math.fsum(np.abs(np.diagonal(matrix)).tolist()))
    return _factored(matrix, -margin, removals)


def _margin(n: int, trace: float) -> float:
    """Bound on the backward error of a Cholesky factorisation, as in relaxations.definite."""
    return up(2.0 * gamma(n + 3) * trace + TINY, 4)


def _factored(gram: NDArray[np.float64], shift: float, removals: int) -> ProvedFactor | None:
    """R and W for G + shift I, rounded down; None where that is not definite, or costs are too inaccurate."""
    shifted = gram.copy()
    shifted[np.diag_indices(len(gram))] = np.nextafter(np.diagonal(gram) + shift, -np.inf)
    factor, info = lapack.dpotrf(shifted, lower=0, clean=1)
    if info != 0 or not np.isfinite(factor).all():
        return None
    inverse, info = lapack.dtrtri(factor, lower=0)
    if info != 0 or not np.isfinite(inverse).all():
        return None
    rows = np.ascontiguousarray(inverse)
    off = _residual(factor, rows)
    relative = _accuracy(factor, rows, removals, off)
    if not relative >= LEAST_ACCURACY:
        return None
    return ProvedFactor(factor, rows, relative, _eliminated(factor, rows, removals, off))


def _residual(R: NDArray[np.float64], W: NDArray[np.float64]) -> float:
    """f >= ||R W - I||."""
    n = len(R)
    residual = np.abs(R @ W - np.eye(n)) + gamma(n + 2) * (np.abs(R) @ np.abs(W)) + UNIT
    return float(np.linalg.norm(residual)) * (1.0 + 8.0 * gamma(n * n))


def _accuracy(R: NDArray[np.float64], W: NDArray[np.float64], removals: int, f: float) -> float:
    """(1 - f)(1 - alpha) less the rounding of sums, rounded down."""
    n = len(R)
    lengths = np.einsum("ij,ij->i", W, W) @ np.einsum("ij,ij->j", R, R)
    eta = 1.01 * (removals * (6 * n + 28) + n + 4) * UNIT
    alpha = eta * math.sqrt(removals * float(lengths)) * (1.0 + 8.0 * gamma(n * n)) / (1.0 - min(f, 0.5))
    return (1.0 - f) * (1.0 - alpha) * (1.0 - (4 * n + 40) * UNIT) - 4.0 * UNIT


def _eliminated(R: NDArray[np.float64], W: NDArray[np.float64], removals: int, f: float) -> Eliminated | None:
    """C, and the slack that elimination from it needs."""
    n = len(R)
    scaled = np.abs(R) * np.sqrt(np.einsum("ij,ij->i", W, W))
    # ||A||² is at most the sum of squares, and at most the largest row sum times the largest column sum
    size = min(float((scaled * scaled).sum()), float(scaled.sum(axis=0).max() * scaled.sum(axis=1).max()))
    epsilon = 1.1 * (n + 5 * removals + 50) * UNIT
    alpha = removals * epsilon * size * (1.0 + 8.0 * gamma(n * n)) / (1.0 - min(f, 0.5)) ** 2
    slack = up(1.0 / (1.0 - min(alpha, 0.5)), 4)
    return Eliminated(W @ W.T, slack) if slack <= MOST_SLACK else None

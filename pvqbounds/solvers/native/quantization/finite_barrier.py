"""The smoothed dual of finite value sets under a support rule: its value and its Newton steps.

**The dual.** With d = v - w and the candidates v_k of each input, the certificate's bound
(:mod:`pvqbounds.relaxations.dual`) is the maximum over the prices tau_g >= 0 of being non-zero of

    D = constant - nuᵀS⁻¹nu + sum_i min over k of c_ik - sum_g tau_g most_g,   S = P - diag(lam),
    c_ik = lam_i d_ik² + 2 (nu_i + b_i) d_ik + tau_g(i) [v_ik is not 0]:

the budgets are totally unimodular, so that a price for each of them loses nothing. D is concave in
(lam, nu, tau). (b is the pull of inputs that have one value; it and the constant are zero without such.)

**What is maximised** is, for a temperature mu that falls to zero,

    F = D - mu sum_i log sum over k of exp(-(c_ik - min_k c_ik) / mu) + mu logdet S + mu sum_g log tau_g.

Its derivatives are the constraints of the relaxation: with the weights p_ik in proportion to
exp(-c_ik / mu), x = S⁻¹nu and C = mu S⁻¹ they are, in nu, tau and lam,

    2 (E d_i - x_i),   E #(non-zeros of g) - most_g + mu / tau_g,   E d_i² - x_i² - C_ii,

and where they vanish (x, C) are moments of the relaxation whose error is at most mu (n + groups) plus
the mean excess of c_ik over its least above D. In the coordinates nu + diag(x) lam, lam the Hessian is

    -2 S⁻¹ in the first, -mu S⁻¹∘S⁻¹ in the second, -mu / tau² in tau,
    less the covariances of (2 (d - x), (d - x)², [v is not 0]) over mu:

the covariances couple an input with itself and its group alone. The first n unknowns are eliminated;
a step is three factorisations and two inverses of order n, whatever the number of values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dsymm, dsymv
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs

__all__ = ["Iterate", "Multipliers", "Newton", "Task", "is_definite", "point_at"]

Array = NDArray[np.float64]

RIDGES = (0.0, 1e-14, 1e-11, 1e-8)
"""Shares of its diagonal that are added to a Newton matrix that rounding leaves indefinite."""


@dataclass(frozen=True, eq=False)
class Task:
    """A problem whose inputs all have power and several values, in units that give P a unit diagonal."""

    form: Array
    """P, shape (n, n), in Fortran's order."""
    pull: Array
    """b, shape (n,)."""
    constant: float
    """What the inputs that have one value add to the error by themselves."""
    offset: Array
    """d of the candidates, shape (n, m)."""
    present: NDArray[np.bool_]
    """Which of them count, shape (n, m)."""
    nonzero: Array
    """1 where the value is not 0, shape (n, m)."""
    group: NDArray[np.int64]
    """Number of the budget of each input, as many as there are for inputs without one, shape (n,)."""
    most: Array
    """Non-zeros that each budget allows, at least 1 and fewer than its inputs, shape (g,)."""

    @property
    def n(self) -> int:
        """Fan-in."""
        return len(self.form)

    @property
    def size(self) -> int:
        """Unknowns after the elimination: n and the budgets."""
        return self.n + len(self.most)

    def by_group(self, values: Array) -> Array:
        """Sums over the inputs of each budget, shape (g,)."""
        sums = np.bincount(self.group, values, len(self.most) + 1)[: len(self.most)]
        return np.asarray(sums, dtype=np.float64)

    def of_group(self, prices: Array) -> Array:
        """What stands at the budget of each input, 0 without one, shape (n,)."""
        return np.append(prices, 0.0)[self.group]

    def spread(self, values: Array) -> Array:
        """A column for each budget that holds the values of its inputs, shape (n, g), Fortran's order."""
        columns = np.zeros((self.n, len(self.most) + 1), order="F")
        columns[np.arange(self.n), self.group] = values
        return columns[:, :-1]

    def slack_matrix(self, lam: Array) -> Array:
        """S = P - diag(lam)."""
        matrix = self.form.copy(order="F")
        matrix[np.diag_indices(self.n)] -= lam
        return matrix


class Multipliers(NamedTuple):
    """Where the dual is looked at, or a step."""

    lam: Array
    """Shape (n,)."""
    nu: Array
    """Shape (n,); of a step the change of nu + diag(x) lam."""
    tau: Array
    """Prices of being non-zero, positive, shape (g,)."""

    def plus(self, length: float, step: Multipliers, x: Array) -> Multipliers:
        """So far along a step from a point with x = S⁻¹nu."""
        nu = self.nu + length * (step.nu - x * step.lam)
        return Multipliers(self.lam + length * step.lam, nu, self.tau + length * step.tau)

    def combined(self, share: float, other: Multipliers) -> Multipliers:
        """The step and a share of another."""
        return Multipliers(*(one + share * two for one, two in zip(self, other, strict=True)))

    def dot(self, other: Multipliers) -> float:
        """Inner product."""
        return float(sum(one @ two for one, two in zip(self, other, strict=True)))


@dataclass(frozen=True, eq=False)
class Iterate:
    """What is known at some multipliers."""

    at: Multipliers
    factor: Array
    """Cholesky factor of S."""
    x: Array
    """S⁻¹nu, the relaxed d, shape (n,)."""
    excess: Array
    """c_ik less its least value, 0 for candidates that do not count, shape (n, m)."""
    share: Array
    """p, shape (n, m)."""
    value: float
    """D."""
    volume: float
    """logdet S + sum_g log tau_g."""
    barrier: float
    """F."""
    loose: float
    """Mean excess, summed over the inputs."""

    def barrier_at(self, task: Task, mu: float) -> float:
        """F at another temperature."""
        total = (np.exp(self.excess / -mu) * task.present).sum(axis=1)
        return self.value + mu * (self.volume - float(np.log(total).sum()))


def is_definite(matrix: Array) -> bool:
    """Whether Cholesky's method ends on a matrix, which it overwrites."""
    return int(dpotrf(matrix, lower=1, overwrite_a=1)[1]) == 0


def point_at(task: Task, at: Multipliers, mu: float) -> Iterate | None:
    """The dual at some multipliers; None where S is not definite or a number is not finite."""
    factor, failed = dpotrf(task.slack_matrix(at.lam), lower=1, overwrite_a=1)
    if failed:
        return None
    x = np.asarray(dpotrs(factor, at.nu, lower=1)[0], dtype=np.float64)
    cost = (at.lam[:, None] * task.offset + 2.0 * (at.nu + task.pull)[:, None]) * task.offset
    if len(task.most):
        cost += task.of_group(at.tau)[:, None] * task.nonzero
    least = np.where(task.present, cost, np.inf).min(axis=1)
    excess = cost - least[:, None]
    share = np.exp(excess / -mu) * task.present
    total = share.sum(axis=1)
    share /= total[:, None]
    value = float(task.constant + least.sum() - at.nu @ x - at.tau @ task.most)
    volume = float(2.0 * np.log(np.diagonal(factor)).sum() + np.log(at.tau).sum())
    barrier = value + mu * (volume - float(np.log(total).sum()))
    if not np.isfinite(barrier):
        return None
    return Iterate(at, factor, x, excess, share, value, volume, barrier, float((share * excess).sum()))


class Newton:
    """The factored Newton system at a point: its gradient, and that of the gradient by mu."""

    def __init__(self, task: Task, point: Iterate, mu: float) -> None:
        self._task, n = task, task.n
        self._inverse, _ = dpotri(point.factor, lower=1)
        variance = np.diagonal(self._inverse).copy()
        share, off = point.share, task.offset - point.x[:, None]
        slope, square = 2.0 * off, off * off
        means = [(share * feature).sum(axis=1) for feature in (slope, square, task.nonzero)]
        centred = [f - m[:, None] for f, m in zip((slope, square, task.nonzero), means, strict=True)]
        weighted = [share * feature / mu for feature in centred]
        tau = point.at.tau
        needs = task.by_group(means[2]) - task.most
        self.gradient = Multipliers(means[1] - mu * variance, means[0], needs + mu / tau)
        drifts = [(part * point.excess).sum(axis=1) / mu for part in weighted]
        self.drift = Multipliers(drifts[1] - variance, drifts[0], task.by_group(drifts[2]) + 1.0 / tau)
        """Derivative of the gradient by mu."""
        self._cross = (weighted[0] * centred[1]).sum(axis=1)
        self._soft = self._eliminated((weighted[0] * centred[0]).sum(axis=1))
        matrix = np.empty((task.size, task.size), order="F")
        matrix[:n, :n] = mu * self._inverse * self._inverse - self._cross[:, None] * self._soft * self._cross
        matrix[np.arange(n), np.arange(n)] += (weighted[1] * centred[1]).sum(axis=1)
        if len(task.most):
            bends = [(part * centred[2]).sum(axis=1) for part in weighted]
            self._columns = task.spread(bends[0])
            folded = dsymm(1.0, self._soft, self._columns, lower=1)
            matrix[n:, :n] = (task.spread(bends[1]) - self._cross[:, None] * folded).T
            matrix[n:, n:] = np.diag(task.by_group(bends[2]) + mu / tau**2) - self._columns.T @ folded
        self._factor = _factor(matrix)

    def _eliminated(self, curvature: Array) -> Array:
        """(2 S⁻¹ + diag(curvature))⁻¹, the lower triangle."""
        matrix = 2.0 * self._inverse
        matrix[np.diag_indices(self._task.n)] += curvature
        factor, failed = dpotrf(matrix, lower=1, overwrite_a=1)
        if failed:
            return np.asarray(np.full_like(matrix, np.nan))
        return np.asarray(dpotri(factor, lower=1, overwrite_c=1)[0])

    @property
    def solvable(self) -> bool:
        """Whether rounding left the system definite."""
        return self._factor is not None

    def step(self, right: Multipliers) -> Multipliers:
        """Minus the inverse Hessian times a vector, in the coordinates nu + diag(x) lam."""
        task, n = self._task, self._task.n
        soft = dsymv(1.0, self._soft, right.nu, lower=1)
        reduced = np.concatenate([right.lam - self._cross * soft, right.tau])
        if len(task.most):
            reduced[n:] -= self._columns.T @ soft
        found = dpotrs(self._factor, reduced, lower=1)[0]
        rest = right.nu - self._cross * found[:n]
        if len(task.most):
            rest -= self._columns @ found[n:]
        return Multipliers(found[:n], dsymv(1.0, self._soft, rest, lower=1), found[n:])


def _factor(matrix: Array) -> Array | None:
    diagonal = np.diagonal(matrix).copy()
    for ridge in RIDGES:
        matrix[np.diag_indices(len(matrix))] = (1.0 + ridge) * diagonal
        factor, failed = dpotrf(matrix, lower=1)
        if not failed and np.isfinite(np.diagonal(factor)).all():
            return np.asarray(factor)
    return None

"""Perspective multipliers for many channels at once: D is given, nu comes from splitting.

With D fixed the perspective relaxation (:mod:`pvqbounds.relaxations.dual`) is, in
x = sqrt(D) v for every channel, a quadratic plus a norm:

    minimise over v   (v-w)ᵀ(G - D)(v-w) - 2 wᵀD v + wᵀD w  +  ||sqrt(D) v||²,

where ||x||² = min {sum x_i²/z_i : 0 <= z <= 1, sum z <= budget} is the squared k-support norm
(Argyriou, Foygel and Srebro, NeurIPS 2012). A budget for each channel, for each group of N:M and
one for the whole layer differ only in what shares a norm. Douglas and Rachford's splitting with a
step of one alternates between the two: its linear system is G itself, whatever D, so that one
inverse serves all channels, all budgets and all iterations, each a product of matrices.

Any v is a bound: nu = (G - D)(v - w) needs no system to be solved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from pvqbounds.problems import SparseLeastSquares
from pvqbounds.relaxations.dual import DualCertificate

__all__ = ["RowBudget", "ScaledGram", "optimise_nu", "scaled_gram", "shared_multipliers"]

ITERATIONS = 60
"""At most so many; the bound is then within about 0.01 dB of what D allows."""

EVERY = 10
"""Iterations between two evaluations of the bound."""

SETTLED = 2e-4
"""Relative rise of the bound between two evaluations under which it is left as it is."""

SINGULAR = 1e-13
"""Reciprocal condition number, times 1/n, under which a Gram counts as singular."""

RIDGE = 1e-7
"""Added to a singular Gram, of unit diagonal, where supports are looked for."""


@dataclass(frozen=True, eq=False)
class ScaledGram:
    """What all channels of one Gram share."""

    gram: NDArray[np.float64]
    """G with a unit diagonal, shape (n, n); an input that is always zero stands alone."""
    inverse: NDArray[np.float64] | None
    """Its inverse, shape (n, n); None where it is numerically singular."""
    start: NDArray[np.float64]
    """D > 0 on the boundary of G - D >= 0, in proportion to 1/(G⁻¹)_ii, shape (n,); else zero."""
    power: NDArray[np.float64]
    """Root mean square of each input, shape (n,): weights are multiplied by it."""

    def conditioned(self) -> ScaledGram:
        """The same with an inverse for certain, of G plus a ridge if need be: for heuristics only."""
        if self.inverse is not None:
            return self
        gram = self.gram + RIDGE * np.eye(len(self.gram))
        inverse = np.asarray(np.linalg.inv(gram), dtype=np.float64)
        return ScaledGram(gram, inverse, self.start, self.power)


@dataclass(frozen=True, eq=False)
class RowBudget:
    """How the weights of C channels, shape (C, n), share budgets: rows of a table of another shape."""

    size: int
    """Inputs that share one budget: n, M of N:M, or all C n of a layer."""
    kept: int
    """How many of them may be kept."""
    stride: int = 1
    """How far apart the inputs of one budget lie."""

    @classmethod
    def of(cls, problem: SparseLeastSquares) -> RowBudget:
        """The budget of one channel.

        Of groups that are not alike it is what they may keep together, which is less than they say: a place
        to begin, as the multipliers that are found count for any budget.
        """
        if problem.pattern is not None:
            kept, size = problem.pattern
            return cls(min(size, problem.n // problem.stride), kept, problem.stride)
        return cls(problem.n, sum(most for _, most in problem.budgets))

    def rows(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(C, n) as (groups, size): whole channels together, or each cut into groups, padded with zeros."""
        if self.size >= values.shape[1]:
            return values.reshape(-1, self.size)
        # (C, stride, inputs of one position): for consecutive inputs the values as they stand
        apart = values.reshape(len(values), -1, self.stride).transpose(0, 2, 1)
        missing = -apart.shape[2] % self.size
        return np.pad(apart, ((0, 0), (0, 0), (0, missing))).reshape(-1, self.size)

    def back(self, rows: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
        """Undo :meth:`rows`."""
        if self.size >= shape[1]:
            return rows.reshape(shape)
        apart = rows.reshape(shape[0], self.stride, -1)[:, :, : shape[1] // self.stride]
        return apart.transpose(0, 2, 1).reshape(shape)


def scaled_gram(gram: NDArray[np.float64]) -> ScaledGram:
    """Scale a Gram and invert it."""
    n = len(gram)
    diagonal = np.diagonal(gram)
    live = diagonal > 0.0
    power = np.sqrt(np.where(live, diagonal, 0.0))
    scaled = gram / np.where(live, power, 1.0)
    scaled /= np.where(live, power, 1.0)[:, None]
    scaled[np.flatnonzero(~live), np.flatnonzero(~live)] = 1.0
    factor, info = lapack.dpotrf(np.asfortranarray(scaled), lower=1, clean=1)
    # the least pivot bounds the least eigenvalue from above
    if info != 0 or np.diagonal(factor).min() ** 2 <= SINGULAR * n:
        return ScaledGram(scaled, None, np.zeros(n), power)
    lower = lapack.dpotri(factor, lower=1, overwrite_c=1)[0]
    inverse = np.asarray(lower + np.tril(lower, -1).T)
    least = 1.0 / np.diagonal(inverse)
    root = np.sqrt(least)
    x = np.ones(n)
    for _ in range(30):  # the largest eigenvalue of diag(root) G⁻¹ diag(root), from below
        x = root * (inverse @ (root * (x / np.linalg.norm(x))))
    start = least / (float(np.linalg.norm(x)) * 1.001)
    for _ in range(40):
        rest = scaled.copy(order="F")
        rest[np.diag_indices(n)] -= start
        if lapack.dpotrf(rest, lower=1, overwrite_a=1)[1] == 0:
            return ScaledGram(scaled, inverse, start, power)
        start = 0.9 * start
    return ScaledGram(scaled, None, np.zeros(n), power)


def shared_multipliers(
    gram: NDArray[np.float64], weights: NDArray[np.float64], budget: RowBudget
) -> list[DualCertificate]:
    """Multipliers of all channels of one Gram with one cheap D for all: one inverse, then O(n²) a step.

    Parameters
    ----------
    gram
        Shape (n, n).
    weights
        Shape (C, n).

    Returns
    -------
    One certificate for each channel; zeros, which prove nothing, where the Gram is singular.
    """
    shared = scaled_gram(gram)
    if shared.inverse is None:
        return [DualCertificate(*np.zeros((2, len(gram)))) for _ in weights]
    count = len(weights)
    D = np.tile(shared.start, (count, 1))
    nu = optimise_nu([shared] * count, weights * shared.power, D, budget)
    return [DualCertificate(lam=shared.start * shared.power**2, nu=row * shared.power) for row in nu]


def optimise_nu(
    shared: Sequence[ScaledGram],
    weights: NDArray[np.float64],
    D: NDArray[np.float64],
    budget: RowBudget,
    iterations: int = ITERATIONS,
) -> NDArray[np.float64]:
    """The best nu for given D, in units of the scaled Grams, shape (C, n).

    Parameters
    ----------
    shared
        The Gram of each channel; channels of one Gram stand together. None may be singular.
    weights
        w times the power of the inputs, shape (C, n).
    D
        Shape (C, n).
    """
    D = np.maximum(D, 1e-12)
    root = np.sqrt(D)
    pull = _products(weights, shared, "gram")
    x = weights * root
    gap = np.zeros_like(x)  # the scaled dual variable of x = sqrt(D) v
    best_nu = np.zeros_like(x)
    best = _values(D, weights, np.zeros_like(x), best_nu, budget)
    slope: NDArray[np.float64] | None = None
    for k in range(1, iterations + 1):
        v = _products(pull + root * (x - gap), shared, "inverse")
        y = v * root + gap
        rows = budget.rows(y)
        kept, slope = _kept(np.abs(rows), budget.kept, slope)
        x = budget.back(rows * (kept / (1.0 + kept)), y.shape)
        gap = y - x
        if k % EVERY == 0:
            before = best.sum()
            for candidate in (v, x / root):
                u = candidate - weights
                nu = _products(u, shared, "gram") - u * D
                values = _values(D, weights, u, nu, budget)
                better = values > best
                best = np.where(better, values, best)
                # one value for each channel, or one for all of them
                best_nu[np.broadcast_to(better, len(x))] = nu[np.broadcast_to(better, len(x))]
            if best.sum() - before <= SETTLED * best.sum():
                break
    return best_nu


def _products(
    rows: NDArray[np.float64], shared: Sequence[ScaledGram], name: Literal["gram", "inverse"]
) -> NDArray[np.float64]:
    """Each row times the matrix of its channel."""
    out = np.empty_like(rows)
    first = 0
    for _, members in groupby(shared, key=id):
        last = first + sum(1 for _ in members)
        out[first:last] = rows[first:last] @ getattr(shared[first], name)
        first = last
    return out


def _kept(
    size: NDArray[np.float64], kept: int, slope: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """z of the proximal step: z = clip(size * slope - 1, 0, 1) with sum z <= kept, and the slopes.

    By Newton's method on the piecewise linear sum, kept inside a bracket; from the last slopes.
    """
    if kept == 0:
        return np.zeros_like(size), np.zeros(len(size))
    low = np.zeros(len(size))
    largest = np.maximum(size.max(axis=1), 1e-150)
    high = np.full(len(size), np.inf)
    slope = 2.0 / largest if slope is None else np.maximum(slope, 1e-150)
    cap = 1e9 / largest  # keep all that is above 1e-9 of the largest: the budget does not bind
    for _ in range(60):
        z = np.clip(size * slope[:, None] - 1.0, 0.0, 1.0)
        over = z.sum(axis=1) - kept
        inside = (z > 0.0) & (z < 1.0)
        done = (np.abs(over) <= 1e-9 * kept) | ((over < 0.0) & (slope >= cap))
        if done.all():
            break
        low, high = np.where(over < 0.0, slope, low), np.where(over > 0.0, slope, high)
        rate = np.where(inside, size, 0.0).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = slope - over / rate
        middle = np.where(np.isfinite(high), 0.5 * (low + np.minimum(high, 1e300)), 2.0 * slope)
        sound = (rate > 0.0) & (step > low) & (step < high)
        slope = np.where(done, slope, np.minimum(np.where(sound, step, middle), cap))
    return z, slope


def _values(
    D: NDArray[np.float64],
    weights: NDArray[np.float64],
    u: NDArray[np.float64],
    nu: NDArray[np.float64],
    budget: RowBudget,
) -> NDArray[np.float64]:
    """The bound of each channel at nu = (G - D) u, shape (C,), or (1,) for one budget over all."""
    extra = D * (weights - nu / D) ** 2
    constant = -(u * nu).sum(axis=1) - (nu * nu / D).sum(axis=1)
    rows = budget.rows(extra)
    removed = max(0, rows.shape[1] - budget.kept)
    if budget.size < weights.shape[1]:
        # padding of a last, shorter group is removed first and costs nothing
        cheapest = np.sort(rows, axis=1)[:, :removed].sum(axis=1).reshape(len(weights), -1).sum(axis=1)
        return np.asarray(constant + cheapest)
    cheapest = np.partition(rows, max(removed - 1, 0), axis=1)[:, :removed].sum(axis=1)
    return np.asarray(constant.reshape(len(rows), -1).sum(axis=1) + cheapest)

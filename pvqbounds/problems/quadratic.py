"""Quadratic programs over whole numbers in a box: min f(z) = zᵀPz + 2qᵀz as a least-squares problem.

With G = P and Gc = -q, f(z) = (z - c)ᵀ G (z - c) - cᵀGc: a positive semidefinite P is a Gram as it is,
as long as q is in its range. At an input whose box [l, u] has at most two codes,
(z_i - l_i)(z_i - u_i) = 0, so that

    z_i² = (l_i + u_i) z_i - l_i u_i

and the diagonal of P may be exchanged for any other if q moves along: a binary P may be indefinite.
Those inputs all get one diagonal entry, such that the least eigenvalue of G is a tenth of the spread of
the eigenvalues. From 0.03 to 0.2 of it the choice matters little, since the multipliers of the engines are
diagonals too; at 1e-6 rounding does, and at as much as the spread a search takes several times as long.
With m the middle of the box, c = m - G⁻¹(Pm + q) in all cases, the diagonal of P included: Pm + q is half
the gradient of f at m.

**What E says about f, exactly.** c is rounded to float64, so that Gc is not quite what it should be. With
t_i = G_ii - P_ii and rho_i = q_i + (Gc)_i - t_i (l_i + u_i)/2 taken as they are, no number rounded,

    f(z) = E(z) + 2 rhoᵀz - cᵀGc + sum_i t_i l_i u_i

holds for every z of the box. rho is of the size of the rounding of Gc; its least value over the box is
part of every lower bound that is stated of f. These sums are rational numbers
(:mod:`pvqbounds.arithmetic.rational`).

**Whole data.** f(z) - f(l) is a whole multiple of one number, the grain: of 1 or more where all data are
whole. A certified bound is raised to the next value that f can take.

The exchange of the diagonal is Hammer and Rubin's ("Some remarks on quadratic programming with 0-1
variables", RIRO 4, 1970).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import count
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pvqbounds.arithmetic.definite import proves_definite
from pvqbounds.arithmetic.enclosures import Enclosure
from pvqbounds.arithmetic.rational import (
    enclosed,
    exact_dot,
    exact_product,
    fractions,
    greatest_step,
    step_of,
)
from pvqbounds.errors import ContradictionError, InputError
from pvqbounds.problems.integer import IntegerLeastSquares
from pvqbounds.problems.validation import as_real_array

__all__ = ["Quadratic", "attach_objective", "least_squares_of"]

CURVATURE = 0.1
"""Least eigenvalue of the Gram at boxes of two codes, as a share of the spread of the eigenvalues."""

INDEFINITE_TOLERANCE = 1e-10
"""Largest -lambda_min, as a fraction of the trace, that passes for rounding."""

RANGE_TOLERANCE = 1e-6
"""Largest part of f, as a fraction of its size, that a wide box may leave to its linear remainder."""

LARGEST = 1e280
"""Objective at which float64 ends to be safe."""


class Solved(Protocol):
    """What is used of :class:`~pvqbounds.results.bounds.Bounds`."""

    @property
    def error_lower(self) -> float: ...
    @property
    def lower_kind(self) -> str: ...
    @property
    def codes(self) -> NDArray[np.int64] | None: ...
    @property
    def weight(self) -> NDArray[np.float64]: ...
    @property
    def certificate(self) -> Any: ...


@dataclass(frozen=True, eq=False)
class Quadratic:
    """The objective f(z) = zᵀPz + 2qᵀz behind an :class:`~pvqbounds.IntegerLeastSquares`, exactly.

    The problem's own errors E differ from f by a constant and by rounding: take values and bounds of f from
    here.
    """

    matrix: NDArray[np.float64]
    """P, shape (n, n), exactly symmetric."""
    linear: NDArray[np.float64]
    """q, shape (n,)."""
    gram: NDArray[np.float64]
    """G of the problem, shape (n, n): P but for the diagonal at boxes of two codes."""
    centre: NDArray[np.float64]
    """c of the problem, shape (n,)."""
    low: NDArray[np.int64]
    """Smallest code of each input, shape (n,)."""
    high: NDArray[np.int64]
    """Largest code of each input, shape (n,)."""

    def __post_init__(self) -> None:
        diagonal = np.diag_indices(len(self.linear))
        difference = self.gram - self.matrix
        difference[diagonal] = 0.0
        moved = np.diagonal(self.gram) != np.diagonal(self.matrix)
        if difference.any() or (moved & (self.high - self.low > 1)).any():
            raise InputError("This objective is not that of the problem: P and G differ beyond the diagonal.")

    def value(self, codes: ArrayLike) -> Fraction:
        """f of codes, exactly.

        Raises
        ------
        InputError
            If they are not n whole numbers.
        """
        array = as_real_array(codes, "The codes", ndim=1)
        if len(array) != len(self.linear) or (array != np.rint(array)).any():
            raise InputError(f"The codes must be {len(self.linear)} integers.")
        z = fractions(array)
        image = exact_product(self.matrix, z)
        return exact_dot(z, image) + 2 * exact_dot(z, fractions(self.linear))

    def objective_bounds(self, bounds: Solved) -> Enclosure:
        """The interval that holds the least f over the box, from the bounds on E of a solve.

        The upper end is f of the codes that were found. The lower one is certified or reported as
        ``bounds.lower_kind`` says; a certified one is raised to the next value that f can take.

        Raises
        ------
        InputError
            If the bounds are not those of this problem: no codes, or codes outside the box.
        ContradictionError
            If a certified bound lies above f of the codes: a fault of this package.
        """
        codes = bounds.codes
        if codes is None or codes.shape != self.low.shape or ((codes < self.low) | (codes > self.high)).any():
            raise InputError("These bounds are not of this problem: they need codes in its box.")
        upper = self.value(codes)
        certified = bounds.lower_kind == "certified"
        lower = self._lower(bounds.error_lower, certified)
        if lower > upper and certified:
            raise ContradictionError(self, bounds.certificate, bounds.weight, float(lower), float(upper))
        return enclosed(min(lower, upper), upper)

    def _lower(self, error_lower: float, certified: bool) -> Fraction:
        # that E is not negative, as a bound of 0 without a certificate has it, takes a proof of its own
        least = Fraction(error_lower) if error_lower > 0.0 else self.least_error
        bound = least + self.offset
        if not certified:
            return bound
        first = self.value(self.low)
        if self.grain == 0:
            return first
        return first + math.ceil((bound - first) / self.grain) * self.grain

    @cached_property
    def remainder(self) -> tuple[list[Fraction], Fraction]:
        """The vector 2 rho and the constant that f is more than E: f(z) = E(z) + 2 rhoᵀz + constant."""
        q, c = fractions(self.linear), fractions(self.centre)
        image = exact_product(self.gram, c)
        before, after = (fractions(np.diagonal(matrix)) for matrix in (self.matrix, self.gram))
        low, high = self.low.tolist(), self.high.tolist()
        slope, constant = [], -exact_dot(c, image)
        for i, moved in enumerate(map(Fraction.__sub__, after, before)):
            slope.append(2 * (q[i] + image[i]) - moved * (low[i] + high[i]))
            constant += moved * low[i] * high[i]
        return slope, constant

    @cached_property
    def offset(self) -> Fraction:
        """The least that f is more than E anywhere in the box: f(z) >= E(z) + offset."""
        slope, constant = self.remainder
        ends = zip(slope, self.low.tolist(), self.high.tolist(), strict=True)
        return constant + sum((min(s * low, s * high) for s, low, high in ends), Fraction(0))

    @cached_property
    def spread(self) -> Fraction:
        """The most by which the linear remainder makes f - E differ from `offset` in the box."""
        widths = (self.high - self.low).tolist()
        return sum((abs(s) * width for s, width in zip(self.remainder[0], widths, strict=True)), Fraction(0))

    @cached_property
    def least_error(self) -> Fraction:
        """A proved lower bound on E in the box that needs no solver: 0, or a hair less for a singular G."""
        if proves_definite(self.gram, 0.0) or not self.gram.any():
            return Fraction(0)
        c = fractions(self.centre)
        ends = zip(c, self.low.tolist(), self.high.tolist(), strict=True)
        reach = sum((max(abs(low - x), abs(high - x)) ** 2 for x, low, high in ends), Fraction(0))
        trace = float(np.trace(self.gram))
        # G is semidefinite up to rounding: a small share of its trace makes it definite, n traces any matrix
        shifts = (trace * 10.0**power for power in count(-14))
        shift = next(shift for shift in shifts if proves_definite(self.gram, -shift))
        return -Fraction(shift) * reach

    @cached_property
    def grain(self) -> Fraction:
        """f(z) - f(low) is a whole multiple of this for every z in the box; 0 where f is constant.

        With y = z - low: f(z) - f(low) = sum_i (P_ii + 2q_i + 2(P low)_i) y_i + sum_i P_ii y_i (y_i - 1)
        + 2 sum_(i<j) P_ij y_i y_j, where y_i (y_i - 1) is even, and zero at boxes of two codes.
        """
        free = np.flatnonzero(self.high > self.low)
        wide = np.flatnonzero(self.high - self.low > 1)
        image, q = exact_product(self.matrix, fractions(self.low)), fractions(self.linear)
        diagonal = np.diagonal(self.matrix)
        steps = [Fraction(diagonal[i]) + 2 * q[i] + 2 * image[i] for i in free.tolist()]
        steps += [2 * step_of(self.matrix[i, free[free > i]]) for i in free.tolist()]
        return greatest_step([*steps, 2 * step_of(diagonal[wide])])


def least_squares_of(
    form: ArrayLike, linear: ArrayLike, qmin: int | ArrayLike, qmax: int | ArrayLike
) -> IntegerLeastSquares:
    """The least-squares problem whose solutions minimise zᵀPz + 2qᵀz, with that objective beside it.

    Parameters
    ----------
    form
        P, shape (n, n).
    linear
        q, shape (n,).
    qmin, qmax
        The box: numbers, or one for each input, shape (n,).

    Raises
    ------
    InputError
        As :meth:`pvqbounds.IntegerLeastSquares.from_quadratic` says.
    """
    matrix, q = _checked_form(form), as_real_array(linear, "q", ndim=1)
    n = len(matrix)
    if len(q) != n:
        raise InputError(f"P has {n} inputs, but q has {len(q)}.")
    box = IntegerLeastSquares(np.zeros((n, n)), np.zeros(n), 1.0, qmin, qmax)  # checks qmin and qmax
    low, high = box.low, box.high
    size = _size(matrix, q, np.maximum(np.abs(low), np.abs(high)))
    middle = 0.5 * (low + high)
    gradient = matrix @ middle + q
    gram = _gram(matrix, gradient, high - low <= 1.0)
    centre = middle - _solved(gram, gradient)
    problem = IntegerLeastSquares(gram, centre, 1.0, qmin, qmax)
    found = attach_objective(problem, matrix, q)
    if found.spread > RANGE_TOLERANCE * size:
        raise InputError(
            "P is singular and q lies outside its range, so that no least-squares problem has this "
            "objective; make P definite, or give the inputs along which it is flat boxes of two codes."
        )
    return problem


def attach_objective(
    problem: IntegerLeastSquares, matrix: NDArray[np.float64], linear: NDArray[np.float64]
) -> Quadratic:
    """Let `problem`, of scale 1, have the objective of P and q, shapes (n, n) and (n,).

    Raises
    ------
    InputError
        If P is not the problem's Gram but for the diagonal at boxes of two codes.
    """
    low, high = problem.low.astype(np.int64), problem.high.astype(np.int64)
    found = Quadratic(matrix, linear, problem.gram, problem.weight, low, high)
    problem.__dict__["quadratic"] = found  # in the place of what it would cache
    return found


def _checked_form(form: ArrayLike) -> NDArray[np.float64]:
    """P, exactly symmetric."""
    given = as_real_array(form, "P", ndim=2)
    if given.shape[0] != given.shape[1]:
        raise InputError(f"P must be square, but its shape is {given.shape}.")
    if np.array_equal(given, given.T):
        return given
    half = 0.5 * given
    matrix = half + half.T
    # the rounding error of each sum and of each half, zero where they are exact
    part = matrix - half
    lost = (half - (matrix - part)) + (half.T - part)
    if lost.any() or not np.array_equal(half + half, given):
        raise InputError(
            "P is not symmetric, and (P + Pᵀ)/2 is not exact in float64; "
            "give 0.5 * (P + P.T) if that is what you mean."
        )
    matrix.flags.writeable = False
    return matrix


def _size(matrix: NDArray[np.float64], q: NDArray[np.float64], reach: NDArray[np.float64]) -> float:
    """The sum of the sizes of all terms of f in the box."""
    with np.errstate(over="ignore", invalid="ignore"):
        size = float(reach @ np.abs(matrix) @ reach + 2.0 * (np.abs(q) @ reach))
    if not size <= LARGEST:
        raise InputError("The numbers are so large that the objective would overflow; rescale P and q.")
    return size


def _gram(
    matrix: NDArray[np.float64], gradient: NDArray[np.float64], two: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """P with one entry on the diagonal at all boxes of two codes.

    Parameters
    ----------
    gradient
        Pm + q at the middle m of the box, shape (n,).
    two
        Where boxes have at most two codes, shape (n,).
    """
    if not two.any():
        return matrix
    off = matrix.copy()
    off[two, two] = 0.0
    inner = off[np.ix_(two, two)]
    if not two.all():  # what is left once the others are minimised out
        cross = off[np.ix_(two, ~two)]
        inner = inner - cross @ np.linalg.pinv(off[np.ix_(~two, ~two)], hermitian=True) @ cross.T
    eigenvalues = np.linalg.eigvalsh(inner)
    # gradients that exceed all curvature would put the centre far away
    extent = max(float(eigenvalues[-1] - eigenvalues[0]), float(np.abs(gradient).max()))
    off[two, two] = CURVATURE * extent - float(eigenvalues[0])
    return off


def _solved(gram: NDArray[np.float64], vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """G⁺ times a vector of G's range, in float64.

    Raises
    ------
    InputError
        If G is indefinite, which boxes of two codes alone can mend.
    """
    values, vectors = np.linalg.eigh(gram)
    largest = float(np.abs(values).max())
    if values[0] < -INDEFINITE_TOLERANCE * max(float(np.trace(gram)), largest):
        raise InputError(
            f"P is indefinite (smallest eigenvalue {values[0]:.3g}) at inputs with more than two codes; only "
            "boxes [k, k + 1] allow that: write those codes as sums of binary ones."
        )
    kept = values > len(gram) * np.finfo(np.float64).eps * largest
    basis = vectors[:, kept]
    return np.asarray(basis @ ((basis.T @ vector) / values[kept]), dtype=np.float64)

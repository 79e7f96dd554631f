"""The bound that multipliers stand for, in rational arithmetic: no proof of them may claim more."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction

import numpy as np

from pvqbounds.arithmetic.definite import equilibration
from pvqbounds.problems import Problem
from pvqbounds.relaxations import dual
from pvqbounds.relaxations.definite_rest import DefiniteRest
from pvqbounds.relaxations.dual import DualCertificate, dual_proof
from pvqbounds.relaxations.minorant import error_minorant

from .rational import (
    budgets_of,
    exact_error_of_codes,
    fractions,
    least_parabola,
    least_refit,
    matrix_of,
    values_of,
)

__all__ = ["faults_of_a_form", "faults_of_a_proof"]

Matrix = list[list[Fraction]]


@contextmanager
def _listening(heard: list[tuple[np.ndarray, np.ndarray, float]]) -> Iterator[None]:
    """Hear which S, nu and least eigenvalue a proof takes."""
    inner = dual.minus_inverse_form

    def listener(definite: DefiniteRest, nu: np.ndarray, radius: np.ndarray) -> tuple[float, float]:
        heard.append((definite.matrix.copy(), nu.copy(), definite.smallest))
        return inner(definite, nu, radius)

    dual.minus_inverse_form = listener
    try:
        yield
    finally:
        dual.minus_inverse_form = inner


def faults_of_a_proof(problem: Problem, certificate: DualCertificate) -> list[str]:
    """What is false about the proof of multipliers without split inequalities.

    The S that it takes is the Gram of the live inputs, in units of powers of two, but for its diagonal;
    the eigenvalue is one of its lower bounds; and the value is no more than

        -nuᵀS⁻¹nu + sum_i m_i + least sum of phi_i(0) - m_i over as many inputs as must be zero,

    lam_i = G_ii - S_ii, without rounding.
    """
    inner = problem.normalised
    heard: list[tuple[np.ndarray, np.ndarray, float]] = []
    with _listening(heard):
        proof = dual_proof(inner, certificate.in_units(problem.units))
    if not heard or proof.value == 0.0:
        return []  # what overflows proves that a mean square is not negative
    matrix, nu, smallest = heard[-1]
    S, n = matrix_of(matrix), len(nu)
    live = np.flatnonzero(inner.gram.any(axis=1))
    scale = _scale(inner.gram[np.ix_(live, live)], matrix)
    if scale is None:
        return ["S is not the Gram of the live inputs"]
    shifted = [[S[i][j] - (Fraction(smallest) if i == j else 0) for j in range(n)] for i in range(n)]
    if smallest <= 0.0 or least_eigenvalue_is_negative(shifted):
        return [f"S has an eigenvalue below {smallest!r}"]
    value = _value(inner, live, scale, S, fractions(nu))
    if value is None:
        return []
    if Fraction(proof.value) > value:
        return [f"proved {proof.value!r}, but these multipliers stand for {_about(value)}"]
    return []


def _about(value: Fraction) -> str:
    """Some digits of a fraction of any size."""
    return f"{Decimal(value.numerator) / Decimal(value.denominator):.20g}"


def least_eigenvalue_is_negative(matrix: Matrix) -> bool:
    """Whether a matrix of fractions is not semidefinite."""
    return least_refit(matrix, [Fraction(0)] * len(matrix), ()) is None


def _scale(gram: np.ndarray, matrix: np.ndarray) -> list[Fraction] | None:
    """Powers of two p with S_ij = G_ij p_i p_j off the diagonal, from the proof's own rule; None without."""
    power = equilibration(gram)
    exact = [Fraction(2) ** -int(p) for p in power]
    for i in range(len(gram)):
        for j in range(i):
            moved = Fraction(float(gram[i, j])) * exact[i] * exact[j]
            lost = abs(moved - Fraction(float(matrix[i, j])))
            if lost > Fraction(2) ** -1074 or matrix[i, j] != matrix[j, i]:
                return None
    return exact


def _value(
    problem: Problem, live: np.ndarray, scale: list[Fraction], S: Matrix, nu: list[Fraction]
) -> Fraction | None:
    """The value of the formula; None where it has none."""
    w = [Fraction(float(problem.weight[i])) / p for i, p in zip(live, scale, strict=True)]
    G = [Fraction(float(problem.gram[i, i])) * p * p for i, p in zip(live, scale, strict=True)]
    lam = [g - S[i][i] for i, g in enumerate(G)]
    least: list[Fraction] = []
    if problem.values.is_finite:
        lists = values_of(problem)
        for k, i in enumerate(live.tolist()):
            moved = [value / scale[k] for value in (lists[i] if len(lists[i]) < 600 else [])]
            if not moved:
                return None
            least.append(least_parabola(moved, w[k], lam[k], nu[k]))
    else:
        for a, b in zip(lam, nu, strict=True):
            if a < 0 or (a == 0 and b != 0):
                return None
            least.append(-b * b / a if a > 0 else Fraction(0))
    extra = [lam[k] * w[k] ** 2 - 2 * nu[k] * w[k] - least[k] for k in range(len(live))]
    value = sum(least, Fraction(0)) - _inverse_form(S, nu)
    budgets = budgets_of(problem)
    place = {int(i): k for k, i in enumerate(live)}
    for number, most in enumerate(budgets.most):
        own = [i for i in range(problem.n) if budgets.group[i] == number]
        costs = sorted(extra[place[i]] if i in place else Fraction(0) for i in own)
        value += sum(costs[: max(0, len(own) - most)], Fraction(0))
    return value


def _inverse_form(S: Matrix, nu: list[Fraction]) -> Fraction:
    """nuᵀS⁻¹nu of a definite matrix."""
    A, b, total = [row[:] for row in S], nu[:], Fraction(0)
    for k in range(len(b)):
        total += b[k] * b[k] / A[k][k]
        for i in range(k + 1, len(b)):
            ratio = A[i][k] / A[k][k]
            if ratio:
                b[i] -= ratio * b[k]
                for j in range(k + 1, len(b)):
                    A[i][j] -= ratio * A[k][j]
    return total


def faults_of_a_form(problem: Problem, certificate: DualCertificate, codes: np.ndarray) -> list[str]:
    """What is false about the form that split inequalities make, at one choice of codes.

    dᵀAd - 2 pᵀd - 2 radiusᵀ|d| + kappa is no more than the error.
    """
    inner = problem.normalised
    form = error_minorant(inner, certificate.in_units(problem.units).splits)
    parts = (form.matrix, form.linear, form.radius)
    if not (all(np.isfinite(part).all() for part in parts) and math.isfinite(form.constant)):
        return []
    lists = values_of(inner)
    low = inner.values.code_ends[0]
    d = [lists[i][int(codes[i] - low[i])] - Fraction(float(inner.weight[i])) for i in range(problem.n)]
    A, p, r = matrix_of(form.matrix), fractions(form.linear), fractions(form.radius)
    value = sum((A[i][j] * d[i] * d[j] for i in range(problem.n) for j in range(problem.n)), Fraction(0))
    value -= 2 * sum((p[i] * d[i] + r[i] * abs(d[i]) for i in range(problem.n)), Fraction(0))
    value += Fraction(form.constant)
    error = exact_error_of_codes(inner, codes)
    if value > error:
        return [f"the form is {_about(value)} at {codes.tolist()}, the error {_about(error)}"]
    return []

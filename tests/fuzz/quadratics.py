"""Quadratic programs over whole numbers in a box: statements about zᵀPz + 2qᵀz against every z."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
from numpy.random import Generator

from pvqbounds import InputError, IntegerLeastSquares

from .case import Case
from .checks import attempt, check_bounds, plans_for
from .families import random_gram
from .rational import fractions, matrix_of, truth_of

__all__ = ["quadratic"]

MOST = 4000
"""Codes of a box that is enumerated."""


def quadratic(case: Case) -> None:
    """A program of any kind: bounds on its objective hold, and so do those on the error behind it."""
    rng = case.rng
    P, q, low, high = _drawn(rng)
    case.script = f"P, q = {P.tolist()}, {q.tolist()}\nqmin, qmax = {low.tolist()}, {high.tolist()}"
    case.script += "\np = pvq.IntegerLeastSquares.from_quadratic(P, q, qmin, qmax)"
    try:
        problem = IntegerLeastSquares.from_quadratic(P, q, low, high)
    except InputError:
        case.count("refused at the door")
        return
    objective = problem.quadratic
    assert objective is not None
    values = _values(P, q, low, high)
    for codes in (low, high, rng.integers(low, high + 1)):
        if objective.value(codes) != values[tuple(codes.tolist())]:
            case.fault("a false value of the objective", "value", f"{codes.tolist()}", "p.quadratic.value")
    least, start = min(values.values()), values[tuple(low.tolist())]
    grain = objective.grain
    if any((value - start) % grain if grain else value - start for value in values.values()):
        case.fault("values between the grains", "grain", f"{grain}", "print(p.quadratic.grain)")
    truth = truth_of(problem)
    for plan in (plans[i] for plans in [plans_for(problem)] for i in rng.permutation(len(plans))[:3]):
        bounds = attempt(case, problem, plan)
        if bounds is None:
            continue
        check_bounds(case, problem, bounds, truth, str(plan), plan.call)
        call = f"{plan.call}\nprint(p.quadratic.objective_bounds(b))"
        with case.guarded(f"objective {plan}", call, refusals=False):
            lower, upper = objective.objective_bounds(bounds)
            ends = f"{lower!r} .. {upper!r}, least {float(least)!r}"
            if not (math.isfinite(upper) and Fraction(upper) >= least):
                case.fault("upper end below the least objective", str(plan), ends, call)
            if math.isfinite(lower) and Fraction(lower) > least:
                case.fault("false lower end of the objective", str(plan), ends, call)
            case.count("objectives bounded")


def _drawn(rng: Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """P, q and a box of few enough codes."""
    n, kind = int(rng.integers(1, 9)), int(rng.integers(5))
    low = np.zeros(n, np.int64) if rng.random() < 0.6 else rng.integers(-3, 3, n)
    width = np.ones(n, np.int64) if kind <= 2 else rng.integers(0, 4, n)
    while math.prod((width + 1).tolist()) > MOST:
        width[width.argmax()] -= 1
    if kind == 0:  # whole data, indefinite: QUBO
        P = rng.integers(-9, 10, (n, n)).astype(float)
        P = np.tril(P) + np.tril(P, -1).T
    elif kind == 1:
        P = rng.standard_normal((n, n)) * 10.0 ** rng.uniform(-3.0, 3.0)
        P = np.tril(P) + np.tril(P, -1).T
    else:
        P = random_gram(rng, n)[1] * 2.0 ** int(rng.integers(-30, 31))
    q = rng.integers(-9, 10, n).astype(float) if kind == 0 else rng.standard_normal(n)
    if rng.random() < 0.5:
        q = P @ rng.standard_normal(n)  # in the range of P
    if rng.random() < 0.2:
        q = q * 10.0 ** rng.uniform(-6.0, 6.0)
    return P, np.asarray(q), low, low + width


def _values(
    P: np.ndarray, q: np.ndarray, low: np.ndarray, high: np.ndarray
) -> dict[tuple[int, ...], Fraction]:
    """zᵀPz + 2qᵀz of every z."""
    A, b, n = matrix_of(P), fractions(q), len(q)
    boxes = [range(a, c + 1) for a, c in zip(low.tolist(), high.tolist(), strict=True)]
    common = math.lcm(*(x.denominator for row in A for x in row), *(x.denominator for x in b))
    whole = [[int(x * common) for x in row] for row in A]
    linear = [int(2 * x * common) for x in b]
    found = {}
    for z in itertools.product(*boxes):
        total = sum(z[i] * (sum(whole[i][j] * z[j] for j in range(n)) + linear[i]) for i in range(n))
        found[z] = Fraction(total, common)
    return found

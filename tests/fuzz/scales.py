"""Steps of any scale and zero point: intervals against all codes at their best scales, without rounding."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

from pvqbounds import AnyScaleLeastSquares, InputError

from .case import Case
from .checks import Plan, plans_for, solve_all
from .families import draw
from .grids import random_rule
from .rational import allowed, exact_signal, whole_numbers

__all__ = ["any_scale", "least_error_at_any_scale"]

BOXES = ((-1, 0), (0, 1), (-1, 1), (-2, 1), (0, 3), (1, 3), (-4, 3), (2, 2), (0, 0), (-8, 7))

MOST = 1000
"""Choices of codes that are enumerated."""


def least_error_at_any_scale(problem: AnyScaleLeastSquares) -> Fraction:
    """The infimum over all codes and scales, never below 0: wᵀGw - (zᵀGw)² / zᵀGz at the best of each."""
    n, signal = problem.n, exact_signal(problem)
    entries, e = whole_numbers(problem.gram.ravel())
    G = [entries[i * n : (i + 1) * n] for i in range(n)]
    w, f = whole_numbers(problem.weight)
    target = [sum(g * x for g, x in zip(row, w, strict=True)) for row in G]
    best = Fraction(0)
    for z in itertools.product(range(problem.values.qmin, problem.values.qmax + 1), repeat=n):
        if problem.values.span is not None and max(*z, 0) - min(*z, 0) > problem.values.span:
            continue
        if not allowed(problem, z):
            continue
        product = sum(k * t for k, t in zip(z, target, strict=True))
        square = sum(a * sum(g * b for g, b in zip(row, z, strict=True)) for a, row in zip(z, G, strict=True))
        if square < 0 or (square == 0 and product > 0):
            return Fraction(0)  # a Gram that is a hair indefinite: E is a mean square
        if product > 0:
            best = max(best, Fraction(product * product, square))
    return max(signal - best / 2 ** (e + 2 * f), Fraction(0))


def any_scale(case: Case) -> None:
    """A small problem of any scale, solved in some ways."""
    rng = case.rng
    box = BOXES[int(rng.integers(len(BOXES)))]
    most = int(math.log(MOST) / math.log(max(box[1] - box[0] + 1, 2)))
    drawn = draw(rng, int(rng.integers(1, min(most, 5) + 1)), one_step=True)
    span = None
    if box[0] <= 0 <= box[1] and rng.random() < 0.3:
        span = int(rng.integers(box[1] - box[0] + 1))
    rule = random_rule(rng, len(drawn.weight)) if box[0] <= 0 <= box[1] and rng.random() < 0.3 else {}
    try:
        problem = AnyScaleLeastSquares(drawn.gram, drawn.weight, *box, span=span, **rule)
    except InputError:
        case.count("refused at the door")
        return
    plans = plans_for(problem)
    limit = 5.0 if rng.random() < 0.8 else float(10.0 ** rng.uniform(-4.0, -0.5))
    chosen = [plans[i] for i in sorted(rng.permutation(len(plans))[:2])]
    asked = [Plan(p.solver, p.method, p.relaxation, limit, int(rng.integers(1000))) for p in chosen]
    solve_all(case, problem, least_error_at_any_scale(problem), asked)

"""Random problems, and larger ones whose least error is known because it was planted."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.random import Generator

from pvqbounds import InputError, IntegerLeastSquares, SparseLeastSquares

from .case import Case, Problem
from .families import BOXES, draw, random_box, random_gram, random_weight
from .rational import (
    exact_error,
    fractions,
    is_semidefinite,
    least_codes_error,
    least_layer_error,
    least_sparse_error,
    least_sparse_errors,
)

__all__ = [
    "Known",
    "planted_codes",
    "planted_sparse",
    "random_codes",
    "random_sparse",
    "small_codes",
    "small_sparse",
]


@dataclass(frozen=True, eq=False)
class Known:
    """A problem and its least error."""

    problem: Problem
    truth: Fraction | None
    """None where it would take too long to know."""
    family: str


def random_codes(
    rng: Generator, n: int, box: tuple[int, int] | None = None
) -> tuple[IntegerLeastSquares, str]:
    """Quantization of n inputs."""
    drawn = draw(rng, n, one_step=True)
    qmin, qmax = random_box(rng) if box is None else box
    weight = drawn.weight
    if rng.random() < 0.3:  # weights in the box, where it is far away
        weight = weight + drawn.scale * float(qmin)
    return IntegerLeastSquares(drawn.gram, weight, drawn.scale, qmin, qmax), drawn.families


def random_sparse(rng: Generator, n: int) -> tuple[SparseLeastSquares, str]:
    """Pruning of n inputs to some non-zeros, or N:M of neighbours or of inputs some way apart."""
    drawn = draw(rng, n, one_step=False)
    if rng.random() < 0.35:
        size = int(rng.integers(1, 6))
        pattern = int(rng.integers(0, size + 1)), size
        stride = int(rng.choice([step for step in (1, 1, 2, 3, 4) if n % step == 0]))
        return SparseLeastSquares(drawn.gram, drawn.weight, pattern=pattern, stride=stride), drawn.families
    return SparseLeastSquares(drawn.gram, drawn.weight, nnz=int(rng.integers(0, n + 1))), drawn.families


def small_codes(case: Case) -> Known | None:
    """A small problem of quantization with its least error; None where its numbers are refused."""
    rng = case.rng
    n = int(rng.integers(1, 9))
    box = random_box(rng)
    codes = box[1] - box[0] + 1
    while n > 1 and codes ** (n - 1) > 3000 and not (codes > 100 and n <= 3):
        n -= 1
    try:
        problem, family = random_codes(rng, n, box)
    except InputError:
        case.count("refused at the door")
        return None
    return Known(problem, least_codes_error(problem, 6000), family)


def small_sparse(case: Case) -> Known | None:
    """A small problem of pruning with its least error; None where its numbers are refused."""
    try:
        problem, family = random_sparse(case.rng, int(case.rng.integers(1, 9)))
    except InputError:
        case.count("refused at the door")
        return None
    return Known(problem, least_sparse_error(problem), family)


# --------------------------------------------------------------------------- planted


def _larger(rng: Generator) -> int:
    return int(rng.integers(9, 25)) if rng.random() < 0.7 else int(rng.integers(25, 61))


def _blocks(rng: Generator, n: int, largest: int) -> list[int]:
    """Sizes of blocks that make up n inputs."""
    sizes: list[int] = []
    while sum(sizes) < n:
        sizes.append(min(int(rng.integers(1, largest + 1)), n - sum(sizes)))
    return sizes


def _together(grams: list[np.ndarray]) -> np.ndarray:
    n = sum(len(gram) for gram in grams)
    whole, at = np.zeros((n, n)), 0
    for gram in grams:
        whole[at : at + len(gram), at : at + len(gram)] = gram
        at += len(gram)
    return whole


def planted_codes(case: Case) -> Known | None:
    """Quantization of 9 to 60 inputs with a least error that is known."""
    rng = case.rng
    n, kind = _larger(rng), int(rng.integers(3))
    qmin, qmax = BOXES[int(rng.integers(10))]
    scale = float(rng.choice([1.0, 0.5, 0.1, 3e-5]))
    try:
        if kind == 0:  # weights that lie on the grid
            family, gram = random_gram(rng, n)
            codes = rng.integers(qmin, qmax + 1, n)
            weight = scale * codes.astype(float)
            problem = IntegerLeastSquares(gram, weight, scale, qmin, qmax)
            exact = exact_error(gram, weight, [Fraction(scale) * int(k) for k in codes])
            # s z rounds unless s is a power of two: what is left is an upper bound, and 0 a lower one
            return Known(problem, Fraction(0) if exact <= 0 else None, f"on the grid, {family}")
        if kind == 1:  # inputs that have nothing to do with one another
            gram = np.diag(np.asarray(rng.integers(0, 5, n), dtype=float))
            weight = random_weight(rng, n, scale)[1]
            problem = IntegerLeastSquares(gram, weight, scale, qmin, qmax)
            errors = sum(
                (_one_input(float(gram[i, i]), float(weight[i]), scale, qmin, qmax) for i in range(n)),
                Fraction(0),
            )
            return Known(problem, errors, "diagonal")
        while (qmax - qmin + 1) ** 2 > 300:
            qmin, qmax = BOXES[int(rng.integers(10))]
        parts: list[Problem] = []
        truth: Fraction | None = Fraction(0)
        for size in _blocks(rng, n, 4 if qmax - qmin < 4 else 3):
            part = IntegerLeastSquares(
                random_gram(rng, size)[1], random_weight(rng, size, scale)[1], scale, qmin, qmax
            )
            least = least_codes_error(part) if is_semidefinite(part.gram) else None
            truth = None if truth is None or least is None else truth + least
            parts.append(part)
        order = rng.permutation(n)
        gram = _together([part.gram for part in parts])[np.ix_(order, order)]
        weight = np.concatenate([part.weight for part in parts])[order]
        return Known(IntegerLeastSquares(gram, weight, scale, qmin, qmax), truth, "blocks")
    except InputError:
        case.count("refused at the door")
        return None


def _one_input(power: float, weight: float, scale: float, qmin: int, qmax: int) -> Fraction:
    least = least_codes_error(IntegerLeastSquares([[power]], [weight], scale, qmin, qmax))
    assert least is not None
    return least


def planted_sparse(case: Case) -> Known | None:
    """Pruning of 9 to 60 inputs with a least error that is known."""
    rng = case.rng
    n, kind = _larger(rng), int(rng.integers(3))
    try:
        if kind == 0:  # weights that are sparse already
            family, gram = random_gram(rng, n)
            weight = random_weight(rng, n, 1.0)[1] * (rng.random(n) < rng.uniform(0.1, 0.7))
            if rng.random() < 0.4:
                size = int(rng.integers(2, 6))
                kept = max(int(np.count_nonzero(weight[i : i + size])) for i in range(0, n, size))
                return Known(
                    SparseLeastSquares(gram, weight, pattern=(kept, size)), Fraction(0), f"sparse, {family}"
                )
            nnz = int(np.count_nonzero(weight))
            return Known(SparseLeastSquares(gram, weight, nnz=nnz), Fraction(0), f"sparse, {family}")
        if kind == 1:
            power = np.asarray(rng.integers(0, 5, n), dtype=float) * 2.0 ** rng.integers(-3, 4, n)
            weight = random_weight(rng, n, 1.0)[1]
            nnz = int(rng.integers(0, n + 1))
            lost = sorted(g * x * x for g, x in zip(fractions(power), fractions(weight), strict=True))
            return Known(
                SparseLeastSquares(np.diag(power), weight, nnz=nnz),
                sum(lost[: n - nnz], Fraction(0)),
                "diagonal",
            )
        parts = [
            SparseLeastSquares(random_gram(rng, size)[1], random_weight(rng, size, 1.0)[1], nnz=0)
            for size in _blocks(rng, n, 4)
        ]
        nnz = int(rng.integers(0, n + 1))
        truth = None  # a block that rounding has left indefinite takes from the errors of the others
        if all(is_semidefinite(part.gram) for part in parts):
            truth = least_layer_error([least_sparse_errors(part) for part in parts], nnz)
        order = rng.permutation(n)
        gram = _together([part.gram for part in parts])[np.ix_(order, order)]
        weight = np.concatenate([part.weight for part in parts])[order]
        return Known(SparseLeastSquares(gram, weight, nnz=nnz), truth, "blocks")
    except InputError:
        case.count("refused at the door")
        return None


def moved(problem: Problem, gram_power: int, weight_power: int) -> Problem:
    """The problem in other units: the Gram times 2^gram_power, weights and step times 2^weight_power."""
    with np.errstate(all="ignore"):
        gram, weight = np.ldexp(problem.gram, gram_power), np.ldexp(problem.weight, weight_power)
    if isinstance(problem, IntegerLeastSquares):
        scale = float(np.ldexp(problem.scale, weight_power))
        return IntegerLeastSquares(gram, weight, scale, problem.qmin, problem.qmax)
    return SparseLeastSquares(gram, weight, problem.nnz, problem.pattern, problem.stride)


def permuted(problem: Problem, order: np.ndarray) -> Problem:
    """The problem with its inputs in another order; of N:M the groups must stay together."""
    gram, weight = problem.gram[np.ix_(order, order)], problem.weight[order]
    if isinstance(problem, IntegerLeastSquares):
        return IntegerLeastSquares(gram, weight, problem.scale, problem.qmin, problem.qmax)
    return SparseLeastSquares(gram, weight, problem.nnz, problem.pattern, problem.stride)


def random_order(rng: Generator, problem: Problem) -> np.ndarray:
    """An order of the inputs under which the problem stays the same one."""
    if isinstance(problem, IntegerLeastSquares) or problem.pattern is None:
        return rng.permutation(problem.n)
    if problem.stride > 1:
        return np.arange(problem.n)
    size = problem.pattern[1]
    groups = [rng.permutation(np.arange(i, min(i + size, problem.n))) for i in range(0, problem.n, size)]
    whole = [group for group in groups if len(group) == size]
    rest = [group for group in groups if len(group) < size]
    return np.concatenate([*(whole[i] for i in rng.permutation(len(whole))), *rest]).astype(np.int64)

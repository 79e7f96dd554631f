"""The simple post-training methods that lie inside the interval, as plain functions.

A quantization method takes the problems of a layer and gives codes inside the grid; a pruning
method takes one problem and gives weights that keep the budget. Neither is believed: errors are
evaluated from what they return.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.heuristics.rounding import randomized_rounding
from pvqbounds.problems import IntegerLeastSquares, SparseLeastSquares, magnitude_support
from pvqbounds.problems.integer import error_form
from pvqbounds.solvers.relaxation import relax

__all__ = [
    "METHODS",
    "PRUNING",
    "PruningMethod",
    "layer_magnitude",
    "magnitude",
    "magnitude_refit",
    "nearest_plane_codes",
    "pruned_by_methods",
    "quantized_by_methods",
    "randomized",
    "round_to_nearest",
]

RANDOMIZED_LARGEST = 100
"""Inputs above which randomized rounding is left out: its relaxation costs as much as the bound."""

Codes = NDArray[np.int64]
PruningMethod = Callable[[SparseLeastSquares], NDArray[np.float64]]


def round_to_nearest(problem: IntegerLeastSquares) -> NDArray[np.int64]:
    """Codes next to the weights, clipped to the grid, shape (n,)."""
    return problem.codes_of_nearest()


def randomized(problem: IntegerLeastSquares, seed: int = 0) -> NDArray[np.int64]:
    """Park and Boyd's randomized rounding of their relaxation, kept inside the box, shape (n,).

    3n samples with one-code moves, as in the paper "Pruning vs Quantization: Which is Better?".
    """
    from pvqbounds.solvers.native.quantization.box_hull_dual import solve_box_hull

    relaxed = relax(problem, "park-boyd", solve_box_hull)
    return randomized_rounding(problem, relaxed.mean, relaxed.covariance, seed=seed)


def nearest_plane_codes(problems: Sequence[IntegerLeastSquares]) -> list[Codes]:
    """What GPTQ does, without damping: inputs in their order, each making good the errors before it.

    Problems that share one Gram and one grid are rounded together, on one factor.
    """
    from pvqbounds.solvers.native.quantization.integer_codes import nearest_plane

    together: dict[tuple[int, bytes], list[int]] = {}
    for i, problem in enumerate(problems):
        together.setdefault((id(problem.gram), problem.grid), []).append(i)
    codes: list[Codes] = [problem.codes_of_nearest() for problem in problems]
    for members in together.values():
        first, centres = problems[members[0]], np.array([problems[i].centre for i in members])
        rounded = nearest_plane(error_form(first), centres, first.low, first.high)
        for i, row in zip(members, rounded, strict=True):
            codes[i] = row
    return codes


def quantized_by_methods(
    problems: Sequence[IntegerLeastSquares], seed: int = 0
) -> dict[str, tuple[Codes, ...]]:
    """Codes of every problem by each method: "rtn", "nearest-plane" and, up to 100 inputs, "randomized"."""
    methods = {
        "rtn": tuple(map(round_to_nearest, problems)),
        "nearest-plane": tuple(nearest_plane_codes(problems)),
    }
    if all(problem.n <= RANDOMIZED_LARGEST for problem in problems):
        methods["randomized"] = tuple(randomized(problem, seed) for problem in problems)
    return methods


def magnitude(problem: SparseLeastSquares) -> NDArray[np.float64]:
    """Keep the weights of largest magnitude as they are, the others zero, shape (n,)."""
    kept = magnitude_support(problem)
    weight = np.zeros(problem.n)
    weight[kept] = problem.weight[kept]
    return weight


def magnitude_refit(problem: SparseLeastSquares) -> NDArray[np.float64]:
    """Keep the weights of largest magnitude, re-fitted by least squares on the inputs, shape (n,)."""
    return problem.refit(magnitude_support(problem))


def layer_magnitude(problems: Sequence[SparseLeastSquares], nnz: int) -> list[SparseLeastSquares]:
    """Each channel with the number of its weights that are among the `nnz` largest of all channels."""
    size = np.abs(np.stack([problem.weight for problem in problems]))
    kept = np.zeros(size.size, dtype=bool)
    kept[np.argsort(-size.ravel(), kind="stable")[:nnz]] = True
    numbers = kept.reshape(size.shape).sum(axis=1).tolist()
    return [problem.with_nnz(number) for problem, number in zip(problems, numbers, strict=True)]


PRUNING: Mapping[str, PruningMethod] = {"magnitude": magnitude, "magnitude+refit": magnitude_refit}


def pruned_by_methods(
    problems: Sequence[SparseLeastSquares], seed: int = 0
) -> dict[str, tuple[NDArray[np.float64], ...]]:
    """Weights of every problem by each method of :data:`PRUNING`; nothing of them is random."""
    return {name: tuple(map(weight_of, problems)) for name, weight_of in PRUNING.items()}


METHODS: Mapping[str, Callable[[Any, int], Mapping[str, tuple[NDArray[Any], ...]]]] = {
    IntegerLeastSquares.task: quantized_by_methods,
    SparseLeastSquares.task: pruned_by_methods,
}
"""What the methods make of the problems of a side, by its task; the second argument is a seed."""

"""Layer-wise reconstruction: the registry's methods on all channels of a layer, and descent from there.

Quantization: round to nearest, K-best and AdaRound (:mod:`pvqbounds.methods`), each followed by descent by
single codes and by pairs of them; the best codes of each channel win. Pruning: optimal brain surgeon, under
budgets of the channels or one budget for all of them.

Everything here proposes; errors are evaluated from the codes and supports elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pvqbounds.errors import InputError, checked_flags
from pvqbounds.heuristics.rounding import improve
from pvqbounds.methods.adaround import AdaRound
from pvqbounds.methods.base import RoundingMethod
from pvqbounds.methods.channels import Channels
from pvqbounds.methods.inverse import conditioned_inverse
from pvqbounds.methods.k_best import KBest
from pvqbounds.methods.obs import OptimalBrainSurgeon, removals
from pvqbounds.problems import Gram, IntegerLeastSquares, SparseLeastSquares
from pvqbounds.problems.validation import as_real_array, whole_number

__all__ = ["reconstruct_pruning", "reconstruct_quantization"]

PAIRS_UP_TO = 1000
"""Inputs up to which codes descend by pairs as well: a round looks at all of them."""


def reconstruct_quantization(
    gram: Gram | ArrayLike,
    weight: ArrayLike,
    scales: ArrayLike,
    qmin: int,
    qmax: int,
    *,
    methods: Sequence[RoundingMethod] = (KBest(), AdaRound()),
    progress: Callable[[str], None] | None = None,
) -> NDArray[np.int64]:
    """Codes of small output error for all channels of a layer (of one group).

    Parameters
    ----------
    gram
        G = XᵀX/N, shape (n, n).
    weight
        Shape (channels, n).
    scales
        Step of the grid of each channel, shape (channels,).
    qmin, qmax
        Smallest and largest code.
    methods
        What proposes codes beside round to nearest, with its settings.
    progress
        Called with the name of each stage.

    Returns
    -------
    Codes, shape (channels, n).

    Raises
    ------
    InputError
        If shapes disagree or a value is not finite.
    """
    shared, rows = _checked(gram, weight)
    steps = as_real_array(scales, "The scales", ndim=1)
    if len(steps) != len(rows) or not (steps > 0.0).all():
        raise InputError(f"There must be one positive scale for each of the {len(rows)} channels.")
    report = progress or (lambda stage: None)
    problems = [
        IntegerLeastSquares(shared, row, float(step), qmin, qmax)
        for row, step in zip(rows, steps, strict=True)
    ]
    starts = [[problem.codes_of_nearest() for problem in problems]]
    for method in methods:
        report(method.label)
        starts.append(method.propose(problems))
    report("descent")
    pairs = shared.n <= PAIRS_UP_TO
    best = [
        improve(problem, np.array(own, dtype=np.float64), pairs=pairs)
        for problem, *own in zip(problems, *starts, strict=True)
    ]
    return np.array(best)


def reconstruct_pruning(
    gram: Gram | ArrayLike,
    weight: ArrayLike,
    *,
    nnz: int | None = None,
    pattern: tuple[int, int] | None = None,
    stride: int = 1,
    together: bool = False,
    progress: Callable[[str], None] | None = None,
) -> NDArray[np.float64]:
    """Weights of small output error with few non-zeros, for all channels of a layer (of one group).

    Parameters
    ----------
    gram
        G = XᵀX/N, shape (n, n).
    weight
        Shape (channels, n).
    nnz
        Weights to keep: in each channel, or in all of them together.
    pattern
        (N, M) in place of `nnz`: N of each M weights.
    stride
        How far apart the weights of a group of `pattern` lie, as in
        :class:`~pvqbounds.SparseLeastSquares`.
    together
        `nnz` is one budget for all channels.
    progress
        Called with what is being done.

    Returns
    -------
    Weights, shape (channels, n): zero where they are removed, re-fitted elsewhere.

    Raises
    ------
    InputError
        If shapes disagree, a value is not finite or the budget is missing, given twice or out of range.
    """
    checked_flags(together=together)
    shared, rows = _checked(gram, weight)
    (progress or (lambda stage: None))(OptimalBrainSurgeon.label)
    if not together:
        problems = [SparseLeastSquares(shared, row, nnz, pattern, stride) for row in rows]
        return np.array(OptimalBrainSurgeon().propose(problems))
    if pattern is not None or stride != 1:
        raise InputError("A pattern is a budget of its own; leave out together.")
    most = whole_number(nnz, "nnz", 0, rows.size)
    channels = [SparseLeastSquares(shared, row, nnz=0) for row in rows]
    supports = _supports_together(channels, most)
    return np.array([problem.refit(own) for problem, own in zip(channels, supports, strict=True)])


def _supports_together(channels: Sequence[SparseLeastSquares], most: int) -> list[NDArray[np.int64]]:
    """What is kept of each channel where all keep so many weights together; dead inputs are not kept."""
    live = channels[0].shared.live
    if not live.any():
        return [np.flatnonzero(live) for _ in channels]
    inner = Channels([problem.among(live) for problem in channels])
    order, cost = removals(conditioned_inverse(inner.gram), inner)
    # a removal waits for those before it, so that it counts with the largest cost so far
    ranks = np.maximum.accumulate(cost, axis=1).ravel()
    kept = np.ones(ranks.size, dtype=np.bool_)
    kept[np.argsort(ranks, kind="stable")[: max(0, ranks.size - most)]] = False
    inputs = np.flatnonzero(live)
    return [np.sort(inputs[own[mask]]) for own, mask in zip(order, kept.reshape(order.shape), strict=True)]


def _checked(gram: Gram | ArrayLike, weight: ArrayLike) -> tuple[Gram, NDArray[np.float64]]:
    shared = gram if isinstance(gram, Gram) else Gram(gram)
    rows = as_real_array(weight, "The weights", ndim=2)
    if rows.shape[1] != shared.n:
        raise InputError(f"A Gram of {shared.n} inputs does not fit weights of {rows.shape[1]}.")
    return shared, rows

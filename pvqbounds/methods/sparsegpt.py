"""SparseGPT: column after column, a block's mask from what removal costs, and rounding in the same pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError
from pvqbounds.methods.base import Method
from pvqbounds.methods.channels import Channels, GroupBudgets, for_each_gram
from pvqbounds.methods.columns import Now, settled
from pvqbounds.methods.inverse import checked_damping, inverse_factor
from pvqbounds.problems import LeastSquares, Problem, SparseLeastSquares, Task
from pvqbounds.problems.code_grids import has_grid

__all__ = ["SparseGpt"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SparseGpt(Method[Problem]):
    """Settle an input at a time on the inverse of the damped Gram: removed, rounded, or left as it is.

    Masks are chosen where their first column is reached: of a group of N:M at once, of a budget of a channel
    in blocks of columns. The paper shares the number of a block among the channels; here each has a budget
    of its own to keep, spent evenly over the blocks.
    """

    name: ClassVar[str] = "sparsegpt"
    label: ClassVar[str] = "SparseGPT"
    citation: ClassVar[str] = (
        'Frantar and Alistarh, "SparseGPT: massive language models can be accurately pruned in one-shot", '
        "ICML 2023"
    )
    tasks: ClassVar[tuple[Task, ...]] = ("pruning", "joint")
    problems: ClassVar[tuple[type[Problem], ...]] = (LeastSquares, SparseLeastSquares)
    listed_up_to: ClassVar[float] = inf

    damp: float = 0.01
    """Added to the diagonal of the Gram, as a fraction of its mean, for the factor alone."""
    block: int = 128
    """Columns whose mask is chosen at a time under a budget of the channel."""

    def __post_init__(self) -> None:
        checked_damping(self.damp)
        if self.block < 1:
            raise InputError(f"A block has at least one column, not {self.block}.")

    def proposes_for(self, problem: Problem) -> bool:
        """Whether it is pruning, or values that rounding takes are steps or in a table."""
        return super().proposes_for(problem) and (problem.task == "pruning" or has_grid(problem.values))

    def propose(self, problems: Sequence[Problem], seed: int = 0) -> list[NDArray[Any]]:
        """All channels of one Gram together, on one factor."""
        return for_each_gram(
            problems, lambda gram: inverse_factor(gram, self.damp), partial(_settled, self.block)
        )


def _settled(block: int, factor: Array, channels: Channels) -> Array:
    groups: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
    for budgets in channels.budgets:
        groups |= _by_first_input(budgets, block)
    pivots = np.diagonal(factor)
    kept = np.ones(channels.weight.shape, dtype=np.bool_)
    rounds = isinstance(channels.problems[0], LeastSquares)

    def value_of(i: int, now: Array, weights_now: Now) -> Array:
        if i in groups:
            inputs, most = groups[i]
            cost = np.square(weights_now(inputs).T / pivots[inputs])
            own = GroupBudgets(inputs[None], most[:, None])
            kept[:, inputs] = own.largest(cost[:, None])[:, 0]
        return np.where(kept[:, i], channels.nearest(i, now) if rounds else now, 0.0)

    return settled(channels.weight, factor, value_of)


def _by_first_input(
    budgets: GroupBudgets, block: int
) -> dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Inputs whose mask is chosen together, and how many each channel keeps, by the first of them."""
    found = {}
    size = budgets.inputs.shape[1]
    for inputs, most in zip(budgets.inputs, budgets.most.T, strict=True):
        for start in range(0, size, block):
            stop = min(start + block, size)
            # exact in whole numbers, so that the blocks of a channel keep its budget together
            own = most * stop // size - most * start // size
            found[int(inputs[start])] = inputs[start:stop], own
    return found

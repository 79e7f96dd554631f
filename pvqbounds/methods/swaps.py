"""Optimal 1-swaps: a kept weight for a removed one, the best pair first, until no pair gains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from pvqbounds.methods.base import PruningMethod
from pvqbounds.methods.channels import Channels, for_each_gram
from pvqbounds.methods.wanda import kept_by_wanda
from pvqbounds.problems import SparseLeastSquares
from pvqbounds.problems.gram import Gram

__all__ = ["Swaps"]

Array = NDArray[np.float64]

LEAST_GAIN = 1e-12
"""Of the sum of what the weights cost one by one: a gain that rounding may feign."""

MOST = 10
"""Swaps at most, as a multiple of n: an end that is hardly ever reached."""


@dataclass(frozen=True)
class Swaps(PruningMethod):
    """From what Wanda keeps, exchange weights within their groups, as they are."""

    name: ClassVar[str] = "swaps"
    label: ClassVar[str] = "optimal 1-swaps"
    citation: ClassVar[str] = (
        'Zimmer, Roux, Wagner, Hendrych and Pokutta, "SparseSwaps: tractable LLM pruning mask refinement at '
        'scale", 2025'
    )

    refit: bool = False
    """Re-fit what is kept in the end."""

    def propose(self, problems: Sequence[SparseLeastSquares], seed: int = 0) -> list[NDArray[np.float64]]:
        """Each channel by itself, from a mask that all get together."""
        return for_each_gram(problems, lambda gram: gram, partial(_pruned, self.refit))


def _pruned(refit: bool, gram: Gram, channels: Channels) -> Array:
    pruned = np.zeros_like(channels.weight)
    for channel, kept in enumerate(kept_by_wanda(gram, channels)):
        best = _swapped(gram.over_mean, channels.weight[channel], kept, [b.inputs for b in channels.budgets])
        if refit:
            problem = cast(SparseLeastSquares, channels.problems[channel])
            pruned[channel] = problem.refit(np.flatnonzero(best))
        else:
            pruned[channel, best] = channels.weight[channel, best]
    return pruned


def _swapped(
    form: Array, weight: Array, kept: NDArray[np.bool_], groups: Sequence[NDArray[np.int64]]
) -> NDArray[np.bool_]:
    """The mask after all swaps that gain.

    Where the removed weights are d, removing i adds 2 w_i (Gd)_i + w_i² G_ii to the error, returning j takes
    2 w_j (Gd)_j - w_j² G_jj from it, and both together take another 2 w_i w_j G_ij.
    """
    kept = kept.copy()
    own = weight**2 * np.diagonal(form)
    floor = LEAST_GAIN * float(own.sum())
    pull = form @ np.where(kept, 0.0, weight)
    for _ in range(MOST * len(weight)):
        removing = np.where(kept, 2.0 * weight * pull + own, np.inf)
        returning = np.where(kept, np.inf, own - 2.0 * weight * pull)
        swaps = [_best_swap(form, weight, removing, returning, inputs) for inputs in groups]
        change, out, back = min(swaps, default=(0.0, 0, 0))
        if not change < -floor:
            break
        kept[out], kept[back] = False, True
        pull += form[:, out] * weight[out] - form[:, back] * weight[back]
    return kept


def _best_swap(
    form: Array, weight: Array, removing: Array, returning: Array, groups: NDArray[np.int64]
) -> tuple[float, int, int]:
    """Least change of the error within groups, shape (groups, size), what goes and what comes back."""
    out, back = groups[:, :, None], groups[:, None, :]
    change = removing[out] + returning[back] - 2.0 * weight[out] * weight[back] * form[out, back]
    if change.size == 0:
        return np.inf, 0, 0
    g, i, j = np.unravel_index(change.argmin(), change.shape)
    return float(change[g, i, j]), int(groups[g, i]), int(groups[g, j])

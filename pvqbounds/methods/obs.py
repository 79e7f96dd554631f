"""Optimal brain surgeon: the weight whose removal costs least goes, the others are re-fitted, and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from pvqbounds.methods.base import PruningMethod
from pvqbounds.methods.channels import Channels, for_each_gram
from pvqbounds.methods.inverse import conditioned_inverse
from pvqbounds.problems import SparseLeastSquares

__all__ = ["OptimalBrainSurgeon", "removals"]

Array = NDArray[np.float64]


class OptimalBrainSurgeon(PruningMethod):
    """Remove one weight at a time, each the cheapest, w_i² / (H⁻¹)_ii of those whose group may lose one.

    The others take their best values. A singular Gram gets a ridge of 1e-10 of each input's power for its
    inverse; the weights that are left are re-fitted on the Gram itself.
    """

    name: ClassVar[str] = "obs"
    label: ClassVar[str] = "OBS"
    citation: ClassVar[str] = (
        'Hassibi and Stork, "Second order derivatives for network pruning", NIPS 1992; for '
        'layers, Frantar, Singh and Alistarh, "Optimal brain compression", NeurIPS 2022'
    )
    listed_up_to: ClassVar[float] = 100  # n³ for each channel
    on_singular: ClassVar[str] = "takes the inverse of the Gram with a ridge of 1e-10 of each input's power"

    def propose(self, problems: Sequence[SparseLeastSquares], seed: int = 0) -> list[NDArray[np.float64]]:
        """Each channel on a copy of one inverse."""
        return for_each_gram(problems, conditioned_inverse, _pruned)


def removals(inverse: Array, channels: Channels) -> tuple[NDArray[np.int64], Array]:
    """Inputs in the order of their removal, -1 where no more have to go, and what each adds to the error.

    Returns
    -------
    order, cost
        Shape (channels, n) each.
    """
    from pvqbounds.heuristics.supports import eliminate

    group = np.empty(len(inverse), dtype=np.int64)
    need: list[NDArray[np.int64]] = []
    for budgets in channels.budgets:
        for inputs, most in zip(budgets.inputs, budgets.most.T, strict=True):
            group[inputs] = len(need)
            need.append(len(inputs) - most)
    found = [
        eliminate(inverse.copy(), weight, group, own)
        for weight, own in zip(channels.weight, np.stack(need, axis=1), strict=True)
    ]
    return np.stack([order for order, _ in found]), np.diff(np.stack([cost for _, cost in found]))


def _pruned(inverse: Array, channels: Channels) -> Array:
    order, _ = removals(inverse, channels)
    kept = [np.setdiff1d(np.arange(len(inverse)), own) for own in order]
    sparse = cast(Sequence[SparseLeastSquares], channels.problems)
    return np.stack([problem.refit(own) for problem, own in zip(sparse, kept, strict=True)])

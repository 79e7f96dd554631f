"""ALPS: alternating directions between the least squares and the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError
from pvqbounds.methods.base import PruningMethod
from pvqbounds.methods.channels import Channels, for_each_gram
from pvqbounds.methods.inverse import checked_damping
from pvqbounds.problems import SparseLeastSquares
from pvqbounds.problems.gram import Gram

__all__ = ["Alps"]

Array = NDArray[np.float64]

PENALTY = 0.1
"""ρ at the beginning."""

EVERY = 3
"""Iterations between two changes of ρ."""

FASTER, FAST, SLOW = (0.1, 1.3), (0.005, 1.2), 1.1
"""By what ρ grows where more than such a share of the support changes, and where some of it does."""

LOWER = 5.0
"""By what ρ falls where it froze the support before it changed much."""

SETTLED, PATIENCE = 0.0003, 30
"""Share of the support under whose change it is settled, and iterations before that counts."""


@dataclass(frozen=True)
class Alps(PruningMethod):
    """ADMM on inputs of power 1 whose penalty grows as the support settles; then the re-fit.

    Each channel has its own penalty, as if it were a layer, and keeps its own budget. The paper ends with
    ten steps of conjugate gradients; here with the re-fit itself, on the Gram without damping.
    """

    name: ClassVar[str] = "alps"
    label: ClassVar[str] = "ALPS (ADMM)"
    citation: ClassVar[str] = (
        'Meng, Behdin, Wang and Mazumder, "ALPS: improved optimization for highly sparse one-shot pruning '
        'for large language models", NeurIPS 2024'
    )

    damp: float = 0.01
    """Added to the diagonal of the Gram, as a fraction of its mean, while the support is sought."""
    iterations: int = 300

    def __post_init__(self) -> None:
        checked_damping(self.damp)
        if self.iterations < 1:
            raise InputError(f"ALPS takes at least one iteration, not {self.iterations}.")

    def propose(self, problems: Sequence[SparseLeastSquares], seed: int = 0) -> list[NDArray[np.float64]]:
        """All channels of one Gram together, on its eigenvectors."""
        return for_each_gram(problems, self._spectrum, partial(_pruned, self.iterations))

    def _spectrum(self, gram: Gram) -> Spectrum:
        damped = gram.over_mean + self.damp * np.eye(gram.n)
        power = np.sqrt(np.diagonal(damped))
        values, vectors = np.linalg.eigh(damped / power / power[:, None])
        return Spectrum(power, np.maximum(values, 0.0), vectors)


class Spectrum(NamedTuple):
    """The damped Gram of inputs of power 1."""

    power: Array
    """Root mean square of each input, shape (n,)."""
    values: Array
    """Shape (n,)."""
    vectors: Array
    """In columns, shape (n, n)."""


def _pruned(iterations: int, gram: Spectrum, channels: Channels) -> Array:
    masks = _supports(iterations, gram, channels)
    sparse = cast(Sequence[SparseLeastSquares], channels.problems)
    return np.stack([p.refit(np.flatnonzero(mask)) for p, mask in zip(sparse, masks, strict=True)])


def _supports(iterations: int, gram: Spectrum, channels: Channels) -> NDArray[np.bool_]:
    """What the budgets keep of the last unrestricted weights, shape (channels, n)."""
    target = channels.weight * gram.power
    pull = (target @ gram.vectors) * gram.values @ gram.vectors.T
    support = channels.largest(np.abs(target))
    least = np.maximum(support.sum(axis=1), 1)
    first = np.where(support, target, 0.0)
    dense, sparse, dual = target.copy(), first.copy(), np.zeros_like(target)
    penalty = np.full((len(target), 1), PENALTY)
    moved, going = np.zeros(len(target), dtype=np.bool_), np.ones(len(target), dtype=np.bool_)
    for count in range(1, iterations + 1):
        right = (pull - dual + penalty * sparse) @ gram.vectors
        found = right / (gram.values + penalty) @ gram.vectors.T
        dense = np.where(going[:, None], found, dense)  # a channel that has settled stays
        wanted = dense + dual / penalty
        kept = channels.largest(np.abs(wanted))
        sparse = np.where(kept, wanted, 0.0)
        dual = dual + penalty * (dense - sparse)
        if count % EVERY:
            continue
        changed = (kept != support).sum(axis=1)
        support, share = kept, changed / least
        growth, back = _growth(changed, share, moved)
        penalty = penalty * growth[:, None]
        going &= ~((moved & (changed == 0)) | ((count > PATIENCE) & (share < SETTLED)))
        moved |= share > FAST[0]
        sparse[back], dual[back] = first[back], 0.0
        if not going.any():
            break
    return channels.largest(np.abs(dense))


def _growth(
    changed: NDArray[np.int64], share: Array, moved: NDArray[np.bool_]
) -> tuple[Array, NDArray[np.bool_]]:
    """Factors for ρ of each channel, and which channels begin again."""
    slow = np.where(moved, SLOW, 1.0 / LOWER)
    still = np.where(moved, 1.0, 1.0 / LOWER)
    growth = np.where(changed > 0, slow, still)
    growth = np.where(share > FAST[0], FAST[1], growth)
    growth = np.where(share > FASTER[0], FASTER[1], growth)
    return growth, (changed > 0) & (share <= FAST[0]) & ~moved

"""A format for each layer of a network under a budget, and what no such choice can beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pvqbounds.results.bounds import LowerKind

__all__ = ["Allocation", "Chosen"]


@dataclass(frozen=True)
class Chosen:
    """The format that a layer has in a choice."""

    layer: str
    format: str
    weights: int
    size: int
    """Bits."""
    error: float
    """Sensitivity times error over signal of the best weights found, rounded up."""
    error_lower: float
    """No weights of this format have less, rounded down."""
    tied: tuple[str, ...] = ()
    """Other layers that have the very same weights, which count once; errors are sums over all of them."""


@dataclass(frozen=True)
class Allocation:
    """One choice, and a bound on all of them.

    Errors are sums over the layers of sensitivity times error over signal.
    """

    budget: int
    """Bits that the weights of all layers may take together."""
    weights: int
    """Number of weights of all layers."""
    layers: tuple[Chosen, ...]
    size: int
    """Bits that it takes."""
    error: float
    """What it reaches with the best weights found, rounded up."""
    error_lower: float
    """No choice among the formats within the budget has less, rounded down."""
    lower_kind: LowerKind
    """"certified", unless one of the layers' own bounds is only "reported"."""
    closed: bool
    """Whether the bound is the least sum of the layers' bounds, not only a bound on that."""
    whole: bool = True
    """Whether all channels of all layers were looked at; else errors and bound are about those that were."""

    @property
    def choice(self) -> Mapping[str, str]:
        """The format of each layer, by its name."""
        return {name: chosen.format for chosen in self.layers for name in (chosen.layer, *chosen.tied)}

    @property
    def bits_per_weight(self) -> float:
        """Size of the choice."""
        return self.size / self.weights

    @property
    def budget_per_weight(self) -> float:
        """The budget in bits a weight."""
        return self.budget / self.weights

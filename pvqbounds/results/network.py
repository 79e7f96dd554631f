"""The result of a whole network: a report for each layer, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pvqbounds.results.layer import LayerReport

__all__ = ["LayerEntry", "NetworkReport"]


@dataclass(frozen=True, eq=False)
class LayerEntry:
    """One layer of the network."""

    name: str
    description: str
    """Kind and geometry of the layer in words."""
    inputs: int
    """Fan-in of an output channel."""
    channels: int
    """Output channels in all."""
    weights: int
    """Number of its weights."""
    report: LayerReport | None
    """Its sides that stand, in the order of the network's formats; None where there is none yet."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """By the names of sides that failed: what happened, in a sentence."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """By the names of formats that mean nothing for this layer: why."""

    def __repr__(self) -> str:
        stands = 0 if self.report is None else len(self.report.sides)
        return f"<LayerEntry {self.name}: {stands} sides, {len(self.failures)} failed>"


@dataclass(frozen=True, eq=False)
class NetworkReport:
    """All layers of a network that were asked for, each held to the same formats."""

    model: str
    digest: str
    """SHA-256 of the weights of the layers that were asked for."""
    layers: tuple[LayerEntry, ...]
    """In the model's own order."""
    formats: tuple[str, ...]
    """Names of the sides in their order: formats, then compressed weights by what they are called."""
    settings: Mapping[str, Any]
    """What was asked, by the names of options."""
    version: str
    """Of the package that began the store."""
    command: str = ""
    """The command line that began it; empty from Python."""
    notes: tuple[str, ...] = ()
    """What a reader must know about the model, a sentence each."""

    def __repr__(self) -> str:
        return (
            f"<NetworkReport {self.model}: {len(self.layers)} layers, {self.done} of {self.planned} sides, "
            f"{self.failed} failed>"
        )

    @property
    def planned(self) -> int:
        """Sides that were asked for and mean something for their layer."""
        return sum(len(self.formats) - len(entry.left_out) for entry in self.layers)

    @property
    def done(self) -> int:
        """Sides that stand."""
        return sum(len(entry.report.sides) for entry in self.layers if entry.report is not None)

    @property
    def failed(self) -> int:
        """Sides that failed."""
        return sum(len(entry.failures) for entry in self.layers)

    def layer(self, name: str) -> LayerEntry:
        """The layer of this name.

        Raises
        ------
        KeyError
            If there is none.
        """
        for entry in self.layers:
            if entry.name == name:
                return entry
        raise KeyError(name)

"""The result of a whole network: a report for each layer, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pvqbounds.errors import InputError, shown
from pvqbounds.results.layer import LayerReport
from pvqbounds.results.layer_names import names_like

__all__ = ["LayerEntry", "NetworkReport", "Tied"]

MOST_NAMED = 12
"""Layers that an error message lists at most."""


@dataclass(frozen=True)
class Tied:
    """Layers that have the very same weights."""

    layers: tuple[str, ...]
    """Their names; one alone where only something else holds the same weights."""
    others: tuple[str, ...] = ()
    """Names of parameters in the same memory that belong to none of these layers, such as an embedding's."""


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
    tied: tuple[Tied, ...] | None = None
    """Which layers have the very same weights; None where it is not known."""
    left_out: tuple[str, ...] = ()
    """Names of layers that are left out: :meth:`without`."""
    proved: bool = False
    """Whether all of it was proved again when it was read; else it is as the store has it."""

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

    def without(self, wanted: Sequence[str]) -> NetworkReport:
        """The network without some layers, which have no part in an allocation and stay dense in an export.

        Parameters
        ----------
        wanted
            Names, or patterns with ``*``, ``?`` and ``[...]``.

        Raises
        ------
        InputError
            If one stands for no layer.
        """
        known = [entry.name for entry in self.layers]
        for pattern in wanted:
            if not names_like(pattern, known):
                raise InputError(
                    f"No layer of the network is called like {shown(pattern)}, to be left out; it has "
                    f"{', '.join(map(shown, known[:MOST_NAMED]))}{', ...' * (len(known) > MOST_NAMED)}."
                )
        return self.parted([name for pattern in wanted for name in names_like(pattern, known)])

    def parted(self, names: Sequence[str]) -> NetworkReport:
        """The same of names, none of them a pattern, of layers that need not be in the report."""
        parted = [_parted(each, names) for each in self.tied or ()]
        tied = None if self.tied is None else tuple(each for each in parted if each is not None)
        return replace(
            self,
            layers=tuple(entry for entry in self.layers if entry.name not in names),
            tied=tied,
            left_out=tuple(dict.fromkeys([*self.left_out, *names])),
        )

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


def _parted(tied: Tied, names: Sequence[str]) -> Tied | None:
    """What is left of tied layers without some of them, which still hold the same weights."""
    kept = tuple(name for name in tied.layers if name not in names)
    gone = tuple(name for name in tied.layers if name in names)
    return Tied(kept, (*gone, *tied.others)) if kept else None

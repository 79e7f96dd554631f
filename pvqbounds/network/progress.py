"""How far a network is: layers, channels, and the time that the rest may take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pvqbounds.storage.network_store import Store

if TYPE_CHECKING:
    from pvqbounds.network.unit import Unit

__all__ = ["NetworkProgress", "Progress"]


@dataclass(eq=False)
class Progress:
    """What is done of this run's layers."""

    layers: int
    """Layers in all."""
    open: dict[str, int]
    """Sides that do not stand yet, by layer."""
    channels: int
    """Channels in all, each once for every side."""
    channels_done: int
    """Of them those of units that stand, and of those that are being worked on."""
    failed: int = 0
    """Units that failed."""
    doing: str = ""
    """What is being done, in words."""
    _work: float = 0.0
    _spent: float = 0.0
    _since: float = 0.0
    _shares: dict[tuple[str, str], float] = field(default_factory=dict)
    _counted: dict[tuple[str, str], int] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store, layers: Mapping[str, Any]) -> Progress:
        """How far a store is, of the layers of a run."""
        plan = [(layer, side) for layer, side in store.units() if layer.name in layers]
        stands = [(layer, side) for layer, side in plan if store.is_done(layer.name, side)]
        count: dict[str, int] = dict.fromkeys(layers, 0)
        for layer, side in plan:
            count[layer.name] += (layer, side) not in stands
        return cls(
            layers=len(layers),
            open=count,
            channels=sum(layer.channels for layer, _ in plan),
            channels_done=sum(layer.channels for layer, _ in stands),
        )

    def begin(self, units: Sequence[Unit]) -> None:
        """These units are to be done now."""
        self._work, self._spent, self._since = sum(unit.cost for unit in units), 0.0, time.monotonic()

    def advance(self, unit: Unit, done: int, total: int) -> None:
        """So many problems of a unit are done."""
        self._set(unit, done / max(total, 1))
        self.doing = f"{unit.layer.name} {unit.side}"

    def end(self, unit: Unit, *, failed: bool) -> None:
        """A unit stands, or has failed."""
        self._set(unit, 1.0)
        self.failed += failed
        self.open[unit.layer.name] -= not failed

    def _set(self, unit: Unit, share: float) -> None:
        before = self._shares.get(unit.key, 0.0)
        self._shares[unit.key] = share
        self._spent += (share - before) * unit.cost
        channels = round(share * unit.shape[0])
        self.channels_done += channels - self._counted.get(unit.key, 0)
        self._counted[unit.key] = channels

    @property
    def layers_done(self) -> int:
        """Layers all of whose sides stand."""
        return sum(count == 0 for count in self.open.values())

    @property
    def seconds_left(self) -> float | None:
        """What the rest may take, at the pace so far; None where that is not known yet."""
        if not 0.0 < self._spent < self._work:
            return None
        return (time.monotonic() - self._since) * (self._work - self._spent) / self._spent


NetworkProgress = Callable[[Progress], None]
"""Called with how far a network is."""

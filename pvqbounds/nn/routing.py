"""Which tokens reach an expert of a mixture, so that a mask of tokens can be told from its rows.

An expert is given some of the tokens in an order of their own, which no mask has the shape of. But the rows
that it is given are rows of what its block was given, to the last bit: each is looked up there. Equal rows
are routed alike, so that it does not matter which of them is meant; they are taken in their order. Layers
within an expert have its rows. Where a block changes tokens before it routes them nothing is found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn

from pvqbounds.nn.experts import Expert
from pvqbounds.nn.layer_kinds import Take
from pvqbounds.nn.layers import Layer, unwrapped_name
from pvqbounds.nn.positions import Positions

__all__ = ["Entrance", "Handed", "Routed", "entrance_of", "hearing"]

MODULES = re.compile(r"(?:(.+)\.)?experts\.[^.]+(?:\..+)?")
"""Names of experts that are modules, and of layers within them."""

DIGEST = 16
"""Bytes."""


@dataclass(frozen=True)
class Entrance:
    """Where the tokens of an expert come in."""

    block: nn.Module
    """What is called with all tokens."""
    entering: Callable[[Take], AbstractContextManager[None]]
    """Hands what the expert is given to a callable, while the context lasts."""


def entrance_of(model: nn.Module, layer: Layer) -> Entrance | None:
    """The entrance of the expert that a layer is, or lies in; None where it does not."""
    if isinstance(layer.kind, Expert):
        return Entrance(layer.kind.called, layer.kind.entering)
    found = MODULES.fullmatch(layer.name)
    if found is None:
        return None
    modules = {unwrapped_name(name): module for name, module in model.named_modules(remove_duplicate=False)}
    prefix = "" if found[1] is None else f"{found[1]}."
    number = layer.name[len(f"{prefix}experts.") :].partition(".")[0]
    expert = modules[f"{prefix}experts.{number}"]
    return Entrance(modules[found[1] or ""], lambda take: hearing(expert, take))


@contextmanager
def hearing(module: nn.Module, take: Take) -> Iterator[None]:
    """Hand the first tensor that a module is called with to a callable, while the context lasts."""

    def hear(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        if given:
            take(given[0].detach())

    handle = module.register_forward_pre_hook(hear, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@dataclass
class Handed:
    """The tokens that a block was given last, and how much each of them counts."""

    positions: Callable[[], Positions]
    name: str
    """Of a layer, for messages."""
    calls: int = 0
    _tokens: Tensor | None = None
    _weights: Tensor | None = None
    _by_row: dict[bytes, list[float]] = field(default_factory=dict)

    def take(self, tokens: Tensor) -> None:
        """The block is called."""
        self.calls += 1
        fitted = self.positions().of(tuple(tokens.shape[:-1]), self.name) if tokens.dim() else None
        self._tokens, self._weights, self._by_row = tokens, fitted, {}

    def of(self, rows: Tensor) -> Tensor | None:
        """The weights of tokens, shape (tokens, n); None where one of them was not handed over."""
        if self._tokens is None or self._weights is None:
            return None
        if not self._by_row:
            for digest, weight in zip(_digests(self._tokens), self._weights.tolist(), strict=True):
                self._by_row.setdefault(digest, []).append(weight)
        met: dict[bytes, int] = {}
        found = []
        for digest in _digests(rows):
            known, place = self._by_row.get(digest, []), met.get(digest, 0)
            if place >= len(known):
                return None
            found.append(known[place])
            met[digest] = place + 1
        return torch.tensor(found, dtype=torch.float64)


def _digests(rows: Tensor) -> Iterator[bytes]:
    flat = rows.reshape(-1, rows.shape[-1]).cpu().contiguous()
    for row in flat.view(torch.uint8).numpy():
        yield blake2b(row.data, digest_size=DIGEST).digest()


class Routed:
    """The tokens that one expert was given last."""

    def __init__(self, handed: Handed) -> None:
        self._handed = handed
        self._call = 0
        self._rows: Tensor | None = None

    def take(self, rows: Tensor) -> None:
        """The expert is called."""
        self._call, self._rows = self._handed.calls, rows

    def of(self, places: tuple[int, ...]) -> Tensor | None:
        """The weights of the positions of a layer of the expert; None where they are not its tokens."""
        rows = self._rows if self._call == self._handed.calls else None
        if rows is None or rows.dim() == 0 or tuple(rows.shape[:-1]) != places:
            return None
        return self._handed.of(rows)

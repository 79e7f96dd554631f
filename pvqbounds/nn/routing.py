"""Which tokens reach an expert of a mixture, so that a mask of tokens can be told from its rows.

An expert is given some of the tokens in an order of their own, which no mask has the shape of. But the rows
that it is given are rows of what its block was given, to the last bit: each is looked up there. Equal rows
are mostly routed alike, so that it does not matter which of them is meant; they are taken in their order,
over all calls of the expert in one call of its block. Where more come than there are, none of them is known,
unless all of them count alike; where fewer have come when the block is done (a router that looks at
positions, or drops what is beyond a capacity), which of them it were is not known either, which is said.
Layers within an expert have its rows. Where a block changes tokens before it routes them nothing is found,
and that a mask has the shape of what an expert is given says nothing: tokens that are sorted by their scores
may have it too. Of experts in one parameter the rows of the outer projection are those of the product of the
inner one that they were made from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn

from pvqbounds.errors import InputError
from pvqbounds.nn.experts import Expert
from pvqbounds.nn.layer_kinds import Take, before_calls
from pvqbounds.nn.layers import Layer, module_of
from pvqbounds.nn.positions import Positions

__all__ = ["Routed", "Routes"]

MODULES = re.compile(r"(?:(.+)\.)?experts\.([^.]+)(?:\..+)?")
"""Names of experts that are modules, and of layers within them."""

DIGEST = 16
"""Bytes."""


@dataclass(frozen=True)
class Entrance:
    """Where the tokens of an expert come in."""

    block: nn.Module
    """What is called with all tokens."""
    expert: Hashable
    """Which of its experts, and by which projection where it has several."""
    entering: Callable[[Take], AbstractContextManager[None]]
    """Hands what the expert is given to a callable, while the context lasts."""
    origin: Callable[[], int | None] | None = None
    """Tells which product of the entrance rows come from, where layers do not run within calls of it."""


def entrance_of(model: nn.Module, layer: Layer) -> Entrance | None:
    """The entrance of the expert that a layer is, or lies in; None where it does not."""
    if isinstance(layer.kind, Expert):
        kind = layer.kind
        return Entrance(kind.called, (kind.number, kind.entrance), kind.entering, lambda: kind.origin)
    found = MODULES.fullmatch(layer.name)
    if found is None:
        return None
    block = module_of(model, found[1] or "")
    expert = module_of(block, f"experts.{found[2]}")
    return Entrance(block, expert, lambda take: hearing(expert, take))


@contextmanager
def hearing(module: nn.Module, take: Take, axes: int = 1) -> Iterator[None]:
    """Hand the tokens that a module is called with to a callable, while the context lasts.

    Parameters
    ----------
    axes
        How many they have at least: they are the first tensor of real numbers that does, whatever masks and
        routes stand before it.
    """

    def hear(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensors = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        given = next((each for each in tensors if each.is_floating_point() and each.dim() >= axes), None)
        if given is not None:
            take(given.detach())

    with before_calls(module, hear):
        yield


@dataclass
class Handed:
    """The tokens that a block was given last, and how much each of them counts."""

    positions: Callable[[], Positions]
    calls: int = 0
    done: list[Callable[[], None]] = field(default_factory=list)
    """What is called once the block has had all of its tokens."""
    _tokens: Tensor | None = None
    _twins: dict[bytes, list[int]] = field(default_factory=dict)

    def take(self, tokens: Tensor) -> None:
        """The block is called."""
        self.calls += 1
        self._tokens, self._twins = tokens, {}

    def leave(self) -> None:
        """The block is done."""
        for each in self.done:
            each()

    def twins(self) -> dict[bytes, list[int]]:
        """Which tokens have a row, by its digest, in their order."""
        if not self._twins and self._tokens is not None:
            for number, digest in enumerate(_digests(self._tokens)):
                self._twins.setdefault(digest, []).append(number)
        return self._twins

    def weights(self, layer: str) -> Tensor | None:
        """Of the tokens, shape (tokens,), for a layer of an expert; None where no mask fits them.

        Raises
        ------
        InputError
            If two masks fit and differ.
        """
        return None if self.places is None else self.positions().of(self.places, layer)

    @property
    def places(self) -> tuple[int, ...] | None:
        """Shape of the positions of the tokens; None where the block was not called with any."""
        return None if self._tokens is None else tuple(self._tokens.shape[:-1])


def _digests(rows: Tensor) -> Iterator[bytes]:
    if rows.dim() == 0:
        return
    flat = rows.reshape(-1, rows.shape[-1]).cpu().contiguous()
    for row in flat.view(torch.uint8).numpy():
        yield blake2b(row.data, digest_size=DIGEST).digest()


@dataclass(frozen=True)
class Given:
    """The tokens that one call of an expert was given."""

    places: tuple[int, ...]
    tokens: list[int] | None
    """Which token of the block each row is; None where one is none of them."""
    repeated: list[list[int]]
    """Tokens that are alike, of which more rows were given than there are."""


class Routed:
    """The tokens that one expert was given in a call of its block."""

    def __init__(self, handed: Handed, origin: Callable[[], int | None] | None = None) -> None:
        self.handed = handed
        """Those of its block."""
        self._origin = origin
        """What tells which product of the entrance rows come from; None where layers run within its calls."""
        self._call = 0
        self._met: dict[bytes, int] = {}
        """How often a row was given in this call of the block, in which the expert may be called often."""
        self._given: dict[int | None, Given] = {}
        """By the product of the entrance; the last call where layers run within it."""
        self.parted = False
        """Whether the expert was given some of several equal tokens that do not count alike, not all."""
        handed.done.append(self._settle)

    def take(self, rows: Tensor) -> None:
        """The expert is called."""
        if self._call != self.handed.calls:
            self._call, self._met, self._given = self.handed.calls, {}, {}
        if self.handed.positions().some_differ:
            self._given[self._origin() if self._origin else None] = self._look_up(rows)

    def _look_up(self, rows: Tensor) -> Given:
        known, found, repeated = self.handed.twins(), list[int](), list[list[int]]()
        for digest in _digests(rows):
            twins, place = known.get(digest, []), self._met.get(digest, 0)
            self._met[digest] = place + 1
            if place < len(twins):
                found.append(twins[place])
            elif twins:
                found.append(twins[0])
                repeated.append(twins)
        places = tuple(rows.shape[:-1])
        return Given(places, found if len(found) == math.prod(places) else None, repeated)

    def _settle(self) -> None:
        """See whether all of the tokens that are alike have come, once their block is done."""
        if self._call != self.handed.calls or not self._met:
            return
        try:
            weights = self.handed.weights("")
        except InputError:  # masks that differ: its layers were refused for that, by their names
            return
        known = self.handed.twins()
        for digest, count in self._met.items():
            twins = known.get(digest, [])
            if weights is not None and twins and count % len(twins):
                self.parted |= bool((weights[twins] != weights[twins[0]]).any())

    def of(self, places: tuple[int, ...], layer: str) -> Tensor | None:
        """The weights of the positions of a layer of the expert; None where they are not its tokens.

        Raises
        ------
        InputError
            If two masks fit the tokens of the block and differ.
        """
        given = self._given.get(self._origin() if self._origin else None)
        if self._call != self.handed.calls or given is None:
            return None
        if given.tokens is None or given.places != places:
            return None
        weights = self.handed.weights(layer)
        if weights is None or any(
            bool((weights[alike] != weights[alike[0]]).any()) for alike in given.repeated
        ):
            return None
        return weights[given.tokens]


class Routes:
    """What hears the tokens of experts: once for each, however many layers it has."""

    def __init__(self, model: nn.Module, positions: Callable[[], Positions], stack: ExitStack) -> None:
        self._model, self._positions, self._stack = model, positions, stack
        self._blocks: dict[nn.Module, Handed] = {}
        self._experts: dict[Hashable, Routed] = {}

    def of(self, layer: Layer) -> Routed | None:
        """What hears those of a layer's expert until the stack is closed; None if it belongs to none."""
        entrance = entrance_of(self._model, layer)
        if entrance is None:
            return None
        if entrance.block not in self._blocks:
            handed = Handed(self._positions)
            self._stack.enter_context(hearing(entrance.block, handed.take, axes=2))
            hook = entrance.block.register_forward_hook(lambda *_: handed.leave())
            self._stack.callback(hook.remove)
            self._blocks[entrance.block] = handed
        key = entrance.block, entrance.expert
        if key not in self._experts:
            routed = Routed(self._blocks[entrance.block], entrance.origin)
            self._stack.enter_context(entrance.entering(routed.take))
            self._experts[key] = routed
        return self._experts[key]

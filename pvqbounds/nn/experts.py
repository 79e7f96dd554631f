"""Experts of a mixture whose weights lie in one parameter: a layer for each expert and projection.

Their module is called once for all of them, and no expert is a module that could be heard. What an expert
is given is taken from the products that torch is asked for meanwhile: the rows that are multiplied by its
part of the parameter, which is known by its place in memory. From which product of the entrance the rows of
a later one come is followed through what torch computes in between, entry by entry: where rows are put
together, cut or sorted anew, or made of two such products, it is not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from pvqbounds.errors import InputError
from pvqbounds.nn.layer_kinds import Matrix, Take, restore_forward

__all__ = ["Expert", "experts_of"]

INNER, OUTER = ("gate_up_proj", "gate_proj", "up_proj"), "down_proj"
"""What transformers calls the parameters of shape (experts, out, in), or (experts, in, out)."""

PRODUCTS = {
    torch.ops.aten.mm.default: (0, 1),
    torch.ops.aten.bmm.default: (0, 1),
    torch.ops.aten.addmm.default: (1, 2),
    torch.ops.aten.baddbmm.default: (1, 2),
}
"""What linear layers, ``@`` and einsum come down to, and which of their arguments are the factors."""

CUTS = {
    torch.ops.aten.slice.Tensor: (1, 0),
    torch.ops.aten.split.Tensor: (2, 0),
    torch.ops.aten.split_with_sizes.default: (2, 0),
    torch.ops.aten.glu.default: (1, -1),
}
"""What may cut the last axis: which of its arguments is the axis, and what it is where that is left out."""

VIEWS = {
    torch.ops.aten.view.default,
    torch.ops.aten._unsafe_view.default,
    torch.ops.aten.unsqueeze.default,
    torch.ops.aten.squeeze.dim,
    torch.ops.aten.detach.default,
    torch.ops.aten.clone.default,
    torch.ops.aten._to_copy.default,
}
"""What leaves rows in their order where it leaves their length."""

Origin = tuple[int, ...]
"""Which product of the entrance rows come from, one by one in their order; one for each matrix of several."""


class Hearing:
    """What is called with the inputs of the experts of a module."""

    def __init__(self) -> None:
        self.takes: dict[tuple[str, int], list[Take]] = {}
        """By the name of the parameter and the expert's number."""
        self.origin: int | None = None
        """While rows are handed out: the product of the entrance that they are given to, or come from."""
        self.own: Any = None
        """What the module itself has in place of its class's forward, if anything."""


_HEARD: WeakKeyDictionary[nn.Module, Hearing] = WeakKeyDictionary()


class Expert(Matrix):
    """One projection of one expert."""

    def __init__(self, module: nn.Module, name: str, number: int, turned: bool) -> None:
        super().__init__(module)
        self._name, self.number, self.turned = name, number, turned
        self.interleaved = name == INNER[0] and getattr(module, "is_concatenated", None) is False  # gpt-oss

    @property
    def parameter(self) -> Tensor:
        """Its part of the parameter, shape (out, in), or (in, out) where that is turned."""
        weights: Tensor = getattr(self._module, self._name)
        return weights[self.number]

    def matrix(self, weight: Tensor) -> Tensor:
        """A channel a row."""
        return weight.mT if self.turned else weight

    @property
    def description(self) -> str:
        """Which it is, and its two sizes."""
        channels, inputs = self.matrix(self.parameter).shape
        return f"{self._name} {inputs}->{channels} of expert {self.number}"

    @contextmanager
    def listening(self, take: Take) -> Iterator[None]:
        """Hand what its weights are multiplied by to `take`, while the context lasts."""
        with self._hearing(self._name, take):
            yield

    @property
    def entrance(self) -> str:
        """The projection whose rows tell which tokens this one is given.

        One of the inner ones is given them itself: gate and up may be computed in either order, call by call.
        """
        return self._name if self._name in INNER else self.entrance_of_all

    @property
    def entrance_of_all(self) -> str:
        """The first of the inner projections: from its rows come those of the outer one."""
        return next(name for name in INNER if _is_stack(getattr(self._module, name, None)))

    @contextmanager
    def entering(self, take: Take) -> Iterator[None]:
        """Hand what the entrance is given to `take`, while the context lasts."""
        with self._hearing(self.entrance, take):
            yield

    @property
    def origin(self) -> int | None:
        """The product of the entrance that rows come from, row by row, while they are handed out."""
        heard = _HEARD.get(self._module)
        return None if heard is None else heard.origin

    @contextmanager
    def _hearing(self, name: str, take: Take) -> Iterator[None]:
        module: Any = self._module
        heard = _HEARD.setdefault(module, Hearing())
        if not heard.takes:
            heard.own = vars(module).get("forward")
            module.forward = partial(_watched, module, self.turned, self.entrance_of_all, heard)
        takes = heard.takes.setdefault((name, self.number), [])
        takes.append(take)
        try:
            yield
        finally:
            takes.remove(take)
            if not takes:
                del heard.takes[name, self.number]
            if not heard.takes:
                restore_forward(module, heard.own)


def experts_of(module: nn.Module) -> dict[str, Expert]:
    """Experts whose weights lie in parameters of a module itself, by names like ``3.down_proj``."""
    named: dict[str, Any] = {name: getattr(module, name, None) for name in (*INNER, OUTER)}
    found = {name: weight for name, weight in named.items() if _is_stack(weight)}
    down = found.get(OUTER)
    if down is None or len(found) < 2 or any(len(weight) != len(down) for weight in found.values()):
        return {}
    turned = _is_turned(module, next(iter(found.values())), down)
    return {
        f"{number}.{name}": Expert(module, name, number, turned)
        for number in range(len(down))
        for name in found
    }


def _is_stack(weight: Any) -> bool:
    return isinstance(weight, nn.Parameter) and weight.is_floating_point() and weight.dim() == 3


def _is_turned(module: nn.Module, inner: Tensor, down: Tensor) -> bool:
    """Whether weights have an input a row; without a gate shapes do not tell, and transformers says so."""
    stated = getattr(module, "is_transposed", None)
    return stated if isinstance(stated, bool) else inner.shape[2] != down.shape[1]


def _watched(
    module: nn.Module, turned: bool, entrance: str, heard: Hearing, *args: Any, **kwargs: Any
) -> Any:
    """Call the module as its class has it, and hear the products of its experts.

    Raises
    ------
    InputError
        If there are none: it computes in a way that is not known.
    """
    with _Products(module, turned, entrance, heard) as products:
        found = _written(module, heard.own)(*args, **kwargs)
    if not products.seen:
        raise InputError(
            f"A {type(module).__name__} was called and no product with the weights of one of its experts was "
            "seen; what they are given is not known: give it experts that are modules."
        )
    return found


def _written(module: nn.Module, own: Any) -> Any:
    """What the module computes: not a kernel that transformers puts in its place, which has no products."""
    if own is not None:
        return own
    forward: Any = type(module).forward
    home = getattr(forward, "__globals__", {}).get("__name__", "")
    dispatched = home.partition(".")[0] == "transformers" and hasattr(forward, "__wrapped__")
    return partial(forward.__wrapped__ if dispatched else forward, module)


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Looks at every product of matrices for the weights of experts."""

    def __init__(self, module: nn.Module, turned: bool, entrance: str, heard: Hearing) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = False
        self._module, self._turned, self._entrance, self._heard = module, turned, entrance, heard
        self._parts = {
            weight.data_ptr(): ((name, number), weight if turned else weight.mT)
            for name in {name for name, _ in heard.takes}
            for number, weight in enumerate(getattr(module, name))
        }
        self._count = 0
        """Products of the entrance so far, over all experts."""
        self._origins: Any = WeakTensorKeyDictionary()  # of Origin by Tensor

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Any operation of torch's."""
        places = PRODUCTS.get(func)
        made = None if places is None else self._multiplied(*(args[place] for place in places))
        result = func(*args, **(kwargs or {}))
        if places is None and self._origins:
            made = self._followed(func, args, kwargs or {}, result)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._tell(tensor, made)
        return result

    def _multiplied(self, left: Tensor, right: Tensor) -> Origin | None:
        """Look at a product; the products of the entrance that each of its matrices is, where all are."""
        pairs = [(left, right)] if left.dim() == 2 else list(zip(left, right, strict=True))
        origins: Any = self._origins.get(left, ())
        if len(origins) != len(pairs):
            origins = (None,) * len(pairs)
        made = []
        for (a, b), origin in zip(pairs, origins, strict=True):
            made.append(self._look(a, b, origin))
            self._look(b.mT, a.mT, None)
        known = tuple(each for each in made if each is not None)
        return known if len(known) == len(made) else None

    def _look(self, rows: Tensor, weight: Tensor, origin: int | None) -> int | None:
        """One product ``rows @ weight``, whatever the two are; its number where it is one of the entrance."""
        key, own = self._parts.get(weight.data_ptr(), (None, weight))
        if key is None or weight.numel() != own.numel():
            return None
        if (weight.shape, weight.stride()) != (own.shape, own.stride()):
            raise InputError(
                f"The experts of a {type(self._module).__name__} have weights with an input a "
                f"{'column' if self._turned else 'row'}, unlike what it says; its is_transposed should be "
                f"{not self._turned}."
            )
        self.seen = True
        number = None
        if key[0] == self._entrance:
            self._count += 1
            number = self._count
        self._heard.origin = origin if number is None else number
        try:
            for take in self._heard.takes.get(key, ()):
                take(rows)
        finally:
            self._heard.origin = None
        return number

    def _tell(self, tensor: Tensor, origin: Origin | None) -> None:
        """Keep what the rows of a tensor come from; forget it where it was written over."""
        if origin is not None and (len(origin) == 1 or (tensor.dim() > 2 and len(origin) == len(tensor))):
            self._origins[tensor] = origin
        else:
            self._origins.pop(tensor, None)

    def _followed(self, func: Any, args: Any, kwargs: Any, result: Any) -> Origin | None:
        """What the rows of a result come from, where they are made of those of its arguments one by one."""
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        known = [tensor for tensor in given if tensor in self._origins]
        if not known:
            return None
        origin: Origin = self._origins[known[0]]
        rows = known[0].shape[:-1]
        if any(self._origins[each] != origin or each.shape[:-1] != rows for each in known):
            return None
        made = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
        if torch.Tag.pointwise in func.tags:
            kept = all(each.shape[:-1] == rows for each in made)
        elif func in CUTS:
            place, standard = CUTS[func]
            axis = kwargs.get("dim", args[place] if len(args) > place else standard)
            kept = axis % known[0].dim() == known[0].dim() - 1
        else:
            whole = [(each.numel(), each.shape[-1:]) for each in (known[0], *made)]
            kept = func in VIEWS and len(set(whole)) == 1
        return origin if kept else None

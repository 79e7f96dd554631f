"""Experts of a mixture whose weights lie in one parameter: a layer for each expert and projection.

Their module is called once for all of them, and no expert is a module that could be heard. What an expert
is given is taken from the products that torch is asked for meanwhile: the rows that are multiplied by its
part of the parameter, which is known by its place in memory.
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

from pvqbounds.errors import InputError
from pvqbounds.nn.layer_kinds import Matrix, Take

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

Hearing = dict[tuple[str, int], list[Take]]
"""All that is called with the inputs of an expert, by the name of the parameter and the expert's number."""

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
        if self._name in INNER:
            return self._name
        return next(name for name in INNER if _is_stack(getattr(self._module, name, None)))

    @contextmanager
    def entering(self, take: Take) -> Iterator[None]:
        """Hand what the entrance is given to `take`, while the context lasts."""
        with self._hearing(self.entrance, take):
            yield

    @contextmanager
    def _hearing(self, name: str, take: Take) -> Iterator[None]:
        module: Any = self._module
        heard = _HEARD.setdefault(module, {})
        if not heard:
            module.forward = partial(_watched, module, self.turned, heard)
        takes = heard.setdefault((name, self.number), [])
        takes.append(take)
        try:
            yield
        finally:
            takes.remove(take)
            if not takes:
                del heard[name, self.number]
            if not heard:
                del module.forward


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


def _watched(module: nn.Module, turned: bool, heard: Hearing, *args: Any, **kwargs: Any) -> Any:
    """Call the module as its class has it, and hear the products of its experts.

    Raises
    ------
    InputError
        If there are none: it computes in a way that is not known.
    """
    kind: Any = type(module)
    written = getattr(kind.forward, "__wrapped__", kind.forward)  # not a kernel that stands in for it
    with _Products(module, turned, heard) as products:
        found = written(module, *args, **kwargs)
    if not products.seen:
        raise InputError(
            f"A {kind.__name__} was called and no product with the weights of one of its experts was seen; "
            "what they are given is not known: give it experts that are modules."
        )
    return found


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Looks at every product of matrices for the weights of experts."""

    def __init__(self, module: nn.Module, turned: bool, heard: Hearing) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = False
        self._module, self._turned, self._heard = module, turned, heard
        self._parts = {
            weight.data_ptr(): ((name, number), weight if turned else weight.mT)
            for name in {name for name, _ in heard}
            for number, weight in enumerate(getattr(module, name))
        }

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Any operation of torch's."""
        if (places := PRODUCTS.get(func)) is not None:
            left, right = (args[place] for place in places)
            for a, b in [(left, right)] if left.dim() == 2 else zip(left, right, strict=True):
                self._look(a, b)
                self._look(b.mT, a.mT)
        return func(*args, **(kwargs or {}))

    def _look(self, rows: Tensor, weight: Tensor) -> None:
        """One product ``rows @ weight``, whatever the two are."""
        key, own = self._parts.get(weight.data_ptr(), (None, weight))
        if key is None or weight.numel() != own.numel():
            return
        if (weight.shape, weight.stride()) != (own.shape, own.stride()):
            raise InputError(
                f"The experts of a {type(self._module).__name__} have weights with an input a "
                f"{'column' if self._turned else 'row'}, unlike what it says; its is_transposed should be "
                f"{not self._turned}."
            )
        self.seen = True
        for take in self._heard.get(key, ()):
            take(rows)

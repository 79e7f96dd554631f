"""What a model's forward takes, so that nothing of a batch is dropped that the model would have used.

Only the first input of a model is passed. Whatever stands behind it in a batch is then a label, which
is known only where the model could not take it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pvqbounds.errors import InputError

__all__ = ["Inputs", "inputs_of"]

OUTLET = "wrap the model in a module whose forward takes one input"


@dataclass(frozen=True)
class Inputs:
    """Inputs of a forward pass behind the first."""

    needed: tuple[str, ...]
    """Without a default: the model does not run without them."""
    possible: tuple[str, ...]
    """All that could be tensors, those needed included; ``*inputs`` and ``**inputs`` for any number."""
    padding: tuple[int, ...]
    """Padding indices of the model's embeddings."""

    def check_runnable(self) -> None:
        """Find out before the model runs whether one input is enough.

        Raises
        ------
        InputError
            If it needs more.
        """
        if self.needed:
            raise InputError(
                f"The model needs {_listed(self.needed)} beside its first input, which is not supported; "
                f"{OUTLET}."
            )

    def only(self, batch: Any) -> Any:
        """The model's input in a batch: the batch itself, or the first of a tuple or list with labels.

        Raises
        ------
        InputError
            If the model might have used the rest, or the inputs have names.
        """
        if isinstance(batch, Mapping):
            names = _listed(tuple(map(str, batch)))
            raise InputError(
                f"A batch of data is a dictionary ({names}), and only one tensor without a mask is "
                f"supported; give the tensor of the model's only input, or {OUTLET}."
            )
        if not isinstance(batch, tuple | list) or not batch:
            return batch
        if len(batch) > 1 and self.possible:
            raise InputError(
                f"A batch has {len(batch)} parts and the model could take more than one "
                f"({_listed(self.possible)}), which is not supported; give its first input alone, "
                f"or {OUTLET}."
            )
        return batch[0]

    def is_padded(self, batch: Tensor) -> bool:
        """Whether token indices hold a padding index."""
        if not self.padding or batch.is_floating_point() or batch.dtype == torch.bool:
            return False
        return bool(torch.isin(batch.cpu(), torch.tensor(self.padding)).any())

    def looks_like_a_mask(self, batch: Tensor) -> bool:
        """Whether what should be a batch can only be the mask of another: whole numbers, none above 1."""
        masks = any("mask" in name for name in self.possible)
        return masks and not batch.is_floating_point() and batch.numel() > 0 and bool((batch <= 1).all())


def inputs_of(model: nn.Module) -> Inputs:
    """Look at the forward of a model, through the wrappers of torch."""
    while True:
        inner = getattr(model, "_orig_mod", None)  # torch.compile
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            break
        model = inner
    try:
        parameters = list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):  # compiled code may have no signature
        return Inputs((), ("*inputs",), ())
    named = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    further = named[1:] + [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    # a parameter with a default of its own, such as a flag, is no place for a tensor
    possible = [p.name for p in further if p.default is p.empty or p.default is None]
    possible += [f"*{p.name}" for p in parameters if p.kind is p.VAR_POSITIONAL and named]
    possible += [f"**{p.name}" for p in parameters if p.kind is p.VAR_KEYWORD]
    if not named:
        possible.append("*inputs")
    padding = {
        module.padding_idx
        for module in model.modules()
        if isinstance(module, nn.Embedding) and module.padding_idx is not None
    }
    needed = [p.name for p in further if p.default is p.empty]
    return Inputs(tuple(needed), tuple(possible), tuple(sorted(padding)))


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"

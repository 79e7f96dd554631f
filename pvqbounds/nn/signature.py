"""What a model's forward takes, so that nothing of a batch is dropped that the model would have used.

A batch without names is the model's first input. Whatever stands behind it in a tuple is then a label,
which is known only where the model could not take it; several inputs are given by their names.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pvqbounds.errors import InputError

__all__ = ["LABELS", "Inputs", "inputs_of", "unwrapped"]

LABELS = ("label", "labels", "target", "targets", "y", "class", "classes", "index", "indices")
"""Names beside the inputs that a model is given only where its forward has a place for them."""

OUTLET = "give batches as dictionaries by the names of the model's inputs"


@dataclass(frozen=True)
class Inputs:
    """Inputs of a forward pass."""

    first: str | None
    """Name of the first; None where any number may come without names."""
    needed: tuple[str, ...]
    """Behind the first, without a default: the model does not run without them."""
    possible: tuple[str, ...]
    """All behind the first that could be tensors, those needed included; ``*inputs`` and ``**inputs``
    for any number."""
    named: tuple[str, ...]
    """All that can be given by name."""
    anything: bool
    """Whether any other name is taken too."""
    padding: tuple[int, ...]
    """Padding indices of the model's embeddings."""
    encoder_decoder: bool = False
    """Whether the model says of itself that it has an encoder and a decoder."""

    def check_alone(self) -> None:
        """Find out before the model runs whether one input without a name is enough.

        Raises
        ------
        InputError
            If it needs more.
        """
        if self.needed:
            raise InputError(f"The model needs {_listed(self.needed)} beside its first input; {OUTLET}.")

    def only(self, batch: Any) -> Any:
        """The inputs in a batch: the batch itself, or the first of a tuple or list with labels.

        Raises
        ------
        InputError
            If the model might have used the rest.
        """
        if not isinstance(batch, tuple | list) or not batch:
            return batch
        if len(batch) > 1 and self.possible and not isinstance(batch[0], Mapping):
            raise InputError(
                f"A batch has {len(batch)} parts and the model could take more than one "
                f"({_listed(self.possible)}); give its first input alone, or {OUTLET}."
            )
        return batch[0]

    def by_name(self, batch: Mapping[Any, Any]) -> dict[str, Any]:
        """The inputs of a dictionary that the model takes: all but labels that it has no place for.

        Raises
        ------
        InputError
            If the model takes no input of a name, or lacks one that it needs.
        """
        taken = {str(name): value for name, value in batch.items() if value is not None}
        for name in list(taken):
            if name in self.named:
                continue
            near = difflib.get_close_matches(name, self.named, n=1, cutoff=0.8)
            if name in LABELS:
                del taken[name]
            elif not self.anything or near:
                hint = f"did you mean '{near[0]}'? It" if near else "it"
                raise InputError(
                    f"The data hold '{name}', which the model's forward has no place for; {hint} takes "
                    f"{_listed(self.named)}."
                )
        lacking = [name for name in self.needed if name not in taken]
        if lacking:
            raise InputError(
                f"The model needs {_listed(tuple(lacking))}, which the data do not hold; they hold "
                f"{_listed(tuple(map(str, batch))) or 'nothing'}."
            )
        return taken

    def is_padded(self, batch: Any) -> bool:
        """Whether token indices hold a padding index."""
        if not self.padding or not isinstance(batch, Tensor) or batch.is_floating_point():
            return False
        if batch.dtype == torch.bool:
            return False
        return bool(torch.isin(batch.cpu(), torch.tensor(self.padding)).any())

    def looks_like_a_mask(self, batch: Tensor) -> bool:
        """Whether what should be a batch can only be the mask of another: whole numbers, none above 1."""
        masks = any("mask" in name for name in self.possible)
        return masks and not batch.is_floating_point() and batch.numel() > 0 and bool((batch <= 1).all())


def inputs_of(model: nn.Module) -> Inputs:
    """Look at the forward of a model, through the wrappers of torch."""
    model = unwrapped(model)
    padding = {
        module.padding_idx
        for module in model.modules()
        if isinstance(module, nn.Embedding) and module.padding_idx is not None
    }
    padded, two = tuple(sorted(padding)), bool(_config(model, "is_encoder_decoder"))
    try:
        parameters = list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):  # compiled code may have no signature
        return Inputs(None, (), ("*inputs",), (), True, padded, two)
    placed = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    further = placed[1:] + [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    # a parameter with a default of its own, such as a flag, is no place for a tensor
    possible = [p.name for p in further if p.default is p.empty or p.default is None]
    possible += [f"*{p.name}" for p in parameters if p.kind is p.VAR_POSITIONAL and placed]
    possible += [f"**{p.name}" for p in parameters if p.kind is p.VAR_KEYWORD]
    if not placed:
        possible.append("*inputs")
    return Inputs(
        first=placed[0].name if placed else None,
        needed=tuple(p.name for p in further if p.default is p.empty),
        possible=tuple(possible),
        named=tuple(p.name for p in placed[:1] + further if p.kind is not p.POSITIONAL_ONLY),
        anything=any(p.kind is p.VAR_KEYWORD for p in parameters),
        padding=padded,
        encoder_decoder=two,
    )


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside the wrappers of torch: compiled, or spread over devices."""
    while True:
        inner = getattr(model, "_orig_mod", None)  # torch.compile
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def _config(model: nn.Module, name: str) -> Any:
    return getattr(getattr(model, "config", None), name, None)


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"

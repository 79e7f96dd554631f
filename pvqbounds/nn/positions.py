"""Which positions of a layer count: padded ones stay out of its Gram, and others may weigh more or less.

A position is a token of a sample, or a place of an image. Masks of Hugging Face models are 1 where a
position counts; those of torch's own transformers (``key_padding_mask``) are true where it does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pvqbounds.errors import InputError
from pvqbounds.nn.signature import Inputs

__all__ = ["MASKS", "POSITION_MASK", "Positions", "positions_of", "sequence_first"]

POSITION_MASK = "position_mask"
"""Name under which a dictionary may say which positions count, whatever the model makes of its masks."""

MASKS = ("attention_mask", "decoder_attention_mask")
PADDINGS = ("src_key_padding_mask", "tgt_key_padding_mask", "key_padding_mask")
DECODER_INPUTS = ("decoder_input_ids", "decoder_inputs_embeds", "tgt")


@dataclass(frozen=True)
class Positions:
    """What is known about the positions of one batch."""

    weights: tuple[tuple[str, Tensor], ...] = ()
    """By the name of what says so, a number for each sample and position, shape (samples, length) or more."""
    samples: int = 0
    turned: bool = False
    """Whether layers may see (length, samples): torch's own attention does unless it is batch first."""
    notes: tuple[str, ...] = ()

    def of(self, places: tuple[int, ...], layer: str) -> Tensor | None:
        """Weights of the output positions of a layer, flat; None where nothing fits them.

        Parameters
        ----------
        places
            Shape of the layer's output positions.

        Raises
        ------
        InputError
            If two masks fit and differ.
        """
        found = [
            (name, fitted) for name, mask in self.weights if (fitted := self._fit(mask, places)) is not None
        ]
        for name, other in found[1:]:
            if not torch.equal(other, found[0][1]):
                raise InputError(
                    f"The input of layer '{layer}' may be masked by '{found[0][0]}' or by '{name}', which "
                    "have one shape and differ; pad one of the two to another length, or give a "
                    "position mask."
                )
        return found[0][1] if found else None

    def miss(self, places: tuple[int, ...]) -> bool:
        """Whether positions that nothing fits may be padded ones: a value for a whole sample is not."""
        given = any(name == POSITION_MASK for name, _ in self.weights)
        return (given or self.some_differ) and places not in ((), (self.samples,))

    @property
    def some_differ(self) -> bool:
        """Whether there are positions that do not count, or count for more or less than others."""
        return any(bool((mask != 1.0).any()) for _, mask in self.weights)

    def _fit(self, mask: Tensor, places: tuple[int, ...]) -> Tensor | None:
        shape, axes = tuple(mask.shape), mask.dim()
        if places == (math.prod(shape),):
            return None if self.turned and min(shape) > 1 else mask.reshape(-1)
        if self.turned and axes == 2:
            if places[:2] == shape == shape[::-1]:
                return None  # either way round
            if places[:2] == shape[::-1]:
                mask, shape = mask.T, shape[::-1]
        found = []
        if places[:axes] == shape:  # further axes, such as heads, within a position
            found.append(mask.reshape(*shape, *(1,) * (len(places) - axes)))
        if axes == 2 and len(places) > 2 and (places[0], places[-1]) == shape:  # heads before the positions
            found.append(mask.reshape(shape[0], *(1,) * (len(places) - 2), shape[1]))
        fitted = [each.expand(places).reshape(-1) for each in found]
        if not fitted or not torch.equal(fitted[0], fitted[-1]):  # as many heads as positions: either
            return None
        return fitted[0]


def sequence_first(model: nn.Module) -> bool:
    """Whether an attention of torch's own in the model has its positions along the first axis."""
    return any(isinstance(m, nn.MultiheadAttention) and not m.batch_first for m in model.modules())


def positions_of(named: Mapping[str, Any], samples: int, inputs: Inputs, turned: bool) -> Positions:
    """What the inputs of a batch say about its positions.

    Parameters
    ----------
    named
        Inputs by name; under `POSITION_MASK` one that overrules all others.

    Raises
    ------
    InputError
        If a mask holds anything but zeros and ones, or a position mask no weights.
    """
    if named.get(POSITION_MASK) is not None:
        own = torch.as_tensor(named[POSITION_MASK]).to("cpu", torch.float64)
        if own.numel() and not (torch.isfinite(own).all() and own.min() >= 0.0):
            raise InputError("A position mask holds 0, 1 or a weight for each position, none below 0.")
        return Positions(((POSITION_MASK, own),), samples, turned)
    weights, notes = [], []
    for name, value in named.items():
        if not isinstance(value, Tensor) or "mask" not in name:
            continue
        if name in (*MASKS, *PADDINGS) and value.dim() == 2:
            weights.append((name, _counting(name, value)))
        else:
            notes.append(
                f"The model is given '{name}', which does not say which positions are padded; all count "
                "unless another mask says so."
            )
    said = [name for name, _ in weights]
    if said and not any(name.startswith(("decoder", "tgt")) for name in said):
        later = DECODER_INPUTS + (("labels",) if inputs.encoder_decoder else ())
        weights += [
            (name, torch.ones(value.shape[:2], dtype=torch.float64))  # no mask of theirs: all count
            for name, value in named.items()
            if name in later and isinstance(value, Tensor) and value.dim() >= 2
        ]
    return Positions(tuple(weights), samples, turned, tuple(notes))


def _counting(name: str, mask: Tensor) -> Tensor:
    """1 where a position counts."""
    if name in PADDINGS:
        return (mask == 0).to("cpu", torch.float64)  # true, or minus infinity to be added, where it does not
    if not ((mask == 0) | (mask == 1)).all():
        raise InputError(
            f"'{name}' holds numbers other than 0 and 1, so that it does not say which positions are padded; "
            "give a position mask."
        )
    return mask.to("cpu", torch.float64)

"""Which layer of a checkpoint is meant, and which format it is in."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np

from pvqbounds.errors import InputError, shown
from pvqbounds.storage.checkpoints.awq import AWQ
from pvqbounds.storage.checkpoints.base import LayerFormat, Layout, Parts
from pvqbounds.storage.checkpoints.bitmask import Bitmask
from pvqbounds.storage.checkpoints.bitsandbytes import BitsAndBytes4, BitsAndBytes8
from pvqbounds.storage.checkpoints.files import Checkpoint
from pvqbounds.storage.checkpoints.fp4_blocks import MXFP4Blocks, MXFP4Packed, NVFP4Packed
from pvqbounds.storage.checkpoints.gguf_blocks import GGUFBlocks
from pvqbounds.storage.checkpoints.gptq import GPTQ
from pvqbounds.storage.checkpoints.layer import CompressedLayer, joined
from pvqbounds.storage.checkpoints.pack_quantized import PackQuantized
from pvqbounds.storage.checkpoints.plain import Plain
from pvqbounds.storage.checkpoints.scaled import Scaled
from pvqbounds.storage.checkpoints.within import (
    Expert,
    Found,
    expert_of,
    part_of_attention,
    parts_of_experts,
    same_layer,
)

__all__ = ["FORMATS", "layers_in", "read_layer"]

FORMATS: tuple[LayerFormat, ...] = (
    PackQuantized(),
    NVFP4Packed(),
    MXFP4Packed(),
    MXFP4Blocks(),
    Bitmask(),
    Scaled(),
    GPTQ(),
    AWQ(),
    BitsAndBytes4(),
    BitsAndBytes8(),
    GGUFBlocks(),
    Plain(),
)
"""All of them; the first that fits reads a layer."""

MARKS = ("weight", "weight_packed", "qweight", "compressed")
"""What follows a layer's name in the tensor that holds its weights."""


def layers_in(checkpoint: Checkpoint) -> list[str]:
    """Names of the layers that a checkpoint holds weights of, in its own order."""
    names = (name.rpartition(".") for name in checkpoint.tensors)
    parents = (parent.removesuffix(".weight") for parent, _, last in names if last in MARKS)
    return list(dict.fromkeys(filter(None, parents)))


def read_layer(
    checkpoint: Checkpoint,
    name: str,
    hints: Sequence[str] = (),
    layout: Layout | None = None,
    interleaved: bool = False,
) -> CompressedLayer:
    """The layer of that name, or of that name behind a prefix of the model's or of the file's.

    Parameters
    ----------
    hints
        Names of formats, for files of dequantized weights that do not say which grid they lie on.
    layout
        How the model has the weights of the layer, where it is not a channel a row: files that hold
        them as the module has them are read so.
    interleaved
        Whether its channels are by turns those of two layers, where a file has it as two.

    Raises
    ------
    InputError
        If there is no such layer (the nearest is named), or its tensors are in no known format or damaged.
    """
    layout = None if checkpoint.turns else layout
    expert = expert_of(name)
    if expert is None:
        found = _found(checkpoint, name) or part_of_attention(checkpoint, name)
        layer = None if found is None else _read(checkpoint, found, hints, layout)
    else:
        layer = _read_expert(checkpoint, expert, hints, layout, interleaved)
    if layer is None:
        raise InputError(_nothing(checkpoint, name))
    return layer


def _read_expert(
    checkpoint: Checkpoint, expert: Expert, hints: Sequence[str], layout: Layout | None, interleaved: bool
) -> CompressedLayer | None:
    """A projection of an expert: a layer of its own, a part of all experts, or two layers."""
    for parent, word in expert.spellings():
        own = _found(checkpoint, f"{parent}.{expert.number}.{word}")
        if own is not None:
            return _read(checkpoint, own, hints, None)  # a layer like any other, a channel a row
    fused = parts_of_experts(checkpoint, expert)
    if fused is not None:
        return _read(checkpoint, fused, hints, layout)
    halves = [_read_expert(checkpoint, half, hints, None, False) for half in expert.halves or ()]
    one, other = halves or (None, None)
    return None if one is None or other is None else joined(one, other, interleaved)


def _read(
    checkpoint: Checkpoint, found: Found, hints: Sequence[str], layout: Layout | None
) -> CompressedLayer:
    parts = Parts(found.name, found.tensors, checkpoint.config, checkpoint.path, hints, layout)
    for form in FORMATS:
        if form.fits(parts):
            with np.errstate(over="ignore", invalid="ignore"):
                layer = form.read(parts)
            parts.refuse_leftovers()
            if not np.isfinite(layer.weight).all():
                parts.fail("has scales that are so large that its weights overflow.")
            return layer
    listed = ", ".join(f"{own} ({tensor.kind})" for own, tensor in sorted(found.tensors.items())[:6])
    raise InputError(
        f"Layer {shown(found.name)} in {checkpoint.path} is in no format that is read: it holds {listed}."
    )


def _found(checkpoint: Checkpoint, name: str) -> Found | None:
    """What the file calls a layer: itself, or the one name that ends in it, or that it ends in."""
    known = layers_in(checkpoint)
    own = checkpoint.renamed(name) if checkpoint.renamed is not None else None
    for candidate in (own, name):
        if candidate in known:
            return _tensors_of(checkpoint, candidate)
    alike = [other for other in known if same_layer(other, name)]
    if len(alike) > 1:
        raise InputError(
            f"Layer '{name}' may be {' or '.join(map(shown, alike[:3]))} in {checkpoint.path}; nothing tells "
            "which."
        )
    return _tensors_of(checkpoint, alike[0]) if alike else None


def _tensors_of(checkpoint: Checkpoint, name: str) -> Found:
    prefix = f"{name}."
    own = {n.removeprefix(prefix): t for n, t in checkpoint.tensors.items() if n.startswith(prefix)}
    return Found(name, own)


def _nothing(checkpoint: Checkpoint, name: str) -> str:
    known = layers_in(checkpoint)
    if not known:
        return f"{checkpoint.path} holds no weights of layers."
    near = (difflib.get_close_matches(name, known, n=1, cutoff=0.0) or known)[0]
    return f"{checkpoint.path} holds no layer '{name}'; did you mean {shown(near)}?"

"""Which layer of a checkpoint is meant, and which format it is in."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np

from pvqbounds.errors import InputError, shown
from pvqbounds.storage.checkpoints.awq import AWQ
from pvqbounds.storage.checkpoints.base import LayerFormat, Parts
from pvqbounds.storage.checkpoints.bitmask import Bitmask
from pvqbounds.storage.checkpoints.bitsandbytes import BitsAndBytes4, BitsAndBytes8
from pvqbounds.storage.checkpoints.files import Checkpoint, StoredTensor
from pvqbounds.storage.checkpoints.fp4_blocks import MXFP4Packed, NVFP4Packed
from pvqbounds.storage.checkpoints.gguf_blocks import GGUFBlocks
from pvqbounds.storage.checkpoints.gptq import GPTQ
from pvqbounds.storage.checkpoints.layer import CompressedLayer
from pvqbounds.storage.checkpoints.pack_quantized import PackQuantized
from pvqbounds.storage.checkpoints.plain import Plain
from pvqbounds.storage.checkpoints.scaled import Scaled

__all__ = ["FORMATS", "layers_in", "read_layer"]

FORMATS: tuple[LayerFormat, ...] = (
    PackQuantized(),
    NVFP4Packed(),
    MXFP4Packed(),
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


def read_layer(checkpoint: Checkpoint, name: str, hints: Sequence[str] = ()) -> CompressedLayer:
    """The layer of that name, or of that name behind a prefix of the model's or of the file's.

    Parameters
    ----------
    hints
        Names of formats, for files of dequantized weights that do not say which grid they lie on.

    Raises
    ------
    InputError
        If there is no such layer (the nearest is named), or its tensors are in no known format or damaged.
    """
    found = _found(checkpoint, name)
    prefix = f"{found}."
    tensors: dict[str, StoredTensor] = {
        own.removeprefix(prefix): tensor
        for own, tensor in checkpoint.tensors.items()
        if own.startswith(prefix)
    }
    parts = Parts(found, tensors, checkpoint.config, checkpoint.path, hints)
    for form in FORMATS:
        if form.fits(parts):
            with np.errstate(over="ignore", invalid="ignore"):
                layer = form.read(parts)
            parts.refuse_leftovers()
            if not np.isfinite(layer.weight).all():
                parts.fail("has scales that are so large that its weights overflow.")
            return layer
    raise InputError(
        f"Layer {shown(found)} in {checkpoint.path} is in no format that is read: it holds "
        f"{', '.join(f'{own} ({tensor.kind})' for own, tensor in sorted(tensors.items())[:6])}."
    )


def _found(checkpoint: Checkpoint, name: str) -> str:
    """What the file calls a layer: itself, or the one name that ends in it, or that it ends in."""
    known = layers_in(checkpoint)
    own = checkpoint.renamed(name) if checkpoint.renamed is not None else None
    for candidate in (own, name):
        if candidate in known:
            return candidate
    alike = [other for other in known if other.endswith(f".{name}") or name.endswith(f".{other}")]
    if len(alike) == 1:
        return alike[0]
    if alike:
        raise InputError(
            f"Layer '{name}' may be {' or '.join(map(shown, alike[:3]))} in {checkpoint.path}; nothing tells "
            "which."
        )
    if not known:
        raise InputError(f"{checkpoint.path} holds no weights of layers.")
    near = (difflib.get_close_matches(name, known, n=1, cutoff=0.0) or known)[0]
    raise InputError(f"{checkpoint.path} holds no layer '{name}'; did you mean {shown(near)}?")

"""The formats of one size for a layer: how it may trade bits for zeros."""

from __future__ import annotations

from torch import nn

from pvqbounds.nn.layers import find_layer
from pvqbounds.nn.models import LoadedModel
from pvqbounds.problems.formats import of_size, parse

__all__ = ["joint_curve"]


def joint_curve(
    model: nn.Module | LoadedModel, layer: str, bits: int = 4, mask_cost: str | None = None
) -> list[str]:
    """Names of formats that all have the size of int4: dense, pruned and quantized with more bits, pruned.

    Parameters
    ----------
    model, layer
        As for :func:`pvqbounds.nn.layer_bounds`.
    bits
        Bits of the dense grid whose size they have.
    mask_cost
        How masks are counted, as for :func:`pvqbounds.nn.layer_bounds`; "none" in the paper's comparison.

    Returns
    -------
    Those of :func:`pvqbounds.formats.of_size` that mean something for the layer, for `formats` of
    :func:`pvqbounds.nn.layer_bounds`.

    Raises
    ------
    InputError
        If there is no such layer, or an option cannot be used.
    """
    target = find_layer(model.module if isinstance(model, LoadedModel) else model, layer)
    names = of_size(bits, (target.channels, target.inputs), mask_cost, target.block)
    supports = [parse(name).support for name in names]
    return [
        name
        for name, support in zip(names, supports, strict=True)
        if support is None or not support.removes_nothing(target.input_channels)
    ]

"""compressed-tensors' pack-quantized layers, written.

The layout is that of :mod:`pvqbounds.storage.checkpoints.pack_quantized`, which reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.formats.number_types import FP16, FP32
from pvqbounds.problems.values import Steps
from pvqbounds.storage.checkpoints.base import packed

__all__ = ["MOST_BITS", "PackedLayer", "pack_layer", "quantization_config"]

MOST_BITS = 8
"""Widest codes of the layout."""


@dataclass(frozen=True)
class PackedLayer:
    """The tensors of a layer, and what the config says of them."""

    tensors: Mapping[str, NDArray[Any]]
    """By what follows the layer's name."""
    scheme: Mapping[str, Any]
    """Of its weights, as ``quantization_config`` has it."""


def pack_layer(
    values: Sequence[Steps], codes: NDArray[np.int64], bits: int, group: int | None
) -> PackedLayer | None:
    """A layer of whole codes, packed; None where the layout cannot hold them.

    Parameters
    ----------
    values
        Steps of each channel.
    codes
        Shape (channels, inputs).
    bits
        Of a code.
    group
        Inputs that share a scale; None where a channel, or the tensor, has one.
    """
    channels, inputs = codes.shape
    size = inputs if group is None else min(group, inputs)
    if bits > MOST_BITS or inputs % size:
        return None
    starts = np.arange(0, inputs, size)
    scale = np.stack([own.step[starts] for own in values])
    low = np.stack([own.qmin[starts] for own in values])
    block = np.arange(inputs) // size
    half = 1 << (bits - 1)
    stored = codes - low[:, block]
    if stored.min() < 0 or stored.max() >= 1 << bits:
        return None
    shared = group is None and (scale == scale[0]).all()
    asymmetric = bool((low != -half).any())
    tensors: dict[str, NDArray[Any]] = {
        "weight_packed": packed(stored, bits),
        "weight_scale": _narrowest(scale[0] if shared and not asymmetric else scale),
        "weight_shape": np.array([channels, inputs], dtype=np.int64),
    }
    if asymmetric:
        if (-low < 0).any() or (-low >= 1 << bits).any():
            return None
        tensors["weight_zero_point"] = np.ascontiguousarray(packed(-low.T, bits).T)
    strategy = "group" if group is not None else "tensor" if shared and not asymmetric else "channel"
    return PackedLayer(tensors, _scheme(bits, strategy, None if group is None else size, not asymmetric))


def _narrowest(scale: NDArray[np.float64]) -> NDArray[Any]:
    """Scales in the narrowest type that holds them as they are."""
    for kind, dtype in ((FP16, np.float16), (FP32, np.float32)):
        if np.array_equal(kind.nearest(scale), scale):
            return scale.astype(dtype)
    return scale


def _scheme(bits: int, strategy: str, size: int | None, symmetric: bool) -> dict[str, Any]:
    return {
        "num_bits": bits,
        "type": "int",
        "symmetric": symmetric,
        "strategy": strategy,
        "group_size": size,
        "dynamic": False,
    }


def quantization_config(layers: Mapping[str, PackedLayer], ignored: Sequence[str] = ()) -> dict[str, Any]:
    """What ``quantization_config`` of a ``config.json`` says of packed layers, by their names.

    Parameters
    ----------
    ignored
        Names of modules that were left dense on purpose.
    """
    groups: list[tuple[Mapping[str, Any], list[str]]] = []
    for name, layer in layers.items():
        alike = next((targets for scheme, targets in groups if scheme == layer.scheme), None)
        if alike is None:
            groups.append((layer.scheme, [name]))
        else:
            alike.append(name)
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {
            f"group_{number}": {
                "targets": targets,
                "weights": dict(scheme),
                "input_activations": None,
                "output_activations": None,
            }
            for number, (scheme, targets) in enumerate(groups)
        },
        "ignore": list(ignored),
    }

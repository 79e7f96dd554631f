"""A layer of a torch model as rows of inputs times a weight matrix.

Supported are `Linear` (any leading dimensions) and `Conv1d`, `Conv2d`, `Conv3d` with their
stride, padding, dilation and groups. The bias has no part in it: it cancels in the output
error, and the signal is the output without it.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from pvqbounds.errors import InputError
from pvqbounds.problems.validation import as_real_array

__all__ = ["Layer", "find_layer", "layer_names"]

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Supported = nn.Linear | Convolution

LONGEST_LIST = 12
"""Layers that an error message lists at most."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A supported layer under its dotted name."""

    name: str
    module: Supported

    @property
    def groups(self) -> int:
        """Groups of the layer: each has inputs, channels and a Gram of its own."""
        return 1 if isinstance(self.module, nn.Linear) else self.module.groups

    @property
    def block(self) -> int:
        """Inputs that one input channel contributes to the fan-in: the size of the kernel."""
        return 1 if isinstance(self.module, nn.Linear) else math.prod(self.module.kernel_size)

    @property
    def inputs(self) -> int:
        """Fan-in n of one output channel."""
        return self.module.weight[0].numel()

    @property
    def input_channels(self) -> int:
        """Input channels, or features, behind one output channel: what an N:M pattern groups."""
        return self.inputs // self.block

    @property
    def channels(self) -> int:
        """Output channels."""
        return self.module.weight.shape[0]

    def group_of(self, channel: int) -> int:
        """Group that an output channel belongs to."""
        return channel // (self.channels // self.groups)

    @property
    def weight(self) -> NDArray[np.float64]:
        """Weights, one channel a row, shape (channels, n), read-only.

        Raises
        ------
        InputError
            If a weight is not finite.
        """
        matrix = self.module.weight.detach().to("cpu", torch.float64).flatten(1).numpy()
        return as_real_array(matrix, f"The weight of layer '{self.name}'", ndim=2)

    @property
    def description(self) -> str:
        """Kind and geometry in words; what is at its default is left out."""
        m = self.module
        if isinstance(m, nn.Linear):
            return f"Linear {m.in_features}->{m.out_features}"
        kernel = _times(m.kernel_size)
        parts = [
            f"{type(m).__name__} {m.in_channels}->{m.out_channels}",
            kernel if len(m.kernel_size) > 1 else f"kernel {kernel}",
        ]
        if any(step != 1 for step in m.stride):
            parts.append(f"stride {_amount(m.stride)}")
        if any(any(pair) for pair in _padding(m)):
            mode = "" if m.padding_mode == "zeros" else f"{m.padding_mode} "
            parts.append(f"{mode}padding {m.padding if isinstance(m.padding, str) else _amount(m.padding)}")
        if any(step != 1 for step in m.dilation):
            parts.append(f"dilation {_amount(m.dilation)}")
        if m.groups != 1:
            parts.append(f"groups {m.groups}")
        return ", ".join(parts)

    def batch_first(self, inputs: Tensor) -> Tensor:
        """Bring `inputs` to one sample, or one token, along the first axis, however the layer is called."""
        if isinstance(self.module, nn.Linear):
            return inputs.reshape(-1, self.module.in_features)
        unbatched = inputs.dim() == len(self.module.kernel_size) + 1
        return inputs.unsqueeze(0) if unbatched else inputs

    def rows(self, inputs: Tensor) -> Tensor:
        """Unfold inputs of the layer so that it computes ``rows[g] @ weight[channels of g].T``.

        Parameters
        ----------
        inputs
            Batch first: (N, in_features), or (batch, in_channels, ...).

        Returns
        -------
        Tensor
            Shape (groups, output positions, n), of the dtype of `inputs`.
        """
        m = self.module
        if isinstance(m, nn.Linear):
            return inputs.unsqueeze(0)
        spatial = len(m.kernel_size)
        around = [amount for pair in reversed(_padding(m)) for amount in pair]  # last axis first
        mode = "constant" if m.padding_mode == "zeros" else m.padding_mode
        windows = nn.functional.pad(inputs, around, mode) if any(around) else inputs
        for axis, (size, step, dilation) in enumerate(
            zip(m.kernel_size, m.stride, m.dilation, strict=True), start=2
        ):
            windows = windows.unfold(axis, dilation * (size - 1) + 1, step)[..., ::dilation]
        # (batch, channels, *positions, *kernel) -> (groups, batch, *positions, channels, *kernel)
        windows = windows.view(len(inputs), m.groups, -1, *windows.shape[2:])
        positions, kernel = range(3, 3 + spatial), range(3 + spatial, 3 + 2 * spatial)
        return windows.permute(1, 0, *positions, 2, *kernel).reshape(m.groups, -1, self.inputs)


def layer_names(model: nn.Module) -> list[str]:
    """Dotted names of the layers that bounds exist for, in the model's own order."""
    return [name for name, module in model.named_modules() if _is_supported(module)]


def find_layer(model: nn.Module, name: str) -> Layer:
    """Find the layer of that dotted name.

    Raises
    ------
    InputError
        If there is none (the nearest name is given), if its kind is not supported, or if its
        weights are not there (lazy, meta or of no size) or complex.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"The model must be a torch.nn.Module, not a {type(model).__name__}.")
    if not isinstance(name, str):
        raise InputError(f"The layer is given by its dotted name, not a {type(name).__name__}.")
    modules = dict(model.named_modules(remove_duplicate=False))
    if name not in modules:
        raise InputError(f"The model has no layer '{name}'{_hint(name, layer_names(model))}.")
    module = modules[name]
    if not _is_supported(module):
        inside = [other for other in layer_names(model) if other.startswith(f"{name}." if name else "")]
        raise InputError(
            f"Layer '{name}' is a {_kind(module)}, but bounds exist for Linear, Conv1d, Conv2d and "
            f"Conv3d layers that compute as torch's own do{_hint(name, inside or layer_names(model))}."
        )
    if isinstance(module.weight, nn.UninitializedParameter) or module.weight.is_meta:
        raise InputError(f"Layer '{name}' has no weights yet; load them and run the model once first.")
    if module.weight.numel() == 0:
        raise InputError(f"Layer '{name}' has no weights: their shape is {tuple(module.weight.shape)}.")
    if module.weight.is_complex():
        raise InputError(f"Layer '{name}' has complex weights, and bounds exist for real ones.")
    return Layer(name, module)


def _is_supported(module: nn.Module) -> TypeGuard[Supported]:
    """Whether the module is called, and computes what torch's own layer does; a subclass may not."""
    if isinstance(module, NonDynamicallyQuantizableLinear):
        return False  # attention reads its weight and never calls it
    for kind in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d):
        if isinstance(module, kind):
            own = type(module)
            return own.forward is kind.forward and (
                getattr(own, "_conv_forward", None) is getattr(kind, "_conv_forward", None)
            )
    return False


def _kind(module: nn.Module) -> str:
    """Name of the module's class, with where it comes from if torch has a supported one of that name."""
    kind = type(module)
    same = kind.__name__ in ("Linear", "Conv1d", "Conv2d", "Conv3d")
    return f"{kind.__module__}.{kind.__qualname__}" if same else kind.__name__


def _hint(name: str, candidates: list[str]) -> str:
    """Name the nearest candidate and, where they are few, all of them."""
    if not candidates:
        return " (this model has no such layer)"
    nearest = (difflib.get_close_matches(name, candidates, n=1, cutoff=0.0) or candidates)[0]
    if len(candidates) > LONGEST_LIST:
        return f"; did you mean '{nearest}'"
    return f"; did you mean '{nearest}' (there are {', '.join(candidates)})"


def _padding(module: Convolution) -> list[tuple[int, int]]:
    """Give the padding before and after, for each spatial axis."""
    padding = module.padding
    if not isinstance(padding, str):
        return [(amount, amount) for amount in padding]
    if padding == "valid":
        return [(0, 0)] * len(module.kernel_size)
    # "same": torch puts the odd one behind
    totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    return [(total // 2, total - total // 2) for total in totals]


def _times(sizes: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in sizes)


def _amount(sizes: tuple[int, ...]) -> str:
    """Write 2 where all axes have the same, else 2x1."""
    return str(sizes[0]) if len(set(sizes)) == 1 else _times(sizes)

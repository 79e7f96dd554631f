"""Learned step size quantization (LSQ) as torch parametrizations.

Esser, McKinstry, Bablani, Appuswamy, Modha, "Learned step size quantization", ICLR 2020.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pvqbounds.errors import InputError
from pvqbounds.nn.layers import find_layers
from pvqbounds.problems.grids import mse_scale, range_scale, symmetric_codes
from pvqbounds.train.oscillation import Freezer, annealed, dampening
from pvqbounds.train.outcome import QuantizedLayer
from pvqbounds.train.presets import Quantization

__all__ = ["ActivationQuantizer", "LearnedStep", "Quantizer"]

ACTIVATIONS_SAMPLED = 2**16
"""Inputs of a layer from which the scale of its activations is found."""


class _FakeQuantize(torch.autograd.Function):
    """s * clip(round(x / s)), with the straight-through gradient in x and LSQ's in s."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, qmin: int, qmax: int, gradient_scale: float) -> Tensor:
        centre = x / scale
        codes = torch.round(centre).clamp_(qmin, qmax)
        ctx.save_for_backward(centre, codes)
        ctx.constants = scale.shape, qmin, qmax, gradient_scale
        return codes * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        (gradient,) = gradients
        centre, codes = ctx.saved_tensors
        shape, qmin, qmax, gradient_scale = ctx.constants
        inside = (centre >= qmin) & (centre <= qmax)
        of_scale = gradient * torch.where(inside, codes - centre, codes)
        axes = [axis for axis in range(of_scale.dim()) if not shape or shape[axis] == 1]
        total = of_scale.sum(axes, keepdim=True) * gradient_scale
        return gradient * inside, total.reshape(shape), None, None, None


class _Grid(nn.Module):
    """A uniform grid with learnable scales."""

    def __init__(self, scale: Tensor, qmin: int, qmax: int, gradient_scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale)
        self.qmin, self.qmax = qmin, qmax
        self._gradient_scale = gradient_scale

    def forward(self, x: Tensor) -> Tensor:
        """The values of the grid nearest to `x`."""
        quantized: Tensor = _FakeQuantize.apply(  # type: ignore[no-untyped-call]
            x, self.scale, self.qmin, self.qmax, self._gradient_scale
        )
        return quantized


class LearnedStep(_Grid):
    """Parametrization of a weight: the nearest values of a symmetric uniform grid.

    Parameters
    ----------
    weight
        The layer's weight, first axis output channels; its scales are found from it.
    bits
        Bits a weight.
    settings
        Per tensor or per channel, range method, gradient scaling.
    """

    def __init__(self, weight: Tensor, bits: int, settings: Quantization) -> None:
        qmin, qmax = symmetric_codes(bits)
        rows = weight.detach().to("cpu", torch.float64).flatten(1).numpy()
        groups = list(rows) if settings.per_channel else [rows]
        scales = torch.tensor([range_scale(settings.range_method, group, qmin, qmax) for group in groups])
        shape = (-1, *[1] * (weight.dim() - 1)) if settings.per_channel else ()
        share = weight.numel() / len(groups)
        super().__init__(
            scales.to(weight).reshape(shape),
            qmin,
            qmax,
            1.0 / math.sqrt(share * qmax) if settings.gradient_scaling else 1.0,
        )
        self.bits = bits

    @torch.no_grad()
    def codes(self, weight: Tensor) -> Tensor:
        """Integers of the nearest values, of the shape of `weight`."""
        return torch.round(weight / self.scale).clamp_(self.qmin, self.qmax)


class ActivationQuantizer(_Grid):
    """Quantization of a layer's input with one learnable scale, found on its first input."""

    def __init__(self, bits: int, example: Tensor, gradient_scaling: bool) -> None:
        qmin, qmax = symmetric_codes(bits)
        values = example.detach().flatten().to("cpu", torch.float64)
        if values.numel() > ACTIVATIONS_SAMPLED:
            values = values[:: -(-values.numel() // ACTIVATIONS_SAMPLED)]
        if not torch.isfinite(values).all():
            raise InputError("A layer's input is not finite; check the data and the weights before it.")
        if (values >= 0.0).all():  # after a ReLU the sign would be wasted
            qmin, qmax = 0, qmax - qmin
        scale = torch.tensor(mse_scale(values.numpy(), qmin, qmax), dtype=torch.float32)
        count = example[:1].numel()
        super().__init__(scale, qmin, qmax, 1.0 / math.sqrt(count * qmax) if gradient_scaling else 1.0)


class Quantizer:
    """Quantization-aware training of a model: what the loop calls.

    Parameters
    ----------
    model
        It is changed in place: the weights of `bits`' layers are parametrized.
    bits
        Bits of each layer, by name.
    settings
        The recipe's.
    example
        A batch of inputs, for the scales of activations.

    Raises
    ------
    InputError
        If a layer or the batch cannot be used.
    """

    def __init__(
        self, model: nn.Module, bits: Mapping[str, int], settings: Quantization, example: Tensor | None = None
    ) -> None:
        self._settings = settings
        self._modules = {name: layer.module for name, layer in find_layers(model, bits).items()}
        self.steps: dict[str, LearnedStep] = {}
        inputs: dict[str, Tensor] = {}
        if settings.activation_bits is not None:
            if example is None:
                raise InputError("Activations are quantized from an example batch; give one.")
            inputs = _inputs_of(model, self._modules, example)
        for name, module in self._modules.items():
            step = LearnedStep(module.weight, bits[name], settings).to(module.weight.device)
            parametrize.register_parametrization(module, "weight", step)
            self.steps[name] = step
        for name, given in inputs.items():
            at_least = max(settings.activation_bits or 0, bits[name] if bits[name] > settings.bits else 0)
            quantizer = ActivationQuantizer(at_least, given, settings.gradient_scaling).to(given.device)
            self._modules[name].add_module("activation_quantizer", quantizer)
            self._modules[name].register_forward_pre_hook(_quantize_input)
        latents = {name: self._latent(name) for name in bits}
        self._freezer = Freezer(latents, settings.freeze_momentum) if settings.freeze > 0.0 else None

    def _latent(self, name: str) -> Tensor:
        module: Any = self._modules[name]
        latent: Tensor = module.parametrizations.weight.original
        return latent

    def scale_parameters(self) -> list[nn.Parameter]:
        """Learnable scales, of weights and of activations."""
        grids = [m for module in self._modules.values() for m in module.modules() if isinstance(m, _Grid)]
        return [grid.scale for grid in grids]

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for the scales, without weight decay."""
        scales = self.scale_parameters()
        return [torch.optim.Adam(scales, self._settings.scale_rate, foreach=True)] if scales else []

    def penalty(self, progress: float) -> Tensor | None:
        """The dampening loss at this fraction of the training, None where there is none.

        Inside :func:`torch.nn.utils.parametrize.cached` it costs no second quantization.
        """
        s = self._settings
        if max(s.dampen, s.dampen_final) == 0.0:
            return None
        weight = annealed(s.dampen, s.dampen_final, s.anneal_from, progress)
        terms = [
            dampening(self._latent(name), module.weight, step.scale, step.qmin, step.qmax)
            for (name, module), step in zip(self._modules.items(), self.steps.values(), strict=True)
        ]
        return weight * torch.stack(terms).sum()

    @torch.no_grad()
    def after_step(self, progress: float, step: int) -> None:
        """Freeze what oscillates; called after each step of the optimisers."""
        s = self._settings
        if self._freezer is not None:
            threshold = annealed(s.freeze, s.freeze_final, s.anneal_from, progress, before=math.inf)
            for name, grid in self.steps.items():
                self._freezer.update(name, self._latent(name), grid.codes(self._latent(name)), threshold)
                self._freezer.hold(name, self._latent(name), grid.scale)

    def failure(self) -> str:
        """What has gone wrong with the scales, empty where nothing has."""
        for name, step in self.steps.items():
            if not bool((step.scale > 0.0).all()):
                return f"a scale of layer '{name}' is no longer positive; lower scale_rate"
        return ""

    def sparsity(self) -> float:
        """Fraction of codes that are zero: the natural sparsity."""
        zeros = sum(int((step.codes(self._latent(name)) == 0).sum()) for name, step in self.steps.items())
        return zeros / sum(self._latent(name).numel() for name in self.steps)

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold besides the model."""
        return {} if self._freezer is None else self._freezer.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`."""
        if self._freezer is not None:
            self._freezer.load_state(state)

    def outcome(self) -> dict[str, QuantizedLayer]:
        """Codes, scales and latent weights of each layer."""
        return {
            name: QuantizedLayer(
                bits=step.bits,
                codes=_rows(step.codes(self._latent(name))).astype(np.int64),
                scales=_channel_scales(step.scale, self._latent(name).shape[0]),
                latent=_rows(self._latent(name)),
            )
            for name, step in self.steps.items()
        }

    def remove(self) -> None:
        """Leave plain layers with quantized weights; activations are not quantized any more."""
        for module in self._modules.values():
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
            if hasattr(module, "activation_quantizer"):
                del module.activation_quantizer
                for key, hook in list(module._forward_pre_hooks.items()):
                    if hook is _quantize_input:
                        del module._forward_pre_hooks[key]


def _quantize_input(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    quantizer: Any = module.activation_quantizer
    return (quantizer(args[0]), *args[1:])


def _inputs_of(model: nn.Module, modules: Mapping[str, nn.Module], example: Tensor) -> dict[str, Tensor]:
    """What each layer is given when the model runs on the example."""
    taken: dict[str, Tensor] = {}

    @contextmanager
    def listening() -> Iterator[None]:
        handles = [
            module.register_forward_pre_hook(lambda _, args, name=name: taken.setdefault(name, args[0]))
            for name, module in modules.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    training = model.training
    model.eval()
    with listening(), torch.no_grad():
        model(example.to(next(model.parameters()).device))
    model.train(training)
    missing = [name for name in modules if name not in taken]
    if missing:
        raise InputError(f"Layer '{missing[0]}' is never called, so that its input cannot be quantized.")
    return taken


def _rows(tensor: Tensor) -> Any:
    return tensor.detach().to("cpu", torch.float64).flatten(1).numpy()


def _channel_scales(scale: Tensor, channels: int) -> Any:
    flat = scale.detach().to("cpu", torch.float64).flatten()
    return flat.expand(channels).numpy().copy()

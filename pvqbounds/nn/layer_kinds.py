"""How a module computes with a matrix: its weight as rows of channels, its input as rows of positions.

One class for each kind of layer. Whatever the module, its output without bias is, in each group,
``rows(x) @ weight[channels of the group].T``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from pvqbounds.errors import InputError

__all__ = [
    "KINDS_IN_WORDS",
    "Attention",
    "LayerKind",
    "Matrix",
    "Take",
    "before_calls",
    "kind_of",
    "projections",
    "restore_forward",
]

KINDS_IN_WORDS = (
    "Linear, Conv1d, Conv2d, Conv3d, their transposed forms, GPT-2's Conv1D, the projections of "
    "MultiheadAttention and experts"
)

Take = Callable[[Tensor], None]
"""What is called with each input of a layer."""

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed: TypeAlias = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


@contextmanager
def before_calls(
    module: nn.Module, hear: Callable[[tuple[Any, ...], dict[str, Any]], None]
) -> Iterator[None]:
    """Hand the arguments of each call of a module to a callable first, while the context lasts."""

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hear(args, kwargs)

    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def restore_forward(module: Any, own: Any) -> None:
    """Give a module back what it had itself in place of its class's forward, or nothing."""
    if own is None:
        del module.forward
    else:
        module.forward = own


class LayerKind(ABC):
    """One layer, seen as a matrix."""

    groups: int = 1
    """Groups of the layer: each has inputs, channels and a Gram of its own."""
    block: int = 1
    """Inputs that one input channel contributes to the fan-in: the size of the kernel."""
    turned: bool = False
    """Whether the module has its weight in another order than a channel a row."""
    interleaved: bool = False
    """Whether its channels are by turns those of two layers that files may have apart."""
    inner: int = 1
    """Axes of :meth:`spread_rows` that hold the inputs of a channel."""

    @property
    @abstractmethod
    def parameter(self) -> Tensor:
        """Where the weights are, as the module has them."""

    def matrix(self, weight: Tensor) -> Tensor:
        """Weights as the module has them, one channel a row: shape (channels, n)."""
        return weight.flatten(1)

    def as_stored(self, matrix: Tensor) -> Tensor:
        """The inverse of :meth:`matrix`: weights of one channel a row as the module has them."""
        return matrix.reshape(self.parameter.shape)

    @property
    @abstractmethod
    def description(self) -> str:
        """Kind and geometry in words; what is at its default is left out."""

    @contextmanager
    def listening(self, take: Take) -> Iterator[None]:
        """Hand what the layer is called with to `take`, while the context lasts."""

        def hear(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            take(self.heard(args, kwargs))

        with before_calls(self.called, hear):
            yield

    @property
    @abstractmethod
    def called(self) -> nn.Module:
        """The module whose calls are heard."""

    def heard(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The input in the arguments of a call."""
        found: Tensor = args[0] if args else next(iter(kwargs.values()))
        return found

    @abstractmethod
    def places(self, inputs: Tensor) -> tuple[int, ...]:
        """Shape of the output positions for such inputs."""

    @abstractmethod
    def batch_first(self, inputs: Tensor) -> Tensor:
        """Bring `inputs` to one sample, or one token, along the first axis, however the layer is called."""

    @abstractmethod
    def spread_rows(self, inputs: Tensor) -> Tensor:
        """Unfold inputs, batch first, to shape (groups, *output positions, *inputs of a channel).

        The last :attr:`inner` axes hold n numbers in the order of the weights. Of the dtype of `inputs`; a
        view of them where they can be looked at so, in which the same number may lie at many places.
        """

    def rows(self, inputs: Tensor) -> Tensor:
        """The same, of shape (groups, output positions, n)."""
        return self.spread_rows(inputs).flatten(-self.inner).flatten(1, -2)


class Matrix(LayerKind):
    """A product with one matrix: any leading axes are positions."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    @property
    def called(self) -> nn.Module:
        """The layer itself."""
        return self._module

    @property
    def parameter(self) -> Tensor:
        """The matrix, as the module has it."""
        weight: Tensor = self._module.weight  # type: ignore[assignment]
        return weight

    @property
    def description(self) -> str:
        """Its two sizes."""
        channels, inputs = self.matrix(self.parameter).shape
        return f"{type(self._module).__name__} {inputs}->{channels}"

    def places(self, inputs: Tensor) -> tuple[int, ...]:
        """All axes but the last."""
        return tuple(inputs.shape[:-1])

    def batch_first(self, inputs: Tensor) -> Tensor:
        """One position a row."""
        return inputs.reshape(-1, inputs.shape[-1])

    def spread_rows(self, inputs: Tensor) -> Tensor:
        """The inputs as they are."""
        return inputs.unsqueeze(0)


class Linear(Matrix):
    """torch's own."""

    @property
    def description(self) -> str:
        """Its two sizes, whatever a subclass is called."""
        channels, inputs = self.parameter.shape
        return f"Linear {inputs}->{channels}"


class TurnedLinear(Matrix):
    """GPT-2's Conv1D, whose weight has an input a row."""

    turned = True

    def matrix(self, weight: Tensor) -> Tensor:
        """Turned."""
        return weight.mT

    def as_stored(self, matrix: Tensor) -> Tensor:
        """Turned back."""
        return matrix.mT


M = TypeVar("M", bound=Convolution | Transposed)


class _Windowed(LayerKind, Generic[M]):
    """What convolutions and transposed ones have in common: a kernel, and samples before channels."""

    def __init__(self, module: M) -> None:
        self._module = module
        self.groups, self.block = module.groups, math.prod(module.kernel_size)
        self.inner = 1 + len(module.kernel_size)  # channels and places in the kernel

    @property
    def called(self) -> nn.Module:
        """The layer itself."""
        return self._module

    @property
    def parameter(self) -> Tensor:
        """Shape (out, in / groups, *kernel), of a transposed one (in, out / groups, *kernel)."""
        return self._module.weight

    def batch_first(self, inputs: Tensor) -> Tensor:
        """With an axis of samples where there is none."""
        unbatched = inputs.dim() == len(self._module.kernel_size) + 1
        return inputs.unsqueeze(0) if unbatched else inputs


class Conv(_Windowed[Convolution]):
    """A convolution, with its stride, padding, dilation and groups."""

    @property
    def description(self) -> str:
        """Channels, kernel, and what is not at its default."""
        m = self._module
        parts = _sizes(m)
        if any(any(pair) for pair in _padding(m)):
            mode = "" if m.padding_mode == "zeros" else f"{m.padding_mode} "
            parts.append(f"{mode}padding {m.padding if isinstance(m.padding, str) else _amount(m.padding)}")
        return ", ".join(parts + _dilation_and_groups(m))

    def places(self, inputs: Tensor) -> tuple[int, ...]:
        """Samples and the positions of the output."""
        m, batched = self._module, self.batch_first(inputs)
        spatial = [
            (size + before + after - dilation * (kernel - 1) - 1) // step + 1
            for size, (before, after), dilation, kernel, step in zip(
                batched.shape[2:], _padding(m), m.dilation, m.kernel_size, m.stride, strict=True
            )
        ]
        return (len(batched), *spatial)

    def spread_rows(self, inputs: Tensor) -> Tensor:
        """The windows under the kernel."""
        m = self._module
        around = [amount for pair in reversed(_padding(m)) for amount in pair]  # last axis first
        mode = "constant" if m.padding_mode == "zeros" else m.padding_mode
        padded = nn.functional.pad(inputs, around, mode) if any(around) else inputs
        return _windows(padded, m, m.stride)


class ConvTransposed(_Windowed[Transposed]):
    """A transposed convolution: a convolution of step 1 over inputs with zeros in between."""

    turned = True

    def matrix(self, weight: Tensor) -> Tensor:
        """Channels first, the kernel turned round, as the rows are."""
        axes = tuple(range(3, weight.dim() + 1))
        grouped = weight.view(self.groups, -1, *weight.shape[1:]).transpose(1, 2).flip(axes)
        return grouped.flatten(0, 1).flatten(1)

    def as_stored(self, matrix: Tensor) -> Tensor:
        """Turned back, input channels first."""
        shape = self.parameter.shape
        axes = tuple(range(3, len(shape) + 1))
        grouped = matrix.view(self.groups, shape[1], shape[0] // self.groups, *shape[2:])
        return grouped.flip(axes).transpose(1, 2).flatten(0, 1)

    @property
    def description(self) -> str:
        """Channels, kernel, and what is not at its default."""
        m = self._module
        parts = _sizes(m)
        if any(m.padding):
            parts.append(f"padding {_amount(m.padding)}")  # type: ignore[arg-type]
        if any(m.output_padding):
            parts.append(f"output padding {_amount(m.output_padding)}")
        return ", ".join(parts + _dilation_and_groups(m))

    def heard(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The input; its padding is that of the layer."""
        if len(args) > 1 or kwargs.get("output_size") is not None:
            raise InputError(
                "A transposed convolution is called with an output_size, which is not supported; give it an "
                "output_padding instead."
            )
        return super().heard(args, {"input": kwargs["input"]} if not args else {})

    def _around(self) -> list[tuple[int, int]]:
        m: Any = self._module
        sides = zip(m.padding, m.output_padding, m.dilation, m.kernel_size, strict=True)
        return [(d * (k - 1) - p, d * (k - 1) - p + extra) for p, extra, d, k in sides]

    def places(self, inputs: Tensor) -> tuple[int, ...]:
        """Samples and the positions of the output."""
        m, batched = self._module, self.batch_first(inputs)
        axes = zip(batched.shape[2:], self._around(), m.stride, m.dilation, m.kernel_size, strict=True)
        return (
            len(batched),
            *((size - 1) * step + 1 + sum(pads) - d * (k - 1) for size, pads, step, d, k in axes),
        )

    def spread_rows(self, inputs: Tensor) -> Tensor:
        """The windows under the kernel that is turned round."""
        m: Any = self._module
        sizes = [(size - 1) * step + 1 for size, step in zip(inputs.shape[2:], m.stride, strict=True)]
        spread = inputs.new_zeros(*inputs.shape[:2], *sizes)
        places: tuple[Any, ...] = (..., *(slice(None, None, step) for step in m.stride))
        spread[places] = inputs
        around = [amount for pair in reversed(self._around()) for amount in pair]
        return _windows(nn.functional.pad(spread, around), m, (1,) * len(m.stride))


Part = Literal["q_proj", "k_proj", "v_proj", "out_proj"]
PARTS: tuple[Part, ...] = ("q_proj", "k_proj", "v_proj", "out_proj")


class Attention(Matrix):
    """A projection of torch's MultiheadAttention, which is no module that is called."""

    def __init__(self, module: nn.MultiheadAttention, part: Part) -> None:
        super().__init__(module)
        self._attention, self._part = module, part

    @property
    def parameter(self) -> Tensor:
        """The projection's own rows."""
        m = self._attention
        if self._part == "out_proj":
            return m.out_proj.weight
        packed: Tensor | None = m.in_proj_weight
        weight: Tensor = (
            getattr(m, f"{self._part}_weight") if packed is None else packed.chunk(3)[PARTS.index(self._part)]
        )
        return weight

    @property
    def description(self) -> str:
        """Its two sizes, and what it belongs to."""
        channels, inputs = self.parameter.shape
        return f"MultiheadAttention's {self._part} {inputs}->{channels}"

    def heard(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Query, key or value."""
        number = PARTS.index(self._part)
        found: Tensor = args[number] if len(args) > number else kwargs[("query", "key", "value")[number]]
        return found

    @contextmanager
    def listening(self, take: Take) -> Iterator[None]:
        """What the output projection is given, the attention gives out where that is the identity."""
        if self._part != "out_proj":
            with super().listening(take):
                yield
            return
        module: Any = self._attention
        own, forward = vars(module).get("forward"), module.forward

        def exposed(*args: Any, **kwargs: Any) -> Any:
            projection: Any = module.out_proj
            weight, bias = projection.weight, projection.bias
            try:
                projection.weight = nn.Parameter(torch.eye(len(weight)).to(weight), requires_grad=False)
                projection.bias = None
                inner, *others = forward(*args, **kwargs)
            finally:
                projection.weight, projection.bias = weight, bias
            take(inner)
            return nn.functional.linear(inner, weight, bias), *others

        module.forward = exposed
        try:
            yield
        finally:
            restore_forward(module, own)


def kind_of(module: nn.Module) -> LayerKind | None:
    """How a module computes with a matrix; None where it is not known to do what torch's own layer does."""
    said = module.__dict__.get("layer_kind")
    if isinstance(said, LayerKind):  # one that stands for a layer of another model
        return said
    if isinstance(module, NonDynamicallyQuantizableLinear):
        return None  # attention reads its weight and never calls it
    if isinstance(module, nn.Linear):
        return Linear(module) if type(module).forward is nn.Linear.forward else None
    for plain in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
        if isinstance(module, plain):
            own = type(module)
            same = own.forward is plain.forward and own._conv_forward is plain._conv_forward
            return Conv(module) if same else None
    for turned in (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d):
        if isinstance(module, turned):
            return ConvTransposed(module) if type(module).forward is turned.forward else None
    return TurnedLinear(module) if _is_turned_linear(module) else None


def projections(module: nn.Module) -> dict[str, LayerKind]:
    """The projections of an attention of torch's own, by their names within it."""
    if not isinstance(module, nn.MultiheadAttention):
        return {}
    if type(module).forward is not nn.MultiheadAttention.forward:
        return {}
    return {part: Attention(module, part) for part in PARTS}


def _is_turned_linear(module: nn.Module) -> bool:
    """Whether a module is a Conv1D as GPT-2 has it: transformers need not be there to know it.

    It is told by its name and shape, and asked for the product of one input.
    """
    weight, channels = getattr(module, "weight", None), getattr(module, "nf", None)
    named = any(kind.__name__ == "Conv1D" for kind in type(module).__mro__)
    if not (named and isinstance(weight, Tensor) and weight.dim() == 2 and weight.shape[1] == channels):
        return False
    if weight.is_meta or not weight.numel():
        return True  # refused for that, by its name
    bias = getattr(module, "bias", None)
    probe = torch.linspace(-1.0, 1.0, len(weight)).to(weight).unsqueeze(0)
    with torch.no_grad():
        expected = probe @ weight if bias is None else probe @ weight + bias
        try:
            found = type(module).forward(module, probe)
        except Exception:  # whatever else it may be
            return False
    return (
        isinstance(found, Tensor) and found.shape == expected.shape and torch.allclose(found, expected, 1e-3)
    )


def _windows(inputs: Tensor, m: Convolution | Transposed, steps: tuple[int, ...]) -> Tensor:
    """What lies under the kernel at each position, shape (groups, batch, *positions, channels, *kernel)."""
    windows, spatial = inputs, len(m.kernel_size)
    for axis, (size, step, dilation) in enumerate(
        zip(m.kernel_size, steps, m.dilation, strict=True), start=2
    ):
        windows = windows.unfold(axis, dilation * (size - 1) + 1, step)[..., ::dilation]
    channels, sizes = inputs.shape[1] // m.groups, windows.shape[2:]
    grouped = windows.view(len(inputs), m.groups, channels, *sizes)  # sizes: (*positions, *kernel)
    positions, kernel = range(3, 3 + spatial), range(3 + spatial, 3 + 2 * spatial)
    return grouped.permute(1, 0, *positions, 2, *kernel)


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


def _sizes(m: Convolution | Transposed) -> list[str]:
    kernel = _times(m.kernel_size)
    kind = next(k.__name__ for k in type(m).__mro__ if k.__module__.startswith("torch."))
    parts = [f"{kind} {m.in_channels}->{m.out_channels}"]
    parts.append(kernel if len(m.kernel_size) > 1 else f"kernel {kernel}")
    if any(step != 1 for step in m.stride):
        parts.append(f"stride {_amount(m.stride)}")
    return parts


def _dilation_and_groups(m: Convolution | Transposed) -> list[str]:
    parts = [f"dilation {_amount(m.dilation)}"] if any(step != 1 for step in m.dilation) else []
    return parts + ([f"groups {m.groups}"] if m.groups != 1 else [])


def _times(sizes: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in sizes)


def _amount(sizes: tuple[int, ...]) -> str:
    """Write 2 where all axes have the same, else 2x1."""
    return str(sizes[0]) if len(set(sizes)) == 1 else _times(sizes)

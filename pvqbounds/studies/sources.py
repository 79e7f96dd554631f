"""Where weight tensors come from: models by name, checkpoints, folders of safetensors.

A source lists its tensors first and reads them one at a time, so that a model larger than memory
passes. Nothing is unpickled: PyTorch's own checkpoints are read with ``weights_only=True``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError
from pvqbounds.nn.stored import parts_of
from pvqbounds.storage.tensor_files import TORCH_SUFFIXES, dense, not_dense, read_torch, tensors_in

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["EMBEDDED", "TORCHVISION_ZOO", "Source", "WeightTensor", "checkpoint", "model"]

EMBEDDED = "digits"

TORCHVISION_ZOO = (
    *("alexnet", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2"),
    *("vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"),
    *("squeezenet1_0", "squeezenet1_1", "inception_v3", "googlenet"),
    *("densenet121", "densenet161", "densenet169", "densenet201"),
    *("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "mnasnet0_5", "mnasnet1_0"),
    *("shufflenet_v2_x0_5", "shufflenet_v2_x1_0"),
    *("fasterrcnn_resnet50_fpn", "fasterrcnn_mobilenet_v3_large_fpn"),
    *("fasterrcnn_mobilenet_v3_large_320_fpn", "maskrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn"),
    *("retinanet_resnet50_fpn", "ssd300_vgg16", "ssdlite320_mobilenet_v3_large"),
    *("lraspp_mobilenet_v3_large", "r3d_18", "mc3_18", "r2plus1d_18"),
)
"""The models of torchvision that the paper's released figures cover."""


BLOCK = 2**22
"""Weights that are converted at a time."""

SCALE_BLOCK = 128
"""Weights, along each axis, that share a float8 scale in checkpoints whose last block is shorter."""

NUMPY_KINDS = {"F64", "F32", "F16"}
TORCH_KINDS = {"BF16", "F8_E4M3", "F8_E5M2"}
"""Types of safetensors that numpy, or torch alone, can read as real numbers."""


@dataclass(frozen=True)
class WeightTensor:
    """A tensor that has not been read yet."""

    name: str
    shape: tuple[int, ...]
    kind: str
    """Type as stored, such as float16."""
    real: bool
    """Whether it holds floating-point numbers."""
    read: Callable[[], NDArray[np.float64]]
    """Its numbers in float64, shape (n,), in memory of their own."""
    unfit: str | None = None
    """Why it holds no weights as they are: packed integers, scales, a LoRA factor, a sparse tensor."""

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Source:
    """A model and how to list its tensors."""

    name: str
    tensors: Callable[[], list[WeightTensor]]
    note: str = ""
    """What goes with every row of it."""


def model(name: str) -> list[Source]:
    """Sources of the models that a name stands for.

    Parameters
    ----------
    name
        ``digits``, the embedded network; ``torchvision:NAME`` or ``timm:NAME``, with the weights
        that the library publishes; ``torchvision:all``, the paper's 45; a name that the paper uses
        (resnet18, ...); or ``package.module:factory``, a callable that returns a torch module.

    Raises
    ------
    InputError
        If there is no such model. Missing packages and weights are found out when the source is asked.
    """
    if name == EMBEDDED:
        return [Source(EMBEDDED, _embedded)]
    if ":" not in name:
        from pvqbounds.nn.names import PAPER_MODELS

        if name not in PAPER_MODELS:
            known = ", ".join([EMBEDDED, *PAPER_MODELS])
            raise InputError(
                f"There is no model '{name}'; there are {known}, torchvision:NAME, torchvision:all, "
                "timm:NAME and package.module:factory."
            )
        name = PAPER_MODELS[name]
    library, _, rest = name.partition(":")
    if name == "torchvision:all":
        return [source for each in TORCHVISION_ZOO for source in model(f"torchvision:{each}")]
    if library == "torchvision":
        return [Source(rest, lambda: _of_state(_torchvision_state(rest), name))]
    if library == "timm":
        return [Source(rest, lambda: _of_state(_timm_state(rest), name))]
    note = "weights as the factory built them, from no file"
    return [Source(name, lambda: _of_state(_factory_state(library, rest), name), note)]


def checkpoint(path: Path) -> Source:
    """Source of a checkpoint: `.safetensors`, PyTorch's own, or a folder of either.

    Raises
    ------
    InputError
        If there is no such file or no such file in the folder, or if its kind is unknown.
    """
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        files = files or sorted(file for file in path.iterdir() if file.suffix in TORCH_SUFFIXES)
        if not files:
            raise InputError(f"The folder {path} holds no .safetensors file and no PyTorch checkpoint.")
        return Source(
            path.resolve().name,
            lambda: _told_apart([tensor for file in files for tensor in _of_file(file)]),
        )
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    if path.suffix not in (".safetensors", *TORCH_SUFFIXES):
        raise InputError(
            f"Checkpoints are .safetensors, {', '.join(TORCH_SUFFIXES)} or a folder of them, not {path}."
        )
    return Source(path.stem, lambda: _told_apart(_of_file(path)))


def _embedded() -> list[WeightTensor]:
    from pvqbounds.nn import embedded

    return _of_file(Path(embedded.__path__[0]) / "digits_cnn.safetensors")


# ---------------------------------------------------------------------------------------- files


def _of_file(path: Path) -> list[WeightTensor]:
    return _of_safetensors(path) if path.suffix == ".safetensors" else _of_torch(path)


def _of_safetensors(path: Path) -> list[WeightTensor]:
    safetensors = _package("safetensors", "nn")
    try:
        with safetensors.safe_open(path, framework="np") as archive:
            slices = {name: archive.get_slice(name) for name in archive.keys()}  # noqa: SIM118
            described = {name: (tuple(s.get_shape()), str(s.get_dtype())) for name, s in slices.items()}
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise InputError(f"{path} is damaged or not a .safetensors file ({_line(error)}).") from error
    return [
        WeightTensor(
            name,
            shape,
            kind,
            kind in NUMPY_KINDS | TORCH_KINDS,
            lambda name=name, shape=shape, kind=kind: _read_slices(path, name, shape, kind),  # type: ignore[misc]
        )
        for name, (shape, kind) in described.items()
    ]


def _read_slices(path: Path, name: str, shape: tuple[int, ...], kind: str) -> NDArray[np.float64]:
    """Read a tensor block by block; the file is closed, and its pages are given up, at the end."""
    safetensors = _package("safetensors", "nn")
    numpy = kind in NUMPY_KINDS
    if not numpy:
        _package("torch", "nn")
    values = np.empty(math.prod(shape))
    try:
        with safetensors.safe_open(path, framework="np" if numpy else "pt") as archive:
            if not shape:
                blocks: Iterator[Any] = iter([archive.get_tensor(name)])
            else:
                part = archive.get_slice(name)
                rows = max(1, BLOCK // max(1, math.prod(shape[1:])))
                blocks = (part[start : min(start + rows, shape[0])] for start in range(0, shape[0], rows))
            start = 0
            for block in blocks:
                stop = start + (block.size if numpy else block.numel())
                values[start:stop] = np.ravel(block) if numpy else block.double().reshape(-1).numpy()
                start = stop
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise InputError(f"{name} cannot be read from {path} ({_line(error)}).") from error
    return values


def _of_torch(path: Path) -> list[WeightTensor]:
    _package("torch", "nn")
    return _of_state(read_torch(path), path)


def _of_state(state: Any, origin: Path | str) -> list[WeightTensor]:
    return [
        WeightTensor(
            name,
            () if tensor.is_nested else tuple(tensor.shape),
            str(tensor.dtype).removeprefix("torch."),
            tensor.is_floating_point(),
            lambda name=name, tensor=tensor: _read_tensor(dense(name, tensor, origin)),  # type: ignore[misc]
            not_dense(tensor),
        )
        for name, tensor in tensors_in(state, origin)
    ]


def _read_tensor(tensor: Tensor) -> NDArray[np.float64]:
    flat = tensor.reshape(-1)
    values = np.empty(flat.numel())
    for start in range(0, len(values), BLOCK):
        values[start : start + BLOCK] = flat[start : start + BLOCK].double().cpu().numpy()
    return values


# ---------------------------------------------------------------------------- quantized checkpoints


def _told_apart(tensors: list[WeightTensor]) -> list[WeightTensor]:
    """Tensors that are no weights say so; float8 weights are read with their scales, to the last bit."""
    parts = parts_of({tensor.name: tensor.kind for tensor in tensors})
    by_name = {tensor.name: tensor for tensor in tensors}

    def told(tensor: WeightTensor) -> WeightTensor:
        part = parts.get(tensor.name)
        if part is None:
            return tensor
        if part.scale is None or not tensor.real or not by_name[part.scale].real:
            return replace(tensor, unfit=part.reason)
        scale = by_name[part.scale]
        if scale.unfit is not None:
            return replace(tensor, unfit=f"holds float8 numbers, whose '{scale.name}' {scale.unfit}")
        try:
            places = _places(tensor.shape, scale.shape)
        except ValueError as error:
            return replace(tensor, unfit=f"holds float8 numbers, but the scales '{scale.name}' {error}")
        return replace(tensor, read=lambda: _scaled(tensor, scale, places))

    return [told(tensor) for tensor in tensors]


def _places(shape: tuple[int, ...], scales: tuple[int, ...]) -> list[NDArray[np.int64]]:
    """For each axis of a tensor, which scale each of its places has.

    Raises
    ------
    ValueError
        If the scales do not fit, or fit in two ways.
    """
    if math.prod(scales) == 1:
        scales = (1,) * len(shape)
    elif len(scales) < len(shape):  # one for each place of the first axis
        scales = (*scales, *(1,) * (len(shape) - len(scales)))
    if len(scales) != len(shape):
        raise ValueError(f"of shape {scales} do not fit its shape {shape}")
    places = []
    for size, count in zip(shape, scales, strict=True):
        blocks = {size // count} if count and size % count == 0 else set()
        if count and -(-size // SCALE_BLOCK) == count and count > 1:
            blocks.add(SCALE_BLOCK)
        if len(blocks) != 1:
            how = "fit in two ways" if blocks else "do not fit"
            raise ValueError(f"of shape {scales} {how} its shape {shape}")
        places.append(np.arange(size) // max(1, blocks.pop()))
    return places


def _scaled(
    tensor: WeightTensor, scale: WeightTensor, places: list[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """The numbers times their scales: products of few bits, exact in float64."""
    values, factors = tensor.read(), scale.read()
    shaped = values.reshape(tensor.shape)
    if not places:
        values *= factors
        return values
    table = factors.reshape([int(place[-1]) + 1 for place in places])
    for row in range(len(table)):
        shaped[places[0] == row] *= table[row][np.ix_(*places[1:])] if len(places) > 1 else table[row]
    return values


# ------------------------------------------------------------------------------------ libraries


def _torchvision_state(name: str) -> Any:
    """The weights of the paper: the first that torchvision published for a model."""
    from pvqbounds.nn.models import import_torchvision

    models = import_torchvision().models
    try:
        published = next(iter(models.get_model_weights(name)))
    except (ValueError, StopIteration) as error:
        raise InputError(f"torchvision has no model '{name}' with weights.") from error
    options = {"progress": False, "check_hash": True, "weights_only": True}
    return _download(name, lambda: published.get_state_dict(**options))


def _timm_state(name: str) -> Any:
    from pvqbounds.nn.models import import_torchvision

    import_torchvision()  # timm needs it too
    timm = _package("timm", None)
    if name not in timm.list_models(pretrained=True) and name not in timm.list_models():
        raise InputError(f"timm has no model '{name}'.")
    return _download(name, lambda: timm.create_model(name, pretrained=True).state_dict())


def _download(name: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except (OSError, RuntimeError, ValueError) as error:  # no network, no room, a broken file
        raise InputError(
            f"The weights of {name} cannot be fetched ({_line(error)}); "
            "fetch them elsewhere and give the file with --checkpoint."
        ) from error


def _factory_state(module: str, factory: str) -> Any:
    from pvqbounds.nn.models import from_factory

    return from_factory(module, factory).state_dict()


def _package(name: str, extra: str | None) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        how = f"pip install {name}" if extra is None else f"pip install 'pvqbounds[{extra}]'"
        raise InputError(f"This needs {name} ({error}); install it with `{how}`.") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__

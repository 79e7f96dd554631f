"""Models by name, their weights and their data. Files are never unpickled."""

from __future__ import annotations

import difflib
import io
import os
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pvqbounds.errors import InputError
from pvqbounds.nn import embedded
from pvqbounds.nn.names import PAPER_MODELS
from pvqbounds.problems.archive import native_array, parse_arrays, read_bytes

__all__ = ["LoadedModel", "from_factory", "import_torchvision", "load_model", "load_module"]

T = TypeVar("T")

DEFAULT = "digits"

INPUTS_KEY = "inputs"
"""Name of the array that counts in a data file with several."""


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model under its name, with calibration inputs where there are some."""

    name: str
    module: nn.Module
    data: Tensor | None
    """First axis: samples."""


def load_model(name: str, weights: Path | None = None, data: Path | None = None) -> LoadedModel:
    """Load a model by name, with weights and calibration inputs from files.

    Parameters
    ----------
    name
        ``digits``, the embedded network, with weights and data of its own;
        ``torchvision:NAME`` or ``timm:NAME`` (or a name that the paper uses: resnet18, resnet50,
        mobilenet_v2, vit, efficientnet), built without weights, so that `weights` must be given;
        ``package.module:factory``, a callable without arguments that returns a module, looked
        up in the current folder as well.
    weights
        State dictionary, ``.safetensors``.
    data
        Calibration inputs, first axis samples: ``.npy``, or ``.npz`` or ``.safetensors`` with
        one array, or with one of them called ``inputs``.

    Raises
    ------
    InputError
        If the name is unknown (the nearest is given), a package is missing, a file cannot be
        read or does not fit, or weights or data are missing.
    """
    module = load_module(name, weights)
    if data is not None:
        return LoadedModel(name, module, _read_inputs(Path(data)))
    if name != DEFAULT:
        raise InputError(
            f"Model '{name}' comes without data; "
            "give calibration inputs in a .npy, .npz or .safetensors file."
        )
    return LoadedModel(name, module, _digits_inputs())


def load_module(name: str, weights: Path | None = None) -> nn.Module:
    """Load a model by name, with weights from a file, without any data.

    Parameters and errors are those of :func:`load_model`.
    """
    source, colon, rest = PAPER_MODELS.get(name, name).partition(":")
    if not (source == DEFAULT and not colon) and not (source and rest):
        raise InputError(
            f"There is no model '{name}'{_nearest(name, [DEFAULT, *PAPER_MODELS])}; there are {DEFAULT}, "
            f"{', '.join(PAPER_MODELS)}, torchvision:NAME, timm:NAME and package.module:factory."
        )
    if not colon:
        module = _digits()
    elif source in ("torchvision", "timm"):
        module = _from_library(source, rest, weighted=weights is not None)
    else:
        module = from_factory(source, rest)
    if weights is not None:
        _load_weights(module, Path(weights))
    return module


def _digits() -> nn.Module:
    from pvqbounds.nn.embedded.network import DigitsCNN

    network = DigitsCNN()
    _load_weights(network, _embedded_file("digits_cnn.safetensors"))
    return network.eval()


def _digits_inputs() -> Tensor:
    """Grey levels 0..16 as the network was trained on them: from 0 to 1, shape (256, 1, 8, 8)."""
    path = _embedded_file("digits_images.npz")
    arrays = parse_arrays(read_bytes(path), path)
    levels = torch.from_numpy(arrays["train"][arrays["calibration"]])
    return levels.float().div(16).unsqueeze(1)


def _embedded_file(name: str) -> Path:
    return Path(embedded.__path__[0]) / name


def _from_library(library: str, name: str, *, weighted: bool) -> nn.Module:
    """Build a torchvision or timm model; its weights, which would have to be downloaded, come later."""
    torchvision = import_torchvision()  # timm needs it too
    source = torchvision.models if library == "torchvision" else _import("timm")
    names: list[str] = source.list_models()
    if name not in names:
        raise InputError(f"{library} has no model '{name}'{_nearest(name, names)}.")
    if not weighted:
        raise InputError(
            f"Model '{name}' is built without weights; give them in a .safetensors file "
            "(safetensors.torch.save_model writes one)."
        )
    module: nn.Module = (
        source.get_model(name, weights=None)
        if library == "torchvision"
        else source.create_model(name, pretrained=False)
    )
    return module


_SCHEMAS: list[torch.library.Library] = []
"""Keeps what :func:`import_torchvision` declares alive."""


def import_torchvision() -> ModuleType:
    """Import torchvision, also a CUDA build beside a torch without CUDA.

    The compiled operators of such a build do not load, and the import then fails on the missing
    schema of `nms`. Only detection models call it, so that declaring the schemas is enough.
    """
    try:
        return _import("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for loaded in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[loaded]
    library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _SCHEMAS.append(library)
    return _import("torchvision")


def _import(package: str) -> ModuleType:
    try:
        return import_module(package)
    except ImportError as error:
        raise InputError(
            f"This needs {package} ({error}); install it with `pip install {package}`, constrained to the "
            "torch that is installed."
        ) from error


def from_factory(module_name: str, factory: str) -> nn.Module:
    """Call a person's own factory."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a console script does not search the current folder by itself
    place = f"{module_name}:{factory}"
    try:
        build: Any = import_module(module_name)
        for attribute in factory.split("."):
            build = getattr(build, attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"Model '{place}' cannot be found ({error}).") from error
    try:
        module = build()
    except Exception as error:
        raise InputError(
            f"Model '{place}' cannot be built ({type(error).__name__}: {_line(error)})."
        ) from error
    if not isinstance(module, nn.Module):
        raise InputError(f"'{place}' must return a torch.nn.Module, not a {type(module).__name__}.")
    return module


def _load_weights(module: nn.Module, path: Path) -> None:
    """Put a state dictionary from a `.safetensors` file into `module`."""
    _check_file(path, {".safetensors"}, "Weights")
    safetensors = _import_safetensors()
    try:
        missing, unexpected = safetensors.torch.load_model(module, path, strict=False)
    except (OSError, RuntimeError, ValueError, safetensors.SafetensorError) as error:
        raise InputError(f"{path} does not hold the weights of this model ({_line(error)}).") from error
    for names, what in ((missing, "lacks"), (unexpected, "has, unlike the model,")):
        if names:
            first = sorted(names)[0]
            others = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise InputError(f"{path} does not fit the model: it {what} '{first}'{others}.")


def _read_inputs(path: Path) -> Tensor:
    """Read the array of a data file, as it stands there."""
    _check_file(path, {".npy", ".npz", ".safetensors"}, "Calibration inputs")
    content = read_bytes(path)
    if path.suffix == ".npy":
        return torch.from_numpy(_parse_array(content, path))
    if path.suffix == ".npz":
        return torch.from_numpy(_chosen(parse_arrays(content, path), path))
    safetensors = _import_safetensors()
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(content)
    except (ValueError, safetensors.SafetensorError) as error:
        raise InputError(f"{path} is damaged or not a .safetensors file ({_line(error)}).") from error
    return _chosen(tensors, path)


def _parse_array(content: bytes, path: Path) -> NDArray[Any]:
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except (EOFError, OSError, SyntaxError, TypeError, ValueError, MemoryError) as error:
        raise InputError(f"{path} is damaged, or not a .npy file of numbers ({_line(error)}).") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise InputError(f"{path} must hold one array of real numbers.")
    return native_array(array, f"The array in {path}")


def _chosen(arrays: dict[str, T], path: Path) -> T:
    """Take the only array, or the one that is called `INPUTS_KEY`."""
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    if INPUTS_KEY in arrays:
        return arrays[INPUTS_KEY]
    found = ", ".join(sorted(arrays)) or "none"
    raise InputError(f"{path} must hold one array, or one called '{INPUTS_KEY}'; it holds {found}.")


def _check_file(path: Path, suffixes: set[str], what: str) -> None:
    if path.suffix not in suffixes:
        raise InputError(f"{what} are read from {' or '.join(sorted(suffixes))} files, not from {path}.")
    if not path.is_file():
        raise InputError(f"There is no file {path}.")


def _import_safetensors() -> Any:
    try:
        import_module("safetensors.torch")
        return import_module("safetensors")
    except ImportError as error:
        raise InputError(
            f"Reading weights needs safetensors ({error}); install it with `pip install 'pvqbounds[nn]'`."
        ) from error


def _nearest(name: str, names: list[str]) -> str:
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    return f" (did you mean '{found[0]}'?)" if found else ""


def _line(error: BaseException) -> str:
    """Put the error's text on one line, without a final stop."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__

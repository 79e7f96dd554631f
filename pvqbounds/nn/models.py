"""Models by name, their weights and their data. Files are never unpickled."""

from __future__ import annotations

import difflib
import io
import os
import sys
from collections import Counter
from collections.abc import Mapping
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
from pvqbounds.nn.stored import parts_of
from pvqbounds.storage.archive import native_array, parse_arrays, read_bytes

__all__ = ["LoadedModel", "from_factory", "import_torchvision", "load_model", "load_module"]

T = TypeVar("T")

DEFAULT = "digits"

INPUTS_KEY = "inputs"
"""Name of the array that counts in a data file with several."""

LABEL_KEYS = ("label", "labels", "target", "targets", "y", "class", "classes", "index", "indices")
"""Arrays beside it that a model is never given."""


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model under its name, with calibration inputs where there are some."""

    name: str
    module: nn.Module
    data: Tensor | None
    """First axis: samples."""
    note: str = ""
    """What a reader of its bounds must know, in a sentence."""


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
        return LoadedModel(name, module, _read_inputs(Path(data)), _note(name, weights))
    if name != DEFAULT:
        raise InputError(
            f"Model '{name}' comes without data; "
            "give calibration inputs in a .npy, .npz or .safetensors file."
        )
    return LoadedModel(name, module, _digits_inputs())


def _note(name: str, weights: Path | None) -> str:
    """Say whose weights these are where nobody can tell."""
    built = ":" in PAPER_MODELS.get(name, name)
    return (
        f"The weights are those that {name} was built with: no file gave any."
        if (built and weights is None)
        else ""
    )


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
    """Put a state dictionary from a `.safetensors` file into `module`.

    Of tensors that the model has under several names (tied weights) the file may hold one or all.
    """
    _check_file(path, {".safetensors"}, "Weights")
    safetensors = _import_safetensors()
    try:
        state: dict[str, Tensor] = safetensors.torch.load_file(path)
    except (KeyError, OSError, RuntimeError, ValueError, safetensors.SafetensorError) as error:
        raise InputError(f"{path} is damaged or not a .safetensors file ({_line(error)}).") from error
    own = module.state_dict(keep_vars=True)
    _check_plain(state, own, path)
    tied = _tied(own)
    for names in tied.values():
        held = [name for name in names if name in state]
        for name in held[1:]:
            if not torch.equal(state[held[0]], state[name]):
                raise InputError(
                    f"'{held[0]}' and '{name}' are one tensor of the model, but {path} holds two that differ."
                )
    try:
        missing, unexpected = module.load_state_dict(state, strict=False)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{path} does not hold the weights of this model ({_line(error)}).") from error
    missing = [name for name in missing if not any(other in state for other in tied.get(name, ()))]
    for names, what in ((missing, "lacks"), (unexpected, "has, unlike the model,")):
        if names:
            first = sorted(names)[0]
            others = f" and {len(names) - 1} more" if len(names) > 1 else ""
            hint = _prefix_hint(state, own)
            raise InputError(f"{path} does not fit the model: it {what} '{first}'{others}{hint}.")


def _check_plain(state: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path) -> None:
    """Find out whether a file holds weights as they are, not quantized ones or an adapter."""
    parts = parts_of({name: str(tensor.dtype).removeprefix("torch.") for name, tensor in state.items()})
    for name, tensor in state.items():
        if name not in own and name in parts:
            reason = parts[name].reason
            advice = "" if reason.endswith(" first") else "; dequantize the checkpoint first"
            raise InputError(f"{path} does not hold plain weights: '{name}' {reason}{advice}.")
        if name in own and own[name].is_floating_point() and not tensor.is_floating_point():
            raise InputError(
                f"'{name}' in {path} holds {str(tensor.dtype).removeprefix('torch.')} where the model has "
                "floating-point weights; dequantize the checkpoint first."
            )


def _tied(own: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """For each name of the model's tensors that are there several times, all names of that tensor."""
    together: dict[object, list[str]] = {}
    for name, tensor in own.items():
        place: object = id(tensor)
        if isinstance(tensor, Tensor) and not tensor.is_meta and tensor.numel():
            place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device)
        together.setdefault(place, []).append(name)
    return {name: names for names in together.values() if len(names) > 1 for name in names}


def _prefix_hint(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Name the prefix by which most names of file and model differ."""
    for longer, shorter, words in (
        (state, own, "its names begin with '{}', which the model's do not: save the module inside"),
        (own, state, "the model's names begin with '{}', which the file's do not: take the module inside"),
    ):
        prefixes = Counter(
            name[: -len(rest)]
            for name in longer
            for rest in (name[i + 1 :] for i, letter in enumerate(name) if letter == ".")
            if rest in shorter and name not in shorter
        )
        for prefix, count in prefixes.most_common(1):
            if 2 * count >= len(shorter):
                return f"; {words.format(prefix)}"
    return ""


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
    """Take the only array, or the one that is called `INPUTS_KEY` if only labels lie beside it."""
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    found = ", ".join(sorted(arrays)) or "none"
    masks = sorted(name for name in arrays if "mask" in name.lower())
    if masks:
        raise InputError(
            f"{path} holds '{masks[0]}', and masks are not supported; give the inputs alone, without padding."
        )
    if INPUTS_KEY not in arrays:
        raise InputError(f"{path} must hold one array, or one called '{INPUTS_KEY}'; it holds {found}.")
    others = sorted(arrays.keys() - {INPUTS_KEY} - set(LABEL_KEYS))
    if others:
        raise InputError(
            f"{path} holds '{others[0]}' beside '{INPUTS_KEY}', which the model might need; "
            f"leave out all but '{INPUTS_KEY}' and labels."
        )
    return arrays[INPUTS_KEY]


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

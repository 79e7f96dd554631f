"""Models by name, with their weights and their data."""

from __future__ import annotations

import difflib
import os
import sys
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from pvqbounds.errors import InputError
from pvqbounds.nn import embedded
from pvqbounds.nn.batches import Data
from pvqbounds.nn.calibration import DataOptions, read_data
from pvqbounds.nn.folders import is_model_folder, load_folder
from pvqbounds.nn.names import PAPER_MODELS
from pvqbounds.nn.weights import line, load_weights
from pvqbounds.storage.archive import parse_arrays, read_bytes

__all__ = ["LoadedModel", "from_factory", "import_torchvision", "load_model", "load_module"]

DEFAULT = "digits"


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model under its name, with calibration data where there are some."""

    name: str
    module: nn.Module
    data: Data | None
    note: str = ""
    """What a reader of its bounds must know, in a sentence."""
    held_out: Data | None = None
    """Data that the model was not calibrated on."""


def load_model(
    name: str,
    weights: Path | None = None,
    data: Path | None = None,
    *,
    held_out: Path | None = None,
    options: DataOptions | None = None,
    needs_data: bool = True,
    needs_weights: bool = True,
) -> LoadedModel:
    """Load a model by name, with weights and calibration data from files.

    Parameters
    ----------
    name
        ``digits``, the embedded network, with weights and data of its own;
        ``torchvision:NAME`` or ``timm:NAME`` (or a name that the paper uses: resnet18, resnet50,
        mobilenet_v2, vit, efficientnet), built without weights, so that `weights` must be given;
        ``package.module:factory``, a callable without arguments that returns a module, looked
        up in the current folder as well; a folder as transformers saves models.
    weights
        State dictionary, ``.safetensors``, one of PyTorch's own (read as tensors alone), or a folder
        of its parts with an index.
    data
        Calibration data: a file of arrays (``.npy``, ``.npz``, ``.safetensors``), a text, or a folder
        of images; as :func:`pvqbounds.nn.calibration.read_data` reads them.
    held_out
        Data for a second look at what was found, of the same kinds.
    options
        How the data are read.
    needs_data, needs_weights
        Whether a model without any is refused.

    Raises
    ------
    InputError
        If the name is unknown (the nearest is given), a package is missing, a file cannot be
        read or does not fit, or weights or data are missing.
    """
    options = options or DataOptions()
    if data is None:
        _check_unread(options, held_out)
    if is_model_folder(name):
        module, note = load_folder(Path(name))
        if weights is not None:
            load_weights(module, Path(weights))
        options = options if options.tokenizer is not None else replace(options, tokenizer=Path(name))
    else:
        module = load_module(name, weights, needs_weights=needs_weights)
        note = _note(name, weights)
    title = Path(name).resolve().name if is_model_folder(name) else name
    later = (
        None if held_out is None else read_data(Path(held_out), module, replace(options, position_mask=None))
    )
    if data is not None:
        return LoadedModel(title, module, read_data(Path(data), module, options), note, later)
    if name == DEFAULT:
        return LoadedModel(title, module, _digits_inputs(), "", later)
    if needs_data:
        raise InputError(
            f"Model '{name}' comes without data; give calibration inputs: a .npy, .npz or .safetensors file, "
            "a text, or a folder of images."
        )
    return LoadedModel(title, module, None, note, later)


def _check_unread(options: DataOptions, held_out: Path | None) -> None:
    """Refuse what says how calibration data are read where there are none; held out ones are read so too.

    Raises
    ------
    InputError
        If there is such a thing.
    """
    unread = {"position_mask": "A position mask belongs"}
    if held_out is None:
        unread |= {
            "samples": "A number of samples belongs",
            "max_tokens": "A number of tokens belongs",
            "tokenizer": "A tokenizer belongs",
        }
    for name, words in unread.items():
        if getattr(options, name) != getattr(DataOptions, name):
            raise InputError(f"{words} to calibration data in a file; give them, or leave it out.")


def _note(name: str, weights: Path | None) -> str:
    """Say whose weights these are where nobody can tell."""
    built = ":" in PAPER_MODELS.get(name, name)
    return (
        f"The weights are those that {name} was built with: no file gave any."
        if (built and weights is None)
        else ""
    )


def load_module(name: str, weights: Path | None = None, *, needs_weights: bool = True) -> nn.Module:
    """Load a model by name, with weights from a file, without any data.

    Parameters and errors are those of :func:`load_model`.
    """
    if is_model_folder(name):
        module, _ = load_folder(Path(name))
        if weights is not None:
            load_weights(module, Path(weights))
        return module
    source, colon, rest = PAPER_MODELS.get(name, name).partition(":")
    if not (source == DEFAULT and not colon) and not (source and rest):
        raise InputError(
            f"There is no model '{name}'{_nearest(name, [DEFAULT, *PAPER_MODELS])}; there are {DEFAULT}, "
            f"{', '.join(PAPER_MODELS)}, torchvision:NAME, timm:NAME, package.module:factory and "
            "folders with a config.json."
        )
    if not colon:
        module = _digits()
    elif source in ("torchvision", "timm"):
        module = _from_library(source, rest, weighted=weights is not None or not needs_weights)
    else:
        module = from_factory(source, rest)
    if weights is not None:
        load_weights(module, Path(weights))
    return module


def _digits() -> nn.Module:
    from pvqbounds.nn.embedded.network import DigitsCNN

    network = DigitsCNN()
    load_weights(network, _embedded_file("digits_cnn.safetensors"))
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
    tagged = library == "timm" and name.partition(".")[0] in names  # "NAME.TAG" says whose weights
    if name not in names and not tagged:
        raise InputError(f"{library} has no model '{name}'{_nearest(name, names)}.")
    if not weighted:
        raise InputError(
            f"Model '{name}' is built without weights; give them in a .safetensors or "
            ".pt file (safetensors.torch.save_model writes one)."
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
    except (Exception, SystemExit) as error:  # whatever runs when it is imported
        raise InputError(
            f"Model '{place}' cannot be found ({type(error).__name__}: {line(error)})."
        ) from error
    try:
        module = build()
    except (Exception, SystemExit) as error:
        raise InputError(
            f"Model '{place}' cannot be built ({type(error).__name__}: {line(error)})."
        ) from error
    if isinstance(module, torch.jit.ScriptModule):
        raise InputError(
            f"'{place}' returns TorchScript, whose layers cannot be looked into; return the module that "
            "it was made from."
        )
    if not isinstance(module, nn.Module):
        raise InputError(f"'{place}' must return a torch.nn.Module, not a {type(module).__name__}.")
    return module


def _nearest(name: str, names: list[str]) -> str:
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    return f" (did you mean '{found[0]}'?)" if found else ""

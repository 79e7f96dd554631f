"""Models in folders as Hugging Face's transformers saves them, loaded without any network."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pvqbounds.errors import InputError, shown
from pvqbounds.nn.weights import line
from pvqbounds.storage.archive import parse_json, read_bytes

__all__ = ["is_model_folder", "load_folder"]


def is_model_folder(name: str) -> bool:
    """Whether a name is that of a folder with a model's ``config.json``."""
    return (Path(name) / "config.json").is_file()


def load_folder(folder: Path) -> tuple[nn.Module, str]:
    """Load the model of a folder: ``config.json`` and ``.safetensors`` files.

    Weights of half precision are brought to float32, which changes none of them. No code of the
    folder is run.

    Returns
    -------
    module, note
        The note names weights that the folder lacks.

    Raises
    ------
    InputError
        If transformers is missing, does not know the model, or cannot load it.
    """
    path = folder / "config.json"
    config = parse_json(read_bytes(path), path, constants=True)
    named = config.get("architectures") if isinstance(config, dict) else None
    if not (isinstance(named, list) and named and isinstance(named[0], str)):
        raise InputError(f"{path} does not name the model's class under architectures.")
    if config.get("quantization_config"):
        raise InputError(
            f"The weights in {folder} are compressed; give the dense model, and this folder "
            "with --compressed."
        )
    with _offline():
        transformers = _transformers()
        transformers.utils.logging.disable_progress_bar()
        kind: Any = getattr(transformers, named[0], None)
        if not _is_model_class(kind, transformers):
            raise InputError(
                f"The transformers that is installed has no model {shown(named[0])}, which {path} names; "
                "code of the folder's own is not run."
            )
        options = {"local_files_only": True, "use_safetensors": True, "trust_remote_code": False}
        try:
            module, told = kind.from_pretrained(str(folder), output_loading_info=True, **options)
        except Exception as error:
            raise InputError(f"The model in {folder} cannot be loaded ({line(error)}).") from error
    return _at_least_single(module.eval()), _note(folder, sorted(map(str, told.get("missing_keys", ()))))


def _is_model_class(kind: Any, transformers: Any) -> bool:
    """Whether a class of the library builds a model by itself; an AutoModel looks for code in the folder."""
    return isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)


def _note(folder: Path, lacking: list[str]) -> str:
    if not lacking:
        return ""
    others = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
    return f"{folder} lacks the weights '{lacking[0]}'{others}, which are random numbers here."


def _at_least_single(module: nn.Module) -> nn.Module:
    return (
        module.float()
        if any(p.dtype in (torch.float16, torch.bfloat16) for p in module.parameters())
        else module
    )


def _transformers() -> Any:
    try:
        return import_module("transformers")
    except ImportError as error:
        raise InputError(
            f"A folder of a model needs transformers ({error}); install it with "
            "`pip install 'pvqbounds[hf]'`, constrained to the torch that is installed."
        ) from error


@contextmanager
def _offline() -> Iterator[None]:
    """Ask no hub, and leave standard error to errors."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before

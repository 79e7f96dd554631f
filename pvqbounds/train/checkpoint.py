"""Checkpoints: one file, written whole after every epoch, read without unpickling anything."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from pvqbounds.errors import InputError
from pvqbounds.storage.archive import replacing
from pvqbounds.train.presets import Recipe

__all__ = ["CHANGEABLE", "load_checkpoint", "restore", "save_checkpoint"]

SCHEMA = "pvqbounds.checkpoint/1"

CHANGEABLE = frozenset(
    {
        "learning_rate",
        "scale_rate",
        "batch_size",
        "precision",
        "weights",
        "data",
        "source",
        "reestimate_batches",
    }
)
"""Values of a recipe that may be others when a run is resumed; the rest make it another run."""


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizers: list[Optimizer],
    compression: Mapping[str, Any],
    recipe: Recipe,
    progress: Mapping[str, Any],
) -> None:
    """Write what a run needs to go on after this epoch.

    Random numbers need no state of their own: every epoch seeds its own (:mod:`.fit`).
    """
    content = {
        "schema": SCHEMA,
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "compression": dict(compression),
        "recipe": recipe.to_json(),
        "progress": dict(progress),
    }
    with replacing(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; tensors, numbers and texts only.

    Raises
    ------
    InputError
        If it is missing, damaged or no checkpoint of ours.
    """
    if not path.is_file():
        raise InputError(f"There is no checkpoint {path} to resume from; start without --resume.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        OSError,
        EOFError,
        RuntimeError,
        ValueError,
        KeyError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        raise InputError(f"{path} is damaged or not a checkpoint; nothing was loaded from it.") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise InputError(f"{path} is not a checkpoint of pvqbounds train.")
    return content


def restore(
    content: Mapping[str, Any], path: Path, recipe: Recipe, model: nn.Module, optimizers: list[Optimizer]
) -> None:
    """Put a checkpoint's state into the model and the optimisers.

    Raises
    ------
    InputError
        If it belongs to another architecture or to another recipe.
    """
    _check_architecture(content["model"], path, model)
    _check_recipe(content["recipe"], path, recipe)
    model.load_state_dict(content["model"])
    for optimizer, state in zip(optimizers, content["optimizers"], strict=True):
        optimizer.load_state_dict(state)


def _check_architecture(saved: Mapping[str, Any], path: Path, model: nn.Module) -> None:
    here = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    there = {name: tuple(tensor.shape) for name, tensor in saved.items()}
    for name in {**there, **here}:
        if here.get(name) != there.get(name):
            found = f"shape {there[name]}" if name in there else "no such tensor"
            wanted = f"shape {here[name]}" if name in here else "no such tensor"
            raise InputError(
                f"{path} is a checkpoint of another architecture: for '{name}' it has {found}, this model "
                f"{wanted}; give the model and the options that it was made with, or another --out."
            )


def _check_recipe(saved: Mapping[str, Any], path: Path, recipe: Recipe) -> None:
    for name, (there, here) in _differences(saved, recipe.to_json()).items():
        if name not in CHANGEABLE:
            raise InputError(
                f"{path} was made with {name} = {there}, not {here}; "
                "resume with the same, or start another run with another --out."
            )


def _differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Values that differ, those of the compression under their own names."""

    def flat(document: Mapping[str, Any]) -> dict[str, Any]:
        return {**document, "compression": None} | (document.get("compression") or {})

    there, here = flat(saved), flat(now)
    return {
        name: (there.get(name), here.get(name))
        for name in {**there, **here}
        if there.get(name) != here.get(name)
    }

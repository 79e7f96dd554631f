"""The folder of a run: its configuration, its checkpoint, its result and the weights it ended with.

========================  ===================================================================
``config.json``           the effective recipe; ``--preset RUN/config.json`` starts the same again
``checkpoint.pt``         after every epoch, for ``--resume``
``result.json``           accuracies, sizes, history
``layers.safetensors``    codes, scales, latent or pruned weights (:mod:`.outcome`)
``model.safetensors``     the whole model, plain, for ``--weights``
========================  ===================================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from pvqbounds.errors import InputError, OutputError
from pvqbounds.nn.models import load_module
from pvqbounds.nn.names import PAPER_MODELS
from pvqbounds.storage.archive import parse_json, read_bytes, replacing
from pvqbounds.storage.text import finite, write_json
from pvqbounds.train.data import TrainingData, digits_data, image_data
from pvqbounds.train.fit import CHECKPOINT, Compressed
from pvqbounds.train.outcome import Outcome, PrunedLayer, QuantizedLayer, read_outcome, write_outcome
from pvqbounds.train.presets import FULL_BITS, Recipe, recipe_from_json
from pvqbounds.train.sizes import compressible, share_of_weights

__all__ = ["Run", "open_recipe", "prepare_folder", "read_run", "result_document", "write_run"]

CONFIG, RESULT, LAYERS, MODEL = "config.json", "result.json", "layers.safetensors", "model.safetensors"
SCHEMA = "pvqbounds.training/1"


@dataclass(frozen=True, eq=False)
class Run:
    """A run that has ended, as its folder holds it."""

    folder: Path
    recipe: Recipe
    layers: Mapping[str, Outcome]
    accuracy_before: float
    accuracy_after: float

    @property
    def weights(self) -> Path:
        """The whole model with its compressed weights."""
        return self.folder / MODEL


def open_recipe(recipe: Recipe) -> tuple[nn.Module, TrainingData]:
    """The dense model and the data that a recipe names.

    Raises
    ------
    InputError
        If one of them cannot be loaded.
    """
    library = PAPER_MODELS.get(recipe.model, recipe.model).partition(":")[0]
    if recipe.data is None and library in ("torchvision", "timm"):
        raise InputError(
            f"Model '{recipe.model}' needs images: give --data DIR with DIR/train/CLASS/ and DIR/val/CLASS/."
        )
    model = load_module(recipe.model, None if recipe.weights is None else Path(recipe.weights))
    if recipe.data is None:
        return model, digits_data()
    data = image_data(
        Path(recipe.data),
        image_size=recipe.image_size,
        interpolation=recipe.interpolation,
        calibration_images=recipe.calibration_images,
        seed=recipe.seed,
        model=model,
    )
    return model, data


def prepare_folder(folder: Path, recipe: Recipe, *, resume: bool) -> None:
    """Make the folder of a run and write its configuration.

    Raises
    ------
    OutputError
        If it holds a run already and this is not to go on with it, or cannot be written.
    InputError
        If there is nothing to go on with.
    """
    checkpoint = folder / CHECKPOINT
    if resume and not checkpoint.is_file():
        raise InputError(f"There is no checkpoint {checkpoint} to resume from; start without --resume.")
    if not resume and ((folder / RESULT).exists() or checkpoint.exists()):
        hint = "go on with it by --resume, or " if checkpoint.exists() else ""
        raise OutputError(f"{folder} holds a run already; {hint}give another --out.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made ({error.strerror}).") from error
    if not resume:
        write_json(folder / CONFIG, recipe.to_json())


def result_document(recipe: Recipe, compressed: Compressed, method: str) -> dict[str, Any]:
    """What `result.json` says."""
    layers = compressed.layers
    total = sum(layer.weight.size for layer in layers.values())
    return {
        "schema": SCHEMA,
        "method": method,
        "task": recipe.to_json()["task"],
        "model": recipe.model,
        "source": recipe.source,
        "accuracy_dense": compressed.accuracy_before,
        "accuracy": compressed.accuracy_after,
        "sparsity": compressed.sparsity,
        "bits_per_weight": sum(_bits(layer) for layer in layers.values()) / total if total else None,
        "mask_bits_per_weight": _mask_bits(layers, total),
        "share_of_parameters": share_of_weights(compressed.model, list(layers)),
        "dense_layers": [name for name in compressible(compressed.model) if name not in layers],
        "layers": {name: _layer_document(layer) for name, layer in layers.items()},
        "history": [
            {key: finite(value) for key, value in asdict(epoch).items()} for epoch in compressed.history
        ],
        "corrupt": list(compressed.corrupt),
        "seconds": compressed.seconds,
    }


def _bits(layer: Outcome) -> float:
    """Bits of the kept weights, the mask of a pruned layer not counted."""
    if isinstance(layer, QuantizedLayer):
        return layer.bits * layer.codes.size + 32 * len(np.unique(layer.scales))
    return float(FULL_BITS * np.count_nonzero(layer.weight))


def _mask_bits(layers: Mapping[str, Outcome], total: int) -> float:
    """Bits a weight of the smallest code for the masks: entropy, log2 of the choices of a pattern."""
    bits = 0.0
    for layer in layers.values():
        if not isinstance(layer, PrunedLayer):
            continue
        if layer.pattern is not None:
            bits += len(layer.weight) * _pattern_bits(layer.pattern, layer.stride, layer.weight.shape[1])
        else:
            p = np.count_nonzero(layer.weight) / layer.weight.size
            bits -= sum(layer.weight.size * q * math.log2(q) for q in (p, 1.0 - p) if q > 0.0)
    return bits / total if total else 0.0


def _pattern_bits(pattern: tuple[int, int], stride: int, inputs: int) -> float:
    """Bits of the choices of one output channel's groups; the last at each position may be shorter."""
    kept, size = pattern
    whole, short = divmod(inputs // stride, size)
    choices = whole * math.log2(math.comb(size, kept)) + math.log2(math.comb(short, min(kept, short)))
    return stride * choices


def _layer_document(layer: Outcome) -> dict[str, Any]:
    if isinstance(layer, QuantizedLayer):
        scales = np.unique(layer.scales)
        return {
            "bits": layer.bits,
            "scale": float(scales[0]) if len(scales) == 1 else None,
            "zeros": float((layer.codes == 0).mean()),
        }
    return {
        "density": layer.density,
        "pattern": layer.pattern,
        "zeros": float((layer.weight == 0.0).mean()),
    }


def write_run(folder: Path, recipe: Recipe, compressed: Compressed, method: str) -> None:
    """Write what a run ended with; `result.json` last, so that it stands for the rest."""
    from safetensors.torch import save_model

    with replacing(folder / MODEL) as temporary:
        save_model(compressed.model.cpu(), str(temporary))
    write_outcome(folder / LAYERS, compressed.layers)
    write_json(folder / RESULT, result_document(recipe, compressed, method))


def read_run(folder: Path) -> Run:
    """Read a run that has ended.

    Raises
    ------
    InputError
        If the folder holds none, or a file is damaged.
    """
    if not (folder / RESULT).is_file():
        hint = (
            "the run has not ended: go on with it by --resume"
            if (folder / CHECKPOINT).is_file()
            else ("give the folder that `pvqbounds train qat`, `prune` or `reconstruct` wrote")
        )
        raise InputError(f"There is no result of a run in {folder}; {hint}.")
    result = _read_json(folder / RESULT)
    recipe = recipe_from_json(_read_json(folder / CONFIG), folder / CONFIG)
    if not isinstance(result, dict) or result.get("schema") != SCHEMA:
        raise InputError(f"{folder / RESULT} is no result of a training run.")
    try:
        before, after = float(result["accuracy_dense"]), float(result["accuracy"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / RESULT} names no accuracies ({error}).") from error
    return Run(folder, recipe, read_outcome(folder / LAYERS), before, after)


def _read_json(path: Path) -> Any:
    return parse_json(read_bytes(path, 2**28), path)

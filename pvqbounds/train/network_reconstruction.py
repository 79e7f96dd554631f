"""Layer-wise reconstruction of a whole network: every layer on its own inputs in the dense model.

These are the problems that the bounds are about, so that what it reaches can be held against them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from pvqbounds.errors import InputError, checked_flags
from pvqbounds.nn.grams import gram_of_layer
from pvqbounds.nn.layers import Layer, find_layers
from pvqbounds.problems import Gram
from pvqbounds.problems.grids import range_scale, symmetric_codes
from pvqbounds.problems.sparse import nnz_of_density
from pvqbounds.train.accuracy import accuracy
from pvqbounds.train.batchnorm import reestimate
from pvqbounds.train.data import Corrupt, TrainingData, calibration_batches, check_head, loader_of
from pvqbounds.train.engine import Engine
from pvqbounds.train.fit import Compressed
from pvqbounds.train.layer_reconstruction import reconstruct_pruning, reconstruct_quantization
from pvqbounds.train.outcome import Outcome, PrunedLayer, QuantizedLayer
from pvqbounds.train.presets import Pruning, Quantization, Recipe
from pvqbounds.train.sizes import compressible, layer_bits, layer_densities, layer_patterns

__all__ = ["reconstruct_network"]

LayerProgress = Callable[[int, int, str], None]


def reconstruct_network(
    model: nn.Module,
    data: TrainingData,
    recipe: Recipe,
    *,
    engine: Engine | None = None,
    workers: int = 0,
    skip_corrupt: bool = False,
    progress: LayerProgress | None = None,
) -> Compressed:
    """Quantize or prune every layer for its own output error, without training.

    Parameters
    ----------
    model
        The dense model; it is changed in place.
    data
        Its calibration inputs make the Grams, its training data the batch-norm statistics.
    recipe
        Sizes, ranges, ends and seed of it are used; the numbers of a training are not.
    progress
        Called with the layers done, their number, and what is being done.

    Raises
    ------
    InputError
        If model, data and recipe do not fit together, or the recipe asks for what there is not.
    """
    checked_flags(skip_corrupt=skip_corrupt)
    recipe.check()
    start = time.perf_counter()
    settings = recipe.compression
    if settings is None:
        raise InputError("Reconstruction needs a recipe that quantizes or prunes.")
    if isinstance(settings, Pruning) and settings.scope not in ("layer", "pattern"):
        raise InputError(f"Reconstruction prunes within layers or by a pattern, not by '{settings.scope}'.")
    if isinstance(settings, Quantization) and settings.activation_bits is not None:
        raise InputError("Reconstruction quantizes weights only; leave activation_bits out.")
    engine = engine or Engine()
    report = progress or (lambda done, total, what: None)
    corrupt = Corrupt(skip_corrupt)
    model.to(engine.device).eval()
    check_head(model, data)
    before = accuracy(model, data, engine, workers=workers, corrupt=corrupt)
    names = compressible(model)
    if isinstance(settings, Quantization):
        bits = layer_bits(names, settings.bits, recipe.ends)
        chosen = list(bits)
    else:
        densities = layer_densities(names, settings, recipe.ends)
        patterns = {} if recipe.pattern is None else layer_patterns(model, names, recipe.pattern, recipe.ends)
        chosen = list(patterns or densities)
    layers: dict[str, Outcome] = {}
    for done, (name, layer) in enumerate(find_layers(model, chosen).items()):

        def stage(what: str, done: int = done, name: str = name) -> None:
            report(done, len(chosen), f"{name}: {what}")

        stage("inputs")
        grams = gram_of_layer(model, layer, calibration_batches(data, corrupt=corrupt)()).grams
        if isinstance(settings, Quantization):
            layers[name] = _quantized(layer, grams, bits[name], settings, stage)
        else:
            layers[name] = _pruned(layer, grams, densities[name], patterns.get(name), stage)
    _assign(model, layers)
    report(len(chosen), len(chosen), "accuracy")
    with torch.random.fork_rng([engine.device] if engine.device.type == "cuda" else []):
        torch.manual_seed(recipe.seed)
        generator = torch.Generator().manual_seed(recipe.seed)
        order: Any = torch.utils.data.RandomSampler(data.train, generator=generator)
        batches = loader_of(data.train, recipe.batch_size, order=order, whole=True, workers=workers)
        reestimate(model, batches, recipe.reestimate_batches, engine)
    after = accuracy(model, data, engine, workers=workers, corrupt=corrupt)
    weights = np.concatenate([layer.weight.ravel() for layer in layers.values()])
    return Compressed(
        model=model.eval(),
        layers=layers,
        accuracy_before=before,
        accuracy_after=after,
        history=(),
        sparsity=float((weights == 0.0).mean()),
        corrupt=tuple(corrupt.names),
        seconds=time.perf_counter() - start,
    )


def _quantized(
    layer: Layer,
    grams: Sequence[Gram],
    bits: int,
    settings: Quantization,
    progress: Callable[[str], None],
) -> QuantizedLayer:
    qmin, qmax = symmetric_codes(bits)
    weight = layer.weight
    rows: list[Any] = list(weight) if settings.per_channel else [weight]
    # scales that float32 holds, so that the network computes with exactly these
    found = [float(np.float32(range_scale(settings.range_method, row, qmin, qmax))) for row in rows]
    scales = np.array(found if settings.per_channel else found * len(weight))
    parts = [
        reconstruct_quantization(gram, weight[part], scales[part], qmin, qmax, progress=progress)
        for gram, part in zip(grams, _groups(layer), strict=True)
    ]
    return QuantizedLayer(bits, np.concatenate(parts), scales)


def _pruned(
    layer: Layer,
    grams: Sequence[Gram],
    density: float,
    pattern: tuple[int, int] | None,
    progress: Callable[[str], None],
) -> PrunedLayer:
    """Prune a layer; the groups of a convolution, which have Grams of their own, keep the same density."""
    parts, stride = [], 1 if pattern is None else layer.block
    for gram, part in zip(grams, _groups(layer), strict=True):
        weight = layer.weight[part]
        nnz = None if pattern is not None else nnz_of_density(density, weight.size)
        parts.append(
            reconstruct_pruning(
                gram,
                weight,
                nnz=nnz,
                pattern=pattern,
                stride=stride,
                together=pattern is None,
                progress=progress,
            )
        )
    return PrunedLayer(density, np.concatenate(parts).astype(np.float32).astype(np.float64), pattern, stride)


def _groups(layer: Layer) -> list[slice]:
    """Channels of each group."""
    size = layer.channels // layer.groups
    return [slice(g * size, (g + 1) * size) for g in range(layer.groups)]


def _assign(model: nn.Module, layers: Mapping[str, Outcome]) -> None:
    targets = find_layers(model, layers)
    for name, layer in layers.items():
        weight = targets[name].module.weight
        if isinstance(layer, QuantizedLayer):  # one product in float32, as quantization computes it
            values = layer.scales.astype(np.float32)[:, None] * layer.codes.astype(np.float32)
        else:
            values = layer.weight.astype(np.float32)
        with torch.no_grad():
            weight.copy_(torch.from_numpy(values).view_as(weight))

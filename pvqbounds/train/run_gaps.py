"""How far the layers of a run, as its folder holds it, are from what is possible: `train against`."""

from __future__ import annotations

import difflib
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pvqbounds.errors import InputError, checked_flags
from pvqbounds.nn.layers import Layer, find_layers
from pvqbounds.nn.models import load_module
from pvqbounds.train.data import Corrupt, calibration_batches
from pvqbounds.train.layer_gaps import REFERENCES, LayerProgress, RunAgainst, against_bounds
from pvqbounds.train.outcome import Outcome
from pvqbounds.train.runs import Run, open_recipe, read_run

__all__ = ["gaps_of_run"]


def gaps_of_run(
    folder: Path,
    *,
    reference: str = "dense",
    layers: Sequence[str] | None = None,
    out_channels: int | None = None,
    any_scale: bool = False,
    skip_corrupt: bool = False,
    solver: str = "auto",
    method: str = "auto",
    time_limit: float = 20.0,
    jobs: int = 1,
    seed: int = 0,
    progress: LayerProgress | None = None,
) -> RunAgainst:
    """Bound the layers of a run that has ended, and compare.

    Parameters are those of :func:`pvqbounds.train.against_bounds`.

    Raises
    ------
    InputError
        If the folder holds no run, or a layer is unknown.
    """
    checked_flags(any_scale=any_scale, skip_corrupt=skip_corrupt)
    start = time.perf_counter()
    weights = REFERENCES.get(reference)
    if weights is None:
        raise InputError(f"The reference must be {' or '.join(REFERENCES)}, not {reference!r}.")
    run = read_run(folder)
    chosen = dict(run.layers)
    for name in layers or []:
        if name not in chosen:
            near = difflib.get_close_matches(name, chosen, n=1, cutoff=0.0)[0]
            raise InputError(f"The run has compressed no layer '{name}'; did you mean '{near}'?")
    if layers:
        chosen = {name: chosen[name] for name in layers}
    model, data = open_recipe(run.recipe)
    trained = load_module(run.recipe.model, run.weights)
    for name, layer in find_layers(trained, chosen).items():
        _check_weight(layer, chosen[name], run)
    if weights == "latent":
        model = trained
    found = against_bounds(
        model,
        calibration_batches(data, corrupt=Corrupt(skip_corrupt)),
        chosen,
        reference=weights,
        out_channels=out_channels,
        any_scale=any_scale,
        solver=solver,
        method=method,
        time_limit=time_limit,
        jobs=jobs,
        seed=seed,
        progress=progress,
    )
    return RunAgainst(
        folder.name,
        run.recipe.model,
        weights,
        run.accuracy_before,
        run.accuracy_after,
        found,
        time.perf_counter() - start,
    )


def _check_weight(layer: Layer, outcome: Outcome, run: Run) -> None:
    """Hold the layer's weights in the trained model against those that are evaluated: float32 products."""
    weight = outcome.weight
    near = weight.shape == layer.weight.shape and np.allclose(layer.weight, weight, rtol=2.0**-22, atol=0.0)
    if not near:
        raise InputError(
            f"The weights of layer '{layer.name}' in {run.weights} are not those that the run ended with; "
            "its files belong to different runs."
        )

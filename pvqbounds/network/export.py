"""The best weights found for a network, as a checkpoint.

``dense`` is a ``.safetensors`` file with the names and types of the model's own state dictionary, so that it
loads wherever the model's weights do. ``compressed-tensors`` is a folder with ``model.safetensors`` and
``config.json`` in its pack-quantized layout: Linear layers whose format has whole codes of at most 8 bits in
equal groups are packed, and all else is dense.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pvqbounds.errors import InputError, OutputError, shown
from pvqbounds.network.forms import FORMS, Form
from pvqbounds.network.tied import common_side
from pvqbounds.nn.batches import Data
from pvqbounds.nn.layers import Layer, find_layers
from pvqbounds.nn.means import input_means
from pvqbounds.nn.models import LoadedModel
from pvqbounds.nn.tied import tied_layers
from pvqbounds.nn.weights import line
from pvqbounds.problems.least_squares import LeastSquares
from pvqbounds.problems.values import Steps
from pvqbounds.results.compressed import AS_STORED
from pvqbounds.results.layer import LayerReport, Side, SliceResult
from pvqbounds.results.network import LayerEntry, NetworkReport
from pvqbounds.storage.archive import check_writable, replacing
from pvqbounds.storage.checkpoints.written_packed import (
    MOST_BITS,
    PackedLayer,
    pack_layer,
    quantization_config,
)
from pvqbounds.storage.tensor_files import import_safetensors
from pvqbounds.storage.text import write_json

__all__ = ["Choice", "Exported", "check_export_path", "compressed_model", "export_weights"]

Choice = str | Mapping[str, str] | None
"""A format for all layers, or one for each by its name; None where the network has one alone."""

FILES = ("model.safetensors", "config.json")
"""Of a folder of compressed-tensors."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    path: Path
    formats: Mapping[str, str]
    """The format of each layer whose weights were replaced."""
    dense: Mapping[str, str]
    """Of them those that are not packed, and why; none of a dense checkpoint."""
    left_out: tuple[str, ...] = ()
    """Names of layers that were left out, and are as the model has them."""
    corrected: tuple[str, ...] = ()
    """Names of layers whose mean error was taken off their bias, or off the running mean behind them."""


def compressed_model(
    network: NetworkReport,
    model: nn.Module | LoadedModel,
    choice: Choice = None,
    method: str | None = None,
    calibration: Data | None = None,
) -> nn.Module:
    """A copy of a model with the best weights found in its layers, or those of a method.

    Parameters
    ----------
    model
        The dense one that the network's report is about.
    choice
        Which format each layer has; layers that a mapping leaves out stay dense.
    method
        Name of a method, such as "gptq", whose weights are taken in place of the best ones found.
    calibration
        If given, the mean error of each replaced layer's output on these data, given what the dense network
        gives it, is taken off its bias, or off the running mean of a batch normalisation behind it. Bounds
        are about layers with their biases as they are: with another one less error is possible.

    Raises
    ------
    InputError
        If a layer has no result in its format, or none of the method, not all of its channels, other weights
        in the model, or weights that something which is not replaced has as well.
    """
    return _compressed(network, model, choice, method, calibration)[0]


def _compressed(
    network: NetworkReport,
    model: nn.Module | LoadedModel,
    choice: Choice,
    method: str | None = None,
    calibration: Data | None = None,
) -> tuple[nn.Module, tuple[str, ...]]:
    """The copy, and names of the layers whose mean error was corrected."""
    module = _copied(model.module if isinstance(model, LoadedModel) else model)
    sides = _sides(network, module, choice, method)
    layers = find_layers(module, sides)
    weights = {name: _matrix(sides[name], layer, method) for name, layer in layers.items()}
    dense = {name: layer.weight for name, layer in layers.items()}
    means = None if calibration is None else input_means(module, list(layers.values()), calibration)
    for name, layer in layers.items():
        layer.replace_weight(weights[name])
    corrected = () if means is None else means.corrected(module, layers, dense)
    return module, corrected


def _copied(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module)
    except Exception as error:  # modules may hold anything
        raise InputError(f"The model cannot be copied ({line(error)}).") from error


# ---------------------------------------------------------------------------------- what is chosen


def _chosen(network: NetworkReport, choice: Choice) -> dict[str, Side]:
    """The side of each layer that is replaced."""
    entries = {entry.name: entry for entry in network.layers}
    if choice is None:
        if len(network.formats) != 1:
            listed = ", ".join(network.formats)
            raise InputError(f"The network is bounded in {listed}; say in which of them to export it.")
        choice = network.formats[0]
    if isinstance(choice, str):
        wanted = {name: choice for name, entry in entries.items() if choice not in entry.left_out}
    else:
        wanted = dict(choice)
    for name in wanted:
        if name not in entries:
            raise InputError(f"There is no layer {shown(name)} in the network's report.")
    return {name: _side(entries[name], form) for name, form in wanted.items()}


def _sides(
    network: NetworkReport, module: nn.Module, choice: Choice, method: str | None = None
) -> dict[str, Side]:
    """The side of each layer that is replaced; of layers that have the very same weights one for all."""
    sides = _chosen(network, choice)
    if not sides:
        raise InputError("There are no weights to write: no layer has the format, or all are left out.")
    for tied in tied_layers(module, list(sides)):
        names = " and ".join(map(shown, (*tied.layers, *tied.others)))
        if tied.others:
            raise InputError(
                f"Layer {shown(tied.layers[0])} shares its weights ({names}), which cannot be replaced for "
                "one of them alone; leave it out."
            )
        forms = {sides[name].format for name in tied.layers}
        if len(forms) > 1 or method is not None:
            what = f"in {' and '.join(sorted(forms))}" if method is None else f"of {shown(method)}"
            raise InputError(f"Layers {names} share their weights, which cannot be those {what} of each.")
        reports = [report for name in tied.layers if (report := network.layer(name).report) is not None]
        sides |= dict.fromkeys(tied.layers, common_side(reports, *forms))
    return sides


def _side(entry: LayerEntry, form: str) -> Side:
    report = entry.report
    if form in entry.failures:
        raise InputError(f"Layer {shown(entry.name)} failed in {form}: {entry.failures[form]}")
    if report is None or form not in [side.format for side in report.sides]:
        raise InputError(f"Layer {shown(entry.name)} has no result in {shown(form)}; finish the run first.")
    _check_whole(report)
    return report.side(form)


def _check_whole(report: LayerReport) -> None:
    looked_at, in_all = report.channels
    if report.protocol != "full" or looked_at < in_all:
        raise InputError(
            f"Layer {shown(report.layer)} was bounded on {looked_at} of {in_all} channels"
            f"{' in chunks' * (report.protocol != 'full')}; an export needs whole channels, all of them."
        )


def _matrix(side: Side, layer: Layer, method: str | None = None) -> NDArray[np.float64]:
    """The best weights found, or those of a method, shape (channels, inputs)."""
    if method is not None and method not in side.methods:
        listed = f"only of {', '.join(side.methods)}" if side.methods else "nor of any method"
        raise InputError(f"Layer '{layer.name}' has no {side.format} of {shown(method)}, {listed}.")
    dense, weights = layer.weight, np.empty((layer.channels, layer.inputs))
    points = [s.bounds.weight for s in side.slices] if method is None else side.methods[method]
    mixed = () if side.compressed is None else side.compressed.mixed
    for number, (result, point) in enumerate(zip(side.slices, points, strict=True)):
        problem = result.problem
        if not np.array_equal(problem.weight, dense[result.channel]):
            raise InputError(
                f"Layer '{layer.name}' of the model has other weights than those that were bounded; give the "
                "model, and its weights, as they were then."
            )
        if method is None and result.channel in mixed:  # what was found there may be no weights of the format
            point = side.methods[AS_STORED][number]
        if (method is not None or result.channel in mixed) and isinstance(problem, LeastSquares):
            point = problem.weight_of(point)
        weights[result.channel] = point
    return weights


# -------------------------------------------------------------------------------------- writing


def check_export_path(path: Path, form: str) -> Form:
    """Find out before any work whether a checkpoint can be written, in the form of that name.

    Raises
    ------
    InputError
        If there is no such form.
    OutputError
        If the path does not suit it or cannot be written.
    """
    if form not in FORMS:
        raise InputError(f"Weights are exported as {' or '.join(FORMS)}, not {shown(form)}.")
    if form == "dense":
        if path.suffix != ".safetensors":
            raise OutputError(f"Dense weights are written to a .safetensors file, not to {path}.")
        check_writable(path)
        return "dense"
    if path.exists() and not path.is_dir():
        raise OutputError(f"compressed-tensors are written to a folder, and {path} is a file.")
    others = [] if not path.exists() else sorted(own.name for own in path.iterdir() if own.name not in FILES)
    if others:
        raise OutputError(f"{path} holds other files, such as {others[0]}; give a folder of its own.")
    return "compressed-tensors"


def export_weights(
    network: NetworkReport,
    model: nn.Module | LoadedModel,
    path: str | Path,
    form: Form = "dense",
    choice: Choice = None,
    calibration: Data | None = None,
) -> Exported:
    """Write the best weights found for a network; tensors of other layers stay as they are.

    Parameters
    ----------
    model
        The dense one that the network's report is about.
    path
        A ``.safetensors`` file, or a folder for compressed-tensors.
    choice, calibration
        As for :func:`compressed_model`.

    Raises
    ------
    InputError
        As :func:`compressed_model`, and if there is no such form.
    OutputError
        If it cannot be written.
    """
    path = Path(path)
    check_export_path(path, form)
    module, corrected = _compressed(network, model, choice, calibration=calibration)
    sides = _sides(network, module, choice)
    formats = {name: side.format for name, side in sides.items()}
    state, left_out = _state(module), network.left_out
    if form == "dense":
        _save(state, path, formats, left_out)
        return Exported(path, formats, {}, left_out, corrected)
    packed: dict[str, PackedLayer] = {}
    dense: dict[str, str] = {}
    for name, layer in find_layers(module, sides).items():
        found = _packed(sides[name], layer)
        if isinstance(found, str):
            dense[name] = found
            continue
        for own in _raw_names(module, layer):
            del state[f"{own}.weight"]
            state |= {
                f"{own}.{part}": torch.from_numpy(array.copy()) for part, array in found.tensors.items()
            }
            packed[own] = found
    ignored = [own for layer in find_layers(module, left_out).values() for own in _raw_names(module, layer)]
    _write_folder(module, path, lambda file: _save(state, file, formats, left_out), packed, ignored)
    return Exported(path, formats, dense, left_out, corrected)


def _raw_names(module: nn.Module, layer: Layer) -> list[str]:
    """What the module of a layer is called, wrappers and all; in several places it has several names."""
    return [raw for raw, other in module.named_modules(remove_duplicate=False) if other is layer.module]


def _state(module: nn.Module) -> dict[str, Tensor]:
    """The tensors by name, none of which shares memory: tied ones are written under each name."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in module.state_dict().items()}


def _save(
    state: Mapping[str, Tensor], path: Path, formats: Mapping[str, str], left_out: Sequence[str]
) -> None:
    said = {"format": "pt", "pvqbounds": json.dumps({"formats": dict(formats), "left_out": list(left_out)})}
    safetensors = import_safetensors()
    try:
        with replacing(path) as temporary:
            safetensors.torch.save_file(dict(state), temporary, metadata=said)
    except safetensors.SafetensorError as error:
        raise OutputError(f"{path} cannot be written ({line(error)}).") from error


def _packed(side: Side, layer: Layer) -> PackedLayer | str:
    """A layer in the packed layout, or why it is not."""
    rule = side.form.values
    if rule is None or not rule.has_steps:
        return f"the packed layout holds whole codes, and {side.format} has none"
    if not isinstance(layer.module, nn.Linear) or layer.part is not None:
        return "only Linear layers are packed"
    steps = [_steps(result) for result in side.slices]
    codes = [result.bounds.codes for result in side.slices]
    own = [values for values in steps if values is not None]
    whole = [values for values in codes if values is not None]
    if len(own) < len(steps) or len(whole) < len(codes) or side.compressed is not None:
        return f"the values of {side.format} are not known to be in groups"
    found = pack_layer(own, np.stack(whole), rule.code_bits, rule.group)
    if found is None:
        return f"the packed layout holds codes of at most {MOST_BITS} bits in groups that divide the inputs"
    return found


def _steps(result: SliceResult) -> Steps | None:
    """The steps of a channel, at the best scale found where that was free; None where there are none."""
    values, scale = result.problem.values, result.bounds.scale
    if isinstance(values, Steps):
        return values
    return None if scale is None else Steps(np.full(values.n, scale), *values.code_ends)


def _write_folder(
    module: nn.Module,
    path: Path,
    save: Callable[[Path], None],
    packed: Mapping[str, PackedLayer],
    ignored: Sequence[str],
) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error}).") from error
    config: Any = getattr(module, "config", None)
    own = json.loads(config.to_json_string()) if hasattr(config, "to_json_string") else {}
    save(path / FILES[0])
    write_json(path / FILES[1], own | {"quantization_config": quantization_config(packed, ignored)})

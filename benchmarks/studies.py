"""The studies: range search against trying candidates, a 25-million-weight model, and its memory.

    python benchmarks/studies.py                 everything (about two minutes)
    python benchmarks/studies.py search          one part: search, model, memory

Both sides of a comparison run in one process on the same tensor; medians of repetitions, and
ratios of medians. The candidates are what the paper's code tries: 100 ranges up to the largest
magnitude (relative to it here; the paper's margin of 0.5 is absolute), each quantizing the whole
tensor.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from safetensors.numpy import save_file

from pvqbounds.problems.grids import symmetric_codes
from pvqbounds.problems.ranges import SortedWeights
from pvqbounds.studies import sources
from pvqbounds.studies.weights import WeightStudy, measure

BITS = list(range(2, 9))
CANDIDATES = 100


def squared_error(w: np.ndarray, scale: float, qmin: int, qmax: int) -> float:
    scale = w.dtype.type(scale)
    difference = w - scale * np.clip(np.rint(w / scale), qmin, qmax)
    return float(difference @ difference)


def try_candidates(w: np.ndarray, qmin: int, qmax: int) -> float:
    """The best of 100 scales, each tried on the whole tensor."""
    largest = float(np.abs(w).max())
    scales = [largest * i / CANDIDATES / -qmin for i in range(1, CANDIDATES + 1)]
    return min(scales, key=lambda scale: squared_error(w, scale, qmin, qmax))


def seconds(work: Callable[[], object], repetitions: int) -> tuple[float, object]:
    times, result = [], None
    for _ in range(repetitions):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    return statistics.median(times), result


def search(repetitions: int = 3) -> None:
    table = Table(title="Range search: ours (sort included) against 100 candidates", title_justify="left")
    for heading in ("weights", "bits", "ours", "candidates", "in float32", "ratio", "MSE, theirs / ours"):
        table.add_column(heading, justify="right")
    rng = np.random.default_rng(0)
    SortedWeights.of(rng.standard_normal(9)).best_scale(-2, 1)  # compiles
    for shape in ((64, 64), (64, 64, 3, 3), (256, 256, 3, 3), (512, 512, 3, 3)):
        w = (0.02 * rng.standard_t(5, int(np.prod(shape)))).astype(np.float32)
        exact = w.astype(np.float64)
        for widths in ([2], [4], [8], BITS):
            codes = [symmetric_codes(bits) for bits in widths]

            def ours(exact: np.ndarray = exact, codes: list[tuple[int, int]] = codes) -> list[float]:
                weights = SortedWeights.of(exact.copy())
                return [weights.best_scale(*ends) * 2.0**weights.exponent for ends in codes]

            def theirs(w: np.ndarray, codes: list[tuple[int, int]] = codes) -> list[float]:
                return [try_candidates(w, *ends) for ends in codes]

            time_ours, found = seconds(ours, 2 * repetitions + 1)
            time_theirs, tried = seconds(lambda theirs=theirs, exact=exact: theirs(exact), repetitions)
            time_single, _ = seconds(lambda theirs=theirs, w=w: theirs(w), repetitions)
            ratios = [
                squared_error(exact, b, *ends) / squared_error(exact, a, *ends)
                for a, b, ends in zip(found, tried, codes, strict=True)
            ]
            assert min(ratios) >= 1.0, ratios
            table.add_row(
                f"{w.size:,}",
                "2-8" if len(widths) > 1 else str(widths[0]),
                f"{1e3 * time_ours:.2f} ms",
                f"{1e3 * time_theirs:.0f} ms",
                f"{1e3 * time_single:.0f} ms",
                f"{min(time_theirs, time_single) / time_ours:.0f}",
                f"{min(ratios):.4f} to {max(ratios):.4f}",
            )
    Console(width=110).print(table)
    whole_model(4)


def whole_model(bits: int) -> None:
    """One pass of either side over all tensors of a ResNet-50."""
    rng = np.random.default_rng(0)
    ends = symmetric_codes(bits)
    time_ours = time_theirs = 0.0
    for shape in resnet50_shapes().values():
        w = (0.02 * rng.standard_t(5, int(np.prod(shape)))).astype(np.float32)
        exact = w.astype(np.float64)
        once, weights = seconds(lambda exact=exact: SortedWeights.of(exact.copy()), 1)
        again, scale = seconds(lambda weights=weights: weights.best_scale(*ends), 1)
        tried, candidate = seconds(lambda w=w: try_candidates(w, *ends), 1)
        time_ours, time_theirs = time_ours + once + again, time_theirs + tried
        best = squared_error(exact, scale * 2.0**weights.exponent, *ends)
        assert best <= squared_error(exact, candidate, *ends)
    print(
        f"search: all tensors of a ResNet-50, {bits} bits, never worse: ours {time_ours:.2f} s, "
        f"100 candidates in float32 {time_theirs:.1f} s, ratio {time_theirs / time_ours:.0f}"
    )


def resnet50_shapes() -> dict[str, tuple[int, ...]]:
    """Convolutions and classifier of ResNet-50: 54 tensors, 25.5 million weights."""
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7)}
    inputs = 64
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            shapes[f"{name}.conv1.weight"] = (width, inputs, 1, 1)
            shapes[f"{name}.conv2.weight"] = (width, width, 3, 3)
            shapes[f"{name}.conv3.weight"] = (4 * width, width, 1, 1)
            if block == 0:
                shapes[f"{name}.downsample.0.weight"] = (4 * width, inputs, 1, 1)
            inputs = 4 * width
    return shapes | {"fc.weight": (1000, 2048)}


def write_model(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    rng = np.random.default_rng(0)
    draws = {name: rng.standard_t(rng.choice([3, 5, 30]), shape) for name, shape in shapes.items()}
    save_file({name: (0.02 * w).astype(np.float32) for name, w in draws.items()}, path)


def model() -> None:
    shapes = resnet50_shapes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "resnet50_shaped.safetensors"
        write_model(path, shapes)
        command = [sys.executable, "-m", "pvqbounds", "weights", "--checkpoint", str(path), "--bits", "2-8"]
        run, _ = seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL), 3)
    weights = sum(int(np.prod(shape)) for shape in shapes.values())
    print(f"model: {len(shapes)} tensors, {weights:,} weights, bits 2-8, whole command: {run:.1f} s")


def memory() -> None:
    """Peak of a process of its own, above what it holds once everything is imported and compiled."""
    for shapes in (resnet50_shapes(), {"embedding.weight": (25_000, 1000)}):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            write_model(path, shapes)
            subprocess.run([sys.executable, __file__, "--child", str(path)], check=True)


def child(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.safetensors"
        write_model(small, {"w.weight": (8, 8)})
        measure(WeightStudy(), sources.checkpoint(small), BITS)
    before = memory_bytes("VmRSS")
    source = sources.checkpoint(path)
    measure(WeightStudy(), source, BITS)
    above = memory_bytes("VmHWM") - before
    largest = 8 * max(tensor.size for tensor in source.tensors())
    print(
        f"memory: {path.stat().st_size / 1e6:.0f} MB file, largest tensor {largest / 1e6:.1f} MB in float64: "
        f"peak {above / 1e6:.1f} MB above {before / 1e6:.0f} MB, {above / largest:.2f} times that tensor"
    )


def memory_bytes(field: str) -> int:
    """What Linux says of this process: VmRSS, its memory now, or VmHWM, its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


PARTS = {"search": search, "model": model, "memory": memory}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        child(arguments.child)
    else:
        for part in arguments.parts or PARTS:
            PARTS[part]()

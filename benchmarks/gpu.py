"""The path with split inequalities on a GPU: its time, its share of the card's float64 peak, its bounds.

    python benchmarks/gpu.py                       a CUDA device; ends within five minutes
    python benchmarks/gpu.py --device cpu --small  the same code on PyTorch's CPU tensors, seconds
    python benchmarks/gpu.py --grams GRAMS.npz     real Grams that benchmarks/transformer.py wrote

Channels are quantized to 4 bits. "leaves" are leaves of cases of a direction of next to no power, one slab
for each channel. For a few channels of each part the CPU's path is run, too, on the same stages: "equal" is
the largest relative difference of what the two certificates claim, "first" the same after the first stage:
on the way every step multiplies what the order of sums does, so that the ends differ more. Certificates are
claimed, that is proved, on the CPU. The peak is a table's, or for a card that is not in it a product's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import pvqbounds as pvq
from pvqbounds.clock import Clock
from pvqbounds.problems.least_squares import Problem
from pvqbounds.relaxations.slabs import Box, Slabs
from pvqbounds.solvers.native.directions.near_null import near_null
from pvqbounds.solvers.native.directions.shifted import Shifts
from pvqbounds.solvers.native.linalg.arrays import Arrays, arrays_on
from pvqbounds.solvers.native.quantization.split_batch import relax_batch
from pvqbounds.solvers.native.quantization.split_dual import (
    FIRST_ORDER,
    LARGEST_SEARCH,
    QUICK,
    Stage,
    relax_with_splits,
)

PEAKS = {"H200": 67.0, "H100": 67.0, "A100": 19.5, "V100": 7.8, "RTX 4090": 1.3, "L40": 1.4, "T4": 0.25}
"""TFLOP/s in float64 from the makers' data sheets, tensor cores included (H100: of the SXM module)."""

PARTS = ((384, 384, 384), (1536, 64, 16), (4096, 16, 4))
SMALL = ((48, 4, 4), (64, 3, 2))
"""Inputs, channels and how many are on the device at a time."""

LIMITS = {384: 70.0, 1536: 90.0, 4096: 50.0}
"""Seconds that the paths of a part may take, so that all of it ends in time."""

COMPARED = {384: 3, 1536: 1}
"""Channels that the CPU's path is run for, too."""

FLOPS = 3.0
"""Operations of a step over n³: a factorisation (1/3), an inverse (2/3), and those of the trials."""


def drawn_gram(rng: np.random.Generator, n: int) -> np.ndarray:
    """A Gram whose spectrum falls as a layer's, with one direction of next to no power on all inputs."""
    basis = rng.normal(size=(n, n))
    basis[:, 0] = 1.0 + 0.2 * rng.normal(size=n)
    Q = np.linalg.qr(basis)[0]
    return (Q * np.concatenate([[1e-5], 1.0 / np.arange(1.0, n) ** 0.7])) @ Q.T


def problems_of(gram: np.ndarray, weights: np.ndarray) -> list[pvq.IntegerLeastSquares]:
    """Each channel at 4 bits, its scale from its largest weight."""
    shared = pvq.Gram(gram)
    return [
        pvq.IntegerLeastSquares(shared, w, scale=float(np.abs(w).max() / 7.5), qmin=-8, qmax=7)
        for w in weights
    ]


def layer(n: int, count: int, grams: Path | None) -> list[pvq.IntegerLeastSquares]:
    """Channels of n inputs, real ones where the file has a layer of that size."""
    rng = np.random.default_rng(n)
    if grams is not None:
        with np.load(grams) as arrays:
            for name in (key.removesuffix("/gram") for key in arrays.files if key.endswith("/gram")):
                if arrays[f"{name}/gram"].shape[0] == n:
                    return problems_of(arrays[f"{name}/gram"], arrays[f"{name}/weight"][:count])
    return problems_of(drawn_gram(rng, n), rng.standard_t(5, size=(count, n)))


def leaves_of(problems: Sequence[pvq.IntegerLeastSquares]) -> list[pvq.IntegerLeastSquares]:
    """A leaf of the cases of each channel: the slab around its rounded weights; none without a direction."""
    near = near_null(problems[0].shared)
    if near is None:
        return []
    found = []
    for problem in problems:
        t = near.direction @ (problem.start().weight - problem.weight)
        half = np.full(len(t), problem.step.max())
        slabs = Slabs(near.direction, Box(t - half, t + half), np.full(len(t), 2.0 * near.next), 0.0 * t)
        found.append(Shifts(problem, near).within(slabs).problem)
    return found


def measured_peak(arrays: Arrays, n: int) -> float:
    """TFLOP/s of a product of float64 matrices."""
    a = arrays.array(np.random.default_rng(0).normal(size=(n, n)))
    best = np.inf
    for _ in range(4):
        start = time.perf_counter()
        float((a @ a)[0, 0])  # a number that is read has been computed
        best = min(best, time.perf_counter() - start)
    return 2.0 * n**3 / best / 1e12


def peak_of(arrays: Arrays, device: str, small: bool) -> tuple[float, str]:
    """TFLOP/s of the device, and where they are from."""
    if device.startswith("cuda"):
        name = arrays.xp.cuda.get_device_name(device)
        known = [peak for card, peak in PEAKS.items() if card in name]
        if known:
            return known[0], f"{name}, data sheet"
        return measured_peak(arrays, 8192), f"{name}, a product"
    return measured_peak(arrays, 512 if small else 2048), "the CPU, a product"


def run(
    called: str, problems: Sequence[pvq.IntegerLeastSquares], at_once: int, peak: float, arrays: Arrays
) -> None:
    """Bound a part, and print its line."""
    n, start = problems[0].n, time.perf_counter()
    clock = Clock(LIMITS.get(n, 60.0))
    found = [
        known
        for first in range(0, len(problems), at_once)
        for known in relax_batch(problems[first : first + at_once], clock, QUICK, arrays)
    ]
    seconds = time.perf_counter() - start
    stages = QUICK if n <= LARGEST_SEARCH else FIRST_ORDER
    steps = sum(stage.rounds * stage.steps for stage in stages)
    share = FLOPS * n**3 * steps * len(problems) / seconds / 1e12 / peak
    solved = sum(known is not None and "stopped" not in known.status for known in found)
    print(
        f"{called:14s} n {n:5d}  channels {len(problems):4d}  {seconds:7.2f} s  peak {100.0 * share:6.2f} %  "
        f"to their end {solved:4d}  {compared(problems, found, arrays)}",
        flush=True,
    )


def compared(problems: Sequence[pvq.IntegerLeastSquares], found: Sequence, arrays: Arrays) -> str:
    """How far what is claimed lies from the CPU's, for some channels."""
    count = min(COMPARED.get(problems[0].n, 0 if problems[0].n > LARGEST_SEARCH else 3), len(problems))
    if count == 0:
        proved = found[0].certificate.claim(problems[0])[1] if found[0] is not None else 0.0
        return f"one proved: {proved / problems[0].signal.upper:.3e} of the signal"
    some, whole, first = problems[:count], QUICK, QUICK[:1]
    ends = difference(some, [alone(p, whole) for p in some], found[:count])
    early = difference(some, [alone(p, first) for p in some], relax_batch(some, Clock(60.0), first, arrays))
    return f"equal to {ends:.1e}, first {early:.1e}"


def alone(problem: pvq.IntegerLeastSquares, stages: Sequence[Stage]):
    """The CPU's path."""
    return relax_with_splits(problem, Clock(60.0), stages)


def difference(problems: Sequence[Problem], ours: Sequence, theirs: Sequence) -> float:
    """The largest relative difference of what certificates claim."""
    claims = [
        [known.certificate.claim(problem)[1] for problem, known in zip(problems, own, strict=True)]
        for own in (ours, theirs)
    ]
    return float(np.abs(np.divide(*claims) - 1.0).max())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="a few small channels")
    parser.add_argument("--grams", type=Path, help="a file that benchmarks/transformer.py grams wrote")
    asked = parser.parse_args()
    begun, arrays = time.perf_counter(), arrays_on("torch" if asked.device == "cpu" else asked.device)
    peak, source = peak_of(arrays, asked.device, asked.small)
    print(f"peak {peak:.3g} TFLOP/s in float64 ({source})", flush=True)
    warm = problems_of(
        drawn_gram(np.random.default_rng(0), 16), np.random.default_rng(1).normal(size=(2, 16))
    )
    relax_batch(warm, Clock(60.0), QUICK, arrays)
    alone(warm[0], QUICK)
    for n, count, at_once in SMALL if asked.small else PARTS:
        problems = layer(n, count, asked.grams)
        run("channels", problems, at_once, peak, arrays)
        leaves = leaves_of(problems) if n < 1000 else []
        if leaves:
            run("leaves", leaves, at_once, peak, arrays)
    print(f"{time.perf_counter() - begun:.1f} s in all")


if __name__ == "__main__":
    main()

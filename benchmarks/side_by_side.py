"""Formats side by side on the layers of a real transformer: widths of intervals, and which pairs are decided.

    python benchmarks/side_by_side.py formats GRAMS.npz         intervals of some channels of each layer
    python benchmarks/side_by_side.py curves GRAMS.npz          every budget of 36 inputs, and what it takes
    python benchmarks/side_by_side.py budget GRAMS.npz          one budget over a small layer, exactly

GRAMS.npz is what ``benchmarks/transformer.py grams`` writes. Channels are the first, and every so many after
it; the interval of a layer is that of their sum. `curves` and `budget` take the first 36 inputs of each
layer, as the paper's chunks have them. Seconds are those of the processor, on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import pvqbounds as pvq
from pvqbounds.results.layer import LayerReport
from pvqbounds.solving.layer_budget import solve_layer_budget

FORMATS = ("nvfp4", "mxfp4", "nf4", "int4:g128", "2:4", "2:4+int4")
LAYERS = [f"layer.{block}." for block in (0, 1)]
SMALL = 36
DENSITIES = (0.1, 0.25, 0.5, 0.75)


def layers_of(path: Path, kinds: list[str], largest: int) -> Iterator[tuple[str, Any, Any]]:
    """Name, Gram and weights of the layers that are asked for."""
    with np.load(path) as arrays:
        names = [name.removesuffix("/gram") for name in arrays.files if name.endswith("/gram")]
        for name in (n for n in names if any(kind in n for kind in kinds)):
            gram = arrays[f"{name}/gram"]
            if len(gram) <= largest:
                yield name, gram, arrays[f"{name}/weight"]


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and its seconds of the processor."""
    start = time.process_time()
    return work(), time.process_time() - start


def side_by_side(name: str, gram: Any, weights: Any, formats: list[str], channels: int) -> LayerReport:
    """Bound the channels in every format, print a line for each, and return the report of all."""
    linear = nn.Linear(len(gram), len(weights), bias=False, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weights))
    chosen = [c * (len(weights) // channels) for c in range(channels)]
    shared, reports = pvq.Gram(gram), []
    for form in formats:
        report, seconds = timed(
            lambda form=form: pvq.nn.layer_bounds(
                linear, "", grams=shared, formats=[form], out_channels=chosen, methods=[]
            )
        )
        reports.append(report)
        side = report.sides[0]
        lower, upper = side.sqnr_interval
        print(
            f"{name:42s} {form:10s} {side.bits_per_weight:5.2f} bits  {lower:6.2f} .. {upper:6.2f} dB, width "
            f"{upper - lower:5.2f}, {seconds / channels:6.1f} s a channel",
            flush=True,
        )
    return replace(reports[0], sides=tuple(report.sides[0] for report in reports))


def formats_of(options: argparse.Namespace) -> None:
    """Widths of all intervals, and the share of the pairs that are decided."""
    widths: dict[str, list[float]] = {form: [] for form in options.formats}
    decided = pairs = dominated = held = 0
    for name, gram, weights in layers_of(options.grams, options.layers, options.largest):
        report = side_by_side(name, gram, weights, options.formats, options.channels)
        for side in report.sides:
            lower, upper = side.sqnr_interval
            widths[side.format].append(upper - lower)
        decided += len(report.verdict)
        dominated += len(report.dominates)
        held += len(set(map(frozenset, report.never_worse)))
        pairs += len(report.sides) * (len(report.sides) - 1) // 2
    for form, found in widths.items():
        print(f"{form:10s} width: median {statistics.median(found):.2f}, most {max(found):.2f} dB")
    print(
        f"{decided} of {pairs} pairs decided, in {dominated} the better one is no larger; in {held} more one "
        "allows every weight of the other"
    )


def small(options: argparse.Namespace) -> Iterator[tuple[str, list[pvq.SparseLeastSquares]]]:
    """Pruning problems of the first inputs of some channels of each layer."""
    pvq.budget_curve(pvq.SparseLeastSquares(np.eye(8), np.ones(8), nnz=0))  # compiles
    for name, gram, weights in layers_of(options.grams, options.layers, options.largest):
        shared = pvq.Gram(gram[:SMALL, :SMALL].copy())
        rows = weights[:: len(weights) // options.channels][: options.channels, :SMALL]
        yield name, [pvq.SparseLeastSquares(shared, row, nnz=0) for row in rows]


def curves(options: argparse.Namespace) -> None:
    """Seconds of every budget of a channel at once."""
    every = []
    for name, problems in small(options):
        found = [timed(lambda p=problem: pvq.budget_curve(p)) for problem in problems]
        optimal = sum(bounds.status == "optimal" for curve, _ in found for bounds in curve)
        seconds = [spent for _, spent in found]
        every += seconds
        print(
            f"{name:42s} {optimal} of {len(found) * (SMALL + 1)} budgets optimal, median "
            f"{statistics.median(seconds):.3f}, most {max(seconds):.3f} s a curve",
            flush=True,
        )
    share = sum(seconds <= 0.2 for seconds in every) / len(every)
    print(f"median {statistics.median(every):.3f}, most {max(every):.3f} s; {share:.0%} within 0.2 s")


def budget(options: argparse.Namespace) -> None:
    """Both ends of one budget over the channels, for some densities."""
    for name, problems in small(options):
        weights = SMALL * len(problems)
        for density in DENSITIES:
            nnz = int(density * weights)
            (_, bounds, lower), seconds = timed(lambda p=problems, k=nnz: solve_layer_budget(p, k))
            upper = sum(b.error_upper for b in bounds)
            apart = sum(pvq.solve(p.with_nnz(nnz // len(problems))).error_upper for p in problems)
            gap, gain = (10.0 * np.log10(ratio) for ratio in (upper / lower, apart / upper))
            print(
                f"{name:42s} {density:4.0%}: width {gap:.1e} dB, {gain:5.2f} dB above a budget for each, "
                f"{seconds:.2f} s",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["formats", "curves", "budget"])
    parser.add_argument("grams", type=Path)
    parser.add_argument("--layers", nargs="+", default=LAYERS)
    parser.add_argument("--largest", type=int, default=384, help="layers of more inputs are left out")
    parser.add_argument("--formats", nargs="+", default=list(FORMATS))
    parser.add_argument("--channels", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    {"formats": formats_of, "curves": curves, "budget": budget}[options.command](options)


if __name__ == "__main__":
    main()

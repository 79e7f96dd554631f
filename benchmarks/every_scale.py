"""Every scale: how wide intervals are, what they take, and what scales found on the output error gain.

    python benchmarks/every_scale.py intervals GRAMS.npz    int4:any beside the scale of least weight error
    python benchmarks/every_scale.py gains GRAMS.npz        the best scale found over that one, no bounds
    python benchmarks/every_scale.py groups GRAMS.npz       searched scales of groups over the formats' own

GRAMS.npz is what ``benchmarks/transformer.py grams`` writes, or any file of arrays ``NAME/gram`` and
``NAME/weight``. Channels are evenly spaced. Seconds are those of the processor, on one thread.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import pvqbounds as pvq
from pvqbounds.clock import Clock
from pvqbounds.methods import get
from pvqbounds.problems import LeastSquares
from pvqbounds.solving.block_scales import searched_blocks
from pvqbounds.solving.scale_search import codes_at, searched_scales

Array = NDArray[np.float64]

FORMATS = ("int4:g128", "int4:g128:mse", "int3:g128:asym", "nvfp4", "mxfp4")


def layers_of(path: Path, largest: int) -> Iterator[tuple[str, pvq.Gram, Array]]:
    """Name, Gram and weights."""
    with np.load(path) as arrays:
        for name in (n.removesuffix("/gram") for n in arrays.files if n.endswith("/gram")):
            if len(arrays[f"{name}/gram"]) <= largest:
                yield name, pvq.Gram(arrays[f"{name}/gram"]), arrays[f"{name}/weight"]


def channels_of(weights: Array, count: int) -> list[int]:
    """Evenly spaced ones."""
    return np.linspace(0, len(weights) - 1, min(count, len(weights))).astype(int).tolist()


def decibels(ratio: float) -> float:
    """10 log10."""
    return 10.0 * math.log10(ratio)


def intervals(
    name: str,
    gram: pvq.Gram,
    weights: Array,
    bits: int,
    count: int,
    limit: float,
    pattern: tuple[int, int] | None,
) -> None:
    """Of each channel: at the scale of least weight error, at the best one found, and at every scale."""
    half = 2 ** (bits - 1)
    for channel in channels_of(weights, count):
        problem = pvq.AnyScaleLeastSquares(gram, weights[channel], -half, half - 1, pattern=pattern)
        fixed = pvq.solve(problem.settled, time_limit=limit)
        start = time.process_time()
        free = pvq.solve(problem, time_limit=limit)
        spent = time.process_time() - start
        assert free.scale is not None
        start = time.process_time()
        there = pvq.solve(problem.at(free.scale), time_limit=limit)
        alone = time.process_time() - start
        texts = (f"{b.sqnr_lower:.2f} .. {b.sqnr_upper:.2f}" for b in (fixed, there, free))
        ratio = free.scale / float(problem.settled.step[0])
        print(
            f"{name} {bits} bits, channel {channel}: {'; '.join(texts)} dB, "
            f"{alone:.2f} and {spent:.1f} s, scale {ratio:.3f}",
            flush=True,
        )


def gains(name: str, gram: pvq.Gram, weights: Array, bits: int, count: int) -> None:
    """Median gain over the best codes at the scale of least weight error."""
    half, found = 2 ** (bits - 1), []
    for channel in channels_of(weights, count):
        problem = pvq.AnyScaleLeastSquares(gram, weights[channel], -half, half - 1).normalised
        codes = searched_scales(problem, Clock(math.inf))
        given = problem.settled.error(codes_at(problem.settled)).upper
        scale = problem.scale_of(codes) / float(problem.settled.step[0])
        found.append((decibels(given / problem.error(codes).upper), scale))
    gain, scale = np.median(found, axis=0)
    print(f"{name} {bits} bits: {gain:.2f} dB at {scale:.3f} of the scale of least weight error (medians)")


def groups(name: str, gram: pvq.Gram, weights: Array, count: int) -> None:
    """Median gains of searched scales of groups, for the best codes and for GPTQ."""
    for title in FORMATS:
        form = pvq.formats.parse(title)
        assert form.values is not None
        assert form.values.group is not None
        found = []
        problems, others = form.problems(gram, weights), form.alternatives(weights)
        for channel in channels_of(weights, count):
            problem = problems[channel]
            assert isinstance(problem, LeastSquares)
            own = problem.error(codes_at(problem)).upper
            searched, codes = searched_blocks(
                problem, others[channel], form.values.group, form.values.pose, Clock(math.inf)
            )
            gptq = [p.error(get("gptq").propose([p])[0]).upper for p in (problem, searched)]
            found.append((decibels(own / searched.error(codes).upper), decibels(gptq[0] / gptq[1])))
        best, simple = np.median(found, axis=0)
        print(f"{name} {title}: {best:.2f} dB, GPTQ {simple:.2f} dB (medians)")


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("intervals", "gains", "groups"))
    parser.add_argument("grams", type=Path)
    parser.add_argument("--bits", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--channels", type=int, default=6)
    parser.add_argument("--largest", type=int, default=384)
    parser.add_argument("--time-limit", type=float, default=300.0)
    parser.add_argument("--pattern", type=int, nargs=2, metavar=("N", "M"), help="of intervals: under N:M")
    given = parser.parse_args()
    for layer in layers_of(given.grams, given.largest):
        if given.what == "groups":
            groups(*layer, given.channels)
            continue
        for bits in given.bits:
            if given.what == "gains":
                gains(*layer, bits, given.channels)
            else:
                pattern = tuple(given.pattern) if given.pattern else None
                intervals(*layer, bits, given.channels, given.time_limit, pattern)


if __name__ == "__main__":
    main()

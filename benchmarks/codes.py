"""Cost of the codes behind the upper bounds: CPU seconds of one core, medians.

    python benchmarks/codes.py [--layer block5.0] [--bits 4] [--channels 8]

For channels of the demo network, with multipliers of their SDP; then for one channel of random
features at 1152 and 4608 inputs, with multipliers of zero. Gains are over round to nearest (dB).
"""

from __future__ import annotations

import argparse
import math
import time
from statistics import median

import numpy as np

import pvqbounds as pvq
from pvqbounds import nn
from pvqbounds.methods.nearest_plane import NearestPlane
from pvqbounds.problems.grids import mse_scale, symmetric_codes
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.solvers.native.quantization.box_hull_dual import solve_box_hull
from pvqbounds.solvers.native.quantization.integer_codes import best_known_codes
from pvqbounds.solvers.relaxation import Relaxed, relax


def measure(problem: pvq.IntegerLeastSquares, relaxed: Relaxed) -> tuple[float, float, float]:
    """CPU seconds, and the gains of nearest plane and of the best codes over round to nearest (dB)."""
    started = time.process_time()
    codes = best_known_codes(problem, relaxed, 0)
    seconds = time.process_time() - started
    start, plane, best = (
        problem.error(z).upper
        for z in (problem.codes_of_nearest(), NearestPlane().propose([problem])[0], codes)
    )
    return seconds, 10.0 * math.log10(start / plane), 10.0 * math.log10(start / best)


def synthetic(n: int) -> pvq.IntegerLeastSquares:
    """One channel over features of ReLU kind, correlated."""
    rng = np.random.default_rng(0)
    features = np.maximum(rng.standard_normal((2 * n, 64)) @ rng.standard_normal((64, n)) / 8.0, 0.0)
    features += 0.3 * rng.standard_normal(features.shape)
    weight = rng.standard_normal(n)
    return pvq.IntegerLeastSquares(features.T @ features / (2 * n), weight, mse_scale(weight, -8, 7), -8, 7)


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--layer", default="block5.0")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--channels", type=int, default=8)
    options = parser.parse_args()

    model = nn.load_model("digits")
    layer = nn.find_layer(model.module, options.layer)
    gram = nn.gram_of_layer(model.module, layer, model.data).grams[0]
    grid = symmetric_codes(options.bits)
    scale = mse_scale(layer.weight, *grid)
    measured = []
    for weight in layer.weight[: options.channels]:
        problem = pvq.IntegerLeastSquares(gram, weight, scale, *grid)
        measured.append(measure(problem, relax(problem, "box-hull", solve_box_hull)))
    report(layer.inputs, measured[1:] or measured)  # the first one loads what is compiled
    for n in (1152, 4608):
        problem = synthetic(n)
        zero = np.zeros(n)
        relaxed = Relaxed(DualCertificate(zero, zero), problem.centre, np.eye(n), 0.0, "solved")
        report(n, [measure(problem, relaxed)])


def report(n: int, measured: list[tuple[float, float, float]]) -> None:
    """Print the medians."""
    seconds, plane, best = (median(part) for part in zip(*measured, strict=True))
    print(
        f"n = {n:4}: {seconds:.3f} s a channel; nearest plane {plane:.2f} dB, best codes {best:.2f} dB",
        flush=True,
    )


if __name__ == "__main__":
    main()

"""Width of the quantization interval: the box-hull SDP alone against the hybrid bound.

    python benchmarks/hybrid.py [--layers block2.0,block5.0] [--bits 2,3,4] [--channels 4] [--seconds 10]

Layers of the demo network, protocol "full", the first output channels, one core. Three solves a
channel in one run: the SDP alone, the hybrid bound with its default share of the time limit of a
minute, and the hybrid bound with `--seconds` to itself. The columns are means over the channels of
the widths in dB, each against the better of the codes that the three found, and of seconds.
"""

from __future__ import annotations

import argparse
from statistics import fmean

import pvqbounds as pvq
from pvqbounds import nn
from pvqbounds.problems.grids import mse_scale, symmetric_codes
from pvqbounds.results import Bounds


def widths(bounds: list[Bounds]) -> list[float]:
    """Upper end of each interval above the best lower end (dB)."""
    best = max(b.sqnr_lower for b in bounds)
    return [b.sqnr_upper - best for b in bounds]


def main() -> None:
    """Print one row for each layer and bit width."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--layers", default="block2.0,block3.0,block4.0,block5.0")
    parser.add_argument("--bits", default="2,3,4")
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()

    model = nn.load_model("digits")
    long = f"{options.seconds:g} s"
    print(f"{'layer':10} {'n':>4} {'bits':>4} | width, dB: {'SDP':>5} {'default':>7} {long:>6} | seconds")
    for name in options.layers.split(","):
        layer = nn.find_layer(model.module, name)
        gram = nn.gram_of_layer(model.module, layer, model.data).grams[0]
        for bits in map(int, options.bits.split(",")):
            qmin, qmax = symmetric_codes(bits)
            scale = mse_scale(layer.weight, qmin, qmax)
            rows = []
            for weight in layer.weight[: options.channels]:
                problem = pvq.IntegerLeastSquares(gram, weight, scale, qmin, qmax)
                solved = [
                    pvq.solve(problem, method="relax", relaxation=relaxation, time_limit=limit)
                    for relaxation, limit in (("box-hull", 60.0), (None, 60.0), ("hybrid", options.seconds))
                ]
                rows.append((widths(solved), [b.seconds for b in solved]))
            width = [fmean(row[0][i] for row in rows) for i in range(3)]
            seconds = [fmean(row[1][i] for row in rows) for i in range(3)]
            print(
                f"{name:10} {layer.inputs:4} {bits:4} |            {width[0]:5.2f} {width[1]:7.2f} "
                f"{width[2]:6.2f} | {seconds[0]:.2f} {seconds[1]:.2f} {seconds[2]:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""What accumulating a Gram while a model runs costs, beside the plain ``X.T @ X`` of the same rows.

The plain product is that of all rows at once, in float64. "Accumulated" takes in the same inputs in batches,
in float32, as a model gives them: it unfolds, converts, checks and sums. "In all" runs the model, and checks
that the sum is a Gram. The three take turns; times are medians, seconds of the processor on one thread.

    python -m benchmarks.grams [--only Conv2d] [--repeats 21]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from pvqbounds.nn import Layer, find_layer, gram_of_layer
from pvqbounds.nn.grams import Listener, Seen

CASES: tuple[tuple[str, nn.Module, tuple[int, ...]], ...] = (
    ("Linear 384, 64 x 256 tokens", nn.Linear(384, 8), (64, 256, 384)),
    ("Linear 1536, 16 x 256 tokens", nn.Linear(1536, 8), (16, 256, 1536)),
    ("Linear 4096, 32 x 256 tokens", nn.Linear(4096, 8), (32, 256, 4096)),
    ("Conv2d 64 1x1, 256 of 14x14", nn.Conv2d(64, 8, 1), (256, 64, 14, 14)),
    ("Conv2d 32 3x3, 32 of 28x28", nn.Conv2d(32, 8, 3, padding=1), (32, 32, 28, 28)),
    ("Conv2d 64 3x3, 32 of 28x28", nn.Conv2d(64, 8, 3, padding=1), (32, 64, 28, 28)),
)


def medians(runs: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Seconds of each, where they take turns, so that what else the machine does hits all of them."""
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats):
        for run, own in zip(runs, seconds, strict=True):
            start = time.process_time()
            run()
            own.append(time.process_time() - start)
    return [statistics.median(own) for own in seconds]


def accumulated(layer: Layer, x: torch.Tensor) -> None:
    listener = Listener(layer, Seen())
    for batch in x.split(8):
        listener.take(batch)
    listener.total.sums()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="cases that are called so")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("| layer | plain X.T @ X | accumulated | ratio | in all |\n|---|---|---|---|---|")
    for name, module, shape in CASES:
        if args.only not in name:
            continue
        x = torch.randn(shape)
        model = nn.Sequential(module)
        layer = find_layer(model, "0")
        kind = layer.kind
        rows = kind.rows(kind.batch_first(x))[0].double().numpy()
        runs = (
            lambda rows=rows: rows.T @ rows,
            lambda layer=layer, x=x: accumulated(layer, x),
            lambda model=model, x=x: gram_of_layer(model, "0", x),
        )
        plain, own, whole = medians(runs, args.repeats)
        times = [f"{seconds * 1e3:.1f} ms" for seconds in (plain, own, whole)]
        print(f"| {name} | {times[0]} | {times[1]} | {own / plain:.2f} | {times[2]} |")


if __name__ == "__main__":
    main()

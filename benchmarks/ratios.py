"""Has anything become slower, or a bound worse, than benchmarks/ratios.json says?

    python benchmarks/ratios.py                 compare (make bench-check), under two minutes
    python benchmarks/ratios.py --update        write what is measured now in place of it

Each case is measured in CPU seconds of one thread, over those of a reference that does not change: NumPy's
Cholesky factorisation and product of a fixed matrix, taken in the same round; of some, the least.
So the file means something on other machines too, but not quite the same: where a machine is first used, it
is updated before a change and compared after. A bound may only rise.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy is imported

import numpy as np  # noqa: E402
from against import cases  # noqa: E402

FILE = Path(__file__).with_name("ratios.json")
CASES = (
    "exact 36, 2 bits",
    "exact 36, 4 bits",
    "exact 64, 4 bits",
    "exact pruning 36, 1/4",
    "exact pruning 36, 1/2",
    "box-hull 36, 4 bits",
    "box-hull 144, 4 bits",
    "splits 144, 4 bits",
    "perspective 144, 1/4",
    "perspective 288, 2:4",
    "blocks 288, 2:4",
    "verify searches 36",
    "verify perspective 288",
    "ranges of a million weights",
)
"""Of benchmarks/against.py."""

SLOWER = 1.4
"""How many times its ratio a case may take."""

WORSE = 1e-4
"""By how much of itself a bound may fall: what another order of sums does lies far below."""

ROUNDS = 3
LEAST_SECONDS = 0.25
"""CPU seconds of a measurement; what takes less is repeated."""


def reference() -> Callable[[], object]:
    """A Cholesky factorisation and a product of a fixed matrix of 400 inputs."""
    inputs = np.random.default_rng(0).standard_normal((800, 400))
    gram = inputs.T @ inputs / 800
    return lambda: np.linalg.cholesky(gram) @ gram


def cpu_seconds(run: Callable[[], object]) -> float:
    """CPU seconds of one run, the mean of as many as take long enough."""
    started, runs = time.process_time(), 0
    while True:
        run()
        runs += 1
        spent = time.process_time() - started
        if spent >= LEAST_SECONDS:
            return spent / runs


def measured(names: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Ratio and bound of each case."""
    known, unit = cases(), reference()
    found = {}
    for name in names:
        _, bound = known[name]()  # compiles
        rounds = [(cpu_seconds(unit), cpu_seconds(known[name])) for _ in range(ROUNDS)]
        one, case = (min(column) for column in zip(*rounds, strict=True))
        found[name] = {"ratio": float(f"{case / one:.4g}"), "bound": bound}
        print(f"{name:32} {case:9.5f} s  {case / one:9.2f} times the reference", flush=True)
    return found


def fault(now: dict[str, float], before: dict[str, float]) -> str:
    """What is wrong with a case; empty where nothing is."""
    if now["ratio"] > SLOWER * before["ratio"]:
        return f"takes {now['ratio'] / before['ratio']:.2f} times as long as it did"
    if now["bound"] < (1.0 - WORSE) * before["bound"]:
        return f"has the bound {now['bound']:.6g}, which was {before['bound']:.6g}"
    return ""


def main() -> int:
    """Measure, then compare or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the file")
    options = parser.parse_args()
    started = time.perf_counter()
    now = measured(CASES)
    if options.update:
        FILE.write_text(json.dumps(now, indent=1) + "\n")
        print(f"{FILE} is written.")
        return 0
    before = json.loads(FILE.read_text())
    faults = {name: fault(now[name], before[name]) for name in CASES if name in before}
    for name, text in faults.items():
        if text:
            print(f"{name} {text}.", file=sys.stderr)
    for name in sorted(set(CASES) ^ before.keys()):
        print(f"{name} stands in one place alone; update the file.", file=sys.stderr)
    whole = not any(faults.values()) and set(CASES) == before.keys()
    median = np.median([now[name]["ratio"] / before[name]["ratio"] for name in faults])
    seconds = time.perf_counter() - started
    print(f"{len(faults)} cases in {seconds:.0f} s, at the median {median:.2f} times what they were")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())

"""This checkout against another version of the package: the same problems, taking turns in one run.

    python benchmarks/against.py OTHER                    everything (half an hour on one pair of cores)
    python benchmarks/against.py OTHER --only exact splits --rounds 9 --pairs 2

OTHER is a checkout of another version that you made (`git worktree add ../other v0.1.0`). Two processes,
one of each version, solve the same case in turn; printed are medians of the seconds, the ratio of the
medians, and how far the bounds are apart, in dB. What is compiled is compiled before. With `--pairs` so
many cases run at a time, each on its own two processes that wait for one another.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
METHODS = ("rtn", "nearest-plane", "randomized", "magnitude", "magnitude+refit")
DENSITIES = {"1/8": 8, "1/4": 4, "1/2": 2}

Case = Callable[[], "tuple[float, float]"]
"""Seconds, and a bound on the error."""


# ------------------------------------------------------------------ what one version does with a case


@functools.cache
def layer_of(name: str) -> tuple[Any, Any]:
    """A layer of the shipped network, and its Gram's matrix."""
    from pvqbounds import nn

    model = nn.load_model("digits")
    layer = nn.find_layer(model.module, name)
    return layer, nn.gram_of_layer(model.module, layer, model.data).grams[0].matrix


@functools.cache
def gram_of(n: int, kind: str = "relu") -> Any:
    """The Gram of n inputs: the shipped network's, or synthetic where it has no layer so large."""
    import numpy as np

    import pvqbounds as pvq

    names = {36: "block2.0", 64: "block3.0", 72: "block3.0", 144: "block4.0", 288: "block5.0"}
    if n in names:
        return pvq.Gram(layer_of(names[n])[1][:n, :n])
    rng = np.random.default_rng(n)
    mixing = rng.standard_normal((n // 2, n)) / math.sqrt(n // 2)
    sources = rng.standard_normal((2 * n, n // 2)) * np.exp(rng.standard_normal(n // 2))
    inputs = np.maximum(sources @ mixing + 0.2 * rng.standard_normal((2 * n, n)), 0.0)
    if kind == "transformer":
        inputs *= np.exp(rng.standard_normal(n))
        inputs[:, rng.choice(n, n // 100 + 1, replace=False)] *= 100.0
    return pvq.Gram(inputs.T @ inputs / len(inputs))


def problems_of(n: int, channels: int, kind: str = "relu", **allowed: Any) -> list[Any]:
    """Channels of n inputs: `bits` for quantization, else what pruning may keep."""
    import numpy as np

    import pvqbounds as pvq
    from pvqbounds.problems.grids import mse_scale, symmetric_codes

    names = {36: "block2.0", 64: "block3.0", 72: "block3.0", 144: "block4.0", 288: "block5.0"}
    weights = layer_of(names[n])[0].weight[:channels, :n] if n in names else None
    if weights is None:
        weights = np.random.default_rng(n + 1).standard_normal((channels, n))
    if "bits" in allowed:
        codes = symmetric_codes(allowed["bits"])
        scale = mse_scale(weights, *codes)
        return [pvq.IntegerLeastSquares(gram_of(n, kind), w, scale, *codes) for w in weights]
    return [pvq.SparseLeastSquares(gram_of(n, kind), w, **allowed) for w in weights]


def solving(n: int, channels: int, options: dict[str, Any], kind: str = "relu", **allowed: Any) -> Case:
    """Solve channels one by one."""

    def run() -> tuple[float, float]:
        import pvqbounds as pvq

        problems = problems_of(n, channels, kind, **allowed)
        started = time.perf_counter()
        found = [pvq.solve(problem, **options) for problem in problems]
        return time.perf_counter() - started, sum(bounds.error_lower for bounds in found)

    return run


def verifying(n: int, channels: int, options: dict[str, Any], **allowed: Any) -> Case:
    """Prove results again."""

    @functools.cache
    def solved() -> list[tuple[Any, Any]]:
        import pvqbounds as pvq

        return [(p, pvq.solve(p, **options)) for p in problems_of(n, channels, **allowed)]

    def run() -> tuple[float, float]:
        import pvqbounds as pvq

        pairs = solved()
        started = time.perf_counter()
        assert all(pvq.verify(problem, bounds) for problem, bounds in pairs)
        return time.perf_counter() - started, sum(bounds.error_lower for _, bounds in pairs)

    return run


def layer(name: str, **options: Any) -> Case:
    """A whole layer through :func:`pvqbounds.nn.layer_bounds`, with the methods that 0.1.0 lists."""

    def run() -> tuple[float, float]:
        from pvqbounds import nn

        model = nn.load_model("digits")
        known = inspect.signature(nn.layer_bounds).parameters
        asked = options | ({"methods": METHODS} if "methods" in known else {})
        started = time.perf_counter()
        report = nn.layer_bounds(model, name, **asked)
        seconds = time.perf_counter() - started
        return seconds, report.quantization.error_lower + report.pruning.error_lower

    return run


def training(kind: str) -> Case:
    """Steps of fine-tuning the shipped network."""

    def run() -> tuple[float, float]:
        import torch
        from train import Steps, recipes

        from pvqbounds.nn.models import load_module
        from pvqbounds.train import digits_data
        from pvqbounds.train.engine import Engine

        torch.set_num_threads(1)
        batch = digits_data().train.__getitems__(range(64))
        steps = Steps(load_module("digits"), recipes("digits")[kind], batch, Engine("cpu"))
        steps.run(5)
        return steps.run(40), 1.0

    return run


def ranges() -> Case:
    """Scales of a tensor of a million weights at seven sizes (the studies' range search)."""

    def run() -> tuple[float, float]:
        import numpy as np

        from pvqbounds.problems.grids import symmetric_codes
        from pvqbounds.problems.ranges import SortedWeights

        w = np.random.default_rng(0).standard_normal(10**6)
        started = time.perf_counter()
        sorted_weights = SortedWeights.of(w)
        scales = [sorted_weights.best_scale(*symmetric_codes(bits)) for bits in range(2, 9)]
        return time.perf_counter() - started, float(sum(scales))

    return run


def cases() -> dict[str, Case]:
    """Every case by its name; those of docs/benchmarks-diary.md."""
    exact = {"method": "exact", "time_limit": 120.0}
    found: dict[str, Case] = {}
    for n, channels, sizes in ((36, 8, (2, 3, 4, 8)), (64, 3, (2, 4)), (72, 2, (2, 4))):
        for bits in sizes:
            found[f"exact {n}, {bits} bits"] = solving(n, channels, exact, bits=bits)
    for name, share in DENSITIES.items():
        found[f"exact pruning 36, {name}"] = solving(36, 8, exact, nnz=36 // share)
    for n, channels in ((144, 3), (288, 2)):
        for bits in (2, 4):
            found[f"auto {n}, {bits} bits"] = solving(n, channels, {}, bits=bits)
        for relaxation in ("box-hull", "park-boyd", "splits"):
            options = {"method": "relax", "relaxation": relaxation}
            found[f"{relaxation} {n}, 4 bits"] = solving(n, channels, options, bits=4)
        brief = {"method": "relax", "relaxation": "splits", "tolerance": 0.4}
        found[f"brief path {n}, 4 bits"] = solving(n, channels, brief, bits=4)
        found[f"perspective {n}, 1/4"] = solving(n, channels, {"method": "relax"}, nnz=n // 4)
        perspective = {"method": "relax", "relaxation": "perspective"}
        found[f"perspective {n}, 2:4"] = solving(n, channels, perspective, pattern=(2, 4))
        found[f"blocks {n}, 2:4"] = solving(n, channels, {"method": "relax"}, pattern=(2, 4))
    relax = {"method": "relax", "relaxation": "box-hull"}
    found["box-hull 36, 4 bits"] = solving(36, 8, relax, bits=4)
    found["box-hull 576, synthetic"] = solving(576, 1, relax, bits=4)
    found["box-hull 384, transformer"] = solving(384, 1, relax, "transformer", bits=4)
    found["perspective 576, synthetic"] = solving(576, 1, {"method": "relax"}, nnz=144)
    found["verify searches 36"] = verifying(36, 8, exact, bits=4)
    found["verify auto 288"] = verifying(288, 2, {}, bits=4)
    found["verify perspective 288"] = verifying(288, 2, {"method": "relax"}, nnz=72)
    found["layer block3.0, 2 bits"] = layer("block3.0", bits=2, method="relax")
    found["layer block4.0, one budget"] = layer("block4.0", bits=4, method="relax", budget="layer")
    found["layer block4.0, shared"] = layer("block4.0", bits=4, method="relax", relaxation="shared")
    for solver, method, allowed in (
        ("gurobi", "exact", {"bits": 4}),
        ("gurobi", "exact", {"nnz": 9}),
        ("highs", "exact", {"nnz": 4}),
        ("scip", "exact", {"bits": 2}),
        ("scs", "relax", {"bits": 4}),
        ("clarabel", "relax", {"nnz": 9}),
    ):
        options = {"solver": solver, "method": method, "time_limit": 20.0}
        kind = "quantization" if "bits" in allowed else "pruning"
        found[f"{solver} {kind} 36"] = solving(36, 2, options, **allowed)
    for kind in ("dense", "quantized", "pruned"):
        found[f"training, {kind}"] = training(kind)
    found["ranges of a million weights"] = ranges()
    return found


def serve(root: str) -> None:
    """Answer names of cases, one a line, with (seconds, bound), or with a reason why not."""
    sys.path[:0] = [root, str(Path(root) / "benchmarks")]
    known = cases()
    for line in sys.stdin:
        try:
            seconds, bound = known[line.strip()]()
            answer: dict[str, Any] = {"seconds": seconds, "bound": bound}
        except Exception as error:  # a solver that is not installed here, a name that the other lacks
            answer = {"reason": f"{type(error).__name__}: {error}"[:100]}
        print("@" + json.dumps(answer), flush=True)


# ------------------------------------------------------------------ taking turns


class Version:
    """A process of one version."""

    def __init__(self, root: Path) -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        environment = {**os.environ, **threads, "PYTHONPATH": str(root)}
        command = [sys.executable, __file__, "--serve", str(root)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True, cwd=root
        )

    def run(self, name: str) -> dict[str, Any]:
        """What it answers to a case."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(name, file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith("@"):
                answer: dict[str, Any] = json.loads(line[1:])
                return answer
        return {"reason": "its process ended"}

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def compare(name: str, roots: tuple[Path, Path], rounds: int) -> tuple[str, float | None]:
    """A line about one case, and the ratio of the medians, this version over the other."""
    versions = [Version(root) for root in roots]
    try:
        first = [version.run(name) for version in versions]  # compiles
        reasons = [answer["reason"] for answer in first if "reason" in answer]
        if reasons:
            return f"{name:32} not compared: {reasons[0]}", None
        times: tuple[list[float], list[float]] = ([], [])
        for number in range(rounds):
            order = (0, 1) if number % 2 == 0 else (1, 0)
            for i in order:
                times[i].append(versions[i].run(name)["seconds"])
    finally:
        for version in versions:
            version.close()
    mine, theirs = map(statistics.median, times)
    bounds = [answer["bound"] for answer in first]
    apart = abs(10.0 * math.log10(bounds[0] / bounds[1])) if min(bounds) > 0.0 else math.nan
    return f"{name:32} {mine:9.4f} s {theirs:9.4f} s  {mine / theirs:5.2f}  {apart:.1e} dB", mine / theirs


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("other", type=Path)
    parser.add_argument("--only", nargs="+", default=[""], help="cases whose name holds one of these")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pairs", type=int, default=1)
    options = parser.parse_args()
    names = [name for name in cases() if any(part in name for part in options.only)]
    roots = HERE, options.other.resolve()
    print(f"{'':32} {'this':>11} {'other':>11}  ratio  bounds apart")
    with ThreadPoolExecutor(options.pairs) as pool:
        answers = []
        for line, ratio in pool.map(lambda name: compare(name, roots, options.rounds), names):
            print(line, flush=True)
            answers.append(ratio)
    known = [ratio for ratio in answers if ratio is not None]
    if known:
        print(f"median of {len(known)} ratios {statistics.median(known):.3f}, largest {max(known):.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2])
    else:
        main()

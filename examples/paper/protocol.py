"""What the paper's intervals prove on a chunk, beside what is proved now: a table by bit width.

The paper has for quantization Park and Boyd's randomized rounding and their relaxation, which leaves the box
of the codes out; for pruning magnitude pruning with a re-fit and the optimum (sec. 4.3). Its figure has no
numbers. These are measured here, with the relaxation certified and the rounding kept within the box.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pvqbounds.report.frames import write_table
from pvqbounds.results.layer import LayerReport
from pvqbounds.results.pairs import chunks_of, pairs_of

Interval = tuple[float, float]
"""SQNR in dB: reached, and not to be exceeded."""


@dataclass(frozen=True)
class Compared:
    """A chunk at a bit width: quantization and pruning, each as in the paper and as now."""

    bits: int
    then: tuple[Interval, Interval]
    now: tuple[Interval, Interval]
    exact: bool


def compared(then: LayerReport, now: LayerReport) -> Iterator[Compared]:
    """The chunks of a layer that have a signal.

    Parameters
    ----------
    then
        By the relaxation "park-boyd", with the method "randomized": quantization alone.
    now
        Both, with the method "magnitude+refit"; of the same channels and chunks.
    """
    relaxed = {
        side.format: {chunk.slices[0].inputs: chunk for chunk in chunks_of(side)} for side in then.sides
    }
    for pair in pairs_of(now):
        chunk = relaxed[pair.quantization.format][pair.inputs]
        assert [s.channel for s in chunk.slices] == [s.channel for s in pair.quantization.slices]
        if pair.dead:
            continue
        quantized = chunk.method_sqnr("randomized"), chunk.sqnr_interval[1]
        pruned = pair.pruning.method_sqnr("magnitude+refit"), pair.ends[1][1]
        yield Compared(pair.bits, (quantized, pruned), pair.ends, pair.exact)


def winner(ends: tuple[Interval, Interval]) -> str:
    """Which is provably better, by these intervals."""
    (reached, most), (kept, best) = ends
    return "quantization" if reached > best else "pruning" if kept > most else "undecided"


def row_of(bits: int, chunks: Sequence[Compared]) -> dict[str, Any]:
    """One row of the table: medians over the chunks, and for how many each is decided."""
    row: dict[str, Any] = {"bits": bits, "chunks": len(chunks), "exact_now": sum(c.exact for c in chunks)}
    for when in ("then", "now"):
        ends = [getattr(chunk, when) for chunk in chunks]
        for place, side in enumerate(("quantization", "pruning")):
            row |= {f"{when}_{side}_{end}": median(e[place][i] for e in ends) for i, end in enumerate(ENDS)}
            row[f"{when}_{side}_width"] = median(e[place][1] - e[place][0] for e in ends)
        decided = [winner(e) for e in ends]
        row |= {f"{when}_{name}": decided.count(name) for name in ("quantization", "pruning", "undecided")}
    return row


ENDS = ("lower", "upper")


def rows_of(thens: Sequence[LayerReport], nows: Sequence[LayerReport]) -> list[dict[str, Any]]:
    """The rows of all bit widths, over all layers."""
    by_width: dict[int, list[Compared]] = {}
    for then, now in zip(thens, nows, strict=True):
        for chunk in compared(then, now):
            by_width.setdefault(chunk.bits, []).append(chunk)
    return [row_of(bits, chunks) for bits, chunks in sorted(by_width.items())]


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table for readers: intervals in dB with median widths; chunks decided for int / pruned / none."""
    lines = [
        "| bits | chunks | int, the paper's way | int, now | pruned, the paper's way | pruned, now "
        "| decided, the paper's way | decided, now |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["bits"], f"{row['chunks']} ({row['exact_now']} exact)"]
        cells += [_interval(row, when, side) for side in SIDES for when in ("then", "now")]
        cells += [
            " / ".join(str(row[f"{when}_{name}"]) for name in (*SIDES, "undecided"))
            for when in ("then", "now")
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


SIDES = ("quantization", "pruning")


def _interval(row: dict[str, Any], when: str, side: str) -> str:
    """Outwards to two decimals, and the width."""
    lower, upper = (row[f"{when}_{side}_{end}"] for end in ENDS)
    low, high = math.floor(lower * 100) / 100, math.ceil(upper * 100) / 100
    return f"{low:.2f} to {high:.2f} ({row[f'{when}_{side}_width']:.2f})"


def write_protocol(thens: Sequence[Path], nows: Sequence[Path], path: Path) -> None:
    """Write the table of results of the paper's way and of now, layer by layer, to `path`.md and .csv."""
    read = [[LayerReport.load(file) for file in files] for files in (thens, nows)]
    rows = rows_of(*read)
    write_table(rows, path.with_suffix(".csv"))
    path.with_suffix(".md").write_text(markdown(rows))

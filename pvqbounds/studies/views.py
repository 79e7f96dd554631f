"""The two studies as tables for a terminal of 80 columns."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pvqbounds.studies.expected import Crossover, crossover_bits
from pvqbounds.studies.rows import DistributionRow, Row, Skipped, WeightRow

__all__ = ["crossovers_view", "distributions_view", "weights_view"]

MOST_SKIPPED = 8
"""Skipped tensors that are named; the rest are counted."""

SQNR_FIELDS = ("quantization_sqnr", "pruning_sqnr", "pruning_sqnr_corrected", "pruning_sqnr_masked")
HEADINGS = ("quantized", "pruned", "corrected", "masked")


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(columns):  # a long name is folded, a number is never cut
        justify: Literal["left", "right"] = "left" if number == 0 else "right"
        table.add_column(heading, no_wrap=number > 0, overflow="fold", justify=justify)
    return table


def _decibel(value: float) -> str:
    if math.isnan(value):
        return "-"
    return "∞" if math.isinf(value) else f"{value:.2f}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else "∞" if math.isinf(value) else f"{value:.4g}"


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{100.0 * value:.1f} %"


def _crossing(rows: Sequence[Row]) -> str:
    bits = [row.bits for row in rows]
    first = crossover_bits(bits, [r.quantization_sqnr for r in rows], [r.pruning_sqnr for r in rows])
    if len(bits) == 1:
        return f"{'Pruning is no worse' if first is None else 'Quantization is better'} at {bits[0]} bits."
    if first is None:
        return f"Pruning is no worse at {max(bits)} bits."
    if first == min(bits):
        return f"Quantization is better from {first} bits on, at every width asked for."
    return f"Quantization is better from {first} bits on, pruning at some width below."


# --------------------------------------------------------------------------------- distributions


def distributions_view(studies: Sequence[Sequence[DistributionRow]]) -> RenderableType:
    """A table for each distribution, and what the columns mean."""
    grouped = any(row.group_size is not None for rows in studies for row in rows)
    unit = "the group's largest magnitude" if grouped else "the distribution's own unit"
    words = (
        f"SQNR in dB. pruned: keeps b/16 of the weights; corrected: (1 - zeros) b/16; masked: (b-1)/16, the "
        "mask charged; any coder: no coder of b bits a weight exceeds it (Shannon's lower bound; a "
        f"Gaussian's limit itself). Kurtosis is non-excess. The scale is in {unit}."
    )
    return Group(*(_distribution_view(rows) for rows in studies), Text(words, style="dim"))


def _distribution_view(rows: Sequence[DistributionRow]) -> RenderableType:
    first = rows[0]
    title = Text.assemble((first.description, "bold"), f"  kurtosis {_number(first.kurtosis)}")
    if first.group_size is not None:
        title.append(
            f", groups of {first.group_size} (a scale of 16 bits adds {16 / first.group_size:g} bit)"
        )
    notes = [Text(note) for note in dict.fromkeys(row.note for row in rows if row.note)]
    if all(math.isnan(row.quantization_sqnr) for row in rows):
        return Padding(Group(title, *notes), (0, 0, 1, 0))
    table = _table("bits", *HEADINGS, "any coder", "zeros", "scale")
    for row in rows:
        values = [_decibel(getattr(row, name)) for name in SQNR_FIELDS]
        limit = _decibel(row.rate_distortion_sqnr)
        table.add_row(str(row.bits), *values, limit, _share(row.zeros), _number(row.scale))
    lines = [Text(_crossing(rows)), *notes]
    deviations = [
        abs(value)
        for row in rows
        for value in (row.monte_carlo_quantization_deviation, row.monte_carlo_pruning_deviation)
        if value is not None
    ]
    if deviations:
        lines.append(Text(f"Monte Carlo agrees to {max(deviations):.1f} standard errors.", style="dim"))
    return Padding(Group(title, table, *lines), (0, 0, 1, 0))


def crossovers_view(crossovers: Sequence[tuple[int, Crossover | None]]) -> RenderableType:
    """The kurtosis from which on pruning is better, for each bit width."""
    title = Text.assemble(
        ("Crossover", "bold"), "  Student-t of two degrees of freedom, truncated at ± range"
    )
    table = _table("bits", "range", "kurtosis")
    for bits, found in crossovers:
        values = ("-", "none") if found is None else (f"{found.parameter:.4g}", f"{found.kurtosis:.4g}")
        table.add_row(str(bits), *values)
    return Group(title, table, Text("Pruning is better beyond this kurtosis (non-excess).", style="dim"))


# --------------------------------------------------------------------------------------- weights


def weights_view(rows: Sequence[WeightRow], skipped: Sequence[Skipped]) -> RenderableType:
    """A summary of each source; every tensor where one bit width was asked for; what was left out."""
    parts: list[RenderableType] = []
    for source in dict.fromkeys(row.source for row in rows):
        mine = [row for row in rows if row.source == source]
        if len({row.bits for row in mine}) == 1 and source == "pvqbounds":
            parts.append(_tensors_view(mine))
        parts.append(_summary_view(mine))
    parts += _beside_view(rows)
    notes = Counter(row.note.partition(":")[0] for row in rows if row.note)
    parts += [Text(f"{note}: {count} of {len(rows)} rows", style="dim") for note, count in notes.items()]
    parts += [
        Text(f"left out: {tensor.model} {tensor.tensor} {tensor.reason}", style="yellow")
        for tensor in skipped[:MOST_SKIPPED]
    ]
    if len(skipped) > MOST_SKIPPED:
        parts.append(Text(f"left out: {len(skipped) - MOST_SKIPPED} more; --json lists them", style="yellow"))
    words = (
        "SQNR in dB, the range of least squared error for each tensor. pruned: keeps b/16 of the weights; "
        "corrected: (1 - zeros) b/16; masked: (b-1)/16, the mask charged. Kurtosis is non-excess."
    )
    return Group(*parts, Text(words, style="dim"))


def _tensors_view(rows: Sequence[WeightRow]) -> RenderableType:
    table = _table("tensor", *HEADINGS, "kurtosis", "zeros")
    for row in rows:
        values = [_decibel(getattr(row, name)) for name in SQNR_FIELDS]
        table.add_row(row.tensor, *values, _number(row.kurtosis), _share(row.zeros))
    return table


def _summary_view(rows: Sequence[WeightRow]) -> RenderableType:
    models = list(dict.fromkeys(row.model for row in rows))
    tensors = {(row.model, row.tensor): row.size for row in rows}
    sizes = [size for size in tensors.values() if size is not None]
    name = models[0] if len(models) == 1 else f"{len(models)} models"
    title = Text.assemble((name, "bold"), f"  {_count(len(tensors), 'tensor')}")
    if sizes:
        title.append(f", {_count(sum(sizes), 'weight')}")
    if rows[0].source != "pvqbounds":
        title.append(f" ({rows[0].source})")
    kurtoses = [row.kurtosis for row in rows if row.bits == rows[0].bits]
    title.append(f", median kurtosis {_number(_median(kurtoses))}")
    table = _table("bits", *(f"{heading}" for heading in HEADINGS), "zeros", "pruning better")
    for bits in sorted({row.bits for row in rows}):
        mine = [row for row in rows if row.bits == bits]
        medians = [_decibel(_median(getattr(row, field) for row in mine)) for field in SQNR_FIELDS]
        zeros = [row.zeros for row in mine if not math.isnan(row.zeros)]
        compared = [row for row in mine if not math.isnan(row.pruning_sqnr)]
        better = sum(row.pruning_sqnr > row.quantization_sqnr for row in compared)
        mean = _share(statistics.fmean(zeros)) if zeros else "-"
        table.add_row(str(bits), *medians, mean, f"{better} of {len(compared)}")
    caption = Text("Medians over the tensors; zeros is their mean.", style="dim")
    return Padding(Group(title, table, caption), (0, 0, 1, 0))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _median(values: Iterable[float]) -> float:
    """Median of the values that are finite."""
    kept = [value for value in values if math.isfinite(value)]
    return statistics.median(kept) if kept else math.nan


def _beside_view(rows: Sequence[WeightRow]) -> list[RenderableType]:
    """Ours minus the released figures on the tensors that both have."""
    sides: dict[tuple[str, str, int], dict[str, WeightRow]] = defaultdict(dict)
    for row in rows:
        sides[row.model, row.tensor, row.bits][row.source] = row
    both = [side for side in sides.values() if {"pvqbounds", "released"} <= side.keys()]
    if not both:
        return []
    table = _table("bits", "tensors", "quantized", "pruned", "corrected", "kurtosis ratio")
    for bits in sorted({side["pvqbounds"].bits for side in both}):
        pairs = [(s["pvqbounds"], s["released"]) for s in both if s["pvqbounds"].bits == bits]
        changes = [
            _median(getattr(ours, field) - getattr(theirs, field) for ours, theirs in pairs)
            for field in SQNR_FIELDS[:3]
        ]
        ratios = _median(o.kurtosis / t.kurtosis if t.kurtosis else math.inf for o, t in pairs)
        table.add_row(str(bits), str(len(pairs)), *(f"{change:+.2f}" for change in changes), f"{ratios:.3f}")
    title = Text.assemble(("Ours minus released", "bold"), "  medians, dB; of the kurtosis, ours over theirs")
    return [Padding(Group(title, table), (0, 0, 1, 0))]

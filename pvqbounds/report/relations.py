"""The verdict on many formats: a matrix of which is better than which, and at what size; and in words."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from pvqbounds.results.layer import LayerReport, Side
from pvqbounds.results.relation import EQUAL_SIZE

__all__ = ["order_text", "relations_view", "undecided_text"]

MOST_IN_WORDS = 5
"""Formats whose pairs are all listed; of more they are counted."""

MOST_IN_MATRIX = 15
"""Formats that have a column each in 80 columns, beside their names."""

LONGEST_NAME = 30
"""Characters of a format's name in one line."""

OVERLAP = "the intervals overlap"
REPORTED = "the deciding bound is reported, not proved"
NO_SIGNAL = "the layer has no signal on this calibration data"

MARKS = {OVERLAP: "?", REPORTED: "r", NO_SIGNAL: "-"}
"""How a pair that is not decided stands in the matrix, by why it is not."""


def undecided_text(sides: Sequence[Side]) -> str:
    """Why neither of two sides is provably better."""
    ends = [end for side in sides for end in side.sqnr_interval]
    proved = all(side.lower_kind == "certified" for side in sides)
    overlap = max(ends[0], ends[2]) <= min(ends[1], ends[3])
    if any(map(math.isnan, ends)):
        return NO_SIGNAL
    return OVERLAP if overlap or proved else REPORTED


def order_text(report: LayerReport) -> str:
    """Of many sides which is better than which, and which of these are no larger either."""
    few = len(report.sides) <= MOST_IN_WORDS
    texts = [*(_all_pairs(report) if few else [_counted(report)]), _best_at_their_size(report)]
    return " ".join(filter(None, texts))


def _all_pairs(report: LayerReport) -> list[str]:
    """What each side is better than, and the pairs that are left."""
    worse: dict[str, list[str]] = {}
    for winner, loser in report.verdict:
        worse.setdefault(winner, []).append(loser)
    proved = "; ".join(f"{winner} than {_listed(losers)}" for winner, losers in worse.items())
    decided = {frozenset(pair) for pair in report.verdict}
    why: dict[str, list[str]] = {}
    for first, second in itertools.combinations(report.sides, 2):
        if frozenset((first.format, second.format)) not in decided:
            pair = f"{first.format} and {second.format}"
            why.setdefault(undecided_text((first, second)), []).append(pair)
    left = "; ".join(f"{', '.join(pairs)} ({reason})" for reason, pairs in why.items())
    return [f"Verdict, provably better: {proved}." if proved else "", f"Undecided: {left}." if left else ""]


def _counted(report: LayerReport) -> str:
    """How many pairs are decided."""
    pairs, decided = math.comb(len(report.sides), 2), len(report.verdict)
    if not decided:
        return f"Verdict: none of {pairs} pairs is decided."
    return (
        f"Verdict: {decided} of {pairs} pairs are decided; in {len(report.dominates)} of them the better "
        "format is no larger."
    )


def _best_at_their_size(report: LayerReport) -> str:
    """The formats that no other is better than at their size or less."""
    best = report.undominated
    if not report.dominates:
        return "No format is provably better than one of its size or more." if report.verdict else ""
    return f"No other is provably better and no larger: {_listed(best)}."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def relations_view(report: LayerReport) -> list[RenderableType]:
    """The matrix of all pairs with its legend; empty for a pair alone, for chunks, and for very many."""
    if not 2 < len(report.sides) <= MOST_IN_MATRIX or report.protocol != "full":
        return []
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    width = min(LONGEST_NAME, max(len(side.format) for side in report.sides) + 3)
    table.add_column("this, beside", header_style="bold", width=max(width, 12), overflow="fold")
    for number in range(1, len(report.sides) + 1):
        table.add_column(str(number), header_style="bold", min_width=2)
    marks = _marks(report)
    for number, (side, row) in enumerate(zip(report.sides, marks, strict=True), 1):
        table.add_row(f"{number:2d} {side.format}", *row)
    meaning = {
        ">>": ">> provably better and no larger",
        ">": "> provably better, and larger",
        **{mark: f"{mark} undecided: {why}" for why, mark in MARKS.items()},
    }
    seen = {mark for row in marks for mark in row}
    told = [text for mark, text in meaning.items() if mark in seen]
    sizes = f"sizes within {EQUAL_SIZE:.0%} count as equal"
    return [table, Text("; ".join([*told, sizes]), style="dim")]


def _marks(report: LayerReport) -> list[list[str]]:
    """What stands in the matrix: a row for each side, a column for each beside it."""
    marks = {}
    for relation in report.relations:
        sign = 1 + relation.dominates
        marks[relation.better, relation.worse] = ">" * sign
        marks[relation.worse, relation.better] = "<" * sign
    return [
        [
            ""
            if row is column
            else marks.get((row.format, column.format)) or MARKS[undecided_text((row, column))]
            for column in report.sides
        ]
        for row in report.sides
    ]

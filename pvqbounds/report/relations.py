"""The verdict on many formats: a matrix of which is better than which, and at what size; and in words.

Of a pair that no intervals decide one may be known to be never worse, as it allows every weight of the other.
"""

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

__all__ = ["inclusion_text", "order_text", "relations_view", "undecided_text"]

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


def inclusion_text(report: LayerReport, first: Side, second: Side) -> str:
    """Which of two sides allows every weight of the other, by the report's names; empty if none does."""
    called = dict(zip((side.format for side in report.sides), report.names, strict=True))
    one, other = called[first.format], called[second.format]
    holds = (first.format, second.format) in report.contains
    held = (second.format, first.format) in report.contains
    if holds and held:
        return f"{one} and {other} allow the same weights"
    if holds or held:
        winner, loser = (one, other) if holds else (other, one)
        return f"{winner} is never worse than {loser}, all of whose weights it allows"
    return ""


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
    known = {frozenset(pair) for pair in (*report.verdict, *report.contains)}
    why: dict[str, list[str]] = {}
    for first, second in itertools.combinations(report.sides, 2):
        if frozenset((first.format, second.format)) not in known:
            pair = f"{first.format} and {second.format}"
            why.setdefault(undecided_text((first, second)), []).append(pair)
    left = "; ".join(f"{', '.join(pairs)} ({reason})" for reason, pairs in why.items())
    return [
        f"Verdict, provably better: {proved}." if proved else "",
        _by_inclusion(report),
        f"Undecided: {left}." if left else "",
    ]


def _by_inclusion(report: LayerReport) -> str:
    """Which formats allow every weight of which, where no intervals decide."""
    held: dict[str, list[str]] = {}
    alike: list[str] = []
    for first, second in report.never_worse:
        if (second, first) not in report.contains:
            held.setdefault(first, []).append(second)
        elif f"{second} and {first}" not in alike:
            alike.append(f"{first} and {second}")
    never = "; ".join(f"{first} than {_listed(others)}" for first, others in held.items())
    texts = [
        f"Never worse, allowing every weight of the other: {never}." if never else "",
        f"The same weights are allowed by {'; by '.join(alike)}." if alike else "",
    ]
    return " ".join(filter(None, texts))


def _counted(report: LayerReport) -> str:
    """How many pairs are decided."""
    pairs, decided = math.comb(len(report.sides), 2), len(report.verdict)
    known = len(set(map(frozenset, report.never_worse)))
    more = (
        f" In {known} more one format is never worse: it allows every weight of the other." if known else ""
    )
    if not decided:
        return f"Verdict: none of {pairs} pairs is decided.{more}"
    return (
        f"Verdict: {decided} of {pairs} pairs are decided; in {len(report.dominates)} of them the better "
        f"format is no larger.{more}"
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
        ">=": ">= never worse: it allows every weight of the other",
        "=": "= both allow the same weights",
        **{mark: f"{mark} undecided: {why}" for why, mark in MARKS.items()},
    }
    seen = {mark for row in marks for mark in row}
    told = [text for mark, text in meaning.items() if mark in seen]
    sizes = f"sizes within {EQUAL_SIZE:.0%} count as equal"
    return [table, Text("; ".join([*told, sizes]), style="dim")]


def _marks(report: LayerReport) -> list[list[str]]:
    """What stands in the matrix: a row for each side, a column for each beside it."""
    marks = {}
    for first, second in report.contains:
        both = (second, first) in report.contains
        marks[first, second], marks[second, first] = ("=", "=") if both else (">=", "<=")
    for relation in report.relations:  # where a pair is decided, that says more
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

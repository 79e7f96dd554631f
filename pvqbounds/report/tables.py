"""Results as tables for a terminal of 80 columns, and the verdict in words.

Numbers are rounded outwards: the printed lower end is never above the true one, the printed
upper end never below it.
"""

from __future__ import annotations

import io
import itertools
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pvqbounds.methods import label_of
from pvqbounds.problems import IntegerLeastSquares, Problem
from pvqbounds.report.relations import inclusion_text, order_text, relations_view, undecided_text
from pvqbounds.results.bounds import sqnr
from pvqbounds.results.compressed import AS_STORED
from pvqbounds.results.decibels import ENDLESS, interval_text, rounded_down, rounded_up, sqnr_text
from pvqbounds.results.held_out import BEST, HeldOut
from pvqbounds.results.layer import LayerReport, Side, SliceResult, surely_better
from pvqbounds.results.notes import gap_note
from pvqbounds.solvers import SolverInfo

__all__ = [
    "conditions_text",
    "in_figures",
    "layer_view",
    "objective_text",
    "problem_text",
    "problem_view",
    "seconds_text",
    "solvers_view",
    "verdict_text",
]

Column = tuple[str, list[str]]
"""A heading, and a text for each side."""

WIDTH = 80
"""Columns of a table that is no terminal's."""


def error_text(lower: float, upper: float, optimal: bool) -> str:
    """Name a least error likewise: the digits on which both ends agree, at most six, or the interval."""
    if optimal:
        for figures in range(6, 2, -1):
            low, high = (f"{end:.{figures}g}" for end in (lower, upper))
            if low == high:
                return low
    return f"{in_figures(lower, ROUND_FLOOR)} .. {in_figures(upper, ROUND_CEILING)}"


def objective_text(lower: float, upper: float) -> str:
    """Name a least objective: the number where both ends are one, else the interval to nine figures."""
    if lower == upper:
        return repr(lower).removesuffix(".0")
    return f"{in_figures(lower, ROUND_FLOOR, 9)} .. {in_figures(upper, ROUND_CEILING, 9)}"


def in_figures(value: float, rounding: str, figures: int = 6) -> str:
    """`value` to so many figures, rounded in one direction."""
    exact = Decimal(value)
    if not exact:
        return "0"
    place = Decimal(1).scaleb(exact.adjusted() - figures + 1)
    return f"{float(exact.quantize(place, rounding, Context(prec=50))):.{figures}g}"


def plain_text(view: RenderableType) -> str:
    """A view as text without colours, `WIDTH` columns wide."""
    console = Console(
        file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False, highlight=False
    )
    with console.capture() as capture:
        console.print(view)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


# ------------------------------------------------------------------------------- layer


def layer_view(report: LayerReport) -> RenderableType:
    """The formats of a layer side by side, or one below the other, and the verdict below."""
    title = Text.assemble((f"{report.model} {report.layer}", "bold"), f"  {report.description}")
    looked_at, in_all = report.channels
    channels = f"{in_all} channels" if looked_at == in_all else f"{looked_at} of {in_all} channels"
    protocol = "" if report.protocol == "full" else f", {len(report.sides[0].slices)} chunks"
    subtitle = Text(
        f"{report.inputs} inputs, {channels}{protocol}, {_positions_text(report)}",
        style="dim",
    )
    return Group(
        title,
        subtitle,
        *([_side_table(report)] if len(report.sides) <= MOST_COLUMNS else _row_tables(report)),
        *(Text(text, style="bold") for text in _compressed_texts(report)),
        *(Text(estimate_text(side)) for side in report.sides if side.estimate is not None),
        *(Text(text) for text in _reasons(report)),
        *relations_view(report),
        Text(verdict_text(report), style="bold" if report.verdict or report.never_worse else ""),
        Text(conditions_text(report), style="dim"),
        *(Text(f"Note: {note}", style="yellow") for note in report.notes),
    )


def _positions_text(report: LayerReport) -> str:
    if report.positions == 0:
        return "a given Gram"
    return f"{report.positions} positions of calibration data"


def layer_text(report: LayerReport) -> str:
    """The same as text, in 80 columns."""
    return plain_text(layer_view(report))


def _compressed_texts(report: LayerReport) -> list[str]:
    """How far each file's weights are from the best possible, and what that presumes, a sentence each."""
    return [
        " ".join(filter(None, (compressed_text(side), side.compressed.condition)))
        for side in report.sides
        if side.compressed is not None
    ]


def compressed_text(side: Side) -> str:
    """What somebody's compressed weights reach, and what is possible on the values that they had."""
    assert side.compressed is not None
    origin = side.compressed
    called = ", ".join(
        filter(None, (origin.kind, side.form.name, f"{side.bits_per_weight:.3g} bits a weight"))
    )
    if len({s.inputs for s in side.slices}) > 1:
        return f"{side.format} ({called}): of chunks, see each; they do not add up."
    least, most = side.left
    if math.isnan(side.method_sqnr(AS_STORED)):
        return f"{side.format} ({called}): no signal on this calibration data."
    if math.isnan(least):
        return f"{side.format} ({called}): without any error, which nothing exceeds."
    reached = f"{side.format} ({called}) reaches {rounded_down(side.method_sqnr(AS_STORED))} dB"
    if most == math.inf:
        return (
            f"{reached}; {rounded_down(least)} dB more are reached on its own values, and no bound is proved."
        )
    if side.lower_kind == "reported":
        stated = f"a solver states, without a proof, that {rounded_up(most)} dB more is the most"
        return f"{reached}; {stated}, and {rounded_down(least)} dB more are reached."
    if side.status == "optimal":
        best = sqnr_text(least, most, True)
        return f"{reached}, {best} below the best possible on the values that it allows."
    return (
        f"{reached}; on the values that it allows, no weights can exceed that by more than "
        f"{rounded_up(most)} dB, and some that were found exceed it by {rounded_down(least)} dB."
    )


def estimate_text(side: Side) -> str:
    """What a sample of the channels says of the whole layer, with its label."""
    assert side.estimate is not None
    signal, found = side.signal_enclosure.middle, side.estimate
    label = ", ".join(filter(None, ("no bound", side.presumption)))
    low, high = sqnr(signal, found.error_upper.value), sqnr(signal, found.error_lower.value)
    least, most = sqnr(signal, found.error_upper.high), sqnr(signal, found.error_lower.low)
    return (
        f"{side.format}, estimated from {len(found.sample)} of {len(side.slices)} channels, {label}: "
        f"{interval_text(low, high)}, its ends with 95 % confidence within {interval_text(least, most)}."
    )


def _reasons(report: LayerReport) -> list[str]:
    """Why sides are not optimal, a sentence each."""
    texts = [
        reason_text(side, report.positions, name)
        for side, name in zip(report.sides, report.names, strict=True)
    ]
    return [text for text in texts if text]


def reason_text(side: Side, positions: int, name: str | None = None) -> str:
    """Say in one sentence why a side is not optimal, or has no bound; nothing where it is optimal.

    Parameters
    ----------
    positions
        Input positions behind the Gram.
    name
        What to call the side; by its task if None.
    """
    called = side.task.capitalize() if name in (None, side.task) else str(name)
    open_ones = [s for s in side.slices if s.bounds.status != "optimal" and not s.dead]
    if side.status == "optimal":
        return ""
    if not open_ones and side.one_scale is not None:
        return f"{called} is bounded: what bounds at some scales leave open between them."
    if not open_ones and side.compressed is not None and side.compressed.mixed:
        return f"{called} is bounded: of some channels it is not known which values the file allowed at once."
    if not open_ones:  # the channels are optimal each by itself, the budget that they share is not
        return f"{called} is bounded: the gap of the relaxation of their one budget."
    chunked = len({s.inputs for s in side.slices}) > 1
    lower, upper = _median_interval(side) if chunked else side.sqnr_interval
    if not math.isnan(upper) and upper >= ENDLESS > lower:
        inputs = max(s.problem.n for s in side.slices)
        if 0 < positions < inputs:
            return (
                f"{called} has no bound: the calibration data have fewer positions "
                f"({positions}) than the layer has inputs ({inputs}), so that some changes of the weights "
                "cost nothing on them."
            )
        return (
            f"{called} has no bound: nothing above 0 is proved of its error "
            f"({_commonest([_reason(s) for s in open_ones])[0]})."
        )
    reason, times = _commonest([_reason(s) for s in open_ones])
    share = f" ({times} of {len(open_ones)} that are not optimal)" if times < len(open_ones) else ""
    return f"{called} is bounded: {reason.rstrip('.')}{share}."


def _reason(result: SliceResult) -> str:
    bounds = result.bounds
    return gap_note(bounds.status, bounds.method, bounds.relaxation, bounds.note)


def _commonest(reasons: Sequence[str]) -> tuple[str, int]:
    """The commonest reason, whatever its numbers, as it is first given; and how often it is given."""
    kinds = [re.sub(r"[0-9][0-9.,e+-]*", "#", reason) for reason in reasons]
    kind, times = Counter(kinds).most_common(1)[0]
    return reasons[kinds.index(kind)], times


def _side_table(report: LayerReport) -> Table:
    """A column for each side."""
    sides, full = report.sides, report.protocol == "full"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=True)
    table.add_column("", no_wrap=True, style="dim")
    for name in report.names:
        table.add_column(name, ratio=1, header_style="bold")
    table.add_row("size", *(size_text(side) for side in sides))
    table.add_row("bits a weight", *(_bits_text(side) for side in sides))
    table.add_row(_best_heading(report), *(_best_text(report, side) for side in sides))
    table.add_row("status", *(_status_text(side) for side in sides))
    table.add_row("proof", *(_proof_text(side) for side in sides), end_section=True)
    for name in _methods(report):
        table.add_row(label_of(name), *(_method_text(side, name, full) for side in sides))
    expected = [_expected_text(report, side) for side in sides]
    if any(expected):
        table.add_row("expected, fine grid", *(f"{text} (no bound)" if text else "" for text in expected))
    for name, text in _dead_texts(report).items():
        table.add_row(name, text, *("" for _ in sides[1:]))
    table.add_row("solver", *(_solver_text(side) for side in sides))
    if report.held_out is not None:
        table.add_section()
        for name, texts in _held_out_rows(report, report.held_out):
            table.add_row(name, *texts)
    return table


def _held_out_rows(report: LayerReport, held: HeldOut) -> list[Column]:
    """What the solutions reach on other data, a row each."""
    names = dict.fromkeys(name for errors in held.errors for name in errors)
    presumed = [f" ({side.presumption})" if side.presumption else "" for side in report.sides]
    return [
        (
            f"held out: {'best found' if name == BEST else label_of(name)}",
            [
                f"{held.sqnr(i, name):.2f} dB{presumed[i] * (name != AS_STORED)}" if name in errors else ""
                for i, errors in enumerate(held.errors)
            ],
        )
        for name in names
    ]


def _row_tables(report: LayerReport) -> list[RenderableType]:
    """A row for each side, for any number of them: what is possible, then what the methods make of it."""
    sides = report.sides
    width = min(LONGEST_UNFOLDED, max(len(side.format) for side in sides))
    best = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    best.add_column("format", header_style="bold", min_width=width, overflow="fold")
    for heading in ("bits a weight", _best_heading(report), "status", "proof"):
        best.add_column(heading, header_style="bold", min_width=_longest_word(heading))
    for side in sides:
        texts = (_best_text(report, side), _status_text(side), _proof_text(side))
        best.add_row(side.format, f"{side.bits_per_weight:.2f}", *texts)
    columns: list[Column] = [
        (label_of(name), [_method_text(side, name, report.protocol == "full") for side in sides])
        for name in _methods(report)
    ]
    if report.held_out is not None:
        columns += _held_out_rows(report, report.held_out)
    expected = [_expected_text(report, side) for side in sides]
    columns += [("expected\n(no bound)", expected)] if any(expected) else []
    columns = [(heading, [text.removesuffix(" dB") for text in texts]) for heading, texts in columns]
    methods = [_methods_table(sides, width, part) for part in _side_by_side(columns, WIDTH - width - 2)]
    solvers = ", ".join(dict.fromkeys(solver for side in sides for solver in _solvers(side)))
    seconds = math.fsum(s.bounds.seconds for side in sides for s in side.slices)
    dead = [f"{name}: {text}" for name, text in _dead_texts(report).items()]
    masks = [f"masks counted: {way}" for way in {side.mask_cost for side in sides} - {None}]
    told = (*masks, *dead, f"solver: {solvers}, {seconds_text(seconds)}")
    words = [Text(text, style="dim") for text in told]
    return [best, *methods, *words]


def _methods_table(sides: Sequence[Side], width: int, columns: Sequence[Column]) -> Table:
    """A row for each side; the first column, so wide, names its format."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("dB", header_style="bold", width=width, overflow="fold")
    for column in columns:
        table.add_column(column[0], header_style="bold", width=_width(column))
    for i, side in enumerate(sides):
        table.add_row(side.format, *(texts[i] for _, texts in columns))
    return table


def _width(column: Column) -> int:
    """Characters that no word of a column is longer than."""
    heading, texts = column
    return max(_longest_word(heading), *map(len, texts))


def _side_by_side(columns: Sequence[Column], room: int) -> Iterator[list[Column]]:
    """Columns in as many tables as they need, each no wider than the room."""
    part: list[Column] = []
    used = 0
    for column in columns:
        wide = _width(column) + 2  # two spaces stand between columns
        if part and used + wide > room:
            yield part
            part, used = [], 0
        part.append(column)
        used += wide
    if part:
        yield part


def _longest_word(heading: str) -> int:
    """Characters of the longest part that is not broken: a word, or a line where lines are given."""
    return max(map(len, heading.split("\n") if "\n" in heading else heading.split()))


LONGEST_UNFOLDED = 30
"""Characters of a format's name that stand in one line."""

MOST_COLUMNS = 2
"""Sides that stand beside each other in 80 columns; more have a row each."""


def _methods(report: LayerReport) -> list[str]:
    return list(dict.fromkeys(name for side in report.sides for name in side.methods))


def _best_heading(report: LayerReport) -> str:
    return "best possible SQNR" if report.protocol == "full" else "best SQNR, median"


def _best_text(report: LayerReport, side: Side) -> Text:
    ends = side.sqnr_interval if report.protocol == "full" else _median_interval(side)
    return Text(sqnr_text(*ends, side.status == "optimal"), style="bold cyan")


def _expected_text(report: LayerReport, side: Side) -> str:
    """The typical value on a fine, wide grid, if there is one; whoever prints it says that it is no bound."""
    if report.protocol != "full" or not math.isfinite(side.expected_sqnr):
        return ""
    return f"{side.expected_sqnr:.2f} dB"


def _dead_texts(report: LayerReport) -> dict[str, str]:
    """What is without signal."""
    texts, slices = {}, report.sides[0].slices
    if dead := sum(s.dead for s in slices):
        texts["dead"] = f"{dead} of {len(slices)} {_unit(report)} without signal"
    dead_inputs, inputs = report.dead_inputs
    if dead_inputs:
        texts["dead inputs"] = f"{dead_inputs} of {inputs} are always zero"
    return texts


def size_text(side: Side) -> str:
    """Name the size that a side was held to."""
    nnz = None if side.shared is None else side.shared.nnz
    return side.form.text([s.problem for s in side.slices], nnz)


def _bits_text(side: Side) -> str:
    """The size in numbers, and how its mask is counted in it."""
    counted = "" if side.mask_cost is None else f" (mask: {side.mask_cost})"
    return f"{side.bits_per_weight:.2f}{counted}"


def _median_interval(side: Side) -> tuple[float, float]:
    alive = [s.bounds for s in side.slices if not s.dead]
    if not alive:
        return math.nan, math.nan
    return statistics.median(b.sqnr_lower for b in alive), statistics.median(b.sqnr_upper for b in alive)


def _status_text(side: Side) -> str:
    if side.shared is not None:
        return f"{side.status} (one budget)"
    if side.one_scale is not None:
        return f"{side.status} (one scale)"
    optimal = sum(s.bounds.status == "optimal" for s in side.slices)
    if optimal == len(side.slices) and side.status == "optimal":
        return f"optimal ({optimal} of {optimal})"
    return f"bounded ({optimal} of {len(side.slices)} optimal)"


def _proof_text(side: Side) -> str:
    reported = sum(s.bounds.lower_kind == "reported" for s in side.slices)
    told = f" ({reported} of {len(side.slices)} not proved)" if reported else ""
    return side.proof.replace("reported", f"reported{told}")


def _method_text(side: Side, name: str, full: bool) -> str:
    if name not in side.methods:
        return ""
    if full:
        sqnr = side.method_sqnr(name)
        return "no signal" if math.isnan(sqnr) else f"{rounded_down(sqnr)} dB"
    values = [
        10.0 * math.log10(s.bounds.signal / error)
        for s, error in zip(side.slices, side.method_errors[name], strict=True)
        if not s.dead and error > 0.0
    ]
    return f"{rounded_down(statistics.median(values))} dB" if values else "none"


def _solver_text(side: Side) -> str:
    seconds = math.fsum(s.bounds.seconds for s in side.slices)
    return f"{', '.join(_solvers(side))}, {seconds_text(seconds)}"


def _solvers(side: Side) -> list[str]:
    return list(dict.fromkeys(f"{s.bounds.solver} {s.bounds.method}" for s in side.slices))


def seconds_text(seconds: float) -> str:
    """Name a duration to two figures."""
    return f"{seconds:.2g} s" if seconds < 10.0 else f"{seconds:.0f} s"


def _unit(report: LayerReport) -> str:
    return "channels" if report.protocol == "full" else "chunks"


def verdict_text(report: LayerReport) -> str:
    """Say in a sentence or two which side is provably better than which, or why none is."""
    if len(report.sides) == 1:
        form = report.sides[0].form.name
        return f"No verdict: {report.names[0]} ({form}) is the only side."
    if report.protocol == "chunked":
        text = _chunked_verdict(report)
    else:
        text = _pair_verdict(report) if len(report.sides) == 2 else order_text(report)
    found = [(side.format, side.presumption.partition(" ")[0]) for side in report.sides if side.presumption]
    for what in dict.fromkeys(word for _, word in found):
        text += f" The {what} of {' and '.join(name for name, word in found if word == what)} is presumed."
    return text


def _pair_verdict(report: LayerReport) -> str:
    """Of two sides, with the two numbers that decide."""
    called = dict(zip((side.format for side in report.sides), report.names, strict=True))
    sides = {side.format: side for side in report.sides}
    if not report.verdict:
        known, why = inclusion_text(report, *report.sides), undecided_text(report.sides)
        if len(report.never_worse) == 1:
            known += f"; whether it is better is undecided, {why}"
        return f"Verdict: {known or f'undecided, {why}'}."
    ((winner, loser),) = report.verdict
    words = [
        name if name == form else f"{name} ({size_text(sides[form]).split(',')[0]})"
        for form, name in ((form, called[form]) for form in (winner, loser))
    ]
    return (
        f"Verdict: {words[0]} is provably better than {words[1]}: "
        f"it reaches {rounded_down(sides[winner].sqnr_interval[0])} dB, "
        f"and no {called[loser]} of this layer exceeds {rounded_up(sides[loser].sqnr_interval[1])} dB"
        f"{', whatever its scales' if sides[loser].form.any_scale else ''}."
    )


def _chunked_verdict(report: LayerReport) -> str:
    texts = []
    sides = zip(report.sides, report.names, strict=True)
    for (first, name), (second, other) in itertools.combinations(sides, 2):
        pairs = list(zip(first.slices, second.slices, strict=True))
        better = sum(surely_better(_sqnr(a), _sqnr(b), b.bounds.lower_kind) for a, b in pairs)
        worse = sum(surely_better(_sqnr(b), _sqnr(a), a.bounds.lower_kind) for a, b in pairs)
        undecided = len(pairs) - better - worse
        known = inclusion_text(report, first, second) if undecided else ""
        left = f"{known}, so on the other {undecided} too" if known else f"{undecided} are undecided"
        texts.append(f"{name} is provably better on {better}, {other} on {worse}; {left}")
    return (
        f"Of {len(report.sides[0].slices)} chunks {'. '.join(texts)}. "
        "Chunks are problems of their own: their bounds do not add up to one for the layer."
    )


def _sqnr(result: SliceResult) -> tuple[float, float]:
    return result.bounds.sqnr_lower, result.bounds.sqnr_upper


def conditions_text(report: LayerReport) -> str:
    """Say what the verdict rests on."""
    conditions = dict.fromkeys(
        condition(report, side)
        for condition in (_scale_condition, _budget_condition)
        for side in report.sides
    )
    parts = ["weights only", *filter(None, conditions)]
    last = ", and" if len(parts) > 1 else " and"
    return f"For {', '.join(parts)}{last} the output error on this calibration data."


def _scale_condition(report: LayerReport, side: Side) -> str:
    rule = side.form.values
    if rule is None:
        return ""
    if rule.any_scale:
        return rule.free
    if not rule.takes_scales:
        return f"the fixed scales of {rule.name}"
    scales = {float(s.problem.values.numbers[0]) for s in side.slices}
    # a layer of one channel cannot tell the two apart, and need not
    scale = "one fixed scale" if len(scales) == 1 else "a fixed scale a channel"
    return f"{scale} ({report.range_method})"


def _budget_condition(report: LayerReport, side: Side) -> str:
    if side.shared is not None:
        return "one pruning budget for the layer"
    support = side.form.support
    return "" if support is None else support.condition(_unit(report)[:-1])


# ----------------------------------------------------------------------------- problem


def problem_view(result: SliceResult, source: str) -> RenderableType:
    """Show the interval of one problem and what stands behind it."""
    problem, bounds = result.problem, result.bounds
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row("problem", problem_text(problem))
    optimal = bounds.status == "optimal"
    ends = result.objective_bounds
    if ends is not None:
        optimal |= ends.lower == ends.upper
        table.add_row("least objective", Text(objective_text(*ends), style="bold cyan"))
    else:
        table.add_row("least error", error_text(bounds.error_lower, bounds.error_upper, optimal))
        best = sqnr_text(bounds.sqnr_lower, bounds.sqnr_upper, optimal)
        table.add_row("best SQNR", Text(best, style="bold cyan"))
    if bounds.scale is not None:
        table.add_row("scale", f"{bounds.scale:.6g}, the best one found")
    table.add_row("status", "optimal" if optimal else bounds.status)
    table.add_row("proof", bounds.lower_kind)
    table.add_row("solver", f"{bounds.solver} {bounds.method}, {seconds_text(bounds.seconds)}")
    reason = _reason(result)
    if reason:
        table.add_row("note" if optimal else "because", Text(reason))
    if not optimal and bounds.error_lower <= 0.0:
        table.add_row(
            "no bound",
            "a singular Gram, as of fewer input positions than inputs, lets some changes cost nothing",
        )
    return Group(Text(source, style="bold"), Padding(table, (0, 0)))


def problem_text(problem: Problem) -> str:
    """What a problem is, in words."""
    if isinstance(problem, IntegerLeastSquares) and problem.quadratic is not None:
        low, high = problem.low.min(), problem.high.max()
        return f"quadratic program, {problem.n} whole variables from {low:.0f} to {high:.0f}"
    called = "joint compression" if problem.task == "joint" else problem.task
    parts = [problem.values] if problem.values.is_finite else []
    rules = [problem.rule] if problem.is_restricted or not parts else []
    return f"{called} of {problem.n} weights, {', '.join(map(str, [*rules, *parts]))}"


# ----------------------------------------------------------------------------- solvers


def solvers_view(known: Sequence[SolverInfo]) -> RenderableType:
    """Show every known backend: whether it can be used here, for what, and how to get it."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("solver", "usable", "can do", "licence, or how to get it"):
        table.add_column(heading, no_wrap=heading in ("solver", "usable"))
    for info in known:
        usable = info.licence is not None and info.licence.valid
        table.add_row(
            Text(info.name, style="bold" if usable else "dim"),
            Text("yes", style="green") if usable else Text("no", style="red"),
            "\n".join(sorted(capability.value for capability in info.capabilities)),
            f"not installed: {info.install}" if info.licence is None else info.licence.text,
            end_section=True,
        )
    return table

"""Results as tables for a terminal of 80 columns, and the verdict in words.

Numbers are rounded outwards: the printed lower end is never above the true one, the printed
upper end never below it.
"""

from __future__ import annotations

import io
import math
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pvqbounds.methods import label_of
from pvqbounds.problems import IntegerLeastSquares, Problem, SparseLeastSquares
from pvqbounds.results.decibels import ENDLESS, rounded_down, rounded_up, sqnr_text
from pvqbounds.results.layer import LayerReport, Side, SliceResult, compare_sides
from pvqbounds.results.notes import gap_note
from pvqbounds.solvers import SolverInfo

__all__ = [
    "conditions_text",
    "layer_view",
    "problem_view",
    "solvers_view",
    "verdict_text",
]

WIDTH = 80
"""Columns of a table that is no terminal's."""


def error_text(lower: float, upper: float, optimal: bool) -> str:
    """Name a least error likewise: the digits on which both ends agree, at most six, or the interval."""
    if optimal:
        for figures in range(6, 2, -1):
            low, high = (f"{end:.{figures}g}" for end in (lower, upper))
            if low == high:
                return low
    return f"{_figures(lower, ROUND_FLOOR)} .. {_figures(upper, ROUND_CEILING)}"


def _figures(value: float, rounding: str) -> str:
    """`value` to six figures, rounded in one direction."""
    exact = Decimal(value)
    if not exact:
        return "0"
    place = Decimal(1).scaleb(exact.adjusted() - 5)
    return f"{float(exact.quantize(place, rounding, Context(prec=50))):.6g}"


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
    """Quantization and pruning of a layer side by side, and the verdict below."""
    title = Text.assemble((f"{report.model} {report.layer}", "bold"), f"  {report.description}")
    looked_at, in_all = report.channels
    channels = f"{in_all} channels" if looked_at == in_all else f"{looked_at} of {in_all} channels"
    protocol = "" if report.protocol == "full" else f", {len(report.quantization.slices)} chunks"
    subtitle = Text(
        f"{report.inputs} inputs, {channels}{protocol}, {report.positions} positions of calibration data",
        style="dim",
    )
    return Group(
        title,
        subtitle,
        _side_table(report),
        *(Text(text) for side in sides_of(report) if (text := reason_text(side, report.positions))),
        Text(verdict_text(report), style="bold" if report.verdict != "undecided" else ""),
        Text(conditions_text(report), style="dim"),
        *(Text(f"Note: {note}", style="yellow") for note in report.notes),
    )


def layer_text(report: LayerReport) -> str:
    """The same as text, in 80 columns."""
    return plain_text(layer_view(report))


def sides_of(report: LayerReport) -> tuple[Side, Side]:
    """Quantization and pruning."""
    return report.quantization, report.pruning


def reason_text(side: Side, positions: int) -> str:
    """Say in one sentence why a side is not optimal, or has no bound; nothing where it is optimal.

    Parameters
    ----------
    positions
        Input positions behind the Gram.
    """
    open_ones = [s for s in side.slices if s.bounds.status != "optimal" and not s.dead]
    if side.status == "optimal":
        return ""
    if not open_ones:  # the channels are optimal each by itself, the budget that they share is not
        return f"{side.task.capitalize()} is bounded: what the relaxation of their one budget leaves open."
    chunked = len({s.inputs for s in side.slices}) > 1
    lower, upper = _median_interval(side) if chunked else side.sqnr_interval
    if not math.isnan(upper) and upper >= ENDLESS > lower:
        inputs = max(s.problem.n for s in side.slices)
        if positions < inputs:
            return (
                f"{side.task.capitalize()} has no bound: the calibration data have fewer positions "
                f"({positions}) than the layer has inputs ({inputs}), so that some changes of the weights "
                "cost nothing on them."
            )
        return (
            f"{side.task.capitalize()} has no bound: nothing above 0 is proved of its error "
            f"({_commonest([_reason(s) for s in open_ones])[0]})."
        )
    reason, times = _commonest([_reason(s) for s in open_ones])
    share = f" ({times} of {len(open_ones)} that are not optimal)" if times < len(open_ones) else ""
    return f"{side.task.capitalize()} is bounded: {reason.rstrip('.')}{share}."


def _reason(result: SliceResult) -> str:
    bounds = result.bounds
    return gap_note(bounds.status, bounds.method, bounds.relaxation, bounds.note)


def _commonest(reasons: Sequence[str]) -> tuple[str, int]:
    """The commonest reason, whatever its numbers, as it is first given; and how often it is given."""
    kinds = [re.sub(r"[0-9][0-9.,e+-]*", "#", reason) for reason in reasons]
    kind, times = Counter(kinds).most_common(1)[0]
    return reasons[kinds.index(kind)], times


def _side_table(report: LayerReport) -> Table:
    sides = sides_of(report)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=True)
    table.add_column("", no_wrap=True)
    for side in sides:
        table.add_column(side.task, ratio=1, header_style="bold")
    table.add_row("size", *(size_text(side) for side in sides))
    full = report.protocol == "full"
    best = "best possible SQNR" if full else "best SQNR, median"
    intervals = (side.sqnr_interval if full else _median_interval(side) for side in sides)
    texts = [sqnr_text(*ends, side.status == "optimal") for ends, side in zip(intervals, sides, strict=True)]
    table.add_row(best, *(Text(text, style="bold cyan") for text in texts))
    table.add_row("status", *(_status_text(side) for side in sides))
    table.add_row("proof", *(_proof_text(side) for side in sides), end_section=True)
    for name in dict.fromkeys([*sides[0].methods, *sides[1].methods]):
        row = [_method_text(side, name, full) if name in side.methods else "" for side in sides]
        table.add_row(label_of(name), *row)
    if full and math.isfinite(sides[0].expected_sqnr):
        expected = f"{sides[0].expected_sqnr:.2f} dB (no bound)"
        table.add_row("expected, fine grid", expected, "")
    table.columns[0].style = "dim"
    if any(s.dead for s in sides[0].slices):
        dead = sum(s.dead for s in sides[0].slices)
        table.add_row("dead", f"{dead} of {len(sides[0].slices)} {_unit(report)} without signal", "")
    dead_inputs, inputs = report.dead_inputs
    if dead_inputs:
        table.add_row("dead inputs", f"{dead_inputs} of {inputs} are always zero", "")
    table.add_row("solver", *(_solver_text(side) for side in sides))
    return table


def size_text(side: Side) -> str:
    """Name the size that a side was held to."""
    first = side.slices[0].problem
    if isinstance(first, IntegerLeastSquares):
        return f"{side.bits} bits, codes {first.qmin}..{first.qmax}"
    if first.pattern is not None:
        return "pattern {}:{}".format(*first.pattern)
    if side.shared is not None:
        weights = sum(s.problem.n for s in side.slices)
        return f"density {side.density:g}, keep {side.shared.nnz} of {weights}"
    kept = {(s.problem.nnz, s.problem.n) for s in side.slices if isinstance(s.problem, SparseLeastSquares)}
    detail = ", keep {} of {}".format(*min(kept)) if len(kept) == 1 else ""
    return f"density {side.density:g}{detail}"


def _median_interval(side: Side) -> tuple[float, float]:
    alive = [s.bounds for s in side.slices if not s.dead]
    if not alive:
        return math.nan, math.nan
    return statistics.median(b.sqnr_lower for b in alive), statistics.median(b.sqnr_upper for b in alive)


def _status_text(side: Side) -> str:
    if side.shared is not None:
        return f"{side.status} (one budget)"
    optimal = sum(s.bounds.status == "optimal" for s in side.slices)
    if optimal == len(side.slices):
        return f"optimal ({optimal} of {optimal})"
    return f"bounded ({optimal} of {len(side.slices)} optimal)"


def _proof_text(side: Side) -> str:
    reported = sum(s.bounds.lower_kind == "reported" for s in side.slices)
    return f"reported ({reported} of {len(side.slices)} not proved)" if reported else "certified"


def _method_text(side: Side, name: str, full: bool) -> str:
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
    words = Counter(f"{s.bounds.solver} {s.bounds.method}" for s in side.slices)
    seconds = math.fsum(s.bounds.seconds for s in side.slices)
    return f"{', '.join(words)}, {seconds_text(seconds)}"


def seconds_text(seconds: float) -> str:
    """Name a duration to two figures."""
    return f"{seconds:.2g} s" if seconds < 10.0 else f"{seconds:.0f} s"


def _unit(report: LayerReport) -> str:
    return "channels" if report.protocol == "full" else "chunks"


def verdict_text(report: LayerReport) -> str:
    """Say in one sentence which side is provably better, or why none is."""
    if report.protocol == "chunked":
        return _chunked_verdict(report)
    sides = {"quantization": report.quantization, "pruning": report.pruning}
    names = {task: f"{task} ({size_text(side).split(',')[0]})" for task, side in sides.items()}
    if report.verdict == "undecided":
        ends = [end for side in sides.values() for end in side.sqnr_interval]
        proved = all(side.lower_kind == "certified" for side in sides.values())
        overlap = max(ends[0], ends[2]) <= min(ends[1], ends[3])
        if any(map(math.isnan, ends)):
            why = "the layer has no signal on this calibration data"
        elif overlap or proved:
            why = "the intervals overlap"
        else:
            why = "the deciding bound is reported, not proved"
        return f"Verdict: undecided, {why}."
    winner, loser = sides.pop(report.verdict), next(iter(sides.values()))
    return (
        f"Verdict: {names[winner.task]} is provably better than {names[loser.task]}: "
        f"it reaches {rounded_down(winner.sqnr_interval[0])} dB, "
        f"and no {loser.task} of this layer exceeds {rounded_up(loser.sqnr_interval[1])} dB."
    )


def _chunked_verdict(report: LayerReport) -> str:
    verdicts = Counter(
        compare_sides(_sqnr(q), q.bounds.lower_kind, _sqnr(p), p.bounds.lower_kind)
        for q, p in zip(report.quantization.slices, report.pruning.slices, strict=True)
    )
    return (
        f"Of {verdicts.total()} chunks quantization is provably better on {verdicts['quantization']}, "
        f"pruning on {verdicts['pruning']}; {verdicts['undecided']} are undecided. "
        "Chunks are problems of their own: their bounds do not add up to one for the layer."
    )


def _sqnr(result: SliceResult) -> tuple[float, float]:
    return result.bounds.sqnr_lower, result.bounds.sqnr_upper


def conditions_text(report: LayerReport) -> str:
    """Say what the verdict rests on."""
    problems = [s.problem for s in report.quantization.slices]
    scales = {p.scale for p in problems if isinstance(p, IntegerLeastSquares)}
    # a layer of one channel cannot tell the two apart, and need not
    scale = "one fixed scale" if len(scales) == 1 else "a fixed scale a channel"
    unit = "chunk" if report.protocol == "chunked" else "channel"
    budget = f", a pruning budget for each {unit}"
    if report.pruning.shared is not None:
        budget = ", one pruning budget for the layer"
    elif _pattern(report.pruning.slices[0].problem):
        budget = ""
    return (
        f"For weights only, {scale} ({report.range_method}){budget}, "
        "and the output error on this calibration data."
    )


def _pattern(problem: Problem) -> tuple[int, int] | None:
    return problem.pattern if isinstance(problem, SparseLeastSquares) else None


# ----------------------------------------------------------------------------- problem


def problem_view(result: SliceResult, source: str) -> RenderableType:
    """Show the interval of one problem and what stands behind it."""
    problem, bounds = result.problem, result.bounds
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row("problem", _problem_text(problem))
    optimal = bounds.status == "optimal"
    table.add_row("least error", error_text(bounds.error_lower, bounds.error_upper, optimal))
    best = sqnr_text(bounds.sqnr_lower, bounds.sqnr_upper, optimal)
    table.add_row("best SQNR", Text(best, style="bold cyan"))
    table.add_row("status", bounds.status)
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


def _problem_text(problem: Problem) -> str:
    if isinstance(problem, IntegerLeastSquares):
        codes = f"codes {problem.qmin}..{problem.qmax}"
        return f"quantization of {problem.n} weights, scale {problem.scale:.6g}, {codes}"
    if problem.pattern is not None:
        return "pruning of {} weights, pattern {}:{}".format(problem.n, *problem.pattern)
    return f"pruning of {problem.n} weights, keep {problem.nnz}"


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

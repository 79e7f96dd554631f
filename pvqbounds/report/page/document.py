"""The page put together: sentences, numbers in words, and the templates that draw the figures."""

from __future__ import annotations

import base64
import hashlib
import math
import statistics
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR
from importlib import import_module, resources
from pathlib import Path
from typing import Any

from pvqbounds.errors import InputError
from pvqbounds.report.allocation import allocation_text, assumptions_text, frontier_steps
from pvqbounds.report.network_tables import presumed_of
from pvqbounds.report.page.figures import (
    Duel,
    GapPanel,
    Interval,
    duels_of,
    gap_panels_of,
    intervals_of,
    wins_of,
)
from pvqbounds.report.page.scales import Axis, decibel_axis, linear_axis, logarithmic_axis
from pvqbounds.report.tables import in_figures, verdict_text
from pvqbounds.results.allocation import Allocation
from pvqbounds.results.decibels import ENDLESS, rounded_down, rounded_up, sqnr_text
from pvqbounds.results.network import NetworkReport
from pvqbounds.storage.archive import replacing

__all__ = ["check_page_packages", "page_html", "write_page"]

LABELS = {
    "certified": "proved from the stored data, with rounding accounted for, whatever solver proposed it",
    "reported": "stated by a solver in floating point and not proved",
    "presumed": "on a grid, or for pruning, that is found from the weights of a file, which does not say it",
    "estimated": "from a sample of channels, with its 95 % confidence interval; never a bound",
    "expected": "a typical value on a fine, wide grid; never a bound",
}
"""What kinds of numbers there are, in words."""


def check_page_packages() -> None:
    """Find out before any work whether a page can be made.

    Raises
    ------
    InputError
        If Jinja2 is not installed.
    """
    _jinja()


def _jinja() -> Any:
    try:
        return import_module("jinja2")
    except ImportError as error:
        raise InputError("A page needs Jinja2; install it with: pip install 'pvqbounds[report]'.") from error


def write_page(
    network: NetworkReport,
    path: Path,
    frontier: Sequence[Allocation] = (),
    files: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write the page, whole or not at all.

    Parameters
    ----------
    frontier
        Allocations by rising budgets.
    files
        Tables that lie beside the page: what they hold, by their names.
    notes
        What a reader of the allocations must know.

    Raises
    ------
    InputError
        If Jinja2 is not installed.
    OutputError
        If it cannot be written.
    """
    text = page_html(network, frontier, files, notes)
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8", errors="backslashreplace")


def page_html(
    network: NetworkReport,
    frontier: Sequence[Allocation] = (),
    files: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The page as text; parameters as of :func:`write_page`."""
    jinja = _jinja()
    environment = jinja.Environment(
        loader=jinja.PackageLoader("pvqbounds.report.page"),
        autoescape=True,
        undefined=jinja.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "place": _place,
        "down": rounded_down,
        "up": rounded_up,
        "least": _least,
        "most": _most,
        "short": _short,
    }
    style, script = _part("page.css"), _part("page.js")
    intervals = intervals_of(network)
    text: str = environment.get_template("page.html").render(
        network=network,
        style=style,
        script=script,
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}",
        labels=LABELS,
        files=dict(files or {}),
        summary=summary_text(network, intervals),
        seconds=_duration(network),
        failures=_failures(network),
        **_interval_figures(intervals),
        **_duel_figures(duels_of(network)),
        wins=wins_of(network),
        **_gap_figures(gap_panels_of(intervals), len(network.layers)),
        **_frontier_figures(frontier, notes),
        verdicts=_verdicts(network),
        notes=_notes(network),
    )
    return text


def _part(name: str) -> str:
    return (resources.files("pvqbounds.report.page") / "templates" / name).read_text("utf-8")


def _hash(text: str) -> str:
    """What a content security policy calls an inline style or script: nothing else runs."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# ----------------------------------------------------------------------------------- sentences


def summary_text(network: NetworkReport, intervals: Sequence[Interval]) -> str:
    """What the page is about and what came out, in a few sentences."""
    weights = sum(entry.weights for entry in network.layers)
    texts = [
        f"{_count(len(network.layers), 'layer')} of {network.model} with {weights:,} weights, held to "
        f"{', '.join(network.formats)}: {network.done} of {network.planned} results stand"
        + (f", {network.failed} failed." if network.failed else ".")
    ]
    gaps = [i.gap for i in intervals if math.isfinite(i.gap)]
    if gaps:
        texts.append(
            f"Between the best weights found and what no weights exceed lie {statistics.median(gaps):.2f} dB "
            f"in the median, {max(gaps):.2f} dB at most."
        )
    wins = [loser for interval in intervals for loser in interval.beats]
    pairs = sum(
        len(entry.report.sides) * (len(entry.report.sides) - 1) // 2
        for entry in network.layers
        if entry.report is not None and entry.report.protocol == "full"
    )
    if pairs:
        held = {(i.layer, *sorted((i.format, other))) for i in intervals for other in i.holds}
        more = f"; in {len(held)} more one format allows every weight of the other" if held else ""
        texts.append(
            f"Of {_count(pairs, 'pair')} of formats on one layer {len(wins)} are decided with a proof{more}."
        )
    reported = sum(interval.lower_kind == "reported" for interval in intervals)
    if reported:
        texts.append(f"The upper ends of {reported} results are reported, not proved.")
    sampled = sum(interval.estimated is not None for interval in intervals)
    if sampled:
        texts.append(f"{sampled} results were solved on a sample of channels, and are estimated beside.")
    return " ".join(texts)


def _count(number: int, one: str) -> str:
    return f"{number} {one}{'s' * (number != 1)}"


def _duration(network: NetworkReport) -> str:
    seconds = sum(entry.report.seconds for entry in network.layers if entry.report is not None)
    return f"{seconds:.0f} s" if seconds < 120.0 else f"{seconds / 60.0:.0f} min"


def _failures(network: NetworkReport) -> list[tuple[str, str, str, str]]:
    """(layer, format, outcome, sentence) of what failed or means nothing."""
    return [
        (entry.name, form, outcome, text)
        for entry in network.layers
        for outcome, sides in (("failed", entry.failures), ("left out", entry.left_out))
        for form, text in sides.items()
    ]


def _verdicts(network: NetworkReport) -> list[tuple[str, str]]:
    return [(entry.name, verdict_text(entry.report)) for entry in network.layers if entry.report is not None]


def _notes(network: NetworkReport) -> list[str]:
    own = (note for entry in network.layers if entry.report is not None for note in entry.report.notes)
    return list(dict.fromkeys((*network.notes, *presumed_of(network), *own)))


# ------------------------------------------------------------------------------- figures on axes


def _interval_figures(intervals: Sequence[Interval]) -> dict[str, Any]:
    ends = [end for i in intervals for end in (i.lower, i.upper) if abs(end) < ENDLESS]
    axis = decibel_axis(ends, (mark.value for i in intervals for mark in i.marks))
    shapes = {mark.name: (mark, i.task) for i in intervals for mark in i.marks}
    return {"intervals": intervals, "axis": axis, "shapes": list(shapes.values())}


def _duel_figures(duels: Sequence[Duel]) -> dict[str, Any]:
    figures = []
    for duel in duels:
        ends = [e for box in duel.boxes for e in (*box.x, *box.y) if abs(e) < ENDLESS]
        figures.append((duel, linear_axis(ends, 0.05)))
    return {"duels": figures}


def _gap_figures(panels: Sequence[GapPanel], layers: int) -> dict[str, Any]:
    groups: dict[str, list[GapPanel]] = {}
    for panel in panels:
        groups.setdefault(panel.format, []).append(panel)
    figures = []
    for form, own in groups.items():
        finite = [bar.most for panel in own for bar in panel.bars if math.isfinite(bar.most)]
        least = [bar.least for panel in own for bar in panel.bars if math.isfinite(bar.least)]
        figures.append((form, own, Axis(0.0, max([*finite, *least, 0.1]))))
    return {"gaps": figures, "depths": max(1, layers)}


def _frontier_figures(frontier: Sequence[Allocation], notes: Sequence[str]) -> dict[str, Any]:
    steps = frontier_steps(frontier)
    figures: dict[str, Any] = {
        "frontier": [(own, allocation_text(own), _formats(own)) for own in frontier],
        "steps": steps,
        "assumptions": assumptions_text(),
        "allocation_notes": notes,
    }
    if steps:
        figures["budgets"] = linear_axis([steps[0].start, steps[-1].stop], 0.02)
        figures["errors"] = logarithmic_axis(e for step in steps for e in (step.error, step.error_lower))
    return figures


def _formats(allocation: Allocation) -> str:
    """How many layers have each format."""
    chosen = list(allocation.choice.values())
    return ", ".join(f"{form} ×{chosen.count(form)}" for form in dict.fromkeys(chosen))


# ----------------------------------------------------------------------------- for the templates


def _place(value: float, axis: Axis) -> float:
    """Percent on an axis, as short as is seen."""
    return round(axis.place(value), 3)


def _least(value: float) -> str:
    """Four figures, rounded down."""
    return in_figures(value, ROUND_FLOOR, 4)


def _most(value: float) -> str:
    """Four figures, rounded up."""
    return in_figures(value, ROUND_CEILING, 4)


def _short(interval: Interval) -> str:
    return sqnr_text(interval.lower, interval.upper, interval.status == "optimal").removesuffix(" dB")

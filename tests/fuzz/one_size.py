"""A layer in all formats of one size: each side against its truth, and what is said of pairs of them."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from pvqbounds.problems.formats.equal_size import EQUAL_SIZE
from pvqbounds.results.layer import LayerReport, Side
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.results_written import write_layer

from .case import Case
from .checks import check_bounds
from .families import draw
from .rational import budgets_of, truth_of

__all__ = ["check_file", "check_report", "joint_curve"]

MASKS = ("none", "none", "stored", "bitmap", "entropy")

MOST = 1000
"""Choices of values that are enumerated for one channel."""


def joint_curve(case: Case) -> None:
    """A small layer on any Gram, as ``pvqbounds layer --joint-curve`` bounds it."""
    try:
        import torch
    except ImportError:
        return case.count("without torch")
    from pvqbounds import nn

    rng = case.rng
    n, channels, bits = int(rng.choice([2, 3, 4, 4, 8])), int(rng.integers(1, 3)), int(rng.integers(2, 5))
    mask, drawn = MASKS[int(rng.integers(len(MASKS)))], draw(rng, n, one_step=True)
    rows = drawn.weight * rng.choice([-1.0, 1.0, 0.5], (channels, n))
    model = torch.nn.Linear(n, channels, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(rows))
    case.script = f"# bits {bits}, masks {mask}\nG = {drawn.gram.tolist()}\nW = {rows.tolist()}"
    case.step("a joint curve", 300.0)
    report: LayerReport | None = None
    with case.guarded("joint_curve"):
        names = nn.joint_curve(model, "", bits, mask)
        report = nn.layer_bounds(
            model, "", grams=drawn.gram, formats=names, mask_cost=mask, methods=[], time_limit=2.0
        )
    if report is None:
        return None
    case.count("solves", sum(len(side.slices) for side in report.sides))
    case.count("formats of one size", len(report.sides))
    check_report(case, report, f"int{bits}")
    check_file(case, report)
    return None


def check_report(case: Case, report: LayerReport, dense: str) -> None:
    """Each side holds its truth, all have one size, and no verdict is false."""
    script = case.script
    truths = {}
    for side in report.sides:
        least = [truth_of(own.problem, MOST) for own in side.slices]
        for own, truth in zip(side.slices, least, strict=True):
            check_bounds(case, own.problem, own.bounds, truth, f"joint curve/{side.form.task}")
        known = [truth for truth in least if truth is not None]
        truths[side.format] = sum(known, Fraction(0)) if len(known) == len(least) else None
    case.script = script
    size = report.side(dense).bits_per_weight
    for side in report.sides:
        if not abs(side.bits_per_weight - size) <= EQUAL_SIZE * max(side.bits_per_weight, size) * (1 + 1e-9):
            text = f"{side.format} has {side.bits_per_weight!r}, {dense} {size!r}"
            case.fault("a format of another size", "joint curve", text)
    case.count("formats that hold others", len(report.contains))
    for better, worse in (*report.verdict, *report.contains):
        one, two = truths[better], truths[worse]
        case.count("verdicts of a joint curve")
        if one is not None and two is not None and one > two:
            text = f"{better} ({float(one)!r}) before {worse} ({float(two)!r})"
            case.fault("a false verdict", "joint curve", text)
    check_larger(case, report.sides)


def check_larger(case: Case, sides: Sequence[Side]) -> None:
    """Weights that are re-fitted freely under as large a budget have no more error than any codes."""
    for free, coded in itertools.permutations(sides, 2):
        if free.form.task != "pruning" or not _holds(free, coded):
            continue
        case.count("sides that hold others")
        if free.lower_kind == "certified" and free.error_lower > coded.error_upper:
            text = f"{free.format} at least {free.error_lower!r}, {coded.format} {coded.error_upper!r}"
            case.fault("contradiction of a larger set", "joint curve", text)


def _holds(free: Side, coded: Side) -> bool:
    """Whether every support of one side's channels is one of the other's, all inputs in one group."""
    for own, other in zip(free.slices, coded.slices, strict=True):
        rule, inner = budgets_of(own.problem), budgets_of(other.problem)
        most = sum(inner.most) if inner.most and min(inner.group) >= 0 else other.problem.n
        if len(rule.most) != 1 or set(rule.group) != {0} or rule.most[0] < most:
            return False
    return True


def check_file(case: Case, report: LayerReport) -> None:
    """The layer is written and proved again."""
    case.step("a file of a layer", 120.0)
    with tempfile.TemporaryDirectory() as folder, case.guarded("verify_file", refusals=False):
        path = Path(folder) / "layer.json"
        write_layer(report, path)
        false = [f"{own.where}: {own.text}" for own in verify_file(path, time_limit=60.0) if not own.holds]
        case.count("files verified")
        if false:
            case.fault("an honest file is not accepted", "verify_file", "; ".join(false)[:400])

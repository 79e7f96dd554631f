"""Proof of a stored result from its own data: which claims hold, and which do not.

What is proved or evaluated again: every lower bound, from its certificate alone; every upper
one, from the codes or the weights; every simple method; and from these every status, label, sum,
SQNR and the verdict. What is taken from the file is what the claims are *about* (Gram matrices,
weights, scales, budgets) and its history (names, solvers, seconds, notes), which nothing in
the file can prove.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pvqbounds.clock import Clock
from pvqbounds.errors import ContradictionError, InputError, PvqError, shown
from pvqbounds.problems import AnyScaleLeastSquares, IntegerLeastSquares, SparseLeastSquares
from pvqbounds.relaxations.cases import CasesCertificate
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.relaxations.layer_dual import layer_dual_bound
from pvqbounds.results.curve import BudgetCurve
from pvqbounds.results.layer import LayerReport, SharedBudget, Side, SliceResult
from pvqbounds.solvers.native.pruning.certificate import CurveCertificate
from pvqbounds.solving.layer_curves import proved_together
from pvqbounds.solving.verification import ROUNDING, verify
from pvqbounds.storage.results_read import read_record

__all__ = ["Finding", "verify_file"]

LATER = ("dead_inputs", "notes", "dominates", "contains")
"""What earlier results do not say: its absence claims nothing."""

EXPECTED = ("expected", "expected_error")
"""A label, no bound: version 0.1.0 gave channels of zeros a share in it, so that it is not compared there."""
BREAKDOWN = (ArithmeticError, ValueError, np.linalg.LinAlgError)
"""What arithmetic raises at numbers that no honest result has; they prove nothing."""


@dataclass(frozen=True)
class Finding:
    """One claim of a file that was looked into."""

    where: str
    """Which number, or which problem: ``sides[0].per_channel[3]``."""
    holds: bool
    text: str
    """What was found, in words."""


def verify_file(
    path: str | Path,
    progress: Callable[[int, int], None] | None = None,
    *,
    time_limit: float = math.inf,
) -> list[Finding]:
    """Re-prove the result of :func:`~pvqbounds.storage.results_written.write_layer` or ``write_problem``.

    Parameters
    ----------
    path
        The JSON file; its arrays lie beside it.
    progress
        Called with the intervals proved and their number.
    time_limit
        Seconds for one proof; a search that takes longer proves nothing.

    Returns
    -------
    One finding for each interval, and one for each number that does not follow from the data.

    Raises
    ------
    InputError
        If the files are missing, damaged, of another kind, or do not belong together.
    """
    record = read_record(path)
    if isinstance(record.result, SliceResult):
        intervals = [("result", record.result)]
        findings = [*_whole_problem("result", record.result)]
    elif isinstance(record.result, BudgetCurve):
        intervals = [(f"budgets[{nnz}]", entry) for nnz, entry in enumerate(record.result.entries)]
        findings = [*_whole_curve(record.result)]
    else:
        sides = dict(zip(record.sides, record.result.sides, strict=True))
        intervals = [
            (f"{name}.per_channel[{i}]", result)
            for name, side in sides.items()
            for i, result in enumerate(side.slices)
        ]
        findings = [*_structure(record.result, sides)]
        for name, side in sides.items():
            findings += _shared_bound(name, side, time_limit)
            findings += _one_scale_bound(name, side, time_limit)
    for done, (where, result) in enumerate(intervals):
        if progress is not None:
            progress(done, len(intervals))
        findings.append(_interval(where, result, time_limit))
    stated = {name: value for name, value in record.document.items() if name != "arrays"}
    try:
        derived = record.derived
    except (*BREAKDOWN, MemoryError) as error:
        findings.append(Finding("the file", False, f"its sums cannot be taken ({error})"))
    except ContradictionError:  # an end of the error that no certificate proves, as the findings say
        findings.append(Finding("result.objective", False, "its lower end lies above that of the codes"))
    else:
        first_version = record.first and "dead_inputs" not in stated
        findings += [
            finding
            for finding in _differences(stated, derived, "")
            if not (first_version and any(part in EXPECTED for part in finding.where.split(".")))
        ]
    return findings


def _interval(where: str, result: SliceResult, time_limit: float) -> Finding:
    """Prove one interval from its certificate and its best weight."""
    bounds = result.bounds
    certified = bounds.lower_kind == "certified"
    if not bounds.error_lower <= bounds.error_upper:
        return Finding(where, False, "the lower end of the error lies above the upper one")
    try:
        outcome = verify(result.problem, bounds, time_limit=time_limit)
    except PvqError as error:
        return Finding(where, False, str(error))
    except MemoryError:
        return Finding(where, False, "its proof does not fit into memory")
    if not outcome.holds:
        return Finding(where, False, outcome.reason)
    if not math.isclose(outcome.error_upper, bounds.error_upper, rel_tol=ROUNDING):
        text = f"error_upper is {bounds.error_upper!r}, but the stored weights have {outcome.error_upper!r}"
        return Finding(where, False, text)
    return Finding(
        where, True, "proved" if certified else "upper end evaluated; lower end reported, not proved"
    )


def _shared_bound(name: str, side: Side, time_limit: float) -> Iterator[Finding]:
    """Prove the bound of one budget over the layer from the certificates of all entries."""
    if side.shared is None:
        return
    where, stated = f"{name}.error_lower", side.shared.error_lower
    problems = [s.problem for s in side.slices if isinstance(s.problem, SparseLeastSquares)]
    certificates = [s.bounds.certificate for s in side.slices]
    duals = [own for own in certificates if isinstance(own, DualCertificate | CasesCertificate)]
    curves = [own for own in certificates if isinstance(own, CurveCertificate)]
    if not len(problems) == max(len(duals), len(curves)) == len(side.slices):
        text = "a budget over the layer needs a perspective certificate of each entry, or a curve of each"
        yield Finding(where, False, text)
        return
    try:
        if duals:
            proved = layer_dual_bound(problems, duals, side.shared.nnz)
        else:
            proved = proved_together(problems, curves, side.shared.nnz, time_limit)
    except BREAKDOWN:
        proved = 0.0
    if not stated <= proved:
        yield Finding(where, False, f"the certificates prove {proved!r}, not {stated!r}")
    elif not stated <= side.error_upper:
        yield Finding(where, False, "the lower end of the error lies above the upper one")
    else:
        yield Finding(where, True, "proved")


def _whole_curve(curve: BudgetCurve) -> Iterator[Finding]:
    """Whether a curve is about one problem, and every budget of it in their order."""
    first = curve.entries[0].problem
    if len(curve.entries) != first.n + 1:
        yield Finding("budgets", False, f"{len(curve.entries)}, but {first.n} inputs have {first.n + 1}")
    for nnz, entry in enumerate(curve.entries):
        where, problem = f"budgets[{nnz}]", entry.problem
        yield from _whole_problem(where, entry)
        if problem.nnz != nnz:
            yield Finding(f"{where}.nnz", False, f"{problem.nnz}, but it is the budget {nnz}")
        numbers, others = problem.values.arrays, first.values.arrays
        alike = numbers.keys() == others.keys() and all(
            np.array_equal(numbers[name], others[name]) for name in numbers
        )
        alike &= problem.shared is first.shared and np.array_equal(problem.weight, first.weight)
        if not alike:
            yield Finding(where, False, "it is about another problem than the first")


def _one_scale_bound(name: str, side: Side, time_limit: float) -> Iterator[Finding]:
    """Prove the bound for every scale of a layer, and that its entries are at the scale found."""
    if side.one_scale is None:
        return
    where, stated = f"{name}.one_scale", side.one_scale
    problems = [s.problem for s in side.slices if isinstance(s.problem, IntegerLeastSquares)]
    if len(problems) < len(side.slices) or any((p.step != stated.scale).any() for p in problems):
        yield Finding(where, False, "the entries are not all at the scale that was found")
        return
    free = [AnyScaleLeastSquares(p.shared, p.weight, int(p.low[0]), int(p.high[0])) for p in problems]
    try:
        proved = 0.0 if stated.certificate is None else stated.certificate.prove(free, Clock(time_limit))
    except BREAKDOWN:
        proved = 0.0
    if not stated.error_lower <= proved:
        yield Finding(where, False, f"the certificate proves {proved!r}, not {stated.error_lower!r}")
    elif not stated.error_lower <= side.error_upper:
        yield Finding(where, False, "the lower end of the error lies above the upper one")
    else:
        yield Finding(where, True, "proved")


def _whole_problem(where: str, result: SliceResult) -> Iterator[Finding]:
    """Whether the result of a problem alone is about all of its inputs."""
    if (result.channel, result.inputs) != (0, (0, result.problem.n)):
        start, stop = result.inputs
        text = f"{start}..{stop} of channel {result.channel} cannot be, for {result.problem.n} inputs alone"
        yield Finding(f"{where}.inputs", False, text)


def _structure(report: LayerReport, sides: Mapping[str, Side]) -> Iterator[Finding]:
    """Whether the problems are those of one layer in the formats that the file states."""
    channels = {result.channel for result in report.sides[0].slices}
    looked_at, in_all = report.channels
    if len(channels) != looked_at or not all(0 <= channel < in_all for channel in channels):
        text = f"{looked_at} of {in_all}, but the entries are about {len(channels)} of them"
        yield Finding("channels", False, text)
    for where, side in sides.items():
        if side.shared is not None:
            yield from _shared_budget_faults(report, where, side, side.shared)
        for i, result in enumerate(side.slices):
            faults = [*_place_faults(report, result), *_format_faults(side, result)]
            for name, text in [*faults, *_infeasible_methods(side, i)]:
                yield Finding(f"{where}.per_channel[{i}].{name}", False, text)


def _shared_budget_faults(
    report: LayerReport, where: str, side: Side, shared: SharedBudget
) -> Iterator[Finding]:
    """Whether the entries spend the layer's budget, and the budget is that of the density."""
    problems = [s.problem for s in side.slices if isinstance(s.problem, SparseLeastSquares)]
    spent = sum(p.nnz or 0 for p in problems)
    if report.protocol != "full" or any(p.nnz is None for p in problems):
        yield Finding(f"{where}.budget", False, "chunks and N:M patterns have no budget over the layer")
    if spent > shared.nnz:
        yield Finding(f"{where}.nnz", False, f"the entries keep {spent}, more than {shared.nnz}")
    allowed = side.form.layer_budget(sum(p.n for p in problems))
    if allowed is None:
        yield Finding(f"{where}.budget", False, f"the format {side.format} has no budget over the layer")
    elif shared.nnz != allowed:
        text = f"{shared.nnz}, but a density of {side.form.density} allows {allowed}"
        yield Finding(f"{where}.nnz", False, text)
    for name, points in side.methods.items():
        kept = sum(int(np.count_nonzero(point)) for point in points)
        if kept > shared.nnz:
            yield Finding(f"{where}.methods.{name}", False, f"keeps {kept}, more than {shared.nnz}")


def _place_faults(report: LayerReport, result: SliceResult) -> Iterator[tuple[str, str]]:
    """Whether an entry is about inputs that the layer has."""
    problem, (start, stop) = result.problem, result.inputs
    whole = (start, stop) == (0, report.inputs)
    if (
        stop - start != problem.n
        or not (whole or report.protocol == "chunked")
        or stop > report.inputs
        or start < 0
    ):
        yield (
            "inputs",
            f"{start}..{stop} cannot be, for {problem.n} of {report.inputs} inputs ({report.protocol})",
        )


def _format_faults(side: Side, result: SliceResult) -> Iterator[tuple[str, str]]:
    """Whether the problem of an entry is one of the side's format; a budget of the layer is its own."""
    fault = side.form.fault(result.problem)
    if fault is not None and not (side.shared is not None and fault[0] == "nnz"):
        yield fault


def _infeasible_methods(side: Side, i: int) -> Iterator[tuple[str, str]]:
    """The simple methods whose weights are not allowed in entry `i`."""
    problem = side.slices[i].problem
    if side.shared is not None:
        return  # the methods spend the layer's budget in their own ways
    for name, points in side.methods.items():
        try:
            problem.checked(points[i])
        except InputError as error:
            yield f"methods.{name}", str(error)


def _differences(stated: Any, derived: Any, where: str) -> Iterator[Finding]:
    """Each leaf of the document that is not what follows from the data."""
    if isinstance(stated, dict) and isinstance(derived, dict):
        for name in dict.fromkeys([*derived, *stated]):
            below = f"{where}.{_shown_name(name)}" if where else _shown_name(name)
            if name not in derived:
                yield Finding(below, False, "no result has this")
            elif name not in stated and below in LATER:
                continue
            elif name not in stated:
                yield Finding(below, False, "is missing")
            else:
                yield from _differences(stated[name], derived[name], below)
    elif isinstance(stated, list) and isinstance(derived, list) and len(stated) == len(derived):
        for i, (said, found) in enumerate(zip(stated, derived, strict=True)):
            yield from _differences(said, found, f"{where}[{i}]")
    elif not _same(stated, derived, "sqnr" in where):
        text = f"the file says {shown(stated)}, but {shown(derived)} follows from its data"
        yield Finding(where, False, text)


def _shown_name(name: str) -> str:
    """A name of the document, if it is one of ours as it is."""
    return name if len(name) < 60 and name.replace("+", "_").replace("-", "_").isidentifier() else shown(name)


def _same(stated: Any, derived: Any, decibel: bool) -> bool:
    if isinstance(derived, float) and type(stated) in (int, float):
        # a difference in dB is a ratio already, so it is measured as it is
        return math.isclose(stated, derived, rel_tol=ROUNDING, abs_tol=ROUNDING if decibel else 0.0)
    return type(stated) is type(derived) and bool(stated == derived)

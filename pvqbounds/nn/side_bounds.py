"""What is found for one side of a layer: the channels each by themselves, or bounded together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from pvqbounds.arithmetic.enclosures import up
from pvqbounds.errors import ContradictionError
from pvqbounds.methods import proposals
from pvqbounds.methods.magnitude import shared_by_magnitude
from pvqbounds.nn.layer_plan import LayerPlan
from pvqbounds.nn.posed import Points, Posed
from pvqbounds.nn.sides import results_of
from pvqbounds.problems import AnyScaleLeastSquares, Problem, SparseLeastSquares, all_of
from pvqbounds.problems.formats import Format
from pvqbounds.results.bounds import Bounds
from pvqbounds.results.compressed import AS_STORED
from pvqbounds.results.layer import SharedBudget, SharedScale, Side, SliceResult
from pvqbounds.solving.candidates import at_least_methods, at_least_methods_together, with_point
from pvqbounds.solving.channels import solve_all
from pvqbounds.solving.execution import Execution
from pvqbounds.solving.kinds import kind_of
from pvqbounds.solving.layer_budget import solve_together
from pvqbounds.solving.one_scale import bound_one_scale
from pvqbounds.solving.options import SolveOptions

__all__ = ["bounded_side"]


def bounded_side(
    plan: LayerPlan, posed: Posed, number: int, shape: tuple[int, int], execution: Execution
) -> Side:
    """The side of this number, of a layer with so many channels and inputs."""
    found = _found(plan, posed, number, execution)
    bounds = at_least_methods(found.problems, found.bounds, posed.starts[number])
    results = results_of(posed.slices, found.problems, bounds)
    if number < len(plan.own_forms):
        return _side(plan.own_forms[number], results, found, shape, plan.mask)
    file = plan.stored[number - len(plan.own_forms)]
    mixed, own = file.stored.mixed, found.points[AS_STORED]
    results = tuple(  # what was found on values of several steps may be no weights of the format
        replace(r, bounds=with_point(r.problem, r.bounds, own[i])) if r.channel in mixed else r
        for i, r in enumerate(results)
    )
    return Side(file.name, file.stored.bits_per_weight, results, found.points, compressed=file.origin)


class SideFound(NamedTuple):
    """What was found for one side."""

    problems: Sequence[Problem]
    bounds: list[Bounds]
    points: Points
    """What each method proposes, by its name."""
    shared: SharedBudget | None = None
    one_scale: SharedScale | None = None


def _found(plan: LayerPlan, posed: Posed, number: int, execution: Execution) -> SideFound:
    """What is found for a side."""
    form, problems, methods = plan.forms[number], posed.problems[number], posed.methods[number]
    own = plan.solve_options(form), execution
    if form.one_scale:
        return _at_one_scale(problems, methods, *own)
    nnz = form.layer_budget(sum(p.n for p in problems)) if plan.one_budget else None
    if nnz is None:
        return _each_by_itself(problems, methods, *own, posed.given[number])
    return _under_one_budget(problems, nnz, methods, *own)


def _side(
    form: Format, results: tuple[SliceResult, ...], found: SideFound, shape: tuple[int, int], mask: str
) -> Side:
    """The side of a format, of a layer of this shape whose masks are counted so."""
    size = form.size(found.problems, shape, mask, one_budget=found.shared is not None)
    counted = None if form.support is None else mask
    side = Side(form.name, size, results, found.points, found.shared, mask_cost=counted)
    return replace(side, one_scale=found.one_scale)


def _each_by_itself(
    problems: Sequence[Problem],
    methods: Sequence[str],
    asked: SolveOptions,
    execution: Execution,
    given: Points,
) -> SideFound:
    """The bounds of problems, what is given of them, and what the methods make of them."""
    own = execution if kind_of(problems[0]).batched else replace(execution, device="cpu")
    bounds = solve_all(problems, asked, own)
    points = {**given, **proposals(methods, problems, asked.seed)}
    return SideFound(problems, at_least_methods(problems, bounds, points), points)


def _at_one_scale(
    problems: Sequence[Problem], methods: Sequence[str], asked: SolveOptions, execution: Execution
) -> SideFound:
    """The channels at the best scale found for all of them, and the bound for every scale."""
    free = all_of(AnyScaleLeastSquares, problems)
    if execution.total_time is not None:
        each = execution.total_time * execution.jobs / len(free)
        asked = replace(asked, time_limit=min(asked.time_limit, each))
    found = bound_one_scale(free, asked, Execution(execution.jobs, execution.device))
    execution.report(len(free))
    points = proposals(methods, found.problems, asked.seed)
    bounds = at_least_methods(found.problems, found.bounds, points)
    total = up(math.fsum(own.error_upper for own in bounds))
    if found.error_lower > total:
        weights = [own.weight for own in bounds]
        raise ContradictionError(free, found.certificate, weights, found.error_lower, total)
    shared = SharedScale(found.scale, found.error_lower, found.certificate)
    return SideFound(found.problems, bounds, points, one_scale=shared)


def _under_one_budget(
    problems: Sequence[Problem], nnz: int, methods: Sequence[str], asked: SolveOptions, execution: Execution
) -> SideFound:
    """The channels with what the layer's budget leaves each, their bounds, and what methods make of it."""
    sparse = all_of(SparseLeastSquares, problems)
    if execution.total_time is not None:
        each = execution.total_time * execution.jobs / len(sparse)
        asked = replace(asked, time_limit=min(asked.time_limit, each))
    allotted, bounds, error_lower = solve_together(sparse, nnz, asked, execution)
    spent = shared_by_magnitude(sparse, nnz)
    points = proposals(methods, spent, asked.seed)
    allotted, bounds = at_least_methods_together(allotted, bounds, error_lower, spent, points)
    return SideFound(allotted, bounds, points, SharedBudget(nnz, error_lower))

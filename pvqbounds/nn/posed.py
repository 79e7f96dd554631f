"""The problems of all sides of a layer, with what is known of them before any is solved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.errors import InputError
from pvqbounds.methods import asked_for, proposing
from pvqbounds.nn.grams import LayerGrams
from pvqbounds.nn.layer_plan import LayerPlan
from pvqbounds.nn.layers import Layer
from pvqbounds.nn.sides import problems_of, slices_of, with_searched_scales
from pvqbounds.problems import Problem
from pvqbounds.problems.chunks import Slice
from pvqbounds.results.compressed import AS_STORED
from pvqbounds.solving.options import SolveOptions

__all__ = ["Points", "Posed", "pose"]

Points = Mapping[str, tuple[NDArray[Any], ...]]
"""Codes or weights of each problem of a side, by the name of what made them."""


class Posed(NamedTuple):
    """The problems of all sides."""

    slices: list[Slice]
    problems: list[list[Problem]]
    """Of each side."""
    starts: list[Points]
    """What the search for scales found, of each side."""
    given: list[Points]
    """The weights of files, of each side."""
    methods: list[list[str]]
    """The listed methods that propose for these problems, of each side."""


def pose(plan: LayerPlan, target: Layer, captured: LayerGrams, solve: SolveOptions) -> Posed:
    """The problems of each side, with the scales that are searched for.

    Raises
    ------
    InputError
        If a method that is named proposes for none of them.
    """
    slices = list(slices_of(target, captured.grams, plan.channels, plan.ranges))
    forms = plan.own_forms
    problems = [problems_of(form, target, captured.grams, slices, plan.scales) for form in forms]
    starts: list[Points] = [{} for _ in plan.forms]
    if plan.search_scales:
        time_each = Clock(solve.time_limit * len(slices) * len(forms), solve.cancelled)
        for number, form in enumerate(forms):
            at = form, target, captured.grams, slices, problems[number]
            problems[number], codes = with_searched_scales(*at, time_each)
            starts[number] = {"searched": tuple(codes)} if codes else {}
    problems += [side.problems(slices) for side in plan.stored]
    given: list[Points] = [{} for _ in forms]
    given += [{AS_STORED: side.points(slices)} for side in plan.stored]
    fitting = [proposing(own, posed) for own, posed in zip(plan.methods, problems, strict=True)]
    _refuse_unused(plan.named_methods, fitting)
    for number, side in enumerate(plan.stored, start=len(forms)):
        if side.mixes(plan.channels):  # what a method proposes may be no weights of the format
            fitting[number] = []
    return Posed(slices, problems, starts, given, fitting)


def _refuse_unused(methods: Sequence[str] | None, fitting: Sequence[Sequence[str]]) -> None:
    """Refuse a method that is named, and proposes for problems of the task but not for these."""
    for name in asked_for(methods):
        if not any(name in names for names in fitting):
            raise InputError(
                f"The method {name} proposes nothing for these formats; leave it out, or add one like int4."
            )

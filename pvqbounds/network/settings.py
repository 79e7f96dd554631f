"""What is asked of every unit of a network, validated once and kept with its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from pvqbounds.errors import InputError, SolverError, checked_flags, shown
from pvqbounds.methods import asked_for, get
from pvqbounds.problems.formats import Format
from pvqbounds.problems.formats.sparsity import USUAL_MASK, checked_mask
from pvqbounds.problems.grids import checked_range_method
from pvqbounds.problems.validation import whole_number
from pvqbounds.results.sampling import SMALLEST_SAMPLE
from pvqbounds.solving.choice import solver_for_side
from pvqbounds.solving.kinds import ALL_KINDS, kind_for
from pvqbounds.solving.options import SolveOptions

__all__ = ["NetworkKeywords", "NetworkSettings", "checked_formats"]

LARGEST_SAMPLE = 2**31

SOLVE_SETTINGS = (
    "solver", "method", "relaxation", "time_limit", "tolerance", "threads", "seed", "solver_options",
)  # fmt: skip
"""Fields of :class:`SolveOptions` that results depend on."""


class NetworkKeywords(TypedDict, total=False):
    """The keywords of :func:`pvqbounds.nn.network_bounds` that are fields of other objects.

    They are those of :class:`NetworkSettings` behind its first two, and of what a network takes of
    :class:`~pvqbounds.solving.options.SolveOptions`.
    """

    solver: str
    method: str
    relaxation: str | None
    time_limit: float
    tolerance: float | None
    threads: int
    seed: int
    solver_options: Mapping[str, Any] | None
    range_method: str
    per_channel: bool
    mask_cost: str


@dataclass(frozen=True)
class NetworkSettings:
    """The options of a network that its results depend on; each is that of a layer unless it says otherwise.

    Raises
    ------
    InputError
        If a value cannot be used.
    """

    methods: tuple[str, ...] | None = None
    sample: int | None = None
    """Channels of each layer that are bounded tightly, the others cheaply; None for all of them."""
    range_method: str = "mse"
    per_channel: bool = False
    mask_cost: str = USUAL_MASK
    solve: SolveOptions = field(default_factory=SolveOptions)

    def __post_init__(self) -> None:
        asked_for(self.methods)
        checked_flags(per_channel=self.per_channel)
        checked_range_method(self.range_method)
        checked_mask(self.mask_cost)
        if self.sample is not None:
            sample = whole_number(self.sample, "The sample of channels", SMALLEST_SAMPLE, LARGEST_SAMPLE)
            object.__setattr__(self, "sample", sample)
            if self.solve.relaxation is not None or self.solve.method == "exact":
                raise InputError(
                    "A sample is bounded beside cheap bounds of all channels, which are relaxations of their "
                    "own; leave out relaxation and method = exact, or the sample."
                )

    def document(self) -> dict[str, Any]:
        """Its values by the names of options, as a store keeps them."""
        own = {name: getattr(self, name) for name in ("sample", "range_method", "per_channel", "mask_cost")}
        solve = {name: getattr(self.solve, name) for name in SOLVE_SETTINGS}
        solve["solver_options"] = dict(self.solve.solver_options or {})
        return {"methods": None if self.methods is None else list(self.methods)} | solve | own


def checked_formats(
    settings: NetworkSettings, formats: Sequence[Format], largest: int, *, others: bool
) -> None:
    """Find out before any work whether what is asked can be had for the formats.

    Parameters
    ----------
    largest
        Fan-in of the widest layer.
    others
        Whether there are compressed weights besides, whose formats are not known yet.

    Raises
    ------
    InputError
        If a method or the relaxation is for none of them, or channels of one are bounded together.
    SolverError
        If the solver is absent, or can do none of them.
    """
    kinds = [kind_for(form.task, form.has_steps, form.any_scale) for form in formats]
    together = [form.name for form in formats if form.one_scale]
    if together:
        raise InputError(
            f"{together[0]} bounds all channels of a layer together, which a network does not: take "
            f"{together[0].replace(':tensor', '')}, or the layer by itself."
        )
    for name in asked_for(settings.methods):
        tasks = get(name).tasks
        if not others and not any(form.task in tasks for form in formats):
            raise InputError(f"The method {name} is for {' or '.join(tasks)}, which no format asks for.")
    asked = settings.solve
    relaxation = asked.relaxation
    if relaxation is not None and not any(k.knows(relaxation) for k in (ALL_KINDS if others else kinds)):
        raise InputError(f"The relaxation {shown(relaxation)} is for none of these formats; leave it out.")
    chosen = [
        solver_for_side(asked.solver, asked.method, kind, largest, asked.solver_options, asked.time_limit)
        for kind in kinds
    ]
    if chosen and asked.solver not in chosen and not others:
        raise SolverError(
            f"{asked.solver} can do none of these formats; leave it out, or add one that it can."
        )

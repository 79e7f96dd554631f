"""What a layer is to be bounded for, as it was asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pvqbounds.errors import checked_flags
from pvqbounds.nn.compressed import CompressedFiles
from pvqbounds.solving.options import SolveKeywords

__all__ = ["LayerKeywords", "LayerOptions"]


@dataclass(frozen=True)
class LayerOptions:
    """Options of :func:`pvqbounds.nn.layer_bounds` that say what is to be bounded, explained there.

    Whether they can be used is known when the layer is (:func:`~pvqbounds.nn.layer_plan.plan_of_layer`).
    """

    formats: Sequence[str] | None = None
    bits: int | None = None
    density: float | None = None
    pattern: tuple[int, int] | None = None
    compressed: CompressedFiles | None = None
    error_log: str | Path | None = None
    budget: str = "channel"
    mask_cost: str | None = None
    opt_dim: int | None = None
    out_channels: int | Sequence[int] | None = None
    range_method: str = "mse"
    per_channel: bool = False
    any_scale: bool = False
    search_scales: bool = False
    scales: float | Sequence[float] | None = None
    methods: Sequence[str] | None = None

    def __post_init__(self) -> None:
        checked_flags(
            per_channel=self.per_channel, any_scale=self.any_scale, search_scales=self.search_scales
        )


class LayerKeywords(SolveKeywords, total=False):
    """The keywords of :func:`pvqbounds.nn.layer_bounds` that are fields of other objects.

    They are those of :class:`LayerOptions`, of :class:`~pvqbounds.solving.options.SolveOptions` and of
    :class:`~pvqbounds.solving.execution.Execution`.
    """

    formats: Sequence[str] | None
    bits: int | None
    density: float | None
    pattern: tuple[int, int] | None
    compressed: CompressedFiles | None
    error_log: str | Path | None
    budget: str
    mask_cost: str | None
    opt_dim: int | None
    out_channels: int | Sequence[int] | None
    range_method: str
    per_channel: bool
    any_scale: bool
    search_scales: bool
    scales: float | Sequence[float] | None
    methods: Sequence[str] | None
    solver: str
    method: str
    relaxation: str | None
    jobs: int
    device: str
    total_time: float | None

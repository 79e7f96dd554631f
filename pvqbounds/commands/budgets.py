"""Options that say what is allowed of one problem, where its file does not; shared by commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pvqbounds.commands.console import pattern_of

if TYPE_CHECKING:
    from pvqbounds.storage.problem_files import Budget

__all__ = ["NnzOption", "OneFormatOption", "ProblemBitsOption", "ScaleOption", "budget_of"]

OneFormatOption = Annotated[
    str | None,
    typer.Option("--format", metavar="NAME", help="A format by name, such as nf4 or 2:4+int4:g32."),
]
ProblemBitsOption = Annotated[int | None, typer.Option("--bits", help="Quantize to so many bits, 2 to 16.")]
ScaleOption = Annotated[
    float | None, typer.Option(help="Step of the grid; found from the weights if left out.")
]
NnzOption = Annotated[int | None, typer.Option(help="How many weights to keep.")]


def budget_of(
    form: str | None,
    bits: int | None,
    scale: float | None,
    range_method: str,
    density: float | None,
    nnz: int | None,
    pattern: str | None,
    *,
    every: bool = False,
) -> Budget:
    """What these options allow.

    Raises
    ------
    InputError
        If the pattern or the range method is none.
    """
    from pvqbounds.problems.grids import checked_range_method
    from pvqbounds.storage.problem_files import Budget

    method = checked_range_method(range_method)
    return Budget(bits, scale, method, nnz, density, pattern_of(pattern), form, every)

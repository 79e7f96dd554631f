"""``pvqbounds export``: a network's best weights as a checkpoint, or a problem for other solvers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pvqbounds.commands.budgets import NnzOption, ProblemBitsOption, ScaleOption, budget_of
from pvqbounds.commands.console import (
    DensityOption,
    PatternOption,
    RangeOption,
    ReportOption,
    check_report_path,
)
from pvqbounds.commands.exported_problem import export_problem
from pvqbounds.commands.exported_weights import Weights, export_weights_of
from pvqbounds.commands.inputs import (
    DataOption,
    LeaveOutOption,
    MaxTokensOption,
    ModelOption,
    SamplesOption,
    TokenizerOption,
    WeightsOption,
)
from pvqbounds.errors import InputError, nearest_name, shown

__all__ = ["export"]

MAX_TOKENS = 256
"""Tokens of a piece of text unless told: texts are for a store alone."""

EPILOG = (
    "Examples: [bold]pvqbounds export runs/x best.safetensors --format int4:g128 --model FOLDER[/bold]   |   "
    "[bold]pvqbounds export runs/x best/ --form compressed-tensors --bits-per-weight 4[/bold]   |   "
    "[bold]pvqbounds export problem.npz problem.lp --format int4[/bold]   |   "
    "[bold]pvqbounds export problem.npz relaxation.cbf --format 2:4[/bold]"
)


def export(
    source: Annotated[
        Path,
        typer.Argument(
            help="What --store of `pvqbounds network` names; or a problem as `pvqbounds solve` takes it: "
            ".npz, .mat, .sparse, .mc.",
            metavar="SOURCE",
            show_default=False,
        ),
    ],
    file: Annotated[
        Path,
        typer.Argument(
            help="Of a store a .safetensors file, or a folder for compressed-tensors; of a problem .mps or "
            ".lp (integer program), .cbf or .dat-s (relaxation), .qubo, .npz.",
            metavar="FILE",
            show_default=False,
        ),
    ],
    form: Annotated[
        str | None,
        typer.Option(
            help="dense (as the model has its weights), compressed-tensors (packed where it can), npz, mps, "
            "lp, cbf, sdpa or qubo; by default what FILE ends in."
        ),
    ] = None,
    chosen: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="The format of all layers, or of the problem."),
    ] = None,
    model_option: ModelOption = None,
    weights: WeightsOption = None,
    bits_per_weight: Annotated[
        float | None,
        typer.Option(help="In place of --format: the allocation for so many bits a weight."),
    ] = None,
    leave_out: LeaveOutOption = None,
    correct_bias: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="Calibration data, as --data of `pvqbounds network`: the mean error of a layer's output on "
            "them is taken off its bias, or off the batch normalisation behind it.",
        ),
    ] = None,
    data: DataOption = None,
    tokenizer: TokenizerOption = None,
    max_tokens: MaxTokensOption = MAX_TOKENS,
    samples: SamplesOption = None,
    bits: ProblemBitsOption = None,
    scale: ScaleOption = None,
    range_method: RangeOption = "mse",
    density: DensityOption = None,
    nnz: NnzOption = None,
    pattern: PatternOption = None,
    json_path: ReportOption = None,
) -> None:
    """Write a network's best weights as a checkpoint, or one problem for other solvers."""
    of_weights = {
        "--model": model_option,
        "--weights": weights,
        "--bits-per-weight": bits_per_weight,
        "--leave-out": leave_out or None,
        "--correct-bias": correct_bias,
        "--data": data,
        "--tokenizer": tokenizer,
        "--samples": samples,
        "--max-tokens": max_tokens if max_tokens != MAX_TOKENS else None,
    }
    of_problem = {
        "--bits": bits,
        "--scale": scale,
        "--range": range_method if range_method != "mse" else None,
        "--density": density,
        "--nnz": nnz,
        "--pattern": pattern,
    }
    layout = _form(file, form)
    if json_path is not None:
        check_report_path(json_path, source, file)
    if _is_problem(source):
        _check(source, layout, of_weights, weights=False)
        budget = budget_of(chosen, bits, scale, range_method, density, nnz, pattern)
        export_problem(source, file, layout, budget, json_path)
        return
    _check(source, layout, of_problem, weights=True)
    asked = Weights(
        model=model_option,
        weights=weights,
        format=chosen,
        bits_per_weight=bits_per_weight,
        leave_out=tuple(leave_out or ()),
        correct_bias=correct_bias,
        data=data,
        tokenizer=tokenizer,
        max_tokens=max_tokens,
        samples=samples,
    )
    export_weights_of(source, file, layout, asked, json_path)


def _is_problem(source: Path) -> bool:
    """Whether a source is a problem's file; stores are folders.

    Raises
    ------
    InputError
        If it is a file of another kind.
    """
    from pvqbounds.storage.problem_files import PROBLEM_SUFFIXES
    from pvqbounds.storage.quadratic_files import suffix_of

    if source.is_dir() or not suffix_of(source):
        return False
    if suffix_of(source) not in PROBLEM_SUFFIXES:
        raise InputError(
            f"{source} is neither the folder of a store nor a problem as {', '.join(PROBLEM_SUFFIXES)}."
        )
    return True


def _form(file: Path, name: str | None) -> str:
    """The form of that name, or the one that the file's name ends in."""
    from pvqbounds.network.forms import WEIGHT_FORMS
    from pvqbounds.storage.problem_forms import PROBLEM_FORMS

    suffixes = WEIGHT_FORMS | {own.name: own.suffixes for own in PROBLEM_FORMS.values()}
    if name in suffixes:
        return name
    ending = "" if file.is_dir() else file.suffix.lower()
    fitting = [own for own, ends in suffixes.items() if ending in ends]
    if name is None and fitting:
        return fitting[0]
    what = f"to a file with the name {file}"
    if name is not None:
        near = nearest_name(name, suffixes)
        what = f"as {shown(name)}" + ("" if near is None else f"; did you mean {near}?")
    raise InputError(
        f"Weights are exported as dense (.safetensors) or compressed-tensors (a folder) and problems as "
        f"{', '.join(PROBLEM_FORMS)}, not {what}" + ("" if what.endswith("?") else ".")
    )


def _check(source: Path, form: str, others: dict[str, Any], *, weights: bool) -> None:
    """Refuse a form, or options, of the other kind of source."""
    from pvqbounds.network.forms import WEIGHT_FORMS

    kind, other = ("a store of a network", "a problem") if weights else ("a problem", "weights")
    if (form in WEIGHT_FORMS) != weights:
        if not source.exists():
            raise InputError(f"There is no file and no folder {source}.")
        raise InputError(f"{source} is {kind}, and the form {form} is for {other}; give FILE another ending.")
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise InputError(f"{source} is {kind}, and {given[0]} is for {other}; leave it out.")

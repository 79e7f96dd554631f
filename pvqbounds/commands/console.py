"""What the commands share: options, the progress bar, tables on the terminal, JSON files."""

from __future__ import annotations

import codecs
import io
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from typer.core import TyperGroup

from pvqbounds.errors import InputError, OutputError, shown

__all__ = [
    "BitsOption",
    "Commands",
    "CompressedOption",
    "DensityOption",
    "FormatOption",
    "MaskOption",
    "MethodOption",
    "MethodsOption",
    "PatternOption",
    "ProblemRelaxationOption",
    "RangeOption",
    "RelaxationOption",
    "ReportOption",
    "ResultOption",
    "SeedOption",
    "SolverOption",
    "SolverOptions",
    "ThreadsOption",
    "TimeLimitOption",
    "ToleranceOption",
    "VerboseOption",
    "check_different",
    "check_report_path",
    "check_sizes",
    "check_torch",
    "cores",
    "methods_of",
    "option_value",
    "options_by_solver",
    "pattern_of",
    "printing_anything",
    "progress_bar",
    "show",
    "solver_options_of",
]

BAR_AFTER = 1.0
"""Seconds of work after which a progress bar is shown."""

# ------------------------------------------------------------------ options of several commands

SolverOption = Annotated[str, typer.Option(help="Backend; `pvqbounds solvers` lists them.")]
MethodOption = Annotated[
    str,
    typer.Option(help="exact (search), relax (relaxation and rounding) or auto (exact where it will end)."),
]
RELAXATIONS = (
    "hybrid, box-hull (all but pruning), splits (steps and levels), park-boyd (uniform steps), directions, "
    "perspective (pruning)"
)
ProblemRelaxationOption = Annotated[str | None, typer.Option("--relaxation", help=f"{RELAXATIONS}.")]
RelaxationOption = Annotated[
    str | None,
    typer.Option(help=f"{RELAXATIONS}, shared (multipliers of all channels of a layer together)."),
]
TimeLimitOption = Annotated[float, typer.Option(help="Seconds for one problem; then the interval so far.")]
ThreadsOption = Annotated[int, typer.Option(help="Threads of the backend, for each problem.")]
ToleranceOption = Annotated[
    float | None, typer.Option(help="Relative accuracy asked of the backend; its own if left out.")
]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Let the backend print its log.")]
SolverOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--solver-option", metavar="NAME=VALUE", help="An option of the backend, by its own name; repeatable."
    ),
]
SeedOption = Annotated[int, typer.Option(help="Seed of everything random.")]
FormatOption = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help="A format: int4, int4:g128, nf4, nvfp4, a density like 25%, a pattern like 2:4, or both like "
        "2:4+int4; once for each, in place of --bits, --density and --pattern.",
    ),
]
CompressedOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--compressed",
        metavar="FILE|DIR",
        help="Somebody's compressed weights of the model (safetensors, compressed-tensors, GPTQ, AWQ, "
        "bitsandbytes, GGUF, state dict), bounded on the values that the file allows; once for each.",
    ),
]
MethodsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--methods",
        metavar="NAME,...",
        help="Methods to list beside the bounds, such as rtn,gptq:act-order; repeatable, all for every "
        "one, none for none.",
    ),
]
BitsOption = Annotated[int | None, typer.Option(help="Bits a weight, 2 to 16; 4 if left out.")]
DensityOption = Annotated[float | None, typer.Option(help="Fraction of the weights to keep, in (0, 1].")]
PatternOption = Annotated[
    str | None,
    typer.Option(
        metavar="N:M", help="Keep at most N of every M consecutive weights; of a layer, input channels."
    ),
]
RangeOption = Annotated[str, typer.Option("--range", help="How the scale is found: mse or minmax.")]
MaskOption = Annotated[
    str, typer.Option(help="How sizes count masks: stored (as the layout has them), bitmap, entropy, none.")
]
ResultOption = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write the result to FILE, its arrays to an .npz beside it."),
]
ReportOption = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write this to FILE too.")]

# ------------------------------------------------------------------------------------- commands


NAMING = (
    *("--data", "--error-log", "--json", "--layer", "--model"),
    *("--out", "--parquet", "--plot", "--preset", "--table", "--weights"),
)
"""Options that name something, which would be lost if the name that follows it replaced it."""


class Commands(TyperGroup):
    """Commands that refuse a second name where only the last would count: a layer, a file.

    Any other option given again replaces the one before, as everywhere.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command, and look through its arguments before it does."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and not isinstance(command, TyperGroup):
            inner = typer.Context(command, info_name=name, parent=ctx)
            _, _, order = command.make_parser(inner).parse_args(list(rest))
            for parameter, count in Counter(order).items():
                named = [option for option in parameter.opts if option in NAMING]
                if count > 1 and named and not getattr(parameter, "multiple", False):
                    raise InputError(f"{named[0]} is given {count} times, but takes one value; give it once.")
        return name, command, rest


# ------------------------------------------------------------------------------------ functions


def pattern_of(text: str | None) -> tuple[int, int] | None:
    """(N, M) of a text like "2:4".

    Raises
    ------
    InputError
        If it is anything else.
    """
    if text is None:
        return None
    kept, colon, size = text.partition(":")
    if not (colon and kept.isdecimal() and size.isdecimal()):
        raise InputError(f"The pattern must be two whole numbers like 2:4, not {shown(text)}.")
    return int(kept), int(size)


def solver_options_of(texts: Sequence[str] | None) -> dict[str, Any]:
    """Options by name of texts like "MIPGap=1e-4".

    Raises
    ------
    InputError
        If one has no name or no value, or a name comes twice.
    """
    options: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise InputError(f"A solver option is NAME=VALUE, like MIPGap=1e-4, not {shown(text)}.")
        if name in options:
            raise InputError(f"The solver option {name} is given twice.")
        options[name] = option_value(value)
    return options


def methods_of(texts: Sequence[str] | None) -> list[str] | None:
    """Names of methods of texts like "rtn,gptq:act-order"; "none" stands for no method, "all" for every one.

    Raises
    ------
    InputError
        If there is none of a name, or it is named twice.
    """
    from pvqbounds.methods import asked_for

    if texts is None:
        return None
    names = [name.strip() for text in texts for name in text.split(",")]
    if names == ["none"]:
        return []
    asked_for(names)  # whatever it is for, it must be known
    return names


def options_by_solver(texts: Sequence[str] | None, solvers: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Options by solver and name of texts like "gurobi:MIPGap=1e-4"; one solver needs no "gurobi:".

    Raises
    ------
    InputError
        If a text is not of that form, or for none of the solvers.
    """
    chosen: dict[str, list[str]] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        solver, colon, option = name.rpartition(":")
        if not colon and len(solvers) == 1:
            solver, option = solvers[0], name
        if solver not in solvers:
            raise InputError(
                f"With several solvers an option is SOLVER:NAME=VALUE with one of {', '.join(solvers)}, "
                f"not {shown(text)}."
            )
        chosen.setdefault(solver, []).append(option + equals + value)
    return {solver: solver_options_of(chosen.get(solver)) for solver in solvers}


def option_value(text: str) -> Any:
    """The whole number, number, true or false that a text stands for, else the text itself."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this platform
        return os.cpu_count() or 1


PLAIN = {"∞": "inf", "×": "x", "·": "*", "–": "-", "²": "^2", "ᵀ": "'", "…": "..."}
"""What stands for a character that a terminal cannot print."""


def printing_anything() -> None:
    """Let standard output and error print all text, whatever their encoding can hold.

    A terminal of ASCII, or a name that is no UTF-8, must not cost a result that is there.
    """

    def plain(error: UnicodeError) -> tuple[str | bytes, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        character = error.object[error.start]
        if "\udc80" <= character <= "\udcff":  # a byte of a file's name that is no UTF-8
            return bytes([ord(character) - 0xDC00]), error.start + 1
        return PLAIN.get(character) or ascii(character)[1:-1], error.start + 1

    codecs.register_error("pvqbounds.plain", plain)
    for stream in (sys.stdout, sys.stderr):
        # "replace" and "ignore" print anything already, as somebody chose
        chosen = getattr(stream, "errors", None) not in ("strict", "surrogateescape", "backslashreplace")
        if isinstance(stream, io.TextIOWrapper) and not chosen:
            stream.reconfigure(errors="pvqbounds.plain")


def check_sizes(
    formats: Sequence[str] | None,
    bits: int | None,
    density: float | None,
    pattern: str | None,
    range_method: str = "mse",
) -> tuple[str, ...]:
    """The names of the formats; what cannot be is refused before a model is loaded, which takes seconds.

    Raises
    ------
    InputError
        If so.
    """
    from pvqbounds.problems.formats import asked_formats
    from pvqbounds.problems.grids import checked_range_method

    checked_range_method(range_method)
    return tuple(form.name for form in asked_formats(formats or None, bits, density, pattern_of(pattern)))


def check_torch(command: str, extras: str = "nn,train") -> None:
    """Say, before any work, that a command needs PyTorch where there is none.

    Parameters
    ----------
    command
        What follows the program's name.
    extras
        Those of this package that bring it.

    Raises
    ------
    InputError
        If so.
    """
    try:
        import torch  # noqa: F401
    except (ImportError, OSError) as error:  # OSError: a library of its own that does not load
        raise InputError(
            f"`pvqbounds {command}` needs PyTorch ({error}); "
            f"install it with `pip install 'pvqbounds[{extras}]'`."
        ) from error


def show(view: RenderableType) -> None:
    """Print a view to standard output."""
    Console(highlight=False).print(view)


def check_different(**files: Path | None) -> None:
    """Refuse two outputs of one name, by the options that name them.

    Raises
    ------
    OutputError
        If there are such.
    """
    names: dict[Path, str] = {}
    for option, path in files.items():
        if path is not None and (other := names.setdefault(path.resolve(), option)) != option:
            raise OutputError(f"--{other} and --{option} would both write {path}; give one another name.")


def check_report_path(path: Path, *inputs: Path) -> None:
    """Refuse, before any work, a report that would replace its input or cannot be written.

    Raises
    ------
    OutputError
        If so.
    """
    from pvqbounds.storage.archive import check_writable

    if any(path.resolve() == source.resolve() for source in inputs):
        raise OutputError(f"The report would replace its own input {path}; give it another name.")
    check_writable(path)


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar on a terminal's standard error once the block takes longer than `BAR_AFTER`."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    from pvqbounds.solvers.native.compiling import COMPILING, telling

    console = Console(stderr=True)
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task(label, total=None)

    said = label

    def update(done: int, total: int, description: str) -> None:
        nonlocal said
        said = description
        bar.update(task, completed=done, total=total or None, description=description)

    def compiling(begins: bool) -> None:
        bar.update(task, description=COMPILING if begins else said)

    timer = threading.Timer(BAR_AFTER, bar.start)
    timer.daemon = True
    timer.start()
    try:
        with telling(compiling):
            yield update
    finally:
        timer.cancel()
        timer.join()  # it may be starting the bar just now
        bar.stop()

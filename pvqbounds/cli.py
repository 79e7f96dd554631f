"""The command line: ``pvqbounds layer``, ``solve``, ``verify``, ``compare``, ``solvers``.

Exit codes: 0 done, 1 failed (a claim that does not hold, a solver that gave nothing), 2 wrong
usage or input, 130 interrupted. Results go to standard output, progress and errors to standard
error; files are written whole or not at all.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from pvqbounds._version import __version__
from pvqbounds.commands import (
    allocate,
    compare,
    export,
    figure4,
    layer,
    network,
    report,
    show,
    solve,
    solvers,
    studies,
    verify,
)
from pvqbounds.commands.console import Commands, printing_anything
from pvqbounds.commands.missing import what_is_missing
from pvqbounds.commands.train import app as train_app
from pvqbounds.errors import PvqError, one_line

__all__ = ["app", "main"]

app = typer.Typer(
    name="pvqbounds",
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(train_app, name="train")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Parameters
    ----------
    arguments
        What follows the program's name; taken from the process if None.
    """
    printing_anything()
    try:
        try:
            app(None if arguments is None else list(arguments), prog_name="pvqbounds")
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # a disk that is full shows here at the latest
    except PvqError as error:
        _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        missing = what_is_missing(error)
        if missing is None:
            raise
        _fail(missing, 2)
    except MemoryError as error:
        why = f" ({error})" if str(error) else ""
        _fail(f"The memory of this machine ran out{why}; take fewer channels, --jobs 1 or smaller chunks.", 1)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        _fail(
            "numba finds no folder for what it compiles; set NUMBA_CACHE_DIR to one that can be written.", 2
        )
    except BrokenPipeError:  # whoever read the output has seen enough
        _abandon_output()
        sys.exit(1)
    except OSError as error:
        _abandon_output()
        printing = error.errno in (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EDQUOT)
        name = error.filename or ("Standard output" if printing else "A file")
        _fail(f"{name} cannot be read or written ({error.strerror or error}).", 2)


def _fail(text: str, exit_code: int) -> NoReturn:
    """Say what is wrong in one line of standard error, and exit."""
    line = one_line(f"Error: {text}")
    Console(stderr=True, highlight=False).print(line, markup=False, soft_wrap=True)
    sys.exit(exit_code)


def _abandon_output() -> None:
    """Write nothing more to a standard output that cannot be written: Python would try again at its end."""
    if sys.stdout is sys.__stdout__ and sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"pvqbounds {__version__}")
        raise typer.Exit


@app.callback()
def _pvqbounds(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """How far from the best possible is a compressed layer: certified bounds for quantization and pruning."""


# ------------------------------------------------------------------------------------- commands

app.command(epilog=layer.EPILOG)(layer.layer)
app.command(epilog=figure4.EPILOG)(figure4.figure4)
app.command(epilog=network.EPILOG)(network.network)
app.command(epilog=solve.EPILOG)(solve.solve)
app.command("show", epilog=show.EPILOG)(show.show_result)
app.command(epilog=verify.EPILOG)(verify.verify)
app.command(epilog=compare.EPILOG)(compare.compare)
app.command(epilog=solvers.EPILOG)(solvers.solvers)
app.command(epilog=allocate.EPILOG)(allocate.allocate)
app.command(epilog=report.EPILOG)(report.report)
app.command(epilog=export.EPILOG)(export.export)

app.command(
    epilog="Examples: [bold]pvqbounds weights[/bold]   |   "
    "[bold]pvqbounds weights --checkpoint FILE.safetensors --bits 2-8 --json w.json[/bold]   |   "
    "[bold]pvqbounds weights --model torchvision:all --plot figure3.svg --theme both[/bold]"
)(studies.weights)

app.command(
    epilog="Examples: [bold]pvqbounds distributions --distribution gaussian --bits 2-8[/bold]   |   "
    "[bold]pvqbounds distributions --distribution student-t:df=2,range=20 --crossover[/bold]   |   "
    "[bold]pvqbounds distributions --figure 2 --plot figure2.svg --theme both[/bold]"
)(studies.distributions)

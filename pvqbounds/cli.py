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
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from pvqbounds.commands import studies as studies
from pvqbounds.commands.console import (
    BitsOption,
    Commands,
    CompressedOption,
    DensityOption,
    FormatOption,
    MethodOption,
    MethodsOption,
    PatternOption,
    RangeOption,
    RelaxationOption,
    ReportOption,
    ResultOption,
    SeedOption,
    SolverOption,
    SolverOptions,
    ThreadsOption,
    TimeLimitOption,
    ToleranceOption,
    VerboseOption,
    check_different,
    check_report_path,
    check_sizes,
    cores,
    methods_of,
    options_by_solver,
    pattern_of,
    printing_anything,
    progress_bar,
    show,
    solver_options_of,
)
from pvqbounds.commands.inputs import (
    DEFAULT_LAYER,
    DEFAULT_MODEL,
    DataOption,
    GramsOption,
    HeldOutOption,
    LayersOption,
    MaxTokensOption,
    ModelArgument,
    ModelOption,
    PositionMaskOption,
    SamplesOption,
    SaveGramsOption,
    TableOption,
    TokenizerOption,
    WeightsOption,
    WordsOption,
    captured,
    check_gram_file,
    data_options,
    layers_of,
    layers_view,
    model_name,
)
from pvqbounds.commands.interrupts import keeping_what_stands
from pvqbounds.commands.outputs import Outputs
from pvqbounds.commands.train import app as train_app
from pvqbounds.errors import InputError, PvqError, SolverError, SolverFailedError, one_line
from pvqbounds.storage.text import finite, write_json

if TYPE_CHECKING:
    from pvqbounds.results.layer import LayerReport

__all__ = ["app", "main"]

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended, with what stood by then or without."""

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
        print(f"pvqbounds {version('pvqbounds')}")
        raise typer.Exit


@app.callback()
def _pvqbounds(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """How far from the best possible is a compressed layer: certified bounds for quantization and pruning."""


# ------------------------------------------------------------------------------------- commands


@app.command(
    epilog="Examples: [bold]pvqbounds layer[/bold]   |   "
    "[bold]pvqbounds layer --layer block4.0 --bits 3 --json r.json --plot r.png[/bold]   |   "
    "[bold]pvqbounds layer --format int4:g12 --format nf4 --format 2:4+int4:g12[/bold]   |   "
    "[bold]pvqbounds layer --model my.package:factory --data x.npy --layer features.0[/bold]   |   "
    "[bold]pvqbounds layer --model my.package:factory --data x.npy --layer fc1 --compressed quantized/[/bold]"
)
def layer(
    model: ModelArgument = None,
    model_option: ModelOption = None,
    layer: LayersOption = None,
    data: DataOption = None,
    weights: WeightsOption = None,
    held_out: HeldOutOption = None,
    tokenizer: TokenizerOption = None,
    max_tokens: MaxTokensOption = 256,
    samples: SamplesOption = None,
    position_mask: PositionMaskOption = None,
    grams: GramsOption = None,
    save_grams: SaveGramsOption = None,
    compressed: CompressedOption = None,
    error_log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The quantizer's log of losses: .csv or .json."),
    ] = None,
    formats: FormatOption = None,
    bits: BitsOption = None,
    density: Annotated[
        float | None,
        typer.Option(help="Fraction of the weights that pruning keeps, in (0, 1]; bits/16 if left out."),
    ] = None,
    pattern: PatternOption = None,
    budget: Annotated[
        str, typer.Option(help="Pruning budget: channel (each keeps its density) or layer (all together).")
    ] = "channel",
    opt_dim: Annotated[
        int | None, typer.Option(help="The paper's protocol: chunks of at most so many inputs.")
    ] = None,
    out_channels: Annotated[int | None, typer.Option(help="Only the first so many output channels.")] = None,
    range_method: RangeOption = "mse",
    per_channel: Annotated[
        bool,
        typer.Option("--per-channel", help="One scale of int4 for each output channel."),
    ] = False,
    methods: MethodsOption = None,
    solver: SolverOption = "auto",
    method: MethodOption = "auto",
    relaxation: RelaxationOption = None,
    solver_option: SolverOptions = None,
    time_limit: TimeLimitOption = 60.0,
    total_time: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="For the whole layer: each problem gets a cheap interval, then the widest get more.",
        ),
    ] = None,
    tolerance: ToleranceOption = None,
    threads: ThreadsOption = 1,
    verbose: VerboseOption = False,
    jobs: Annotated[int | None, typer.Option(help="Problems at a time; as many as there are cores.")] = None,
    device: Annotated[
        str, typer.Option(help="Where quantization relaxations are solved: cpu, or cuda in batches.")
    ] = "cpu",
    json_path: ResultOption = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the result to a .png, .svg or .pdf.")
    ] = None,
    words: WordsOption = True,
    table: TableOption = None,
    seed: SeedOption = 0,
) -> None:
    """Bound formats of layers, quantized or pruned, side by side, and say which is provably better."""
    nothing_asked = all(asked is None for asked in (formats or None, bits, density, pattern))
    names = None
    if not (compressed and nothing_asked):  # compressed weights need no other side
        names = check_sizes(formats, bits, density, pattern, range_method)
    listed = methods_of(methods)
    options = solver_options_of(solver_option)
    called = model_name(model, model_option)
    read = (data, weights, held_out, grams, position_mask, *(compressed or ()))
    outputs = Outputs(json_path, plot, table, words)
    outputs.check([path for path in read if path is not None])
    if save_grams is not None:
        check_gram_file(save_grams)
    reports: list[LayerReport] = []
    try:
        with keeping_what_stands() as interrupts, progress_bar("loading") as update:
            from pvqbounds import nn

            def told(done: int, total: int, doing: str) -> None:
                interrupts.keeps = done > 0
                update(done, total, doing)

            reading = data_options(tokenizer, max_tokens, samples, position_mask, seed)
            loaded = nn.load_model(
                called,
                weights,
                data,
                held_out=held_out,
                options=reading,
                needs_data=bool(layer) and grams is None,
                needs_weights=bool(layer),  # without one the layers are listed
            )
            layers = layers_of(loaded, layer)
            outputs.check_layers(layers)
            update(0, 0, "layer inputs")
            own, later = captured(loaded, layers, grams, save_grams)
            for name in layers:
                report = nn.layer_bounds(
                    loaded,
                    name,
                    grams=own.get(name, grams),
                    held_out=later.get(name),
                    formats=names,
                    compressed=compressed or None,
                    error_log=error_log,
                    budget=budget,
                    opt_dim=opt_dim,
                    out_channels=out_channels,
                    range_method=range_method,
                    per_channel=per_channel,
                    methods=listed,
                    solver=solver,
                    method=method,
                    relaxation=relaxation,
                    time_limit=time_limit,
                    threads=threads,
                    tolerance=tolerance,
                    verbose=verbose,
                    solver_options=options,
                    jobs=cores() if jobs is None else jobs,
                    seed=seed,
                    device=device,
                    progress=told,
                    total_time=total_time,
                    cancelled=interrupts.stop,
                )
                reports.append(report)
                outputs.write(report)
                if interrupts.stop.is_set():
                    break
            if not layers:
                outputs.check_none()
                show(layers_view(loaded.module))
    finally:  # what is there is shown, whatever a later layer does
        if reports:
            outputs.write_rows(reports)
        for report in reports:
            outputs.present(report)
    if interrupts.stop.is_set():
        raise typer.Exit(INTERRUPTED)


@app.command(
    epilog="Examples: [bold]pvqbounds solve problem.npz[/bold]   |   "
    "[bold]pvqbounds solve 0000_0000.mat --density 0.25[/bold]   |   "
    "[bold]pvqbounds solve 0000_0000.mat --format 2:4+int4 --json r.json[/bold]   |   "
    "[bold]pvqbounds solve be100.1.sparse.gz --method exact[/bold]   |   "
    "[bold]pvqbounds solve problem.npz --solver gurobi --solver-option MIPGap=1e-4[/bold]"
)
def solve(
    file: Annotated[
        Path,
        typer.Argument(
            help="A problem: .npz, .mat of the paper's script (P, q, r, x0), or a binary quadratic program "
            "or maximum cut of the Biq Mac library: .sparse, .mc, packed as .gz or not.",
            metavar="FILE",
        ),
    ],
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="A format by name, such as nf4 or 2:4+int4:g32."),
    ] = None,
    bits: Annotated[int | None, typer.Option(help="Quantize to so many bits, 2 to 16.")] = None,
    scale: Annotated[
        float | None, typer.Option(help="Step of the grid; found from the weights if left out.")
    ] = None,
    range_method: RangeOption = "mse",
    density: DensityOption = None,
    nnz: Annotated[int | None, typer.Option(help="How many weights to keep.")] = None,
    pattern: PatternOption = None,
    solver: SolverOption = "auto",
    method: MethodOption = "auto",
    relaxation: RelaxationOption = None,
    solver_option: SolverOptions = None,
    time_limit: TimeLimitOption = 60.0,
    tolerance: ToleranceOption = None,
    threads: ThreadsOption = 1,
    verbose: VerboseOption = False,
    json_path: ResultOption = None,
    seed: SeedOption = 0,
) -> None:
    """Bound one problem from a file: the quantization or the pruning of one output channel, or both."""
    from pvqbounds.problems.grids import checked_range_method
    from pvqbounds.report.tables import problem_view
    from pvqbounds.results.layer import SliceResult
    from pvqbounds.solving import one as api
    from pvqbounds.storage.problem_files import Budget, load_problem
    from pvqbounds.storage.results_written import check_result_path, write_problem

    if json_path is not None:
        check_result_path(json_path, file)
    budget = Budget(bits, scale, checked_range_method(range_method), nnz, density, pattern_of(pattern), form)
    problem = load_problem(file, budget)
    with progress_bar("solving"):
        bounds = api.solve(
            problem,
            solver=solver,
            method=method,
            relaxation=relaxation,
            time_limit=time_limit,
            threads=threads,
            tolerance=tolerance,
            seed=seed,
            verbose=verbose,
            solver_options=solver_options_of(solver_option),
        )
    result = SliceResult(0, (0, problem.n), problem, bounds)
    if json_path is not None:
        write_problem(result, file.name, json_path)
    show(problem_view(result, file.name))


@app.command(
    "show",
    epilog="Examples: [bold]pvqbounds show r.json[/bold]   |   "
    "[bold]pvqbounds show r.json --plot r.pdf --no-words --table r.tex[/bold]",
)
def show_result(
    file: Annotated[Path, typer.Argument(help="What --json of layer or solve wrote.", metavar="FILE")],
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the result to a .png, .svg or .pdf.")
    ] = None,
    words: WordsOption = True,
    table: TableOption = None,
) -> None:
    """Print a result again, and draw it or write its table; nothing in it is proved anew."""
    from pvqbounds.report.tables import problem_view
    from pvqbounds.results.layer import LayerReport
    from pvqbounds.storage.results_read import read_record

    outputs = Outputs(None, plot, table, words)
    outputs.check([file])
    result = read_record(file).result
    if isinstance(result, LayerReport):
        outputs.write_rows([result])
        outputs.present(result)
    else:
        outputs.check_none()
        show(problem_view(result, file.name))


@app.command(epilog="Example: [bold]pvqbounds verify RESULT.json[/bold]")
def verify(
    file: Annotated[Path, typer.Argument(help="What --json of layer or solve wrote.", metavar="FILE")],
    time_limit: Annotated[
        float, typer.Option(help="Seconds for one proof; a longer search proves nothing.")
    ] = 600.0,
    json_path: ReportOption = None,
) -> None:
    """Re-prove a result from its certificates and its best weights, trusting nothing else in it."""
    from pvqbounds.solving.verified_files import verify_file

    if json_path is not None:
        check_report_path(json_path, file)
    with progress_bar("verifying") as update:
        findings = verify_file(
            file, lambda done, total: update(done, total, "verifying"), time_limit=time_limit
        )
    failures = [finding for finding in findings if not finding.holds]
    if json_path is not None:
        outcome = {"schema": "pvqbounds.verification/1", "file": file.name, "holds": not failures}
        write_json(json_path, outcome | {"findings": [asdict(finding) for finding in findings]})
    for finding in failures:
        print(one_line(f"FAILED {finding.where}: {finding.text}"))
    if failures:
        print(f"{file.name}: {len(failures)} claims do not hold.")
        raise typer.Exit(1)
    proved = sum(finding.text == "proved" for finding in findings)
    reported = len(findings) - proved
    rest = f", {reported} only reported and not proved" if reported else ""
    print(
        f"{file.name} holds: {proved} of {len(findings)} lower bounds proved again{rest}; "
        "all weights evaluated again."
    )


@app.command(
    epilog="Examples: [bold]pvqbounds compare[/bold]   |   "
    "[bold]pvqbounds compare --solver native --solver scip --layer block2.0 --bits 3 --plot c.png[/bold]"
)
def compare(
    solver: Annotated[
        list[str] | None, typer.Option(help="A backend; once for each. All that are usable if left out.")
    ] = None,
    model: ModelArgument = None,
    model_option: ModelOption = None,
    layer: Annotated[str | None, typer.Option(help="Dotted name of the layer.")] = None,
    data: DataOption = None,
    weights: WeightsOption = None,
    formats: FormatOption = None,
    bits: BitsOption = None,
    density: DensityOption = None,
    pattern: PatternOption = None,
    out_channels: Annotated[int, typer.Option(help="Only the first so many output channels.")] = 1,
    method: MethodOption = "auto",
    solver_option: Annotated[
        list[str] | None,
        typer.Option(
            "--solver-option",
            metavar="[SOLVER:]NAME=VALUE",
            help="An option of one backend, by its own name; repeatable.",
        ),
    ] = None,
    time_limit: TimeLimitOption = 20.0,
    tolerance: ToleranceOption = None,
    threads: ThreadsOption = 1,
    json_path: ReportOption = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the result to a .png, .svg or .pdf.")
    ] = None,
    table: TableOption = None,
    seed: SeedOption = 0,
) -> None:
    """Bound the same layer with several backends: what each finds, what is proved, how long it takes."""
    from pvqbounds.problems.formats import parse
    from pvqbounds.report.comparison import Entry, comparison_view, entries_of, plot_comparison
    from pvqbounds.report.frames import check_table_path, entry_rows, write_table
    from pvqbounds.report.plot import check_plot_path

    chosen = check_sizes(formats, bits, density, pattern)
    called = model_name(model, model_option)
    if layer is None and called != DEFAULT_MODEL:
        raise InputError(f"Name the layer of {called} with --layer.")
    inputs = [path for path in (data, weights) if path is not None]
    if json_path is not None:
        check_report_path(json_path, *inputs)
    if plot is not None:
        check_plot_path(plot)
    if table is not None:
        check_table_path(table)
    check_different(json=json_path, plot=plot, table=table)
    entries: list[Entry] = []
    with progress_bar("loading") as update:
        from pvqbounds import nn
        from pvqbounds.solvers import available_solvers

        loaded = nn.load_model(called, weights, data)
        names = solver or available_solvers()
        options = options_by_solver(solver_option, names)
        for done, name in enumerate(names):
            update(done, len(names), name)
            try:
                report = nn.layer_bounds(
                    loaded,
                    layer or DEFAULT_LAYER,
                    formats=chosen,
                    out_channels=out_channels,
                    solver=name,
                    method=method,
                    time_limit=time_limit,
                    threads=threads,
                    tolerance=tolerance,
                    solver_options=options[name],
                    jobs=1,
                    seed=seed,
                )
            except (SolverError, SolverFailedError) as error:
                if solver is not None and len(solver) == 1:
                    raise
                entries += [Entry(name, form.task, form.name, note=str(error)) for form in map(parse, chosen)]
            else:
                entries += entries_of(name, report)
    title = f"{loaded.name} {layer or DEFAULT_LAYER}, {', '.join(chosen)}"
    if table is not None:
        write_table(entry_rows(entries), table)
    if json_path is not None:
        rows = [{key: finite(value) for key, value in asdict(entry).items()} for entry in entries]
        write_json(json_path, {"schema": "pvqbounds.comparison/1", "title": title, "entries": rows})
    try:
        if plot is not None:
            plot_comparison(title, entries, plot)
    finally:
        show(comparison_view(title, entries))
        if loaded.note:
            show(Text(f"Note: {loaded.note}"))


@app.command(
    epilog="Examples: [bold]pvqbounds solvers[/bold]   |   [bold]pvqbounds solvers --cite scs[/bold]"
)
def solvers(
    cite: Annotated[
        str | None, typer.Option(metavar="NAME", help="Print how to cite this solver, in BibTeX.")
    ] = None,
    json_path: ReportOption = None,
) -> None:
    """List every known backend: installed or not, licensed or not, and what it can do."""
    if cite is not None:
        from pvqbounds.solvers import citation

        print(citation(cite))
        return
    from pvqbounds.report.tables import solvers_view
    from pvqbounds.solvers import solvers as known_solvers

    if json_path is not None:
        check_report_path(json_path)
    known = known_solvers()
    if json_path is not None:
        listed = [
            {
                "name": info.name,
                "installed": info.installed,
                "licensed": info.licence is not None and info.licence.valid,
                "licence": None if info.licence is None else info.licence.text,
                "capabilities": sorted(capability.value for capability in info.capabilities),
                "install": info.install,
                "citation": info.citation,
            }
            for info in known
        ]
        write_json(json_path, {"schema": "pvqbounds.solvers/1", "solvers": listed})
    show(solvers_view(known))


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

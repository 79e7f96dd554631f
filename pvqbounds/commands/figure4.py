"""``pvqbounds figure4``: chunks of layers at every bit width, quantized and pruned (the paper's Figure 4)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pvqbounds.commands.console import (
    MethodOption,
    MethodsOption,
    RangeOption,
    RelaxationOption,
    ResultOption,
    SeedOption,
    SolverOption,
    ThreadsOption,
    TimeLimitOption,
    cores,
    methods_of,
    progress_bar,
    show,
)
from pvqbounds.commands.inputs import (
    DEFAULT_LAYER,
    DataOption,
    GramsOption,
    ModelArgument,
    ModelOption,
    SamplesOption,
    SaveGramsOption,
    WeightsOption,
    captured,
    data_options,
    layers_of,
    model_name,
)
from pvqbounds.commands.interrupts import INTERRUPTED, keeping_what_stands
from pvqbounds.commands.outputs import Outputs
from pvqbounds.commands.studies import DEFAULT_BITS, widths_of
from pvqbounds.errors import InputError
from pvqbounds.solving.execution import Execution
from pvqbounds.solving.options import SolveOptions

if TYPE_CHECKING:
    from pvqbounds.nn import LoadedModel
    from pvqbounds.nn.gram_files import GivenGrams
    from pvqbounds.nn.layer_options import LayerOptions
    from pvqbounds.results.layer import LayerReport

__all__ = ["figure4"]

PAPERS_CHUNK = 36
"""Inputs of a chunk: four input channels of a 3x3 convolution (Kuzmin et al., sec. 4.3)."""

EPILOG = (
    "Examples: [bold]pvqbounds figure4 --layer block3.0 --plot figure4.svg[/bold]   |   "
    "[bold]pvqbounds figure4 my.package:factory --data x.npy --layer 'features.*' --bits 2,4,8 "
    "--json 'f4-{layer}.json' --table f4.csv[/bold]   |   "
    "[bold]pvqbounds figure4 --results f4-a.json --results f4-b.json --plot f4.pdf[/bold]"
)


def figure4(
    model: ModelArgument = None,
    model_option: ModelOption = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            metavar="NAME",
            help="Dotted name of a layer, or a pattern like 'blocks.*.fc1'; repeatable. "
            f"`pvqbounds layer MODEL` lists them; {DEFAULT_LAYER} of the shipped one if left out.",
        ),
    ] = None,
    data: DataOption = None,
    weights: WeightsOption = None,
    samples: SamplesOption = None,
    grams: GramsOption = None,
    save_grams: SaveGramsOption = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(
            "--results",
            metavar="FILE",
            help="What --json wrote before, to lay beside, or to draw again without --layer; repeatable.",
        ),
    ] = None,
    bits: Annotated[
        str,
        typer.Option(
            metavar="WIDTHS", help="Bit widths, 2 to 15: one, a range like 2-8, or a list like 2,4."
        ),
    ] = DEFAULT_BITS,
    opt_dim: Annotated[
        int | None,
        typer.Option(help="Inputs of a chunk, at most.", show_default=f"{PAPERS_CHUNK}, the paper's"),
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="The layers themselves, in one piece.")] = False,
    out_channels: Annotated[int | None, typer.Option(help="Only the first so many output channels.")] = None,
    range_method: RangeOption = "mse",
    methods: MethodsOption = None,
    solver: SolverOption = "auto",
    method: MethodOption = "auto",
    relaxation: RelaxationOption = None,
    time_limit: TimeLimitOption = 60.0,
    threads: ThreadsOption = 1,
    jobs: Annotated[int | None, typer.Option(help="Problems at a time; as many as there are cores.")] = None,
    json_path: ResultOption = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Read layers whose --json is there already, of the same weights, data, formats, chunks, "
            "channels and methods, however they were solved; others are solved, and their files replaced.",
        ),
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the figure to a .png, .svg or .pdf.")
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write a row for each layer and bit width to .csv, .parquet or .tex."
        ),
    ] = None,
    seed: SeedOption = 0,
) -> None:
    """Chunks of layers at every bit width: b-bit quantization against pruning to b/16, what is decided."""
    from pvqbounds.results.pairs import formats_of_widths, pairs_of
    from pvqbounds.storage.archive import refuse_repeated
    from pvqbounds.storage.results_read import read_layer

    if whole and opt_dim is not None:
        raise InputError("--whole cuts no chunks, and --opt-dim is what they hold; give one of them.")
    formats, listed = formats_of_widths(widths_of(bits)), methods_of(methods) or []
    called = model_name(model, model_option)
    outputs = Outputs(json_path, plot, table, grams=save_grams)
    read = [path for path in (data, weights, grams, *(results or ())) if path is not None]
    outputs.check(read)
    if resume and json_path is None:
        raise InputError("--resume reads what --json has written; give --json too.")
    refuse_repeated(results or ())
    reports: list[LayerReport] = [read_layer(path) for path in results or ()]
    for report in reports:
        pairs_of(report)  # of other formats it is refused before any work
    try:
        with keeping_what_stands() as interrupts, progress_bar("loading") as update:
            if results and not layer:  # nothing is solved
                return
            from pvqbounds import nn
            from pvqbounds.nn.bounds import bound_layer
            from pvqbounds.nn.layer_inputs import LayerInputs
            from pvqbounds.nn.layer_options import LayerOptions

            def told(done: int, total: int, doing: str) -> None:
                interrupts.keeps = done > 0
                update(done, total, doing)

            reading = data_options(None, 256, samples, None, seed)
            loaded = nn.load_model(called, weights, data, options=reading, needs_data=grams is None)
            layers = layers_of(loaded, layer)
            if not layers:
                raise InputError(
                    f"Name layers of {called} with --layer; `pvqbounds layer {called}` lists them."
                )
            Outputs(json_path).check_layers(layers, read)
            update(0, 0, "layer inputs")
            own, _ = captured(loaded, layers, grams, save_grams, again=resume)
            asked = LayerOptions(
                formats=formats,
                opt_dim=None if whole else (PAPERS_CHUNK if opt_dim is None else opt_dim),
                out_channels=out_channels,
                range_method=range_method,
                methods=listed,
            )
            solve = SolveOptions(
                solver=solver,
                method=method,
                relaxation=relaxation,
                time_limit=time_limit,
                threads=threads,
                seed=seed,
                cancelled=interrupts.stop,
            )
            execution = Execution(cores() if jobs is None else jobs)
            for name in layers:
                given = own.get(name, grams)
                known = _known(outputs, loaded, name, given, asked) if resume else None
                if known is not None:
                    reports.append(known)
                    continue
                report = bound_layer(loaded, name, LayerInputs(grams=given), asked, solve, execution, told)
                reports.append(report)
                outputs.write(report)
                if interrupts.stop.is_set():
                    break
    finally:  # what is there is shown, whatever a later layer does
        _present(reports, table, plot)
    if interrupts.stop.is_set():
        raise typer.Exit(INTERRUPTED)


def _known(
    outputs: Outputs, loaded: LoadedModel, name: str, given: GivenGrams | None, asked: LayerOptions
) -> LayerReport | None:
    """The result of a layer that is there already, where it answers what is asked."""
    from pvqbounds.nn.again import answers
    from pvqbounds.nn.gram_files import given_grams
    from pvqbounds.nn.layers import find_layer
    from pvqbounds.storage.results_read import read_layer

    path = outputs.result_of(name)
    if path is None or not path.exists():
        return None
    try:
        known = read_layer(path)
    except InputError:  # whatever it is, it will be replaced
        return None
    assert given is not None  # the Grams are captured, or in a file
    target = find_layer(loaded.module, name)
    return known if answers(known, target, given_grams(given, target), asked) else None


def _present(reports: Sequence[LayerReport], table: Path | None, plot: Path | None) -> None:
    """Write the table, print the layers and draw them."""
    from pvqbounds.report.figure4 import figure4_rows, figure4_view, plot_figure4
    from pvqbounds.report.frames import write_table

    if not reports:
        return
    if table is not None:
        write_table([row for report in reports for row in figure4_rows(report)], table)
    try:
        if plot is not None:
            plot_figure4(reports, plot)
    finally:  # a picture that fails does not cost the result
        for report in reports:
            show(figure4_view(report))

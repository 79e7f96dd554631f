"""``pvqbounds network``: every layer of a model, in a folder that any later run goes on with."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pvqbounds.commands.console import (
    CompressedOption,
    FormatOption,
    MaskOption,
    MethodOption,
    MethodsOption,
    RangeOption,
    RelaxationOption,
    ReportOption,
    SeedOption,
    SolverOption,
    SolverOptions,
    ThreadsOption,
    TimeLimitOption,
    ToleranceOption,
    check_different,
    check_report_path,
    cores,
    methods_of,
    progress_bar,
    show,
    solver_options_of,
)
from pvqbounds.commands.exported_weights import tell_export
from pvqbounds.commands.inputs import (
    DataOption,
    LeaveOutOption,
    MaxTokensOption,
    ModelArgument,
    ModelOption,
    PositionMaskOption,
    SamplesOption,
    TableOption,
    TokenizerOption,
    WeightsOption,
    data_options,
    model_name,
)
from pvqbounds.commands.interrupts import INTERRUPTED
from pvqbounds.errors import InputError
from pvqbounds.storage.text import write_json

if TYPE_CHECKING:
    from pvqbounds.network.progress import Progress

__all__ = ["network"]

EPILOG = (
    "Examples: [bold]pvqbounds network --store runs/digits[/bold]   |   "
    "[bold]pvqbounds network FOLDER --data text.txt --layer '*.dense' --format int4:g128 --format 2:4 "
    "--sample 32 --store runs/x[/bold]   |   "
    "[bold]pvqbounds network --store runs/digits --dask tcp://host:8786[/bold]"
)


def network(
    store: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder of the results; one that was begun is gone on with."),
    ],
    model: ModelArgument = None,
    model_option: ModelOption = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            metavar="NAME",
            help="A layer, or a pattern like 'blocks.*.fc1'; repeatable. All layers if left out.",
        ),
    ] = None,
    leave_out: LeaveOutOption = None,
    data: DataOption = None,
    weights: WeightsOption = None,
    tokenizer: TokenizerOption = None,
    max_tokens: MaxTokensOption = 256,
    samples: SamplesOption = None,
    position_mask: PositionMaskOption = None,
    compressed: CompressedOption = None,
    formats: FormatOption = None,
    range_method: RangeOption = "mse",
    per_channel: Annotated[
        bool, typer.Option("--per-channel", help="One scale of int4 for each output channel.")
    ] = False,
    mask_cost: MaskOption = "stored",
    methods: MethodsOption = None,
    sample: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Bound N channels of each layer tightly and the others cheaply: a certified interval, and "
            "an estimated one beside it.",
        ),
    ] = None,
    solver: SolverOption = "auto",
    method: MethodOption = "auto",
    relaxation: RelaxationOption = None,
    solver_option: SolverOptions = None,
    time_limit: TimeLimitOption = 60.0,
    total_time: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="For this run: each layer gets a cheap interval in each format, then the widest get more.",
        ),
    ] = None,
    tolerance: ToleranceOption = None,
    threads: ThreadsOption = 1,
    jobs: Annotated[
        int | None, typer.Option(help="Layers in a format at a time, a process each; one for each core.")
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Scheduler of a Dask cluster that does it in their place."),
    ] = None,
    keep_grams: Annotated[
        bool, typer.Option("--keep-grams/--no-keep-grams", help="Whether the store keeps the Grams.")
    ] = True,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the best weights found to FILE.safetensors, where there is one format; "
            "`pvqbounds export` does the same of any store.",
        ),
    ] = None,
    json_path: ReportOption = None,
    table: TableOption = None,
    seed: SeedOption = 0,
) -> None:
    """Bound every layer of a model in every format, in a folder that survives whatever ends the run."""
    from pvqbounds.report.frames import check_table_path, write_table
    from pvqbounds.report.network_tables import network_document, network_rows, network_view

    listed, options = methods_of(methods), solver_options_of(solver_option)
    called = model_name(model, model_option)
    check_different(json=json_path, table=table, export=export)
    if export is not None:
        _check_export(export, [*(formats or ()), *(compressed or ())])
    if json_path is not None:
        check_report_path(json_path, store / "network.json")
    if table is not None:
        check_table_path(table)
    try:
        with progress_bar("loading") as update:
            from pvqbounds import nn

            reading = data_options(tokenizer, max_tokens, samples, position_mask, seed)
            needs_data = not (store / "network.json").exists()  # its Grams are there
            loaded = nn.load_model(called, weights, data, options=reading, needs_data=needs_data)
            found = nn.network_bounds(
                loaded,
                store=store,
                layers=layer or None,
                leave_out=leave_out or (),
                formats=formats or None,
                compressed=compressed or None,
                methods=listed,
                sample=sample,
                jobs=cores() if jobs is None else jobs,
                dask=dask,
                keep_grams=keep_grams,
                total_time=total_time,
                progress=_shown(update),
                command=shlex.join(["pvqbounds", *sys.argv[1:]]),
                solver=solver,
                method=method,
                relaxation=relaxation,
                solver_options=options or None,
                time_limit=time_limit,
                tolerance=tolerance,
                threads=threads,
                range_method=range_method,
                per_channel=per_channel,
                mask_cost=mask_cost,
                seed=seed,
            )
    except KeyboardInterrupt:
        begun = (store / "network.json").exists()
        kept = f"what stands is kept in {store}, and the same command goes on with it"
        print(f"Interrupted: {kept if begun else 'nothing was begun yet'}.", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if json_path is not None:
        write_json(json_path, network_document(found))
    if table is not None:
        write_table(network_rows(found), table)
    show(network_view(found))
    if export is not None:
        from pvqbounds.network.export import export_weights
        from pvqbounds.nn.layers import select_layers
        from pvqbounds.problems.formats import parse

        # a store that was begun before may hold other formats, and the layers that are left out, as well
        found = found.parted(select_layers(loaded.module, leave_out or ()))
        choice = parse(formats[0]).name if formats else None
        tell_export(found, export_weights(found, loaded, export, choice=choice))
    if found.failed:
        raise typer.Exit(1)


def _check_export(path: Path, sides: Sequence[object]) -> None:
    """Find out before any work whether the best weights can be written."""
    from pvqbounds.network.export import check_export_path

    if len(sides) != 1:
        raise InputError(
            "--export writes the weights of one format: give one --format, or choose among several "
            "afterwards with `pvqbounds export`."
        )
    check_export_path(path, "dense")


def _shown(update: Callable[[int, int, str], None]) -> Callable[[Progress], None]:
    """How far it is, on the bar: channels, layers, and the time left."""

    def tell(now: Progress) -> None:
        left = now.seconds_left
        parts = [f"{now.layers_done} of {now.layers} layers", now.doing, _time_text(left)]
        failed = f"{now.failed} failed" if now.failed else ""
        update(now.channels_done, now.channels, ", ".join(filter(None, [*parts, failed])))

    return tell


def _time_text(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60.0:
        return f"about {max(1, round(seconds))} s left"
    minutes = round(seconds / 60.0)
    return f"about {minutes} min left" if minutes < 120 else f"about {minutes / 60.0:.1f} h left"

"""``pvqbounds compare``: one layer with several backends."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from pvqbounds.commands.console import (
    BitsOption,
    DensityOption,
    FormatOption,
    MethodOption,
    PatternOption,
    ReportOption,
    SeedOption,
    ThreadsOption,
    TimeLimitOption,
    ToleranceOption,
    check_different,
    check_report_path,
    check_sizes,
    options_by_solver,
    progress_bar,
    show,
)
from pvqbounds.commands.inputs import (
    DEFAULT_MODEL,
    DataOption,
    GramsOption,
    MaxTokensOption,
    ModelArgument,
    ModelOption,
    PositionMaskOption,
    SamplesOption,
    TableOption,
    TokenizerOption,
    WeightsOption,
    captured,
    data_options,
    model_name,
    one_layer,
)
from pvqbounds.errors import InputError, SolverError, SolverFailedError
from pvqbounds.storage.text import finite, write_json

__all__ = ["compare"]

EPILOG = (
    "Examples: [bold]pvqbounds compare[/bold]   |   "
    "[bold]pvqbounds compare --solver native --solver scip --layer block2.0 --bits 3 --plot c.png[/bold]"
)


def compare(
    solver: Annotated[
        list[str] | None, typer.Option(help="A backend; once for each. All that are usable if left out.")
    ] = None,
    model: ModelArgument = None,
    model_option: ModelOption = None,
    layer: Annotated[
        str | None, typer.Option(help="Dotted name of the layer, or a pattern that fits one.")
    ] = None,
    data: DataOption = None,
    weights: WeightsOption = None,
    tokenizer: TokenizerOption = None,
    max_tokens: MaxTokensOption = 256,
    samples: SamplesOption = None,
    position_mask: PositionMaskOption = None,
    grams: GramsOption = None,
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
    inputs = [path for path in (data, weights, grams, position_mask) if path is not None]
    if json_path is not None:
        check_report_path(json_path, *inputs)
    if plot is not None:
        check_plot_path(plot)
    if table is not None:
        check_table_path(table)
    check_different(json=json_path, plot=plot, table=table)
    entries: list[Entry] = []
    told: dict[str, None] = {}
    with progress_bar("loading") as update:
        from pvqbounds import nn
        from pvqbounds.solvers import available_solvers

        reading = data_options(tokenizer, max_tokens, samples, position_mask, seed)
        loaded = nn.load_model(called, weights, data, options=reading, needs_data=grams is None)
        target = one_layer(loaded, layer)
        update(0, 0, "layer inputs")
        own, _ = captured(loaded, [target], grams, again=True)
        names = solver or available_solvers()
        options = options_by_solver(solver_option, names)
        for done, name in enumerate(names):
            update(done, len(names), name)
            try:
                report = nn.layer_bounds(
                    loaded,
                    target,
                    grams=own.get(target, grams),
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
                told |= dict.fromkeys(report.notes)
    title = f"{loaded.name} {target}, {', '.join(chosen)}"
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
        for note in told or filter(None, [loaded.note]):
            show(Text(f"Note: {note}"))

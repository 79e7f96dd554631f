"""``pvqbounds layer``: formats of layers, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pvqbounds.commands.console import (
    BitsOption,
    CompressedOption,
    FormatOption,
    MaskOption,
    MethodOption,
    MethodsOption,
    PatternOption,
    RangeOption,
    RelaxationOption,
    ResultOption,
    SeedOption,
    SolverOption,
    SolverOptions,
    ThreadsOption,
    TimeLimitOption,
    ToleranceOption,
    VerboseOption,
    check_sizes,
    cores,
    methods_of,
    progress_bar,
    show,
    solver_options_of,
)
from pvqbounds.commands.inputs import (
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
    data_options,
    layers_of,
    layers_view,
    model_name,
    unreadable_layers,
)
from pvqbounds.commands.interrupts import INTERRUPTED, keeping_what_stands
from pvqbounds.commands.outputs import Outputs, present_layers
from pvqbounds.errors import InputError
from pvqbounds.solving.execution import Execution
from pvqbounds.solving.options import SolveOptions

if TYPE_CHECKING:
    from pvqbounds.results.layer import LayerReport

__all__ = ["layer"]

EPILOG = (
    "Examples: [bold]pvqbounds layer[/bold]   |   "
    "[bold]pvqbounds layer --layer block4.0 --bits 3 --json r.json --plot r.png[/bold]   |   "
    "[bold]pvqbounds layer --joint-curve --bits 3 --mask-cost none --plot joint.svg[/bold]   |   "
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
    joint_curve: Annotated[
        bool,
        typer.Option(
            "--joint-curve",
            help="Formats of one size, that of --bits: dense, pruned and quantized with more bits, pruned.",
        ),
    ] = False,
    mask_cost: MaskOption = "stored",
    opt_dim: Annotated[
        int | None, typer.Option(help="The paper's protocol: chunks of at most so many inputs.")
    ] = None,
    out_channels: Annotated[int | None, typer.Option(help="Only the first so many output channels.")] = None,
    range_method: RangeOption = "mse",
    per_channel: Annotated[
        bool,
        typer.Option("--per-channel", help="One scale of int4 for each output channel."),
    ] = False,
    any_scale: Annotated[
        bool,
        typer.Option("--any-scale", help="Free scales of int4, one for each output channel, as int4:any."),
    ] = False,
    search_scales: Annotated[
        bool,
        typer.Option("--search-scales", help="Scales of groups found on the output error, near their own."),
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
    if joint_curve and (formats or compressed or density is not None or pattern is not None):
        raise InputError("--joint-curve names its formats itself, of the size of --bits; leave others out.")
    nothing_asked = all(asked is None for asked in (formats or None, bits, density, pattern))
    names = None
    if not (compressed and nothing_asked):  # compressed weights need no other side
        names = check_sizes(formats, bits, density, pattern, range_method)
    listed = methods_of(methods)
    options = solver_options_of(solver_option)
    called = model_name(model, model_option)
    given = (data, weights, held_out, grams, position_mask, *(compressed or ()))
    read = [path for path in given if path is not None]
    outputs = Outputs(json_path, plot, table, words, save_grams)
    outputs.check(read)
    reports: list[LayerReport] = []
    failed: dict[str, InputError] = {}
    try:
        with keeping_what_stands() as interrupts, progress_bar("loading") as update:
            from pvqbounds import nn
            from pvqbounds.nn.bounds import bound_layer
            from pvqbounds.nn.layer_inputs import LayerInputs
            from pvqbounds.nn.layer_options import LayerOptions

            def told(done: int, total: int, doing: str) -> None:
                interrupts.keeps = done > 0
                update(done, total, doing)

            asked = LayerOptions(
                formats=names,
                compressed=compressed or None,
                error_log=error_log,
                budget=budget,
                mask_cost=mask_cost,
                opt_dim=opt_dim,
                out_channels=out_channels,
                range_method=range_method,
                per_channel=per_channel,
                any_scale=any_scale,
                search_scales=search_scales,
                methods=listed,
            )
            solve = SolveOptions(
                solver=solver,
                method=method,
                relaxation=relaxation,
                time_limit=time_limit,
                threads=threads,
                tolerance=tolerance,
                seed=seed,
                verbose=verbose,
                cancelled=interrupts.stop,
                solver_options=options,
            )
            execution = Execution(cores() if jobs is None else jobs, device, total_time=total_time)
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
            outputs.check_layers(layers, read)
            update(0, 0, "layer inputs")
            one = len(layers) == 1
            failed |= unreadable_layers(loaded, layers, compressed, names or (), error_log)
            if one and failed:
                raise next(iter(failed.values()))
            readable = [name for name in layers if name not in failed]
            own, later = captured(loaded, readable, grams, save_grams, failed=None if one else failed)

            def bounded(name: str) -> LayerReport:
                inputs = LayerInputs(grams=own.get(name, grams), held_out=later.get(name))
                sides = nn.joint_curve(loaded, name, bits or 4, mask_cost) if joint_curve else names
                of_layer = replace(asked, formats=sides)
                return bound_layer(loaded, name, inputs, of_layer, solve, execution, told)

            for report in _each(layers, bounded, failed):
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
        present_layers(reports)
    if interrupts.stop.is_set():
        raise typer.Exit(INTERRUPTED)
    if failed:
        told_of = dict.fromkeys(map(str, failed.values()))
        raise InputError(f"{len(failed)} of {len(layers)} layers have no result. {' '.join(told_of)}")


def _each(
    layers: Sequence[str], bounded: Callable[[str], LayerReport], failed: dict[str, InputError]
) -> Iterator[LayerReport]:
    """The result of each layer; of several, one without a result is put beside those that failed."""
    for name in layers:
        if name in failed:
            continue
        try:
            report = bounded(name)
        except InputError as error:
            if len(layers) == 1:
                raise
            failed[name] = error
        else:
            yield report

"""``pvqbounds train qat | prune | reconstruct | against | table``."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pvqbounds.commands.console import (
    Commands,
    ReportOption,
    SeedOption,
    SolverOption,
    TimeLimitOption,
    check_different,
    check_report_path,
    check_torch,
    cores,
    progress_bar,
    show,
)
from pvqbounds.errors import InputError, shown
from pvqbounds.storage.text import write_json
from pvqbounds.train.presets import PRESETS, Pruning, Quantization, Recipe, overridden, recipe_named

if TYPE_CHECKING:
    from pvqbounds.train.fit import Compressed, FitMoment

__all__ = ["app"]

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Fine-tune with quantization or pruning, and hold the outcome against the bounds.",
)

PresetOption = Annotated[
    str | None,
    typer.Option(help=f"Recipe: {', '.join(PRESETS)}, or config.json of a run.", metavar="NAME"),
]
ModelOption = Annotated[
    str | None, typer.Option(help="digits, torchvision:NAME, timm:NAME or package.module:factory.")
]
WeightsOption = Annotated[Path | None, typer.Option(help="Dense weights: .safetensors.")]
DataOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Images: DIR/train/CLASS/ and DIR/val/CLASS/.")
]
OutOption = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the run; runs/PRESET.")]
EndsOption = Annotated[
    str | None, typer.Option(help="First and last layer: 8-bit (or density 8/16), same or dense.")
]
EpochsOption = Annotated[int | None, typer.Option(help="Passes over the training data.")]
BatchOption = Annotated[int | None, typer.Option(help="Images a step (of each process).")]
RateOption = Annotated[float | None, typer.Option("--lr", help="Learning rate at the start.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other value of the recipe; repeat for more."),
]
SeedOfRecipe = Annotated[int | None, typer.Option(help="Seed of everything random.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:INDEX or mps.")]
DevicesOption = Annotated[int, typer.Option(help="Processes, one a device; torchrun works as well.")]
PrecisionOption = Annotated[str | None, typer.Option(help="32, or bf16 for mixed precision.")]
WorkersOption = Annotated[int, typer.Option(help="Processes that load images.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on from the folder's checkpoint.")]
SkipOption = Annotated[
    bool, typer.Option("--skip-corrupt", help="Leave out images that cannot be decoded, and list them.")
]
CurvesOption = Annotated[Path | None, typer.Option(metavar="DIR", help="Write TensorBoard's curves there.")]
PlotOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it to a .png, .svg or .pdf.")]


@app.command(
    epilog="Examples: [bold]pvqbounds train qat --bits 3[/bold]   |   "
    "[bold]pvqbounds train qat --preset resnet18-int4 --weights r18.safetensors --data imagenet "
    "--precision bf16 --workers 8[/bold]   |   [bold]torchrun --nproc-per-node 4 -m pvqbounds train qat "
    "... --devices 4[/bold]"
)
def qat(
    preset: PresetOption = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    data: DataOption = None,
    out: OutOption = None,
    bits: Annotated[int | None, typer.Option(help="Bits a weight, 2 to 16.")] = None,
    per_channel: Annotated[
        bool | None, typer.Option("--per-channel/--per-layer", help="Scales of channels, or of layers.")
    ] = None,
    activation_bits: Annotated[int | None, typer.Option(help="Quantize layer inputs as well.")] = None,
    ends: EndsOption = None,
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    learning_rate: RateOption = None,
    settings: SetOption = None,
    device: DeviceOption = "auto",
    devices: DevicesOption = 1,
    precision: PrecisionOption = None,
    workers: WorkersOption = 0,
    resume: ResumeOption = False,
    skip_corrupt: SkipOption = False,
    tensorboard: CurvesOption = None,
    json_path: ReportOption = None,
    seed: SeedOfRecipe = None,
) -> None:
    """Quantization-aware training with learned step sizes (LSQ)."""
    recipe = _recipe(
        preset,
        "int4",
        settings,
        model=model,
        weights=weights,
        data=data,
        bits=bits,
        per_channel=per_channel,
        activation_bits=activation_bits,
        ends=ends,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        precision=precision,
        seed=seed,
    )
    if not isinstance(recipe.compression, Quantization):
        raise InputError(f"The preset '{preset}' prunes; use it with `pvqbounds train prune`.")
    where = out or Path("runs") / _folder_name(preset, recipe, "int4")
    _fit(recipe, where, json_path, device, devices, workers, resume, skip_corrupt, tensorboard)


@app.command(
    epilog="Examples: [bold]pvqbounds train prune --sparsity 0.875[/bold]   |   "
    "[bold]pvqbounds train prune --pattern 2:4[/bold]   |   "
    "[bold]pvqbounds train prune --preset resnet18-75 --weights r18.safetensors --data imagenet[/bold]"
)
def prune(
    preset: PresetOption = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    data: DataOption = None,
    out: OutOption = None,
    sparsity: Annotated[float | None, typer.Option(help="Fraction of the weights that goes.")] = None,
    scope: Annotated[
        str | None, typer.Option(help="Compare magnitudes within: layer, network, pattern or channel.")
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(metavar="N:M", help="Keep at most N of every M consecutive input channels.")
    ] = None,
    ends: EndsOption = None,
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    learning_rate: RateOption = None,
    settings: SetOption = None,
    device: DeviceOption = "auto",
    devices: DevicesOption = 1,
    precision: PrecisionOption = None,
    workers: WorkersOption = 0,
    resume: ResumeOption = False,
    skip_corrupt: SkipOption = False,
    tensorboard: CurvesOption = None,
    json_path: ReportOption = None,
    seed: SeedOfRecipe = None,
) -> None:
    """Gradual magnitude pruning (Zhu and Gupta), then training with the final masks."""
    recipe = _recipe(
        preset,
        "75",
        settings,
        model=model,
        weights=weights,
        data=data,
        sparsity=sparsity,
        scope="pattern" if pattern is not None and scope is None else scope,
        pattern=pattern,
        ends=ends,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        precision=precision,
        seed=seed,
    )
    if not isinstance(recipe.compression, Pruning):
        raise InputError(f"The preset '{preset}' quantizes; use it with `pvqbounds train qat`.")
    where = out or Path("runs") / _folder_name(preset, recipe, "75")
    _fit(recipe, where, json_path, device, devices, workers, resume, skip_corrupt, tensorboard)


@app.command(
    epilog="Examples: [bold]pvqbounds train reconstruct --bits 4[/bold]   |   "
    "[bold]pvqbounds train reconstruct --sparsity 0.75 --out runs/pruned[/bold]"
)
def reconstruct(
    preset: PresetOption = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    data: DataOption = None,
    out: OutOption = None,
    bits: Annotated[int | None, typer.Option(help="Quantize to so many bits, 2 to 16.")] = None,
    per_channel: Annotated[
        bool | None, typer.Option("--per-channel/--per-layer", help="Scales of channels, or of layers.")
    ] = None,
    sparsity: Annotated[float | None, typer.Option(help="Prune: the fraction that goes.")] = None,
    pattern: Annotated[
        str | None, typer.Option(metavar="N:M", help="Prune: keep at most N of every M input channels.")
    ] = None,
    ends: EndsOption = None,
    settings: SetOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = 0,
    skip_corrupt: SkipOption = False,
    json_path: ReportOption = None,
    seed: SeedOfRecipe = None,
) -> None:
    """Quantize or prune each layer for its own output error, without training.

    Round to nearest, K-best and AdaRound with descent, or optimal brain surgeon with re-fit.
    """
    pruning = sparsity is not None or pattern is not None
    if pruning and bits is not None:
        raise InputError("Give either --bits to quantize, or --sparsity or --pattern to prune.")
    recipe = _recipe(
        preset,
        "75" if pruning else "int4",
        settings,
        model=model,
        weights=weights,
        data=data,
        bits=bits,
        per_channel=per_channel,
        sparsity=sparsity,
        scope="pattern" if pattern is not None else None,
        pattern=pattern,
        ends=ends,
        seed=seed,
    )
    ending = "int4" if isinstance(recipe.compression, Quantization) else "75"
    where = out or Path("runs") / f"reconstruct-{_folder_name(preset, recipe, ending)}"
    if json_path is not None:
        check_report_path(json_path)
    check_torch("train reconstruct")
    from pvqbounds.train.engine import Engine
    from pvqbounds.train.network_reconstruction import reconstruct_network
    from pvqbounds.train.runs import open_recipe, prepare_folder, result_document, write_run

    engine = Engine(device, 1, recipe.precision)
    network, images = open_recipe(recipe)
    prepare_folder(where, recipe, resume=False)
    with progress_bar("inputs") as update:
        made = reconstruct_network(
            network,
            images,
            recipe,
            engine=engine,
            workers=workers,
            skip_corrupt=skip_corrupt,
            progress=update,
        )
    write_run(where, recipe, made, "reconstruction")
    if json_path is not None:
        write_json(json_path, result_document(recipe, made, "reconstruction"))
    _print_outcome(recipe, made, where)


@app.command(
    epilog="Examples: [bold]pvqbounds train against runs/digits-int4 --plot a.png[/bold]   |   "
    "[bold]pvqbounds train against runs/digits-int4 --reference latent --out-channels 4[/bold]"
)
def against(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that qat, prune or reconstruct wrote.")],
    reference: Annotated[
        str,
        typer.Option(help="dense: weights and inputs of the dense model; latent: those behind the codes."),
    ] = "dense",
    layer: Annotated[list[str] | None, typer.Option(help="Only this layer; repeat for more.")] = None,
    out_channels: Annotated[
        int | None, typer.Option(help="Only the first so many output channels of each layer.")
    ] = None,
    any_scale: Annotated[
        bool,
        typer.Option(
            "--any-scale", help="Bound quantization whatever its scales, too: some 20 times as long."
        ),
    ] = False,
    skip_corrupt: SkipOption = False,
    solver: SolverOption = "auto",
    method: Annotated[str, typer.Option(help="exact, relax or auto (exact where it will end).")] = "auto",
    time_limit: TimeLimitOption = 20.0,
    jobs: Annotated[int | None, typer.Option(help="Channels at a time; as many as there are cores.")] = None,
    json_path: ReportOption = None,
    plot: PlotOption = None,
    seed: SeedOption = 0,
) -> None:
    """Hold a run against the certified bounds, layer by layer.

    Exit code 1 if some weights have less error than a certified bound allows.
    """
    from pvqbounds.report.plot import check_plot_path

    if json_path is not None:
        check_report_path(json_path, run / "config.json", run / "result.json")
    if plot is not None:
        check_plot_path(plot)
    check_different(json=json_path, plot=plot)
    check_torch("train against")
    from pvqbounds.train.views import against_document, against_view, plot_against

    with progress_bar("loading") as update:
        from pvqbounds.train.run_gaps import gaps_of_run

        outcome = gaps_of_run(
            run,
            reference=reference,
            layers=layer,
            out_channels=out_channels,
            any_scale=any_scale,
            skip_corrupt=skip_corrupt,
            solver=solver,
            method=method,
            time_limit=time_limit,
            jobs=cores() if jobs is None else jobs,
            seed=seed,
            progress=update,
        )
    if json_path is not None:
        write_json(json_path, against_document(outcome))
    try:
        if plot is not None:
            plot_against(outcome, plot)
    finally:  # a picture that fails does not cost the result
        show(against_view(outcome))
    if outcome.failures:
        raise typer.Exit(1)


@app.command(
    epilog="Examples: [bold]pvqbounds train table[/bold]   |   "
    "[bold]pvqbounds train table --seeds 3 --json t.json --plot t.png[/bold]"
)
def table(
    model: ModelOption = "digits",
    weights: WeightsOption = None,
    data: DataOption = None,
    ends: EndsOption = None,
    epochs: EpochsOption = None,
    bits: Annotated[list[int] | None, typer.Option(help="A size; repeat for more. 8 down to 2.")] = None,
    seeds: Annotated[int, typer.Option(help="Runs for each cell.")] = 1,
    threads: Annotated[int, typer.Option(help="Of the CPU; a small model gains nothing from more.")] = 1,
    settings: SetOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = 0,
    skip_corrupt: SkipOption = False,
    json_path: ReportOption = None,
    plot: PlotOption = None,
    seed: SeedOfRecipe = None,
) -> None:
    """Make the paper's table: accuracy after quantization and after pruning at equal size."""
    from pvqbounds.report.plot import check_plot_path

    if seeds < 1:
        raise InputError(f"The number of seeds must be at least 1, not {seeds}.")
    if threads < 1:
        raise InputError(f"The number of threads must be at least 1, not {threads}.")
    if json_path is not None:
        check_report_path(json_path)
    if plot is not None:
        check_plot_path(plot)
    quantizing, pruning = (
        _recipe(
            None,
            ending,
            settings,
            model=model,
            weights=weights,
            data=data,
            ends=ends,
            epochs=epochs,
            seed=seed,
        )
        for ending in ("int4", "75")
    )
    check_different(json=json_path, plot=plot)
    check_torch("train table")
    import torch

    from pvqbounds.nn.models import load_module
    from pvqbounds.train.accuracy_table import accuracy_table
    from pvqbounds.train.engine import Engine
    from pvqbounds.train.runs import open_recipe
    from pvqbounds.train.views import accuracy_document, accuracy_view, plot_accuracy

    torch.set_num_threads(threads)
    engine = Engine(device)
    _, images = open_recipe(quantizing)
    with progress_bar("training") as update:
        accuracies = accuracy_table(
            lambda: load_module(quantizing.model, weights),
            images,
            quantizing,
            pruning,
            bits=bits or (8, 7, 6, 5, 4, 3, 2),
            seeds=seeds,
            engine=engine,
            workers=workers,
            skip_corrupt=skip_corrupt,
            progress=update,
        )
    if json_path is not None:
        write_json(json_path, accuracy_document(accuracies))
    try:
        if plot is not None:
            plot_accuracy(accuracies, plot)
    finally:
        show(accuracy_view(accuracies))


# ---------------------------------------------------------------------------------- shared parts


def _recipe(preset: str | None, ending: str, settings: list[str] | None, **options: Any) -> Recipe:
    """The preset with what was given on the command line in place."""
    model = options.get("model")
    if preset is None and model is not None and f"{model}-{ending}" not in PRESETS:
        raise InputError(f"There is no preset of model '{model}'; name one with --preset.")
    recipe = recipe_named(preset or f"{model or 'digits'}-{ending}")
    given = {name: value for name, value in options.items() if value is not None}
    for name in ("weights", "data"):
        if name in given:
            given[name] = str(given[name])
    for setting in settings or []:
        name, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"--set wants NAME=VALUE, not {shown(setting)}.")
        given[name.strip().replace("-", "_")] = value.strip()
    changed = overridden(recipe, given, "recipe")
    return changed if changed == recipe else replace(changed, source=f"{recipe.source}; changed")


def _folder_name(preset: str | None, recipe: Recipe, ending: str) -> str:
    if preset is not None and preset in PRESETS:
        return preset
    return f"{recipe.model.replace(':', '-')}-{ending}"


def _fit(
    recipe: Recipe,
    where: Path,
    json_path: Path | None,
    device: str,
    devices: int,
    workers: int,
    resume: bool,
    skip_corrupt: bool,
    tensorboard: Path | None,
) -> None:
    if json_path is not None:
        check_report_path(json_path)
    check_torch("train qat" if isinstance(recipe.compression, Quantization) else "train prune")
    from pvqbounds.train.engine import Engine
    from pvqbounds.train.fit import fine_tune
    from pvqbounds.train.runs import open_recipe, prepare_folder, result_document, write_run

    engine = Engine(device, devices, recipe.precision)
    model, data = open_recipe(recipe)
    if engine.rank == 0:
        prepare_folder(where, recipe, resume=resume)
    engine.barrier()
    with _told(where) as tell, progress_bar("training") as update:
        made = fine_tune(
            model,
            data,
            recipe,
            folder=where,
            resume=resume,
            engine=engine,
            workers=workers,
            skip_corrupt=skip_corrupt,
            tensorboard=tensorboard,
            progress=lambda moment: tell(moment, update),
        )
    if engine.rank != 0:
        return
    write_run(where, recipe, made, "training")
    if json_path is not None:
        write_json(json_path, result_document(recipe, made, "training"))
    _print_outcome(recipe, made, where)


@contextmanager
def _told(where: Path) -> Iterator[Callable[[FitMoment, Callable[[int, int, str], None]], None]]:
    """A function that shows where the run stands: a bar, and a line for each epoch.

    An interrupt says what is kept.
    """
    ended = 0

    def tell(moment: FitMoment, update: Callable[[int, int, str], None]) -> None:
        nonlocal ended
        state = f"epoch {moment.epoch}/{moment.epochs}, loss {moment.loss:.3f}"
        if not math.isnan(moment.accuracy):
            state += f", acc. {100 * moment.accuracy:.1f} %, {100 * moment.sparsity:.0f} % zeros"
        update(moment.step, moment.steps, f"{state}, {_clock(moment.seconds_left)} left")
        if moment.ended is not None:
            ended = moment.ended.epoch
            e = moment.ended
            print(
                f"epoch {e.epoch:3d}/{moment.epochs}  loss {e.loss:.4f}  accuracy {100 * e.accuracy:6.2f} %  "
                f"zeros {100 * e.sparsity:5.1f} %  {e.seconds:.1f} s  {_clock(moment.seconds_left)} left",
                file=sys.stderr,
            )

    try:
        yield tell
    except KeyboardInterrupt:
        kept = f"; epoch {ended} is kept in {where}, go on with --resume" if ended else ""
        print(f"Interrupted{kept}.", file=sys.stderr)
        raise


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _print_outcome(recipe: Recipe, made: Compressed, where: Path) -> None:
    from pvqbounds.train.runs import result_document

    document = result_document(recipe, made, "")
    print(
        f"{recipe.model}: accuracy {100 * made.accuracy_before:.2f} % dense, "
        f"{100 * made.accuracy_after:.2f} % compressed"
    )
    print(
        f"{len(made.layers)} layers with {100 * document['share_of_parameters']:.1f} % of the parameters, "
        f"{document['bits_per_weight']:.2f} bits a weight, {100 * made.sparsity:.1f} % zeros"
        + (
            f", mask {document['mask_bits_per_weight']:.2f} bits more"
            if document["mask_bits_per_weight"]
            else ""
        )
    )
    if document["dense_layers"] and made.layers:
        dense = document["dense_layers"]
        print(f"{len(dense)} layers stay dense: {', '.join(dense[:4])}{', ...' if len(dense) > 4 else ''}")
    if made.corrupt:
        print(f"{len(made.corrupt)} images could not be decoded and were left out; result.json names them.")
    print(f"{where}: hold it against the bounds with `pvqbounds train against {where}`")

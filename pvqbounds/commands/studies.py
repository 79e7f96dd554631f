"""The commands ``pvqbounds weights`` and ``pvqbounds distributions``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pvqbounds.commands.console import (
    ReportOption,
    SeedOption,
    check_report_path,
    check_torch,
    progress_bar,
    show,
)
from pvqbounds.errors import InputError, OutputError, shown
from pvqbounds.storage.text import write_json

__all__ = ["bits_of", "distributions", "weights", "widths_of"]

DEFAULT_BITS = "2-8"
DEFAULT_DRAWS = 1_000_000

BitsOption = Annotated[
    str,
    typer.Option(metavar="WIDTHS", help="Bit widths, 2 to 16: one, a range like 2-8, or a list like 2,4."),
]
ParquetOption = Annotated[
    Path | None, typer.Option("--parquet", metavar="FILE", help="Write the rows to a .parquet FILE too.")
]
PlotOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw to a .svg, .pdf or .png file.")]
ThemeOption = Annotated[str, typer.Option(help="light, dark or both (two files) for --plot.")]
NarrowOption = Annotated[bool, typer.Option("--narrow", help="Symmetric grid: leave out the code -2^(b-1).")]


def bits_of(text: str) -> list[int]:
    """Bit widths of grids, of a text like "4", "2-8" or "2,4,8", rising.

    Raises
    ------
    InputError
        If it is anything else, or a width is not from 2 to 16.
    """
    from pvqbounds.problems.grids import symmetric_codes

    widths = widths_of(text)
    for width in widths:
        symmetric_codes(width)
    return widths


def widths_of(text: str) -> list[int]:
    """The numbers of a text like "4", "2-8" or "2,4,8", rising, whatever they are.

    Raises
    ------
    InputError
        If it is anything else, or holds none.
    """
    widths: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise InputError(f"The bit widths must be like 4, 2-8 or 2,4,8, not {shown(text)}.")
        widths.update(range(int(first), min(int(last or first), 99) + 1))
    if not widths:
        raise InputError(f"The range of bit widths {shown(text)} is empty.")
    return sorted(widths)


def _check_outputs(*paths: Path | None) -> None:
    taken = [path.resolve() for path in paths if path is not None]
    if len(set(taken)) < len(taken):
        raise OutputError("Two of --json, --parquet and --plot name one file; give one another name.")


def weights(
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="digits (shipped, the default), torchvision:NAME, torchvision:all (the paper's 45), "
            "timm:NAME or package.module:factory; once for each."
        ),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help=".safetensors, .pt, .pth, .bin, or a folder of them; once for each."),
    ] = None,
    tensor: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Only tensors so named, with wildcards; once for each."),
    ] = None,
    released: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The paper's released JSON files, to lay beside.")
    ] = None,
    bits: BitsOption = DEFAULT_BITS,
    narrow: NarrowOption = False,
    device: Annotated[str, typer.Option(help="Where to sort: cpu or cuda.")] = "cpu",
    json_path: ReportOption = None,
    parquet: ParquetOption = None,
    plot: PlotOption = None,
    theme: ThemeOption = "light",
    seed: SeedOption = 0,
) -> None:
    """What quantization and magnitude pruning lose on the weight tensors of models."""
    from pvqbounds.studies import figures, rows, sources
    from pvqbounds.studies.released import read_released
    from pvqbounds.studies.views import weights_view
    from pvqbounds.studies.weights import WeightStudy, check_device, measure

    del seed  # nothing is random here; every command takes one
    widths = bits_of(bits)
    _check_outputs(json_path, parquet, plot)
    if json_path is not None:
        check_report_path(json_path, *(checkpoint or []))
    if parquet is not None:
        rows.check_parquet_path(parquet)
    files = {} if plot is None else figures.check_figure_paths(plot, theme)
    check_device(device)
    found = [source for name in model or [] for source in sources.model(name)]
    found += [sources.checkpoint(path) for path in checkpoint or []]
    if any(name != sources.EMBEDDED for name in model or []):
        check_torch("weights --model", "nn")
    if not found and released is None:
        found = sources.model(sources.EMBEDDED)
    study = WeightStudy()

    def write() -> None:
        if json_path is not None:
            write_json(json_path, rows.document(rows.WEIGHTS_SCHEMA, study.rows, study.skipped))
        if parquet is not None:
            rows.write_parquet(parquet, study.rows)

    with progress_bar("loading") as update:
        try:
            for source in found:
                try:
                    measure(
                        study,
                        source,
                        widths,
                        narrow=narrow,
                        patterns=tensor or (),
                        device=device,
                        progress=update,
                    )
                except InputError as error:
                    if len(found) == 1:
                        raise
                    study.skipped.append(rows.Skipped(source.name, "*", str(error)))
        except KeyboardInterrupt:
            if study.rows:
                write()  # what there is so far
            raise
    if released is not None:
        study.rows += [row for row in read_released(released) if row.bits in widths]
    if not study.rows:
        reasons = "; ".join(f"{t.model} {t.tensor} {t.reason}" for t in study.skipped[:5])
        raise InputError(f"There is nothing to measure: {reasons or 'no tensor was found'}.")
    write()
    try:
        for file, colours in files.items():
            figures.draw_weights(study.rows, file, colours)
    finally:  # a picture that fails does not cost the result
        show(weights_view(study.rows, study.skipped))


def distributions(
    distribution: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="gaussian, laplace, uniform, student-t[:df=2,range=10], mixture[:share=0.1,ratio=10], "
            "scipy:NAME[:PARAMETERS] or sample:FILE; once for each, five of them if left out.",
        ),
    ] = None,
    bits: BitsOption = DEFAULT_BITS,
    narrow: NarrowOption = False,
    group_size: Annotated[
        int | None, typer.Option(help="So many weights share a scale and a pruning budget; all if left out.")
    ] = None,
    crossover: Annotated[
        bool, typer.Option("--crossover", help="At which kurtosis pruning overtakes, for each bit width.")
    ] = False,
    monte_carlo: Annotated[
        int, typer.Option(help="Draws of the Monte Carlo check; 0 for none.")
    ] = DEFAULT_DRAWS,
    json_path: ReportOption = None,
    parquet: ParquetOption = None,
    plot: PlotOption = None,
    figure: Annotated[
        int, typer.Option(help="What --plot draws: the paper's Figure 1, or 2 (heavy tails).")
    ] = 1,
    theme: ThemeOption = "light",
    seed: SeedOption = 0,
) -> None:
    """Expected errors of quantization and magnitude pruning on distributions, and what any coder could do."""
    from pvqbounds.studies import expected, figures, rows, specs, views

    widths = bits_of(bits)
    _check_outputs(json_path, parquet, plot)
    if figure not in (1, 2):
        raise InputError(f"--figure must be 1 or 2, not {figure}; `pvqbounds weights --plot` draws Figure 3.")
    if json_path is not None:
        check_report_path(json_path)
    if parquet is not None:
        rows.check_parquet_path(parquet)
    files = {} if plot is None else figures.check_figure_paths(plot, theme)
    names = distribution or list(specs.DEFAULT_NAMES)
    pictured = specs.parse_distribution(names[0]) if files and figure == 1 else None
    if isinstance(pictured, specs.Sample):
        raise InputError("Figure 1 needs a distribution with a density, which a sample is not.")
    if pictured is not None and group_size is not None:
        raise InputError(
            "Figure 1 shows the grid of a whole tensor, which groups of weights do not share; leave out "
            "--group-size or --plot, or draw Figure 2 with --figure 2."
        )
    studies = []
    with progress_bar("distributions") as update:
        for done, name in enumerate(names):
            update(done, len(names), name)
            studies.append(
                specs.distribution_rows(
                    name, widths, narrow=narrow, group_size=group_size, monte_carlo=monte_carlo, seed=seed
                )
            )
        crossings = [
            (width, expected.crossover_kurtosis(width, narrow=narrow, group_size=group_size))
            for width in (widths if crossover else ())
        ]
        listed = [row for study in studies for row in study]
        if json_path is not None:
            content = rows.document(rows.DISTRIBUTIONS_SCHEMA, listed)
            write_json(json_path, content)
        if parquet is not None:
            rows.write_parquet(parquet, listed)
        try:
            if pictured is not None:
                errors = expected.expected_errors(pictured, widths, narrow=narrow)
                for file, colours in files.items():
                    figures.draw_distribution(pictured, errors, file, colours, narrow=narrow)
            elif files:
                tails = figures.study_tails(widths, progress=update, narrow=narrow, group_size=group_size)
                for file, colours in files.items():
                    figures.draw_tails(tails, file, colours)
        except BaseException:  # a picture that fails does not cost the result
            show(views.distributions_view(studies))
            raise
    show(views.distributions_view(studies))
    if crossings:
        show(views.crossovers_view(crossings))

"""Options that say which model, which layers and which data; shared by commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pvqbounds.errors import InputError, OutputError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from torch import nn

    from pvqbounds.nn import LayerGrams, LoadedModel
    from pvqbounds.nn.calibration import DataOptions

__all__ = [
    "DEFAULT_LAYER",
    "DEFAULT_MODEL",
    "DataOption",
    "GramsOption",
    "HeldOutOption",
    "LayersOption",
    "LeaveOutOption",
    "MaxTokensOption",
    "ModelArgument",
    "ModelOption",
    "PositionMaskOption",
    "SamplesOption",
    "SaveGramsOption",
    "TableOption",
    "TokenizerOption",
    "WeightsOption",
    "WordsOption",
    "captured",
    "check_gram_file",
    "data_options",
    "layers_of",
    "layers_view",
    "model_name",
    "one_layer",
    "unreadable_layers",
]

DEFAULT_MODEL, DEFAULT_LAYER = "digits", "block2.0"

MODELS = "digits (shipped), torchvision:NAME, timm:NAME, module:factory or a folder with config.json."

ModelArgument = Annotated[
    str | None, typer.Argument(metavar="[MODEL]", help=f"The same as --model: {MODELS}", show_default=False)
]
ModelOption = Annotated[str | None, typer.Option("--model", help=MODELS, show_default=DEFAULT_MODEL)]
LayersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--layer",
        metavar="NAME",
        help="Dotted name of a layer, or a pattern like 'blocks.*.fc1'; repeatable. Without it the layers of "
        f"a model are listed; {DEFAULT_LAYER} of the shipped one.",
    ),
]
LeaveOutOption = Annotated[
    list[str] | None,
    typer.Option(
        "--leave-out",
        metavar="NAME",
        help="A layer that has no part in it and stays dense, or a pattern as of --layer; repeatable.",
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        help="Calibration data: .npy, .npz or .safetensors (several arrays by the names of the model's "
        "inputs), a text, or a folder of images by class."
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(help="Weights of the model: .safetensors, .pt, .bin, or a folder of their parts."),
]
HeldOutOption = Annotated[
    Path | None, typer.Option(help="Other data, on which all that is found is evaluated as well.")
]
TokenizerOption = Annotated[
    Path | None,
    typer.Option(help="What reads a text: a tokenizer.json or its folder; the model's folder if left out."),
]
MaxTokensOption = Annotated[int, typer.Option(help="Tokens of a piece of text; longer lines are cut.")]
SamplesOption = Annotated[
    int | None, typer.Option(help="So many samples at most; of a folder of images 256 if left out.")
]
PositionMaskOption = Annotated[
    Path | None,
    typer.Option(help="Which positions count, or with what weight, for each sample: .npy."),
]
GramsOption = Annotated[
    Path | None,
    typer.Option(
        help="Grams in place of data: what --save-grams wrote, .npz or .safetensors with XᵀX/N, xtx or "
        "hessian, or QuIP#'s .pt."
    ),
]
SaveGramsOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the layers' Grams to FILE.npz.")
]


TableOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write a row for each layer and format to .csv, .parquet or .tex."),
]
WordsOption = Annotated[
    bool, typer.Option("--words/--no-words", help="Whether the verdict stands above a picture.")
]


def model_name(argument: str | None, option: str | None) -> str:
    """The model that is asked for, in either place.

    Raises
    ------
    InputError
        If both are given.
    """
    if argument is not None and option is not None:
        raise InputError(f"The model is given twice, as {argument} and as {option}; give it once.")
    return argument or option or DEFAULT_MODEL


def data_options(
    tokenizer: Path | None, max_tokens: int, samples: int | None, position_mask: Path | None, seed: int
) -> DataOptions:
    """How data are read."""
    from pvqbounds.nn.calibration import DataOptions

    return DataOptions(tokenizer, max_tokens, samples, position_mask, seed)


def layers_of(loaded: LoadedModel, wanted: Sequence[str] | None) -> list[str]:
    """Names of the layers that are asked for; none where the model's are to be listed."""
    from pvqbounds.nn.layers import select_layers

    if wanted:
        return select_layers(loaded.module, wanted)
    return [DEFAULT_LAYER] if loaded.name == DEFAULT_MODEL else []


def one_layer(loaded: LoadedModel, wanted: str | None) -> str:
    """Name of the layer that is asked for; that of the shipped model's own if none is.

    Raises
    ------
    InputError
        If a pattern stands for several.
    """
    names = layers_of(loaded, None if wanted is None else [wanted])
    if len(names) > 1:
        few = ", ".join(names[:3])
        raise InputError(f"'{wanted}' stands for {len(names)} layers ({few}, ...); name one of them.")
    return names[0]


def layers_view(module: nn.Module) -> RenderableType:
    """The layers that bounds exist for, with their sizes."""
    from rich import box
    from rich.table import Table

    from pvqbounds.nn.layers import layer_sizes

    sizes = layer_sizes(module)
    if not sizes:
        raise InputError(f"A {type(module).__name__} has no layer that bounds exist for.")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("layer", overflow="fold")
    table.add_column("kind", overflow="fold")
    table.add_column("weights", justify="right")
    for name, description, size in sizes:
        table.add_row(name, description, f"{size:,}")
    return table


def check_gram_file(path: Path, read: Sequence[Path]) -> None:
    """Find out before any work whether Grams can be written to `path`.

    Parameters
    ----------
    read
        Files that are read.

    Raises
    ------
    InputError, OutputError
        If its ending is another, it cannot be written, or it would replace one of them.
    """
    from pvqbounds.storage.archive import check_writable

    if path.suffix != ".npz":
        raise InputError(f"Grams are written to an .npz file, not to {path}.")
    if path.resolve() in {other.resolve() for other in read}:
        raise OutputError(f"--save-grams would replace its own input {path}; give it another name.")
    check_writable(path)


def unreadable_layers(
    loaded: LoadedModel,
    layers: Sequence[str],
    compressed: Sequence[str | Path] | None,
    formats: Sequence[str],
    error_log: Path | None,
) -> dict[str, InputError]:
    """Why layers cannot be taken from files of compressed weights, by their names, before the model runs."""
    from pvqbounds.nn.compressed import unreadable
    from pvqbounds.nn.layers import find_layers

    if not compressed:
        return {}
    found = find_layers(loaded.module, layers)
    return unreadable(list(compressed), [found[name] for name in layers], formats, error_log)


def captured(
    loaded: LoadedModel,
    layers: Sequence[str],
    grams: Path | None,
    save: Path | None = None,
    *,
    again: bool = False,
    failed: dict[str, InputError] | None = None,
) -> tuple[dict[str, LayerGrams], dict[str, LayerGrams]]:
    """Grams of the layers' inputs, and of those that are held out, where one run serves for several.

    Parameters
    ----------
    again
        Whether each layer is bounded more than once.
    failed
        If given, a layer that has no Gram is put there with the reason, and the others go on.

    Raises
    ------
    InputError
        If Grams are to be saved that came from a file.
    """
    from pvqbounds.nn import grams_of_layers
    from pvqbounds.nn.gram_files import save_grams
    from pvqbounds.nn.layers import find_layers

    if save is not None and grams is not None:
        raise InputError("--save-grams writes what a model gives its layers; leave it out beside --grams.")
    several = len(layers) > 1 or again
    own: dict[str, LayerGrams] = {}
    if grams is None and loaded.data is not None and layers and (several or save is not None):
        own = grams_of_layers(loaded.module, layers, loaded.data, failed=failed)
    if save is not None:
        save_grams(own, save, find_layers(loaded.module, own))
    later = {}
    if several and loaded.held_out is not None:
        later = grams_of_layers(loaded.module, layers, loaded.held_out, failed=failed)
    return own, later

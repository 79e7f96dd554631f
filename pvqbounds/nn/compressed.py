"""Somebody's compressed weights of a layer as a side of its report: problems on the file's own values."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pvqbounds.errors import InputError, shown
from pvqbounds.nn.layers import Layer
from pvqbounds.problems import Gram, Problem, SparseLeastSquares
from pvqbounds.problems.chunks import Slice
from pvqbounds.problems.formats import Format
from pvqbounds.results.compressed import Compressed
from pvqbounds.storage.checkpoints import (
    LOGS,
    CompressedLayer,
    Layout,
    claimed_loss,
    open_checkpoint,
    read_claims,
    read_layer,
)

__all__ = [
    "CompressedFiles",
    "CompressedSide",
    "FileInFormats",
    "compressed_sides",
    "named_files",
    "notes_of",
    "unreadable",
]


@dataclass(frozen=True)
class FileInFormats:
    """A file or folder with the formats that its weights may be in, where they are dequantized."""

    path: str | Path
    formats: tuple[str, ...]


CompressedFiles = str | Path | Sequence[str | Path] | Mapping[str, str | Path | FileInFormats]
"""Files or folders of compressed weights, by what to call them where that is said."""


UNLIKE = 0.25
"""Squared distance, as a part of the squared weights, from which on two layers are not taken for one."""


@dataclass(frozen=True, eq=False)
class CompressedSide:
    """A layer of a file, and what to call it."""

    name: str
    stored: CompressedLayer
    origin: Compressed
    claimed: float | None = None
    """The loss of the layer in the quantizer's own log, where there is one."""

    @property
    def form(self) -> Format:
        """What the file allowed, as a format."""
        return self.origin.form

    def mixes(self, channels: Sequence[int]) -> bool:
        """Whether the values of some of the channels are of several steps; the compression had one."""
        return not set(self.stored.mixed).isdisjoint(channels)

    def problems(self, slices: Sequence[Slice]) -> list[Problem]:
        """One for each slice, with the values and the support rule of the file."""
        return [self._problem(piece) for piece in slices]

    def _problem(self, piece: Slice) -> Problem:
        rule = self.stored.rule(piece.channel, *piece.inputs)
        if self.stored.grid is None:
            return SparseLeastSquares(piece.gram, piece.weight, nnz=0).under(rule)
        values = self.stored.grid.values(piece.channel).among(np.arange(*piece.inputs))
        assert self.form.values is not None
        return self.form.values.pose(piece.gram, piece.weight, values).under(rule)

    def points(self, slices: Sequence[Slice]) -> tuple[NDArray[Any], ...]:
        """The compressed weights of each slice: codes, or weights where there is no grid.

        Raises
        ------
        InputError
            If a weight is off the grid of its own file.
        """
        if self.stored.grid is None:
            return tuple(self.stored.weight[piece.channel, slice(*piece.inputs)] for piece in slices)
        codes = {channel: self.stored.codes(channel) for channel in {piece.channel for piece in slices}}
        return tuple(codes[piece.channel][slice(*piece.inputs)] for piece in slices)


def compressed_sides(
    files: CompressedFiles | None,
    layer: Layer,
    formats: Sequence[str] = (),
    error_log: str | Path | None = None,
) -> list[CompressedSide]:
    """The layer as each of the files has it.

    Parameters
    ----------
    formats
        Names of formats that dequantized weights may be in, of files that do not come with their own.
    error_log
        A log of the quantizer's losses; if None one that lies beside the weights.

    Raises
    ------
    InputError
        If a file cannot be read, has no such layer, or the layer there has another shape.
    """
    named = named_files(files)
    if error_log is not None and len(named) != 1:
        raise InputError(f"An error log belongs to one file of compressed weights, not to {len(named)}.")
    own = files if isinstance(files, Mapping) else {}
    sides = []
    for name, path in named.items():
        given = own.get(name)
        known = given.formats if isinstance(given, FileInFormats) else formats
        sides.append(_side(name, path, layer, known, error_log))
    return sides


def unreadable(
    files: CompressedFiles | None,
    layers: Sequence[Layer],
    formats: Sequence[str] = (),
    error_log: str | Path | None = None,
) -> dict[str, InputError]:
    """Why layers cannot be taken from the files, by their names: found out before a model runs for long.

    As :func:`compressed_sides` reads them, one layer after another, so that no two are held at a time; a
    weight off the grid of its own file is found here, too.
    """
    reasons: dict[str, InputError] = {}
    for layer in layers if files is not None else ():
        try:
            for side in compressed_sides(files, layer, formats, error_log):
                if side.stored.grid is not None:
                    for channel in range(side.stored.channels):
                        side.stored.codes(channel)
        except InputError as error:
            reasons[layer.name] = error
    return reasons


def named_files(files: CompressedFiles | None) -> dict[str, Path]:
    """The files by what to call them: their own names, without endings, if nothing is said."""
    if files is None:
        return {}
    if isinstance(files, Mapping):
        if not all(isinstance(name, str) and name for name in files):
            raise InputError("Compressed weights are called by names that are texts.")
        return {name: Path(f.path if isinstance(f, FileInFormats) else f) for name, f in files.items()}
    listed = [files] if isinstance(files, str | Path) else files
    if not isinstance(listed, Sequence) or not all(isinstance(path, str | Path) for path in listed):
        raise InputError("Compressed weights are a file or folder, several of them in a list, or a mapping.")
    paths = [Path(path) for path in listed]
    named = {_name_of(path): path for path in paths}
    if len(named) < len(paths):
        twice = next(name for name in named if sum(_name_of(path) == name for path in paths) > 1)
        raise InputError(f"Two of the compressed weights are called {shown(twice)}; rename one of them.")
    return named


def _name_of(path: Path) -> str:
    own = Path(os.path.abspath(path)).name  # links keep their name
    return own if path.is_dir() else own.removesuffix(path.suffix) or own


def _side(
    name: str, path: Path, layer: Layer, formats: Sequence[str], error_log: str | Path | None
) -> CompressedSide:
    interleaved = layer.kind.interleaved
    stored = read_layer(open_checkpoint(path), layer.name, formats, _layout_of(layer), interleaved)
    wanted = tuple(layer.kind.parameter.shape)
    fits = stored.weight.shape == (layer.channels, layer.inputs) and stored.stride in (1, layer.block)
    if not fits:
        raise InputError(
            f"Layer '{layer.name}' of the model has weights of shape {wanted}, but {shown(stored.name)} in "
            f"{path} has {stored.shape}; give the dense model that was compressed."
        )
    origin = Compressed(
        source=Path(os.path.abspath(path)).name,
        layer=stored.name,
        kind=stored.kind,
        values=stored.values,
        bits=stored.code_bits,
        steps=stored.grid is not None and stored.grid.has_steps,
        pattern=stored.pattern,
        kept=stored.pruned and stored.pattern is None,
        presumed=stored.presumed,
        mixed=stored.mixed,
    )
    return CompressedSide(name, stored, origin, _claimed(path, layer, error_log))


def _layout_of(layer: Layer) -> Layout | None:
    """How the module has the weights, where it is not a channel a row."""
    kind = layer.kind
    if not kind.turned:
        return None
    stored = tuple(kind.parameter.shape)
    places = torch.arange(math.prod(stored)).reshape(stored)
    dense = layer.channels, layer.input_channels, layer.block
    return Layout(stored, dense, kind.matrix(places).contiguous().numpy())


def _claimed(path: Path, layer: Layer, error_log: str | Path | None) -> float | None:
    """What the quantizer's log says of the layer."""
    folder = path if path.is_dir() else path.parent
    logs = [folder / name for name in LOGS if (folder / name).is_file()]
    if error_log is None and not logs:
        return None
    claimed = claimed_loss(read_claims(logs[0] if error_log is None else error_log), layer.name)
    if claimed is None and error_log is not None:
        raise InputError(f"{error_log} has no loss of layer '{layer.name}', or several.")
    return claimed


def notes_of(side: CompressedSide, layer: Layer, grams: Sequence[Gram]) -> tuple[str, ...]:
    """What a reader must know of a file on this layer, whose groups have these Grams."""
    weight, dense = side.stored.weight, layer.weight
    notes = [*side.stored.notes]
    size = float((dense**2).sum())
    if size > 0.0 and float(((weight - dense) ** 2).sum()) > UNLIKE * size:
        notes.append(
            f"The weights of {side.name} are not near those of the model (they are further away than half of "
            "their size): is it the same layer of the same model, not rotated, permuted or scaled before it "
            "was compressed?"
        )
    if (weight == dense).all():
        notes.append(f"{side.name} has this layer as the model has it: it is not compressed there.")
    if side.stored.mixed:
        notes.append(
            f"No methods stand beside {side.name}: the values of {len(side.stored.mixed)} of its channels "
            "are of several steps, which they would mix."
        )
    if side.claimed is not None:
        notes.append(_claim_text(side, side.claimed, layer, grams))
    return tuple(notes)


def _claim_text(side: CompressedSide, claimed: float, layer: Layer, grams: Sequence[Gram]) -> str:
    """What the quantizer claims of all channels, and what its weights have."""
    parts = np.split(side.stored.weight - layer.weight, layer.groups)
    pairs = zip(parts, grams, strict=True)
    error = sum(float(((part @ gram.matrix) * part).sum()) for part, gram in pairs)
    if math.isnan(claimed):
        claim = "no number for this layer"
    else:
        ratio = f", {claimed / error:.4g} times that" if error > 0.0 else ""
        claim = f"{claimed:.6g}{ratio}"
    return (
        f"Recomputed on this data, the squared output error of {side.name} is {error:.6g} a position over "
        f"all {layer.channels} channels; the quantizer's log claims {claim} (each tool has its own factor)."
    )

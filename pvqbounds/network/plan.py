"""The plan of a network: its layers, its sides, and what a resume may ask that the store was not asked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pvqbounds._version import __version__
from pvqbounds.errors import InputError, shown
from pvqbounds.network.settings import NetworkSettings, checked_formats
from pvqbounds.nn.compressed import CompressedFiles, named_files
from pvqbounds.nn.image_folders import Images
from pvqbounds.nn.layers import Layer, find_layers, layer_names
from pvqbounds.nn.models import LoadedModel
from pvqbounds.nn.sides import refuse_unfit
from pvqbounds.problems.formats import Format, asked_formats
from pvqbounds.storage.network_manifest import Manifest, PlannedLayer, digest_of

__all__ = ["check_model", "data_digest", "planned", "resumed"]


FILE_FORMATS = "file_formats"
"""Setting: the formats that the weights of each file may be in, where these are dequantized."""


def planned(
    loaded: LoadedModel,
    names: Sequence[str],
    formats: Sequence[str] | None,
    compressed: CompressedFiles | None,
    settings: NetworkSettings,
    *,
    data: str | None = None,
    command: str = "",
) -> tuple[Manifest, dict[str, Layer]]:
    """What a network is asked, and its layers by name; what cannot be had is refused before any work.

    Parameters
    ----------
    names
        Of layers, none of them a pattern.
    formats
        Names; int4 beside 25% if None and nothing is compressed.
    data
        Digest of the calibration data; None where it cannot be told.

    Raises
    ------
    InputError
        If a layer, a format or an option cannot be used.
    SolverError
        If the solver is absent, or can do none of the formats.
    """
    if not names:
        raise InputError(f"A {type(loaded.module).__name__} has no layer that bounds exist for.")
    files = {name: str(Path(path).resolve()) for name, path in named_files(compressed).items()}
    forms = [] if formats is None and files else asked_formats(formats, None, None, None)
    _check_names([form.name for form in forms], files)
    ordered = _sorted(names, layer_names(loaded.module))
    found = find_layers(loaded.module, ordered)
    checked_formats(settings, forms, max(layer.inputs for layer in found.values()), others=bool(files))
    manifest = Manifest(
        version=__version__,
        command=command,
        model=loaded.name,
        notes=(loaded.note,) if loaded.note else (),
        settings=settings.document()
        | {
            "data": data,
            "model_weights": data_digest(loaded.module.state_dict()),
            "contents": {name: _contents(Path(path)) for name, path in files.items()},
            FILE_FORMATS: {name: [form.name for form in forms] for name in files},
        },
        formats=tuple(form.name for form in forms),
        compressed=files,
        layers=tuple(_planned_layer(layer, forms) for layer in found.values()),
    )
    return manifest, found


def _sorted(names: Iterable[str], order: Sequence[str]) -> list[str]:
    """Names as the model has them."""
    places = {name: place for place, name in enumerate(order)}
    return sorted(names, key=lambda name: places.get(name, len(places)))


def _check_names(formats: Sequence[str], files: Mapping[str, str]) -> None:
    for name in files:
        if name in formats:
            raise InputError(f"Compressed weights are called {name} as another side is; rename them.")


def _planned_layer(layer: Layer, forms: Sequence[Format]) -> PlannedLayer:
    left_out = {}
    for form in forms:
        try:
            refuse_unfit(form, layer)
        except InputError as error:
            left_out[form.name] = str(error)
    weight = layer.weight
    return PlannedLayer(
        name=layer.name,
        description=layer.description,
        inputs=layer.inputs,
        channels=layer.channels,
        weights=weight.size,
        digest=digest_of([weight]),
        left_out=left_out,
    )


# ------------------------------------------------------------------------------------ resuming


def check_model(stored: Manifest, loaded: LoadedModel, store: Path) -> None:
    """Refuse another model, by its name, before its layers are looked for.

    Raises
    ------
    InputError
        If so.
    """
    if stored.model != loaded.name:
        raise InputError(
            f"{store} holds the model {shown(stored.model)}, not {shown(loaded.name)}; give another --store."
        )


def resumed(stored: Manifest, wanted: Manifest, store: Path, order: Sequence[str]) -> Manifest:
    """What a store is asked from now on: more layers and formats, of one model, one data and one setting.

    Parameters
    ----------
    order
        Names of the model's layers.

    Raises
    ------
    InputError
        If anything else differs: it is named, with the way out.
    """
    again = f"give it as it was, or another --store than {store}"
    if stored.version != wanted.version:
        raise InputError(
            f"{store} was begun by pvqbounds {stored.version}, and this is {wanted.version}; go on with that "
            "version, or give another --store."
        )
    for name in dict.fromkeys([*stored.settings, *wanted.settings]):
        before, now = stored.settings.get(name), wanted.settings.get(name)
        if name in ("model_weights", "contents", FILE_FORMATS) or (name == "data" and None in (before, now)):
            continue  # not given again, where the Grams are there; or of a kind that cannot be told
        if before != now:
            word = "the data" if name == "data" else f"{name} = {shown(before)}"
            other = "others" if name == "data" else shown(now)
            raise InputError(f"{store} was begun with {word}, not {other}; {again}.")
    for name, path in wanted.compressed.items():
        if stored.compressed.get(name, path) != path:
            raise InputError(
                f"{store} was begun with {name} from {stored.compressed[name]}, not {path}; {again}."
            )
        earlier, now = (own.settings.get("contents", {}).get(name) for own in (stored, wanted))
        if None not in (earlier, now) and earlier != now:
            raise InputError(f"{path} is another file than {store} was begun with; {again}.")
    known = {layer.name: layer for layer in stored.layers}
    for layer in wanted.layers:
        before_layer = known.get(layer.name)
        if before_layer is not None and before_layer.digest != layer.digest:
            raise InputError(
                f"{store} was begun with other weights of layer '{layer.name}'; give the model as it was, or "
                "another --store."
            )
    before, now = (own.settings.get("model_weights") for own in (stored, wanted))
    if None not in (before, now) and before != now:
        raise InputError(
            f"{store} was begun with other weights of the model, if not of these layers; give the model as "
            "it was, or another --store."
        )
    settings = dict(stored.settings)
    settings["contents"] = dict(wanted.settings["contents"]) | _known(stored.settings.get("contents", {}))
    # a file keeps the formats that it was first given beside; of an earlier version's stores none
    kept = {name: stored.settings.get(FILE_FORMATS, {}).get(name, []) for name in stored.compressed}
    settings[FILE_FORMATS] = dict(wanted.settings[FILE_FORMATS]) | kept
    return replace(
        stored,
        settings=settings,
        formats=tuple(dict.fromkeys([*stored.formats, *wanted.formats])),
        compressed=dict(stored.compressed) | dict(wanted.compressed),
        layers=_merged_layers(stored, wanted, order),
    )


def _merged_layers(stored: Manifest, wanted: Manifest, order: Sequence[str]) -> tuple[PlannedLayer, ...]:
    """Layers of both, in the model's order."""
    merged = {layer.name: layer for layer in stored.layers}
    for layer in wanted.layers:
        before = merged.get(layer.name, layer)
        left_out = dict(before.left_out) | dict(layer.left_out)
        merged[layer.name] = replace(layer, grams=before.grams, left_out=left_out)
    return tuple(merged[name] for name in _sorted(merged, order))


def _known(contents: Mapping[str, str | None]) -> dict[str, str | None]:
    return {name: digest for name, digest in contents.items() if digest is not None}


# ------------------------------------------------------------------------------------ the data


def _contents(path: Path) -> str | None:
    """SHA-256 of a file, or of those of a folder with their names; None where there is nothing."""
    total = hashlib.sha256()
    files = sorted(own for own in path.rglob("*") if own.is_file()) if path.is_dir() else [path]
    try:
        for own in files:
            with own.open("rb") as file:
                total.update(own.relative_to(path).as_posix().encode("utf-8", "surrogateescape"))
                total.update(hashlib.file_digest(file, "sha256").digest())
    except OSError:
        return None
    return total.hexdigest() if files else None


def data_digest(data: Any) -> str | None:
    """SHA-256 of data in tensors, arrays, and mappings and lists of them; of images the names and sizes.

    None for anything else, such as a DataLoader, and where there are none.
    """
    total = hashlib.sha256()
    return total.hexdigest() if data is not None and _hashed(total, data) else None


def _hashed(total: Any, data: Any) -> bool:
    if isinstance(data, Tensor):
        data = data.detach().cpu().float().numpy() if data.is_floating_point() else data.cpu().numpy()
    if isinstance(data, np.ndarray):
        total.update(f"{data.shape} {data.dtype}".encode())
        total.update(np.ascontiguousarray(data).tobytes())
        return data.dtype.kind in "fiub"
    if isinstance(data, Mapping):
        total.update(repr(sorted(map(str, data))).encode())
        return all(_hashed(total, data[name]) for name in sorted(data, key=str))
    if isinstance(data, list | tuple):
        total.update(f"{len(data)}".encode())
        return all(_hashed(total, part) for part in data)
    if isinstance(data, Images):
        return _hashed(total, [(path, Path(path).stat().st_size) for path, _ in data.files])
    if data is None or isinstance(data, int | float | str):
        total.update(repr(data).encode())
        return True
    return False

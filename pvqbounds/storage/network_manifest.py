"""``network.json``: what a whole network was asked, written once and held against every resume.

========== ==========================================================================================
schema     ``pvqbounds.network/1``
version    of the package that began the store
command    the command line that began it; empty from Python
model      its name
digest     SHA-256 of the weights of the layers
notes      what a reader must know about the model
settings   what was asked, by the names of options
formats    names of the sides: formats, then compressed weights by what they are called
compressed by those names the files or folders that they come from
layers     ``name``, ``description``, ``inputs``, ``channels``, ``weights`` (their number), ``digest``
           (SHA-256 of them), and ``grams`` (SHA-256 of the Grams of its input; null until the model has run)
left_out   ``layer``, ``format`` and ``reason`` of what means nothing there
tied       of layers with the very same weights ``layers`` and ``others`` (parameters that are none of
           these layers'); null, or absent in earlier stores, where it is not known
========== ==========================================================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.results.network import Tied
from pvqbounds.storage.archive import parse_json, read_bytes
from pvqbounds.storage.nodes import Document, Node
from pvqbounds.storage.text import write_json

__all__ = ["NETWORK_SCHEMA", "Manifest", "PlannedLayer", "digest_of", "read_manifest", "write_manifest"]

NETWORK_SCHEMA = "pvqbounds.network/1"

LARGEST_MANIFEST = 2**26
"""Bytes."""


@dataclass(frozen=True)
class PlannedLayer:
    """One layer of the plan."""

    name: str
    description: str
    inputs: int
    channels: int
    weights: int
    digest: str
    grams: str | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    """By the names of formats that mean nothing for it: why."""


@dataclass(frozen=True)
class Manifest:
    """What a network was asked."""

    version: str
    command: str
    model: str
    notes: tuple[str, ...]
    settings: Mapping[str, Any]
    formats: tuple[str, ...]
    compressed: Mapping[str, str]
    layers: tuple[PlannedLayer, ...]
    tied: tuple[Tied, ...] | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the digests of the layers' weights."""
        text = "\n".join(f"{layer.name} {layer.digest}" for layer in self.layers)
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def sides(self) -> tuple[str, ...]:
        """Names of all sides."""
        return (*self.formats, *self.compressed)

    def with_grams(self, digests: Mapping[str, str]) -> Manifest:
        """The same, with digests of the Grams of some layers."""
        layers = (replace(layer, grams=digests.get(layer.name, layer.grams)) for layer in self.layers)
        return replace(self, layers=tuple(layers))


def digest_of(arrays: Iterable[NDArray[Any]]) -> str:
    """SHA-256 of float64 arrays, with their shapes."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(str(array.shape).encode())
        total.update(np.ascontiguousarray(array, dtype=np.float64).tobytes())
    return total.hexdigest()


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write it whole or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    write_json(path, _document(manifest))


def _document(manifest: Manifest) -> Document:
    return {
        "schema": NETWORK_SCHEMA,
        "version": manifest.version,
        "command": manifest.command,
        "model": manifest.model,
        "digest": manifest.digest,
        "notes": list(manifest.notes),
        "settings": dict(manifest.settings),
        "formats": list(manifest.formats),
        "compressed": dict(manifest.compressed),
        "layers": [
            {
                "name": layer.name,
                "description": layer.description,
                "inputs": layer.inputs,
                "channels": layer.channels,
                "weights": layer.weights,
                "digest": layer.digest,
                "grams": layer.grams,
            }
            for layer in manifest.layers
        ],
        "left_out": [
            {"layer": layer.name, "format": form, "reason": reason}
            for layer in manifest.layers
            for form, reason in layer.left_out.items()
        ],
        "tied": None
        if manifest.tied is None
        else [{"layers": list(own.layers), "others": list(own.others)} for own in manifest.tied],
    }


def read_manifest(path: Path) -> Manifest:
    """Read it.

    Raises
    ------
    InputError
        If it is missing, damaged, of another schema, or does not fit together.
    """
    node = Node(parse_json(read_bytes(path, LARGEST_MANIFEST), path), "", path)
    node.text("schema", (NETWORK_SCHEMA,))
    left_out: dict[str, dict[str, str]] = {}
    for entry in _nodes(node, "left_out"):
        left_out.setdefault(entry.text("layer"), {})[entry.text("format")] = entry.text("reason")
    layers = [_layer(entry, left_out) for entry in _nodes(node, "layers")]
    compressed = node.node("compressed")
    manifest = Manifest(
        version=node.text("version"),
        command=node.text("command"),
        model=node.text("model"),
        notes=node.texts("notes"),
        settings=node.node("settings").values,
        formats=node.texts("formats"),
        compressed={name: compressed.text(name) for name in compressed.values},
        layers=tuple(layers),
        tied=None if node.values.get("tied") is None else tuple(map(_tied, _nodes(node, "tied"))),
    )
    names = [layer.name for layer in layers]
    if len(set(names)) < len(names):
        node.fail("layers", "different layers", names)
    if len(set(manifest.sides)) < len(manifest.sides):
        node.fail("formats", "different names", list(manifest.sides))
    for name in (*names, *manifest.sides):
        if not _can_be_told(name):
            node.fail("layers and formats", "names of letters", name)
    _check_tied(node, manifest)
    if node.text("digest") != manifest.digest:
        node.fail("digest", "that of the layers", node.values["digest"])
    return manifest


def _can_be_told(name: str) -> bool:
    """Whether a name is text, or that of a file that is none: what no file can be called has half letters."""
    try:
        name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _tied(node: Node) -> Tied:
    return Tied(node.texts("layers"), node.texts("others"))


def _check_tied(node: Node, manifest: Manifest) -> None:
    """Refuse layers that cannot have the very same weights."""
    layers = {layer.name: layer for layer in manifest.layers}
    names = [name for own in manifest.tied or () for name in own.layers]
    if len(set(names)) < len(names) or not set(names) <= set(layers):
        node.fail("tied", "layers of the store, each once", names)
    for own in manifest.tied or ():
        if len({layers[name].weights for name in own.layers}) != 1:
            node.fail("tied", "layers of as many weights", list(own.layers))


def _nodes(node: Node, name: str) -> list[Node]:
    """A list of objects that may be empty."""
    return [] if node.values.get(name) == [] else node.nodes(name)


def _layer(node: Node, left_out: Mapping[str, Mapping[str, str]]) -> PlannedLayer:
    name = node.text("name")
    inputs, channels, weights = (node.count(size) for size in ("inputs", "channels", "weights"))
    if weights == 0 or weights != inputs * channels:
        node.fail("weights", "the inputs of all channels, and some", weights)
    return PlannedLayer(
        name=name,
        description=node.text("description"),
        inputs=inputs,
        channels=channels,
        weights=weights,
        digest=node.text("digest"),
        grams=node.optional("grams", node.text),
        left_out=left_out.get(name, {}),
    )

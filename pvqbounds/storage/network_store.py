"""The folder of a whole network: what was asked, and each unit's result as it comes.

::

    DIR/network.json                      what was asked (:mod:`pvqbounds.storage.network_manifest`)
    DIR/grams/LAYER.npz                   Grams of a layer's input
    DIR/units/LAYER/SIDE.json and .npz    one unit, a layer in one format: a result like any other of a layer
    DIR/units/LAYER/SIDE.failed.json      what happened to a unit that failed

LAYER and SIDE are names as a URL would have them, long ones cut short (:func:`file_name`). Every file is
written whole or not at all, the arrays of a unit before its JSON, so that a unit stands where its JSON does,
whenever the process ended. Nothing that is read from a store is executed or unpickled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import IO
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError, OutputError, one_line
from pvqbounds.results.layer import LayerReport
from pvqbounds.results.network import LayerEntry, NetworkReport
from pvqbounds.storage.archive import check_writable, parse_json, read_bytes, replacing
from pvqbounds.storage.network_manifest import (
    Manifest,
    PlannedLayer,
    digest_of,
    read_manifest,
    write_manifest,
)
from pvqbounds.storage.nodes import GramPool, Node
from pvqbounds.storage.results_read import read_layer
from pvqbounds.storage.results_written import write_layer
from pvqbounds.storage.text import write_json

__all__ = ["Failure", "Store", "file_name", "unit_files"]

LOCK = ".lock"
"""Held by the run that is at work in a store; it is empty."""

FAILURE_SCHEMA = "pvqbounds.failure/1"

LARGEST_FAILURE = 2**20
"""Bytes."""

LONGEST_TEXT = 1000
"""Characters of a failure's sentence that are kept."""

LONGEST_NAME = 241
"""Bytes of a layer's or side's name in that of a file. File systems take 255, of which endings need some;
earlier versions wrote names of up to so many, and none that were longer."""


@dataclass(frozen=True)
class Failure:
    """What happened to a unit."""

    kind: str
    """Name of the error's class."""
    text: str
    """In one sentence."""


def file_name(name: str) -> str:
    """A name as that of a file: different ones for different names, and none that leaves its folder.

    A long one is its beginning, then ``%~``, which no other name holds, and the digest of all of it.
    """
    plain = _quoted(name)
    if len(plain) <= LONGEST_NAME:
        return plain
    end = f"%~{hashlib.sha256(plain.encode()).hexdigest()}"
    most = LONGEST_NAME - len(end)
    start = next(own for length in range(most, 0, -1) if len(own := _quoted(name[:length])) <= most)
    return start + end


def _quoted(name: str) -> str:
    plain = quote(name, safe=" !#$&'()+,-.:;=@[]^_{}~", errors="surrogateescape")
    if not plain:
        return "%00"
    return f"%2E{plain[1:]}" if plain.startswith(".") else plain


def unit_files(folder: Path, layer: str, side: str) -> tuple[Path, Path]:
    """The files of a unit in a store's folder: of its result, and of what happened where it failed."""
    place = folder / "units" / file_name(layer)
    return place / f"{file_name(side)}.json", place / f"{file_name(side)}.failed.json"


def _lock(file: IO[str], folder: Path) -> None:
    """Hold a store until the file is closed, by whatever ends the process."""
    try:
        fcntl = import_module("fcntl")
    except ImportError:  # not on this platform
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(
            f"Another run is at work in {folder}; wait for it, or give another --store."
        ) from error
    except OSError:  # a file system without locks
        return


def _arrays_files(stands: Path) -> tuple[Path, Path]:
    """What the arrays of a unit may be called: the second name where a better result replaces the first."""
    return stands.with_suffix(".npz"), stands.with_suffix(".2.npz")


class Store:
    """A network's folder; see the module.

    Parameters
    ----------
    path
        The folder.
    manifest
        What its ``network.json`` says.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest

    @classmethod
    def exists(cls, path: str | Path) -> bool:
        """Whether there is a store in this folder."""
        return (Path(path) / "network.json").exists()

    @classmethod
    def create(cls, path: str | Path, manifest: Manifest) -> Store:
        """Begin a store in a folder that is new or empty.

        Raises
        ------
        OutputError
            If it cannot be written, or holds anything.
        """
        folder = Path(path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "units").mkdir(exist_ok=True)
            (folder / "grams").mkdir(exist_ok=True)
            other = [entry.name for entry in folder.iterdir() if not _ours(entry)]
        except OSError as error:
            raise OutputError(f"{folder} cannot be written ({error.strerror or error}).") from error
        if other:
            raise OutputError(
                f"{folder} holds other files, such as {sorted(other)[0]}, and no store; give a folder of its "
                "own."
            )
        write_manifest(manifest, folder / "network.json")
        return cls(folder, manifest)

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Open the store in this folder.

        Raises
        ------
        InputError
            If there is none, or its ``network.json`` is damaged or of another schema.
        """
        folder = Path(path)
        if not cls.exists(folder):
            raise InputError(f"There is no store in {folder}: it has no network.json; give another folder.")
        return cls(folder, read_manifest(folder / "network.json"))

    def update(self, manifest: Manifest) -> None:
        """Write what is asked from now on."""
        write_manifest(manifest, self.path / "network.json")
        self.manifest = manifest

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Write to the store within the block, and nobody else.

        What a run that was killed left half-written goes.

        Raises
        ------
        OutputError
            If units cannot be written, another run is at work there, or something in it is a link, through
            which a run would write, and clear, what belongs to others.
        """
        self.refuse_links()
        check_writable(self.path / "units" / "unit.json")
        with (self.path / LOCK).open("a") as file:
            _lock(file, self.path)
            for pattern in (".*", "grams/.*", "units/*/.*"):
                for path in self.path.glob(pattern):
                    if path.suffix in (".json", ".npz"):
                        path.unlink(missing_ok=True)
            yield

    def refuse_links(self) -> None:
        """Refuse to write into a store from which links lead elsewhere: a stranger may have put them there.

        Raises
        ------
        OutputError
            If there is one.
        """
        for pattern in ("*", "units/*", "grams/*", "units/*/*"):
            for entry in self.path.glob(pattern):
                if entry.is_symlink():
                    raise OutputError(
                        f"{entry} is a link, and what is written would go to where it leads; put a copy in "
                        "its place (`cp -rL` makes one of a whole store), or give another folder."
                    )

    # ------------------------------------------------------------------------------- units

    def grams_file(self, layer: str) -> Path:
        """Where the Grams of a layer are kept."""
        return self.path / "grams" / f"{file_name(layer)}.npz"

    def units(self) -> Iterator[tuple[PlannedLayer, str]]:
        """The plan: each layer in each format that means something for it."""
        for layer in self.manifest.layers:
            for side in self.manifest.sides:
                if side not in layer.left_out:
                    yield layer, side

    def is_done(self, layer: str, side: str) -> bool:
        """Whether a unit stands."""
        return unit_files(self.path, layer, side)[0].exists()

    def failure(self, layer: str, side: str) -> Failure | None:
        """What happened to a unit that failed; None where it did not, or has come to stand since.

        Raises
        ------
        InputError
            If the file of it is damaged.
        """
        stands, path = unit_files(self.path, layer, side)
        if stands.exists() or not path.exists():
            return None
        node = Node(parse_json(read_bytes(path, LARGEST_FAILURE), path), "", path)
        node.text("schema", (FAILURE_SCHEMA,))
        return Failure(node.text("kind"), one_line(node.text("error"))[:LONGEST_TEXT])

    def write_unit(self, report: LayerReport) -> None:
        """Write the result of a unit; what happened to it before is forgotten.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        stands, failed = self._files(report.layer, report.sides[0].format)
        write_layer(report, stands)
        failed.unlink(missing_ok=True)

    def rewrite_unit(self, report: LayerReport) -> None:
        """Write a better result of a unit that stands; at any moment one of the two stands.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        layer, side = report.layer, report.sides[0].format
        stands, _ = self._files(layer, side)
        name = self.arrays_name(layer, side)
        write_layer(report, stands, stands.with_name(name))
        self._remove_others(stands, name)

    def arrays_name(self, layer: str, side: str) -> str:
        """What the arrays of a unit's next result are to be called: not as those of one that stands."""
        stands, _ = unit_files(self.path, layer, side)
        plain, other = _arrays_files(stands)
        return other.name if stands.exists() and plain.exists() else plain.name

    def write_files(self, layer: str, side: str, document: bytes, arrays: bytes, name: str) -> None:
        """Write the two files of a unit that was made elsewhere; one that stood does so until then.

        Parameters
        ----------
        document, arrays
            What they hold.
        name
            What the document calls the arrays: :meth:`arrays_name`.

        Raises
        ------
        OutputError
            If they cannot be written.
        """
        stands, failed = self._files(layer, side)
        with replacing(stands) as json_file, replacing(stands.with_name(name)) as npz_file:
            npz_file.write_bytes(arrays)
            json_file.write_bytes(document)
        failed.unlink(missing_ok=True)
        self._remove_others(stands, name)

    @staticmethod
    def _remove_others(stands: Path, name: str) -> None:
        for path in _arrays_files(stands):
            if path.name != name:
                path.unlink(missing_ok=True)

    def write_failure(self, layer: str, side: str, failure: Failure) -> None:
        """Write what happened to a unit.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        text = one_line(failure.text)[:LONGEST_TEXT]
        document = {
            "schema": FAILURE_SCHEMA,
            "layer": layer,
            "side": side,
            "kind": failure.kind,
            "error": text,
        }
        write_json(self._files(layer, side)[1], document)

    def _files(self, layer: str, side: str) -> tuple[Path, Path]:
        files = unit_files(self.path, layer, side)
        try:
            files[0].parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{files[0]} cannot be written ({error.strerror or error}).") from error
        return files

    # ----------------------------------------------------------------------------- reading

    def read_unit(self, layer: PlannedLayer, side: str, pool: GramPool | None = None) -> LayerReport:
        """Read a unit that stands; nothing in it is verified yet.

        Parameters
        ----------
        pool
            Grams of the layer's other units, to be shared.

        Raises
        ------
        InputError
            If a file is damaged, or is no unit of this layer and format.
        """
        path = unit_files(self.path, layer.name, side)[0]
        report = read_layer(path, pool)
        found = (report.layer, tuple(s.format for s in report.sides), report.inputs, report.channels[1])
        if (
            found != (layer.name, (side,), layer.inputs, layer.channels)
            or report.model != self.manifest.model
        ):
            raise InputError(
                f"{path} is no result of layer '{layer.name}' of {self.manifest.model} in {side}; remove it, "
                "and resume."
            )
        _check_data(report, layer, path)
        return report

    def read(self) -> NetworkReport:
        """Everything that stands; nothing in it is verified yet.

        Raises
        ------
        InputError
            If a file is damaged, or none of this store's.
        """
        manifest = self.manifest
        return NetworkReport(
            model=manifest.model,
            digest=manifest.digest,
            layers=tuple(map(self._entry, manifest.layers)),
            formats=manifest.sides,
            settings=manifest.settings,
            version=manifest.version,
            command=manifest.command,
            notes=manifest.notes,
            tied=manifest.tied,
        )

    def _entry(self, layer: PlannedLayer) -> LayerEntry:
        pool: GramPool = {}
        sides = [side for side in self.manifest.sides if side not in layer.left_out]
        units = [self.read_unit(layer, side, pool) for side in sides if self.is_done(layer.name, side)]
        failures = {side: failure.text for side in sides if (failure := self.failure(layer.name, side))}
        return LayerEntry(
            name=layer.name,
            description=layer.description,
            inputs=layer.inputs,
            channels=layer.channels,
            weights=layer.weights,
            report=_merged(units) if units else None,
            failures=failures,
            left_out=layer.left_out,
        )


def _ours(entry: Path) -> bool:
    """Whether a file of a folder is what a store that was begun, and not finished, left."""
    return entry.name in ("units", "grams", LOCK) or entry.name.startswith(".network.")


def _check_data(report: LayerReport, layer: PlannedLayer, path: Path) -> None:
    """Refuse a unit that is about other weights or inputs than the plan, or whose ends cannot be."""
    slices = report.sides[0].slices
    if not all(0.0 <= s.bounds.error_lower <= s.bounds.error_upper for s in slices):
        raise InputError(f"{path} has an interval whose ends cannot be; remove it, and resume.")
    if report.protocol != "full" or len(slices) < layer.channels:
        return  # some channels, or chunks: the digests are about all of them
    weight, grams = np.stack([s.problem.weight for s in slices]), [s.problem.gram for s in slices]
    if digest_of([weight]) != layer.digest or not _are_those(grams, layer.grams):
        raise InputError(
            f"{path} is about other weights, or other inputs, of layer '{layer.name}' than the store; remove "
            "it, and resume."
        )


def _are_those(grams: list[NDArray[np.float64]], digest: str | None) -> bool:
    """Whether the Grams of a layer's channels, in groups of any size, have this digest; None fits all."""
    channels = len(grams)
    for groups in (number for number in range(1, channels + 1) if channels % number == 0):
        firsts = grams[:: channels // groups]
        fits = all(gram is firsts[i * groups // channels] for i, gram in enumerate(grams))
        if digest is None or (fits and digest_of(firsts) == digest):
            return True
    return False


def _merged(units: list[LayerReport]) -> LayerReport:
    """One report of a layer from one for each of its sides."""
    first = units[0]
    return replace(
        first,
        sides=tuple(side for unit in units for side in unit.sides),
        seconds=sum(unit.seconds for unit in units),
        notes=tuple(dict.fromkeys(note for unit in units for note in unit.notes)),
        held_out=None,
    )

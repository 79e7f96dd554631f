"""Bounds for a whole network, in a store that any later run goes on with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from torch import nn

from pvqbounds.errors import InputError, OutputError, checked_flags
from pvqbounds.methods import asked_for
from pvqbounds.network.agenda import Agenda, TimedAgenda
from pvqbounds.network.capture import capture_grams
from pvqbounds.network.local import Outcome, Pool, failure_of, processes
from pvqbounds.network.plan import FILE_FORMATS, check_model, data_digest, planned, resumed
from pvqbounds.network.progress import NetworkProgress, Progress
from pvqbounds.network.settings import NetworkKeywords, NetworkSettings
from pvqbounds.network.solved import solve_in_store
from pvqbounds.network.unit import Unit
from pvqbounds.nn.carried import CarriedLayer, carried
from pvqbounds.nn.compressed import CompressedFiles, FileInFormats, unreadable
from pvqbounds.nn.grams import Data
from pvqbounds.nn.layers import Layer, layer_names, select_layers
from pvqbounds.nn.models import LoadedModel
from pvqbounds.nn.tied import tied_layers
from pvqbounds.results.network import NetworkReport
from pvqbounds.solving.execution import Execution
from pvqbounds.solving.guards import blas_threads
from pvqbounds.solving.keywords import carried_by, refuse_unknown
from pvqbounds.solving.options import SolveOptions
from pvqbounds.storage.network_store import Failure, Store

__all__ = ["network_bounds"]


def network_bounds(
    model: nn.Module | LoadedModel,
    data: Data | None = None,
    *,
    store: str | Path,
    layers: Sequence[str] | None = None,
    leave_out: Sequence[str] = (),
    formats: Sequence[str] | None = None,
    compressed: CompressedFiles | None = None,
    methods: Sequence[str] | None = None,
    sample: int | None = None,
    jobs: int = 1,
    dask: str | None = None,
    total_time: float | None = None,
    keep_grams: bool = True,
    batch_size: int = 64,
    progress: NetworkProgress | None = None,
    command: str = "",
    **options: Unpack[NetworkKeywords],
) -> NetworkReport:
    """How well the layers of a network can be quantized and pruned at all, one result after another.

    Results land in a folder as they come, and a later call with the same arguments goes on where this one
    ended, however it ended. They depend neither on `jobs` nor on interruptions.

    Parameters
    ----------
    model, data
        As for :func:`pvqbounds.nn.layer_bounds`.
    store
        Folder of the results: a new one, or one that a call with the same settings began.
    layers
        Names of layers, or patterns like ``blocks.*.fc1``; if None those that the store has, in a new one all
        that bounds exist for.
    leave_out
        Names of layers, or patterns, that are not bounded in this run.
    formats, compressed
        As for :func:`pvqbounds.nn.layer_bounds`, for each layer; a format that means nothing for a layer
        is left out there. Without either those that the store has, in a new one int4 beside 25%.
    methods
        As for :func:`pvqbounds.nn.layer_bounds`.
    sample
        So many channels of each layer, drawn at random, are bounded tightly and the others cheaply: the
        layer's own ends are certified, and what they would be with all channels tight is estimated.
    jobs
        Units, a layer in a format each, that are worked on at a time, in processes of one BLAS thread.
    dask
        Address of a Dask scheduler whose workers take the units in place of this machine's processes.
    total_time
        Seconds for this run after the Grams are taken: each unit gets a cheap interval first, then those that
        add most to the gap get more; units that stand already, too. None for one solve of each channel within
        its `time_limit`.
    keep_grams
        Whether the Grams stay in the store when their layer is done; without them, formats that are
        added later have the model run again.
    batch_size
        Samples a batch, where `data` is one tensor or array.
    progress
        Called with a :class:`~pvqbounds.network.progress.Progress` now and then.
    command
        The command line, to be kept with the results.
    **options
        Of :class:`~pvqbounds.network.settings.NetworkSettings` and its solves: `solver`, `method`,
        `relaxation`, `time_limit`, `tolerance`, `threads`, `seed`, `solver_options`, `range_method`,
        `per_channel`, `mask_cost`.

    Returns
    -------
    NetworkReport
        Everything that stands, and what failed.

    Raises
    ------
    InputError
        If something cannot be used, or is another than the store was begun with.
    SolverError
        If the solver is absent or can do none of the formats.
    OutputError
        If the store cannot be written.
    """
    loaded = model if isinstance(model, LoadedModel) else LoadedModel(type(model).__name__, model, None)
    data = loaded.data if data is None else data
    checked_flags(keep_grams=keep_grams)
    refuse_unknown("network_bounds", options, NetworkKeywords.__optional_keys__)
    asked_for(methods)  # not one text, whose letters would be names
    own = {"methods": None if methods is None else tuple(methods), "sample": sample}
    settings = carried_by(NetworkSettings, own | options | {"solve": carried_by(SolveOptions, options)})
    execution = Execution(jobs, total_time=total_time)
    place = Path(store)
    kept = Store.open(place) if Store.exists(place) else None
    if kept is not None:  # what is not said is as it was
        check_model(kept.manifest, loaded, place)
        if formats is None and compressed is None:
            formats, compressed = kept.manifest.formats or None, dict(kept.manifest.compressed) or None
    names = _names(loaded, layers, leave_out, kept)
    digest = data_digest(data)
    manifest, found = planned(loaded, names, formats, compressed, settings, data=digest, command=command)
    for name, path in manifest.compressed.items():  # one that was asked for cannot be taken back
        if not Path(path).exists() and (kept is None or name not in kept.manifest.compressed):
            raise InputError(f"There is no file or folder {path}.")
    if kept is None:
        kept = Store.create(place, manifest)
    with kept.claimed():
        manifest = resumed(kept.manifest, manifest, place, layer_names(loaded.module))
        tied = tied_layers(loaded.module, [layer.name for layer in manifest.layers])
        kept.update(replace(manifest, tied=tied))
        return NetworkRun(kept, found, loaded, settings, progress or (lambda now: None)).through(
            data, execution, dask, keep_grams=keep_grams, batch_size=batch_size
        )


def _names(
    loaded: LoadedModel, layers: Sequence[str] | None, leave_out: Sequence[str], kept: Store | None
) -> list[str]:
    """Names of the layers of a run; what a store has are names, whatever letters are in them."""
    if layers is not None:
        names = select_layers(loaded.module, layers)
    elif kept is not None and kept.manifest.layers:
        names = [layer.name for layer in kept.manifest.layers]
    else:
        names = layer_names(loaded.module)
    gone = select_layers(loaded.module, leave_out)
    if names and not set(names) - set(gone):
        raise InputError("No layer is left to be bounded; leave out fewer.")
    return [name for name in names if name not in gone]


class NetworkRun:
    """One run through the units that do not stand yet.

    Parameters
    ----------
    layers
        Of this run, by their names; the store may have others.
    report
        Called with how far it is.
    """

    def __init__(
        self,
        store: Store,
        layers: dict[str, Layer],
        loaded: LoadedModel,
        settings: NetworkSettings,
        report: NetworkProgress,
    ) -> None:
        self.store, self.layers, self.loaded, self.settings = store, layers, loaded, settings
        self.progress = Progress.of(store, layers)
        self._report = report
        self.agenda = Agenda([])
        self._carried: dict[str, CarriedLayer] = {}

    def through(
        self, data: Data | None, execution: Execution, dask: str | None, *, keep_grams: bool, batch_size: int
    ) -> NetworkReport:
        """Take the Grams, bound what is open, and read what stands."""
        open_units, standing = self._open()
        count = len(open_units) + (len(standing) if execution.total_time is not None else 0)
        with self._pool(min(execution.jobs, count) if dask is None else 0) as pool:
            units = self._captured(open_units, data, batch_size)
            self.progress.begin(units)
            self._tell()
            self._work(units, standing, execution, dask, pool)
        if not keep_grams:
            self._forget()
        return self.store.read()

    @contextmanager
    def _pool(self, workers: int) -> Iterator[Pool | None]:
        """Processes that get ready while the Grams are taken, where there is work for several."""
        if workers < 2:
            yield None
            return
        with processes(self.store.path, workers) as pool:
            yield pool

    def _captured(
        self, open_units: Sequence[tuple[str, str]], data: Data | None, batch_size: int
    ) -> list[Unit]:
        """Take the Grams; the units that have them. A file that cannot be read needs none."""
        bad = self._unreadable(open_units)
        for key, error in bad.items():
            self.store.write_failure(*key, failure_of(error))
        open_units = [key for key in open_units if key not in bad]
        needing = [self.layers[name] for name in dict.fromkeys(layer for layer, _ in open_units)]
        failed = capture_grams(self.store, needing, self.loaded, data, batch_size, self._capturing)
        for layer, side in open_units:
            if layer in failed:
                self.store.write_failure(layer, side, failure_of(failed[layer]))
        return [self._unit(layer, side) for layer, side in open_units if layer not in failed]

    def _unreadable(self, open_units: Sequence[tuple[str, str]]) -> dict[tuple[str, str], InputError]:
        """Units whose file of compressed weights cannot be read, or is not of their layer."""
        files = self.store.manifest.compressed
        found = {}
        for layer, side in open_units:
            if side in files:
                file = FileInFormats(files[side], self._file_formats(side))
                for error in unreadable({side: file}, [self.layers[layer]]).values():
                    found[layer, side] = error
        return found

    def _file_formats(self, side: str) -> tuple[str, ...]:
        """Formats that the weights of a file may be in."""
        return tuple(self.store.manifest.settings.get(FILE_FORMATS, {}).get(side, ()))

    def _work(
        self,
        units: Sequence[Unit],
        standing: Sequence[tuple[str, str]],
        execution: Execution,
        dask: str | None,
        pool: Pool | None,
    ) -> None:
        """Bound units where they are to be bounded, the largest first."""
        ordered = sorted(units, key=lambda unit: -unit.cost)
        if execution.total_time is None:
            self.agenda = Agenda(ordered)
        else:
            known = [self._unit(*key) for key in standing]
            self.agenda = TimedAgenda(ordered, known, self.store, execution.total_time, execution.jobs)
            units = [*units, *known]
        if not units:
            return
        if dask is not None:
            from pvqbounds.network.dask_ import on_cluster

            on_cluster(dask, self.store, self.agenda, self.ended)
        elif pool is not None:
            pool.work(self.agenda, self.told, self.ended)
        else:
            self._here()

    def _open(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Names of the layers and sides of this run that do not stand, and of those that do."""
        plan = [(layer.name, side) for layer, side in self.store.units() if layer.name in self.layers]
        stands = [key for key in plan if self.store.is_done(*key)]
        return [key for key in plan if key not in stands], stands

    def _unit(self, layer: str, side: str) -> Unit:
        if layer not in self._carried:
            self._carried[layer] = carried(self.layers[layer])
        return Unit(
            model=self.loaded.name,
            note=self.loaded.note,
            layer=self._carried[layer],
            side=side,
            compressed=self.store.manifest.compressed.get(side),
            file_formats=self._file_formats(side),
            settings=self.settings,
        )

    def _here(self) -> None:
        """Bound units in this process, one after another."""
        while (unit := self.agenda.take()) is not None:
            outcome: Outcome = None
            try:
                with blas_threads(1):  # as in a process of its own
                    solve_in_store(unit, self.store.path, self._telling(unit))
            except OutputError:
                raise
            except Exception as error:
                outcome = failure_of(error)
            self.ended(unit, outcome)

    def _telling(self, unit: Unit) -> Callable[[int, int, str], None]:
        return lambda done, total, doing: self.told(unit, done, total)

    def told(self, unit: Unit, done: int, total: int) -> None:
        """So many problems of a unit are done."""
        if unit.again:
            self.progress.doing = f"{unit.layer.name} {unit.side} again"
        else:
            self.progress.advance(unit, done, total)
        self._tell()

    def ended(self, unit: Unit, outcome: Outcome) -> None:
        """A unit stands, or has failed; one that stood before does so still."""
        if isinstance(outcome, Failure) and not unit.again:
            self.store.write_failure(*unit.key, outcome)
        self.agenda.ended(unit, failed=outcome is not None)
        if not unit.again:
            self.progress.end(unit, failed=outcome is not None)
        self._tell()

    def _capturing(self, done: int, total: int) -> None:
        self.progress.doing = f"layer inputs, {done} of {total} layers"
        self._tell()

    def _tell(self) -> None:
        self._report(self.progress)

    def _forget(self) -> None:
        """Remove the Grams of layers all of whose sides stand."""
        for layer in self.store.manifest.layers:
            sides = [side for side in self.store.manifest.sides if side not in layer.left_out]
            if all(self.store.is_done(layer.name, side) for side in sides):
                self.store.grams_file(layer.name).unlink(missing_ok=True)

"""Where the results of layers go: files, a picture, the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pvqbounds.commands.console import check_different, show
from pvqbounds.errors import InputError, OutputError

if TYPE_CHECKING:
    from pvqbounds.results.layer import LayerReport

__all__ = ["Outputs", "present_layers"]

PLACE = "{layer}"
"""What stands for a layer's name in that of a file."""


@dataclass(frozen=True)
class Outputs:
    """The files that a command on layers writes, one for each layer."""

    json: Path | None = None
    plot: Path | None = None
    table: Path | None = None
    """One for all layers."""
    words: bool = True
    """Whether pictures have the verdict above them."""
    grams: Path | None = None
    """Those of all layers."""

    def check(self, inputs: Sequence[Path]) -> None:
        """Find out before any work whether all can be written.

        Raises
        ------
        InputError, OutputError
            If not, or if one would replace an input or another.
        """
        from pvqbounds.commands.inputs import check_gram_file
        from pvqbounds.report.frames import check_table_path
        from pvqbounds.report.plot import check_plot_path
        from pvqbounds.storage.results_written import check_result_path

        if self.json is not None:
            check_result_path(self.json, *inputs)
        if self.plot is not None:
            check_plot_path(self.plot)
        if self.table is not None:
            check_table_path(self.table)
        if self.grams is not None:
            check_gram_file(self.grams, inputs)
        check_different(plot=self.plot, table=self.table)
        self._refuse_grams_at(self.json)
        if self.json is not None and self.plot is not None:
            taken = {self.json.resolve(), self.json.with_suffix(".npz").resolve()}
            if self.plot.resolve() in taken:
                raise OutputError(f"--json and --plot would both write {self.plot}; give one another name.")

    def check_layers(self, layers: Sequence[str], inputs: Sequence[Path]) -> None:
        """Refuse one file for several layers, and find out whether that of each layer can be written.

        Raises
        ------
        OutputError
            If so, or if not, or if one would replace an input.
        """
        from pvqbounds.storage.results_written import check_result_path

        for option, path in (("--json", self.json), ("--plot", self.plot)):
            if path is not None and len(layers) > 1 and PLACE not in path.name:
                raise OutputError(
                    f"{option} would write {len(layers)} layers to {path}; put {PLACE} into its name, as in "
                    f"{path.stem}-{PLACE}{path.suffix}."
                )
        for layer in layers:
            path = self.result_of(layer)
            if path is not None:
                check_result_path(path, *inputs)
                self._refuse_grams_at(path)

    def _refuse_grams_at(self, result: Path | None) -> None:
        """Refuse Grams where the arrays of a result go, beside it."""
        if result is None or self.grams is None:
            return
        if result.with_suffix(".npz").resolve() == self.grams.resolve():
            raise OutputError(
                f"--json and --save-grams would both write {self.grams}; give one another name."
            )

    def check_none(self) -> None:
        """Refuse files where there is no layer to write.

        Raises
        ------
        InputError
            If so.
        """
        if any(path is not None for path in (self.json, self.plot, self.table)):
            raise InputError("Name the layer with --layer; without it the layers are listed alone.")

    def write(self, report: LayerReport) -> None:
        """Write the result of a layer."""
        from pvqbounds.storage.results_written import write_layer

        path = self.result_of(report.layer)
        if path is not None:
            write_layer(report, path)

    def result_of(self, layer: str) -> Path | None:
        """Where the result of a layer goes."""
        return None if self.json is None else _of_layer(self.json, layer)

    def write_rows(self, reports: Sequence[LayerReport]) -> None:
        """Write the table of all layers."""
        from pvqbounds.report.frames import layer_rows, write_table

        if self.table is not None:
            write_table([row for report in reports for row in layer_rows(report)], self.table)

    def present(self, report: LayerReport) -> None:
        """Draw and print it."""
        from pvqbounds.report.plot import plot_layer
        from pvqbounds.report.tables import layer_view

        try:
            if self.plot is not None:
                plot_layer(report, _of_layer(self.plot, report.layer), words=self.words)
        finally:  # a picture that fails does not cost the result
            show(layer_view(report))


def present_layers(reports: Sequence[LayerReport]) -> None:
    """Print several layers in one table, below those of each."""
    from pvqbounds.report.layers_table import layers_view

    if len(reports) > 1:
        show(layers_view(reports))


def _of_layer(path: Path, layer: str) -> Path:
    return path.with_name(path.name.replace(PLACE, layer.replace("/", "_")))

"""Where budget curves go: files, a picture, the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pvqbounds.commands.console import check_different, show
from pvqbounds.errors import InputError

if TYPE_CHECKING:
    from pvqbounds.results.curve import BudgetCurve

__all__ = ["CurveOutputs", "refuse_unfit"]


@dataclass(frozen=True)
class CurveOutputs:
    """The files that a command on one problem writes."""

    json: Path | None = None
    plot: Path | None = None
    table: Path | None = None

    def check(self, source: Path, curve: bool) -> None:
        """Find out before any work whether all can be written.

        Parameters
        ----------
        curve
            Whether it is a curve; a single result has neither picture nor table.

        Raises
        ------
        InputError, OutputError
            If not, or if one would replace the input or another.
        """
        from pvqbounds.report.frames import check_table_path
        from pvqbounds.report.plot import check_plot_path
        from pvqbounds.storage.results_written import check_result_path

        if self.json is not None:
            check_result_path(self.json, source)
        if not curve and (self.plot is not None or self.table is not None):
            raise InputError("--plot and --table are for curves; add --curve, or leave them out.")
        if self.plot is not None:
            check_plot_path(self.plot)
        if self.table is not None:
            check_table_path(self.table)
        arrays = None if self.json is None else self.json.with_suffix(".npz")
        check_different(json=self.json, plot=self.plot, table=self.table, arrays=arrays)

    def write(self, curve: BudgetCurve, source: str) -> None:
        """Write what is asked for, and print the curve."""
        from pvqbounds.report.curves import curve_rows, curve_view, plot_curve
        from pvqbounds.report.frames import write_table
        from pvqbounds.storage.results_written import write_curve

        if self.json is not None:
            write_curve(curve, source, self.json)
        if self.table is not None:
            write_table(curve_rows(curve), self.table)
        try:
            if self.plot is not None:
                plot_curve(curve, source, self.plot)
        finally:  # a picture that fails does not cost the result
            show(curve_view(curve, source))


def refuse_unfit(solver: str, method: str, relaxation: str | None) -> None:
    """Refuse what a curve has no use for.

    Raises
    ------
    InputError
        If another solver, a method or a relaxation is asked for.
    """
    if solver not in ("auto", "native") or method != "auto" or relaxation is not None:
        raise InputError(
            "A curve is solved by the native solver in its own way; leave out --solver, --method and "
            "--relaxation."
        )

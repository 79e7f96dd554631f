"""Reports as rows of a table: for data frames, and for files in CSV, Parquet and LaTeX."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

from pvqbounds.errors import InputError, OutputError
from pvqbounds.report.comparison import Entry
from pvqbounds.results.bounds import Bounds, sqnr
from pvqbounds.results.layer import LayerReport, Side
from pvqbounds.storage.archive import check_writable, replacing

__all__ = ["bounds_columns", "check_table_path", "entry_rows", "frame_of", "layer_rows", "write_table"]

Row = Mapping[str, Any]

SUFFIXES = (".csv", ".parquet", ".tex")

SPECIAL = {
    **{letter: f"\\{letter}" for letter in "%&_#${}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
"""Characters that LaTeX reads as something else."""


def layer_rows(report: LayerReport, *, per_channel: bool = False) -> list[dict[str, Any]]:
    """One row for each side; or for each of its channels, or chunks.

    Errors are mean squares, SQNR and what methods reach (``NAME_sqnr``) in dB.
    """
    if per_channel:
        return [row for side in report.sides for row in _channel_rows(report, side)]
    full = report.protocol == "full"  # chunks do not add up
    rows = []
    for number, side in enumerate(report.sides):
        lower, upper = side.sqnr_interval if full else (math.nan, math.nan)
        row = _head(report, side) | {
            "bits_per_weight": side.bits_per_weight,
            "mask_cost": side.mask_cost,
            "error_lower": side.error_lower if full else math.nan,
            "error_upper": side.error_upper if full else math.nan,
            "sqnr_lower": lower,
            "sqnr_upper": upper,
            "signal": side.signal_enclosure.middle,
            "status": side.status,
            "lower_kind": side.lower_kind,
            **_presumed(side),
            "seconds": math.fsum(s.bounds.seconds for s in side.slices),
            **_estimated(side),
        }
        row |= {f"{name}_sqnr": side.method_sqnr(name) if full else math.nan for name in side.methods}
        if report.held_out is not None:
            held = report.held_out
            row |= {f"held_out_{name}_sqnr": held.sqnr(number, name) for name in held.errors[number]}
        rows.append(row)
    return rows


def _presumed(side: Side) -> dict[str, Any]:
    """What the interval holds for, where no file says which grid its weights were held to."""
    found = "" if side.compressed is None else side.compressed.condition
    return {"presumed": found} if found else {}


def _estimated(side: Side) -> dict[str, Any]:
    """What is estimated of the whole layer, and no bound; nothing where every channel was solved alike."""
    if side.estimate is None:
        return {}
    signal, found = side.signal_enclosure.middle, side.estimate
    return {
        "estimated_sqnr_lower": sqnr(signal, found.error_upper.value),
        "estimated_sqnr_upper": sqnr(signal, found.error_lower.value),
        "estimated_sqnr_lower_95": sqnr(signal, found.error_upper.high),
        "estimated_sqnr_upper_95": sqnr(signal, found.error_lower.low),
        "sampled_channels": len(found.sample),
    }


def bounds_columns(bounds: Bounds) -> dict[str, Any]:
    """What a row says of the bounds of one problem."""
    return {
        "error_lower": bounds.error_lower,
        "error_upper": bounds.error_upper,
        "sqnr_lower": bounds.sqnr_lower,
        "sqnr_upper": bounds.sqnr_upper,
        "signal": bounds.signal,
        "status": bounds.status,
        "lower_kind": bounds.lower_kind,
        "solver": bounds.solver,
        "method": bounds.method,
        "seconds": bounds.seconds,
    }


def _channel_rows(report: LayerReport, side: Side) -> list[dict[str, Any]]:
    rows = []
    for i, result in enumerate(side.slices):
        bounds = result.bounds
        row = _head(report, side) | {
            "channel": result.channel,
            "first_input": result.inputs[0],
            "past_input": result.inputs[1],
            **bounds_columns(bounds),
            **_presumed(side),
        }
        own = {name: sqnr(bounds.signal, errors[i]) for name, errors in side.method_errors.items()}
        rows.append(row | {f"{name}_sqnr": value for name, value in own.items()})
    return rows


def _head(report: LayerReport, side: Side) -> dict[str, Any]:
    return {"model": report.model, "layer": report.layer, "format": side.format, "task": side.task}


def entry_rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """One row for each backend and side of a comparison."""
    return [asdict(entry) for entry in entries]


def frame_of(rows: Sequence[Row]) -> Any:
    """The rows as a pandas DataFrame.

    Raises
    ------
    InputError
        If pandas is not installed.
    """
    try:
        pandas = import_module("pandas")
    except ImportError as error:
        raise InputError("A data frame needs pandas; install it with: pip install pandas.") from error
    return pandas.DataFrame(list(rows))


def check_table_path(path: Path) -> None:
    """Find out before any work whether a table can be written to `path`.

    Raises
    ------
    InputError
        If pyarrow is wanted and not installed.
    OutputError
        If the kind of file is unknown or the path cannot be written.
    """
    if path.suffix not in SUFFIXES:
        raise OutputError(
            f"A table is written to {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, not to {path}."
        )
    check_writable(path)
    if path.suffix == ".parquet":
        _pyarrow()


def write_table(rows: Sequence[Row], path: Path) -> None:
    """Write rows to a ``.csv``, ``.parquet`` or ``.tex`` file, by its ending.

    A cell is empty where a row has no such number. In LaTeX numbers are rounded, those of intervals outwards.
    """
    check_table_path(path)
    rows = [{_encodable(name): _encodable(value) for name, value in row.items()} for row in rows]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            _write_parquet(rows, columns, temporary)
        elif path.suffix == ".csv":
            with temporary.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.writer(stream)
                writer.writerow(columns)
                writer.writerows([_plain(row.get(name)) for name in columns] for row in rows)
        else:
            temporary.write_text(_latex(rows, columns), "utf-8")


def _encodable(value: Any) -> Any:
    """Text that UTF-8 can hold: names of layers may be bytes that are none, as lone surrogates."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value


def _write_parquet(rows: Sequence[Row], columns: Sequence[str], path: Path) -> None:
    pyarrow, parquet = _pyarrow()
    table = pyarrow.table({name: [row.get(name) for row in rows] for name in columns})
    parquet.write_table(table, path)


def _pyarrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise InputError(
            "Parquet needs pyarrow; install it with: pip install 'pvqbounds[parquet]', or write .csv."
        ) from error


def _latex(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """A tabular with the rules of booktabs."""
    numeric = [all(isinstance(row.get(name, 0.0), int | float) for row in rows) for name in columns]
    lines = [
        r"\begin{tabular}{" + "".join("r" if right else "l" for right in numeric) + "}",
        r"\toprule",
        " & ".join(_escaped(name.replace("_", " ")) for name in columns) + r" \\",
        r"\midrule",
        *(" & ".join(_cell(row.get(name), name) for name in columns) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _cell(value: Any, column: str) -> str:
    """A number with two decimals, or three figures; ends of intervals outwards."""
    if isinstance(value, float):
        if math.isnan(value):
            return "--"
        if math.isinf(value):
            return r"$\infty$" if value > 0 else r"$-\infty$"
        exact = Decimal(value)
        last = (
            Decimal("0.01") if abs(value) >= 0.1 or value == 0.0 else Decimal(1).scaleb(exact.adjusted() - 2)
        )
        outwards = {"upper": ROUND_CEILING, "lower": ROUND_FLOOR}
        return f"{exact.quantize(last, outwards.get(column.rpartition('_')[2], ROUND_HALF_EVEN)):f}"
    return "--" if value is None else _escaped(str(value))


def _escaped(text: str) -> str:
    return "".join(SPECIAL.get(letter, letter) for letter in text)

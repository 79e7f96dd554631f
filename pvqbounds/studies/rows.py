"""Rows of the two studies, and the files they go into: JSON always, Parquet where pyarrow is installed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, get_args, get_type_hints

from pvqbounds.errors import InputError, OutputError
from pvqbounds.storage.archive import check_writable, replacing
from pvqbounds.storage.text import finite
from pvqbounds.studies.expected import ExpectedErrors
from pvqbounds.studies.tensors import TensorErrors

__all__ = [
    "DISTRIBUTIONS_SCHEMA",
    "WEIGHTS_SCHEMA",
    "DistributionRow",
    "Row",
    "Skipped",
    "WeightRow",
    "check_parquet_path",
    "distribution_row",
    "document",
    "sample_row",
    "weight_row",
    "write_parquet",
]

DISTRIBUTIONS_SCHEMA = "pvqbounds.distributions/1"
WEIGHTS_SCHEMA = "pvqbounds.weights/1"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What b bits a weight are worth. SQNR in dB; NaN where undefined, infinite where nothing is lost."""

    bits: int
    density: float
    """Share of the weights that pruning keeps: b/16."""
    quantization_sqnr: float
    pruning_sqnr: float
    pruning_sqnr_corrected: float
    """Keeping (1 - zeros) b/16: corrected for the natural sparsity of the quantized weights."""
    pruning_sqnr_masked: float
    """Keeping (b-1)/16: the mask is charged with one bit a weight."""
    kurtosis: float
    """Non-excess: 3 for a Gaussian."""
    zeros: float
    """Share of the weights that quantization sets to zero."""
    scale: float
    """Step of the grid."""
    note: str | None = None
    """What is special, where something is undefined or infinite."""

    KEYS: ClassVar[tuple[str, ...]] = ()
    """The fields that say what the row is about; they come first."""

    def record(self) -> dict[str, Any]:
        """The row as JSON can hold it: numbers that are not finite are null, and `note` says why."""
        values = {name: finite(value) for name, value in asdict(self).items()}
        return {name: values[name] for name in dict.fromkeys([*self.KEYS, *values])}


@dataclass(frozen=True, kw_only=True)
class WeightRow(Row):
    """One tensor at one bit width."""

    model: str
    tensor: str
    size: int | None
    """Number of weights; None where a file does not say."""
    source: str = "pvqbounds"
    """Who measured: "pvqbounds", or "released" for the figures that come with the paper's code."""

    KEYS: ClassVar[tuple[str, ...]] = ("model", "tensor")


@dataclass(frozen=True, kw_only=True)
class DistributionRow(Row):
    """One distribution at one bit width."""

    distribution: str
    """The name that was asked for."""
    description: str
    """With all parameters."""
    group_size: int | None
    rate_distortion_sqnr: float
    """No coder of this many bits a weight has a higher SQNR (Shannon's lower bound on the distortion)."""
    quantization_uncertainty: float
    """How far off the SQNR may be, dB: the quadrature's estimate, or the rounding of a closed form."""
    pruning_uncertainty: float
    monte_carlo_quantization_sqnr: float | None = None
    monte_carlo_quantization_deviation: float | None = None
    """Of the sampled error from the expected one, in standard errors."""
    monte_carlo_pruning_sqnr: float | None = None
    monte_carlo_pruning_deviation: float | None = None

    KEYS: ClassVar[tuple[str, ...]] = ("distribution",)


@dataclass(frozen=True)
class Skipped:
    """A tensor that has no row, and why."""

    model: str
    tensor: str
    reason: str


def _measured(errors: TensorErrors) -> dict[str, Any]:
    return {
        "bits": errors.bits,
        "density": errors.density,
        "quantization_sqnr": errors.sqnr(errors.quantization),
        "pruning_sqnr": errors.sqnr(errors.pruning),
        "pruning_sqnr_corrected": errors.sqnr(errors.corrected),
        "pruning_sqnr_masked": errors.sqnr(errors.masked),
        "kurtosis": errors.kurtosis,
        "zeros": errors.zeros,
        "scale": errors.scale,
        "note": errors.note,
    }


def weight_row(model: str, tensor: str, errors: TensorErrors) -> WeightRow:
    """A row of what :func:`pvqbounds.studies.tensors.tensor_errors` found."""
    return WeightRow(model=model, tensor=tensor, size=errors.size, **_measured(errors))


def sample_row(name: str, description: str, errors: TensorErrors) -> DistributionRow:
    """The same for a sample in place of a distribution: no density, so no limit; nothing is estimated."""
    return DistributionRow(
        distribution=name,
        description=description,
        group_size=None,
        rate_distortion_sqnr=math.nan,
        quantization_uncertainty=0.0,
        pruning_uncertainty=0.0,
        **_measured(errors),
    )


def distribution_row(name: str, errors: ExpectedErrors) -> DistributionRow:
    """A row of what :func:`pvqbounds.studies.expected.expected_errors` found."""
    losses, check = errors.losses, errors.monte_carlo
    sampled: dict[str, float] = {}
    if check is not None:
        for side in ("quantization", "pruning"):
            expected, mean = getattr(losses, side), getattr(check, side)
            sampled[f"monte_carlo_{side}_sqnr"] = errors.sqnr(mean)
            sampled[f"monte_carlo_{side}_deviation"] = mean.deviation(expected)
    return DistributionRow(
        distribution=name,
        description=errors.distribution,
        bits=errors.bits,
        density=errors.density,
        group_size=errors.group_size,
        quantization_sqnr=errors.sqnr(losses.quantization),
        pruning_sqnr=errors.sqnr(losses.pruning),
        pruning_sqnr_corrected=errors.sqnr(losses.corrected),
        pruning_sqnr_masked=errors.sqnr(losses.masked),
        rate_distortion_sqnr=errors.limit,
        kurtosis=errors.kurtosis,
        zeros=losses.zeros,
        scale=losses.scale,
        quantization_uncertainty=errors.uncertainty(losses.quantization),
        pruning_uncertainty=errors.uncertainty(losses.pruning),
        note=errors.note,
        **sampled,
    )


def document(schema: str, rows: Sequence[Row], skipped: Sequence[Skipped] = ()) -> dict[str, Any]:
    """The JSON document of a study."""
    content: dict[str, Any] = {"schema": schema, "rows": [row.record() for row in rows]}
    if skipped:
        content["skipped"] = [asdict(tensor) for tensor in skipped]
    return content


def check_parquet_path(path: Path) -> None:
    """Find out before any work whether Parquet can be written to `path`.

    Raises
    ------
    InputError
        If pyarrow is not installed.
    OutputError
        If the path does not end in `.parquet` or cannot be written.
    """
    if path.suffix != ".parquet":
        raise OutputError(f"{path} must end in .parquet.")
    check_writable(path)
    _pyarrow()


def write_parquet(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as a Parquet table, whole or not at all; what JSON holds as null is null here too.

    Raises
    ------
    InputError
        If pyarrow is not installed, or there is no row.
    OutputError
        If the file cannot be written.
    """
    pyarrow, parquet = _pyarrow()
    if not rows:
        raise InputError("There is no row to write.")
    types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    hints = get_type_hints(type(rows[0]))
    # said in advance, since a column may hold nothing but nulls
    columns = [
        (name, next(types[kind] for kind in types if kind == hints[name] or kind in get_args(hints[name])))
        for name in rows[0].record()
    ]
    records = [{name: _utf8(value) for name, value in row.record().items()} for row in rows]
    table = pyarrow.Table.from_pylist(records, schema=pyarrow.schema(columns))
    # a stream, since pyarrow takes no name that is not UTF-8
    with replacing(path) as temporary, temporary.open("wb") as stream:
        parquet.write_table(table, stream)


def _utf8(value: Any) -> Any:
    """Text that Parquet can hold: bytes of a file's name that are no UTF-8 are spelled out."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            "Parquet needs pyarrow; install it with: pip install 'pvqbounds[parquet]', or write --json."
        ) from error
    return pyarrow, parquet

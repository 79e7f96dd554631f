"""The figures that come with the paper's code, as rows to lay beside ours.

The layout is a folder of ``MODEL_B_bits_METHOD.json``, each a dictionary from layer names to
``sample_kurtosis`` (excess), ``quant_sqnr``, ``quant_sparsity``, ``pruning_sqnr``, ``pruning_mse``
and ``pruning_sqnr_corrected``. They were computed in float16: values that this arithmetic has
damaged are kept as they are, and their rows say so.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from pvqbounds.errors import InputError
from pvqbounds.storage.archive import parse_json, read_bytes
from pvqbounds.studies.expected import BASE_BITS
from pvqbounds.studies.rows import WeightRow

__all__ = ["read_released"]

NAME = re.compile(r"(?P<model>.+)_(?P<bits>\d+)_bits_(?P<method>mse|minmax)\.json")

LARGEST_JSON = 2**26
"""Bytes."""

LEAST_NORMAL_FLOAT16 = 2.0**-14

LEAST_KURTOSIS = 1.0
"""Of any distribution: E[X²]² <= E[X⁴]."""


def read_released(folder: Path, method: str = "mse") -> list[WeightRow]:
    """Read the released figures, with kurtosis made non-excess and the names that state dictionaries use.

    Parameters
    ----------
    folder
        Such as ``plots_data/weights_sqnr`` of a checkout of the paper's code.
    method
        Range method, "mse" or "minmax".

    Returns
    -------
    list of WeightRow
        With `source` "released", in the order of models and bits. What the files do not say is NaN.

    Raises
    ------
    InputError
        If the folder holds no such file, or one of another layout.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.")
    found = [(match, path) for path in folder.iterdir() if (match := NAME.fullmatch(path.name))]
    files = sorted(
        (match["model"], int(match["bits"]), path) for match, path in found if match["method"] == method
    )
    if not files:
        raise InputError(f"The folder {folder} holds no file named MODEL_B_bits_{method}.json.")
    return [
        _row(path, model, bits, layer, entry)
        for model, bits, path in files
        for layer, entry in _read(path).items()
    ]


def _read(path: Path) -> dict[str, Any]:
    content = parse_json(read_bytes(path, LARGEST_JSON), path, constants=True)
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a dictionary of layers.")
    return content


def _row(path: Path, model: str, bits: int, layer: str, entry: Any) -> WeightRow:
    def number(name: str) -> float:
        try:
            value = entry[name]
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(type(value).__name__)
        except (KeyError, TypeError) as error:
            raise InputError(f"{path} has no number {name} for layer {layer} ({error}).") from error
        return float(value)

    kurtosis = number("sample_kurtosis") + 3.0
    damage = []
    if not LEAST_KURTOSIS <= kurtosis < math.inf:
        damage.append("kurtosis")
    if number("pruning_mse") < LEAST_NORMAL_FLOAT16:
        damage.append("pruning error")
    return WeightRow(
        model=model,
        tensor=f"{layer}.weight",
        bits=bits,
        density=bits / BASE_BITS,
        quantization_sqnr=number("quant_sqnr"),
        pruning_sqnr=number("pruning_sqnr"),
        pruning_sqnr_corrected=number("pruning_sqnr_corrected"),
        pruning_sqnr_masked=math.nan,
        kurtosis=kurtosis,
        zeros=number("quant_sparsity"),
        scale=math.nan,
        size=None,
        source="released",
        note=f"damaged by float16: {', '.join(damage)}" if damage else None,
    )

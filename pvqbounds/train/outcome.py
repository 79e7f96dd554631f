"""What a run leaves of each compressed layer, and the file that holds it.

`layers.safetensors` has, for a quantized layer NAME, ``NAME/codes``, ``NAME/scales`` and, after
training, ``NAME/latent``; for a pruned one ``NAME/weight``. What a tensor cannot say (bits, density,
pattern and its stride) stands in the header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError, shown
from pvqbounds.problems import Gram, IntegerLeastSquares, SparseLeastSquares
from pvqbounds.problems.formats import Format, density_format, int_format, pattern_format
from pvqbounds.problems.grids import symmetric_codes
from pvqbounds.storage.archive import parse_json, read_bytes, replacing

__all__ = ["Outcome", "PrunedLayer", "QuantizedLayer", "read_outcome", "write_outcome"]

SCHEMA = "pvqbounds.compressed/1"


@dataclass(frozen=True, eq=False)
class QuantizedLayer:
    """A quantized layer: the weight of channel i is ``scales[i] * codes[i]``."""

    bits: int
    codes: NDArray[np.int64]
    """Shape (channels, n)."""
    scales: NDArray[np.float64]
    """Shape (channels,)."""
    latent: NDArray[np.float64] | None = None
    """The weights behind the codes, shape (channels, n); None where there are none."""

    @property
    def form(self) -> Format:
        """The format that the run was to reach."""
        return int_format(self.bits)

    @property
    def weight(self) -> NDArray[np.float64]:
        """Quantized weights, rounded to float64, shape (channels, n)."""
        return np.multiply(self.scales[:, None], self.codes, dtype=np.float64)

    def posed(
        self, gram: Gram, weight: NDArray[np.float64], channel: int
    ) -> tuple[IntegerLeastSquares, NDArray[np.int64]]:
        """The problem of one channel, to come near `weight`, and the codes that it was left with.

        Raises
        ------
        InputError
            If the codes leave the grid.
        """
        qmin, qmax = symmetric_codes(self.bits)
        problem = IntegerLeastSquares(gram, weight, float(self.scales[channel]), qmin, qmax)
        return problem, problem.checked_codes(self.codes[channel])


@dataclass(frozen=True, eq=False)
class PrunedLayer:
    """A pruned layer; removed weights are exactly zero."""

    latent: ClassVar[None] = None

    density: float
    """Kept fraction that was asked for."""
    weight: NDArray[np.float64]
    """Shape (channels, n)."""
    pattern: tuple[int, int] | None = None
    """(N, M) where it has one."""
    stride: int = 1
    """How far apart the weights of a group of the pattern lie: the kernel's size of a convolution."""

    @property
    def form(self) -> Format:
        """The format that the run was to reach."""
        return density_format(self.density) if self.pattern is None else pattern_format(self.pattern)

    def posed(
        self, gram: Gram, weight: NDArray[np.float64], channel: int
    ) -> tuple[SparseLeastSquares, NDArray[np.float64]]:
        """The problem of one channel, to come near `weight`, and the weights that it was left with.

        Raises
        ------
        InputError
            If the weights break the pattern.
        """
        left = self.weight[channel]
        if self.pattern is None:
            return SparseLeastSquares(gram, weight, nnz=int(np.count_nonzero(left))), left
        problem = SparseLeastSquares(gram, weight, pattern=self.pattern, stride=self.stride)
        problem.checked_support(np.flatnonzero(left))
        return problem, left


Outcome = QuantizedLayer | PrunedLayer


def write_outcome(path: Path, layers: Mapping[str, Outcome]) -> None:
    """Write the layers to a `.safetensors` file, whole or not at all.

    Codes are stored as int16, latent and pruned weights as float32, which is what was trained.
    """
    from safetensors.numpy import save_file

    tensors: dict[str, NDArray[Any]] = {}
    header: dict[str, dict[str, Any]] = {}
    for name, layer in layers.items():
        if isinstance(layer, QuantizedLayer):
            header[name] = {"bits": layer.bits}
            tensors[f"{name}/codes"] = layer.codes.astype(np.int16)
            tensors[f"{name}/scales"] = layer.scales
            if layer.latent is not None:
                tensors[f"{name}/latent"] = layer.latent.astype(np.float32)
        else:
            header[name] = {"density": layer.density, "pattern": layer.pattern, "stride": layer.stride}
            tensors[f"{name}/weight"] = layer.weight.astype(np.float32)
    with replacing(path) as temporary:
        save_file(tensors, temporary, {"schema": SCHEMA, "layers": json.dumps(header)})


def read_outcome(path: Path) -> dict[str, Outcome]:
    """Read what :func:`write_outcome` wrote.

    Raises
    ------
    InputError
        If the file is missing, damaged or something else.
    """
    import safetensors
    from safetensors.numpy import load

    content = read_bytes(path)
    try:
        tensors = load(content)
        size = int.from_bytes(content[:8], "little")
        metadata = parse_json(content[8 : 8 + size], path)["__metadata__"]
        if metadata["schema"] != SCHEMA:
            raise InputError(f"{path} is no file of compressed layers ({shown(metadata['schema'])}).")
        return {
            str(name): _layer(tensors, str(name), entry)
            for name, entry in parse_json(metadata["layers"].encode(), path).items()
        }
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, safetensors.SafetensorError) as error:
        raise InputError(f"{path} is damaged or no file of compressed layers ({error}).") from error


def _layer(tensors: Mapping[str, NDArray[Any]], name: str, entry: Mapping[str, Any]) -> Outcome:
    if "bits" in entry:
        codes = _array(tensors[f"{name}/codes"], 2, "i")
        scales = _array(tensors[f"{name}/scales"], 1, "f").astype(np.float64)
        if len(scales) != len(codes) or not (scales > 0.0).all():
            raise InputError(f"Layer '{name}' needs one positive scale for each of its channels.")
        latent = tensors.get(f"{name}/latent")
        if latent is not None and latent.shape != codes.shape:
            raise InputError(f"The latent weights of layer '{name}' do not have the shape of its codes.")
        return QuantizedLayer(
            int(entry["bits"]),
            codes.astype(np.int64),
            scales,
            None if latent is None else _array(latent, 2, "f").astype(np.float64),
        )
    pattern = entry.get("pattern")
    return PrunedLayer(
        float(entry["density"]),
        _array(tensors[f"{name}/weight"], 2, "f").astype(np.float64),
        None if pattern is None else (int(pattern[0]), int(pattern[1])),
        int(entry.get("stride", 1)),  # version 0.1.0 knew consecutive weights alone
    )


def _array(array: NDArray[Any], ndim: int, kind: str) -> NDArray[Any]:
    if array.ndim != ndim or array.dtype.kind != kind or not np.isfinite(array).all():
        raise ValueError(f"an array of shape {array.shape} and type {array.dtype}")
    return array

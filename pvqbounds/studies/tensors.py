"""Statistics of one weight tensor: what quantization and magnitude pruning lose at each bit width.

All from one sort. Sums are error-free up to the last rounding, in float64, of weights divided by a
power of two; so a tensor of any magnitude, float16 included, loses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pvqbounds.errors import InputError, checked_flags
from pvqbounds.problems.ranges import SortedWeights
from pvqbounds.problems.validation import as_real_array
from pvqbounds.results.bounds import sqnr
from pvqbounds.studies.expected import BASE_BITS, codes_of

__all__ = ["TensorErrors", "tensor_errors"]

ROUNDING = 2.0**-100
"""Part of the signal that may be lost to the rounding of s k alone: some units in the last place."""


@dataclass(frozen=True)
class TensorErrors:
    """What b bits a weight are worth on one tensor: mean squared errors in units of the largest power of two.

    Errors and signal are those of the weights divided by a power of two that is common to all bit
    widths; ratios, `scale` and `kurtosis` are the tensor's own.
    """

    bits: int
    size: int
    """Number of weights."""
    signal: float
    """Mean of w²."""
    kurtosis: float
    """Mean of (w-μ)⁴ over the square of the mean of (w-μ)², non-excess; NaN for equal weights."""
    scale: float
    """Step of the grid with the least quantization error; NaN where all weights are zero."""
    zeros: float
    """Share of the weights with code 0."""
    quantization: float
    pruning: float
    """Keeping floor(n b / 16) of the n weights, the largest."""
    corrected: float
    """Keeping that share of the weights that quantization does not set to zero: the paper's correction."""
    masked: float
    """Keeping floor(n (b-1) / 16): one bit of each weight's budget goes into the mask."""

    @property
    def density(self) -> float:
        """Share of the weights that pruning may keep."""
        return self.bits / BASE_BITS

    def sqnr(self, error: float) -> float:
        """SQNR of one of the errors in dB; infinite without an error beyond rounding, NaN without signal."""
        return sqnr(self.signal, 0.0 if error <= ROUNDING * self.signal else error)

    @property
    def note(self) -> str | None:
        """What is special about the tensor."""
        if self.signal == 0.0:
            return "all weights are zero: SQNR is undefined"
        notes = []
        if math.isnan(self.kurtosis):
            what = "one weight" if self.size == 1 else "all weights are equal"
            notes.append(f"{what}: kurtosis is undefined")
        if self.exact:
            notes.append("quantization is exact")
        if self.pruning == 0.0:
            notes.append("pruning removes zeros alone")
        return ", ".join(notes) or None

    @property
    def exact(self) -> bool:
        """Whether the grid holds every weight, up to the rounding of its own steps."""
        return self.quantization <= ROUNDING * self.signal


def tensor_errors(
    weights: ArrayLike,
    bits: Iterable[int] = range(2, 9),
    *,
    narrow: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
) -> list[TensorErrors]:
    """Errors of quantization and of magnitude pruning of one tensor at each bit width.

    Parameters
    ----------
    weights
        Any shape, real.
    bits
        Bit widths, 2 to 16; each compares with density b/16.
    narrow
        Leave out the code -2^(b-1), so that the grid is symmetric.
    overwrite
        Sort a writable float64 array of shape (n,) in its own memory instead of a copy, so that no
        more than twice its size is needed.
    device
        Where to sort: "cpu", or a device of torch such as "cuda".

    Returns
    -------
    list of TensorErrors
        One for each bit width.

    Raises
    ------
    InputError
        If the weights are empty, not real or not finite, or a bit width cannot be used.
    """
    checked_flags(narrow=narrow, overwrite=overwrite)
    if overwrite and isinstance(weights, np.ndarray):
        flat = weights
        if flat.dtype != np.float64 or flat.ndim != 1 or not flat.flags.writeable:
            raise InputError("Only a writable float64 array of shape (n,) can be overwritten.")
        if not flat.size or not math.isfinite(float(flat.min())) or not math.isfinite(float(flat.max())):
            raise InputError("The weights are empty or not all finite.")
    else:
        flat = as_real_array(np.ravel(np.asarray(weights)), "The weights", ndim=1).copy()
    widths = list(bits)
    codes = [codes_of(width, narrow) for width in widths]
    if device != "cpu":
        _sort_on(device, flat)
    return _errors(SortedWeights.of(flat), widths, codes)


def _sort_on(device: str, weights: NDArray[np.float64]) -> None:
    """Sort in place, by way of a torch device."""
    import torch

    here = torch.from_numpy(weights)
    here.copy_(here.to(device).sort().values)


def _errors(weights: SortedWeights, widths: list[int], codes: list[tuple[int, int]]) -> list[TensorErrors]:
    from pvqbounds.studies.kernels import central_moments, quantization_error, sums_of_smallest

    values = weights.values
    n = len(values)
    signal, variance, fourth = central_moments(values)
    scales = [weights.best_scale(qmin, qmax) for qmin, qmax in codes]
    quantized = [quantization_error(values, scale, *ends) for scale, ends in zip(scales, codes, strict=True)]
    kept = np.array(
        [
            (n * bits // BASE_BITS, (n - zeros) * bits // BASE_BITS, n * (bits - 1) // BASE_BITS)
            for bits, (_, zeros) in zip(widths, quantized, strict=True)
        ],
        dtype=np.int64,
    )
    removed = n - kept.ravel()
    order = np.argsort(removed)
    losses = np.empty(len(removed))
    losses[order] = sums_of_smallest(values, removed[order]) / n
    equal = values[0] == values[-1]
    return [
        TensorErrors(
            bits=bits,
            size=n,
            signal=float(signal),
            kurtosis=math.nan if equal else float(fourth / variance**2),
            scale=math.nan if signal == 0.0 else max(math.ldexp(scale, weights.exponent), math.ulp(0.0)),
            zeros=zeros / n,
            quantization=float(error) / n,
            pruning=float(pruned[0]),
            corrected=float(pruned[1]),
            masked=float(pruned[2]),
        )
        for bits, scale, (error, zeros), pruned in zip(
            widths, scales, quantized, losses.reshape(-1, 3), strict=True
        )
    ]

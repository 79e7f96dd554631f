"""Checks of what a caller gives: finite arrays, whole numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pvqbounds.errors import InputError, shown

__all__ = ["as_real_array", "precision_of", "whole_number"]


def whole_number(value: object, name: str, low: int, high: int) -> int:
    """`value` as an int between `low` and `high`; numpy integers and whole floats pass.

    Raises
    ------
    InputError
        If it is anything else.
    """
    try:
        number = int(value)  # type: ignore[call-overload]
        fits = not isinstance(value, bool | str) and number == value and low <= number <= high
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise InputError(f"{name} must be a whole number from {low} to {high}, not {shown(value)}.")
    return int(number)


def precision_of(given: object, array: NDArray[np.float64]) -> float:
    """Spacing at 1 of the coarsest float type that `array` may have been made in.

    That of `given`, or float32 where it holds every number (a file keeps them as float64).
    """
    kind = np.asarray(given).dtype
    if kind.kind == "f" and kind.itemsize < 8:
        return float(np.finfo(kind).eps)
    with np.errstate(over="ignore", under="ignore"):
        held = np.array_equal(array.astype(np.float32).astype(np.float64), array)
    return float(np.finfo(np.float32 if held else np.float64).eps)


def as_real_array(values: ArrayLike, name: str, ndim: int) -> NDArray[np.float64]:
    """`values` as a finite float64 array with `ndim` axes, none of them empty, not writable.

    Raises
    ------
    InputError
        If `values` is not numeric, has another number of axes, is empty or not finite.
    """
    try:
        given = np.asarray(values)
        if given.dtype.kind not in "fiub":
            raise TypeError(f"dtype {given.dtype}")
        array = np.array(given, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must hold real numbers ({error}).") from error
    if array.ndim != ndim:
        raise InputError(f"{name} must have {ndim} axes, but the shape is {array.shape}.")
    several = name.endswith("s")
    if array.size == 0:
        raise InputError(f"{name} {'are' if several else 'is'} empty (shape {array.shape}).")
    if not np.isfinite(array).all():
        bad = int(array.size - np.isfinite(array).sum())
        has = "have" if several else "has"
        raise InputError(f"{name} {has} {bad} of {array.size} entries that are not finite.")
    array.flags.writeable = False
    return array

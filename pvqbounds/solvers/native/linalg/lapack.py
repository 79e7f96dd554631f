"""LAPACK for compiled loops: called by its address in SciPy, without the interpreter and its lock.

Matrices are symmetric, float64, contiguous, shape (n, n); of their rows the lower triangle counts
(LAPACK counts columns first, and calls it the upper one).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import get_cython_function_address, intrinsic
from numpy.typing import NDArray

__all__ = ["FLOPS_A_SECOND", "ROUTINES", "factorise", "invert", "numbers_for", "solve"]

FLOPS_A_SECOND = 2e10
"""Speed of dense linear algebra on one core, that time limits are held against: the same everywhere."""

ROUTINES = tuple(
    get_cython_function_address("scipy.linalg.cython_lapack", name) for name in ("dpotrf", "dpotri", "dpotrs")
)
"""Addresses: arguments of the compiled functions and not constants, so that these can be cached."""

SIZE, ONE, INFO, UPPER = range(4)
"""Places of what LAPACK reads and writes beside its matrices."""


def numbers_for(n: int) -> NDArray[np.int32]:
    """The small arguments of LAPACK for matrices of n rows; the caller keeps them while it calls."""
    return np.array([n, 1, 0, ord("U")], dtype=np.int32)


def _caller(arguments: int) -> Any:
    """An intrinsic that calls the function at an address with so many pointers."""

    def call(typing: Any, address: Any, *pointers: Any) -> Any:
        signature = types.void(types.intp, types.UniTuple(types.intp, arguments))

        def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
            pointer = ir.IntType(types.intp.bitwidth)
            kind = ir.FunctionType(ir.VoidType(), [pointer] * arguments)
            function = builder.inttoptr(values[0], kind.as_pointer())
            builder.call(function, [builder.extract_value(values[1], i) for i in range(arguments)])
            return context.get_dummy_value()

        return signature, generate

    return intrinsic(call)


_call_5, _call_8 = _caller(5), _caller(8)

MATRIX, NUMBERS = types.float64[:, ::1], types.int32[::1]
ADDRESSES = types.UniTuple(types.int64, len(ROUTINES))
"""Types that are named: LAPACK takes the bytes for what it is told they are."""


@numba.njit(types.boolean(MATRIX, NUMBERS, ADDRESSES), cache=True, nogil=True)
def factorise(matrix, numbers, routines):  # type: ignore[no-untyped-def]
    """Overwrite a matrix by its Cholesky factor; False where it is not definite."""
    at = numbers.ctypes.data
    _call_5(routines[0], at + 4 * UPPER, at, matrix.ctypes.data, at, at + 4 * INFO)
    return numbers[INFO] == 0


@numba.njit(types.boolean(MATRIX, NUMBERS, ADDRESSES), cache=True, nogil=True)
def invert(factor, numbers, routines):  # type: ignore[no-untyped-def]
    """Overwrite a factor by the inverse of its matrix, the lower triangle alone."""
    at = numbers.ctypes.data
    _call_5(routines[1], at + 4 * UPPER, at, factor.ctypes.data, at, at + 4 * INFO)
    return numbers[INFO] == 0


@numba.njit(types.boolean(MATRIX, types.float64[::1], NUMBERS, ADDRESSES), cache=True, nogil=True)
def solve(factor, right, numbers, routines):  # type: ignore[no-untyped-def]
    """Overwrite a right side, shape (n,), by the solution."""
    at = numbers.ctypes.data
    _call_8(
        routines[2], at + 4 * UPPER, at, at + 4 * ONE, factor.ctypes.data, at, right.ctypes.data, at,
        at + 4 * INFO,
    )  # fmt: skip
    return numbers[INFO] == 0

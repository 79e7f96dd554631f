"""Batched dense linear algebra on NumPy arrays or PyTorch tensors, for engines that run on both.

An engine is written once against :class:`Arrays`: the namespace (`numpy` or `torch`, whose common
functions are called with positional axes), and the three factorisations that differ. The first
axis of every array is the batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from pvqbounds.errors import InputError

__all__ = ["NUMPY", "Arrays", "arrays_on"]


class Arrays(ABC):
    """Where the arrays of an engine live."""

    xp: Any
    """`numpy` or `torch`."""
    batches: ClassVar[bool]
    """Whether large problems gain from being solved together."""

    @abstractmethod
    def array(self, values: NDArray[np.float64]) -> Any:
        """A float64 copy or view of `values` here."""

    @abstractmethod
    def empty(self, *shape: int) -> Any:
        """A float64 array of this shape."""

    @abstractmethod
    def numpy(self, values: Any) -> NDArray[Any]:
        """`values` as a NumPy array."""

    @abstractmethod
    def index(self, indices: NDArray[np.int64] | NDArray[np.bool_]) -> Any:
        """Indices or a mask as the arrays take them."""

    @abstractmethod
    def cholesky(self, matrix: Any) -> tuple[Any, NDArray[np.bool_]]:
        """Factors of symmetric matrices (lower rows), (B, n, n), and which are definite, (B,)."""

    @abstractmethod
    def inverse(self, factor: Any) -> Any:
        """Inverses, (B, n, n), of the matrices with these factors, all of them definite."""

    @abstractmethod
    def solve(self, factor: Any, right: Any) -> Any:
        """Solutions, (B, n), for right sides (B, n)."""


class _NumpyArrays(Arrays):
    xp = np
    batches = False

    def array(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.ascontiguousarray(values, dtype=np.float64)

    def empty(self, *shape: int) -> NDArray[np.float64]:
        return np.empty(shape)

    def numpy(self, values: Any) -> NDArray[Any]:
        return np.asarray(values)

    def index(self, indices: NDArray[np.int64] | NDArray[np.bool_]) -> Any:
        return indices

    def cholesky(self, matrix: Any) -> tuple[Any, NDArray[np.bool_]]:
        # LAPACK counts columns first: its upper triangle is the lower one of our rows
        pairs = [lapack.dpotrf(one.T, lower=0, clean=0) for one in matrix]
        return [factor for factor, _ in pairs], np.array([info == 0 for _, info in pairs])

    def inverse(self, factor: Any) -> NDArray[np.float64]:
        n = len(factor[0])
        result = np.empty((len(factor), n, n))
        for one, out in zip(factor, result, strict=True):
            half, _ = lapack.dpotri(one, lower=0)
            np.copyto(out, np.triu(half))
            out += np.triu(half, 1).T
        return result

    def solve(self, factor: Any, right: Any) -> NDArray[np.float64]:
        return np.stack([lapack.dpotrs(one, b, lower=0)[0] for one, b in zip(factor, right, strict=True)])


class _TorchArrays(Arrays):
    batches = True

    def __init__(self, device: str) -> None:
        import torch

        self.xp = torch
        self._device = torch.device(device)

    def array(self, values: NDArray[np.float64]) -> Any:
        return self.xp.as_tensor(np.ascontiguousarray(values), dtype=self.xp.float64, device=self._device)

    def empty(self, *shape: int) -> Any:
        return self.xp.empty(shape, dtype=self.xp.float64, device=self._device)

    def numpy(self, values: Any) -> NDArray[Any]:
        return np.asarray(values.detach().cpu().numpy())

    def index(self, indices: NDArray[np.int64] | NDArray[np.bool_]) -> Any:
        return self.xp.as_tensor(indices, device=self._device)

    def cholesky(self, matrix: Any) -> tuple[Any, NDArray[np.bool_]]:
        factor, info = self.xp.linalg.cholesky_ex(matrix)
        return factor, self.numpy(info) == 0

    def inverse(self, factor: Any) -> Any:
        return self.xp.cholesky_inverse(factor)

    def solve(self, factor: Any, right: Any) -> Any:
        return self.xp.cholesky_solve(right[..., None], factor)[..., 0]


NUMPY: Arrays = _NumpyArrays()
"""On the CPU, without PyTorch."""


def arrays_on(device: str) -> Arrays:
    """Arrays for a device: "cpu" is NumPy, "cuda", "cuda:1", "torch" (PyTorch on the CPU) are PyTorch.

    Raises
    ------
    InputError
        If PyTorch or the device is not there.
    """
    if device == "cpu":
        return NUMPY
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"--device {device} needs PyTorch: pip install 'pvqbounds[nn]', or use --device cpu."
        ) from error
    if device == "torch":
        return _TorchArrays("cpu")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        cause = str(error).splitlines()[0]
        raise InputError(f"The device '{device}' cannot be used ({cause}); use --device cpu.") from error
    return _TorchArrays(device)

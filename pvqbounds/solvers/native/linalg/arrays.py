"""Batched dense linear algebra on NumPy arrays or PyTorch tensors, for engines that run on both.

An engine is written once against :class:`Arrays`: the namespace (`numpy` or `torch`, whose common
functions are called with positional axes), the three factorisations that differ, and the few
element-wise passes of the interior point that NumPy is slow at. Those are stated here in terms of
the namespace, which is what PyTorch runs; on NumPy they are compiled (:mod:`.array_kernels`).
The first axis of every array is the batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError
from pvqbounds.solvers.native.linalg import array_kernels

__all__ = ["NUMPY", "Arrays", "arrays_on"]


class Arrays(ABC):
    """Where the arrays of an engine live."""

    xp: Any
    """`numpy` or `torch`."""
    batches: ClassVar[bool]
    """Whether large problems gain from being solved together."""

    @property
    def room(self) -> float:
        """Bytes that a batch of channels may take."""
        return 2.0**31

    @abstractmethod
    def array(self, values: NDArray[np.float64]) -> Any:
        """A float64 copy or view of `values` here."""

    @abstractmethod
    def numpy(self, values: Any) -> NDArray[Any]:
        """`values` as a NumPy array."""

    @abstractmethod
    def index(self, indices: NDArray[np.int64] | NDArray[np.bool_]) -> Any:
        """Indices or a mask as the arrays take them."""

    @abstractmethod
    def cholesky(self, matrix: Any) -> tuple[Any, NDArray[np.bool_]]:
        """Factors of symmetric matrices (lower rows), (B, n, n), and which are definite, (B,).

        Only the lower triangles are read; the factors may take the place of `matrix`.
        """

    @abstractmethod
    def inverse(self, factor: Any) -> Any:
        """Inverses, (B, n, n), of the matrices with these factors, all definite; may replace `factor`."""

    @abstractmethod
    def solve(self, factor: Any, right: Any) -> Any:
        """Solutions, (B, n), for right sides (B, n), whose place they may take."""

    def minus_diagonal(self, form: Any, values: Any) -> Any:
        """form - diag(values), (B, n, n), for one form (n, n) and values (B, n)."""
        matrix = form + 0.0 * values[:, None]
        i = np.arange(len(form))
        matrix[:, i, i] = form.diagonal(0, -2, -1) - values
        return matrix

    def sum_lower(self, matrix: Any, step: Any, change: Any) -> Any:
        """matrix + step * change for steps (B,): the lower triangles at least."""
        return matrix + step[:, None, None] * change

    def newton_matrix(self, covariance: Any, inverse: Any, soft: Any, pull: Any, diagonal: Any) -> Any:
        """covariance ∘ inverse + diag(pull) soft diag(pull) + diag(diagonal): lower triangles at least."""
        matrix = covariance * inverse + pull[:, :, None] * soft * pull[:, None]
        i = np.arange(matrix.shape[-1])
        matrix[:, i, i] = matrix[:, i, i] + diagonal
        return matrix

    def covariance_step(self, product: Any, level: Any, inverse: Any, covariance: Any) -> Any:
        """level * inverse - covariance + the symmetric part of `product`."""
        half = 0.5 * (product + self.xp.swapaxes(product, -1, -2))
        return level[:, None, None] * inverse - covariance + half

    def polygon_blocks(self, ratio: Any, features: Any) -> tuple[Any, Any, Any, Any, Any]:
        """Second moments of the vertices under weights `ratio`, (B, n, m).

        With (y, x) = `features`, (B, 2, n, m): the variance of y that x does not explain, the slope
        of y on x, one over the weighted square spread of x; the means, (B, 2, n); the weights' sums.
        """
        total = ratio.sum(-1)
        mean = (features * ratio[:, None]).sum(-1) / total[:, None]
        off = features - mean[..., None]
        weighted = ratio * off[:, 1]
        spread = (weighted * off[:, 1]).sum(-1)
        slope = (weighted * off[:, 0]).sum(-1) / spread
        rest = off[:, 0] - slope[..., None] * off[:, 1]
        return (ratio * rest * rest).sum(-1), slope, 1.0 / spread, mean, total

    def polygon_targets(self, target: Any, features: Any, mean: Any) -> tuple[Any, Any]:
        """Moments, (B, 2, n), of weights `target` whose lack of a sum of 1, (B, n), counts at the mean."""
        excess = 1.0 - target.sum(-1)
        return (features * target[:, None]).sum(-1) + mean * excess[:, None], excess

    def polygon_step(
        self, lam: Any, mu: Any, features: Any, ratio: Any, total: Any, excess: Any, target: Any, weight: Any
    ) -> tuple[Any, Any, Any]:
        """Changes of t, (B, n), and of slacks and weights, (B, n, m), that go with those of lam and mu."""
        slack = features[:, 0] * lam[..., None] + features[:, 1] * mu[..., None]
        t = (excess + (ratio * slack).sum(-1)) / total
        slack = slack - t[..., None]
        return t, slack, target - weight - ratio * slack


class _NumpyArrays(Arrays):
    xp = np
    batches = False

    minus_diagonal = staticmethod(array_kernels.minus_diagonal)
    sum_lower = staticmethod(array_kernels.sum_lower)
    newton_matrix = staticmethod(array_kernels.newton_matrix)
    covariance_step = staticmethod(array_kernels.covariance_step)
    polygon_blocks = staticmethod(array_kernels.polygon_blocks)
    polygon_targets = staticmethod(array_kernels.polygon_targets)
    polygon_step = staticmethod(array_kernels.polygon_step)

    def array(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.ascontiguousarray(values, dtype=np.float64)

    def numpy(self, values: Any) -> NDArray[Any]:
        return np.asarray(values)

    def index(self, indices: NDArray[np.int64] | NDArray[np.bool_]) -> Any:
        return indices

    def cholesky(self, matrix: Any) -> tuple[Any, NDArray[np.bool_]]:
        return matrix, array_kernels.cholesky(matrix)

    def inverse(self, factor: Any) -> Any:
        array_kernels.inverse(factor)
        return factor

    def solve(self, factor: Any, right: Any) -> Any:
        array_kernels.solve(factor, right)
        return right


class _TorchArrays(Arrays):
    batches = True

    def __init__(self, device: str) -> None:
        import torch

        self.xp = torch
        self._device = torch.device(device)

    @property
    def room(self) -> float:
        """Half of what a GPU has free."""
        if self._device.type != "cuda":
            return super().room
        return 0.5 * float(self.xp.cuda.mem_get_info(self._device)[0])

    def array(self, values: NDArray[np.float64]) -> Any:
        return self.xp.as_tensor(np.ascontiguousarray(values), dtype=self.xp.float64, device=self._device)

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

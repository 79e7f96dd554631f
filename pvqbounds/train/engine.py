"""Where a run computes: device, number of processes and precision, through Lightning Fabric.

Fabric is the lighter of the two engines that serve (the other is Accelerate): no client of a model
hub comes with it, and started by `torchrun` it needs no launcher of its own.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pvqbounds.errors import InputError
from pvqbounds.train.data import Batch

__all__ = ["Engine"]

PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed"}


class Engine:
    """A device, or several, on which a model is trained.

    Parameters
    ----------
    device
        "auto" (a GPU where there is one), "cpu", "cuda", "cuda:INDEX" or "mps".
    devices
        Processes, each with a device of its own; under torchrun, all that it started.
    precision
        "32" or "bf16" (mixed).

    Raises
    ------
    InputError
        If the device is not there, or Fabric is not installed.
    """

    def __init__(self, device: str = "auto", devices: int = 1, precision: str = "32") -> None:
        kind, index = _checked_device(device, devices)
        try:
            from lightning_fabric import Fabric
        except ImportError as error:
            raise InputError(
                f"Training needs Lightning Fabric ({error}); "
                "install it with `pip install 'pvqbounds[nn,train]'`."
            ) from error
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        if precision == "bf16" and kind == "cuda" and not torch.cuda.is_bf16_supported():
            raise InputError("This GPU has no bfloat16; take --precision 32.")
        self._fabric = Fabric(
            accelerator=kind,
            devices=[index] if index is not None else devices,
            precision=PRECISIONS[precision],  # type: ignore[arg-type]
        )
        self._fabric.launch()

    @property
    def device(self) -> torch.device:
        """Device of this process."""
        device: torch.device = self._fabric.device
        return device

    @property
    def rank(self) -> int:
        """Number of this process; 0 writes files and prints."""
        return int(self._fabric.global_rank)

    @property
    def size(self) -> int:
        """How many processes train together."""
        return int(self._fabric.world_size)

    def prepare(self, model: nn.Module, optimizers: list[Optimizer]) -> tuple[nn.Module, list[Any]]:
        """The model and the optimisers as they are called in training."""
        wrapped = self._fabric.setup(model, *optimizers)
        return wrapped[0], list(wrapped[1:])

    def autocast(self) -> AbstractContextManager[None]:
        """Context in which a model that is not prepared computes in the run's precision."""
        context: AbstractContextManager[None] = self._fabric.autocast()
        return context

    def backward(self, loss: Tensor) -> None:
        """Gradients of the loss."""
        self._fabric.backward(loss)

    def to_device(self, batch: Batch) -> Batch:
        """The batch, moved to the device."""
        return Batch(
            batch.inputs.to(self.device, non_blocking=True),
            batch.labels.to(self.device, non_blocking=True),
            batch.corrupt,
        )

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the processes."""
        return self._reduced(values, "sum")

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the processes."""
        return self._reduced(values, "mean")

    def _reduced(self, values: Tensor, operation: str) -> Tensor:
        if self.size == 1:
            return values
        reduced = self._fabric.all_reduce(values, reduce_op=operation)
        assert isinstance(reduced, Tensor)
        return reduced

    def barrier(self) -> None:
        """Wait for the other processes."""
        self._fabric.barrier()


def _checked_device(device: str, devices: int) -> tuple[str, int | None]:
    """Kind and index of a device that is there."""
    kind, colon, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (colon and not (kind == "cuda" and index.isdecimal())):
        raise InputError(f"The device must be auto, cpu, cuda, cuda:INDEX or mps, not {device!r}.")
    if devices < 1:
        raise InputError(f"The number of devices must be at least 1, not {devices}.")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cuda" and count == 0:
        why = "this PyTorch is built without CUDA" if torch.version.cuda is None else "none is visible"
        raise InputError(f"There is no CUDA device here ({why}); use --device cpu, or --device auto.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputError("There is no MPS device here; use --device cpu, or --device auto.")
    if kind == "auto":
        kind = "cuda" if count else "mps" if torch.backends.mps.is_available() else "cpu"
    if kind == "cuda" and (int(index) if colon else devices - 1) >= count:
        raise InputError(f"{device} with {devices} devices is asked for, but there are {count} CUDA devices.")
    if colon and devices > 1:
        raise InputError("Give either one device by its index, or a number of devices.")
    return kind, int(index) if colon else None

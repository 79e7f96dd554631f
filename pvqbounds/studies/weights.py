"""The study of weight tensors: every tensor of every source, streamed, with what was left out and why."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

import numpy as np

from pvqbounds.errors import InputError
from pvqbounds.studies.rows import Skipped, WeightRow, weight_row
from pvqbounds.studies.sources import Source, WeightTensor
from pvqbounds.studies.tensors import tensor_errors

__all__ = ["WeightStudy", "check_device", "measure"]

Progress = Callable[[int, int, str], None]


@dataclass
class WeightStudy:
    """Rows so far, and tensors without one."""

    rows: list[WeightRow] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def measure(
    study: WeightStudy,
    source: Source,
    bits: Sequence[int],
    *,
    narrow: bool = False,
    patterns: Iterable[str] = (),
    device: str = "cpu",
    progress: Progress | None = None,
) -> None:
    """Add the tensors of a source to a study, one after another.

    At no time more than one tensor is in memory, with twice its size in float64. Tensors of equal
    numbers (tied weights) are counted once.

    Parameters
    ----------
    study
        Rows and skipped tensors are appended, so that an interrupted study keeps what it has.
    source
        See :mod:`pvqbounds.studies.sources`.
    bits
        Bit widths, 2 to 16.
    narrow, device
        As in :func:`pvqbounds.studies.tensors.tensor_errors`.
    patterns
        Names to measure, with wildcards; if there are none, tensors of two axes and more, which
        leaves out biases and scales (or all tensors of a source that has only such).
    progress
        Called with tensors done, tensors in all and the next name.

    Raises
    ------
    InputError
        If the source cannot be read or nothing in it matches, or a bit width cannot be used.
    """
    chosen = _chosen(source, tuple(patterns))
    known: dict[bytes, str] = {}
    for done, tensor in enumerate(chosen):
        if progress is not None:
            progress(done, len(chosen), f"{source.name} {tensor.name}")
        reason = _unfit(tensor)
        if reason is None:
            weights = tensor.read()
            digest = hashlib.sha256(weights.data).digest()
            if digest in known:
                reason = f"the same numbers as '{known[digest]}' (tied), counted once"
            elif (bad := _not_finite(weights)) > 0:
                reason = f"{bad} of {tensor.size} weights are not finite"
            else:
                known[digest] = tensor.name
                errors = tensor_errors(weights, bits, narrow=narrow, overwrite=True, device=device)
                rows = [weight_row(source.name, tensor.name, each) for each in errors]
                study.rows += [replace(row, note=_joined(row.note, source.note)) for row in rows]
            del weights  # before the next is read
        if reason is not None:
            study.skipped.append(Skipped(source.name, tensor.name, reason))


def _chosen(source: Source, patterns: tuple[str, ...]) -> list[WeightTensor]:
    tensors = source.tensors()
    if patterns:
        found = [t for t in tensors if any(fnmatchcase(t.name, pattern) for pattern in patterns)]
        if not found:
            raise InputError(f"No tensor of {source.name} matches {', '.join(patterns)}.")
        return found
    if not tensors:
        raise InputError(f"There is no tensor in {source.name}.")
    return [t for t in tensors if len(t.shape) > 1] or tensors


def _joined(*notes: str | None) -> str | None:
    return ", ".join(filter(None, notes)) or None


def _unfit(tensor: WeightTensor) -> str | None:
    """Why a tensor need not even be read."""
    if tensor.unfit is not None:
        return tensor.unfit
    if not tensor.real:
        return f"holds {tensor.kind}, not floating-point numbers"
    return None if tensor.size else f"is empty (shape {tensor.shape})"


def _not_finite(weights: np.ndarray) -> int:
    # extremes first: they need no memory, and nearly always answer
    if np.isfinite(weights.min()) and np.isfinite(weights.max()):
        return 0
    return int(weights.size - np.isfinite(weights).sum())


def check_device(device: str) -> None:
    """Find out whether tensors can be sorted on a device.

    Raises
    ------
    InputError
        If it is neither "cpu" nor a CUDA device that torch can use.
    """
    if device == "cpu":
        return
    try:
        import torch
    except ImportError as error:
        raise InputError(f"The device {device} needs torch ({error}); leave --device out.") from error
    if not device.startswith("cuda") or not torch.cuda.is_available():
        raise InputError(f"The device {device} cannot be used here; there is cpu, and cuda with a GPU.")

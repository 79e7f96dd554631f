"""A model on data: how often it is right where there are labels, and how far from another one it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pvqbounds.errors import InputError
from pvqbounds.nn.batches import Batch, Data, batches_of
from pvqbounds.nn.running import as_written, run
from pvqbounds.nn.signature import LABELS, inputs_of

__all__ = ["Evaluation", "evaluated", "first_classes"]


@dataclass(frozen=True)
class Evaluation:
    """What was seen of a model on some samples."""

    samples: int
    accuracy: float | None = None
    """Part of the samples whose label has the highest score; None without labels."""
    loss: float | None = None
    """Mean cross entropy of the labels, in nats; None without labels."""
    agreement: float | None = None
    """Part of the samples whose highest score is that of the other model; None without one, or scores."""
    output_error: float | None = None
    """Squared difference from the other model's outputs, over their squares; None without one."""


def evaluated(
    model: nn.Module, data: Data, against: nn.Module | None = None, *, batch_size: int = 64
) -> Evaluation:
    """Run a model, and another beside it, on data.

    Parameters
    ----------
    data
        As bounds are calibrated on. Labels are the second part of batches that are tuples, or stand in
        dictionaries under a name like "labels" that the model has no place for; one whole number a sample.
    against
        The model to compare with, usually the dense one.

    Raises
    ------
    InputError
        If a model cannot run on the data or gives no tensor, or labels are none of its classes.
    """
    samples, right, alike, counted = 0, 0, 0, 0
    losses: list[float] = []
    difference, size = 0.0, 0.0
    with as_written(model), as_written(against or model):
        for batch, labels in _labelled(model, data, batch_size):
            scores = _outputs(run(model, batch))
            samples += batch.samples
            if labels is not None:
                _check_labels(labels, scores)
                counted += len(labels)
                right += int((scores.argmax(1) == labels).sum())
                losses.append(float(nn.functional.cross_entropy(scores, labels, reduction="sum")))
            if against is not None:
                other = _outputs(run(against, batch))
                difference += float((scores - other).square().sum())
                size += float(other.square().sum())
                if scores.dim() == 2:
                    alike += int((scores.argmax(1) == other.argmax(1)).sum())
    return Evaluation(
        samples=samples,
        accuracy=right / counted if counted else None,
        loss=sum(losses) / counted if counted else None,
        agreement=None if against is None or scores.dim() != 2 else alike / samples,
        output_error=difference / size if size > 0.0 else None,
    )


def first_classes(model: nn.Module, data: Data, *, batch_size: int = 64) -> NDArray[np.int64]:
    """The class of the highest score of each sample.

    Raises
    ------
    InputError
        If the model cannot run on the data, or gives no scores of samples.
    """
    found: list[NDArray[np.int64]] = []
    with as_written(model):
        for batch, _ in _labelled(model, data, batch_size):
            scores = _outputs(run(model, batch))
            if scores.dim() != 2:
                raise InputError(f"Outputs of shape {tuple(scores.shape)} are no scores of samples.")
            found.append(scores.argmax(1).numpy())
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def _labelled(model: nn.Module, data: Data, batch_size: int) -> Iterator[tuple[Batch, Tensor | None]]:
    """Batches with their labels, where they have some."""
    inputs = inputs_of(model)
    if isinstance(data, Mapping):
        held = {name: value for name, value in data.items() if name in LABELS and name not in inputs.named}
        labels = _as_labels(next(iter(held.values()))) if held else None
        start = 0
        for batch in batches_of(data, batch_size, inputs):
            yield batch, None if labels is None else labels[start : start + batch.samples]
            start += batch.samples
        return
    if isinstance(data, Tensor | np.ndarray):
        yield from ((batch, None) for batch in batches_of(data, batch_size, inputs))
        return
    for part in data:
        label: Any = None
        if isinstance(part, tuple | list) and len(part) > 1 and not inputs.possible:
            label = part[1]
        elif isinstance(part, Mapping):
            label = next((part[name] for name in LABELS if name in part and name not in inputs.named), None)
        for batch in batches_of([part], batch_size, inputs):
            yield batch, None if label is None else _as_labels(label)


def _as_labels(labels: Any) -> Tensor:
    found = torch.as_tensor(labels)
    if found.dim() != 1 or found.is_floating_point():
        raise InputError(
            f"Labels are one whole number a sample, not {found.dtype} of shape {tuple(found.shape)}; "
            "leave them out."
        )
    return found.to(torch.int64)


def _check_labels(labels: Tensor, scores: Tensor) -> None:
    if scores.dim() != 2 or len(labels) != len(scores):
        raise InputError(
            f"The labels of {len(labels)} samples do not fit outputs of shape {tuple(scores.shape)}."
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < scores.shape[1]:
        raise InputError(f"The labels must be classes from 0 to {scores.shape[1] - 1}.")


def _outputs(outputs: Any) -> Tensor:
    """The scores, or whatever tensor comes first, in float64."""
    found = getattr(outputs, "logits", outputs)
    if isinstance(found, Mapping):
        found = next(iter(found.values()), None)
    while isinstance(found, tuple | list) and found:
        found = found[0]
    if not isinstance(found, Tensor):
        raise InputError(f"The model gives a {type(found).__name__}, which cannot be compared.")
    return found.detach().to("cpu", torch.float64)

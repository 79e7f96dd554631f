"""Top-1 accuracy on the test data, over all processes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.utils.data import Sampler

from pvqbounds.errors import InputError
from pvqbounds.train.data import Corrupt, TrainingData, loader_of
from pvqbounds.train.engine import Engine

__all__ = ["accuracy"]


class _Share(Sampler[int]):
    """Samples of one process: every so manieth, none twice."""

    def __init__(self, rank: int, size: int, total: int) -> None:
        self._range = range(rank, total, size)

    def __iter__(self) -> Iterator[int]:
        return iter(self._range)

    def __len__(self) -> int:
        return len(self._range)


@torch.no_grad()
def accuracy(
    model: nn.Module,
    data: TrainingData,
    engine: Engine,
    *,
    batch_size: int = 128,
    workers: int = 0,
    corrupt: Corrupt | None = None,
) -> float:
    """Fraction of the test images whose highest score is that of their class.

    Raises
    ------
    InputError
        If an image cannot be decoded and may not be left out, or if none can.
    """
    corrupt = corrupt if corrupt is not None else Corrupt(skip=False)
    training = model.training
    model.eval()
    counts = torch.zeros(2, dtype=torch.int64, device=engine.device)
    mine = _Share(engine.rank, engine.size, len(data.test))
    with engine.autocast():
        for batch in loader_of(data.test, batch_size, order=mine, workers=workers):
            corrupt.check(batch)
            if len(batch.labels):
                moved = engine.to_device(batch)
                right = model(moved.inputs).argmax(1) == moved.labels
                counts[0] += right.sum()
                counts[1] += len(right)
    model.train(training)
    right_ones, total = engine.sum(counts).tolist()
    if total == 0:
        raise InputError(f"None of the test images of {data.name} can be decoded.")
    return float(right_ones / total)

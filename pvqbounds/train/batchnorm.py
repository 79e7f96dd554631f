"""Batch-norm statistics estimated again with the weights that training ended with."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from pvqbounds.train.data import Batch
from pvqbounds.train.engine import Engine

__all__ = ["reestimate"]

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@torch.no_grad()
def reestimate(model: nn.Module, batches: Iterable[Batch], count: int, engine: Engine) -> None:
    """Replace running means and variances by their average over the first `count` batches.

    With several processes each sees its own batches, and the averages are averaged.
    """
    norms = [
        module for module in model.modules() if isinstance(module, NORMS) and module.running_mean is not None
    ]
    if count == 0 or not norms:
        return
    usable = (engine.to_device(batch).inputs for batch in batches if len(batch.inputs) > 1)
    update_bn(islice(usable, count), model)
    for norm in norms:
        for statistic in (norm.running_mean, norm.running_var):
            if statistic is not None:
                statistic.copy_(engine.mean(statistic))

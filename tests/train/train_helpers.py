"""A tiny network and tiny data, so that training is a matter of milliseconds."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from pvqbounds.train.data import ArrayDataset, TrainingData, digits_data
from pvqbounds.train.presets import Pruning, Quantization, Recipe, overridden


class Tiny(nn.Module):
    """Two convolutions and a head on the digits: fan-ins of 9, 36 and 16."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, 4, 3, stride=2, padding=1)
        self.head = nn.Linear(16, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.norm(self.first(images)))
        return self.head(torch.relu(self.second(hidden)).flatten(1))


def tiny(width: int = 4) -> nn.Module:
    """The same network each time."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return Tiny(width)


def wider() -> nn.Module:
    """Another architecture."""
    return tiny(5)


def few_digits(count: int = 96) -> TrainingData:
    data = digits_data()
    train = data.train.__getitems__(range(count))
    test = data.test.__getitems__(range(60))
    few = ArrayDataset(train.inputs, train.labels)
    return replace(data, train=few, test=ArrayDataset(test.inputs, test.labels), calibration=few)


def recipe(compression: Quantization | Pruning | None = None, **values: object) -> Recipe:
    """A few steps of training."""
    short = {"epochs": 3, "batch_size": 32, "learning_rate": 0.05, "reestimate_batches": 2}
    return overridden(Recipe(compression, model="train_helpers:tiny"), short | values)

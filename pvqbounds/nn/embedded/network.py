"""Architecture of the embedded digits network."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["DigitsCNN"]


def _block(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class DigitsCNN(nn.Module):
    """Five 3x3 convolutions and a linear head on 8x8 grey images, ten classes.

    The fan-ins of the convolutions are 9, 36, 72, 144 and 288 inputs, so that one network
    offers every size from "exact in a millisecond" to "relaxation only".
    """

    def __init__(self) -> None:
        super().__init__()
        self.block1 = _block(1, 4)
        self.block2 = _block(4, 8)
        self.block3 = _block(8, 16, stride=2)
        self.block4 = _block(16, 32)
        self.block5 = _block(32, 64)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class scores, shape (batch, 10), of images of shape (batch, 1, 8, 8)."""
        x = images
        for block in (self.block1, self.block2, self.block3, self.block4, self.block5):
            x = block(x)
        scores: torch.Tensor = self.head(self.pool(x).flatten(1))
        return scores

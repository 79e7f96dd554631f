"""Images as models are trained on ImageNet: a crop of 8 % to 100 % of the area, resized, and a random flip.

Source: Szegedy et al., "Going deeper with convolutions", CVPR 2015. Random numbers come from torch's
generator, so that a seed and a checkpoint hold them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pvqbounds.nn.images import MEAN, STD, ToTensor, Transform, resampling

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["random_crop"]

Numbers = tuple[float, ...]


class _RandomCrop:
    def __init__(self, size: int, resampling: Any, to_tensor: Transform) -> None:
        self._size, self._resampling, self._to_tensor = size, resampling, to_tensor

    def __call__(self, image: Image) -> Tensor:
        box = random_box(*image.size)
        resized = image.resize((self._size, self._size), self._resampling, box=box)
        values = self._to_tensor(resized)
        return values.flip(2) if torch.rand(()) < 0.5 else values


def random_box(width: int, height: int) -> tuple[float, float, float, float]:
    """Left, top, right and lower edge of a random crop: 8 to 100 % of the area, sides 3:4 to 4:3.

    After ten draws that do not fit, the largest centred crop with such sides.
    """
    for _ in range(10):
        area = width * height * float(torch.empty(()).uniform_(0.08, 1.0))
        ratio = math.exp(float(torch.empty(()).uniform_(math.log(3 / 4), math.log(4 / 3))))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left = int(torch.randint(0, width - w + 1, ()))
            top = int(torch.randint(0, height - h + 1, ()))
            return left, top, left + w, top + h
    ratio = min(max(width / height, 3 / 4), 4 / 3)
    across, down = min(width, height * ratio), min(height, width / ratio)
    x, y = (width - across) / 2, (height - down) / 2
    return x, y, x + across, y + down


def random_crop(size: int, interpolation: str, mean: Numbers = MEAN, std: Numbers = STD) -> Transform:
    """Random crop and flip."""
    return _RandomCrop(size, resampling(interpolation), ToTensor(mean, std))

"""Names of models, and how their images are prepared, that can be looked up without torch."""

from __future__ import annotations

from typing import Final

__all__ = ["IMAGE_SIZE", "INTERPOLATION", "PAPER_MODELS"]

PAPER_MODELS = {
    "resnet18": "torchvision:resnet18",
    "resnet50": "torchvision:resnet50",
    "mobilenet_v2": "torchvision:mobilenet_v2",
    "vit": "torchvision:vit_b_16",
    "efficientnet": "timm:efficientnet_lite0",
    "mobilenet_v3_small": "torchvision:mobilenet_v3_small",
}
"""What the paper's names stand for."""

IMAGE_SIZE: Final = 224
"""Height and width of an image where a model names none."""

INTERPOLATION: Final = "bilinear"
"""Resampling filter where a model names none."""

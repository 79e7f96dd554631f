"""Oscillations of quantized weights between two codes: dampening them, or freezing the weights.

Nagel, Fournarakis, Bondarenko, Blankevoort, "Overcoming oscillations in quantization-aware
training", ICML 2022.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pvqbounds.errors import InputError

__all__ = ["Freezer", "annealed", "dampening"]


def annealed(first: float, final: float, start: float, progress: float, before: float = 0.0) -> float:
    """Value at a fraction of the training: `before` until `start`, then a cosine from first to final."""
    if progress < start:
        return before
    position = min(1.0, (progress - start) / (1.0 - start)) if start < 1.0 else 1.0
    return final + (first - final) * 0.5 * (1.0 + math.cos(math.pi * position))


def dampening(latent: Tensor, quantized: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    """Squared distance of the latent weights, clipped to the grid, from their quantized values.

    It pulls latent weights to the middle of their cells and has no gradient in the scale or
    where a weight is clipped.
    """
    step = scale.detach()
    inside = torch.minimum(torch.maximum(latent, qmin * step), qmax * step)
    return (quantized.detach() - inside).square().sum()


class Freezer:
    """Tracks how often each code turns back, and freezes the weights whose code does so too often.

    Parameters
    ----------
    latents
        Latent weights by layer.
    momentum
        Of the moving averages of the frequency and of the code.
    """

    def __init__(self, latents: Mapping[str, Tensor], momentum: float) -> None:
        self._momentum = momentum
        self._tracks = {name: _Track(latent) for name, latent in latents.items()}

    def update(self, name: str, latent: Tensor, codes: Tensor, threshold: float) -> None:
        """Take in the codes after a step; freeze what oscillates more often than `threshold`."""
        track, m = self._tracks[name].on(latent.device), self._momentum
        if not track.started:
            track.previous.copy_(codes)
            track.average.copy_(codes)
            track.started = True
            return
        change = torch.sign(codes - track.previous)
        turned = (change * track.direction) < 0  # it moves against its last move
        track.frequency.lerp_(turned.to(track.frequency), m)
        track.average.lerp_(codes, m)
        track.direction.copy_(torch.where(change != 0, change, track.direction))
        track.previous.copy_(codes)
        frozen = (track.frequency > threshold) & ~track.frozen
        track.code.copy_(torch.where(frozen, torch.round(track.average), track.code))
        track.frozen |= frozen

    def hold(self, name: str, latent: Tensor, scale: Tensor) -> None:
        """Put frozen weights back to their code, whatever the optimiser did."""
        track = self._tracks[name]
        latent.copy_(torch.where(track.frozen, track.code * scale, latent))

    def frozen_share(self) -> float:
        """Fraction of the weights that are frozen."""
        tracks = self._tracks.values()
        return sum(int(t.frozen.sum()) for t in tracks) / sum(t.frozen.numel() for t in tracks)

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        return {name: track.state() for name, track in self._tracks.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`."""
        if set(state) != set(self._tracks):
            raise InputError("The checkpoint belongs to a run without freezing, or of other layers.")
        for name, track in self._tracks.items():
            track.load_state(state[name])


class _Track:
    """The history of one layer's codes."""

    NAMES = ("previous", "direction", "frequency", "average", "code", "frozen")

    def __init__(self, latent: Tensor) -> None:
        self.started = False
        self.previous, self.direction, self.frequency, self.average, self.code = (
            torch.zeros_like(latent, requires_grad=False) for _ in range(5)
        )
        self.frozen = torch.zeros_like(latent, dtype=torch.bool, requires_grad=False)

    def on(self, device: torch.device) -> _Track:
        """The track itself, moved to where the weights are."""
        if self.frozen.device != device:
            for name in self.NAMES:
                setattr(self, name, getattr(self, name).to(device))
        return self

    def state(self) -> dict[str, Any]:
        return {"started": self.started} | {name: getattr(self, name) for name in self.NAMES}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.started = bool(state["started"])
        for name in self.NAMES:
            getattr(self, name).copy_(state[name])

"""Gradual magnitude pruning: the cubic schedule, masks, and the training that keeps to them.

Zhu, Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression",
ICLR workshop 2018. Masks come from :mod:`torch.nn.utils.prune`; removed weights are set to zero after
every step of the optimiser, which costs less than a parametrization and leaves plain layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from pvqbounds.errors import InputError
from pvqbounds.nn.layers import find_layers
from pvqbounds.problems.sparse import nnz_of_density
from pvqbounds.problems.supports import Pattern, largest_kept
from pvqbounds.train.outcome import PrunedLayer
from pvqbounds.train.presets import Pruning

__all__ = ["Pruner", "cubic_sparsity", "masks_of", "pattern_mask"]


def cubic_sparsity(progress: float, start: float, stop: float, initial: float, final: float) -> float:
    """Sparsity at a fraction of the training: `initial` until `start`, `final` from `stop` on.

    Between them final + (initial - final) (1 - t)³, where t runs from 0 to 1.
    """
    if progress >= stop:
        return final
    if progress <= start:
        return initial
    remaining = (stop - progress) / (stop - start)
    return final + (initial - final) * remaining**3


def masks_of(
    weights: Mapping[str, Tensor],
    sparsities: Mapping[str, float],
    scope: str,
    together: frozenset[str] = frozenset(),
) -> dict[str, Tensor]:
    """Ones where a weight is kept, by magnitude.

    Parameters
    ----------
    weights
        By layer; first axis output channels.
    sparsities
        Fraction of each layer that is removed; what is kept is rounded down to a whole number of
        weights, of output channels for scope "channel".
    scope
        "layer", "network" or "channel".
    together
        Layers that scope "network" ranks as one; the others each for themselves.
    """
    remove = _channels_removed if scope == "channel" else _smallest_removed
    joined = {name: weight for name, weight in weights.items() if scope == "network" and name in together}
    masks = {
        name: remove(weight.detach(), sparsities[name])
        for name, weight in weights.items()
        if name not in joined
    }
    if joined:
        flat = torch.cat([weight.detach().flatten() for weight in joined.values()])
        mask = _smallest_removed(flat, sparsities[next(iter(joined))])
        parts = torch.split(mask, [weight.numel() for weight in joined.values()])
        masks |= {name: part.view_as(joined[name]) for name, part in zip(joined, parts, strict=True)}
    return {name: masks[name] for name in weights}


def _smallest_removed(weight: Tensor, sparsity: float) -> Tensor:
    removed = weight.numel() - _kept(sparsity, weight.numel())
    ones = torch.ones_like(weight)
    if removed == 0:
        return ones
    mask: Tensor = torch_prune.L1Unstructured(amount=removed).compute_mask(  # type: ignore[no-untyped-call]
        weight, ones
    )
    return mask


def _channels_removed(weight: Tensor, sparsity: float) -> Tensor:
    removed = len(weight) - max(1, _kept(sparsity, len(weight)))
    ones = torch.ones_like(weight)
    if removed == 0:
        return ones
    pruner = torch_prune.LnStructured(amount=removed, n=2, dim=0)
    mask: Tensor = pruner.compute_mask(weight, ones)  # type: ignore[no-untyped-call]
    return mask


def _kept(sparsity: float, total: int) -> int:
    return nnz_of_density(1.0 - sparsity, total) if sparsity < 1.0 else 0


def pattern_mask(weight: Tensor, kept: int, size: int) -> Tensor:
    """Ones on the `kept` largest of every `size` consecutive input channels, at each kernel position.

    A shorter last group may keep as many.
    """
    rule = Pattern(kept, size, stride=math.prod(weight.shape[2:]))
    rows = weight.detach().abs().flatten(1).to("cpu", torch.float64).numpy()
    mask = largest_kept(rows, rule.budgets(rows.shape[1]))
    return torch.from_numpy(mask).to(weight).reshape_as(weight)


class Pruner:
    """Gradual pruning of a model: what the loop calls.

    Parameters
    ----------
    model
        Its weights are set to zero in place.
    densities
        Kept fraction of each layer in the end, by name.
    settings
        The recipe's.
    patterns
        (N, M) of each layer, for scope "pattern".

    Raises
    ------
    InputError
        If a layer has no weight to spare.
    """

    def __init__(
        self,
        model: nn.Module,
        densities: Mapping[str, float],
        settings: Pruning,
        patterns: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        self._settings, self._densities, self._patterns = settings, dict(densities), dict(patterns or {})
        self._modules = {name: layer.module for name, layer in find_layers(model, densities).items()}
        usual = 1.0 - settings.final_sparsity
        self._together = frozenset(n for n, d in densities.items() if math.isclose(d, usual))
        self.masks = {name: torch.ones_like(m.weight.detach()) for name, m in self._modules.items()}
        self._final = False
        for name, density in densities.items():
            if settings.scope != "channel" and nnz_of_density(density, self.masks[name].numel()) == 0:
                raise InputError(f"A density of {density:g} keeps no weight of layer '{name}'.")

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """None: pruning learns no scales."""
        return []

    def penalty(self, progress: float) -> Tensor | None:
        """None: pruning adds no loss."""
        return None

    @torch.no_grad()
    def after_step(self, progress: float, step: int) -> None:
        """Update the masks where it is time, and apply them; called after each step."""
        weights = [module.weight for module in self._modules.values()]
        if not self._final and (step % self._settings.every == 0 or progress >= self._settings.prune_until):
            self._update(progress)
        masks = [self.masks[name] for name in self._modules]
        if masks[0].device != weights[0].device:
            self.masks = {n: m.to(w.device) for (n, m), w in zip(self.masks.items(), weights, strict=True)}
            masks = list(self.masks.values())
        torch._foreach_mul_(weights, masks)

    def _update(self, progress: float) -> None:
        s = self._settings
        weights = {name: module.weight.detach() for name, module in self._modules.items()}
        self._final = progress >= s.prune_until
        if s.scope == "pattern" and self._final:
            self.masks = {name: pattern_mask(w, *self._patterns[name]) for name, w in weights.items()}
            return
        sparsities = {
            name: cubic_sparsity(progress, s.prune_from, s.prune_until, s.initial_sparsity, 1.0 - density)
            for name, density in self._densities.items()
        }
        if s.scope == "pattern":  # the pattern's own groups from the start, fewer of them at first
            self.masks = {
                name: gradual_pattern_mask(w, *self._patterns[name], sparsities[name])
                for name, w in weights.items()
            }
        else:
            self.masks = masks_of(weights, sparsities, s.scope, self._together)

    def failure(self) -> str:
        """Nothing can go wrong with masks."""
        return ""

    def sparsity(self) -> float:
        """Fraction of the weights that the masks remove."""
        removed = sum(int((mask == 0).sum()) for mask in self.masks.values())
        return removed / sum(mask.numel() for mask in self.masks.values())

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold besides the model."""
        return {"final": self._final, "masks": {name: mask.bool() for name, mask in self.masks.items()}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self._final = bool(state["final"])
        if set(state["masks"]) != set(self.masks):
            raise InputError("The checkpoint's masks belong to other layers.")
        self.masks = {name: state["masks"][name].to(mask) for name, mask in self.masks.items()}

    def outcome(self) -> dict[str, PrunedLayer]:
        """Weights of each layer, with exact zeros."""
        return {
            name: PrunedLayer(
                density=self._densities[name],
                weight=module.weight.detach().to("cpu", torch.float64).flatten(1).numpy(),
                pattern=self._patterns.get(name),
                stride=math.prod(module.weight.shape[2:]) if name in self._patterns else 1,
            )
            for name, module in self._modules.items()
        }

    def remove(self) -> None:
        """Nothing to do: the layers are plain."""


def gradual_pattern_mask(weight: Tensor, kept: int, size: int, sparsity: float) -> Tensor:
    """Remove, of the weights that the pattern will not keep, the smallest up to `sparsity`."""
    lasting = pattern_mask(weight, kept, size)
    ranked = weight.detach().abs() + lasting * (weight.detach().abs().max() + 1.0)
    removed = min(weight.numel() - _kept(sparsity, weight.numel()), int((lasting == 0).sum()))
    ones = torch.ones_like(weight)
    if removed == 0:
        return ones
    mask: Tensor = torch_prune.L1Unstructured(amount=removed).compute_mask(  # type: ignore[no-untyped-call]
        ranked, ones
    )
    return mask

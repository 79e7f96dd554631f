"""Layer-wise reconstruction: all channels of a layer at once, as tensor operations on its Gram.

Quantization: the codes of K-best (:mod:`pvqbounds.methods`) and gradient-based rounding (AdaRound, Nagel et
al., ICML 2020) around the weights and then around the best codes so far, each followed by descent by single
codes and by pairs of them. Pruning: one weight of each channel at a time goes, the one whose removal costs
least after the re-fit of the others (optimal brain surgeon, Hassibi and Stork, NIPS 1993; for layers,
Frantar and Alistarh, "Optimal brain compression", NeurIPS 2022).

Everything here proposes; errors are evaluated from the codes and supports in float64 elsewhere. What
a proposal damps (a singular Gram) is therefore nobody's bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pvqbounds.errors import InputError
from pvqbounds.methods.k_best import KBest
from pvqbounds.methods.rtn import RoundToNearest
from pvqbounds.problems import Gram, IntegerLeastSquares, SparseLeastSquares
from pvqbounds.problems.supports import checked_pattern
from pvqbounds.problems.validation import as_real_array, whole_number

__all__ = ["Rounding", "reconstruct_pruning", "reconstruct_quantization"]

RIDGE = {torch.float64: 1e-10, torch.float32: 1e-5}
"""Relative to the mean of the Gram's diagonal, in factors of proposals only."""

LARGEST_BATCH = 2**28
"""Bytes of the matrices, one for each channel, that pruning holds at one time."""


@dataclass(frozen=True)
class Rounding:
    """Settings of the gradient stage."""

    steps: int = 500
    rate: float = 0.1
    penalty: float = 10.0
    """Weight of the term that draws each variable to 0 or 1, in units of the error per input."""
    first_exponent: float = 20.0
    last_exponent: float = 2.0
    warm_up: float = 0.2
    """Fraction of the steps without that term."""


STRETCH_LOW, STRETCH_HIGH = -0.1, 1.1
"""Of AdaRound's rectified sigmoid."""


def reconstruct_quantization(
    gram: Gram | ArrayLike,
    weight: ArrayLike,
    scales: ArrayLike,
    qmin: int,
    qmax: int,
    *,
    rounding: Rounding | None = None,
    width: int = 64,
    device: torch.device | str = "cpu",
    progress: Callable[[str], None] | None = None,
) -> NDArray[np.int64]:
    """Codes of small output error for all channels of a layer (of one group).

    Parameters
    ----------
    gram
        G = XᵀX/N, shape (n, n).
    weight
        Shape (channels, n).
    scales
        Step of the grid of each channel, shape (channels,).
    qmin, qmax
        Smallest and largest code.
    rounding
        Settings of the gradient stage.
    width
        Beginnings of codes that are kept side by side in the search for the first ones.
    device
        Where to compute, in float64 (float32 on MPS).
    progress
        Called with the name of each stage.

    Returns
    -------
    Codes, shape (channels, n).

    Raises
    ------
    InputError
        If shapes disagree or a value is not finite.
    """
    shared, rows = _checked(gram, weight)
    steps = as_real_array(scales, "The scales", ndim=1)
    if len(steps) != len(rows) or not (steps > 0.0).all():
        raise InputError(f"There must be one positive scale for each of the {len(rows)} channels.")
    report = progress or (lambda stage: None)
    torch_device = torch.device(device)
    problems = [
        IntegerLeastSquares(shared, row, float(step), qmin, qmax)
        for row, step in zip(rows, steps, strict=True)
    ]
    # in units of each channel's own step the error is (z - c)ᵀG(z - c)
    g = _tensor(shared.matrix, torch_device)
    c = _tensor(rows / steps[:, None], torch_device)
    report("K-best")
    starts = [np.array(method.propose(problems)) for method in (RoundToNearest(), KBest(width))]
    best = _best(g, c, [_descend(g, c, _tensor(codes, torch_device), qmin, qmax) for codes in starts])
    for around in ("the weights", "the best codes"):
        report(f"gradient rounding around {around}")
        target = c if around == "the weights" else _coordinate_minimisers(g, c, best, qmin, qmax)
        rounded = _gradient_rounding(g, c, target, qmin, qmax, rounding or Rounding())
        best = _best(g, c, [best, _descend(g, c, rounded, qmin, qmax)])
    codes: NDArray[np.int64] = best.to("cpu", torch.float64).numpy().astype(np.int64)
    return codes


def _errors(g: Tensor, c: Tensor, codes: Tensor) -> Tensor:
    """(z - c)ᵀG(z - c) of each channel."""
    d = codes - c
    return ((d @ g) * d).sum(1)


def _best(g: Tensor, c: Tensor, candidates: list[Tensor]) -> Tensor:
    """The codes of least error, channel by channel."""
    errors = torch.stack([_errors(g, c, codes) for codes in candidates])
    chosen = errors.argmin(0)
    return torch.stack(candidates)[chosen, torch.arange(len(c), device=c.device)]


def _ridge(g: Tensor) -> float:
    return RIDGE[g.dtype] * float(g.diagonal().mean()) or 1.0


def _descend(g: Tensor, c: Tensor, codes: Tensor, qmin: int, qmax: int) -> Tensor:
    """Move single codes, and pairs of them where no single move helps, until nothing helps.

    Each round makes in every channel the one move that gains most. Pairs begin with one of the
    `PARTNERS` single moves that lose least.
    """
    z = codes.clone()
    d = z - c
    slope = d @ g  # half the gradient
    diagonal = g.diagonal().clamp_min(torch.finfo(g.dtype).tiny)
    rows = torch.arange(len(z), device=z.device)
    for _ in range(MOST_ROUNDS * z.shape[1]):
        step = torch.round(-slope / diagonal)
        step = torch.where(step == 0, -torch.sign(slope), step)
        step = (z + step).clamp_(qmin, qmax) - z
        gain = -(2.0 * step * slope + step.square() * diagonal)
        best_gain, best = gain.max(1)
        move = torch.zeros_like(z)
        move[rows, best] = step[rows, best]
        pair_gain, pair_move = _best_pair(g, slope, diagonal, z, qmin, qmax)
        use_pair = pair_gain > best_gain
        move = torch.where(use_pair[:, None], pair_move, move)
        gained = torch.maximum(best_gain, pair_gain)
        floor = 1e-12 * (d * slope).sum(1).abs()
        move = torch.where((gained > floor)[:, None], move, torch.zeros_like(move))
        if not move.any():
            break
        z += move
        d = z - c
        slope += move @ g
    return z


MOST_ROUNDS = 8
"""Rounds of descent for each input, an end that is hardly ever reached."""

PARTNERS = 8
"""First moves of a pair that are tried."""


def _best_pair(
    g: Tensor, slope: Tensor, diagonal: Tensor, z: Tensor, qmin: int, qmax: int
) -> tuple[Tensor, Tensor]:
    """Gain and move of the best pair in each channel: one code by ±1, another by what then fits."""
    rows = torch.arange(len(z), device=z.device)
    best_gain = torch.full_like(slope[:, 0], -torch.inf)
    best_move = torch.zeros_like(z)
    # the first move's own loss, smallest first, in the better of its two directions
    first = -torch.sign(slope)
    first = torch.where(first == 0, torch.ones_like(first), first)
    first = torch.where((z + first > qmax) | (z + first < qmin), -first, first)
    loss = 2.0 * first * slope + diagonal
    for i in loss.topk(min(PARTNERS, z.shape[1]), dim=1, largest=False).indices.unbind(1):
        move = first[rows, i]
        after = slope + move[:, None] * g[i]
        step = torch.round(-after / diagonal)
        step = (z + step).clamp_(qmin, qmax) - z
        step[rows, i] = 0.0
        gain = -loss[rows, i][:, None] - (2.0 * step * after + step.square() * diagonal)
        top, j = gain.max(1)
        better = top > best_gain
        candidate = torch.zeros_like(z)
        candidate[rows, i] = move
        candidate[rows, j] += step[rows, j]
        best_gain = torch.where(better, top, best_gain)
        best_move = torch.where(better[:, None], candidate, best_move)
    return best_gain, best_move


def _coordinate_minimisers(g: Tensor, c: Tensor, codes: Tensor, qmin: int, qmax: int) -> Tensor:
    """Where each variable would be best if the others stay at `codes`, at most one code away."""
    diagonal = g.diagonal().clamp_min(torch.finfo(g.dtype).tiny)
    wanted = (codes - ((codes - c) @ g) / diagonal).clamp(qmin, qmax)
    return codes + (wanted - codes).clamp(-1.0, 1.0)


def _gradient_rounding(
    g: Tensor, c: Tensor, target: Tensor, qmin: int, qmax: int, settings: Rounding
) -> Tensor:
    """AdaRound: each variable has the two codes next to `target`, and all share one optimiser.

    With the weights themselves as the target (c) it is AdaRound; around the coordinate minimisers
    of codes that are good already it searches the two codes of each variable that matter there.
    """
    floor = torch.floor(target).clamp(qmin, max(qmin, qmax - 1))
    share = ((target - floor).clamp(0.01, 0.99) - STRETCH_LOW) / (STRETCH_HIGH - STRETCH_LOW)
    variable = torch.logit(share).requires_grad_()
    nearest = torch.round(target).clamp(qmin, qmax)
    unit = _errors(g, c, nearest).clamp_min(torch.finfo(g.dtype).tiny)  # channels count alike
    optimizer = torch.optim.Adam([variable], settings.rate)
    inputs = c.shape[1]

    def opened() -> Tensor:
        stretched = torch.sigmoid(variable) * (STRETCH_HIGH - STRETCH_LOW) + STRETCH_LOW
        return stretched.clamp(0.0, 1.0)

    for step in range(settings.steps):
        h = opened()
        loss = (_errors(g, c, floor + h) / unit).sum()
        progress = (step / settings.steps - settings.warm_up) / (1.0 - settings.warm_up)
        if progress > 0.0:
            exponent = settings.last_exponent + (settings.first_exponent - settings.last_exponent) * (
                1.0 - progress
            )
            loss = loss + settings.penalty / inputs * (1.0 - (2.0 * h - 1.0).abs() ** exponent).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return floor + torch.round(opened().detach())


def reconstruct_pruning(
    gram: Gram | ArrayLike,
    weight: ArrayLike,
    *,
    nnz: int | None = None,
    pattern: tuple[int, int] | None = None,
    stride: int = 1,
    together: bool = False,
    device: torch.device | str = "cpu",
    progress: Callable[[str], None] | None = None,
) -> NDArray[np.float64]:
    """Weights of small output error with few non-zeros, for all channels of a layer (of one group).

    Parameters
    ----------
    gram
        G = XᵀX/N, shape (n, n).
    weight
        Shape (channels, n).
    nnz
        Weights to keep: in each channel, or in all of them together.
    pattern
        (N, M) in place of `nnz`: N of each M weights.
    stride
        How far apart the weights of a group of `pattern` lie, as in
        :class:`~pvqbounds.SparseLeastSquares`.
    together
        `nnz` is one budget for all channels.
    device
        Where to compute, in float64 (float32 on MPS).
    progress
        Called with what is being done.

    Returns
    -------
    Weights, shape (channels, n): zero where they are removed, re-fitted elsewhere.

    Raises
    ------
    InputError
        If shapes disagree, a value is not finite or the budget is missing, given twice or out of range.
    """
    shared, rows = _checked(gram, weight)
    if (nnz is None) == (pattern is None):
        raise InputError("Give either nnz or pattern, not both and not neither.")
    channels, n = rows.shape
    stride = whole_number(stride, "The stride of a pattern", 1, n)
    if n % stride or (pattern is None and stride != 1):
        raise InputError(
            f"A stride of {stride} needs a pattern and a number of weights that it divides, not {n}."
        )
    surplus = 0  # weights that go from all channels together
    if pattern is not None:
        quota = checked_pattern(pattern)
        if together:
            raise InputError("A pattern is a budget of its own; leave out together.")
    elif together:
        quota, surplus = (0, n), channels * n - whole_number(nnz, "nnz", 0, channels * n)
    else:
        quota = (whole_number(nnz, "nnz", 0, n), n)  # one group of all inputs
    report = progress or (lambda stage: None)
    g, w = _tensor(shared.matrix, torch.device(device)), _tensor(rows, torch.device(device))
    at_once = max(1, LARGEST_BATCH // (n * n * g.element_size()))
    orders, costs = [], []
    for start in range(0, channels, at_once):
        report(f"channel {start + 1} of {channels}")
        order, cost = _removals(g, w[start : start + at_once], quota, stride)
        orders.append(order)
        costs.append(cost)
    order = torch.cat(orders)
    removed = torch.ones_like(order, dtype=torch.bool)
    if together:
        # a removal waits for those before it, so that it counts with the largest cost so far
        ranks = torch.cat(costs).cummax(1).values
        removed = torch.zeros_like(removed).flatten()
        removed[torch.argsort(ranks.flatten(), stable=True)[:surplus]] = True
        removed = removed.view_as(order)
    kept = torch.ones_like(w, dtype=torch.bool).scatter_(1, order, ~removed).cpu().numpy()
    report("re-fit")
    supports = [np.flatnonzero(row) for row in kept]
    refitted = [
        SparseLeastSquares(shared, row, nnz=len(support)).refit(support)
        for row, support in zip(rows, supports, strict=True)
    ]
    return np.array(refitted)


def _removals(g: Tensor, w: Tensor, quota: tuple[int, int], stride: int) -> tuple[Tensor, Tensor]:
    """Inputs in the order of their removal, and the error that each removal adds, (channels, removals).

    One weight of each channel at a time: the cheapest, w_i² / (H⁻¹)_ii on the kept inputs, of those
    whose group of M still has more than N. The others are re-fitted, and H⁻¹ loses its rank one.
    """
    (channels, n), (least, size) = w.shape, quota
    damped = g + _ridge(g) * torch.eye(n, dtype=g.dtype, device=g.device)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped)).expand(channels, n, n).clone()
    inputs = torch.arange(n, device=g.device)
    group = inputs // stride // size * stride + inputs % stride
    members = torch.bincount(group).expand(channels, -1).clone()
    removals = int((members[0] - least).clamp_min(0).sum())
    kept, v = torch.ones_like(w, dtype=torch.bool), w.clone()
    rows = torch.arange(channels, device=g.device)
    order = torch.empty(channels, removals, dtype=torch.int64, device=g.device)
    costs = torch.empty(channels, removals, dtype=g.dtype, device=g.device)
    tiny = torch.finfo(g.dtype).tiny
    for k in range(removals):
        diagonal = inverse.diagonal(dim1=1, dim2=2).clamp_min(tiny)
        allowed = kept & (members[:, group] > least)
        cost, i = torch.where(allowed, v.square() / diagonal, torch.inf).min(1)
        order[:, k], costs[:, k] = i, cost
        column = inverse[rows, :, i]
        pivot = diagonal[rows, i][:, None]
        v = v - column * (v[rows, i][:, None] / pivot)
        inverse.baddbmm_(column[:, :, None], (column / pivot)[:, None, :], alpha=-1.0)
        kept[rows, i] = False
        v = torch.where(kept, v, torch.zeros_like(v))
        members[rows, group[i]] -= 1
    return order, costs


def _checked(gram: Gram | ArrayLike, weight: ArrayLike) -> tuple[Gram, NDArray[np.float64]]:
    shared = gram if isinstance(gram, Gram) else Gram(gram)
    rows = as_real_array(weight, "The weights", ndim=2)
    if rows.shape[1] != shared.n:
        raise InputError(f"A Gram of {shared.n} inputs does not fit weights of {rows.shape[1]}.")
    return shared, rows


def _tensor(array: NDArray[Any], device: torch.device) -> Tensor:
    dtype = torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64
    return torch.tensor(array, dtype=dtype, device=device)

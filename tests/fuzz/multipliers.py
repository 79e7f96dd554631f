"""Multipliers made to break a proof's rounding: at the edge of definiteness, on ties, of every size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.random import Generator

from pvqbounds.problems import Problem
from pvqbounds.problems.code_grids import has_grid
from pvqbounds.relaxations.blocks import BlockCertificate, couplings_of
from pvqbounds.relaxations.cases import Case, CasesCertificate
from pvqbounds.relaxations.certificates import Certificate, LeafCertificate
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.relaxations.slabs import Cover
from pvqbounds.relaxations.splits import Splits, cells_of, length_of
from pvqbounds.solvers.native.pruning.certificate import SubsetCertificate
from pvqbounds.solvers.native.quantization.certificate import SearchCertificate

from .rational import values_of

__all__ = [
    "changed",
    "changed_blocks",
    "noise",
    "random_blocks",
    "random_dual",
    "random_search",
    "random_splits",
]

Array = np.ndarray

SMALLEST = 5e-324


def random_dual(rng: Generator, problem: Problem) -> DualCertificate:
    """Finite multipliers, with split inequalities now and then where the problem's values have them."""
    with np.errstate(all="ignore"):
        lam = _finite(_some_odd(rng, _lam(rng, problem)))
        nu = _finite(_some_odd(rng, _nu(rng, problem, lam)))
    if has_grid(problem.values) and rng.random() < 0.4:
        unit = float(np.diagonal(problem.gram).max(initial=0.0))
        return DualCertificate(lam, nu, random_splits(rng, problem, unit))
    return DualCertificate(lam, nu)


def _finite(values: Array) -> Array:
    return np.where(np.isfinite(values), values, 0.0)


def _some_odd(rng: Generator, values: Array) -> Array:
    """Some of the numbers replaced by zeros of both signs, subnormal or huge ones."""
    if rng.random() < 0.8:
        return values
    odd = np.array([0.0, -0.0, SMALLEST, -SMALLEST, 1e-310, 1e-200, 1e200, -1e200, 1e308, -1e308])
    chosen = odd[rng.integers(0, len(odd) if rng.random() < 0.3 else 6, len(values))]
    return np.where(rng.random(len(values)) < 0.5, chosen, values)


def _lam(rng: Generator, problem: Problem) -> Array:
    """Mostly near the edge of those that leave S definite, where bounds are best and rounding is worst."""
    gram, n, kind = problem.gram, problem.n, int(rng.integers(10))
    diagonal = np.diagonal(gram)
    if kind == 0:
        return rng.standard_normal(n) * 10.0 ** rng.uniform(-20.0, 20.0)
    if kind == 1:
        return diagonal * rng.uniform(-0.5, 1.0) * rng.uniform(0.0, 1.0, n)
    if kind == 2:
        return np.zeros(n) * rng.choice([-1.0, 1.0], n)
    if kind == 3:
        return diagonal * (1.0 - 2.0 ** -rng.uniform(0.0, 54.0, n))
    shape = diagonal if kind >= 6 else diagonal * rng.uniform(0.2, 1.0, n)
    if kind == 4:
        shape = np.ones(n)
    power = np.sqrt(np.where(shape > 0.0, shape, 1.0))
    smallest = float(np.linalg.eigvalsh(gram / power[:, None] / power)[0])
    away = 2.0 ** -rng.uniform(0.0, 54.0) * float(rng.choice([-1.0, 1.0, 1.0, 1.0]))
    return np.asarray(smallest * (1.0 - away) * np.where(shape > 0.0, shape, 1.0))


def _nu(rng: Generator, problem: Problem, lam: Array) -> Array:
    """At a stationary point among the values, between two of them, or of any size."""
    gram, w, n, kind = problem.gram, problem.weight, problem.n, int(rng.integers(8))
    reach = float(np.abs(w).max(initial=0.0)) or 1.0
    if kind == 0:
        return rng.standard_normal(n) * 10.0 ** rng.uniform(-300.0, 300.0)
    if kind == 1:
        return np.zeros(n) * rng.choice([-1.0, 1.0], n)
    if kind == 2:
        return lam * reach * rng.standard_normal(n) * 10.0 ** rng.uniform(-3.0, 1.5)
    low, high = _neighbours(rng, problem)
    if kind <= 4:  # phi_i has its least value midway between two values, or a hair beside
        middle = 0.5 * low + 0.5 * high
        beside = 1.0 + rng.integers(-2, 3, n) * 2.0**-52
        return np.asarray(lam * (w - middle) * beside)
    at = low if kind == 5 else low + rng.uniform(0.0, 1.0, n) * (high - low)
    return np.asarray((gram - np.diag(lam)) @ (at - w))


def _neighbours(rng: Generator, problem: Problem) -> tuple[Array, Array]:
    """Two values next to one another of each input, near its weight or anywhere."""
    if not problem.values.is_finite:
        return np.zeros(problem.n), problem.weight
    pairs = []
    for values, weight in zip(values_of(problem), problem.weight.tolist(), strict=True):
        at = _place(rng, values, weight)
        pairs.append((float(values[at]), float(values[min(at + 1, len(values) - 1)])))
    low, high = np.array(pairs).T
    return low, high


def _place(rng: Generator, values: Sequence[Any], weight: float) -> int:
    if rng.random() < 0.2:
        return int(rng.integers(len(values)))
    low, high = 0, len(values) - 1
    while low < high:  # the last value that is not above the weight, or the first
        middle = (low + high + 1) // 2
        low, high = (middle, high) if values[middle] <= weight else (low, middle - 1)
    return max(0, low - int(rng.integers(2)))


def random_splits(rng: Generator, problem: Problem, unit: float) -> Splits:
    """True inequalities about sums of codes or levels, with random multipliers in units of the Gram."""
    m, values = int(rng.integers(1, 5)), problem.values
    index = rng.integers(0, problem.n, (m, 3)).astype(np.int32)
    last = values.code_ends[1][index]
    cell = np.zeros((m, 3), np.int32)
    sign = rng.integers(-1, 2, (m, 3)).astype(np.int8)
    if values.lattice is None:
        near = np.where(rng.random((m, 3)) < 0.7, values.nearest(problem.weight)[index], 0)
        cell = np.clip(near - rng.integers(0, 2, (m, 3)), 0, np.maximum(last - 1, 0)).astype(np.int32)
        sign = np.where(last > 0, sign, 0).astype(np.int8)
    splits = Splits(index, sign, np.zeros(m, np.int64), np.zeros(m), cell)
    with np.errstate(all="ignore"):
        cells = cells_of(splits, problem)
        near = (sign * ((problem.weight[index] - cells.origin) / cells.width)).sum(axis=1)
        near = np.where(np.isfinite(near), np.clip(near, -(2.0**39), 2.0**39), 0.0)
        low = np.floor(near + rng.integers(-2, 3, m)).astype(np.int64)
        # where steps differ a_i s/s_i is far above 1: multipliers that leave A definite are small
        most = np.abs(sign * (length_of(splits, values) / cells.width)).max(axis=1)
        multiplier = unit * 10.0 ** rng.uniform(-4.0, 1.0, m)
        multiplier = np.where(rng.random(m) < 0.7, multiplier / np.maximum(most, 1.0) ** 2, multiplier)
    return replace(splits, low=low, multiplier=np.where(np.isfinite(multiplier), multiplier, 0.0))


def changed(rng: Generator, problem: Problem, certificate: DualCertificate) -> DualCertificate:
    """The multipliers with some of them moved a little, or by much."""
    lam, nu, n = certificate.lam, certificate.nu, problem.n
    size = 10.0 ** -rng.uniform(0.0, 15.0)
    where = rng.random(n) < 0.6
    with np.errstate(all="ignore"):
        if rng.random() < 0.5:
            lam = lam + where * size * rng.standard_normal(n) * np.maximum(np.abs(lam), 1e-3)
        else:
            step = np.abs(nu) + np.abs(lam) * np.abs(problem.weight)
            nu = nu + where * size * rng.standard_normal(n) * step
    return DualCertificate(_finite(lam), _finite(nu), certificate.splits)


def random_blocks(rng: Generator, problem: Problem) -> BlockCertificate:
    """Finite multipliers that couple inputs of one group: shares of the Gram's entries, or of any size."""
    pairs = couplings_of(problem)
    share, own = rng.uniform(-1.5, 1.5), problem.gram[pairs.first, pairs.second]
    with np.errstate(all="ignore"):
        coupling = share * own * (1.0 + 10.0 ** -rng.uniform(0.0, 16.0) * rng.standard_normal(len(own)))
        if rng.random() < 0.2:
            coupling = rng.standard_normal(len(own)) * 10.0 ** rng.uniform(-200.0, 200.0)
        coupling = _finite(_some_odd(rng, coupling))
    made = random_dual(rng, problem)
    return BlockCertificate(made.lam, made.nu, pairs, coupling)


def changed_blocks(rng: Generator, problem: Problem, certificate: BlockCertificate) -> BlockCertificate:
    """The multipliers with some of them moved a little, or by much."""
    moved = changed(rng, problem, DualCertificate(certificate.lam, certificate.nu))
    coupling, size = certificate.coupling, 10.0 ** -rng.uniform(0.0, 15.0)
    if rng.random() < 0.5:
        with np.errstate(all="ignore"):
            step = np.maximum(np.abs(coupling), 1e-3) * rng.standard_normal(len(coupling))
            coupling = _finite(coupling + size * step)
    return replace(certificate, lam=moved.lam, nu=moved.nu, coupling=coupling)


def random_search(rng: Generator, problem: Problem, lie: float) -> Certificate:
    """A claim that a search, repeated, would meet nothing below `lie`."""
    nodes = int(rng.integers(0, 100))
    if not problem.values.is_finite:
        radius = float(rng.choice([0.0, -1.0, 1e-8, 1.0, 1e8, np.inf]))
        return SubsetCertificate(lie, nodes, radius)
    made = random_dual(rng, problem)
    return SearchCertificate(made.lam, made.nu, lie, nodes, made.splits)


def random_cases(rng: Generator, problem: Problem, lie: float) -> CasesCertificate:
    """A cover of random directions, with multipliers made to break a proof in each of its leaves."""
    n, m, cuts = problem.n, int(rng.integers(1, 3)), int(rng.integers(0, 4))
    reach = 3.0 if rng.random() < 0.8 else 160.0
    direction = rng.standard_normal((m, n)) * 10.0 ** rng.uniform(-reach, reach, (m, 1))
    if rng.random() < 0.3:
        direction = np.round(direction)
    with np.errstate(all="ignore"):
        values = values_of(problem) if problem.values.is_finite else [[0.0]] * n
        some = np.array([float(own[int(rng.integers(len(own)))]) for own in values])
        t = _finite(direction @ (some - problem.weight))
    axis, cut = _random_tree(rng, m, cuts, t)
    unit = float(np.diagonal(problem.gram).max(initial=0.0))
    cases = []
    for _ in range(cuts + 1):
        with np.errstate(all="ignore"):
            size = unit / max(float((direction**2).max()), 1e-30)
            chord = np.where(rng.random(m) < 0.7, size * 10.0 ** rng.uniform(-3.0, 1.0, m), 0.0)
            push = np.where(rng.random(m) < 0.5, size * rng.standard_normal(m), 0.0) * np.abs(t)
        if rng.random() < 0.1:  # half of the least float64 is 0
            chord = rng.integers(0, 4, m) * SMALLEST
        made = random_dual(rng, problem)
        if rng.random() < 0.8:  # nu near p, as good ones have it
            with np.errstate(all="ignore"):
                made = replace(made, nu=_finite(made.nu + push @ direction))
        proof: LeafCertificate = made
        if problem.values.is_finite and rng.random() < 0.3:
            proof = SearchCertificate(made.lam, made.nu, lie, int(rng.integers(0, 100)), made.splits)
        cases.append(Case(_finite(chord), _finite(push), proof))
    return CasesCertificate(Cover(direction, axis, cut), tuple(cases), lie)


def _random_tree(rng: Generator, m: int, cuts: int, t: Array) -> tuple[Array, Array]:
    """A tree in preorder with so many cuts, near some t, on it or anywhere."""
    axis: list[int] = []
    cut: list[float] = []

    def grow(left: int) -> None:
        if left == 0:
            axis.append(-1)
            cut.append(0.0)
            return
        chosen = int(rng.integers(m))
        below = int(rng.integers(left))
        axis.append(chosen)
        beside = float(rng.choice([0.0, 1e-15, 1e-3, 1.0])) * rng.standard_normal()
        cut.append(float(t[chosen] * (1.0 + beside)))
        grow(below)
        grow(left - 1 - below)

    grow(cuts)
    return np.array(axis, np.int64), np.array(cut)


def noise(rng: Generator, problem: Problem, lie: float) -> Certificate:
    """A certificate of the right kind and type, made of random numbers."""
    if rng.random() < 0.25:
        return random_cases(rng, problem, lie)
    return random_search(rng, problem, lie) if rng.random() < 0.4 else random_dual(rng, problem)

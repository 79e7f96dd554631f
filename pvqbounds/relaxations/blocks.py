"""The block certificate: the dual under a support rule with small groups, each taken as a whole.

The dual of :mod:`pvqbounds.relaxations.dual` splits the error input by input. Where the support rule has
small groups, as N:M has, it need not: for any symmetric D that couples inputs of one group alone, with
S = G - D positive definite,

    dᵀGd = (dᵀSd - 2 nuᵀd) + sum_g phi_g(v_g),
    phi_g(v) = (v - w_g)ᵀD_g(v - w_g) + 2 nu_gᵀ(v - w_g),

and the least of phi_g over the weights that a group allows is found by looking at all of its supports T:

    min phi_g = w_gᵀD_g w_g - 2 nu_gᵀw_g - max_T cᵀ(D_TT)⁻¹c,    c = (D_g w_g - nu_g)_T.

Weights that are kept may be any real numbers here, so that the bound is one for every value set. Each D_TT
has to be positive definite, D_g itself need not be. With diagonal D this is the perspective bound; off the
diagonal it is more: the value of the relaxation in which each (v_g, v_g v_gᵀ) lies in the hull of what its
group allows. Hulls of more than one input by their pieces: Atamtürk and Gómez, "Rank-one convexification for
sparse regression", JMLR 26(35), 2025; Han, Gómez and Atamtürk, "2x2-convexifications for convex quadratic
optimization with indicator variables", arXiv:2004.07448.

Every rounding is paid for: S is *defined* by its float64 entries, so that D = G - S is exact up to one
rounding; for any y, with r = c - D_TT y and mu a proved lower bound on the least eigenvalue of D_TT,
``cᵀ(D_TT)⁻¹c <= 2 cᵀy - yᵀD_TT y + ||r||²/mu``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.definite import equilibration, proof_margin, proved_shift
from pvqbounds.arithmetic.enclosures import TINY, down, gamma, total
from pvqbounds.problems.least_squares import Problem
from pvqbounds.problems.supports import Groups
from pvqbounds.problems.units import Units
from pvqbounds.relaxations.certificates import (
    NOTHING,
    Certificate,
    Proof,
    is_vector,
    multipliers_in_units,
)
from pvqbounds.relaxations.definite_rest import DefiniteRest
from pvqbounds.relaxations.dual import FINE_STEPS, STEADY, STEPS_BACK, minus_inverse_form

if TYPE_CHECKING:
    from pvqbounds.clock import Clock

__all__ = ["LARGEST_GROUP", "BlockCertificate", "Couplings", "block_bound", "couplings_of", "has_blocks"]

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

MOST_SUPPORTS = 256
"""Supports that a group may have."""

LARGEST_GROUP = 16
"""Inputs that a group may have."""


class Couplings(NamedTuple):
    """The pairs of inputs that share a group, each once."""

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    """Smaller than the first."""


def has_blocks(problem: Problem) -> bool:
    """Whether every group is small enough to be taken as a whole."""
    if not problem.is_restricted or sum(len(group) for group, _ in problem.budgets) != problem.n:
        return False
    return all(
        len(group) <= LARGEST_GROUP and math.comb(len(group), most) <= MOST_SUPPORTS
        for group, most in problem.budgets
    )


def couplings_of(problem: Problem) -> Couplings:
    """All pairs of inputs of one group, group by group."""
    pairs = [
        (group[i], group[j]) for group, _ in problem.budgets for i in range(len(group)) for j in range(i)
    ]
    ordered = np.sort(np.array(pairs, dtype=np.int32).reshape(-1, 2), axis=1)
    return Couplings(ordered[:, 1].copy(), ordered[:, 0].copy())


@dataclass(frozen=True, eq=False)
class BlockCertificate(Certificate):
    """Multipliers of the dual with blocks: they prove a bound by themselves."""

    kind: ClassVar[str] = "blocks"
    lam: Array
    """The diagonal of D, shape (n,), in units of the Gram."""
    nu: Array
    """nu, shape (n,), in units of Gram times weight."""
    pairs: Couplings
    """Inputs that D couples, shape (m,) each."""
    coupling: Array
    """Entries of D off the diagonal, one for each pair, shape (m,), in units of the Gram."""

    def fits(self, problem: Problem) -> bool:
        """Whether it holds finite multipliers about the inputs, and couples none but those of one group."""
        n = problem.n
        if not (has_blocks(problem) and is_vector(self.lam, n) and is_vector(self.nu, n)):
            return False
        if not (isinstance(self.pairs, Couplings) and is_vector(self.coupling, np.size(self.coupling))):
            return False
        first, second = self.pairs
        for indices in (first, second):
            if not (isinstance(indices, np.ndarray) and indices.dtype == np.int32):
                return False
            if indices.shape != self.coupling.shape or (indices < 0).any() or (indices >= n).any():
                return False
        group = Groups.of(problem.rule, n).group
        once = np.unique(first.astype(np.int64) * n + second).size == first.size
        return once and bool((second < first).all() and (group[first] == group[second]).all())

    @property
    def relaxation(self) -> str:
        """Name of the relaxation that its bound is one of."""
        return "blocks"

    def in_units(self, units: Units) -> BlockCertificate:
        """The same multipliers for the problem in these units."""
        lam, nu = multipliers_in_units(self.lam, self.nu, units)
        with np.errstate(over="ignore", under="ignore"):
            return BlockCertificate(lam, nu, self.pairs, np.ldexp(self.coupling, -units.gram))

    def times(self, factor: float) -> BlockCertificate:
        """All multipliers so many times."""
        return replace(self, lam=factor * self.lam, nu=factor * self.nu, coupling=factor * self.coupling)

    def claim(self, problem: Problem) -> tuple[BlockCertificate, float]:
        """Multipliers that any machine can prove, and the bound to state from them."""
        steady, proof = _steady(problem, self)
        return steady, proof.claimed(problem.signal.upper)

    def prove(self, problem: Problem, clock: Clock) -> float:
        """What the multipliers prove."""
        return max(0.0, block_bound(problem, self))


def block_bound(problem: Problem, certificate: BlockCertificate) -> float:
    """The lower bound on E that the multipliers prove, rounded down; may be negative.

    Multipliers that are not finite or of another problem prove nothing: the result is -inf. Where their
    arithmetic overflows it is 0: E is a mean square.
    """
    return _proof(problem, certificate, 1.0).value


def _proof(problem: Problem, certificate: BlockCertificate, margins: float) -> Proof:
    """What the multipliers prove with so many margins left, and how much of it any repetition proves."""
    if not certificate.fits(problem):
        return NOTHING
    units = problem.units
    if units != (0, 0):
        inner = _proof(problem.normalised, certificate.in_units(units), margins)
        return inner.in_units(units.inverse)
    if not problem.shared.live.any():
        return Proof(0.0, 0.0, False)
    with np.errstate(all="ignore"):  # whatever overflows proves nothing
        found = _live_proof(problem, certificate, margins)
    return found if found is not None and math.isfinite(found.value) else Proof(0.0, 0.0, False)


def _steady(problem: Problem, certificate: BlockCertificate) -> tuple[BlockCertificate, Proof]:
    """The certificate, D shrunk where another order of sums could fail to prove it, and its proof."""
    found = _proof(problem, certificate, STEADY)
    if not found.lowered:
        return certificate, found
    for step in FINE_STEPS:
        shrunk = certificate.times(1.0 - step)
        proof = _proof(problem, shrunk, STEADY)
        if not proof.lowered:
            return shrunk, proof
    return certificate, found


class _Live(NamedTuple):
    """A certificate about the live inputs, in units that give the Gram a diagonal near 1."""

    D: Array
    """Shape (n, n), zero between groups."""
    nu: Array
    weight: Array
    group: Indices
    """Number of each input's group, shape (n,)."""
    most: Indices
    """How many of each group may be kept."""

    @classmethod
    def of(cls, problem: Problem, certificate: BlockCertificate, power: Indices) -> _Live:
        live = problem.shared.live
        place = np.cumsum(live) - 1
        D = np.diag(np.ldexp(certificate.lam[live], -2 * power))
        inside = live[certificate.pairs.first] & live[certificate.pairs.second]
        i, j = place[certificate.pairs.first[inside]], place[certificate.pairs.second[inside]]
        D[i, j] = D[j, i] = np.ldexp(certificate.coupling[inside], -power[i] - power[j])
        groups = Groups.of(problem.rule, problem.n)
        nu, weight = np.ldexp(certificate.nu[live], -power), np.ldexp(problem.weight[live], power)
        return cls(D, nu, weight, groups.group[live], groups.most)

    def alike(self) -> Iterator[tuple[Indices, int]]:
        """Groups of one size and budget together: their inputs, shape (groups, size), and what they keep."""
        order = np.argsort(self.group, kind="stable")
        numbers, starts, sizes = np.unique(self.group[order], return_index=True, return_counts=True)
        kept = np.minimum(self.most[numbers], sizes)
        for size, most in sorted(set(zip(sizes.tolist(), kept.tolist(), strict=True))):
            chosen = starts[(sizes == size) & (kept == most)]
            yield order[chosen[:, None] + np.arange(size)], most


def _live_proof(problem: Problem, certificate: BlockCertificate, margins: float) -> Proof | None:
    """The proof of the live inputs; None where their arithmetic overflows or some D_TT is not definite."""
    live = problem.shared.live
    gram = problem.gram if live.all() else problem.gram[np.ix_(live, live)]
    power = equilibration(gram)
    gram, own = np.ldexp(gram, -power[:, None] - power), _Live.of(problem, certificate, power)
    definite = _definite_rest(gram, own.D, margins)
    if definite is None:
        return None
    quadratic, blur = minus_inverse_form(definite, own.nu, np.zeros_like(own.nu))
    parts = [quadratic]
    for inputs, kept in own.alike():
        found = _least_of_groups(gram, definite.matrix, inputs, kept, own, margins)
        if found is None:
            return None
        parts += found.value.tolist()
        blur += float(found.blur.sum())
    value = down(total(parts), 2)
    return Proof(value, blur, definite.lowered > 0.0)


def _definite_rest(gram: Array, D: Array, margins: float) -> DefiniteRest | None:
    """G - (1 - t) D with the least t for which it is proved definite."""
    for t in STEPS_BACK:
        matrix = gram - (1.0 - t) * D
        if not np.isfinite(matrix).all():
            return None
        shift = proved_shift(matrix, margins)
        if shift is not None:
            return DefiniteRest(matrix, shift, t)
    return None


class _Ends(NamedTuple):
    """Proved ends, and what a repetition with other sums may lose of each."""

    value: Array
    blur: Array


def _least_of_groups(
    gram: Array, rest: Array, inputs: Indices, kept: int, own: _Live, margins: float
) -> _Ends | None:
    """Lower bounds on the least of phi_g over what each of some groups allows, shape (groups,).

    Parameters
    ----------
    rest
        S, shape (n, n).
    inputs
        Shape (groups, size).
    kept
        How many of each may be kept.
    """
    size = inputs.shape[1]
    rows, columns = inputs[:, :, None], inputs[:, None, :]
    D = gram[rows, columns] - rest[rows, columns]  # exact up to one rounding
    w, nu = own.weight[inputs], own.nu[inputs]
    rounding = gamma(size + 5)
    c = (D @ w[..., None])[..., 0] - nu
    blur = rounding * ((np.abs(D) @ np.abs(w)[..., None])[..., 0] + np.abs(nu)) + TINY
    # w'Dw - 2 nu'w = w'(c - nu)
    slope = c - nu
    whole: Array = (w * slope).sum(axis=1)
    lost = (np.abs(w) * (blur + rounding * np.abs(nu))).sum(axis=1) + rounding * np.abs(w * slope).sum(axis=1)
    whole = np.nextafter(whole - (1.0 + 2.0 * rounding) * lost - TINY, -np.inf)
    if kept == 0:
        return _Ends(whole, 2.0 * lost)
    supports = np.array(list(itertools.combinations(range(size), kept)))
    blocks = D[:, supports[:, :, None], supports[:, None, :]]
    most = _most_of_supports(blocks, c[:, supports], blur[:, supports], margins)
    if most is None:
        return None
    return _Ends(np.nextafter(whole - most.value, -np.inf), 2.0 * (lost + most.blur))


def _most_of_supports(D: Array, c: Array, blur: Array, margins: float) -> _Ends | None:
    """Upper bounds on the most of cᵀD⁻¹c over the supports of each group; None where some D is not definite.

    Parameters
    ----------
    D
        Exact up to one rounding, shape (groups, supports, kept, kept).
    c, blur
        c lies within `blur` of what is given, shape (groups, supports, kept).
    """
    kept = D.shape[-1]
    smallest = _smallest(D, margins)
    if smallest is None:
        return None
    y = np.linalg.solve(D, c[..., None])[..., 0]
    image, size = (D @ y[..., None])[..., 0], (np.abs(D) @ np.abs(y)[..., None])[..., 0]
    rounding = gamma(kept + 6)
    off = blur + rounding * (np.abs(c) + size) + TINY  # of c - Dy
    residual = np.abs(c - image) + off
    slope = 2.0 * c - image
    value = (y * slope).sum(axis=-1)
    lost = (np.abs(y) * (blur + off)).sum(axis=-1) + rounding * np.abs(y * slope).sum(axis=-1)
    lost += (residual * residual).sum(axis=-1) / smallest
    most = value + (1.0 + 4.0 * rounding) * lost + 2.0 * rounding * np.abs(value) + TINY
    if np.isnan(most).any():
        return None
    return _Ends(np.nextafter(most, np.inf).max(axis=-1), lost.max(axis=-1))


def _smallest(D: Array, margins: float) -> Array | None:
    """Proved positive lower bounds on the least eigenvalues of many small matrices, or None.

    The theorem is that of :mod:`pvqbounds.arithmetic.definite`, with a Cholesky factorisation of all at once.
    """
    kept = D.shape[-1]
    if not np.isfinite(D).all():
        return None
    shift = 0.5 * np.linalg.eigvalsh(D)[..., 0]
    if not (shift > 0.0).all():
        return None
    places = np.arange(kept)
    lowered = D.copy()
    diagonal = D[..., places, places]
    # the rounding of an entry of D is kept·u of its diagonal at most: twice the margin pays for it
    margin = 2.0 * margins * proof_margin(kept) * diagonal + TINY
    lowered[..., places, places] = np.nextafter(
        np.nextafter(diagonal - shift[..., None], -np.inf) - margin, -np.inf
    )
    factor = np.zeros_like(lowered)
    for j in range(kept):
        pivot = lowered[..., j, j] - (factor[..., j, :j] ** 2).sum(axis=-1)
        if not (pivot > 0.0).all():
            return None
        factor[..., j, j] = np.sqrt(pivot)
        for i in range(j + 1, kept):
            sums = (factor[..., i, :j] * factor[..., j, :j]).sum(axis=-1)
            factor[..., i, j] = (lowered[..., i, j] - sums) / factor[..., j, j]
    return np.asarray(shift, dtype=np.float64)

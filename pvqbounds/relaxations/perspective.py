"""The perspective bound of SparseLeastSquares, from a diagonal and multipliers.

With a diagonal D >= 0, H = G - diag(D) positive definite, any nu, and u = v - w, split

    uᵀGu = (uᵀHu - 2 nuᵀu) + sum_i (D_i u_i² + 2 nu_i u_i)

and minimise both parts on their own. The first is at least -nuᵀH⁻¹nu. In the second a kept
input gives at least -nu_i²/D_i, a removed one (u_i = -w_i) gives D_i w_i² - 2 nu_i w_i, which is
larger by D_i (w_i - nu_i/D_i)²; of each group the cheapest ones are removed:

    E(v) >= -nuᵀH⁻¹nu - sum_i nu_i²/D_i + sum of the (n - nnz) smallest D_i (w_i - nu_i/D_i)².

The maximum over (D, nu) is the value of the best perspective relaxation (Frangioni and Gentile,
Operations Research Letters 35, 2007; Zheng, Sun and Li, INFORMS Journal on Computing 26, 2014).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.definite import equilibration, proved_shift
from pvqbounds.arithmetic.enclosures import TINY, UNIT, down, total
from pvqbounds.problems import SparseLeastSquares
from pvqbounds.problems.sparse import common_units
from pvqbounds.relaxations.certificates import (
    NOTHING,
    STEADY,
    PerspectiveCertificate,
    Proof,
    minus_inverse_form,
)

__all__ = [
    "SeparableTerms",
    "layer_perspective_bound",
    "layer_perspective_proof",
    "perspective_bound",
    "perspective_proof",
    "perspective_terms",
    "perspective_value",
    "steady_perspective",
]

STEPS_BACK = (0.0, *(10.0**k for k in range(-14, 0)))
"""How far D is shrunk, one after the other, until H is proved positive definite."""

FINE_STEPS = tuple(1e-12 * 3.0**k for k in range(25))
"""The same, where D is shrunk once and for all and not at every proof."""


def perspective_bound(problem: SparseLeastSquares, certificate: PerspectiveCertificate) -> float:
    """Return the lower bound on E that (D, nu) prove, rounded down; it may be negative.

    Numbers that are not finite or not n of each prove nothing: the result is -inf. Negative
    entries of D, and entries of nu without a D, count as zero: any choice gives a true bound.
    It is 0 for a singular Gram, where no D > 0 exists in general.
    """
    return perspective_proof(problem, certificate).value


def perspective_proof(
    problem: SparseLeastSquares, certificate: PerspectiveCertificate, margins: float = 1.0
) -> Proof:
    """What (D, nu) prove with so many margins left, and how much of it any repetition proves."""
    if not certificate.fit(problem.n):
        return NOTHING
    if problem.units != (0, 0):
        inner = perspective_proof(problem.normalised, certificate.in_units(problem.units), margins)
        return inner.in_units(problem.units.inverse)
    terms = perspective_terms(problem, certificate, margins=margins)
    if terms is None:
        return NOTHING
    parts = [terms.constant]
    for group, budget in problem.budgets:
        parts += np.sort(terms.extra[group])[: len(group) - budget].tolist()
    value = down(total(parts), 2)
    return Proof(value, terms.blur, terms.lowered) if math.isfinite(value) else NOTHING


def steady_perspective(
    problem: SparseLeastSquares, certificate: PerspectiveCertificate
) -> tuple[PerspectiveCertificate, Proof]:
    """The certificate, D shrunk where another order of sums could fail to prove it, and its proof."""
    if problem.units != (0, 0):
        inner, proof = steady_perspective(problem.normalised, certificate.in_units(problem.units))
        return inner.in_units(problem.units.inverse), proof.in_units(problem.units.inverse)
    proof = perspective_proof(problem, certificate, STEADY)
    for step in FINE_STEPS if proof.lowered else ():
        smaller = PerspectiveCertificate((1.0 - step) * certificate.diagonal, (1.0 - step) * certificate.nu)
        found = perspective_proof(problem, smaller, STEADY)
        if not found.lowered:
            return smaller, found
    return certificate, proof


def layer_perspective_bound(
    problems: Sequence[SparseLeastSquares], certificates: Sequence[PerspectiveCertificate], nnz: int
) -> float:
    """Return the lower bound on the summed error of channels that keep `nnz` weights together.

    Each channel c has E_c(v) >= constant_c + sum of extra_ci over its removed inputs, with no
    extra below 0, and at least (weights in all) - nnz inputs go: the sum of the constants and of
    so many least extras over the whole layer is a bound, whatever the multipliers.

    Parameters
    ----------
    problems
        The channels; their own budgets play no part.
    certificates
        (D, nu) of each channel.
    nnz
        Non-zeros allowed to all channels together.

    Returns
    -------
    The bound, rounded down; never negative, as E is a mean square.
    """
    return layer_perspective_proof(problems, certificates, nnz).value


def layer_perspective_proof(
    problems: Sequence[SparseLeastSquares], certificates: Sequence[PerspectiveCertificate], nnz: int
) -> Proof:
    """What the certificates of all channels prove together: see :func:`layer_perspective_bound`."""
    units = common_units(problems)
    problems = [problem.in_units(units) for problem in problems]
    certificates = [
        c.in_units(units) if c.fit(p.n) else c for p, c in zip(problems, certificates, strict=True)
    ]
    nothing = SeparableTerms(0.0, np.zeros(0), 0.0, False)
    proofs: Proofs = {}
    terms = [
        perspective_terms(problem, certificate, proofs) or nothing
        for problem, certificate in zip(problems, certificates, strict=True)
    ]
    # a channel whose numbers prove nothing counts with E >= 0, and so do all of its inputs
    extra = np.concatenate(
        [t.extra if len(t.extra) else np.zeros(p.n) for p, t in zip(problems, terms, strict=True)]
    )
    removed = max(0, len(extra) - nnz)
    parts = [t.constant for t in terms] + np.partition(extra, removed - 1)[:removed].tolist()
    value = down(total(parts), 2)
    if not value > 0.0:  # nan as well
        return Proof(0.0, 0.0, False)
    proof = Proof(value, math.fsum(t.blur for t in terms), any(t.lowered for t in terms))
    return proof.in_units(units.inverse)


class SeparableTerms(NamedTuple):
    """E(v) >= constant + sum of `extra` over the inputs that v removes: all rounded down."""

    constant: float
    extra: NDArray[np.float64]
    """What removing an input adds, never negative, shape (n,)."""
    blur: float
    """How much less a repetition may prove, in the constant."""
    lowered: bool
    """Whether D was shrunk."""


Proofs = dict[tuple[int, bytes], tuple[NDArray[np.float64], float, float] | None]
"""The definite matrix H, its shift and the step back, by the identity of a Gram and the diagonal of D."""


def perspective_terms(
    problem: SparseLeastSquares,
    certificate: PerspectiveCertificate,
    proofs: Proofs | None = None,
    margins: float = 1.0,
) -> SeparableTerms | None:
    """Return what (D, nu) prove before any budget is spent; None where they are not n finite numbers.

    Parameters
    ----------
    proofs
        Filled with the proof of each D, so that channels that share it share the proof.
    margins
        How many times the margin of a proof H is to leave.
    """
    if not certificate.fit(problem.n):
        return None
    diagonal, nu = certificate.diagonal, certificate.nu
    live = np.asarray(problem.gram.any(axis=1))  # an input that is always zero adds nothing to E
    extra = np.zeros(problem.n)
    if not live.any():
        return SeparableTerms(0.0, extra, 0.0, False)
    with np.errstate(all="ignore"):  # whatever overflows ends as a bound of 0
        terms = _live_terms(problem, live, diagonal[live], nu[live], proofs, margins)
    extra[live] = terms.extra
    return terms._replace(extra=extra)


def _live_terms(
    problem: SparseLeastSquares,
    live: NDArray[np.bool_],
    diagonal: NDArray[np.float64],
    nu: NDArray[np.float64],
    proofs: Proofs | None,
    margins: float,
) -> SeparableTerms:
    """The terms of the live inputs, from units that give G a diagonal near 1; zeros prove nothing."""
    nothing = SeparableTerms(0.0, np.zeros(len(nu)), 0.0, False)  # E is a mean square
    stored = np.diagonal(problem.gram)[live]
    power = equilibration(np.diag(stored))
    weight, nu = np.ldexp(problem.weight[live], power), np.ldexp(nu, -power)
    key = id(problem.gram), diagonal.tobytes()
    if proofs is None or key not in proofs:
        gram = problem.gram if live.all() else problem.gram[np.ix_(live, live)]
        gram = np.ldexp(gram, -power[:, None] - power)
        definite = _definite_rest(gram, np.maximum(np.ldexp(diagonal, -2 * power), 0.0), margins)
        if proofs is not None:
            proofs.clear()  # one at a time: H is as large as the Gram
            proofs[key] = definite
    else:
        definite = proofs[key]
    if definite is None:
        return nothing
    rest, smallest, step = definite
    # G_ii - H_ii is D_i with one rounding: H is what is stored, D what is left
    D = np.ldexp(stored, -2 * power) - np.diagonal(rest)
    nu = np.where(D > 0.0, nu, 0.0)
    kept, extra = _terms(D, nu, weight)
    if not (np.isfinite(kept).all() and np.isfinite(extra).all()):
        return nothing
    quadratic, blur = minus_inverse_form(rest, nu, smallest)
    constant = down(quadratic + down(total(kept.tolist())), 2)
    if not math.isfinite(constant):
        return nothing
    return SeparableTerms(constant, np.maximum(extra, 0.0), blur, step > 0.0)


def perspective_value(
    problem: SparseLeastSquares, diagonal: NDArray[np.float64], nu: NDArray[np.float64]
) -> float:
    """Return the same bound in plain floating point, not rounded; -inf where H is not definite."""
    rest = problem.gram - np.diag(diagonal)
    try:
        np.linalg.cholesky(rest)
    except np.linalg.LinAlgError:
        return -math.inf
    with np.errstate(divide="ignore", invalid="ignore"):
        kept = np.where(diagonal > 0.0, -(nu**2) / diagonal, 0.0)
    extra = diagonal * problem.weight**2 - 2.0 * nu * problem.weight - kept
    cheapest = sum(
        float(np.sort(extra[group])[: len(group) - budget].sum()) for group, budget in problem.budgets
    )
    return float(kept.sum()) + cheapest - float(nu @ np.linalg.solve(rest, nu))


def _definite_rest(
    gram: NDArray[np.float64], diagonal: NDArray[np.float64], margins: float
) -> tuple[NDArray[np.float64], float, float] | None:
    """H = G - (1 - t) diag(D), with the least t for which it is proved definite, a proved shift, and t."""
    rest = gram.copy()
    for t in STEPS_BACK:
        rest[np.diag_indices(len(gram))] = np.minimum(
            np.diagonal(gram), np.diagonal(gram) - (1.0 - t) * diagonal
        )
        shift = proved_shift(rest, margins)
        if shift is not None:
            return rest, shift, t
    return None


def _terms(
    D: NDArray[np.float64], nu: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower bounds on what an input gives if kept, and on what it gives more if removed."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        quotient = np.where(D > 0.0, nu**2 / np.where(D > 0.0, D, 1.0), 0.0)
    kept = -(quotient * (1.0 + 8.0 * UNIT) + np.where(nu != 0.0, TINY, 0.0))
    square, linear = D * weight**2, 2.0 * nu * weight
    radius = 8.0 * UNIT * (square + np.abs(linear)) + TINY
    extra = np.nextafter(np.nextafter(square - linear - radius, -np.inf) - kept, -np.inf)
    return kept, extra

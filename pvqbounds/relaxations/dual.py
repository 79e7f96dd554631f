"""The dual certificate: 2n multipliers that prove a lower bound, for every value set and support rule.

**One formula.** Let (A, p, kappa) be a form below the error, E(v) >= dᵀAd - 2 pᵀd + kappa for every allowed
v, d = v - w (the error itself: A = G and no more). For all real lam, nu with S = A - diag(lam) positive
definite, split

    dᵀAd - 2 pᵀd = (dᵀSd - 2 nuᵀd) + sum_i phi_i(v_i),
    phi_i(v) = lam_i (v - w_i)² + 2 (nu_i - p_i)(v - w_i)

and minimise both parts on their own. With m_i = min over V_i of phi_i, and what it costs to be zero,

    E(v) >= kappa - nuᵀS⁻¹nu + sum_i m_i + least sum of (phi_i(0) - m_i) over the inputs that are zero:

under a support rule at least so many of each group are zero, and the cheapest of them count; without a
rule none has to be. Box-hull SDP, Park-Boyd, perspective relaxation (V = ℝ: D = lam > 0 and
m_i = -nu_i²/D_i; Frangioni and Gentile, Operations Research Letters 35, 2007; Zheng, Sun and Li, INFORMS
Journal on Computing 26, 2014) and joint compression are this one bound: its maximum over (lam, nu) is the
value of the relaxation in which each (v_i, v_i²) lies in the hull of its values.

It is evaluated here from the stored data with every rounding paid for:

- S is *defined* by its float64 diagonal; lam_i = A_ii - S_ii is then an exact pair of floats.
- For any y, with r = nu - S y and mu a proved lower bound on the least eigenvalue of S,
  ``-nuᵀS⁻¹nu >= yᵀSy - 2 nuᵀy - ||r||²/mu``; the forms are enclosed in double-double.
- The inner minima are the value set's own (:meth:`pvqbounds.problems.values.ValueSet.least_costs`).

If S cannot be proved positive definite, lam is lowered: any lam gives a true bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.definite import equilibration, proof_margin, proved_shift
from pvqbounds.arithmetic.enclosures import (
    TINY,
    UNIT,
    down,
    gamma,
    inner_product,
    quadratic_form,
    total,
    up,
)
from pvqbounds.problems.least_squares import Problem
from pvqbounds.problems.units import Units
from pvqbounds.problems.values import ValueSet
from pvqbounds.relaxations.certificates import (
    NOTHING,
    LeafCertificate,
    Proof,
    SeparableTerms,
    is_vector,
    multipliers_in_units,
    over_inputs,
)
from pvqbounds.relaxations.definite_rest import DefiniteRest, Nearest, kept_rest
from pvqbounds.relaxations.forms import ErrorForm
from pvqbounds.relaxations.minorant import error_minorant
from pvqbounds.relaxations.slabs import Slabs
from pvqbounds.relaxations.splits import NO_SPLITS, Splits

if TYPE_CHECKING:
    from pvqbounds.clock import Clock

__all__ = [
    "DualCertificate",
    "dual_bound",
    "dual_proof",
    "dual_terms",
    "nearest_multipliers",
    "steady_dual",
]

Array = NDArray[np.float64]
Kept = TypeVar("Kept")

STEADY = 2.0
"""Margins that a proof of definiteness leaves if any other order of sums is to succeed with one."""

REPEATED = 100.0
"""Share of the residual's part of a bound that a repetition may lose, whose proved shift may be less."""

LADDER = tuple(10.0**k for k in range(-14, 4))
"""Shares of what makes S diagonally dominant by which lam is lowered, one after the other."""

STEPS_BACK = (0.0, *(10.0**k for k in range(-14, 0)))
"""How far lam is shrunk where it must stay positive, one after the other."""

FINE_STEPS = tuple(1e-12 * 3.0**k for k in range(25))
"""The same, where lam is shrunk once and for all and not at every proof."""


@dataclass(frozen=True, eq=False)
class DualCertificate(LeafCertificate):
    """Multipliers of the dual: they prove a bound by themselves."""

    kind: ClassVar[str] = "dual"
    lam: Array
    """lambda, shape (n,), in units of the Gram; for weights that are re-fitted freely the diagonal D."""
    nu: Array
    """nu, shape (n,), in units of Gram times weight."""
    splits: Splits = NO_SPLITS
    """Split inequalities with their multipliers."""

    def fits(self, problem: Problem) -> bool:
        """Whether it holds finite multipliers about the inputs, and inequalities that hold for the codes."""
        n = problem.n
        if not (is_vector(self.lam, n) and is_vector(self.nu, n)):
            return False
        return splits_fit(self.splits, problem)

    @property
    def relaxation(self) -> str:
        """Name of the relaxation of codes that its bound is one of."""
        return "splits" if len(self.splits) > 0 else "box-hull"

    def in_units(self, units: Units) -> DualCertificate:
        """The same multipliers for the problem in these units."""
        return DualCertificate(*multipliers_in_units(self.lam, self.nu, units), self.splits.in_units(units))

    def spread(self, live: NDArray[np.bool_], values: ValueSet) -> DualCertificate:
        """The same about all inputs, of which it is now about those of a mask, shape (n,)."""
        lam, nu = over_inputs(self.lam, live), over_inputs(self.nu, live)
        return DualCertificate(lam, nu, self.splits.spread(live).recounted(values.among(live), values))

    def among(self, live: NDArray[np.bool_], values: ValueSet) -> DualCertificate:
        """The way back, of split inequalities about the inputs of the mask alone."""
        splits = self.splits.among(live).recounted(values, values.among(live))
        return DualCertificate(self.lam[live], self.nu[live], splits)

    def stated(self, problem: Problem) -> float:
        """The bound that it is made for: what the multipliers prove, which may be negative."""
        return dual_bound(problem, self)

    def claim(self, problem: Problem) -> tuple[DualCertificate, float]:
        """Multipliers that any machine can prove, and the bound to state from them."""
        steady, proof = steady_dual(problem, self)
        return steady, proof.claimed(problem.signal.upper)

    def prove(self, problem: Problem, clock: Clock) -> float:
        """What the multipliers prove."""
        return max(0.0, dual_bound(problem, self))

    def terms(self, problem: Problem, within: Slabs | None) -> SeparableTerms | None:
        """What the multipliers prove before any budget is spent; None where their arithmetic overflows."""
        return dual_terms(problem, self, within=within)

    def claimed_within(self, problem: Problem, within: Slabs) -> tuple[DualCertificate, float]:
        """Multipliers that any machine can prove there, and the bound to state from them."""
        steady, proof = steady_dual(problem, self, within)
        return steady, proof.claimed(problem.signal.upper)

    def proved_within(self, problem: Problem, within: Slabs, enough: float, clock: Clock) -> float:
        """What the multipliers prove there."""
        return dual_bound(problem, self, within)


def splits_fit(splits: object, problem: Problem) -> bool:
    """Whether these are split inequalities that hold for a problem's values: about neighbours that it has."""
    if not (isinstance(splits, Splits) and splits.fit(problem.n)):
        return False
    entry = splits.sign != 0
    return len(splits) == 0 or problem.values.has_cells(splits.index[entry], splits.cell[entry])


def dual_bound(problem: Problem, certificate: DualCertificate, within: Slabs | None = None) -> float:
    """The lower bound on E that the multipliers prove, rounded down; may be negative.

    Multipliers that are not finite or of the wrong size prove nothing: the result is -inf. Where their
    arithmetic overflows it is 0: E is a mean square.

    Parameters
    ----------
    within
        Slabs that the weights lie in, in units near 1; None for all weights.
    """
    return dual_proof(problem, certificate, within=within).value


def dual_proof(
    problem: Problem, certificate: DualCertificate, margins: float = 1.0, within: Slabs | None = None
) -> Proof:
    """What the multipliers prove with so many margins left, and how much of it any repetition proves."""
    if not certificate.fits(problem):
        return NOTHING
    units = problem.units
    if units != (0, 0):
        inner = dual_proof(problem.normalised, certificate.in_units(units), margins, within)
        return inner.in_units(units.inverse)
    return _spent(problem, dual_terms(problem, certificate, margins=margins, within=within))


def steady_dual(
    problem: Problem, certificate: DualCertificate, within: Slabs | None = None
) -> tuple[DualCertificate, Proof]:
    """The certificate, lam lowered where another order of sums could fail to prove it, and its proof."""
    if not certificate.fits(problem):
        return certificate, NOTHING
    units = problem.units
    if units != (0, 0):
        inner, proof = steady_dual(problem.normalised, certificate.in_units(units), within)
        steady = inner.in_units(units.inverse)
        if units.lose_digits:
            proof = dual_proof(problem.normalised, steady.in_units(units), STEADY, within)
        return steady, proof.in_units(units.inverse)
    terms = dual_terms(problem, certificate, margins=STEADY, within=within)
    if terms is None or not terms.lowered:
        return certificate, _spent(problem, terms)
    if problem.values.is_finite:
        steady = replace(certificate, lam=terms.lam, nu=terms.nu)
        return steady, _spent(problem, terms)
    for step in FINE_STEPS:
        steady = replace(certificate, lam=(1.0 - step) * certificate.lam, nu=(1.0 - step) * certificate.nu)
        found = dual_proof(problem, steady, STEADY, within)
        if not found.lowered:
            return steady, found
    return certificate, _spent(problem, terms)


def _spent(problem: Problem, terms: SeparableTerms | None) -> Proof:
    """The bound once the budgets are spent: of each group the cheapest ones are zero."""
    if terms is None:  # E is a mean square
        return Proof(0.0, 0.0, False)
    if not problem.is_restricted:
        return Proof(terms.constant, terms.blur, terms.lowered)
    parts = [terms.constant]
    for group, most in problem.budgets:
        parts += np.sort(terms.extra[group])[: len(group) - most].tolist()
    value = down(total(parts), 2)
    return Proof(value, terms.blur, terms.lowered) if math.isfinite(value) else Proof(0.0, 0.0, False)


def dual_terms(
    problem: Problem,
    certificate: DualCertificate,
    margins: float = 1.0,
    within: Slabs | None = None,
) -> SeparableTerms | None:
    """What the multipliers prove before any budget is spent; None where their arithmetic overflows.

    Parameters
    ----------
    problem
        In units near 1.
    certificate
        That fits it.
    margins
        How many times the margin of a proof S is to leave.
    within
        Slabs that the weights lie in; None for all weights.
    """
    live = problem.shared.live  # an input that is always zero adds nothing to E
    if not live.any():
        return SeparableTerms(0.0, np.zeros(problem.n), 0.0, False, certificate.lam, certificate.nu)
    with np.errstate(all="ignore"):  # whatever overflows proves nothing
        return _live_terms(problem, certificate, live, margins, within)


def _live_terms(
    problem: Problem,
    certificate: DualCertificate,
    live: NDArray[np.bool_],
    margins: float,
    within: Slabs | None,
) -> SeparableTerms | None:
    """The terms of the live inputs, proved in units that give G a diagonal near 1."""
    form = error_minorant(problem, certificate.splits.about(live), within).among(live)
    power = equilibration(np.diag(np.diagonal(problem.gram)[live]))
    form = form.in_units(power)
    lam, nu = np.ldexp(certificate.lam[live], -2 * power), np.ldexp(certificate.nu[live], -power)
    weight, values = np.ldexp(problem.weight[live], power), problem.values.among(live).times(power)

    def once(prove: Callable[[], Kept]) -> Kept:
        """Slabs and split inequalities have a matrix of their own, which no other channel has."""
        if within is not None or len(certificate.splits) > 0:
            return prove()
        asked = np.append(certificate.lam, [margins, float(values.is_finite)])
        return kept_rest(problem.shared, asked, prove)

    proved = _as_given if values.is_finite else _shrunk
    feasible = proved(form, lam, nu, margins, once)
    if feasible is None:
        return None
    definite, lam, nu = feasible
    rest = np.diagonal(form.matrix) - np.diagonal(definite.matrix)  # lambda, exact up to one rounding
    # nu - p is what is rounded to `linear`, so that the exact nu is `linear` and the exact p
    linear, radius = form.separable_linear(nu)
    quadratic, blur = minus_inverse_form(definite, nu, radius)
    least, zero = values.least_costs(weight, rest, linear), _zero_costs(weight, rest, linear)
    constant = down(down(down(total(least.tolist())) + quadratic) + form.constant)
    if not (np.isfinite(least).all() and np.isfinite(zero).all() and math.isfinite(constant)):
        return None
    extra, lams, nus = np.zeros(problem.n), certificate.lam.copy(), certificate.nu.copy()
    extra[live] = np.maximum(np.nextafter(zero - least, -np.inf), 0.0)
    lams[live], nus[live] = np.ldexp(lam, 2 * power), np.ldexp(nu, power)
    return SeparableTerms(constant, extra, blur, definite.lowered > 0.0, lams, nus)


def _zero_costs(weight: Array, lam: Array, nu: Array) -> Array:
    """Lower bounds on lam w² - 2 nu w, what v = 0 costs, for lam that may be off by one rounding."""
    square, linear = lam * weight**2, 2.0 * nu * weight
    radius = 8.0 * UNIT * (np.abs(square) + np.abs(linear)) + TINY
    return np.nextafter(square - linear - radius, -np.inf)


class Once(Protocol):
    """Does a proof, or knows what it gave for the channel before."""

    def __call__(self, prove: Callable[[], Kept]) -> Kept: ...


def _as_given(
    form: ErrorForm, lam: Array, nu: Array, margins: float, once: Once
) -> tuple[DefiniteRest, Array, Array] | None:
    """S, lam and nu as they are where that is proved, else as :func:`nearest_multipliers` finds some."""
    nearest = once(lambda: nearest_multipliers(form.matrix, lam, margins))
    return None if nearest is None else (nearest.definite, nearest.lam, nearest.moved(nu))


def _shrunk(
    form: ErrorForm, lam: Array, nu: Array, margins: float, once: Once
) -> tuple[DefiniteRest, Array, Array] | None:
    """The same, but lam is made smaller and not negative, nu p where it is 0.

    Weights that are re-fitted freely have no least cost at other multipliers.
    """
    definite = once(lambda: _definite_rest(form.matrix, np.maximum(lam, 0.0), margins))
    if definite is None:
        return None
    rest = np.diagonal(form.matrix) - np.diagonal(definite.matrix)
    return definite, rest, np.where(rest > 0.0, nu, form.linear)


def _definite_rest(gram: Array, lam: Array, margins: float) -> DefiniteRest | None:
    """G - (1 - t) diag(lam), with the least t for which it is proved definite."""
    for t in STEPS_BACK:
        diagonal = np.minimum(np.diagonal(gram), np.diagonal(gram) - (1.0 - t) * lam)
        if (found := _definite_at(gram, diagonal, margins, t)) is not None:
            return found
    return None


def _definite_at(gram: Array, diagonal: Array, margins: float, lowered: float) -> DefiniteRest | None:
    """A matrix with another diagonal, where it is finite and proved definite."""
    matrix = gram.copy()
    matrix[np.diag_indices(len(diagonal))] = diagonal
    if not np.isfinite(matrix).all():
        return None
    shift = proved_shift(matrix, margins)
    return None if shift is None else DefiniteRest(matrix, shift, lowered)


def nearest_multipliers(gram: Array, lam: Array, margins: float = 1.0) -> Nearest | None:
    """lam, or one a little lower, at which S = G - diag(lam) is proved positive definite.

    Parameters
    ----------
    gram
        Shape (n, n), with a diagonal near 1 (:func:`~pvqbounds.arithmetic.definite.equilibration`).
    lam
        Shape (n,).
    margins
        How many times the margin of a proof S is to leave.

    Returns
    -------
    S, with the share of `spread` by which lam was lowered, and lam; None where overflow leaves no such S. The
    diagonal of S is that of the Gram less lam, rounded once: whoever takes that lam finds the same S.
    """
    diagonal = np.diagonal(gram)
    whole = _definite_at(gram, diagonal - lam, margins, 0.0)
    if whole is not None:
        return Nearest(whole, lam, None)
    spread = np.abs(gram).sum(axis=1) + np.abs(lam)  # at most so much makes S diagonally dominant
    before = None
    if margins == 1.0:
        ladder = LADDER
    else:  # lam is lowered once and for all: as little as a margin takes, in finer steps
        least = proof_margin(len(lam)) * float((diagonal / spread).min())
        ladder = tuple(least * 2.0**k for k in range(80))
    for step in ladder:
        lowered = lam - step * spread
        rest = diagonal - lowered
        if not np.isfinite(rest).all():
            return None
        if before is None:
            before = gram.copy()
            before[np.diag_indices(len(lam))] = rest
        found = _definite_at(gram, rest, margins, step)
        if found is not None:
            return Nearest(found, lowered, before)
    return None


def minus_inverse_form(definite: DefiniteRest, nu: Array, radius: Array) -> tuple[float, float]:
    """Lower bound on -nuᵀ S⁻¹ nu for the exact S.

    It holds for all nu that lie within `radius` of the one given. And by how much another order of sums may
    lower it: y comes from a solve, whose residual counts over `smallest`, as a part that is zero where y is
    right.
    """
    matrix, y = definite.matrix, definite.solve(nu)
    form = quadratic_form(matrix, y).lower
    product = inner_product(nu, y).upper
    if radius.any():
        product = up(product + (1.0 + gamma(len(nu) + 3)) * float(radius @ np.abs(y)) + TINY)
    terms = np.abs(matrix) @ np.abs(y) + np.abs(nu)
    residual = np.abs(matrix @ y - nu) + gamma(len(nu) + 3) * terms + radius
    squares = up(float(residual @ residual) * (1.0 + gamma(len(nu) + 3)) + TINY, 2)
    loss = up(squares / definite.smallest)
    bound = down(form - 2.0 * product - loss, 3)
    if not math.isfinite(bound):
        return -math.inf, 0.0
    return bound, REPEATED * loss + 64.0 * UNIT * (abs(form) + 2.0 * abs(product))

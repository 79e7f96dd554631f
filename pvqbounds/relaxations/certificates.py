"""Certificates: the few numbers that prove a lower bound, whatever solver proposed them.

**The dual of the box-hull SDP in closed form.** For all real lam, nu with S = G - diag(lam)
positive definite and every allowed v = s z, d = v - w, split

    dᵀGd = (dᵀSd - 2 nuᵀd) + sum_i (lam_i d_i² + 2 nu_i d_i)

and minimise both parts on their own:

    E(v) >= -nuᵀS⁻¹nu + sum_i min over integer k in [qmin, qmax] of (lam_i d² + 2 nu_i d),  d = s k - w_i.

Its maximum over (lam, nu) is the box-hull SDP's value. It is evaluated here from the stored data
with every rounding paid for:

- S is *defined* by its float64 diagonal; lam_i = G_ii - S_ii is then an exact pair of floats.
- For any y, with r = nu - S y and mu a proved lower bound on the least eigenvalue of S,
  ``-nuᵀS⁻¹nu >= yᵀSy - 2 nuᵀy - ||r||²/mu``; the forms are enclosed in double-double.
- The inner minimum over codes is taken over a window whose ends are proved to be no better than
  its interior (convexity), else replaced by the minimum over all reals.

Split inequalities (:mod:`pvqbounds.relaxations.splits`), where a certificate has some, put a form
dᵀAd - 2 pᵀd + kappa in the place of dᵀGd: S = A - diag(lam), and nu - p in the separable part.

If S cannot be proved positive definite, lam is lowered: any lam gives a true bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

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
from pvqbounds.problems import IntegerLeastSquares
from pvqbounds.problems.units import Units, scaled_down, scaled_up
from pvqbounds.relaxations.splits import NO_SPLITS, ErrorForm, Splits, error_minorant

__all__ = [
    "BoxHullCertificate",
    "Certificate",
    "PerspectiveCertificate",
    "Proof",
    "SearchCertificate",
    "SubsetCertificate",
    "box_hull_bound",
    "box_hull_proof",
    "feasible_multipliers",
    "is_vector",
    "steady_box_hull",
]


@dataclass(frozen=True, eq=False)
class BoxHullCertificate:
    """Multipliers of the box-hull dual: they prove a bound for IntegerLeastSquares."""

    kind: ClassVar[str] = "box-hull dual"
    lam: NDArray[np.float64]
    """lambda, shape (n,), in units of the Gram."""
    nu: NDArray[np.float64]
    """nu, shape (n,), in units of Gram times weight."""
    splits: Splits = NO_SPLITS
    """Split inequalities with their multipliers."""

    @property
    def relaxation(self) -> str:
        """Name of the relaxation that its bound is one of."""
        return "splits" if len(self.splits) > 0 else "box-hull"

    def fit(self, n: int) -> bool:
        """Whether it holds finite multipliers about n inputs, and may be proved."""
        return is_vector(self.lam, n) and is_vector(self.nu, n) and _splits_fit(self.splits, n)

    def in_units(self, units: Units) -> BoxHullCertificate:
        """The same multipliers for the problem in these units."""
        return BoxHullCertificate(
            *_multipliers_in_units(self.lam, self.nu, units), self.splits.in_units(units)
        )


@dataclass(frozen=True, eq=False)
class SearchCertificate:
    """The search at these multipliers meets no codes with an error below `value`.

    Its proof is the search itself, repeated (:mod:`pvqbounds.solvers.native.quantization.integer_search`).
    """

    kind: ClassVar[str] = "integer search"
    lam: NDArray[np.float64]
    """lambda, shape (n,), in units of the Gram."""
    nu: NDArray[np.float64]
    """nu, shape (n,), in units of Gram times weight."""
    value: float
    """The proved bound."""
    nodes: int
    """Nodes that the search visited: what a proof will cost."""
    splits: Splits = NO_SPLITS
    """Split inequalities with their multipliers."""

    def fit(self, n: int) -> bool:
        """Whether it holds finite multipliers about n inputs and a claim, and may be proved."""
        multipliers = is_vector(self.lam, n) and is_vector(self.nu, n) and _splits_fit(self.splits, n)
        return multipliers and _is_number(self.value) and _is_number(self.nodes)

    def in_units(self, units: Units) -> SearchCertificate:
        """The same claim about the problem in these units."""
        value = scaled_down(self.value, -units.error)
        lam, nu = _multipliers_in_units(self.lam, self.nu, units)
        return SearchCertificate(lam, nu, value, self.nodes, self.splits.in_units(units))


@dataclass(frozen=True, eq=False)
class SubsetCertificate:
    """A search over supports meets none with an error below `value`."""

    kind: ClassVar[str] = "subset search"
    value: float
    nodes: int
    radius: float = math.inf
    """Largest ||v - w|| of the re-fits that are covered: a bound covers all of them, and this is infinite.

    Version 0.1.0 wrote files with finite radii; they prove nothing.
    """

    def fit(self, n: int) -> bool:
        """Whether it holds a claim, about re-fits of any size, and may be proved."""
        unlimited = isinstance(self.radius, float) and self.radius == math.inf
        return _is_number(self.value) and _is_number(self.nodes) and unlimited

    def in_units(self, units: Units) -> SubsetCertificate:
        """The same claim about the problem in these units."""
        return replace(self, value=scaled_down(self.value, -units.error))


@dataclass(frozen=True, eq=False)
class PerspectiveCertificate:
    """Diagonal and multipliers of the perspective dual: a bound for SparseLeastSquares."""

    kind: ClassVar[str] = "perspective dual"
    diagonal: NDArray[np.float64]
    """D, shape (n,), in units of the Gram."""
    nu: NDArray[np.float64]
    """nu, shape (n,), in units of Gram times weight."""

    def fit(self, n: int) -> bool:
        """Whether it holds finite multipliers about n inputs, and may be proved."""
        return is_vector(self.diagonal, n) and is_vector(self.nu, n)

    def in_units(self, units: Units) -> PerspectiveCertificate:
        """The same multipliers for the problem in these units."""
        return PerspectiveCertificate(*_multipliers_in_units(self.diagonal, self.nu, units))


Certificate = BoxHullCertificate | SearchCertificate | SubsetCertificate | PerspectiveCertificate


@np.errstate(over="ignore", under="ignore")  # multipliers that are not finite prove nothing
def _multipliers_in_units(
    diagonal: NDArray[np.float64], nu: NDArray[np.float64], units: Units
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.ldexp(diagonal, -units.gram), np.ldexp(nu, -units.gram - units.weight)


def is_vector(values: object, n: int) -> bool:
    """Whether these are n finite float64 numbers."""
    return (
        isinstance(values, np.ndarray)
        and values.dtype == np.float64
        and values.shape == (n,)
        and bool(np.isfinite(values).all())
    )


def _splits_fit(splits: object, n: int) -> bool:
    return isinstance(splits, Splits) and splits.fit(n)


def _is_number(value: object) -> bool:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole or (isinstance(value, float) and math.isfinite(value))


class Proof(NamedTuple):
    """What multipliers prove."""

    value: float
    """The lower bound on E, rounded down; it may be negative."""
    blur: float
    """How much less a repetition may prove that takes its sums in another order: on another machine,
    or with another number of threads."""
    lowered: bool
    """Whether it took other multipliers than the ones given: lam lowered, or D shrunk."""

    def in_units(self, units: Units) -> Proof:
        """The same about the problem in these units, rounded down."""
        return Proof(scaled_down(self.value, -units.error), scaled_up(self.blur, -units.error), self.lowered)


NOTHING = Proof(-math.inf, 0.0, False)
"""What multipliers prove that are not finite or not about the problem's inputs."""

STEADY = 2.0
"""Margins that a proof of definiteness leaves if any other order of sums is to succeed with one."""

REPEATED = 100.0
"""Share of the residual's part of a bound that a repetition may lose, whose proved shift may be less."""

LADDER = (0.0, *(10.0**k for k in range(-14, 4)))
"""Shares of what makes S diagonally dominant by which lam is lowered, one after the other."""


def feasible_multipliers(
    gram: NDArray[np.float64], lam: NDArray[np.float64], nu: NDArray[np.float64], margins: float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.float64], float, float] | None:
    """Multipliers near those given at which S = G - diag(lam) is proved positive definite.

    Where lam has to be lowered by e, nu moves so that y = S⁻¹nu stays: the bound then loses
    sum e_i (d_i - y_i)², the distance from the relaxed weights and not from w.

    Parameters
    ----------
    gram
        Shape (n, n), with a diagonal near 1 (:func:`~pvqbounds.arithmetic.definite.equilibration`).
    lam, nu
        Shape (n,).
    margins
        How many times the margin of a proof S is to leave.

    Returns
    -------
    The matrix S, shape (n, n), nu, shape (n,), a proved lower bound on the least eigenvalue of
    S, and the share of `spread` by which lam was lowered; None where overflow leaves no such S.
    """
    diagonal = np.diagonal(gram)
    spread = np.abs(gram).sum(axis=1) + np.abs(lam)  # at most so much makes S diagonally dominant
    matrix = gram.copy()
    target = None
    if margins == 1.0:
        ladder = LADDER
    else:  # lam is lowered once and for all: as little as a margin takes, in finer steps
        least = proof_margin(len(lam)) * float((diagonal / spread).min())
        ladder = (0.0, *(least * 2.0**k for k in range(80)))
    for step in ladder:
        matrix[np.diag_indices(len(lam))] = diagonal - lam + step * spread
        if not np.isfinite(matrix).all():
            return None
        if step > 0.0 and target is None:
            target = np.linalg.lstsq(matrix, nu, rcond=None)[0]
        shift = proved_shift(matrix, margins)
        if shift is not None:
            moved = nu if target is None else np.asarray(matrix @ target, dtype=np.float64)
            return matrix, moved if np.isfinite(moved).all() else nu, shift, step
    return None


def box_hull_bound(problem: IntegerLeastSquares, certificate: BoxHullCertificate) -> float:
    """The lower bound on E that the multipliers prove, rounded down; may be negative.

    Multipliers that are not finite or of the wrong size prove nothing: the result is -inf.
    """
    return box_hull_proof(problem, certificate).value


def box_hull_proof(problem: IntegerLeastSquares, certificate: BoxHullCertificate) -> Proof:
    """What the multipliers prove, and how much of it any repetition proves."""
    if problem.units != (0, 0) and certificate.fit(problem.n):
        inner = box_hull_proof(problem.normalised, certificate.in_units(problem.units))
        return inner.in_units(problem.units.inverse)
    return _proved(problem, certificate, 1.0)[1]


def steady_box_hull(
    problem: IntegerLeastSquares, certificate: BoxHullCertificate
) -> tuple[BoxHullCertificate, Proof]:
    """The certificate, lam lowered where another order of sums could fail to prove it, and its proof."""
    if problem.units != (0, 0) and certificate.fit(problem.n):
        inner, proof = steady_box_hull(problem.normalised, certificate.in_units(problem.units))
        return inner.in_units(problem.units.inverse), proof.in_units(problem.units.inverse)
    return _proved(problem, certificate, STEADY)


def _proved(
    problem: IntegerLeastSquares, certificate: BoxHullCertificate, margins: float
) -> tuple[BoxHullCertificate, Proof]:
    """The multipliers at which so many margins are left, and what they prove."""
    if not certificate.fit(problem.n):
        return certificate, NOTHING
    live = np.asarray(problem.gram.any(axis=1))  # an input that is always zero adds nothing to E
    if not live.any():
        return certificate, Proof(0.0, 0.0, False)
    with np.errstate(all="ignore"):  # whatever overflows ends as a bound of -inf
        return _proved_on_live(problem, certificate, live, margins)


def _equilibrated(
    problem: IntegerLeastSquares, certificate: BoxHullCertificate, live: NDArray[np.bool_]
) -> tuple[ErrorForm, NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """The form, the exponents of the units that give G a diagonal near 1, and lam and nu in them."""
    form = error_minorant(problem, certificate.splits.about(live)).among(live)
    power = equilibration(problem.gram[np.ix_(live, live)])
    lam, nu = np.ldexp(certificate.lam[live], -2 * power), np.ldexp(certificate.nu[live], -power)
    return form.in_units(power), power, lam, nu


def _proved_on_live(
    problem: IntegerLeastSquares, certificate: BoxHullCertificate, live: NDArray[np.bool_], margins: float
) -> tuple[BoxHullCertificate, Proof]:
    form, power, lam, nu = _equilibrated(problem, certificate, live)
    weight, values = np.ldexp(problem.weight[live], power), problem.steps.among(live).times(power)
    feasible = feasible_multipliers(form.matrix, lam, nu, margins)
    if feasible is None:
        return certificate, NOTHING
    matrix, nu, smallest, lowered = feasible
    quadratic, blur = minus_inverse_form(matrix, nu, smallest)
    rest = np.diagonal(form.matrix) - np.diagonal(matrix)  # lambda, exact up to one rounding
    linear, radius = form.separable_linear(nu)
    separable = values.least_costs(weight, rest, linear)
    if radius.any():
        room = 2.0 * (1.0 + 16.0 * UNIT) * radius * values.reach(weight)
        separable = np.nextafter(separable - room, -np.inf)
    if not (np.isfinite(separable).all() and math.isfinite(quadratic + form.constant)):
        return certificate, NOTHING
    value = down(down(down(total(separable.tolist())) + quadratic) + form.constant)
    if not math.isfinite(value):
        return certificate, NOTHING
    if lowered > 0.0:
        lams, nus = certificate.lam.copy(), certificate.nu.copy()
        lams[live], nus[live] = np.ldexp(rest, 2 * power), np.ldexp(nu, power)
        certificate = replace(certificate, lam=lams, nu=nus)
    return certificate, Proof(value, blur, lowered > 0.0)


def minus_inverse_form(
    matrix: NDArray[np.float64], nu: NDArray[np.float64], smallest: float
) -> tuple[float, float]:
    """Lower bound on -nuᵀ S⁻¹ nu for the exact S = `matrix` with least eigenvalue >= `smallest`.

    And by how much another order of sums may lower it: y comes from a solve, whose residual counts
    over `smallest`, as a part that is zero where y is right.
    """
    y = np.asarray(np.linalg.solve(matrix, nu), dtype=np.float64)
    form = quadratic_form(matrix, y).lower
    product = inner_product(nu, y).upper
    terms = np.abs(matrix) @ np.abs(y) + np.abs(nu)
    residual = np.abs(matrix @ y - nu) + gamma(len(nu) + 3) * terms
    squares = up(float(residual @ residual) * (1.0 + gamma(len(nu) + 3)) + TINY, 2)
    loss = up(squares / smallest)
    bound = down(form - 2.0 * product - loss, 3)
    if not math.isfinite(bound):
        return -math.inf, 0.0
    return bound, REPEATED * loss + 64.0 * UNIT * (abs(form) + 2.0 * abs(product))

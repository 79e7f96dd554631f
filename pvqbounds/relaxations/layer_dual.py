"""One budget of non-zeros over the channels of a layer: what their multipliers prove together.

Each channel c has E_c(v) >= constant_c + sum of extra_ci over its inputs that are zero
(:func:`pvqbounds.relaxations.dual.dual_terms`), with no extra below 0, and at least (weights in all) - nnz
inputs are: the sum of the constants and of so many least extras over the whole layer is a bound,
whatever the multipliers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pvqbounds.arithmetic.enclosures import down, total
from pvqbounds.problems.least_squares import Problem, common_units
from pvqbounds.relaxations.certificates import Proof
from pvqbounds.relaxations.dual import DualCertificate, Proofs, SeparableTerms, dual_terms

__all__ = ["layer_dual_bound", "layer_dual_proof"]


def layer_dual_bound(problems: Sequence[Problem], certificates: Sequence[DualCertificate], nnz: int) -> float:
    """The lower bound on the summed error of channels that keep `nnz` weights together.

    Parameters
    ----------
    problems
        The channels; their own budgets play no part.
    certificates
        Multipliers of each channel.
    nnz
        Non-zeros allowed to all channels together.

    Returns
    -------
    The bound, rounded down; never negative, as E is a mean square.
    """
    return layer_dual_proof(problems, certificates, nnz).value


def layer_dual_proof(problems: Sequence[Problem], certificates: Sequence[DualCertificate], nnz: int) -> Proof:
    """What the certificates of all channels prove together: see :func:`layer_dual_bound`."""
    units = common_units(problems)
    proofs: Proofs = {}
    terms = []
    for problem, certificate in zip(problems, certificates, strict=True):
        inner, found = problem.in_units(units), None
        if certificate.fits(problem):
            found = dual_terms(inner, certificate.in_units(units), proofs)
        # a channel whose numbers prove nothing counts with E >= 0, and so do all of its inputs
        nothing = np.zeros(problem.n)
        terms.append(found or SeparableTerms(0.0, nothing, 0.0, False, nothing, nothing))
    extra = np.concatenate([own.extra for own in terms])
    removed = max(0, len(extra) - nnz)
    parts = [own.constant for own in terms] + np.partition(extra, removed - 1)[:removed].tolist()
    value = down(total(parts), 2)
    if not value > 0.0:  # nan as well
        return Proof(0.0, 0.0, False)
    proof = Proof(value, math.fsum(own.blur for own in terms), any(own.lowered for own in terms))
    return proof.in_units(units.inverse)

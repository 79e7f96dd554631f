"""The perspective relaxation of a pruning by solvers that give a point and no multipliers of ours.

With the diagonal D of the best perspective relaxation the perspective form, k continuous, has the
value of that relaxation. Its multipliers can be read off its weights: at the optimum v the split

    uᵀGu = (uᵀHu - 2 nuᵀu) + sum_i (D_i u_i² + 2 nu_i u_i),   u = v - w, H = G - diag(D),

is stationary in u, so that nu = H u. An error in v moves nu within the range of H and costs the
bound only its square.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.problems import SparseLeastSquares
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.relaxations.miqp import MIQP
from pvqbounds.solvers.base import ExactSolution
from pvqbounds.solvers.miqp.coded import NATIVE_SHARE
from pvqbounds.solvers.miqp.presolve import PresolvedPruning, presolve_pruning
from pvqbounds.solvers.miqp.programs import MIQPSolution, usable
from pvqbounds.solvers.miqp.pruning import tight_perspective_program

__all__ = ["NO_BOUND", "certificate_of_point", "no_relaxation", "relax_by_its_point"]

NO_BOUND = "the relaxation gives no bound"
"""Status where there is nothing to solve: a singular Gram, or a budget that removes nothing."""


def relax_by_its_point(
    problem: SparseLeastSquares, solve: Callable[[MIQP], MIQPSolution], clock: Clock
) -> ExactSolution:
    """Solve the perspective form with k continuous, and prove what its weights are worth."""
    presolved = presolve_pruning(problem, clock.part(NATIVE_SHARE))
    if not presolved.relaxed.lam.any():
        return no_relaxation(presolved)
    program = tight_perspective_program(presolved)
    x, bound, status = usable(solve(replace(program, integer=np.zeros_like(program.integer))))
    if x is None:
        return ExactSolution(None, None, None, None, status)
    stated = None if bound is None else bound * presolved.unit
    return ExactSolution(
        None, presolved.support, stated, certificate_of_point(presolved, x[: problem.n]), status
    )


def no_relaxation(presolved: PresolvedPruning) -> ExactSolution:
    """What a relaxation says where it gives no bound."""
    nothing = np.zeros(presolved.problem.n)
    return ExactSolution(None, presolved.support, None, DualCertificate(nothing, nothing), NO_BOUND)


def certificate_of_point(presolved: PresolvedPruning, v: NDArray[np.float64]) -> DualCertificate:
    """(D, nu) in units of the original problem, from the relaxation's weights v in those of size one."""
    D, u = presolved.relaxed.lam, v - presolved.problem.weight
    return presolved.certificate(D, presolved.problem.gram @ u - D * u)

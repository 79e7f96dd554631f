"""Values with codes as integer programs, with the multipliers and the start that native engines give."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.definite import equilibration
from pvqbounds.clock import Clock
from pvqbounds.errors import InputError
from pvqbounds.problems import IntegerLeastSquares, LeastSquares, SparseLeastSquares
from pvqbounds.problems.least_squares import moved
from pvqbounds.relaxations.miqp import (
    MIQP,
    integer_program,
    joint_perspective_program,
    joint_program,
    one_hot_program,
)
from pvqbounds.solvers.base import Options, error_unit, remaining
from pvqbounds.solvers.native.quantization.certificate import CodeCertificate

__all__ = ["NATIVE_SHARE", "CodedProgram", "program_of_codes", "program_of_steps"]

NATIVE_SHARE = 0.5
"""Share of the time left that the native relaxation may take before an integer program begins."""

LARGEST_BOX = 2.0**16
"""Codes of an input up to which a square of them is posed: solvers take coefficients of 1e-13 for zero."""

LARGEST_NEGATIVE = 100.0
"""A lam, over the diagonal of the Gram, that is more negative drowns the error in terms that cancel."""


@dataclass(frozen=True, eq=False)
class CodedProgram:
    """A program, and what stands beside its solution."""

    program: MIQP
    unit: float
    """Unit of its objective, in that of the problem's error."""
    codes: NDArray[np.int64]
    """Good codes, which it begins with."""
    certificate: CodeCertificate
    """The native relaxation's, in the units of the problem."""


def program_of_steps(problem: IntegerLeastSquares, clock: Clock, seed: int) -> CodedProgram:
    """Quantization on uniform steps: the box-hull relaxation comes first, and its codes are the start."""
    from pvqbounds.solvers.native.quantization.codes_dual import relax_steps
    from pvqbounds.solvers.native.quantization.integer_codes import best_known_codes

    relaxed = relax_steps(problem, clock.part(NATIVE_SHARE))
    codes = best_known_codes(problem, relaxed, seed, clock.part(NATIVE_SHARE))
    program = replace(integer_program(problem), start=codes.astype(np.float64))
    return _posed(problem, program, codes, relaxed.certificate)


def program_of_codes(problem: LeastSquares, formulation: str, options: Options, clock: Clock) -> CodedProgram:
    """Levels, and steps or levels under a rule, after the native relaxation.

    Parameters
    ----------
    formulation
        That of steps under a rule: "perspective" or "big-M".
    """
    from pvqbounds.solvers.native.quantization.level_solver import relaxed_codes

    native = remaining(options, clock.part(NATIVE_SHARE))
    found = relaxed_codes(problem, replace(native, relaxation="box-hull", tolerance=None, extra={}))
    codes, certificate = found.codes, found.certificate
    if problem.values.lattice is None:
        program = _levels(problem, codes, certificate.lam)
    elif problem.is_restricted:
        program = _joint(problem, codes, formulation, clock)
    else:
        program = replace(integer_program(problem), start=codes.astype(np.float64))
    return _posed(problem, program, codes, certificate)


def _joint(problem: LeastSquares, codes: NDArray[np.int64], formulation: str, clock: Clock) -> MIQP:
    """Steps under a rule, by default in the perspective form unless codes are huge."""
    error = problem.error(codes).upper
    program = joint_program(problem, error)
    if formulation == "perspective" and program.upper.max() - program.lower.min() <= LARGEST_BOX:
        diagonal = _pruning_diagonal(problem, clock)
        program = program if diagonal is None else joint_perspective_program(problem, diagonal, error)
    z = codes.astype(np.float64)
    start = [z, (codes != 0).astype(np.float64), (z[: len(program.sizes)] / program.sizes) ** 2]
    return replace(program, start=np.concatenate(start))


def _pruning_diagonal(problem: LeastSquares, clock: Clock) -> NDArray[np.float64] | None:
    """D that serves pruning by the same rule best, shape (n,); None if G is singular or time is short."""
    from pvqbounds.solvers.native.pruning.perspective_dual import central_path, normal_form, path_fits

    free = SparseLeastSquares(problem.shared, problem.weight, nnz=problem.n)
    form = normal_form(moved(free, rule=problem.rule))
    clock = clock.part(NATIVE_SHARE)
    if form is None or not path_fits(problem.n, clock):
        return None
    return form.certificate(*central_path(form, clock=clock)).lam


def _levels(problem: LeastSquares, codes: NDArray[np.int64], lam: NDArray[np.float64]) -> MIQP:
    """The one-hot form, all inputs of one size, with these multipliers unless they are zero."""
    weight = problem.weight_of(codes)
    power = equilibration(problem.gram)
    sizes = np.ldexp(np.maximum(np.abs(problem.weight), np.abs(weight)), power)
    power = power - math.frexp(float(np.sqrt(np.mean(sizes**2))))[1]
    program = _with_multipliers(problem, lam, power)
    assert program.indicators is not None
    chosen = program.indicators.of(codes).astype(np.float64)
    return replace(program, start=np.concatenate([np.ldexp(weight, power), chosen]))


def _with_multipliers(problem: LeastSquares, lam: NDArray[np.float64], power: NDArray[np.int64]) -> MIQP:
    """The one-hot form with these multipliers, or its own where they are none or too large."""
    cut = np.maximum(lam, -LARGEST_NEGATIVE * np.diagonal(problem.gram))
    if cut.any():
        try:
            return one_hot_program(problem, cut, power)
        except InputError:  # by rounding, or because others are as large as these are negative
            pass
    return one_hot_program(problem, power=power)


def _posed(
    problem: LeastSquares, program: MIQP, codes: NDArray[np.int64], certificate: CodeCertificate
) -> CodedProgram:
    """The program in a unit in which what solvers are right to within is near 1."""
    wanted = error_unit(problem.error(codes).upper, problem.signal.upper)
    unit = 2.0 ** math.frexp(wanted)[1] if wanted > 0.0 else 1.0
    return CodedProgram(program.over(unit), unit, codes, certificate)

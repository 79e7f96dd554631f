"""One program for each problem, in the problem's own units and without a relaxation's multipliers.

It is what other solvers are given in files. Its unknowns have names that say what they are: ``z1`` codes,
``v1`` weights, ``u1`` changes v - w, ``k1`` whether an input is kept, ``b1_3`` whether it has its third
value.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pvqbounds.errors import InputError
from pvqbounds.problems import IntegerLeastSquares, LeastSquares, Problem, SparseLeastSquares
from pvqbounds.relaxations.miqp.coded import integer_program, joint_program, one_hot_program
from pvqbounds.relaxations.miqp.program import MIQP
from pvqbounds.relaxations.miqp.pruning import big_m_program

__all__ = ["plain_program", "unknowns_of"]


def plain_program(problem: Problem) -> MIQP:
    """Codes of steps, keeps with a proved big M under a rule, an indicator for each level.

    The objective of a quadratic program z'Pz + 2q'z is that itself; of all others the error.

    Raises
    ------
    InputError
        If a pruning's Gram is singular, so that it has no big M, or numbers leave the range of float64.
    """
    with np.errstate(all="ignore"):  # what overflows is refused
        program = _program(problem)
    numbers = (program.Q, program.q, program.A.data, program.b, np.array(program.constant))
    if not all(np.isfinite(array).all() for array in numbers):
        raise InputError("Numbers of the integer program leave the range of float64; rescale the inputs.")
    return program


def _program(problem: Problem) -> MIQP:
    if isinstance(problem, SparseLeastSquares):
        return big_m_program(problem)
    assert isinstance(problem, LeastSquares)
    if problem.values.lattice is None:
        return one_hot_program(problem, np.zeros(problem.n))
    if problem.is_restricted:
        return joint_program(problem)
    if isinstance(problem, IntegerLeastSquares) and problem.quadratic is not None:
        return _quadratic(problem)
    return integer_program(problem)


def _quadratic(problem: IntegerLeastSquares) -> MIQP:
    """The program that the problem was made from, its numbers as they were given; P may be indefinite."""
    assert problem.quadratic is not None
    given = problem.quadratic
    return replace(integer_program(problem), Q=given.matrix, q=2.0 * given.linear, constant=0.0)


def unknowns_of(program: MIQP) -> list[str]:
    """A name for each unknown, counted from 1."""
    n = program.n
    numbers = range(1, n + 1)
    if program.indicators is not None:
        inputs, first = program.indicators.inputs, program.indicators.ends
        place = np.arange(len(inputs)) - first[inputs]
        levels = [f"b{i + 1}_{k + 1}" for i, k in zip(inputs.tolist(), place.tolist(), strict=True)]
        return [*(f"v{i}" for i in numbers), *levels]
    own = "z" if program.integer[:n].all() else "u"
    kept = [f"k{i}" for i in numbers] if program.kind == "big-M" else []
    return [*(f"{own}{i}" for i in numbers), *kept]

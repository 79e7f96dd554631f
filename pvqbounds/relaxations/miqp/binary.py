"""Problems as quadratic programs over bits without constraints (QUBO).

v_i = a_i + sum_k c_ik y_ik, y in {0, 1}: an input of two values has one bit, codes of a step in a box of r
+ 1 have the bits 1, 2, 4, ... and what is left of r, so that every choice of bits is a code of the box and
no penalty is needed. Since y² = y the linear part stands on the diagonal: E = yᵀQy + constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError
from pvqbounds.problems import Problem
from pvqbounds.relaxations.miqp.plain import plain_program

__all__ = ["BinaryProgram", "binary_program"]


@dataclass(frozen=True, eq=False)
class BinaryProgram:
    """minimise yᵀQy + constant over y in {0, 1}ᵐ."""

    Q: NDArray[np.float64]
    """Symmetric, shape (m, m); it may be indefinite."""
    constant: float
    low: NDArray[np.int64]
    """Code of each input where all its bits are 0, shape (n,)."""
    inputs: NDArray[np.int64]
    """The input that each bit belongs to, shape (m,)."""
    codes_a_bit: NDArray[np.int64]
    """By how many codes it raises that of its input, shape (m,)."""

    @property
    def names(self) -> list[str]:
        """``y1`` where an input has one bit, else ``y1_1``, ``y1_2``, ...; a name for each bit."""
        counts = np.bincount(self.inputs, minlength=len(self.low))
        place = np.arange(len(self.inputs)) - (np.cumsum(counts) - counts)[self.inputs]
        pairs = zip(self.inputs.tolist(), place.tolist(), strict=True)
        return [f"y{i + 1}" if counts[i] == 1 else f"y{i + 1}_{k + 1}" for i, k in pairs]

    def codes(self, bits: NDArray[np.int64]) -> NDArray[np.int64]:
        """The codes that bits say, shape (n,)."""
        codes = self.low.copy()
        np.add.at(codes, self.inputs, self.codes_a_bit * bits)
        return codes

    def bits(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bits that say these codes, shape (m,)."""
        left, bits = codes - self.low, np.zeros(len(self.inputs), dtype=np.int64)
        for place in range(len(bits))[::-1]:  # the largest first; what is left fits the smaller ones
            i = self.inputs[place]
            if left[i] >= self.codes_a_bit[place]:
                bits[place], left[i] = 1, left[i] - self.codes_a_bit[place]
        return bits


def binary_program(problem: Problem) -> BinaryProgram:
    """The problem over bits; of a quadratic program z'Pz + 2q'z, that objective.

    Raises
    ------
    InputError
        If it has a support rule, a free scale, real values, or an input of more than two levels that are no
        steps.
    """
    if problem.settled is not problem:
        raise InputError("A QUBO holds values, and steps of any scale have none; fix the scale.")
    if problem.is_restricted or not problem.values.is_finite:
        raise InputError("A QUBO has no constraints, as a support rule is one; write it as mps or lp.")
    low, high = problem.values.code_ends
    if problem.values.lattice is None and (high - low).max() > 1:
        raise InputError(
            "A QUBO holds steps, or two levels an input, not more of them; write the problem as mps or lp."
        )
    if problem.values.lattice is None:
        first, span = problem.values.lowest, problem.values.highest - problem.values.lowest
        form, pull = problem.gram, problem.gram @ problem.weight
        linear, constant = -2.0 * pull, float(problem.weight @ pull)
    else:
        program = plain_program(problem)
        first, span = low.astype(np.float64), np.ones(problem.n)
        form, linear, constant = program.Q, program.q, program.constant
    inputs, weights = _bits(high - low)
    factor = span[inputs] * weights
    image = form @ first
    Q = form[np.ix_(inputs, inputs)] * np.outer(factor, factor)
    Q[np.diag_indices(len(inputs))] += factor * (2.0 * image + linear)[inputs]
    return BinaryProgram(Q, constant + float(first @ image + linear @ first), low, inputs, weights)


def _bits(ranges: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Input and number of codes of each bit, for inputs whose codes rise by so many."""
    inputs: list[int] = []
    weights: list[int] = []
    for i, left in enumerate(ranges.tolist()):
        weight = 1
        while left > 0:
            inputs.append(i)
            weights.append(min(weight, left))
            left, weight = left - weights[-1], 2 * weight
    return np.array(inputs, dtype=np.int64), np.array(weights, dtype=np.int64)

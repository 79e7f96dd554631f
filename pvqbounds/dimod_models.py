"""Models of dimod in and out, and our exact search as a sampler for them (extra ``dimod``).

    from pvqbounds.dimod_models import PvqSampler
    best = PvqSampler().sample(model, time_limit=10.0)
    best.first.energy, best.info["energy_lower"]          # no sample has less energy: certified

The coefficients of a model are taken as the float64 numbers that they are. What their sums lose where spins
are turned into bits is taken off the lower end, in rational arithmetic.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Unpack

import dimod
import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.enclosures import Enclosure
from pvqbounds.arithmetic.rational import enclosed
from pvqbounds.errors import InputError, did_you_mean, shown
from pvqbounds.problems import IntegerLeastSquares, Problem
from pvqbounds.problems.least_squares import checked_problem
from pvqbounds.relaxations.miqp.binary import binary_program
from pvqbounds.results.bounds import Bounds
from pvqbounds.solving.one import solve
from pvqbounds.solving.options import SolveKeywords, SolveOptions

__all__ = ["ModelProblem", "PvqSampler", "model_of", "problem_of"]


@dataclass(frozen=True, eq=False)
class ModelProblem:
    """A model as a problem over bits: energy = objective + offset, up to `doubt`."""

    problem: IntegerLeastSquares
    """Its ``quadratic`` is the objective; its codes are the bits."""
    variables: tuple[Hashable, ...]
    """The model's, in the order of the bits."""
    offset: Fraction
    doubt: Fraction
    """The most by which rounded coefficients may change an energy; 0 where none was rounded."""

    def energies(self, bounds: Bounds) -> Enclosure:
        """An interval that holds the least energy, from the bounds of a solve of the problem.

        Its lower end is certified or reported as ``bounds.lower_kind`` says.
        """
        assert self.problem.quadratic is not None
        ends = self.problem.quadratic.objective_bounds(bounds)
        lower, upper = (Fraction(end) + self.offset for end in (ends.lower, ends.upper))
        return enclosed(lower - self.doubt, upper + self.doubt)


def problem_of(model: dimod.BinaryQuadraticModel) -> ModelProblem:
    """A binary quadratic model, of bits or of spins, as a problem.

    Raises
    ------
    InputError
        If it is no such model, has no variable, or a coefficient is not finite.
    """
    if not _checked(model).num_variables:
        raise InputError("The model has no variable; there is nothing to solve.")
    variables = tuple(model.variables)
    linear, pairs, offset = _over_bits(model, {variable: i for i, variable in enumerate(variables)})
    n = len(variables)
    P, q = np.zeros((n, n)), np.array([_rounded(value / 2) for value in linear])
    for (i, j), value in pairs.items():
        P[i, j] = P[j, i] = _rounded(value / 2)
    doubt = sum(
        (abs(2 * Fraction(own) - value) for own, value in zip(q.tolist(), linear, strict=True)), Fraction(0)
    )
    doubt += sum((abs(2 * Fraction(P[pair]) - value) for pair, value in pairs.items()), Fraction(0))
    return ModelProblem(IntegerLeastSquares.from_quadratic(P, q, 0, 1), variables, offset, doubt)


def _checked(model: dimod.BinaryQuadraticModel) -> dimod.BinaryQuadraticModel:
    """The model, whose coefficients are finite float64 numbers."""
    if not isinstance(model, dimod.BinaryQuadraticModel):
        raise InputError(f"The model must be a dimod.BinaryQuadraticModel, not {shown(model)}.")
    try:
        numbers = np.array(
            [float(value) for value in (*model.linear.values(), *model.quadratic.values(), model.offset)]
        )
    except (OverflowError, TypeError, ValueError) as error:
        raise InputError(f"The coefficients of a model must be real numbers of float64 ({error}).") from error
    if not np.isfinite(numbers).all():
        raise InputError("The coefficients of a model must be finite.")
    return model


def _rounded(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise InputError(
            "A coefficient leaves the range of float64 where spins are turned into bits; rescale the model."
        ) from error


def _over_bits(
    model: dimod.BinaryQuadraticModel, place: dict[Hashable, int]
) -> tuple[list[Fraction], dict[tuple[int, int], Fraction], Fraction]:
    """Linear coefficients, those of pairs and the constant over bits x, exactly; spins are 2x - 1."""
    spins = model.vartype is dimod.SPIN
    linear = [Fraction(0)] * len(place)
    pairs: dict[tuple[int, int], Fraction] = {}
    offset = Fraction(float(model.offset))
    for variable, bias in model.linear.items():
        value = Fraction(float(bias))
        linear[place[variable]] += 2 * value if spins else value
        offset -= value if spins else 0
    for (first, second), bias in model.quadratic.items():
        value, pair = Fraction(float(bias)), (place[first], place[second])
        pairs[pair] = 4 * value if spins else value
        if spins:
            for i in pair:
                linear[i] -= 2 * value
            offset += value
    return linear, pairs, offset


def model_of(problem: Problem) -> dimod.BinaryQuadraticModel:
    """A problem as a model over bits whose energy is the error, or the value of a quadratic program.

    Its variables are called ``y1`` where input 1 has two values, ``y1_1``, ``y1_2``, ... where codes have
    several bits; :func:`pvqbounds.relaxations.miqp.binary.binary_program` says which code they stand for.

    Raises
    ------
    InputError
        If it has a support rule, re-fitted weights, or an input of more than two levels that are no steps.
    """
    program = binary_program(checked_problem(problem))
    names = program.names
    rows, columns = np.nonzero(np.triu(program.Q, 1))
    linear = dict(zip(names, np.diagonal(program.Q).tolist(), strict=True))
    values = (2.0 * program.Q[rows, columns]).tolist()
    pairs = {
        (names[i], names[j]): value
        for i, j, value in zip(rows.tolist(), columns.tolist(), values, strict=True)
    }
    return dimod.BinaryQuadraticModel(linear, pairs, program.constant, dimod.BINARY)


class PvqSampler(dimod.Sampler):  # type: ignore[misc]  # it has no types
    """The exact search as a sampler: one sample, the best one found, and what is proved of it.

    ``sample`` takes the options of :func:`pvqbounds.solve`: method, time_limit, solver, threads, seed, ...
    The ``info`` of what it returns has

    energy_lower, energy_upper
        The interval that holds the least energy; the upper end is the sample's energy, rounded up.
    lower_kind
        "certified": proved; "reported": stated by a solver.
    status
        "optimal" where the ends agree to the tolerance of :func:`pvqbounds.solve`, else "bounded".
    solver, method, seconds, note
        As of :class:`~pvqbounds.results.bounds.Bounds`.
    """

    @property
    def parameters(self) -> dict[str, list[str]]:
        """Names of the options that ``sample`` takes."""
        return {name: [] for name in ("method", "solver", *SolveKeywords.__annotations__)}

    @property
    def properties(self) -> dict[str, Any]:
        """None."""
        return {}

    def sample(
        self,
        bqm: dimod.BinaryQuadraticModel,
        method: str = "auto",
        solver: str = "auto",
        **options: Unpack[SolveKeywords],
    ) -> dimod.SampleSet:
        """The sample of least energy that is found.

        Raises
        ------
        InputError
            If an option is none of :func:`pvqbounds.solve`, or a coefficient is not finite.
        """
        for name in options:
            if name not in self.parameters:
                known = f"{did_you_mean(name, self.parameters)} {', '.join(self.parameters)}"
                raise InputError(f"There is no option '{name}' of the sampler; {known}.")
        SolveOptions(solver, method, **options)  # wrong values are refused for a model of no variable, too
        if not _checked(bqm).num_variables:
            only = float(bqm.offset)
            info = {
                "energy_lower": only,
                "energy_upper": only,
                "lower_kind": "certified",
                "status": "optimal",
                "solver": "none",
                "method": method,
                "seconds": 0.0,
                "note": "The model has no variable.",
            }
            return dimod.SampleSet.from_samples_bqm({}, bqm, info=info)
        asked = problem_of(bqm)
        bounds = solve(asked.problem, solver, method, **options)
        assert bounds.codes is not None
        sample = dict(zip(asked.variables, _states(bounds.codes, bqm.vartype), strict=True))
        return dimod.SampleSet.from_samples_bqm(sample, bqm, info=_info(bounds, asked.energies(bounds)))


def _states(bits: NDArray[np.int64], vartype: Any) -> list[int]:
    states: list[int] = (2 * bits - 1 if vartype is dimod.SPIN else bits).tolist()
    return states


def _info(bounds: Bounds, energies: Enclosure) -> dict[str, Any]:
    return {
        "energy_lower": energies.lower,
        "energy_upper": energies.upper,
        "lower_kind": bounds.lower_kind,
        "status": "optimal" if energies.lower == energies.upper else bounds.status,
        "solver": bounds.solver,
        "method": bounds.method,
        "seconds": bounds.seconds,
        "note": bounds.note,
    }

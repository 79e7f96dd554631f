"""What a method is: a name, a citation, and proposals that nobody has to believe.

A method says which problems it is for: by their task, and by their class where it needs more of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.heuristics.nearest_plane import among_kept
from pvqbounds.problems import IntegerLeastSquares, LeastSquares, Problem, SparseLeastSquares, Task
from pvqbounds.problems.gram import Gram
from pvqbounds.problems.supports import largest_kept

__all__ = [
    "CodingMethod",
    "Method",
    "PruningMethod",
    "QuantizationMethod",
    "RoundingMethod",
    "alike",
    "steps_apart",
]

P = TypeVar("P", bound=Problem)


class Method(ABC, Generic[P]):
    """One method. Derive from :class:`QuantizationMethod`, :class:`CodingMethod` or :class:`PruningMethod`.

    It proves nothing: whoever asks evaluates the error of what it proposes. The fields of one that is a
    frozen dataclass are its options, as in ``gptq:damp=0.02:act-order`` (:mod:`pvqbounds.methods.options`).
    """

    name: ClassVar[str]
    """By which it is found, and which results call it by: lower case, digits and ``+-._``."""
    label: ClassVar[str]
    """Its row in a table."""
    citation: ClassVar[str]
    """Where it comes from, in a line."""
    tasks: ClassVar[tuple[Task, ...]]
    """Tasks that it proposes for."""
    problems: ClassVar[type[Problem] | tuple[type[Problem], ...]]
    """Class of the problems that it proposes for, or several."""
    listed_up_to: ClassVar[float] = 0.0
    """Inputs up to which a layer lists it without being asked; 0 where it has to be named."""
    on_singular: ClassVar[str] = ""
    """What it does where it needs an inverse and the Gram has none, said after its label in a note."""

    @abstractmethod
    def propose(self, problems: Sequence[P], seed: int = 0) -> list[NDArray[Any]]:
        """A proposal for each problem of a layer, shape (n,) each.

        Parameters
        ----------
        problems
            Those of one Gram hold the same :class:`~pvqbounds.Gram`, so that what depends on it is made
            once (:func:`alike`).
        seed
            Of all that is random.
        """

    def proposes_for(self, problem: Problem) -> bool:
        """Whether a problem is one that it is for."""
        return problem.task in self.tasks and isinstance(problem, self.problems)


class CodingMethod(Method[LeastSquares]):
    """A method that proposes codes of any finite value set; under a support rule if its tasks say so."""

    tasks: ClassVar[tuple[Task, ...]] = ("quantization",)
    problems: ClassVar[type[Problem]] = LeastSquares

    def proposes_for(self, problem: Problem) -> bool:
        """Whether a problem is one that it is for: what does with few non-zeros does where all may be."""
        tasks = (*self.tasks, "quantization") if "joint" in self.tasks else self.tasks
        return problem.task in tasks and isinstance(problem, self.problems)


class RoundingMethod(CodingMethod):
    """A method that rounds; under a support rule what magnitude keeps, around its re-fit."""

    tasks: ClassVar[tuple[Task, ...]] = ("quantization", "joint")

    def propose(self, problems: Sequence[LeastSquares], seed: int = 0) -> list[NDArray[np.int64]]:
        """Codes of the kept weights, and zeros."""
        whole = [i for i, problem in enumerate(problems) if not problem.is_restricted]
        codes = dict(zip(whole, self.rounded([problems[i] for i in whole]), strict=True))
        ruled = [i for i, problem in enumerate(problems) if problem.is_restricted]
        for i, kept in zip(ruled, self.kept([problems[i] for i in ruled]), strict=True):
            codes[i] = problems[i].values.zero_codes().copy()
            if kept.any():  # one at a time: each has a Gram of its own, that of what it keeps
                codes[i][kept] = self.rounded([among_kept(problems[i], kept)])[0]
        return [codes[i] for i in range(len(problems))]

    def kept(self, problems: Sequence[LeastSquares]) -> list[NDArray[np.bool_]]:
        """Masks of the weights that stay under a support rule, shape (n,) each: the largest ones."""
        return [largest_kept(np.abs(problem.weight)[None], problem.budgets)[0] for problem in problems]

    @abstractmethod
    def rounded(self, problems: Sequence[LeastSquares]) -> list[NDArray[np.int64]]:
        """Codes of problems without a support rule, those that share one Gram together."""


class QuantizationMethod(Method[IntegerLeastSquares]):
    """A method that proposes codes of uniform steps."""

    tasks: ClassVar[tuple[Task, ...]] = ("quantization",)
    problems: ClassVar[type[Problem]] = IntegerLeastSquares


class PruningMethod(Method[SparseLeastSquares]):
    """A method that proposes weights, zero where they are removed."""

    tasks: ClassVar[tuple[Task, ...]] = ("pruning",)
    problems: ClassVar[type[Problem]] = SparseLeastSquares


def alike(problems: Sequence[IntegerLeastSquares]) -> list[list[int]]:
    """Positions of the problems of each Gram and grid: what one factor serves."""
    members: dict[tuple[Gram, bytes], list[int]] = {}
    for i, problem in enumerate(problems):
        members.setdefault((problem.shared, problem.grid), []).append(i)
    return list(members.values())


def steps_apart(
    problems: Sequence[LeastSquares],
) -> tuple[dict[int, IntegerLeastSquares], dict[int, LeastSquares]]:
    """Problems of uniform steps, and all others, by their positions."""
    stepped = {i: problem for i, problem in enumerate(problems) if isinstance(problem, IntegerLeastSquares)}
    return stepped, {i: problem for i, problem in enumerate(problems) if i not in stepped}

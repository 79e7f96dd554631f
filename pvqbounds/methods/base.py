"""What a method is: a name, a citation, and proposals that nobody has to believe."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError
from pvqbounds.problems import IntegerLeastSquares, Problem, SparseLeastSquares
from pvqbounds.problems.plain_formats import Task
from pvqbounds.problems.validation import as_real_array

__all__ = ["Method", "PruningMethod", "QuantizationMethod", "alike"]

P = TypeVar("P", bound=Problem)


class Method(ABC, Generic[P]):
    """One method. Derive from :class:`QuantizationMethod` or :class:`PruningMethod`.

    It proves nothing: whoever asks evaluates the error of what it proposes.
    """

    name: ClassVar[str]
    """By which it is found, and which results call it by: lower case, digits and ``+-._``."""
    label: ClassVar[str]
    """Its row in a table."""
    citation: ClassVar[str]
    """Where it comes from, in a line."""
    kind: ClassVar[Task]
    """What it proposes for."""
    listed_up_to: ClassVar[float] = 0.0
    """Inputs up to which a layer lists it without being asked; 0 where it has to be named."""

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

    @abstractmethod
    def checked(self, problem: P, point: Any) -> NDArray[Any]:
        """`point` as the array that it has to be.

        Raises
        ------
        InputError
            If the problem does not allow it.
        """


class QuantizationMethod(Method[IntegerLeastSquares]):
    """A method that proposes codes."""

    kind: ClassVar[Task] = "quantization"

    def checked(self, problem: IntegerLeastSquares, point: Any) -> NDArray[np.int64]:
        """`point` as codes of the grid."""
        return problem.checked_codes(point)


class PruningMethod(Method[SparseLeastSquares]):
    """A method that proposes weights, zero where they are removed."""

    kind: ClassVar[Task] = "pruning"

    def checked(self, problem: SparseLeastSquares, point: Any) -> NDArray[np.float64]:
        """`point` as weights that keep to the budget."""
        weight = as_real_array(point, "The weight", ndim=1)
        if len(weight) != problem.n:
            raise InputError(f"There must be {problem.n} weights, not {len(weight)}.")
        problem.checked_support(np.flatnonzero(weight))
        return weight


def alike(problems: Sequence[IntegerLeastSquares]) -> list[list[int]]:
    """Positions of the problems of each Gram and grid: what one factor serves."""
    members: dict[tuple[int, bytes], list[int]] = {}
    for i, problem in enumerate(problems):
        members.setdefault((id(problem.gram), problem.grid), []).append(i)
    return list(members.values())

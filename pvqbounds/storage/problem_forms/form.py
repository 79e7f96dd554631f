"""What a form of a problem in a file is, and what its comments say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pvqbounds.problems import IntegerLeastSquares, Problem
from pvqbounds.problems.quadratic import Quadratic
from pvqbounds.storage.archive import replacing

__all__ = ["ProblemForm", "TextForm", "comments", "given_as", "number", "objective_of", "offset_line"]


@dataclass(frozen=True)
class ProblemForm:
    """One way to write a problem down."""

    name: str
    suffixes: tuple[str, ...]
    """What names of such files end in."""
    holds: str
    """What of the problem, in a few words."""
    write: Callable[[Problem, Path], None]


@dataclass(frozen=True)
class TextForm:
    """Writes the lines that a function gives for a problem."""

    lines: Callable[[Problem], Iterator[str]]

    def __call__(self, problem: Problem, path: Path) -> None:
        """Write them, whole or not at all."""
        lines = self.lines(problem)
        first = next(lines)  # what cannot be said is refused before there is a file
        with replacing(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as file:
            file.write(f"{first}\n")
            file.writelines(f"{line}\n" for line in lines)


def number(value: float) -> str:
    """The shortest decimal that is read as this very float64, without a sign where it is zero."""
    return repr(float(value) + 0.0)


def given_as(problem: Problem) -> Quadratic | None:
    """The quadratic program that a problem was given as; None where it was given as a Gram."""
    return problem.quadratic if isinstance(problem, IntegerLeastSquares) else None


def objective_of(problem: Problem) -> str:
    """What is minimised, in words of plain text."""
    if given_as(problem) is not None:
        return "z'Pz + 2q'z over whole z in a box"
    return "the error E(v) = (v - w)'G(v - w)"


def comments(problem: Problem, form: str, says: list[str]) -> list[str]:
    """The lines that every file begins with: the problem, what the file holds of it, and what to add."""
    return [f"{form} of {problem!r}", f"minimise {objective_of(problem)}", *says]


def offset_line(problem: Problem, offset: float) -> str:
    """What the objective of the file lacks."""
    what = "E" if given_as(problem) is None else "the value"
    return (
        f"objective + offset = {what}; gaps of solvers are of the objective alone; offset = {number(offset)}"
    )

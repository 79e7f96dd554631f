"""What one case does and finds: counts, faults, and scripts that show a fault again."""

from __future__ import annotations

import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.random import Generator

import pvqbounds
from pvqbounds import IntegerLeastSquares, SparseLeastSquares
from pvqbounds.errors import ContradictionError, PvqError

__all__ = ["Case", "Fault", "Problem", "Step", "script_of"]

Problem = IntegerLeastSquares | SparseLeastSquares

PACKAGE = Path(pvqbounds.__file__).parent


Step = Callable[[str, float, str], None]
"""Told what is about to be done, how many seconds it may take, and Python that does the same."""


@dataclass(frozen=True)
class Fault:
    """Something that must not be."""

    kind: str
    """What is wrong, in two or three words: faults of one kind and place are counted together."""
    place: str
    """What was asked for, or the function in which an exception arose."""
    text: str
    """The numbers."""
    script: str
    """Python that builds the problem and asks for the same again."""


@dataclass
class Case:
    """One case on its way."""

    rng: Generator
    listener: Step = lambda text, limit, script: None
    """Told what is about to be done: the watchdog listens."""
    faults: list[Fault] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    script: str = ""
    """How to build what is being looked at."""

    def step(self, text: str, limit: float, call: str = "") -> None:
        """Say what is about to be done, how many seconds it may take, and the line that does it."""
        self.listener(text, limit, "\n".join(filter(None, (self.script, call))))

    def fault(self, kind: str, place: str, text: str, call: str = "") -> None:
        """Note a fault of what is being looked at; `call` is the line that shows it."""
        self.faults.append(Fault(kind, place, text, "\n".join(filter(None, (self.script, call)))))

    def count(self, what: str, number: int = 1) -> None:
        """Count something that was done."""
        self.counts[what] += number

    def guarded(self, place: str, call: str = "", *, refusals: bool = True) -> Guard:
        """Turn exceptions into faults: those that are no PvqError, and, without `refusals`, those too.

        A contradiction is a fault whatever is allowed: something false was proved.
        """
        return Guard(self, place, call, refusals)


class Guard:
    """What :meth:`Case.guarded` gives: a block in which no exception goes unnoticed."""

    def __init__(self, case: Case, place: str, call: str, refusals: bool) -> None:
        self.case, self.place, self.call, self.refusals = case, place, call, refusals
        self.catching = warnings.catch_warnings(record=True)

    def __enter__(self) -> None:
        self.caught = self.catching.__enter__()
        warnings.simplefilter("always")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.catching.__exit__(kind, error, trace)
        for warning in self.caught or ():
            place = f"{_short(warning.filename)}:{warning.lineno}"
            self.case.count(f"warning: {warning.category.__name__} at {place}")
        if isinstance(error, PvqError):
            self.case.count("refused")
            if isinstance(error, ContradictionError) or not self.refusals:
                what = f"{type(error).__name__} where there must be a result"
                self.case.fault(what, self.place, str(error), self.call)
            elif "\n" in str(error).strip():
                self.case.fault("a message of several lines", self.place, str(error), self.call)
        elif isinstance(error, Exception):
            what = f"{type(error).__name__} in {place_of(error)}"
            self.case.fault(what, self.place, f"{error}"[:300], self.call)
        else:
            return False
        return True


def _short(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(PACKAGE)) if path.is_relative_to(PACKAGE) else path.name


def place_of(error: BaseException) -> str:
    """The deepest function of the package that an exception came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE)] or list(frames)
    return f"{_short(ours[-1].filename)}:{ours[-1].name}" if ours else "nowhere"


def script_of(problem: Problem, name: str = "p") -> str:
    """Python that builds the problem with the same float64 numbers."""
    head = f"G = {_listed(problem.gram)}\nw = {_listed(problem.weight)}\n"
    if isinstance(problem, IntegerLeastSquares):
        grid = ", ".join(repr(_listed(part)) for part in (problem.scale, problem.qmin, problem.qmax))
        made = f"IntegerLeastSquares(G, w, {grid})"
    elif problem.nnz is not None:
        made = f"SparseLeastSquares(G, w, nnz={problem.nnz})"
    else:
        made = f"SparseLeastSquares(G, w, pattern={problem.pattern}, stride={problem.stride})"
    return f"{head}{name} = pvq.{made}"


def _listed(array: np.ndarray | Sequence[float]) -> Any:
    return np.asarray(array).tolist()

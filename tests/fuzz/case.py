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
from pvqbounds import AnyScaleLeastSquares, CodebookLeastSquares, IntegerLeastSquares, SparseLeastSquares
from pvqbounds.errors import ContradictionError, PvqError
from pvqbounds.problems import Problem
from pvqbounds.problems.supports import All, Groups, SupportRule
from pvqbounds.problems.values import Steps, Tabulated

__all__ = ["Case", "Fault", "Step", "script_of"]

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

    def guarded(self, place: str, call: str | Callable[[], str] = "", *, refusals: bool = True) -> Guard:
        """Turn exceptions into faults: those that are no PvqError, and, without `refusals`, those too.

        A contradiction is a fault whatever is allowed: something false was proved. `call`, Python that does
        the same, may be made only when it is wanted.
        """
        return Guard(self, place, call, refusals)


class Guard:
    """What :meth:`Case.guarded` gives: a block in which no exception goes unnoticed."""

    def __init__(self, case: Case, place: str, call: str | Callable[[], str], refusals: bool) -> None:
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
                self._fault(f"{type(error).__name__} where there must be a result", str(error))
            elif "\n" in str(error).strip():
                self._fault("a message of several lines", str(error))
        elif isinstance(error, Exception):
            self._fault(f"{type(error).__name__} in {place_of(error)}", f"{error}"[:300])
        else:
            return False
        return True

    def _fault(self, kind: str, text: str) -> None:
        call = self.call if isinstance(self.call, str) else self.call()
        self.case.fault(kind, self.place, text, call)


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
        made = f"IntegerLeastSquares(G, w, {grid}{_rule(problem)}"
    elif isinstance(problem, AnyScaleLeastSquares):
        values = problem.values
        span = "" if values.span is None else f", span={values.span}"
        made = f"AnyScaleLeastSquares(G, w, {values.qmin}, {values.qmax}{span}{_rule(problem)}"
    elif isinstance(problem, CodebookLeastSquares):
        made = f"CodebookLeastSquares(G, w, {_levels(problem)}{_rule(problem)}"
    elif isinstance(problem, SparseLeastSquares):
        made = f"SparseLeastSquares(G, w{_rule(problem)}"
    else:
        made = f"LeastSquares(G, w, {_value_set(problem)}, {_shown_rule(problem.rule)})"
    if "Groups(" in made or made.startswith("LeastSquares"):
        head = "from pvqbounds.problems.supports import *\nfrom pvqbounds.problems.values import *\n" + head
    return f"{head}{name} = pvq.{made}"


def _listed(array: np.ndarray | Sequence[float]) -> Any:
    return np.asarray(array).tolist()


def _rule(problem: Problem) -> str:
    """The end of a constructor's arguments, and what follows, that say which weights may be non-zero."""
    if problem.nnz is not None:
        return f", nnz={problem.nnz})"
    if problem.pattern is not None:
        return f", pattern={problem.pattern}, stride={problem.stride})"
    if isinstance(problem.rule, All):
        return ")"
    empty = "" if problem.values.is_finite else ", nnz=0"
    return f"{empty}).under({_shown_rule(problem.rule)})"


def _levels(problem: CodebookLeastSquares) -> list[Any]:
    """One list, or one for each input without the repetitions at its end."""
    rows = [np.unique(row).tolist() for row in problem.values.levels]
    return rows[0] if all(row == rows[0] for row in rows) and len(rows) != 1 else rows


def _value_set(problem: Problem) -> str:
    values = problem.values
    if isinstance(values, Steps):
        parts = (values.step, values.qmin, values.qmax)
        return f"Steps({', '.join(f'np.array({_listed(part)!r})' for part in parts)})"
    assert isinstance(values, Tabulated)
    return f"Levels(np.array({_listed(values.table)!r}))"


def _shown_rule(rule: SupportRule) -> str:
    if isinstance(rule, Groups):
        return f"Groups(np.array({_listed(rule.group)!r}), np.array({_listed(rule.most)!r}))"
    return repr(rule)

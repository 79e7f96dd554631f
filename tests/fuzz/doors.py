"""Hostile arguments and problem files: a sentence says no, or what comes of them is what they say."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

import pvqbounds as pvq
from pvqbounds import CodebookLeastSquares, IntegerLeastSquares, SparseLeastSquares
from pvqbounds.problems import Problem
from pvqbounds.storage.problem_files import load_problem, write_npz

from .case import Case, script_of
from .checks import Plan, solve_all
from .families import draw
from .files import spoilt_bytes
from .grids import random_rule
from .problems import same, small
from .rational import truth_of, values_of
from .tampering import HOSTILE, spoilt_array

__all__ = ["arguments", "problem_files"]


def _hostile(case: Case, honest: Any) -> Any:
    """The argument spoilt, or something else in its place."""
    if isinstance(honest, list) and honest and case.rng.random() < 0.7:  # one of its lists
        spoilt = list(honest)
        at = int(case.rng.integers(len(spoilt)))
        spoilt[at] = _hostile(case, spoilt[at])
        return spoilt
    if isinstance(honest, tuple) and case.rng.random() < 0.7:  # one of its numbers
        return (*honest[:1], HOSTILE[int(case.rng.integers(len(HOSTILE)))])
    if isinstance(honest, np.ndarray) and case.rng.random() < 0.7:
        return spoilt_array(case.rng, honest)
    return HOSTILE[int(case.rng.integers(len(HOSTILE)))]


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"[:120]


def _solve_small(case: Case, problem: Problem, what: str) -> None:
    """What has come through a door is a problem like any other."""
    case.count(f"{what} accepted")
    few = not problem.values.is_finite or max(map(len, values_of(problem))) <= 21
    if problem.n <= 6 and few:
        solve_all(case, problem, truth_of(problem, 1000), [Plan(time_limit=1.0)])


def arguments(case: Case) -> None:
    """Arguments of constructors and of solve that are not what they should be."""
    rng = case.rng
    n = int(rng.integers(1, 5))
    drawn = draw(rng, n, one_step=True)
    grid = {"scale": drawn.scale, "qmin": -2, "qmax": 1}
    own = {"scale": np.full(n, drawn.scale), "qmin": np.full(n, -2), "qmax": np.arange(n) % 3}
    row = drawn.scale * np.array([-1.0, -0.25, 0.0, 1.5])
    values: list[tuple[Any, dict[str, Any]]] = [
        (SparseLeastSquares, {}),
        (IntegerLeastSquares, grid),
        (IntegerLeastSquares, own),
        (CodebookLeastSquares, {"levels": row}),
        (CodebookLeastSquares, {"levels": [row[: 2 + i % 3] for i in range(n)]}),
        (CodebookLeastSquares, {"levels": np.tile(row, (n, 1))}),
    ]
    for _ in range(20):
        made, allowed = values[int(rng.integers(len(values)))]
        given: dict[str, Any] = {"gram": drawn.gram, "weight": drawn.weight} | allowed
        if made is SparseLeastSquares or rng.random() < 0.5:
            given |= random_rule(rng, n)
        for _ in range(int(rng.integers(1, 3))):
            name = list(given)[int(rng.integers(len(given)))]
            given[name] = _hostile(case, given[name])
        case.script = "# " + "; ".join(f"{name} = {_shown(value)}" for name, value in given.items())
        case.count("hostile arguments")
        case.step("a constructor", 5.0)
        problem: Problem | None = None
        with case.guarded(made.__name__):
            problem = made(**given)
        if problem is not None:
            case.script = script_of(problem)
            _solve_small(case, problem, "hostile arguments")
    _options(case)


def _options(case: Case) -> None:
    """Options of solve and solve_channels that are none."""
    rng = case.rng
    problems: list[Problem] = [
        IntegerLeastSquares([[2.0, 1.0], [1.0, 2.0]], [0.3, 0.7], 0.5, -2, 1),
        IntegerLeastSquares([[2.0, 1.0], [1.0, 2.0]], [0.3, 0.7], [0.5, 0.25], -2, [1, 0], pattern=(1, 2)),
        CodebookLeastSquares([[2.0, 1.0], [1.0, 2.0]], [0.3, 0.7], [-1.0, 0.0, 0.6]),
        SparseLeastSquares([[2.0, 1.0], [1.0, 2.0]], [0.3, 0.7], nnz=1),
    ]
    names = ("solver", "method", "relaxation", "time_limit", "threads", "tolerance", "seed", "solver_options")
    # the types of flags and events are the caller's own affair
    for _ in range(20):
        name = names[int(rng.integers(len(names)))]
        hostile = HOSTILE[int(rng.integers(len(HOSTILE)))]
        if name in ("time_limit", "threads") and isinstance(hostile, int | float) and hostile > 1000:
            continue  # a limit of years is allowed
        problem = problems[int(rng.integers(len(problems)))]
        case.script = script_of(problem)
        call = f"pvq.solve(p, {name}={_shown(hostile)})"
        case.count("hostile options")
        case.step(f"solve with {name}", 65.0, call)
        with case.guarded(f"solve with {name}", call):
            options: dict[str, Any] = {name: hostile}
            pvq.solve(problem, **options)
            pvq.solve_channels([problem], **options)


def problem_files(case: Case) -> None:
    """Problem files come back as they were; spoilt ones are refused or are the problem that they hold."""
    rng = case.rng
    known = small(case)
    if known is None:
        return
    problem = known.problem
    case.script = script_of(problem)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.npz"
        case.step("a problem file", 10.0)
        with case.guarded("write_npz", "from pvqbounds.storage.problem_files import *", refusals=False):
            write_npz(problem, path)
            again = load_problem(path)
            if not same(again, problem):
                case.fault("a file that holds another problem", "load_problem", script_of(again))
        content = path.read_bytes()
        with np.load(path) as stored:
            arrays = dict(stored)
        for _ in range(15):
            if rng.random() < 0.4:
                path.write_bytes(spoilt_bytes(rng, content))
                what = "bytes of a problem file"
            else:
                name = list(arrays)[int(rng.integers(len(arrays)))]
                try:
                    np.savez(path, **(arrays | {name: np.asarray(_hostile(case, arrays[name]))}))
                except (ValueError, TypeError, OverflowError):
                    continue  # what numpy does not write
                what = "arrays of a problem file"
            case.count("problem files tampered with")
            _load(case, path, what)
        _matlab(case, Path(folder) / "p.mat", problem)


def _load(case: Case, path: Path, what: str) -> None:
    case.step(what, 10.0)
    loaded: Problem | None = None
    with case.guarded(what):
        loaded = load_problem(path)
    if loaded is not None and case.rng.random() < 0.2:
        case.script = script_of(loaded)
        _solve_small(case, loaded, what)


def _matlab(case: Case, path: Path, problem: Problem) -> None:
    """Files of MATLAB, whole and spoilt."""
    rng, x0 = case.rng, problem.weight[:, None]
    with np.errstate(all="ignore"):
        P = 2.0 * problem.gram
        values: dict[str, Any] = {"P": P, "q": -P @ x0, "r": 0.5 * x0.T @ P @ x0, "x0": x0}
    scipy.io.savemat(path, values, do_compression=bool(rng.random() < 0.5))
    content = path.read_bytes()
    for _ in range(8):
        path.write_bytes(spoilt_bytes(rng, content))
        case.count("problem files tampered with")
        _load(case, path, "bytes of a file of MATLAB")
        name = list(values)[int(rng.integers(len(values)))]
        try:
            scipy.io.savemat(path, values | {name: _hostile(case, values[name])})
        except Exception:  # what scipy does not write
            continue
        _load(case, path, "values of a file of MATLAB")

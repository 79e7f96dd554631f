"""Compile, or load, what a solve needs before its clock starts: once a process, once a machine for the most.

numba compiles a function when it is first called and keeps the outcome on disk, so that the very first
solve on a machine would take half a minute of which its solver needs a millisecond. Here a tiny problem
of the same kind is solved first. What that takes counts neither as the solver's seconds nor against a
time limit; who wants to can say so meanwhile (:func:`telling`).

``python -m pvqbounds.solving.compiling`` does it for everything, at an installation.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from pvqbounds.numba_cache import one_at_a_time
from pvqbounds.problems import (
    AnyScaleLeastSquares,
    CodebookLeastSquares,
    IntegerLeastSquares,
    LeastSquares,
    Problem,
    SparseLeastSquares,
)

if TYPE_CHECKING:
    from pvqbounds.solvers.base import Options

__all__ = [
    "COMPILING",
    "KINDS",
    "compile_for",
    "compile_kind",
    "compile_once",
    "seconds_compiling",
    "telling",
]

COMPILING = "compiling, once"
"""What to say meanwhile."""

TELL_AFTER = 1.5
"""Seconds from which on it is worth saying; where all is on disk already it takes less."""

Notice = Callable[[bool], None]

_lock = threading.RLock()
_done: set[str] = set()
_under_way: set[str] = set()
_notices: list[Notice] = []
_seconds = 0.0


def seconds_compiling() -> float:
    """Seconds that this process has spent here so far."""
    return _seconds


@contextmanager
def telling(notice: Notice) -> Iterator[None]:
    """Call `notice` where compiling takes long within the block: with True, and with False at its end.

    The first call comes from another thread.
    """
    _notices.append(notice)
    try:
        yield
    finally:
        _notices.remove(notice)


def compile_for(problem: Problem, options: Options) -> None:
    """Compile what a solve of such a problem needs, if that has not been done yet."""
    if not problem.values.is_finite:
        compile_kind("perspective")
    elif isinstance(problem, IntegerLeastSquares | AnyScaleLeastSquares) and not problem.is_restricted:
        compile_kind(options.relaxation)
    else:  # what is compiled has no table for steps, and no budget where there is none
        values = "steps" if problem.settled.values.lattice is not None else "levels"
        compile_kind(f"{values} with a budget" if problem.is_restricted else values)


def compile_kind(kind: str) -> None:
    """Compile one of `KINDS`, or what a relaxation of uniform steps of another name needs."""
    if kind not in KINDS:
        kind = "box-hull"
    compile_once(kind, KINDS[kind])


def compile_once(key: str, work: Callable[[], None]) -> None:
    """Do a work that compiles, if none of this key was done before in this process."""
    global _seconds
    if key in _done:
        return
    with _lock:  # a second thread waits for the first one
        if key in _done or key in _under_way:  # under way in this very thread, which holds the lock
            return
        one_at_a_time()
        _under_way.add(key)  # what is solved here must not come here again
        started = time.perf_counter()
        timer = threading.Timer(TELL_AFTER, _tell, (True,))
        timer.daemon = True
        timer.start()
        try:
            work()
            _done.add(key)
        finally:
            _under_way.discard(key)
            timer.cancel()
            _tell(False)
            _seconds += time.perf_counter() - started


def _tell(begins: bool) -> None:
    for notice in list(_notices):
        notice(begins)


def _solve_codes(problem: LeastSquares) -> None:
    """Both ends of a tiny problem over any values, under any rule."""
    from pvqbounds.clock import Clock
    from pvqbounds.solvers.base import Options
    from pvqbounds.solvers.native.backend import Native
    from pvqbounds.solvers.native.pruning.block_dual import maximise_blocks, takes_blocks
    from pvqbounds.solvers.native.quantization.codes_dual import relax_finite
    from pvqbounds.solvers.native.quantization.shared_values import relax_shared_values

    backend = Native()
    options = Options(time_limit=60.0, relaxation="hybrid", search_share=1e-4)
    list(relax_shared_values([problem], lambda pilot: relax_finite(pilot, Clock(60.0))))
    raised, found = backend.relax_codes(problem, options), backend.solve_codes(problem, options)
    relaxed = backend.relax_codes(problem, Options(relaxation="box-hull"))
    if takes_blocks(problem):
        maximise_blocks(problem, max_iterations=1)
    for solution in (raised, found, relaxed):
        if solution.codes is not None and solution.certificate is not None:
            problem.error(solution.codes)
            solution.certificate.prove(problem, Clock(60.0))


def _quantize(relaxation: str) -> None:
    """Both ends of a tiny problem in each way that leads to compiled functions."""
    from pvqbounds.clock import Clock
    from pvqbounds.relaxations.dual import dual_bound
    from pvqbounds.solvers.base import Options
    from pvqbounds.solvers.native.backend import Native
    from pvqbounds.solvers.native.quantization.hybrid import hybrid_bound
    from pvqbounds.solvers.native.quantization.integer_codes import best_known_codes
    from pvqbounds.solvers.native.quantization.shared import relax_shared
    from pvqbounds.solvers.relaxation import relax

    problem, backend = IntegerLeastSquares(small_gram(), small_weight(), 0.3, -4, 3), Native()
    options = Options(time_limit=60.0, relaxation=relaxation)
    backend.solve_integer(problem, options)
    if relaxation == "box-hull":
        relaxed = relax(problem, relaxation, lambda sdp: backend.solve_sdp(sdp, options))
        list(relax_shared([problem], lambda sdps: [backend.solve_sdp(sdp, options) for sdp in sdps]))
    else:
        relaxed = backend.relax_splits(problem, options)
    problem.error(best_known_codes(problem, relaxed, 0))
    hybrid_bound(problem, relaxed, 1e3, Clock(60.0), 0)
    dual_bound(problem, relaxed.certificate)


def _prune() -> None:
    from pvqbounds.clock import Clock
    from pvqbounds.heuristics.supports import eliminate, select
    from pvqbounds.relaxations.dual import dual_bound
    from pvqbounds.solvers.native.pruning.block_dual import maximise_blocks
    from pvqbounds.solvers.native.pruning.perspective_dual import maximise_perspective
    from pvqbounds.solvers.native.pruning.subset_search import good_support, search_sparse
    from pvqbounds.solvers.native.pruning.supports import exchanged

    gram, weight = small_gram(), small_weight()
    problem = SparseLeastSquares(gram, weight, nnz=3)
    dual_bound(problem, maximise_perspective(problem))
    problem.error(problem.refit(good_support(problem)))
    search_sparse(problem, Clock(60.0))
    grouped = SparseLeastSquares(gram, weight, pattern=(2, 4))
    search_sparse(grouped, Clock(60.0))  # by removal
    maximise_blocks(grouped, max_iterations=1)
    # what larger problems take
    group, need = np.zeros(8, dtype=np.int64), np.array([5])
    eliminate(np.linalg.inv(gram), weight, group, need)
    exchanged(gram, weight, group, select(gram, weight, group, need))


def small_gram() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """A Gram of eight inputs, shape (8, 8)."""
    rows = np.random.default_rng(0).standard_normal((40, 8))
    rows[:, 1:] += rows[:, :-1]
    return rows.T @ rows / len(rows)


def small_weight() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Eight weights."""
    return np.random.default_rng(1).standard_normal(8)


def small_steps(nnz: int | None = None) -> IntegerLeastSquares:
    """Eight inputs of eight codes each, with steps of their own."""
    return IntegerLeastSquares(small_gram(), small_weight(), np.linspace(0.2, 0.4, 8), -4, 3, nnz=nnz)


def small_levels(nnz: int | None = None) -> CodebookLeastSquares:
    """Eight inputs of four levels each."""
    return CodebookLeastSquares(small_gram(), small_weight(), [-1.0, 0.0, 0.5, 1.5], nnz=nnz)


KINDS: dict[str, Callable[[], None]] = {
    "hybrid": lambda: _quantize("hybrid"),
    "splits": lambda: _quantize("splits"),
    "box-hull": lambda: _quantize("box-hull"),
    "steps": lambda: _solve_codes(small_steps()),
    "levels": lambda: _solve_codes(small_levels()),
    "steps with a budget": lambda: _solve_codes(small_steps(nnz=4)),
    "levels with a budget": lambda: _solve_codes(small_levels(nnz=4)),
    "perspective": lambda: _prune(),
}
"""What there is to compile: relaxations of uniform steps, other values and rules, and pruning."""

"""Compile, or load, what a solve needs before its clock starts: once a process, once a machine for the most.

numba compiles a function when it is first called and keeps the outcome on disk, so that the very first
solve on a machine would take half a minute of which its solver needs a millisecond. Here a tiny problem
of the same kind is solved first. What that takes counts neither as the solver's seconds nor against a
time limit; who wants to can say so meanwhile (:func:`telling`).

``python -m pvqbounds.solvers.native.compiling`` does it for everything, at an installation.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from pvqbounds.problems import IntegerLeastSquares, Problem, SparseLeastSquares

if TYPE_CHECKING:
    from pvqbounds.solvers.base import Options

__all__ = ["COMPILING", "compile_for", "compile_layer_budget", "seconds_compiling", "telling"]

COMPILING = "compiling, once"
"""What to say meanwhile."""

TELL_AFTER = 1.5
"""Seconds from which on it is worth saying; where all is on disk already it takes less."""

Notice = Callable[[bool], None]

_lock = threading.RLock()
_done: set[tuple[str, str]] = set()
_under_way: set[tuple[str, str]] = set()
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
    if isinstance(problem, IntegerLeastSquares):
        kind = options.relaxation if options.relaxation in ("hybrid", "splits") else "box-hull"
        _once(("quantization", kind), lambda: _quantize(kind))
    else:
        _once(("pruning", ""), _prune)


def compile_layer_budget() -> None:
    """Compile what a budget over a layer needs."""
    _once(("layer budget", ""), _prune_together)


def _once(key: tuple[str, str], work: Callable[[], None]) -> None:
    global _seconds
    if key in _done:
        return
    with _lock:  # a second thread waits for the first one
        if key in _done or key in _under_way:  # under way in this very thread, which holds the lock
            return
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


def _quantize(relaxation: str) -> None:
    """Both ends of a tiny problem in each way that leads to compiled functions."""
    from pvqbounds.relaxations.certificates import box_hull_bound
    from pvqbounds.solvers.base import Clock, Options
    from pvqbounds.solvers.native.backend import Native
    from pvqbounds.solvers.native.hybrid import hybrid_bound
    from pvqbounds.solvers.native.integer_codes import best_known_codes
    from pvqbounds.solvers.native.shared import relax_shared
    from pvqbounds.solvers.relaxation import relax

    problem, backend = IntegerLeastSquares(_gram(), _weight(), 0.3, -4, 3), Native()
    options = Options(time_limit=60.0, relaxation=relaxation)
    backend.solve_integer(problem, options)
    if relaxation == "box-hull":
        relaxed = relax(problem, relaxation, lambda sdp: backend.solve_sdp(sdp, options))
        relax_shared([problem], lambda sdps: [backend.solve_sdp(sdp, options) for sdp in sdps])
    else:
        relaxed = backend.relax_splits(problem, options)
    problem.error(best_known_codes(problem, relaxed, 0))
    hybrid_bound(problem, relaxed, 1e3, Clock(60.0), 0)
    box_hull_bound(problem, relaxed.certificate)


def _prune() -> None:
    from pvqbounds.relaxations.perspective import perspective_bound
    from pvqbounds.solvers.base import Clock
    from pvqbounds.solvers.native.perspective_dual import maximise_perspective
    from pvqbounds.solvers.native.subset_search import good_support, search_sparse

    problem = SparseLeastSquares(_gram(), _weight(), nnz=3)
    perspective_bound(problem, maximise_perspective(problem))
    problem.error(problem.refit(good_support(problem)))
    search_sparse(problem, Clock(60.0))


def _prune_together() -> None:
    from pvqbounds.layer_budget import solve_layer_budget

    problem = SparseLeastSquares(_gram(), _weight(), nnz=3)
    solve_layer_budget([problem, problem.with_nnz(2)], 5)


def _gram() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    rows = np.random.default_rng(0).standard_normal((40, 8))
    rows[:, 1:] += rows[:, :-1]
    return rows.T @ rows / len(rows)


def _weight() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.random.default_rng(1).standard_normal(8)


def main() -> None:
    """Compile everything, and say how long it took."""
    for relaxation in ("hybrid", "splits", "box-hull"):
        _once(("quantization", relaxation), lambda relaxation=relaxation: _quantize(relaxation))  # type: ignore[misc]
    _once(("pruning", ""), _prune)
    compile_layer_budget()
    print(f"compiled in {_seconds:.0f} s")


if __name__ == "__main__":
    main()

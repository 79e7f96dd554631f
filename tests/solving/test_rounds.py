"""Time for a whole layer: where it goes, that nothing proved is lost, and what an interrupt leaves."""

from __future__ import annotations

import math
import threading
from dataclasses import replace

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.clock import Clock
from pvqbounds.errors import ContradictionError, InputError, SolverFailedError
from pvqbounds.results.bounds import status_of
from pvqbounds.solving import channels
from pvqbounds.solving.candidates import combined
from pvqbounds.solving.execution import Execution
from pvqbounds.solving.one import weak_bounds
from pvqbounds.solving.options import SolveOptions
from pvqbounds.solving.rounds import solve_in_rounds


def layer(n, count, sizes=None, seed=0):
    rng = np.random.default_rng(seed)
    inputs = np.maximum(rng.standard_normal((6 * n, n)) @ rng.standard_normal((n, n)), 0.0)
    gram = pvq.Gram(inputs.T @ inputs / len(inputs))
    sizes = np.ones(count) if sizes is None else sizes
    return [pvq.IntegerLeastSquares(gram, rng.standard_normal(n) * s, 0.3 * s, -8, 7) for s in sizes]


class FakeClock(Clock):
    """Time that passes only where something is solved."""

    def __init__(self, seconds):
        super().__init__(math.inf)
        self.left = seconds

    @property
    def remaining(self):
        return max(self.left, 0.0)


class Counting:
    """In place of a solver: each solve takes its limit and closes a part that grows with it."""

    def __init__(self, problems, early=()):
        self.problems, self.early, self.calls = problems, early, []
        self.starts = [problem.start() for problem in problems]

    def __call__(self, problems, asked, execution, clock):
        found = []
        for problem in problems:
            position, limit = self.problems.index(problem), min(asked.time_limit, clock.remaining)
            self.calls.append((position, limit, asked.relaxation))
            weak = weak_bounds(problem, "native", "")
            took = 0.01 * limit if position in self.early else limit
            clock.left -= took
            lower = weak.error_upper * limit / (1.0 + limit)
            found.append(replace(weak, error_lower=lower, seconds=took))
        return found


def test_the_widest_gets_the_time_and_each_gets_some():
    problems = layer(4, 3, sizes=[1.0, 30.0, 1.0])
    clock, solve = FakeClock(9.0), Counting(problems)
    found = solve_in_rounds(solve, problems, SolveOptions(time_limit=4.0), Execution(), clock)
    assert [call[0] for call in solve.calls[:3]] == [0, 1, 2]
    assert {limit for _, limit, _ in solve.calls[:3]} == {0.3 * 9.0 / 3}
    assert solve.calls[3][0] == 1
    spent = [sum(limit for place, limit, _ in solve.calls if place == p) for p in range(3)]
    assert spent[1] > max(spent[0], spent[2])
    assert sum(spent) <= 9.0 * (1.0 + 1e-9)
    assert [b.seconds for b in found] == pytest.approx(spent)


def test_no_solve_takes_more_than_its_limit_and_the_end_comes():
    problems = layer(4, 2)
    solve = Counting(problems)
    solve_in_rounds(solve, problems, SolveOptions(time_limit=2.0), Execution(), FakeClock(1e6))
    assert max(limit for _, limit, _ in solve.calls) == 2.0
    assert {relaxation for _, _, relaxation in solve.calls} == {None, "hybrid"}
    again = [call for call in solve.calls if solve.calls.count(call) > 1]
    assert not again


def test_what_ends_early_is_asked_for_all_that_time_gives():
    problems = layer(4, 1)
    solve = Counting(problems, early=(0,))
    solve_in_rounds(solve, problems, SolveOptions(), Execution(), FakeClock(10.0))
    assert [relaxation for _, _, relaxation in solve.calls] == [None, "hybrid"]
    named = Counting(problems, early=(0,))
    solve_in_rounds(named, problems, SolveOptions(relaxation="box-hull"), Execution(), FakeClock(10.0))
    assert [relaxation for _, _, relaxation in named.calls] == ["box-hull"]


def test_a_later_solve_that_is_worse_or_fails_loses_nothing():
    problems = layer(4, 2)
    calls = []

    def solve(some, asked, execution, clock):
        calls.append(asked)
        clock.left -= 1.0
        if len(calls) == 1:
            good = [pvq.solve(problem, method="relax", relaxation="box-hull") for problem in some]
            return [replace(b, status="bounded", seconds=asked.time_limit) for b in good]
        if len(calls) == 2:
            raise SolverFailedError("it broke")
        return [weak_bounds(problem, "native", "") for problem in some]

    found = solve_in_rounds(solve, problems, SolveOptions(), Execution(), FakeClock(40.0))
    assert len(calls) > 3
    for problem, bounds in zip(problems, found, strict=True):
        own = pvq.solve(problem, method="relax", relaxation="box-hull")
        assert bounds.error_lower == own.error_lower
        assert bounds.error_upper <= own.error_upper
        assert pvq.verify(problem, bounds)


def test_the_better_ends_of_two_results():
    problem = layer(8, 1)[0]
    best = pvq.solve(problem, method="exact")
    relaxed = replace(
        pvq.solve(problem, method="relax", relaxation="box-hull"),
        codes=problem.start().codes,
        weight=problem.start().weight,
        error_upper=problem.start().upper,
    )
    weak = replace(
        weak_bounds(problem, "native", "planted"),
        codes=best.codes,
        weight=best.weight,
        error_upper=best.error_upper,
    )
    for one, other in ((relaxed, weak), (weak, relaxed)):
        both = combined(problem, one, other)
        assert (both.error_lower, both.error_upper) == (relaxed.error_lower, best.error_upper)
        assert both.certificate is relaxed.certificate
        assert both.seconds == one.seconds + other.seconds
        assert both.status == status_of(both.error_lower, both.error_upper, problem.signal.upper)
        assert pvq.verify(problem, both)
    closed = combined(problem, relaxed, best)
    assert (closed.status, closed.note) == ("optimal", "")
    stated = replace(best, certificate=None, lower_kind="reported", error_lower=1.1 * best.error_lower)
    assert combined(problem, stated, relaxed).lower_kind == "certified"
    false = replace(relaxed, error_lower=1.1 * best.error_upper, error_upper=1.2 * best.error_upper)
    with pytest.raises(ContradictionError):
        combined(problem, false, best)


@pytest.mark.parametrize("jobs", [1, 2])
def test_total_time_is_never_weaker_than_the_first_round(jobs, monkeypatch):
    problems = layer(40, 3)
    problems += [pvq.SparseLeastSquares(p.shared, p.weight, nnz=20) for p in problems[:2]]
    rounds, solve = [], channels._solve_each

    def listen(some, asked, execution, clock):
        rounds.append(solve(some, asked, execution, clock))
        return rounds[-1]

    monkeypatch.setattr(channels, "_solve_each", listen)
    told = {}
    seen = []
    asked = SolveOptions()
    execution = Execution(
        jobs, progress=seen.append, found=lambda p, b: told.setdefault(p, []).append(b), total_time=3.0
    )
    found = channels.solve_all(problems, asked, execution)
    assert seen == [1, 2, 3, 4, 5]
    for position, (problem, first, last) in enumerate(zip(problems, rounds[0], found, strict=True)):
        assert first.error_lower <= last.error_lower <= last.error_upper <= first.error_upper
        assert pvq.verify(problem, last)
        ends = [(b.error_lower, -b.error_upper) for b in told[position]]
        assert ends == sorted(ends)
        assert told[position][-1].error_lower == last.error_lower


def test_hardly_any_time_is_an_interval_for_every_channel():
    problems = layer(20, 4)
    found = pvq.solve_channels(problems, total_time=1e-9)
    for problem, bounds in zip(problems, found, strict=True):
        assert bounds.error_lower == 0.0
        assert bounds.note == channels.NO_TIME
        assert pvq.verify(problem, bounds)


@pytest.mark.parametrize("total", [None, 60.0])
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_cancelled_layer_keeps_what_stands(total, jobs, monkeypatch):
    problems, cancelled, solve = layer(12, 6), threading.Event(), channels.solve_one
    first = {problem.weight.tobytes() for problem in problems[:2]}

    def stop(done):
        if done == 2:
            cancelled.set()

    def after_the_stop(problem, *arguments):  # a second thread may be done with all before this one looks
        if problem.weight.tobytes() not in first:
            assert cancelled.wait(60.0)
        return solve(problem, *arguments)

    monkeypatch.setattr(channels, "solve_one", after_the_stop)
    found = pvq.solve_channels(problems, jobs=jobs, progress=stop, cancelled=cancelled, total_time=total)
    assert [b.status for b in found[:2]] == ["optimal", "optimal"]
    assert found[-1].note == channels.INTERRUPTED
    for problem, bounds in zip(problems, found, strict=True):
        assert pvq.verify(problem, bounds)


def test_a_solver_that_takes_the_signal_for_itself(monkeypatch):
    problems, solve, calls = layer(6, 3), channels.solve_one, []

    def interrupted(problem, *arguments):
        calls.append(problem)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return solve(problem, *arguments)

    monkeypatch.setattr(channels, "solve_one", interrupted)
    found = pvq.solve_channels(problems, cancelled=threading.Event())
    assert len(calls) == 2
    assert [b.note == channels.INTERRUPTED for b in found] == [False, True, True]
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        pvq.solve_channels(problems)


@pytest.mark.parametrize("total", [0.0, -1.0, math.inf, math.nan, "long", True])
def test_a_total_time_that_cannot_be(total):
    with pytest.raises(InputError, match="total time"):
        pvq.solve_channels(layer(4, 1), total_time=total)

"""Compiled descent over codes: moves of one and of two weights that never leave the values or the budgets.

A move of one weight (1-opt) takes it to the value next to the least error along its coordinate. Moves of
two (2-opt) take both to a neighbouring value; under a support rule they also set one weight to zero and
another one, of the same group, to its best value.

Every loop ends: a move has to gain more than rounding can feign, a descent makes a limited number of
moves at a time, and between two lots of them the error is taken afresh and the clock is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numba
import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.code_grids import CodeProblem
from pvqbounds.problems.code_kernel import code_next_to, value_of
from pvqbounds.problems.supports import Budget

if TYPE_CHECKING:
    from pvqbounds.clock import Clock

__all__ = ["best_of_starts", "descend"]

_RELATIVE_GAIN = 1e-10
"""A move must gain this fraction of the error."""

_UNIT = 2.0**-53
"""Rounding of one operation, relative."""

_MOVES = 10
"""Moves of a descent between two looks at the clock, as a multiple of n: most descents need fewer."""

_LOTS = 100
"""Such lots of moves at most."""

_SLICE = 2e7
"""Multiplications of a lot of starts between two looks at the clock: some 20 ms."""

_INPUT = np.dtype(
    [
        ("centre", np.float64),
        ("low", np.float64),
        ("high", np.float64),
        ("zero", np.float64),
        ("group", np.int64),
    ],
    align=True,
)
"""What is known of an input; `zero` and `group` count under a support rule alone."""


@numba.njit(cache=True, nogil=True)
def _non_zeros(entry, code):  # type: ignore[no-untyped-def]
    return 0 if code == entry.zero else 1


@numba.njit(cache=True, nogil=True)
def _room(inputs, most, codes):  # type: ignore[no-untyped-def]
    """How many more weights of each group may be non-zero."""
    if most is None:
        return None
    room = most.copy()
    for i in range(len(codes)):
        room[inputs[i].group] -= _non_zeros(inputs[i], codes[i])
    return room


@numba.njit(cache=True, nogil=True)
def _move(form, values, inputs, room, codes, gradient, i, code):  # type: ignore[no-untyped-def]
    """Take input i to a code: the gradient and the room of its group go with it."""
    step = value_of(values, i, code) - value_of(values, i, codes[i])
    if room is not None:
        room[inputs[i].group] += _non_zeros(inputs[i], codes[i]) - _non_zeros(inputs[i], code)
    codes[i] = code
    for j in range(len(codes)):
        gradient[j] += 2.0 * step * form[i, j]


@numba.njit(cache=True, nogil=True)
def _one_opt(form, values, inputs, room, codes, gradient, noise, floor, most):  # type: ignore[no-untyped-def]
    """Take the best single-code move until none gains, `most` times at most; returns the number taken."""
    n = len(codes)
    for taken in range(most):
        best, best_i, best_code = floor, n, 0.0
        for i in range(n):
            curvature = form[i, i]
            if curvature <= 0.0:
                continue
            entry, at = inputs[i], value_of(values, i, codes[i])
            if room is not None and codes[i] == entry.zero and room[entry.group] <= 0:
                continue
            point = at - gradient[i] / (2.0 * curvature)
            code = code_next_to(values, i, entry.low, entry.high, point)
            step = value_of(values, i, code) - at
            gain = -step * (gradient[i] + step * curvature)
            if gain > best and gain > abs(step) * noise[i]:
                best, best_i, best_code = gain, i, code
        if best_i == n:
            return taken
        _move(form, values, inputs, room, codes, gradient, best_i, best_code)
    return most


@numba.njit(cache=True, nogil=True)
def _both_fit(inputs, room, i, more_i, j, more_j):  # type: ignore[no-untyped-def]
    """Whether so many more non-zeros of i and of j keep to the budgets."""
    if room is None:
        return True
    one, other = inputs[i].group, inputs[j].group
    if one == other:
        return more_i + more_j <= max(room[one], 0)
    return more_i <= max(room[one], 0) and more_j <= max(room[other], 0)


@numba.njit(cache=True, nogil=True)
def _neighbours(form, values, inputs, codes, gradient, steps, changes, more):  # type: ignore[no-untyped-def]
    """Steps to the neighbouring codes, what each changes by itself (inf if there is none), and non-zeros."""
    for i in range(len(codes)):
        entry, at = inputs[i], value_of(values, i, codes[i])
        for side in range(2):
            code = codes[i] + (2.0 * side - 1.0)
            changes[i, side] = np.inf
            if entry.low <= code <= entry.high:
                step = value_of(values, i, code) - at
                steps[i, side] = step
                changes[i, side] = step * (step * form[i, i] + gradient[i])
                more[i, side] = _non_zeros(entry, code) - _non_zeros(entry, codes[i])


@numba.njit(cache=True, nogil=True)
def _two_opt(form, values, inputs, room, codes, gradient, noise, floor):  # type: ignore[no-untyped-def]
    """Take the best move of two codes to neighbouring ones; whether there is one that gains."""
    n = len(codes)
    steps, changes, more = np.zeros((n, 2)), np.empty((n, 2)), np.zeros((n, 2), np.int64)
    _neighbours(form, values, inputs, codes, gradient, steps, changes, more)
    best, best_i, best_j, best_si, best_sj = floor, n, n, 0, 0
    for i in range(n):
        for si in range(2):
            if changes[i, si] == np.inf:
                continue
            for j in range(i):
                twice = 2.0 * steps[i, si] * form[i, j]
                for sj in range(2):
                    gain = -(changes[i, si] + changes[j, sj] + twice * steps[j, sj])
                    if (
                        gain > best
                        and gain > abs(steps[i, si]) * noise[i] + abs(steps[j, sj]) * noise[j]
                        and _both_fit(inputs, room, i, more[i, si], j, more[j, sj])
                    ):
                        best, best_i, best_j, best_si, best_sj = gain, i, j, si, sj
    if best_i == n:
        return False
    for i, side in ((best_i, best_si), (best_j, best_sj)):
        _move(form, values, inputs, room, codes, gradient, i, codes[i] + (2.0 * side - 1.0))
    return True


@numba.njit(cache=True, nogil=True)
def _swap(form, values, inputs, room, codes, gradient, noise, floor):  # type: ignore[no-untyped-def]
    """Set one weight to zero and another of its group to its best value; whether a move gains."""
    n = len(codes)
    best, best_i, best_j, best_code = floor, n, n, 0.0
    for i in range(n):
        if codes[i] == inputs[i].zero:
            continue
        step = -value_of(values, i, codes[i])
        own = step * (step * form[i, i] + gradient[i])
        for j in range(n):
            entry = inputs[j]
            if codes[j] != entry.zero or entry.group != inputs[i].group or form[j, j] <= 0.0:
                continue
            slope = gradient[j] + 2.0 * step * form[i, j]
            code = code_next_to(values, j, entry.low, entry.high, -slope / (2.0 * form[j, j]))
            value = value_of(values, j, code)
            gain = -(own + value * (value * form[j, j] + slope))
            if gain > best and gain > abs(step) * noise[i] + abs(value) * noise[j]:
                best, best_i, best_j, best_code = gain, i, j, code
    if best_i == n:
        return False
    _move(form, values, inputs, room, codes, gradient, best_i, inputs[best_i].zero)
    _move(form, values, inputs, room, codes, gradient, best_j, best_code)
    return True


@numba.njit(cache=True, nogil=True)
def _gradient(form, values, inputs, codes, gradient, noise):  # type: ignore[no-untyped-def]
    """Overwrite the gradient 2 P (x - c) and what rounding may add to its entries; returns the error."""
    n = len(codes)
    offset = np.empty(n)
    for j in range(n):
        offset[j] = value_of(values, j, codes[j]) - inputs[j].centre
    error = 0.0
    for i in range(n):
        total, size = 0.0, 0.0
        for j in range(n):
            term = form[i, j] * offset[j]
            total += term
            size += abs(term)
        gradient[i] = 2.0 * total
        noise[i] = 4.0 * (n + 8) * _UNIT * size
        error += total * offset[i]
    return error


@numba.njit(cache=True, nogil=True)
def descend(form, values, inputs, most, codes, moves):  # type: ignore[no-untyped-def]
    """Descend in place from `codes` (float64, feasible) by `moves` moves of one code at most.

    Returns the error (x-c)ᵀP(x-c), and whether no move is left that gains.
    """
    n = len(codes)
    gradient, noise = np.zeros(n), np.zeros(n)
    room = _room(inputs, most, codes)
    floor = _RELATIVE_GAIN * abs(_gradient(form, values, inputs, codes, gradient, noise))
    taken = _one_opt(form, values, inputs, room, codes, gradient, noise, floor, moves)
    return _gradient(form, values, inputs, codes, gradient, noise), taken < moves


@numba.njit(cache=True, nogil=True)
def descend_by_pairs(form, values, inputs, most, codes, moves):  # type: ignore[no-untyped-def]
    """:func:`descend`, and a move of two weights wherever it stops."""
    n = len(codes)
    gradient, noise = np.zeros(n), np.zeros(n)
    room = _room(inputs, most, codes)
    floor = _RELATIVE_GAIN * abs(_gradient(form, values, inputs, codes, gradient, noise))
    left, ended = moves, False
    while left > 0 and not ended:
        left -= _one_opt(form, values, inputs, room, codes, gradient, noise, floor, left)
        if left > 0:
            left -= 1
            ended = not _two_opt(form, values, inputs, room, codes, gradient, noise, floor)
            if most is not None and ended:
                ended = not _swap(form, values, inputs, room, codes, gradient, noise, floor)
    return _gradient(form, values, inputs, codes, gradient, noise), ended


@numba.njit(cache=True, nogil=True)
def _best_of_starts(form, values, inputs, most, starts, moves, best):  # type: ignore[no-untyped-def]
    """1-opt from each start; overwrites `best` by the best codes and returns their error and ended."""
    best_error, best_ended = np.inf, True
    for start in starts:
        codes = start.copy()
        error, ended = descend(form, values, inputs, most, codes, moves)
        if error < best_error:
            best_error, best_ended = error, ended
            best[:] = codes
    return best_error, best_ended


def best_of_starts(
    problem: CodeProblem,
    starts: NDArray[np.float64],
    budgets: Sequence[Budget] | None = None,
    *,
    pairs: bool,
    clock: Clock | None = None,
) -> NDArray[np.int64]:
    """Descend from each of some codes, and give back the best ones, shape (n,).

    Parameters
    ----------
    starts
        Codes that the problem allows, whole numbers, shape (K, n).
    budgets
        Those of the support rule; None where all weights may be non-zero.
    pairs
        Whether moves of two weights follow 1-opt.
    clock
        Ends the descents early: what they have reached by then counts, of the first start at least.
    """
    form, n = np.ascontiguousarray(problem.form), len(problem.centre)
    inputs, most = _inputs(problem, budgets)
    terms = (form, problem.grid.table, inputs, most)
    best, least = starts[0], np.inf
    at_once = 1 if pairs else max(1, int(_SLICE / (n * n)))
    for first in range(0, len(starts), at_once):
        if first > 0 and clock is not None and clock.expired:
            break
        lot = np.ascontiguousarray(starts[first : first + at_once])
        found = lot[0].copy()
        error, ended = _best_of_starts(*terms, lot, _MOVES * n, found)
        if pairs or not ended:
            error = _to_the_end(*terms, found, pairs, clock)
        if error < least:
            best, least = found, error
    return np.asarray(best.astype(np.int64))


def _inputs(
    problem: CodeProblem, budgets: Sequence[Budget] | None
) -> tuple[NDArray[np.void], NDArray[np.int64] | None]:
    """What compiled descents read of each input, and how many non-zeros each group may have."""
    inputs = np.zeros(len(problem.centre), _INPUT)
    inputs["centre"] = problem.centre
    for name in ("low", "high", "zero"):
        inputs[name] = getattr(problem.grid, name)
    if budgets is None:
        return inputs, None
    for number, (members, _) in enumerate(budgets):
        inputs["group"][members] = number
    return inputs, np.array([most for _, most in budgets], dtype=np.int64)


def _to_the_end(
    form: NDArray[np.float64],
    values: NDArray[np.float64] | None,
    inputs: NDArray[np.void],
    most: NDArray[np.int64] | None,
    codes: NDArray[np.float64],
    pairs: bool,
    clock: Clock | None,
) -> float:
    """Descend in place, lot by lot, while the error falls and there is time; returns the error."""
    n = len(codes)
    # a move of one code costs n multiplications, one of two codes about 4 n²
    descent = descend_by_pairs if pairs else descend
    moves = max(1, int(_SLICE / (4.0 * n * n))) if pairs else _MOVES * n
    error = np.inf
    for _ in range(max(1, _LOTS * _MOVES * n // moves)):
        before = error
        error, ended = descent(form, values, inputs, most, codes, moves)
        if ended or not error < before or (clock is not None and clock.expired):
            break
    return float(error)

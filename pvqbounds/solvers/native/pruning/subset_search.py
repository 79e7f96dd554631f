"""Exact pruning of one channel: which inputs to remove, by depth-first branch and bound.

The work is in :mod:`pvqbounds.solvers.native.pruning.subset_kernel`; what its floating-point costs
prove is in :mod:`pvqbounds.solvers.native.pruning.subset_factor`. A certificate is one number: a search
that ignores all sets with an error of at least that value ends and has met none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.heuristics.supports import good_set
from pvqbounds.problems import SparseLeastSquares, magnitude_support
from pvqbounds.relaxations.blocks import block_bound
from pvqbounds.relaxations.certificates import Certificate
from pvqbounds.relaxations.dual import dual_bound
from pvqbounds.results.history import Moment
from pvqbounds.solvers.base import ExactSolution
from pvqbounds.solvers.native.pruning.block_dual import block_path, block_seconds, takes_blocks
from pvqbounds.solvers.native.pruning.certificate import SubsetCertificate
from pvqbounds.solvers.native.pruning.forward_search import forward_search, has_few_supports, suits_forward
from pvqbounds.solvers.native.pruning.perspective_dual import maximise_perspective, path_fits
from pvqbounds.solvers.native.pruning.perspective_splitting import scaled_gram
from pvqbounds.solvers.native.pruning.subset_factor import SubsetFactor, subset_factor
from pvqbounds.solvers.native.pruning.subset_kernel import (
    DEPTH,
    DONE,
    FOUND,
    NODES,
    Stack,
    enumerate_sets,
    new_stack,
)
from pvqbounds.solvers.native.pruning.subset_multipliers import Multiplied, multiplied
from pvqbounds.solvers.native.pruning.supports import better_support, improved_support, supports_from_inverse

__all__ = ["good_support", "prove_sparse", "relaxed_sparse", "search_from", "search_sparse"]

WORK = 50_000_000
"""Multiplications between two looks at the clock: about 0.1 s."""

BRIEF_WORK = 1_000_000
"""Multiplications after which a search takes multipliers, where it need not make them: some 2 ms."""

LARGEST_STACK = 2**27
"""Entries of the rows of all depths above which no search is begun (1 GiB)."""

ELIMINATED_A_SECOND = 1e10
"""Speed of backward elimination, n³ operations, that is held against the time left."""

LARGEST_SINGULAR = 1152
"""Inputs up to which the supports of a singular Gram are looked for in its exact reduction."""

BLOCK_TOLERANCE = 1e-2
"""Least relative accuracy of the bound of blocks: a tenth of it is what it costs."""

BLOCK_SHARE = 0.3
"""Share of the time left that a path of blocks is expected to take at most, before claims rise from it."""

RISING_TOLERANCE = 1e-3
"""The same of the bound that claims rise from."""

LOSSLESS = 1e-12
"""Share of the signal that is nothing, as :func:`pvqbounds.results.bounds.status_of` has it."""

SINGULAR = (
    "the Gram is singular to working precision, so that re-fits of any size may lose next to nothing: "
    "0 is all that is proved"
)
"""Why a bound is 0."""

FEW = "more positions than inputs make it definite"
ALIKE = (
    "inputs {} are multiples of one another at every position, as constant ones are: count them as one, as "
    "in docs/limits.md"
)
"""What makes it definite."""

MULTIPLES = 1e-12
"""How far from 1 the correlation of inputs may be that are multiples of one another but for rounding."""

LISTED = 8
"""Inputs that a sentence names."""

LEAST_RISE, LARGEST_RISE = 1.03, 2.0
"""Ratios of one claim to the next where claims are proved one after the other: 0.13 dB to 3 dB."""

DEARER = 4.0
"""How many times the work of the last claim the next one is meant to take."""

FIRST_POWER = 6.0
"""Of a claim that the work rises with, as long as only one is proved."""

IN_TIME = 0.7
"""Share of the time left that the next claim is expected to take at most."""

CLOSE = 0.97
"""Share of the best error from which on no claim comes before that of the optimum."""


def search_sparse(problem: SparseLeastSquares, clock: Clock, persistent: bool = True) -> ExactSolution:
    """Find the best support and prove it, or return an interval when the time is up.

    A search that does not end at once proves larger and larger claims, from the perspective bound
    upwards; from the work of the last two follows how large the next one may be, and whether the whole
    search is expected to end in time.

    Parameters
    ----------
    problem
        Pruning of one channel, with a budget of either kind.
    clock
        Its time is all that may be taken.
    persistent
        Whether to search on until the time is up where the next claim is not expected to be proved in it.

    Returns
    -------
    ExactSolution
        `support`, a certified `bound` with its `certificate`, and `status`: "optimal", or "time
        limit", where the certificate may be a perspective one. Where the Gram is not proved
        definite the bound is 0, and the status says so.
    """
    if _entries(problem) > LARGEST_STACK and not has_few_supports(problem):
        return relaxed_sparse(problem, "time limit", clock=clock)
    factor = subset_factor(problem)
    removed = np.flatnonzero(good_set(factor.gram, factor.weight, factor.group, factor.need))
    return search_from(problem, factor, removed, clock, persistent)


def search_from(
    problem: SparseLeastSquares,
    factor: SubsetFactor,
    removed: NDArray[np.int64],
    clock: Clock,
    persistent: bool,
    shared: Callable[[], Multiplied | None] | None = None,
) -> ExactSolution:
    """:func:`search_sparse` from a set of removals that is known, on the problem's factor.

    Parameters
    ----------
    factor
        Of the problem, or of one that removes more: what it proves is proved by the problem's own.
    shared
        Gives multipliers of another budget, which help where a brief search does not end.
    """
    if factor.removals == 0:
        return _solution(factor, np.zeros(0, dtype=np.int64), 0.0, 0, "optimal")
    cost = _cost(factor, removed)
    if not factor.definite:
        return _singular(problem, factor, removed, cost, clock)
    if factor.proved(cost) == 0.0:  # nothing is lost, as far as float64 can tell
        return _solution(factor, removed, 0.0, 0, "optimal")
    best = cost * (1.0 + 1e-9)
    forward = forward_search(factor, best) if suits_forward(problem, factor) else None
    if forward is not None:
        removed = removed if forward.removed is None else forward.removed
        return _solution(factor, removed, factor.proved(forward.cost), forward.nodes, "optimal")
    if _entries(problem) > LARGEST_STACK:
        return relaxed_sparse(problem, "time limit", clock=clock)
    trials = [(None, WORK)] if shared is None else [(None, BRIEF_WORK), (shared, WORK)]
    for multipliers, work in trials:
        stack = _start(factor, best, None if multipliers is None else multipliers())
        ended = enumerate_sets(stack, factor.group, work) == DONE
        removed = stack.best_set.copy() if stack.state[FOUND] else removed
        best = float(stack.best[0])
        if ended:
            return _solution(factor, removed, factor.proved(best), int(stack.state[NODES]), "optimal")
    return _rising(problem, factor, removed, best, clock, persistent)


def _singular(
    problem: SparseLeastSquares,
    factor: SubsetFactor,
    removed: NDArray[np.int64],
    cost: float,
    clock: Clock,
) -> ExactSolution:
    """The best support that a search of the Gram with a ridge finds: it proves nothing about the Gram."""
    known = better_support(problem, [good_support(problem, clock), factor.support(removed)])
    if problem.error(problem.refit(known)).upper <= LOSSLESS * problem.signal.upper:
        return replace(_solution(factor, removed, 0.0, 0, "optimal"), support=known)
    stack = _start(factor, cost * (1.0 - 1e-9), None)
    _finish(stack, factor, clock)
    removed = stack.best_set.copy() if stack.state[FOUND] else removed
    best = better_support(problem, [factor.support(removed), known])
    why = f"{SINGULAR}; {_remedy(problem.gram)}"
    return replace(_solution(factor, removed, 0.0, int(stack.state[NODES]), why), support=best)


def _remedy(gram: NDArray[np.float64]) -> str:
    """What would make a Gram definite."""
    live = np.flatnonzero(np.diagonal(gram) > 0.0)
    powers = np.sqrt(np.diagonal(gram)[live])
    correlation = np.abs(gram[np.ix_(live, live)] / powers / powers[:, None])
    np.fill_diagonal(correlation, 0.0)
    alike = live[(correlation >= 1.0 - MULTIPLES).any(axis=1)].tolist()
    if not alike:
        return FEW
    more = f" and {len(alike) - LISTED} more" if len(alike) > LISTED else ""
    return ALIKE.format(", ".join(map(str, alike[:LISTED])) + more)


def _rising(
    problem: SparseLeastSquares,
    factor: SubsetFactor,
    removed: NDArray[np.int64],
    best: float,
    clock: Clock,
    persistent: bool,
) -> ExactSolution:
    """Prove rising claims up to the optimum, or as far as the time goes.

    Parameters
    ----------
    removed, best
        The best set known, and its cost.
    """
    certificate = _relaxed(problem, RISING_TOLERANCE, clock, blocks=True, share=BLOCK_SHARE)
    relaxed = certificate.prove(problem, clock)
    solution = _solution(factor, removed, 0.0, 0, "time limit")
    if relaxed > 0.0:
        solution = replace(solution, bound=relaxed, certificate=certificate)
    # the proof repeats them, so that they are found whole or not at all
    dual = multiplied(problem, factor) if path_fits(problem.n, clock) else None
    claims = _Claims(best, max(LEAST_RISE * min(factor.threshold(relaxed), best), 0.1 * best))
    history, visited = [_moment(problem, solution, relaxed, 0)], 0
    while not clock.expired:
        claim = claims.next(clock.remaining)
        if claim is None and not persistent:
            break
        threshold = best if claim is None else min(claim, best)
        started = clock.remaining
        stack = _start(factor, threshold, dual)
        _finish(stack, factor, clock)
        found = bool(stack.state[FOUND])
        nodes, cost = int(stack.state[NODES]), float(stack.best[0])
        visited += nodes
        if found and cost < best:
            removed, best = stack.best_set.copy(), cost
            solution = replace(solution, support=factor.support(removed))
        if not _done(stack):
            break
        if found or threshold >= best:
            solution = _solution(factor, removed, factor.proved(cost), nodes, "optimal")
            break
        value = factor.proved(threshold)
        if value > relaxed:
            solution = _solution(factor, removed, value, nodes, "time limit")
        history.append(_moment(problem, solution, max(value, relaxed), visited))
        claims.proved(threshold, started - clock.remaining)
    history.append(_moment(problem, solution, solution.bound or 0.0, visited))
    return replace(solution, history=tuple(history))


def _moment(problem: SparseLeastSquares, solution: ExactSolution, lower: float, nodes: int) -> Moment:
    """What is known now."""
    assert solution.support is not None
    upper = problem.error(problem.refit(solution.support)).upper
    return Moment(time.perf_counter(), nodes, lower, upper)


class _Claims:
    """How large the next claim should be: the logarithm of work rises about linearly with a claim's."""

    def __init__(self, best: float, first: float) -> None:
        self._best, self._first = best, first
        self._last: tuple[float, float] | None = None
        self._power: float | None = None

    def proved(self, claim: float, seconds: float) -> None:
        """Take in what the last claim took."""
        seconds = max(seconds, 1e-6)
        if self._last is not None:
            before, took = self._last
            self._power = max(math.log(seconds / took) / math.log(claim / before), 1.0)
        self._last = claim, seconds

    def next(self, seconds: float) -> float | None:
        """The next one: the whole error where that is not much more, None where none is expected in time."""
        if self._last is None:
            return self._first if self._first < CLOSE * self._best else self._best
        claim, took = self._last
        power = FIRST_POWER if self._power is None else self._power
        dearer = IN_TIME * seconds / took
        whole = (self._best / claim) ** power
        if whole <= dearer and (self._best * CLOSE <= claim or (self._power is not None and whole <= DEARER)):
            return self._best
        rise = max(dearer, 1e-9) ** (1.0 / power)
        if rise < LEAST_RISE:
            return None
        larger = claim * min(rise, DEARER ** (1.0 / power), LARGEST_RISE)
        return float(max(min(larger, CLOSE * self._best), LEAST_RISE * claim))


def prove_sparse(problem: SparseLeastSquares, certificate: SubsetCertificate, clock: Clock) -> bool:
    """Whether a search proves that no allowed weight has an error below ``certificate.value``.

    It takes about as long as the search that made the certificate, and depends on nothing but
    the problem and the certificate.
    """
    if certificate.radius != np.inf:
        return False  # a bound for some re-fits is none
    if not certificate.value > 0.0:
        return certificate.value <= 0.0  # E is a mean square
    too_deep = _entries(problem) > LARGEST_STACK
    if too_deep and not has_few_supports(problem):
        return False  # no search of ours made it
    factor = subset_factor(problem)
    if factor.removals == 0 or not factor.definite:
        return False
    threshold = factor.threshold(certificate.value)
    if not threshold < np.inf:
        return False
    forward = forward_search(factor, threshold) if suits_forward(problem, factor) else None
    if forward is not None:
        return forward.removed is None
    if too_deep:
        return False
    stack = _start(factor, threshold, None)
    if enumerate_sets(stack, factor.group, WORK) != DONE:
        dual = multiplied(problem, factor)
        stack = stack if dual is None else _start(factor, threshold, dual)
        _finish(stack, factor, clock)
    return _done(stack) and not stack.state[FOUND]


def relaxed_sparse(
    problem: SparseLeastSquares,
    status: str,
    tolerance: float = 1e-3,
    clock: Clock | None = None,
    *,
    blocks: bool = True,
) -> ExactSolution:
    """Bound a problem of any size by a relaxation, with a good support.

    Parameters
    ----------
    blocks
        Whether small groups may be taken as a whole; else it is the perspective relaxation.
    """
    if clock is not None and not path_fits(problem.n, clock):
        status = "the time limit is too short for the relaxation's own bound"
    # first: it takes little, and the path takes all the time that there is
    support = good_support(problem, None if clock is None else clock.part(0.5))
    certificate = _relaxed(problem, tolerance, clock, blocks=blocks)
    return ExactSolution(None, support, None, certificate, status)


def _relaxed(
    problem: SparseLeastSquares, tolerance: float, clock: Clock | None, *, blocks: bool, share: float = 1.0
) -> Certificate:
    """The perspective bound, or that of blocks where groups are small, there is time and it proves more.

    Parameters
    ----------
    share
        Of the time left, that a path of blocks may be expected to take.
    """
    found = None
    left = math.inf if clock is None else share * clock.remaining
    if blocks and takes_blocks(problem) and block_seconds(problem) < left:
        found = block_path(problem, max(tolerance, BLOCK_TOLERANCE), clock=clock)
    proved = -math.inf if found is None else block_bound(problem, found.certificate)
    if found is not None and found.solved and proved > (1.0 - BLOCK_TOLERANCE) * found.value:
        return found.certificate
    # a path of blocks that is cut short may prove less, or one whose proof rounds much
    plain = maximise_perspective(problem, tolerance=tolerance, clock=clock)
    return plain if found is None or proved <= dual_bound(problem, plain) else found.certificate


def good_support(problem: SparseLeastSquares, clock: Clock | None = None) -> NDArray[np.int64]:
    """Find a good support by backward elimination and exchanges, without a proof: sorted indices.

    It is never worse than magnitude pruning's, which is all there is where the clock leaves no more.
    """
    plain = magnitude_support(problem)
    if clock is not None and clock.remaining <= problem.n**3 / ELIMINATED_A_SECOND:
        return plain
    shared = scaled_gram(problem.gram)
    conditioned = shared.conditioned()
    candidates = [*supports_from_inverse(problem, conditioned, clock), plain]
    if shared.inverse is not None:
        return better_support(problem, candidates)
    candidates.append(improved_support(problem, conditioned, plain, clock))
    if problem.n <= LARGEST_SINGULAR and (clock is None or not clock.expired):
        # a singular Gram: the reduction finds inputs that act as one
        factor = subset_factor(problem)
        flags = good_set(factor.gram, factor.weight, factor.group, factor.need)
        candidates.insert(0, factor.support(np.flatnonzero(flags)))
    return better_support(problem, candidates)


def _entries(problem: SparseLeastSquares) -> int:
    """Entries of the rows of all depths of a search by removal."""
    return sum(len(inputs) - kept for inputs, kept in problem.budgets) * problem.n**2


def _start(factor: SubsetFactor, threshold: float, dual: Multiplied | None) -> Stack:
    """Begin a search for sets that cost less than `threshold`."""
    return new_stack(factor, threshold, dual)


def _finish(stack: Stack, factor: SubsetFactor, clock: Clock) -> None:
    """Search to the end, to the first look at the clock that says so, or to an interrupt."""
    while not _done(stack) and not clock.expired:
        enumerate_sets(stack, factor.group, WORK)


def _done(stack: Stack) -> bool:
    return bool(stack.state[DEPTH] < 0)


def _cost(factor: SubsetFactor, removed: NDArray[np.int64]) -> float:
    """What a set of removals costs."""
    y = np.linalg.lstsq(factor.rows[removed], factor.weight[removed], rcond=None)[0]
    return float(y @ y)


def _solution(
    factor: SubsetFactor, removed: NDArray[np.int64], value: float, nodes: int, status: str
) -> ExactSolution:
    return ExactSolution(
        codes=None,
        support=factor.support(removed),
        bound=value,
        certificate=SubsetCertificate(value=value, nodes=nodes),
        status=status,
    )

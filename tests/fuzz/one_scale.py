"""One scale for all channels of a layer: intervals against all codes of all channels at their best one."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.random import Generator

import pvqbounds as pvq
from pvqbounds import AnyScaleLeastSquares, InputError
from pvqbounds.clock import Clock
from pvqbounds.relaxations.certificates import Certificate
from pvqbounds.relaxations.layer_scales import LayerScales, range_of_layer, summed
from pvqbounds.relaxations.scales import first_gap, largest_value
from pvqbounds.solving.execution import Execution
from pvqbounds.solving.one_scale import OneScale, bound_one_scale, verify_one_scale
from pvqbounds.solving.options import SolveOptions

from . import tampering
from .case import Case, script_of
from .checks import Plan, attempt, check_bounds
from .families import draw, powers
from .grids import random_rule
from .multipliers import noise, random_dual
from .rational import (
    allowed,
    exact_error_of_codes,
    exact_signal,
    is_semidefinite,
    rounded_down,
    whole_numbers,
)
from .scales import BOXES

__all__ = ["Layer", "attack_one_scale", "check_one_scale", "one_scale"]

MOST = 700
"""Choices of codes of a channel that are enumerated; far more where there is one input."""

LONG = ((-128, 127), (0, 255), (-(2**15), 2**15 - 1), (60_000, 60_003), (-(2**31), 1 - 2**31))
"""Boxes of many codes, or of codes far away, for one input."""

Pair = tuple[Fraction, Fraction]
"""zᵀGw and zᵀGz of codes."""

IMPORTS = (
    "from pvqbounds.solving.execution import Execution\n"
    "from pvqbounds.solving.one_scale import bound_one_scale, verify_one_scale\n"
    "from pvqbounds.solving.options import SolveOptions\n"
)


# --------------------------------------------------------------------------- the truth


@dataclass(frozen=True, eq=False)
class Layer:
    """Channels, and what brute force knows of their codes."""

    problems: list[AnyScaleLeastSquares]
    signals: list[Fraction]
    fronts: list[list[Pair]]
    """Of each channel the pairs of the codes that are best at some scale."""
    whole: bool
    """Whether all Grams are positive semidefinite without any rounding, so that no error is below 0."""

    @classmethod
    def of(cls, problems: Sequence[AnyScaleLeastSquares]) -> Layer:
        """What brute force finds."""
        known = {id(p): _front(p) for p in dict.fromkeys(problems)}  # copies are one object
        grams = {id(p.gram): p.gram for p in problems}
        whole = all(is_semidefinite(gram) for gram in grams.values())
        signals, fronts = [exact_signal(p) for p in problems], [known[id(p)] for p in problems]
        return cls(list(problems), signals, fronts, whole)

    def error_at(self, channel: int, scale: Fraction) -> Fraction:
        """The least error of a channel at a scale, never below 0."""
        front = self.fronts[channel]

        def slope(i: int) -> Fraction:
            return (front[i + 1][1] - front[i][1]) / (front[i + 1][0] - front[i][0])

        product, square = front[bisect_left(range(len(front) - 1), 2 / scale, key=slope)]
        error = scale * scale * square - 2 * scale * product
        return max(self.signals[channel] + error, Fraction(0))

    def sum_at(self, scale: Fraction) -> Fraction:
        """The least summed error at a scale."""
        return sum((self.error_at(i, scale) for i in range(len(self.problems))), Fraction(0))

    @cached_property
    def truth(self) -> Fraction:
        """The infimum of the summed error over all scales and codes.

        Where a Gram is a hair indefinite it is no less than that: the error at some of the best scales.
        """
        signal = sum((max(own, Fraction(0)) for own in self.signals), Fraction(0))
        total: list[Pair] = [(Fraction(0), Fraction(0))]
        for front in self.fronts:
            total = _summed(total, front)
        found = [signal]  # scales next to zero
        useful = [(p, q) for p, q in total if p > 0]
        found += [self.sum_at(signal / p) for p, q in useful if q <= 0]
        gaining = sorted((p * p / q, p / q) for p, q in useful if q > 0)
        return min(found + [self.sum_at(scale) for _, scale in gaining[-1 if self.whole else -3 :]])


def _front(problem: AnyScaleLeastSquares) -> list[Pair]:
    """zᵀGw and zᵀGz of the codes that are best at some scale, both rising, from all that are allowed."""
    n, values = problem.n, problem.values
    entries, e = whole_numbers(problem.gram.ravel())
    G = [entries[i * n : (i + 1) * n] for i in range(n)]
    w, f = whole_numbers(problem.weight)
    target = [sum(g * x for g, x in zip(row, w, strict=True)) for row in G]
    found: set[tuple[int, int]] = set()
    for z in itertools.product(range(values.qmin, values.qmax + 1), repeat=n):
        if allowed(problem, z):
            product = sum(k * t for k, t in zip(z, target, strict=True))
            powers = (sum(g * b for g, b in zip(row, z, strict=True)) for row in G)
            found.add((product, sum(k * power for k, power in zip(z, powers, strict=True))))
    return [(Fraction(p, 2 ** (e + f)), Fraction(q, 2**e)) for p, q in _corners(found)]


def _corners(pairs: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pairs (p, q) that have the least q - t p for some t > 0, both rising."""
    kept: list[tuple[int, int]] = []
    for p, q in sorted(pairs, key=lambda own: (own[0], -own[1])):
        while kept and kept[-1][1] >= q:  # a larger product at no more power
            kept.pop()
        while len(kept) > 1 and not _bends(kept[-2], kept[-1], (p, q)):
            kept.pop()
        kept.append((p, q))
    return kept


def _bends(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> bool:
    """Whether b lies below the line from a to c."""
    return (b[0] - a[0]) * (c[1] - a[1]) > (b[1] - a[1]) * (c[0] - a[0])


def _summed(first: list[Pair], second: list[Pair]) -> list[Pair]:
    """The same of two channels together: their steps from corner to corner by rising slopes."""

    def steps(front: list[Pair]) -> list[Pair]:
        return [(c - a, d - b) for (a, b), (c, d) in itertools.pairwise(front)]

    found = [(first[0][0] + second[0][0], first[0][1] + second[0][1])]
    for p, q in sorted(steps(first) + steps(second), key=lambda step: step[1] / step[0]):
        found.append((found[-1][0] + p, found[-1][1] + q))
    return found


# --------------------------------------------------------------------------- the scenario


def one_scale(case: Case) -> None:
    """Some channels under one scale: what is stated, its relations, and what certificates cannot prove."""
    problems = _channels(case)
    if problems is None:
        return
    layer = Layer.of(problems)
    for _ in range(3):
        _attack_cover(case, layer)
    found = bound(case, problems)
    if found is None:
        return
    check_one_scale(case, layer, found)
    _hold_beside(case, layer, found)
    attack_one_scale(case, layer, found)


def _channels(case: Case) -> list[AnyScaleLeastSquares] | None:
    """Channels of one box on one or two Grams: of sizes up to 1e8 apart, zero, or copies of one another."""
    rng = case.rng
    box = BOXES[int(rng.integers(len(BOXES)))]
    most = int(math.log(MOST) / math.log(max(box[1] - box[0] + 1, 2)))
    n = int(rng.integers(1, min(most, 4) + 1))
    if rng.random() < 0.1:
        n, box = 1, LONG[int(rng.integers(len(LONG)))]
    rule = random_rule(rng, n) if box[0] <= 0 <= box[1] and rng.random() < 0.3 else {}
    problems = []
    try:
        for _ in range(int(rng.integers(1, 3))):
            drawn = draw(rng, n, one_step=True)
            gram = pvq.Gram(drawn.gram)
            for _ in range(int(rng.integers(1, 3))):
                size = 2.0 ** int(rng.integers(-27, 28)) if rng.random() < 0.3 else 1.0
                weight = drawn.weight * (0.0 if rng.random() < 0.1 else size) * rng.choice([-1.0, 1.0], n)
                problems.append(AnyScaleLeastSquares(gram, weight, *box, **rule))
    except InputError:
        case.count("refused at the door")
        return None
    return problems + problems[:1] if rng.random() < 0.3 else problems


def _script(problems: Sequence[AnyScaleLeastSquares]) -> str:
    built = [script_of(p, f"p{i}") for i, p in enumerate(problems)]
    return IMPORTS + "\n".join([*built, f"ps = [{', '.join(f'p{i}' for i in range(len(problems)))}]"])


CALL = "f = bound_one_scale(ps, SolveOptions(time_limit=1.0), Execution())"


def bound(case: Case, problems: Sequence[AnyScaleLeastSquares]) -> OneScale | None:
    """What is found, now and then under a limit that stops it early; None, and a fault, where nothing is."""
    limit = 1.0 if case.rng.random() < 0.8 else float(10.0 ** case.rng.uniform(-4.0, -0.5))
    case.script = _script(problems)
    call = CALL.replace("1.0", repr(limit))
    case.step(f"one scale: n = {problems[0].n}", limit * len(problems), call)
    found: OneScale | None = None
    with case.guarded("one scale", call, refusals=_apart(problems)):
        found = bound_one_scale(problems, SolveOptions(time_limit=limit), Execution())
    case.count("solves")
    return found


def _apart(problems: Sequence[AnyScaleLeastSquares]) -> bool:
    """Whether numbers are so far from ordinary ones that no common scale may be in float64's reach."""
    parts = [part for p in problems for part in (p.gram, p.weight) if part.any()]
    sizes = [float(np.abs(part).max()) for part in parts]
    return bool(sizes) and not 1e-60 < min(sizes) <= max(sizes) < 1e60


def check_one_scale(case: Case, layer: Layer, found: OneScale, factor: Fraction = Fraction(1)) -> None:
    """Both ends hold against brute force, the channels are at the scale, and all is proved again.

    Parameters
    ----------
    factor
        Of the errors of the problems, where `layer` is the same one in other units.
    """

    def fault(kind: str, text: str) -> None:
        case.fault(kind, "one scale", text, CALL)

    truth, lower, upper = factor * layer.truth, found.error_lower, found.error_upper
    ends = f"{lower!r} .. {upper!r} ({found.status}), least error {float(truth)!r}"
    case.count("results")
    if not (0.0 <= lower <= upper < math.inf):
        return fault("ends that are no interval", ends)
    if Fraction(lower) > truth:
        fault("false lower end (certified)", ends)
    if layer.whole and Fraction(upper) < truth:
        fault("upper end below the least error", ends)
    reached = Fraction(0)
    for i, (fixed, bounds) in enumerate(zip(found.problems, found.bounds, strict=True)):
        if (fixed.step != found.scale).any() or bounds.codes is None:
            fault("a channel at another scale", f"{fixed.step!r}, {found.scale!r}")
            continue
        reached += max(exact_error_of_codes(fixed, bounds.codes), Fraction(0))
        case.script = script_of(fixed)
        own = layer.error_at(i, Fraction(found.scale)) if factor == 1 else None
        check_bounds(case, fixed, bounds, own, "a channel at one scale")
    case.script = _script(layer.problems)
    if Fraction(upper) < reached:
        fault("upper end below the weights' own error", f"{ends}, exactly {float(reached)!r}")
    return None


def verified(case: Case, layer: Layer, found: OneScale, what: str, *, lie: bool) -> None:
    """Hold :func:`verify_one_scale` to its word."""
    call = f"{CALL}\nprint(verify_one_scale(ps, f))"
    case.step(f"verify one scale: {what}", 10.0 * len(layer.problems), call)
    holds = False
    with case.guarded(f"verify one scale: {what}", call, refusals=lie):
        holds = verify_one_scale(layer.problems, found, 60.0)
    case.count("lies told" if lie else "verified")
    ends = f"{found.error_lower!r} .. {[b.error_upper for b in found.bounds]!r}, {float(layer.truth)!r}"
    if lie and holds:
        case.fault("verify accepts a lie", f"one scale: {what}", ends, call)
    if not lie and not holds:
        case.fault("a result that does not verify", "one scale", f"{ends}; {found.status}", call)


# --------------------------------------------------------------------------- relations


def _hold_beside(case: Case, layer: Layer, found: OneScale) -> None:
    """Verified, and held against the layer written in another way, or against scales of their own."""
    verified(case, layer, found, "an honest result", lie=False)
    names = list(RELATIONS)
    name = names[int(case.rng.integers(len(names)))]
    RELATIONS[name](case, layer, found)
    case.count(f"relations: {name}")


def _each(case: Case, layer: Layer, found: OneScale) -> None:
    """A scale for each channel allows more: the sum of their lower ends is no more than what is reached."""
    total = Fraction(0)
    for problem in layer.problems:
        case.script = script_of(problem)
        bounds = attempt(case, problem, Plan(time_limit=1.0))
        total += Fraction(0) if bounds is None else Fraction(bounds.error_lower)
    case.script = _script(layer.problems)
    if total > Fraction(found.error_upper):
        text = f"each by itself at least {float(total)!r}, together {found.error_upper!r}"
        case.fault("contradiction of a larger set", "one scale", text, CALL)


def _units(case: Case, layer: Layer, found: OneScale) -> None:
    """In other units by powers of two."""
    a, b = powers(case.rng) if case.rng.random() < 0.2 else case.rng.integers(-60, 61, 2).tolist()
    grams = {id(p.shared): p.shared for p in layer.problems}
    try:
        moved = {key: pvq.Gram(np.ldexp(gram.matrix, a)) for key, gram in grams.items()}
        weights = [np.ldexp(p.weight, b) for p in layer.problems]
        others = [_posed(p, moved[id(p.shared)], w) for p, w in zip(layer.problems, weights, strict=True)]
    except InputError:
        return case.count("refused at the door")
    pairs = zip(layer.problems, others, strict=True)
    back = all(
        np.array_equal(np.ldexp(q.gram, -a), p.gram) and np.array_equal(np.ldexp(q.weight, -b), p.weight)
        for p, q in pairs
    )
    if not back:
        return case.count("not moved exactly")
    return _compare(case, layer, found, others, Fraction(2) ** (a + 2 * b), "other units")


def _order(case: Case, layer: Layer, found: OneScale) -> None:
    """The channels in another order, and so the inputs where no rule knows it."""
    rng, first = case.rng, layer.problems[0]
    order = rng.permutation(first.n) if first.pattern is None else np.arange(first.n)
    grams = {id(p.shared): pvq.Gram(p.gram[np.ix_(order, order)]) for p in layer.problems}
    others = [_posed(p, grams[id(p.shared)], p.weight[order]) for p in layer.problems]
    _compare(case, layer, found, [others[i] for i in rng.permutation(len(others))], Fraction(1), "an order")


def _twice(case: Case, layer: Layer, found: OneScale) -> None:
    """Every channel twice: twice the error."""
    _compare(case, layer, found, [*layer.problems, *layer.problems], Fraction(2), "each twice")


def _freer(case: Case, layer: Layer, found: OneScale) -> None:
    """One non-zero more, or one code more at either end, is never worse."""
    first = layer.problems[0]
    if first.nnz is not None and first.nnz < first.n:
        others = [_posed(p, p.shared, p.weight, nnz=first.nnz + 1) for p in layer.problems]
    elif first.values.qmax - first.values.qmin < 1000:  # more than 65536 codes are refused
        others = [_posed(p, p.shared, p.weight, wider=1) for p in layer.problems]
    else:
        return
    again = bound(case, others)
    if again is not None and again.error_lower > found.error_upper:
        text = f"the larger set has at least {again.error_lower!r}, the smaller one {found.error_upper!r}"
        case.fault("contradiction of a larger set", "one scale", text, CALL)


RELATIONS: dict[str, Callable[[Case, Layer, OneScale], None]] = {
    "a scale for each": _each,
    "other units": _units,
    "another order": _order,
    "each twice": _twice,
    "a larger set": _freer,
}
"""What else holds the same least error, a multiple of it, or no more."""


def _posed(
    problem: AnyScaleLeastSquares,
    gram: pvq.Gram,
    weight: np.ndarray,
    *,
    wider: int = 0,
    nnz: int | None = None,
) -> AnyScaleLeastSquares:
    """The problem with another Gram and weights, as many codes more, or another number of non-zeros."""
    box = max(problem.values.qmin - wider, -(2**31)), min(problem.values.qmax + wider, 2**31)
    if problem.pattern is not None:
        return AnyScaleLeastSquares(gram, weight, *box, pattern=problem.pattern, stride=problem.stride)
    return AnyScaleLeastSquares(gram, weight, *box, nnz=problem.nnz if nnz is None else nnz)


def _compare(
    case: Case,
    layer: Layer,
    found: OneScale,
    others: Sequence[AnyScaleLeastSquares],
    factor: Fraction,
    what: str,
) -> None:
    """The same least error times a factor: neither lower end lies above the other upper one."""
    again = bound(case, others)
    if again is None:
        return
    truth = factor * layer.truth
    ends = f"{found.error_lower!r} .. {found.error_upper!r}, times {float(factor)!r}: "
    ends += f"{again.error_lower!r} .. {again.error_upper!r}, least error {float(truth)!r}"
    if tampering.exceeds(again.error_lower, truth):
        case.fault("false lower end (certified)", f"one scale, {what}", ends, CALL)
    if layer.whole and Fraction(again.error_upper) < truth:
        case.fault("upper end below the least error", f"one scale, {what}", ends, CALL)
    lower, upper = factor * Fraction(found.error_lower), factor * Fraction(found.error_upper)
    if Fraction(again.error_lower) > upper or lower > Fraction(again.error_upper):
        case.fault(f"contradiction in {what}", "one scale", ends, CALL)


# --------------------------------------------------------------------------- lies


def attack_one_scale(case: Case, layer: Layer, found: OneScale, tries: int = 12) -> None:
    """Whatever certificates are put together, they prove no more than is true of every scale."""
    rng, truth = case.rng, layer.truth
    case.script = _script(layer.problems)
    signal = math.fsum(p.signal.upper for p in layer.problems)
    for number in range(tries):
        lie = tampering.lie_above(rng, truth, signal)
        honest = found.certificate
        made = _noise(rng, layer, found.scale, lie)
        if honest is not None and number % 3:
            made = _spoilt(rng, honest, lie)
        _prove(case, layer, made, lie)
        upper = [replace(b, error_upper=max(b.error_upper, lie)) for b in found.bounds]
        false = replace(found, error_lower=lie, certificate=made, bounds=upper)
        verified(case, layer, false, "a false lower end", lie=True)
    _spoil_upper(case, layer, found)


def _prove(case: Case, layer: Layer, certificate: LayerScales, lie: float) -> None:
    """What a certificate proves, held against the truth."""
    call = f"print(({tampering.shown(certificate)}).prove(ps, Clock(5.0)))"
    case.step("a proof for every scale from noise", 10.0, "")
    proved = 0.0
    with case.guarded("prove one scale", call, refusals=False), np.errstate(all="ignore"):
        proved = certificate.prove(layer.problems, Clock(5.0))
    case.count("proofs from noise")
    case.count("proofs from noise of more than 0", proved > 0.0)
    if tampering.exceeds(proved, layer.truth):
        text = f"{proved!r}, least error {float(layer.truth)!r}, lie {lie!r}"
        case.fault("a proof of what is false", "prove one scale", text, call)


def _noise(rng: Generator, layer: Layer, scale: float, lie: float) -> LayerScales:
    """Certificates of a few scales around the best one, whose bounds are what they prove, or more."""
    m, problems = int(rng.integers(1, 12)), layer.problems
    scales = np.unique(scale * np.exp(np.sort(rng.uniform(-1.5, 1.5, m))))
    scales = scales[(scales > 0.0) & np.isfinite(scales)]
    rows, bounds = [], []
    for own in scales.tolist():
        row: list[Certificate] = []
        proved = []
        for problem in problems:
            try:
                fixed = problem.at(own)
                row.append(random_dual(rng, fixed) if rng.random() < 0.8 else noise(rng, fixed, lie))
                proved.append(row[-1].prove(fixed, Clock(1.0)) if row[-1].fits(fixed) else 0.0)
            except InputError:  # a scale that leaves float64
                return LayerScales(np.ones(1), np.zeros((1, len(problems))), (), lie)
        rows.append(tuple(row))
        bounds.append([max(value, 0.0) for value in proved])
    stated = np.array(bounds) * float(rng.choice([1.0, 1.0, 1.0 + 1e-12, 1.01]))
    value = largest_value(scales, summed(stated), range_of_layer(problems))
    return LayerScales(scales, stated, tuple(rows), value if rng.random() < 0.7 else lie)


def _spoilt(rng: Generator, certificate: LayerScales, lie: float) -> LayerScales:
    """An honest certificate that claims more: by its value, its bounds, or proofs of others."""
    kind, m = int(rng.integers(6)), len(certificate.scales)
    made = replace(certificate, value=lie)
    if kind == 1:
        made = replace(made, bounds=made.bounds * (1.0 + 10.0 ** -rng.uniform(0.0, 15.0)))
    elif kind == 2:
        rows = tuple(tuple(row[i] for i in rng.permutation(len(row))) for row in made.proofs)
        made = replace(made, proofs=rows, value=certificate.value if rng.random() < 0.5 else lie)
    elif kind == 3:
        kept = np.flatnonzero(rng.random(m) < 0.6)
        rows = tuple(made.proofs[i] for i in kept)
        made = replace(made, scales=made.scales[kept], bounds=made.bounds[kept], proofs=rows)
    elif kind == 4:
        made = replace(made, scales=made.scales * float(rng.choice([0.5, 1.0 + 1e-9, 1.1, 2.0])))
    elif kind == 5:
        made = replace(made, scales=made.scales * (1.0 + rng.uniform(-0.2, 0.2, m)), value=certificate.value)
    return made


def _spoil_upper(case: Case, layer: Layer, found: OneScale) -> None:
    """An upper end below that of the codes, codes that are none, a scale that is not theirs."""
    rng, i = case.rng, int(case.rng.integers(len(found.bounds)))
    own = found.bounds[i]
    if own.codes is None:
        return
    lower = replace(found, error_lower=0.0)

    def with_bounds(**changes: object) -> OneScale:
        changed = [*found.bounds]
        changed[i] = replace(own, **changes)  # type: ignore[arg-type]
        return replace(lower, bounds=changed)

    reached = max(exact_error_of_codes(found.problems[i], own.codes), Fraction(0))
    for share in (0.5, 1.0 - 1e-9):
        upper = share * own.error_upper
        if Fraction(upper) < reached * (1 - Fraction(1, 10**11)):
            verified(case, layer, with_bounds(error_upper=upper), "a false upper end", lie=True)
    verified(case, layer, with_bounds(error_upper=math.nan), "an upper end that is none", lie=True)
    outside = own.codes.copy()
    outside[int(rng.integers(len(outside)))] = layer.problems[0].values.qmax + 1
    far = max(1e300, own.error_upper)
    verified(case, layer, with_bounds(codes=outside, error_upper=far), "codes outside the box", lie=True)
    other = replace(lower, scale=found.scale * 1.5)
    verified(case, layer, other, "another scale", lie=True)


# --------------------------------------------------------------------------- the cover of all scales


def _attack_cover(case: Case, layer: Layer) -> None:
    """Exact bounds at some scales, rounded down: what they are said to prove of every scale is true."""
    rng, truth = case.rng, layer.truth
    case.script = _script(layer.problems)
    within = range_of_layer(layer.problems)
    low, high = within.ends(0.0)
    middle = math.sqrt(low * high) if 0.0 < low <= high < math.inf else (low or 1.0)
    reach = max(math.log(high / middle), 1.0) if math.isfinite(high) and middle > 0.0 and high > 0 else 3.0
    m = int(rng.integers(1, 40))
    scales = np.unique(middle * np.exp(np.sort(rng.uniform(-1.2 * reach, 1.2 * reach, m))))
    scales = scales[(scales > 0.0) & np.isfinite(scales)]
    if not len(scales):
        return case.count("covers without scales")
    bounds = np.array([rounded_down(layer.sum_at(Fraction(s))) for s in scales.tolist()])
    call = f"print(largest_value({tampering.shown(scales)}, {tampering.shown(bounds)}, {within!r}))"
    case.step("a cover of all scales", 10.0, call)
    with case.guarded("largest_value", call, refusals=False):
        value = largest_value(scales, bounds, within)
        case.count("covers")
        case.count("covers of more than 0", value > 0.0)
        if tampering.exceeds(value, truth):
            text = f"{value!r}, least error {float(truth)!r}"
            case.fault("a proof of what is false", "largest_value", text, call)
        lie = tampering.lie_above(rng, truth, within.signal.upper)
        if first_gap(scales, bounds, within, lie) is None:
            text = f"no gap for {lie!r}, least error {float(truth)!r}"
            case.fault("a proof of what is false", "first_gap", text, call)
    return None

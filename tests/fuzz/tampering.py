"""Results and certificates that lie: none of them may be accepted, none may do anything but be refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.random import Generator

import pvqbounds as pvq
from pvqbounds import Bounds, IntegerLeastSquares, SparseLeastSquares
from pvqbounds.clock import Clock
from pvqbounds.errors import PvqError
from pvqbounds.problems import Problem
from pvqbounds.problems.code_grids import has_grid
from pvqbounds.relaxations.blocks import BlockCertificate
from pvqbounds.relaxations.cases import CasesCertificate
from pvqbounds.relaxations.certificates import Certificate, SearchedCertificate
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.relaxations.layer_dual import layer_dual_bound
from pvqbounds.relaxations.splits import Splits

from .case import Case
from .checks import Plan
from .formula import faults_of_a_form, faults_of_a_proof
from .multipliers import changed, noise, random_cases, random_dual, random_splits
from .problems import random_problem
from .rational import (
    Multiples,
    allowed,
    exact_error,
    exact_error_of_codes,
    exact_values,
    fractions,
    values_of,
)

__all__ = ["HOSTILE", "attack", "attack_layer", "attack_with_noise", "lie_above", "spoilt_array"]

Stating = DualCertificate | CasesCertificate | BlockCertificate
"""Multipliers that state a bound of their own."""

HOSTILE: tuple[Any, ...] = (
    None, True, "x", "1.0", b"x", math.nan, math.inf, -math.inf, 10**400, -(10**400), -1, 0, 1, 0.5, 1e308,
    -1e308, 5e-324, 2**62, 2**63, -(2**63), [], [1.0], {}, (), 1j, Fraction(1, 3), object(), np.zeros(0),
    np.array("x"), np.array([[1.0]]), np.float32(0.5), np.array(0.5), np.int8(3), range(3),
)  # fmt: skip
"""What may stand where a number, an array or a text is wanted."""

TYPES = (
    np.float32, np.float16, np.longdouble, np.int64, np.int8, np.uint8, np.bool_, np.complex128, np.object_,
    ">f8", np.str_,
)  # fmt: skip


def lie_above(rng: Generator, truth: Fraction, signal: float) -> float:
    """A float64 above the least error, by a hair or by far."""
    at = float(truth)
    while Fraction(at) <= truth:
        at = math.nextafter(at, math.inf)
    far = max(at, signal if math.isfinite(signal) else at)
    lies = (at, at * (1.0 + 1e-9), at * 1.01, at * 1.5, at * 61.0, far, 2.0 * far, at + 1e-3 * far, 1e300)
    lie = float(lies[int(rng.integers(len(lies)))])
    return lie if math.isfinite(lie) and Fraction(lie) > truth else at


def spoilt_array(rng: Generator, array: np.ndarray) -> Any:
    """The array with something about it changed: type, shape, order, or some of its numbers."""
    kind = int(rng.integers(10))
    if kind == 0:
        with np.errstate(all="ignore"):
            try:
                return array.astype(TYPES[int(rng.integers(len(TYPES)))])
            except (TypeError, ValueError, OverflowError):
                return array.astype(object)
    if kind == 1:
        shapes: tuple[Callable[[np.ndarray], Any], ...] = (
            lambda a: a[:-1] if a.ndim else a[None],
            lambda a: a[None],
            lambda a: a[..., None],
            lambda a: np.concatenate([a, a]) if a.ndim else a[None],
            lambda a: a.ravel()[:1].reshape(()) if a.size else a,
            lambda a: a.T,
            lambda a: np.broadcast_to(a.ravel()[:1], a.shape) if a.ndim and a.size else a,
        )
        return shapes[int(rng.integers(len(shapes)))](array)
    if kind == 2:
        return array.tolist()
    if array.size == 0:
        return np.zeros((1, *array.shape[1:]), array.dtype)
    changed = np.array(array, copy=True)
    at = int(rng.integers(changed.size))
    values: Sequence[float]
    if kind == 3:
        values = (math.nan, math.inf, -math.inf, 1e308, -1e308, 1e154, 5e-324, 0.0, -1.0, 2.0**62, 127.0)
        with np.errstate(all="ignore"):
            changed.flat[at] = np.float64(values[int(rng.integers(len(values)))]).astype(changed.dtype)
        return changed
    if kind == 4 and changed.dtype.kind in "fiub":  # halves where whole numbers are wanted
        return changed + 0.5
    factor = float(rng.choice([0.0, -1.0, 1.0 + 1e-12, 1.01, 2.0, 1e-3, 1e3, 1e100, 1e-100, 1e300]))
    if changed.dtype.kind not in "fiu":
        return changed[::-1] if changed.ndim else changed[None]
    with np.errstate(all="ignore"):
        if kind < 7:
            changed.flat[at] = np.float64(float(changed.flat[at]) * factor).astype(changed.dtype)
            return changed
        return (changed * factor).astype(changed.dtype)


# --------------------------------------------------------------------------- results in memory


def attack(
    case: Case, problem: Problem, truth: Fraction, bounds: Bounds, plan: Plan, tries: int = 40
) -> None:
    """Tampered versions of a result: whatever claims more than the truth is refused."""
    rng, signal = case.rng, problem.signal.upper
    for _ in range(tries):
        lie = lie_above(rng, truth, signal)
        certificate = spoilt_certificate(case, problem, bounds.certificate, lie)
        false = replace(
            bounds,
            error_lower=lie,
            error_upper=max(bounds.error_upper, lie),
            lower_kind="certified",
            status="bounded",
            certificate=certificate,
        )
        must_refuse(case, problem, truth, false, f"a false {_kind(certificate)}")
    for _ in range(tries // 2):
        spoilt_result(case, problem, bounds, truth)


def _kind(certificate: Any) -> str:
    return getattr(type(certificate), "kind", type(certificate).__name__)


def must_refuse(
    case: Case, problem: Problem, truth: Fraction, bounds: Bounds, place: str, *, lie: bool | None = None
) -> None:
    """Hold :func:`pvqbounds.verify` to its word on a result that claims too much.

    Parameters
    ----------
    lie
        Whether it does; None where the lower end alone says so.
    """
    call = f"print(pvq.verify(p, {shown(bounds)}))"
    case.step(f"verify {place}: n = {problem.n}", 5.0, call)
    lie = exceeds(bounds.error_lower, truth) if lie is None else lie
    with case.guarded(f"verify {place}", call):
        outcome = pvq.verify(problem, bounds, time_limit=5.0)
        if outcome and lie:
            text = f"stated {bounds.error_lower!r} .. {bounds.error_upper!r}, least error {float(truth)!r}"
            case.fault("verify accepts a lie", place, text, call)
        if exceeds(outcome.error_lower, truth):
            text = f"{outcome.error_lower!r}, least error {float(truth)!r}"
            case.fault("verify proves what is false", place, text, call)
    case.count("lies told" if lie else "truths told oddly")


def exceeds(value: Any, truth: Fraction) -> bool:
    """Whether a number is above the truth; what is no number counts as if it were."""
    if not isinstance(value, bool | int | float | Fraction | np.number) or isinstance(value, complex):
        return True
    if isinstance(value, int | Fraction):
        return value > truth
    number = float(value)
    return not number <= 0.0 and not (math.isfinite(number) and Fraction(number) <= truth)


def shown(value: Any) -> str:
    """Python for a result or a certificate, as far as it has a form."""
    if isinstance(value, np.ndarray):
        with np.printoptions(threshold=10**6, floatmode="unique"):
            return f"np.array({value.tolist()!r}, dtype={str(value.dtype)!r})"
    if hasattr(value, "__dataclass_fields__"):
        inner = ", ".join(f"{f.name}={shown(getattr(value, f.name))}" for f in fields(value))
        return f"{type(value).__name__}({inner})"
    return repr(value)


def spoilt_result(case: Case, problem: Problem, bounds: Bounds, truth: Fraction) -> None:
    """A result whose weights, upper end or types are not what they should be is refused."""
    rng, kind = case.rng, int(case.rng.integers(4))
    if kind == 0:
        achieved = achieved_error(problem, bounds)
        upper = float(rng.choice([0.0, 0.5, 1.0 - 1e-6, 1.0 - 1e-10])) * bounds.error_upper
        false = replace(bounds, error_lower=0.0, error_upper=upper)
        lie = Fraction(upper) < achieved * (1 - Fraction(1, 10**11))
        return must_refuse(case, problem, truth, false, "a false upper end", lie=lie)
    if kind == 1:
        far = beyond(rng, problem, replace(bounds, error_upper=max(1e300, bounds.error_upper)))
        return far and must_refuse(case, problem, truth, far, "weights that are not allowed", lie=True)
    lie_at = lie_above(rng, truth, problem.signal.upper)
    names = ["error_lower", "error_upper", "lower_kind", "certificate", "weight"]
    names += ["codes"] if problem.values.is_finite else ["support"]
    name = names[int(rng.integers(len(names)))]
    old = getattr(bounds, name)
    hostile = HOSTILE[int(rng.integers(len(HOSTILE)))]
    changes: dict[str, Any] = {
        "error_lower": lie_at,
        "error_upper": max(lie_at, bounds.error_upper),
        "lower_kind": "certified",
        "certificate": None,
        name: spoilt_array(rng, old) if isinstance(old, np.ndarray) and rng.random() < 0.7 else hostile,
    }
    return must_refuse(case, problem, truth, replace(bounds, **changes), f"a spoilt {name}")


def beyond(rng: Generator, problem: Problem, bounds: Bounds) -> Bounds | None:
    """The result with a code that stands for no value, or with more non-zeros than are allowed."""
    if not problem.values.is_finite:
        full = np.where(bounds.weight != 0.0, bounds.weight, 1.0)
        if allowed(problem, full):
            return None
        return replace(bounds, support=np.arange(problem.n), weight=full)
    assert bounds.codes is not None
    codes, lists = bounds.codes.copy(), values_of(problem)
    first = [values.low if isinstance(values, Multiples) else 0 for values in lists]
    if rng.random() < 0.5:
        at = int(rng.integers(problem.n))
        codes[at] = first[at] - 1 if rng.random() < 0.5 else first[at] + len(lists[at])
        return replace(bounds, codes=codes)
    for i, values in enumerate(lists):  # an end that is not 0, where there is one
        at = 0 if values[0] != 0 else len(values) - 1
        codes[i] = first[i] + at
    exact = exact_values(problem, codes.tolist())
    assert exact is not None
    if allowed(problem, exact):
        return None
    weight = np.array([float(value) for value in exact])
    return replace(bounds, codes=codes, weight=weight, support=np.flatnonzero(weight))


def achieved_error(problem: Problem, bounds: Bounds) -> Fraction:
    """The exact error of the weights of an honest result."""
    if problem.values.is_finite:
        assert bounds.codes is not None
        return exact_error_of_codes(problem, bounds.codes)
    return exact_error(problem.gram, problem.weight, fractions(bounds.weight))


# --------------------------------------------------------------------------- certificates


def spoilt_certificate(case: Case, problem: Problem, certificate: Certificate | None, lie: float) -> Any:
    """A certificate for the value `lie`: changed in one or two places, of another kind, or made of noise."""
    rng = case.rng
    kind = int(rng.integers(9))
    if certificate is None or kind == 0:
        return noise(rng, problem, lie)
    if kind == 8:
        return foreign(case, problem, lie)
    if kind == 1:
        return HOSTILE[int(rng.integers(len(HOSTILE)))]
    if kind == 2:
        return of_another_kind(rng, problem, lie)
    changes: dict[str, Any] = {}
    if isinstance(certificate, SearchedCertificate):
        changes["value"] = lie
    names = [field.name for field in fields(certificate)]
    for _ in range(int(rng.integers(0, 3))):
        name = names[int(rng.integers(len(names)))]
        old = getattr(certificate, name)
        if rng.random() < 0.3:
            changes[name] = HOSTILE[int(rng.integers(len(HOSTILE)))]
        elif isinstance(old, np.ndarray):
            changes[name] = spoilt_array(rng, old)
        elif isinstance(old, Splits):
            changes[name] = spoilt_splits(rng, problem, old)
        elif name == "radius":
            changes[name] = float(rng.choice([0.0, -1.0, 1e-300, 1e-8, 1.0, 1e300, math.inf, math.nan]))
        elif name == "nodes":
            changes[name] = int(rng.choice([-1, 0, 1, 2**31, 2**62]))
    return replace(certificate, **changes)


def of_another_kind(rng: Generator, problem: Problem, lie: float) -> Certificate:
    """Noise about the same inputs with other values: splits where there are none, supports."""
    largest = float(np.abs(problem.weight).max()) or 1.0
    step = 2.0 ** int(np.clip(np.frexp(largest)[1] - int(rng.integers(4)), -500, 500))
    others: list[Problem] = []
    try:
        others.append(IntegerLeastSquares(problem.shared, problem.weight, step, -8, 7))
        others.append(SparseLeastSquares(problem.shared, problem.weight, nnz=0))
    except PvqError:
        pass
    return noise(rng, others[int(rng.integers(len(others)))] if others else problem, lie)


def foreign(case: Case, problem: Problem, lie: float) -> Any:
    """The certificate of another problem of as many inputs, with its own value or the lie's."""
    rng = case.rng
    other = random_problem(case, problem.n)
    if other is None:
        return None
    try:
        method = "relax" if rng.random() < 0.5 else "auto"
        certificate = pvq.solve(other[0], method=method, time_limit=1.0).certificate
    except (PvqError, ArithmeticError, ValueError):
        return None
    if isinstance(certificate, SearchedCertificate) and rng.random() < 0.7:
        return replace(certificate, value=lie)  # type: ignore[call-arg]
    return certificate


def spoilt_splits(rng: Generator, problem: Problem, splits: Splits) -> Any:
    """Split inequalities that are none, or that say too much."""
    if not has_grid(problem.values):
        return splits
    made = splits if len(splits) > 0 and rng.random() < 0.6 else random_splits(rng, problem, 1.0)
    names = [field.name for field in fields(made)]
    name = names[int(rng.integers(len(names)))]
    old = getattr(made, name)
    new = HOSTILE[int(rng.integers(len(HOSTILE)))] if rng.random() < 0.2 else spoilt_array(rng, old)
    return replace(made, **{name: new})


def spoilt_cases(rng: Generator, certificate: CasesCertificate) -> CasesCertificate:
    """Another certificate of the same shape: cuts, directions, multipliers or a claim are moved."""
    cover, cases = certificate.cover, list(certificate.cases)
    number, kind = int(rng.integers(len(cases))), int(rng.integers(5))
    case, size = cases[number], 10.0 ** -rng.uniform(0.0, 15.0)
    with np.errstate(all="ignore"):
        if kind == 0:
            cover = replace(cover, cut=cover.cut * (1.0 + size * rng.standard_normal(len(cover.cut))))
        elif kind == 1:
            moved = cover.direction + size * rng.standard_normal(cover.direction.shape)
            cover = replace(cover, direction=moved)
        elif kind == 2:
            case = replace(case, chord=case.chord * rng.uniform(0.0, 10.0), push=case.push * (1.0 + size))
        elif kind == 3:
            case = replace(case, proof=replace(case.proof, lam=case.proof.lam * (1.0 + size)))  # type: ignore[call-arg]
        else:
            case = replace(case, proof=cases[int(rng.integers(len(cases)))].proof)
    cases[number] = case
    value = certificate.value * float(rng.choice([1.0, 1.0, 1.0 + size, 2.0]))
    return CasesCertificate(cover, tuple(cases), value if np.isfinite(value) else 0.0)


def attack_with_noise(case: Case, problem: Problem, truth: Fraction, tries: int = 60) -> None:
    """Whatever the multipliers, what they prove is true; a search is never believed above the truth.

    Some of the tries climb: of multipliers a little beside the best ones so far, those are kept that
    prove more, so that what is proved comes near to the truth.
    """
    rng, signal = case.rng, problem.signal.upper
    best, proved_best = random_dual(rng, problem), -math.inf
    for number in range(tries):
        lie = lie_above(rng, truth, signal)
        if number % 3 == 2:
            certificate: Certificate = changed(rng, problem, best)
        else:
            certificate = noise(rng, problem, lie)
        proved = prove(case, problem, certificate, truth, lie)
        if isinstance(certificate, DualCertificate) and proved >= proved_best:
            best, proved_best = certificate, proved
        if isinstance(certificate, DualCertificate) and number % 4 == 0:
            look_inside(case, problem, certificate)


def prove(case: Case, problem: Problem, certificate: Certificate, truth: Fraction, lie: float) -> float:
    """What a certificate proves, held against the truth; a search that is believed proves its lie."""
    searched = certificate.searched
    place = f"prove {_kind(certificate)}"

    def call() -> str:
        return f"c = {shown(certificate)}\nprint(c.fits(p) and c.prove(p, Clock(5.0)))"

    case.step(f"a proof from noise: n = {problem.n}", 5.0)
    proved = -math.inf
    with case.guarded(place, call, refusals=False):
        if certificate.fits(problem):
            proved = certificate.prove(problem, Clock(5.0))
        stating = isinstance(certificate, Stating) and not searched
        if stating and case.rng.random() < 0.2:  # a search is believed by whoever made it
            proved = max(proved, claimed(case, problem, certificate))
    case.count("searches from noise" if searched else "proofs from noise")
    if proved > 0.0 and not searched:
        case.count("proofs from noise of more than 0")
    if exceeds(proved, truth):
        text = f"{proved!r}, least error {float(truth)!r}, lie {lie!r}"
        case.fault("a proof of what is false", place, text, call())
    return proved


def claimed(case: Case, problem: Problem, certificate: Stating) -> float:
    """What is stated from multipliers, which those that it comes with prove again."""
    steady, stated = certificate.claim(problem)
    again = steady.prove(problem, Clock(5.0)) if steady.fits(problem) else 0.0
    if stated > 0.0 and again < stated:
        call = f"c = {shown(certificate)}\ns, stated = c.claim(p)\nprint(stated, s.prove(p, Clock(5.0)))"
        text = f"claims {stated!r}, proves {again!r}"
        case.fault("a claim that its own certificate does not prove", "claim", text, call)
    return stated


def look_inside(case: Case, problem: Problem, certificate: DualCertificate) -> None:
    """The parts of a proof, held against what they stand for without rounding."""

    def call() -> str:
        return f"c = {shown(certificate)}\nprint(faults_of_a_proof(p, c))"

    case.step(f"the parts of a proof: n = {problem.n}", 20.0)
    found: list[str] = []
    with case.guarded("the parts of a proof", call, refusals=False):
        if len(certificate.splits) == 0:
            found = faults_of_a_proof(problem, certificate)
        elif certificate.fits(problem):
            low, high = problem.values.code_ends
            found = faults_of_a_form(problem, certificate, case.rng.integers(low, high + 1))
        case.count("proofs looked into")
    for text in found:
        case.fault("a proof that is wrong inside", "dual", text, call())


def attack_layer(
    case: Case,
    problems: Sequence[Problem],
    nnz: int,
    truth: Fraction,
    certificates: Sequence[Certificate | None],
    tries: int = 10,
    *,
    apart: bool = False,
) -> None:
    """Whatever the multipliers of channels and of their cases, what they prove of one budget is true.

    Parameters
    ----------
    apart
        Whether numbers of channels may have no unit in common, which may be refused.
    """
    rng = case.rng
    for _ in range(tries):
        tampered: list[Certificate] = []
        for problem, certificate in zip(problems, certificates, strict=True):
            made = certificate
            if rng.random() < 0.2:
                made = random_cases(rng, problem, 0.0)
            elif isinstance(made, CasesCertificate):
                made = spoilt_cases(rng, made)
            elif not isinstance(made, DualCertificate) or rng.random() < 0.3:
                made = random_dual(rng, problem)
            elif rng.random() < 0.5:
                with np.errstate(all="ignore"):
                    factor = float(rng.choice([0.5, 2.0, -1.0, 1e150, 1e308]))
                    made = replace(made, nu=made.nu * factor)
            tampered.append(made)
        case.step("a proof for a layer from noise", 5.0)
        call = f"print(layer_dual_bound({len(problems)} problems, {nnz}))"
        proved = 0.0
        with case.guarded("layer_dual_bound", call, refusals=apart):
            proved = layer_dual_bound(problems, tampered, nnz)
        case.count("proofs from noise")
        if exceeds(proved, truth):
            text = f"{proved!r}, least error {float(truth)!r}: {[shown(c) for c in tampered]}"
            case.fault("a proof of what is false", "layer_dual_bound", text, call)

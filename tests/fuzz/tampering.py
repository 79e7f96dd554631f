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
from pvqbounds.errors import PvqError
from pvqbounds.relaxations.certificates import Certificate
from pvqbounds.relaxations.dual import DualCertificate, dual_bound
from pvqbounds.relaxations.layer_dual import layer_dual_bound
from pvqbounds.relaxations.splits import Splits
from pvqbounds.solvers.native.pruning.certificate import SubsetCertificate
from pvqbounds.solvers.native.quantization.certificate import SearchCertificate

from .case import Case, Problem
from .checks import Plan
from .rational import (
    exact_error,
    exact_error_of_codes,
    fractions,
    least_codes_error,
    least_sparse_error,
)

__all__ = ["HOSTILE", "attack", "attack_layer", "attack_with_noise", "lie_above", "spoilt_array", "truth_of"]

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


def truth_of(problem: Problem) -> Fraction | None:
    """The least error; None where that takes too long."""
    if isinstance(problem, IntegerLeastSquares):
        return least_codes_error(problem, 6000)
    return least_sparse_error(problem)


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
        certificate = spoilt_certificate(rng, problem, bounds.certificate, lie)
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
        far = replace(bounds, error_upper=max(1e300, bounds.error_upper))
        at = int(rng.integers(problem.n))
        if isinstance(problem, IntegerLeastSquares):
            assert bounds.codes is not None
            codes = bounds.codes.copy()
            codes[at] = problem.qmax + 1 if rng.random() < 0.5 else problem.qmin - 1
            far = replace(far, codes=codes, weight=problem.scale * codes.astype(np.float64))
        else:
            if all(kept == len(group) for group, kept in problem.budgets):
                return None  # all is allowed
            full = np.where(bounds.weight != 0.0, bounds.weight, 1.0)
            far = replace(far, support=np.arange(problem.n), weight=full)
        return must_refuse(case, problem, truth, far, "weights that are not allowed", lie=True)
    lie_at = lie_above(rng, truth, problem.signal.upper)
    names = ["error_lower", "error_upper", "lower_kind", "certificate", "weight"]
    names += ["codes"] if isinstance(problem, IntegerLeastSquares) else ["support"]
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


def achieved_error(problem: Problem, bounds: Bounds) -> Fraction:
    """The exact error of the weights of an honest result."""
    if isinstance(problem, IntegerLeastSquares):
        assert bounds.codes is not None
        return exact_error_of_codes(problem, bounds.codes)
    return exact_error(problem.gram, problem.weight, fractions(bounds.weight))


# --------------------------------------------------------------------------- certificates


def spoilt_certificate(rng: Generator, problem: Problem, certificate: Certificate | None, lie: float) -> Any:
    """A certificate for the value `lie`: changed in one or two places, of another kind, or made of noise."""
    kind = int(rng.integers(9))
    if certificate is None or kind == 0:
        return noise(rng, problem, lie)
    if kind == 8:
        return foreign(rng, problem, lie)
    if kind == 1:
        return HOSTILE[int(rng.integers(len(HOSTILE)))]
    if kind == 2:  # a kind that the problem does not have
        other: Problem = (
            SparseLeastSquares(problem.gram, problem.weight, nnz=0)
            if isinstance(problem, IntegerLeastSquares)
            else IntegerLeastSquares(np.eye(problem.n), np.zeros(problem.n), 1.0, 0, 1)
        )
        return noise(rng, other, lie)
    changes: dict[str, Any] = {}
    if isinstance(certificate, SearchCertificate | SubsetCertificate):
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


def foreign(rng: Generator, problem: Problem, lie: float) -> Any:
    """The certificate of another problem of as many inputs, with its own value or the lie's."""
    X = rng.standard_normal((problem.n + 2, problem.n))
    gram, weight = float(rng.choice([1.0, 100.0])) * X.T @ X, 3.0 * rng.standard_normal(problem.n)
    try:
        other: Problem = SparseLeastSquares(gram, weight, nnz=0)
        if isinstance(problem, IntegerLeastSquares):
            other = IntegerLeastSquares(gram, weight, problem.scale, problem.qmin, problem.qmax)
        method = "relax" if rng.random() < 0.5 else "auto"
        certificate = pvq.solve(other, method=method, time_limit=1.0).certificate
    except (PvqError, ArithmeticError, ValueError):
        return None
    if isinstance(certificate, SearchCertificate | SubsetCertificate) and rng.random() < 0.7:
        return replace(certificate, value=lie)
    return certificate


def spoilt_splits(rng: Generator, problem: Problem, splits: Splits) -> Any:
    """Split inequalities that are none, or that say too much."""
    if not isinstance(problem, IntegerLeastSquares):
        return splits
    made = splits if len(splits) > 0 and rng.random() < 0.6 else random_splits(rng, problem, 1.0)
    names = [field.name for field in fields(made)]
    name = names[int(rng.integers(len(names)))]
    old = getattr(made, name)
    new = HOSTILE[int(rng.integers(len(HOSTILE)))] if rng.random() < 0.2 else spoilt_array(rng, old)
    return replace(made, **{name: new})


def random_splits(rng: Generator, problem: IntegerLeastSquares, unit: float) -> Splits:
    """True inequalities about random sums of codes, with random multipliers in units of the Gram."""
    m = int(rng.integers(1, 5))
    index = rng.integers(0, problem.n, (m, 3)).astype(np.int32)
    sign = rng.integers(-1, 2, (m, 3)).astype(np.int8)
    near = (sign * problem.weight[index]).sum(axis=1) / problem.scale
    low = np.floor(np.clip(near, -(2.0**40), 2.0**40) + rng.integers(-2, 3, m)).astype(np.int64)
    multiplier = unit * 10.0 ** rng.uniform(-4.0, 1.0, m)
    return Splits(index, sign, low, np.where(np.isfinite(multiplier), multiplier, 0.0))


def noise(rng: Generator, problem: Problem, lie: float) -> Certificate:
    """A certificate of the right kind and type, made of random numbers."""
    gram, n = problem.gram, problem.n
    diagonal = np.diagonal(gram)
    with np.errstate(all="ignore"):
        if rng.random() < 0.7:
            lam = diagonal * rng.uniform(-0.5, 1.0) * rng.uniform(0.0, 1.0, n)
        else:
            lam = rng.standard_normal(n) * 10.0 ** rng.uniform(-20, 20)
        smallest = float(np.linalg.eigvalsh(gram)[0]) if rng.random() < 0.5 else 0.0
        lam = np.minimum(lam, smallest) if rng.random() < 0.4 else lam
        step = (
            problem.scale if isinstance(problem, IntegerLeastSquares) else float(np.abs(problem.weight).max())
        )
        nu = lam * step * rng.standard_normal(n) * 10.0 ** rng.uniform(-3.0, 1.5)
        if rng.random() < 0.1:
            nu = rng.standard_normal(n) * 10.0 ** rng.uniform(-300, 300)
        lam = np.where(np.isfinite(lam), lam, 0.0)
        nu = np.where(np.isfinite(nu), nu, 0.0)
    if isinstance(problem, SparseLeastSquares):
        if rng.random() < 0.4:
            radius = float(rng.choice([0.0, -1.0, 1e-8, 1.0, 1e8, math.inf]))
            return SubsetCertificate(lie, int(rng.integers(0, 100)), radius)
        return DualCertificate(lam, nu)
    kept = random_splits(rng, problem, float(diagonal.max(initial=0.0)))
    parts = {"splits": kept} if rng.random() < 0.5 else {}
    if rng.random() < 0.4:
        return SearchCertificate(lam, nu, lie, int(rng.integers(0, 100)), **parts)
    return DualCertificate(lam, nu, **parts)


def attack_with_noise(case: Case, problem: Problem, truth: Fraction, tries: int = 60) -> None:
    """Whatever the multipliers, what they prove is true; a search is never believed above the truth."""
    rng, signal = case.rng, problem.signal.upper
    for _ in range(tries):
        lie = lie_above(rng, truth, signal)
        certificate = noise(rng, problem, lie)
        place = "dual_bound" if isinstance(certificate, DualCertificate) else f"prove {_kind(certificate)}"
        call = f"print({place}(p, {shown(certificate)}))"
        case.step(f"a proof from noise: n = {problem.n}", 5.0, call)
        proved = -math.inf
        with case.guarded(place, call, refusals=False):
            if isinstance(certificate, DualCertificate):
                proved = dual_bound(problem, certificate)
            else:
                proved = lie if prove(problem, certificate) else 0.0
        case.count("proofs from noise")
        if exceeds(proved, truth):
            case.fault("a proof of what is false", place, f"{proved!r}, least error {float(truth)!r}", call)


def prove(problem: Problem, certificate: Certificate) -> bool:
    """Whether a search certificate is believed."""
    from pvqbounds.clock import Clock
    from pvqbounds.solvers.native.pruning.subset_search import prove_sparse
    from pvqbounds.solvers.native.quantization.integer_search import prove as prove_codes

    clock = Clock(5.0)
    if isinstance(problem, IntegerLeastSquares) and isinstance(certificate, SearchCertificate):
        return bool(prove_codes(problem, certificate, clock))
    if isinstance(problem, SparseLeastSquares) and isinstance(certificate, SubsetCertificate):
        return bool(prove_sparse(problem, certificate, clock))
    return False


def attack_layer(
    case: Case,
    problems: Sequence[SparseLeastSquares],
    nnz: int,
    truth: Fraction,
    certificates: Sequence[Certificate | None],
    tries: int = 10,
) -> None:
    """Whatever the multipliers of the channels, what they prove of one budget for the layer is true."""
    rng = case.rng
    for _ in range(tries):
        tampered = []
        for problem, certificate in zip(problems, certificates, strict=True):
            made = certificate
            if not isinstance(made, DualCertificate) or rng.random() < 0.3:
                made = noise(rng, problem, 1.0)
                while not isinstance(made, DualCertificate):
                    made = noise(rng, problem, 1.0)
            elif rng.random() < 0.5:
                with np.errstate(all="ignore"):
                    factor = float(rng.choice([0.5, 2.0, -1.0, 1e150, 1e308]))
                    made = replace(made, nu=made.nu * factor)
            tampered.append(made)
        case.step("a proof for a layer from noise", 5.0)
        call = f"print(layer_dual_bound({len(problems)} problems, {nnz}))"
        proved = 0.0
        with case.guarded("layer_dual_bound", call, refusals=False):
            proved = layer_dual_bound(problems, tampered, nnz)
        case.count("proofs from noise")
        if exceeds(proved, truth):
            text = f"{proved!r}, least error {float(truth)!r}: {[shown(c) for c in tampered]}"
            case.fault("a proof of what is false", "layer_dual_bound", text, call)

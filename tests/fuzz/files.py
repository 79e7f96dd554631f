"""Result files, honest and tampered: honest ones hold, and no lie about a lower end is accepted."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

import pvqbounds as pvq
from pvqbounds import AnyScaleLeastSquares, Bounds, InputError, IntegerLeastSquares, SparseLeastSquares
from pvqbounds.errors import PvqError
from pvqbounds.problems import Problem
from pvqbounds.problems.formats import Format, density_format, int_format, parse
from pvqbounds.problems.grids import symmetric_codes
from pvqbounds.problems.sparse import magnitude_support, nnz_of_density
from pvqbounds.problems.supports import AtMost
from pvqbounds.results.curve import BudgetCurve
from pvqbounds.results.layer import LayerReport, SharedBudget, SharedScale, Side, SliceResult
from pvqbounds.solving.execution import Execution
from pvqbounds.solving.layer_budget import solve_layer_budget
from pvqbounds.solving.one import weak_bounds
from pvqbounds.solving.one_scale import bound_one_scale
from pvqbounds.solving.options import SolveOptions
from pvqbounds.solving.verified_files import Finding, verify_file
from pvqbounds.storage.results_read import read_record
from pvqbounds.storage.results_written import write_curve, write_layer, write_problem

from .case import Case, script_of
from .checks import attempt, plans_for
from .families import draw
from .one_scale import Layer
from .problems import random_problem, small
from .rational import least_layer_error, least_sparse_errors, truth_of
from .tampering import lie_above, spoilt_array, spoilt_certificate

__all__ = ["attack", "spoilt_bytes"]

NUMBERS: tuple[Any, ...] = (
    None, True, False, "", "x", "optimal", "certified", "native", 0, 1, -1, 2, -5, 2**31, 2**53, 2**63,
    -(2**63), 10**25, 10**400, 0.0, -0.0, 0.5, 1e-300, 1e300, 1.7976931348623157e308, math.nan, math.inf,
    -math.inf, [], [0], [1, 2], [[]], {}, {"kind": "integer search"}, "\ud800", "é" * 3, "../../etc/passwd",
)  # fmt: skip
"""What may stand anywhere in a JSON file."""


def attack(case: Case) -> None:
    """Write one result, verify it, and tamper with what was written."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        kind = case.rng.random()
        written = (_layer if kind < 0.4 else _curve if kind < 0.5 else _problem)(case, path)
        if not written:
            return
        verdict = _verified(case, path, "an honest file", refusals=False)
        if verdict is not None and not _accepted(verdict):
            faults = [f"{finding.where}: {finding.text}" for finding in verdict if not finding.holds]
            case.fault("an honest file is not accepted", "verify_file", "; ".join(faults)[:400])
        text, content = path.read_bytes(), path.with_suffix(".npz").read_bytes()
        for _ in range(30):
            path.write_bytes(text)
            path.with_suffix(".npz").write_bytes(content)
            what = _tamper(case.rng, path)
            case.count("files tampered with")
            verdict = _verified(case, path, what)
            if verdict is not None and _accepted(verdict):
                _check_accepted(case, path, what)


def _accepted(findings: Sequence[Finding]) -> bool:
    return all(finding.holds for finding in findings)


def _verified(case: Case, path: Path, what: str, *, refusals: bool = True) -> list[Finding] | None:
    case.step(f"verify_file: {what}", 10.0)
    findings = None
    with case.guarded(f"verify_file: {what}", refusals=refusals):
        findings = verify_file(path, time_limit=5.0)
    return findings


def _check_accepted(case: Case, path: Path, what: str) -> None:
    """A file that is accepted states no lower end above the least error of the problem that it holds."""
    case.count("tampered files accepted")
    twice: list[str] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            twice.append(", ".join(name for name, _ in pairs))
        return dict(pairs)

    document = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)
    if twice:
        return case.fault("a file with a name given twice is accepted", what, twice[0])
    try:
        result = read_record(path).result
    except PvqError as error:
        return case.fault("a file that is accepted cannot be read", what, str(error))
    if isinstance(result, SliceResult):
        pairs = [(document["result"], result)]
    elif isinstance(result, BudgetCurve):
        pairs = [*zip(document["budgets"], result.entries, strict=True)]
    else:
        pairs = [
            (entry, one)
            for stated, side in zip(document["sides"], result.sides, strict=True)
            for entry, one in zip(stated["per_channel"], side.slices, strict=True)
        ]
        for side in result.sides:
            if side.one_scale is not None:
                _check_one_scale(case, side, what)
            if (shared := side.shared) is None:
                continue
            problems = [s.problem for s in side.slices if isinstance(s.problem, SparseLeastSquares)]
            truth = least_layer_error([least_sparse_errors(p) for p in problems], shared.nnz)
            if Fraction(shared.error_lower) > truth:
                text = f"{shared.error_lower!r}, least error of the layer {float(truth)!r}"
                case.fault("a false file is accepted", what, text)
    for entry, one in pairs:
        known = truth_of(one.problem)
        stated = float(entry["error_lower"])
        if known is None or one.bounds.lower_kind != "certified":
            continue
        if Fraction(stated) > known:
            case.script = script_of(one.problem)
            text = f"{stated!r}, but the least error is {float(known)!r}; {json.dumps(entry)[:400]}"
            case.fault("a false file is accepted", what, text)
    return None


def _check_one_scale(case: Case, side: Side, what: str) -> None:
    """A side that is accepted states no more of every scale than is true."""
    coded = [own.problem for own in side.slices if isinstance(own.problem, IntegerLeastSquares)]
    free = [AnyScaleLeastSquares(p.shared, p.weight, int(p.low[0]), int(p.high[0])) for p in coded]
    truth = Layer.of(free).truth
    if not Fraction(side.error_lower) <= truth:
        text = f"{side.error_lower!r}, least error at any scale {float(truth)!r}"
        case.fault("a false file is accepted", what, text)


# --------------------------------------------------------------------------- honest files


def _problem(case: Case, path: Path) -> bool:
    known = small(case)
    if known is None or known.problem.n > 6:
        return False
    case.script = script_of(known.problem)
    plans = plans_for(known.problem)
    bounds: Bounds | None
    if case.rng.random() < 0.1:
        bounds = weak_bounds(known.problem, "native", "native failed on this channel")
    else:
        bounds = attempt(case, known.problem, plans[int(case.rng.integers(len(plans)))])
    if bounds is None:
        return False
    if known.truth is not None and case.rng.random() < 0.4:
        return _lie(case, path, known.problem, known.truth, bounds)
    return _write(case, lambda: write_problem(_slice(known.problem, bounds), "p.npz", path))


def _curve(case: Case, path: Path) -> bool:
    """The curve of a small channel."""
    found = random_problem(case, int(case.rng.integers(1, 5)), ("joint", "sparse")[int(case.rng.integers(2))])
    if found is None:
        return False
    problem = found[0].under(AtMost(0))
    case.script = script_of(problem)
    case.step("a curve", 5.0)
    curve: BudgetCurve | None = None
    with case.guarded("a curve", refusals=False):
        curve = BudgetCurve.of(problem, pvq.budget_curve(problem, time_limit=5.0))
    if curve is None:
        return False
    made = curve
    return _write(case, lambda: write_curve(made, "p.npz", path))


def _lie(case: Case, path: Path, problem: Problem, truth: Fraction, bounds: Bounds) -> bool:
    """A file that is consistent in all but that its lower end is false."""
    lie = lie_above(case.rng, truth, problem.signal.upper)
    for _ in range(20):
        certificate = spoilt_certificate(case, problem, bounds.certificate, lie)
        false = replace(
            bounds, error_lower=lie, error_upper=max(lie, bounds.error_upper), certificate=certificate
        )
        try:
            write_problem(_slice(problem, false), "p.npz", path)
        except Exception:  # what cannot be written does no harm
            continue
        verdict = _verified(case, path, "a lie that was written")
        case.count("lies written")
        if verdict is not None and _accepted(verdict):
            _check_accepted(case, path, "a lie that was written")
    return False


def _slice(problem: Problem, bounds: Bounds, channel: int = 0) -> SliceResult:
    return SliceResult(channel, (0, problem.n), problem, bounds)


def _write(case: Case, write: Callable[[], None]) -> bool:
    case.step("write a result", 10.0)
    written = False
    with case.guarded("write a result", refusals=False):
        write()
        written = True
    return written


def _layer(case: Case, path: Path) -> bool:
    """Both sides of a small layer, with one budget for it or one for each channel."""
    rng = case.rng
    n, channels, bits = int(rng.integers(1, 5)), int(rng.integers(1, 4)), int(rng.integers(2, 4))
    density = float(rng.choice([0.25, 0.5, 0.75]))
    qmin, qmax = symmetric_codes(bits)
    try:
        drawn = draw(rng, n, one_step=True)
        gram = pvq.Gram(drawn.gram)
        weights = [drawn.weight * rng.choice([-1.0, 1.0, 0.5], n) for _ in range(channels)]
        coded = [IntegerLeastSquares(gram, w, drawn.scale, qmin, qmax) for w in weights]
        sparse = [SparseLeastSquares(gram, w, nnz=nnz_of_density(density, n)) for w in weights]
    except InputError:
        case.count("refused at the door")
        return False
    scripts = [script_of(p, f"q{i}") for i, p in enumerate(coded)]
    case.script = "\n".join([*scripts, *(script_of(p, f"p{i}") for i, p in enumerate(sparse))])
    shared = report = None
    case.step("solve a layer", 20.0)
    with case.guarded("solve a layer", refusals=False):
        found = pvq.solve_channels(coded, time_limit=5.0)
        if rng.random() < 0.5:
            nnz = nnz_of_density(density, n * channels)
            sparse, kept, lower = solve_layer_budget(sparse, nnz, time_limit=5.0)
            shared = SharedBudget(nnz, lower)
        else:
            kept = pvq.solve_channels(sparse, time_limit=5.0)
        report = LayerReport(
            model="fuzz", layer="layer", description="a layer", protocol="full", inputs=n,
            channels=(channels, channels), positions=n, range_method="mse",
            sides=(
                _side(int_format(bits), coded, found, channels),
                _side(density_format(density), sparse, kept, channels, shared),
            ),
            seconds=0.0,
        )  # fmt: skip
        if rng.random() < 0.5:
            report = replace(report, sides=(*report.sides, *_sides_of_formats(rng, gram, weights)))
    if report is None:
        return False
    layer = report
    return _write(case, lambda: write_layer(layer, path))


FORMATS = (
    "nf4:b2",
    "nvfp4",
    "mxfp4",
    "int3:g2:asym",
    "1:2+int3:g2",
    "2:4+nf4:b4",
    "50%+int4",
    "1:2",
    "int2:tensor:any",
)
"""Formats of sides beside the plain ones."""


def _sides_of_formats(rng: Generator, gram: pvq.Gram, weights: Sequence[np.ndarray]) -> list[Side]:
    """Sides of one or two formats; none where one has no grid for these weights."""
    sides = []
    for at in rng.permutation(len(FORMATS))[: int(rng.integers(1, 3))]:
        form, shared = parse(FORMATS[at]), None
        try:
            problems: Sequence[Problem] = form.problems(gram, np.array(weights))
            if form.one_scale:
                free = [p for p in problems if isinstance(p, AnyScaleLeastSquares)]
                found = bound_one_scale(free, SolveOptions(time_limit=1.0), Execution())
                problems, bounds = found.problems, found.bounds
                shared = SharedScale(found.scale, found.error_lower, found.certificate)
            else:
                bounds = pvq.solve_channels(problems, time_limit=5.0)
        except PvqError:
            continue
        slices = tuple(_slice(p, b, i) for i, (p, b) in enumerate(zip(problems, bounds, strict=True)))
        starts = [p.start() for p in problems]
        points = tuple(one.weight if one.codes is None else one.codes for one in starts)
        size = form.size(problems, (len(weights), gram.n))
        sides.append(Side(form.name, size, slices, {"start": points}, one_scale=shared))
    return sides


def _side(
    form: Format,
    problems: Sequence[Problem],
    bounds: Sequence[Bounds],
    channels: int,
    shared: SharedBudget | None = None,
) -> Side:
    points = tuple(
        p.codes_of_nearest()
        if isinstance(p, IntegerLeastSquares)
        else np.where(np.isin(np.arange(p.n), magnitude_support(p)), p.weight, 0.0)
        for p in problems
    )
    slices = tuple(_slice(p, b, i) for i, (p, b) in enumerate(zip(problems, bounds, strict=True)))
    n = problems[0].n
    name = "rtn" if form.task == "quantization" else "magnitude"
    return Side(form.name, form.size(problems, (channels, n)), slices, {name: points}, shared)


# --------------------------------------------------------------------------- tampering


def _tamper(rng: Generator, path: Path) -> str:
    """Change the two files in one way; gives the way's name."""
    arrays_path = path.with_suffix(".npz")
    kind = int(rng.integers(7))
    if kind == 0:
        path.write_bytes(spoilt_bytes(rng, path.read_bytes()))
        return "bytes of the JSON"
    if kind == 1:
        arrays_path.write_bytes(spoilt_bytes(rng, arrays_path.read_bytes()))
        _sign(path, arrays_path)
        return "bytes of the arrays"
    if kind == 2:
        names = ("solver", "status", "error_lower", "kind", "schema", "nodes", "value", "nnz")
        name, value = _picked(rng, names)
        text = path.read_text(encoding="utf-8")
        spots = [i for i in range(len(text)) if text.startswith("{\n", i)]
        at = spots[int(rng.integers(len(spots)))] + 1
        path.write_text(f'{text[:at]}"{name}": {json.dumps(value)},{text[at:]}', encoding="utf-8")
        return "a name added to the JSON"
    if kind <= 4:
        document = json.loads(path.read_text(encoding="utf-8"))
        for _ in range(int(rng.integers(1, 3))):
            _spoil(rng, document)
        path.write_text(json.dumps(document), encoding="utf-8")
        return "values of the JSON"
    with np.load(arrays_path) as stored:
        arrays: dict[str, Any] = dict(stored)
    name = list(arrays)[int(rng.integers(len(arrays)))]
    if rng.random() < 0.1:
        del arrays[name]
    elif rng.random() < 0.1:
        arrays[f"{name}0"] = arrays[name]
    else:
        arrays[name] = np.asarray(spoilt_array(rng, arrays[name]))
    np.savez(arrays_path, **arrays)
    _sign(path, arrays_path)
    return "values of the arrays"


def _sign(path: Path, arrays_path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    document["arrays"]["sha256"] = hashlib.sha256(arrays_path.read_bytes()).hexdigest()
    path.write_text(json.dumps(document), encoding="utf-8")


def _picked(rng: Generator, names: Sequence[str]) -> tuple[str, Any]:
    values = [v for v in NUMBERS if not isinstance(v, str) or "\ud800" not in v]
    return names[int(rng.integers(len(names)))], values[int(rng.integers(len(values)))]


def spoilt_bytes(rng: Generator, content: bytes) -> bytes:
    """A file cut short, or with some of its bytes changed, added or taken out."""
    kind, at = int(rng.integers(4)), int(rng.integers(len(content)))
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + bytes([int(rng.integers(256))]) + content[at + 1 :]
    if kind == 2:
        return content[:at] + rng.bytes(int(rng.integers(1, 9))) + content[at:]
    end = min(len(content), at + int(rng.integers(1, 40)))
    return content[:at] + content[end:]


def _spoil(rng: Generator, document: Any) -> None:
    """Change, remove or add one thing somewhere in a document of JSON."""
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in pairs:
            places.append((node, key))
            collect(value)

    collect(document)
    node, key = places[int(rng.integers(len(places)))]
    old, kind = node[key], int(rng.integers(6))
    if kind == 0 and isinstance(node, dict):
        del node[key]
    elif kind <= 2 and isinstance(old, int | float) and not isinstance(old, bool):
        factor = float(rng.choice([1.0 + 1e-9, 1.5, 2.0, 0.5, -1.0, 0.0, 1e10, 1e300]))
        new = float(min(max(old, -(10**300)), 10**300)) * factor
        node[key] = type(old)(new) if math.isfinite(new) and abs(new) < 1e18 else 10**400
    else:
        node[key] = deepcopy(NUMBERS[int(rng.integers(len(NUMBERS)))])  # a list may be tampered with next

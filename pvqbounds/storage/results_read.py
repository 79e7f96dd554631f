"""Results read back from disk, believing as little of the file as possible.

Of the JSON only what cannot be derived is used: what the problems are, the two ends of each
interval and what proves them. Statuses, labels, sums, SQNR and the verdict are derived afresh
from that and from the arrays; :mod:`pvqbounds.solving.verified_files` holds the file against them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError
from pvqbounds.problems import IntegerLeastSquares, Problem
from pvqbounds.problems.formats import MASKS, Format, parse
from pvqbounds.problems.quadratic import attach_objective
from pvqbounds.relaxations.certificates import Certificate
from pvqbounds.results.bounds import Bounds, LowerKind, status_of
from pvqbounds.results.compressed import AS_STORED, Compressed
from pvqbounds.results.curve import BudgetCurve
from pvqbounds.results.estimate import Estimate
from pvqbounds.results.held_out import HeldOut
from pvqbounds.results.history import Moment, closes_on
from pvqbounds.results.layer import LayerReport, SharedBudget, SharedScale, Side, SliceResult
from pvqbounds.results.sampling import SMALLEST_SAMPLE, estimate_of
from pvqbounds.storage.archive import parse_arrays, parse_json, read_bytes
from pvqbounds.storage.certificates import read_certificate, read_layer_scales
from pvqbounds.storage.nodes import Arrays, Document, GramPool, Node, StoredArrays
from pvqbounds.storage.results_first import (
    FIRST_LAYER_SCHEMA,
    FIRST_SIDES,
    first_document,
    first_format,
    with_todays_kinds,
)
from pvqbounds.storage.results_written import (
    CURVE_SCHEMA,
    LAYER_SCHEMA,
    PROBLEM_SCHEMA,
    curve_document,
    layer_document,
    problem_document,
)
from pvqbounds.storage.stored_kinds import KINDS

__all__ = ["Record", "read_layer", "read_record"]

LARGEST_JSON = 2**28
"""Bytes."""
LONGEST_NAME = 255
"""Characters: no file system has room for more."""

PROTOCOLS: Mapping[str, Literal["full", "chunked"]] = {"full": "full", "chunked": "chunked"}


@dataclass(frozen=True, eq=False)
class Record:
    """A result on disk: the file's own words, and the result that its data stand for."""

    document: Document
    result: LayerReport | SliceResult | BudgetCurve

    @property
    def first(self) -> bool:
        """Whether it is of a layer, in the words of version 0.1.0."""
        return bool(self.document["schema"] == FIRST_LAYER_SCHEMA)

    @property
    def sides(self) -> tuple[str, ...]:
        """What the file calls the sides of a layer."""
        if not isinstance(self.result, LayerReport):
            return ()
        return FIRST_SIDES if self.first else tuple(f"sides[{i}]" for i in range(len(self.result.sides)))

    @property
    def derived(self) -> Document:
        """What the file ought to say."""
        if isinstance(self.result, SliceResult):
            return problem_document(self.result, self.document["source"])[0]
        if isinstance(self.result, BudgetCurve):
            return curve_document(self.result, self.document["source"])[0]
        document = layer_document(self.result)[0]
        if not self.first:
            return document
        return first_document(document, tuple(side.form for side in self.result.sides))


def read_layer(path: str | Path, pool: GramPool | None = None) -> LayerReport:
    """Read the result of a layer; nothing in it is verified yet.

    Parameters
    ----------
    pool
        Grams of other files, to be shared by what is read here.

    Raises
    ------
    InputError
        If a file is missing, damaged or no result of a layer.
    """
    result = read_record(path, pool).result
    if not isinstance(result, LayerReport):
        raise InputError(f"{path} holds the result of one problem, not of a layer.")
    return result


def read_record(path: str | Path, pool: GramPool | None = None) -> Record:
    """Read the result of a layer or of one problem from its JSON file and the `.npz` beside it.

    Parameters
    ----------
    pool
        Grams of other files, to be shared by what is read here.

    Raises
    ------
    InputError
        If a file is missing, damaged or no result, or if the arrays are not those that the JSON
        names (by SHA-256).
    """
    path = Path(path)
    node = Node(parse_json(read_bytes(path, LARGEST_JSON), path), "", path)
    schema = node.text("schema", (LAYER_SCHEMA, FIRST_LAYER_SCHEMA, PROBLEM_SCHEMA, CURVE_SCHEMA))
    arrays = StoredArrays(_arrays_of(node.node("arrays"), path), path, pool)
    try:
        result: LayerReport | SliceResult | BudgetCurve
        result = ALONE[schema](node, arrays) if schema in ALONE else _layer(node, arrays, schema)
    except (ArithmeticError, np.linalg.LinAlgError) as error:
        raise InputError(f"{path} holds numbers at which arithmetic breaks down ({error}).") from error
    except MemoryError as error:
        raise InputError(f"What {path} holds does not fit into memory.") from error
    arrays.check_all_used()
    return Record(with_todays_kinds(dict(node.values)), result)


def _arrays_of(node: Node, path: Path) -> Arrays:
    name = node.text("file")
    if Path(name).name != name or len(name) > LONGEST_NAME:
        node.fail("file", "the name of a file in the same folder", name)
    beside = path.parent / name
    content = read_bytes(beside)
    if hashlib.sha256(content).hexdigest() != node.text("sha256"):
        raise InputError(f"{beside} is not the file that {path} was written with (its SHA-256 differs).")
    return parse_arrays(content, beside)


def _layer(node: Node, arrays: StoredArrays, schema: str) -> LayerReport:
    channels, inputs = (node.count("channels"), node.count("channels_in_layer")), node.count("inputs")
    shape = channels[1], inputs
    if schema == FIRST_LAYER_SCHEMA:
        nodes = [node.node(task) for task in FIRST_SIDES]
        formats = [first_format(side, task) for side, task in zip(nodes, FIRST_SIDES, strict=True)]
        sides = [
            _side(side, form, task, arrays, shape)
            for side, form, task in zip(nodes, formats, FIRST_SIDES, strict=True)
        ]
    else:
        nodes = node.nodes("sides")
        origins = [_compressed(side) for side in nodes]
        formats = [
            parse(side.text("format")) if origin is None else origin.form
            for side, origin in zip(nodes, origins, strict=True)
        ]
        sides = [
            _side(side, form, f"sides/{i}", arrays, shape, origin)
            for i, (side, form, origin) in enumerate(zip(nodes, formats, origins, strict=True))
        ]
    places = [[(s.channel, s.inputs) for s in side.slices] for side in sides]
    if any(place != places[0] for place in places) or len(set(places[0])) != len(places[0]):
        node.fail("per_channel", "the same channels and inputs on all sides, each once", "others")
    return LayerReport(
        model=node.text("model"),
        layer=node.text("layer"),
        description=node.text("description"),
        protocol=PROTOCOLS[node.text("protocol", tuple(PROTOCOLS))],
        inputs=inputs,
        channels=channels,
        positions=node.count("positions"),
        range_method=node.text("range"),
        sides=tuple(sides),
        seconds=node.number("seconds"),
        notes=node.optional("notes", node.texts) or (),
        held_out=node.optional("held_out", lambda name: _held_out(node.node(name))),
    )


def _held_out(node: Node) -> HeldOut:
    """What solutions reached on other data: only read, as the data are not in the files."""
    errors = tuple(
        {name: side.node(name).number("error") for name in side.values} for side in node.nodes("sides")
    )
    return HeldOut(node.count("positions"), node.number("signal"), errors)


def _problem(node: Node, arrays: StoredArrays) -> SliceResult:
    node.text("source")
    task = node.text("task", tuple(KINDS))
    entry = node.node("result")
    result = _results([entry], entry, task, task, arrays)[0]
    if entry.values.get("objective") is not None:
        _attach_objective(result.problem, entry, arrays)
    return result


def _curve(node: Node, arrays: StoredArrays) -> BudgetCurve:
    node.text("source")
    task = node.text("task", tuple(KINDS))
    return BudgetCurve(tuple(_results(node.nodes("budgets"), node, task, task, arrays)))


ALONE: Mapping[str, Callable[[Node, StoredArrays], SliceResult | BudgetCurve]] = {
    PROBLEM_SCHEMA: _problem,
    CURVE_SCHEMA: _curve,
}
"""Who reads what is about one problem alone."""


def _attach_objective(problem: Problem, entry: Node, arrays: StoredArrays) -> None:
    """The objective of a quadratic program; what is said of its bounds is derived afresh."""
    if not isinstance(problem, IntegerLeastSquares) or (problem.step != 1.0).any():
        entry.fail("objective", "left out where no codes on a grid of scale 1 are sought", "one")
    matrix = arrays.take("quadratic/P", np.float64, (problem.n, problem.n))
    attach_objective(problem, matrix, arrays.take("quadratic/q", np.float64, (problem.n,)))


def _compressed(side: Node) -> Compressed | None:
    """Where compressed weights come from and what their file allowed; None for other sides."""
    if side.values.get("compressed") is None:
        return None
    node = side.node("compressed")
    pattern = node.optional("pattern", node.pair)
    if node.text("values") == "" and pattern is None and not node.flag("kept"):
        node.fail("values", "a text that is not empty where nothing is pruned", "")
    return Compressed(
        source=node.text("source"),
        layer=node.text("layer"),
        kind=node.text("kind"),
        values=node.text("values"),
        bits=node.count("bits"),
        steps=node.flag("steps"),
        pattern=pattern,
        kept=node.flag("kept"),
        presumed=node.optional("presumed", node.text) or "",
        mixed=tuple(node.optional("mixed", node.counts) or ()),
    )


def _side(
    node: Node,
    form: Format,
    prefix: str,
    arrays: StoredArrays,
    shape: tuple[int, int],
    compressed: Compressed | None = None,
) -> Side:
    """One side, its arrays under `prefix`, of a layer of this shape (output channels, inputs)."""
    entries = node.nodes("per_channel")
    slices = _results(entries, node, form.task, prefix, arrays)
    points: dict[str, tuple[NDArray[Any], ...]] = {}
    for name in node.node("methods").values:
        sizes = [s.problem.n for s in slices]
        points[name] = tuple(arrays.rows(entries, f"{prefix}/method/{name}", KINDS[form.task].points, sizes))
    estimate = node.optional("estimate", lambda name: _estimate(node.node(name), slices))
    if compressed is not None:
        if AS_STORED not in points:
            node.fail("methods", f"ones that hold '{AS_STORED}'", list(points))
        size = node.number("bits_per_weight")
        return Side(
            node.text("format"), size, tuple(slices), points, compressed=compressed, estimate=estimate
        )
    shared, problems = _shared_budget(node), [s.problem for s in slices]
    mask = node.optional("mask_cost", lambda name: node.text(name, tuple(MASKS)))
    return Side(
        format=form.name,
        bits_per_weight=form.size(problems, shape, mask, one_budget=shared is not None),
        slices=tuple(slices),
        methods=points,
        shared=shared,
        mask_cost=None if form.support is None else mask,
        estimate=estimate,
        one_scale=_one_scale(node, form, arrays, prefix, [problem.n for problem in problems]),
    )


def _one_scale(
    node: Node, form: Format, arrays: StoredArrays, prefix: str, sizes: Sequence[int]
) -> SharedScale | None:
    """The free scale of a layer whose format has one."""
    if not form.one_scale:
        return None
    own = node.node("one_scale")
    certificate = own.optional(
        "certificate", lambda name: read_layer_scales(own.node(name), arrays, f"{prefix}/one_scale", sizes)
    )
    return SharedScale(own.number("scale"), own.number("error_lower"), certificate)


def _estimate(node: Node, slices: Sequence[SliceResult]) -> Estimate:
    """The sample and its cheap ends; what follows from them is derived afresh."""
    sample, lower, upper = node.counts("sample"), node.numbers("cheap_lower"), node.numbers("cheap_upper")
    known = {s.channel for s in slices}
    if len(known) < len(slices):
        node.fail("sample", "left out where channels are cut into chunks", list(sample))
    if len(set(sample)) < SMALLEST_SAMPLE or not set(sample) <= known or len(sample) != len(set(sample)):
        node.fail("sample", f"different channels of the side, {SMALLEST_SAMPLE} or more", list(sample))
    if not len(lower) == len(upper) == len(sample):
        node.fail("cheap_lower", "as many ends as the sample has channels, as cheap_upper", list(lower))
    return estimate_of(slices, sample, lower, upper)


def _shared_budget(node: Node) -> SharedBudget | None:
    """The budget over the layer; ``budget`` is left out where each channel has its own."""
    if node.optional("budget", lambda name: node.text(name, ("layer",))) is None:
        return None
    return SharedBudget(node.count("nnz"), node.number("error_lower"))


def _results(
    entries: Sequence[Node], common: Node, task: str, prefix: str, arrays: StoredArrays
) -> list[SliceResult]:
    """Problems and intervals of one side; `common` is where the grid or the pattern stands."""
    grams = [arrays.gram(entry.count("gram")) for entry in entries]
    weights = arrays.rows(entries, "weight", np.float64, [gram.n for gram in grams])
    given = list(zip(grams, weights, strict=True))
    found = KINDS[task].read(entries, common, arrays, prefix, given)
    results = []
    for i, (entry, stored) in enumerate(zip(entries, found, strict=True)):
        problem = stored.problem
        certificate = read_certificate(entry, arrays, f"{prefix}/certificate/{i}", problem.n)
        error_lower, error_upper = entry.number("error_lower"), entry.number("error_upper")
        bounds = Bounds(
            error_lower=error_lower,
            error_upper=error_upper,
            signal_enclosure=problem.signal,
            lower_kind=_lower_kind(entry, certificate, error_lower),
            status=status_of(error_lower, error_upper, problem.signal.lower),
            solver=entry.text("solver"),
            method=entry.text("method"),
            relaxation=entry.optional("relaxation", entry.text),
            seconds=entry.number("seconds"),
            weight=stored.weight,
            codes=stored.codes,
            support=stored.support,
            scale=stored.scale,
            certificate=certificate,
            reported_lower=entry.optional("reported_lower", entry.number),
            note=entry.text("note"),
            history=_history(entry, error_lower, error_upper),
        )
        results.append(SliceResult(entry.count("channel"), entry.pair("inputs"), problem, bounds))
    return results


def _history(entry: Node, error_lower: float, error_upper: float) -> tuple[Moment, ...]:
    """How the interval closed, which nothing in the file proves: it says no more than the result does."""
    history = tuple(map(_moment, entry.optional("history", entry.nodes) or ()))
    if not closes_on(history, error_lower, error_upper):
        entry.fail("history", "intervals that shrink in time and hold the result's own", history)
    return history


def _moment(node: Node) -> Moment:
    """One moment of a history, which nothing in the file proves."""
    ends = node.number("error_lower"), node.number("error_upper")
    return Moment(node.number("seconds"), node.count("nodes"), *ends)


def _lower_kind(entry: Node, certificate: Certificate | None, error_lower: float) -> LowerKind:
    """The label that follows from the data; E is a mean square, so that 0 needs no certificate."""
    if certificate is not None:
        return "certified"
    stated = entry.values.get("lower_kind")
    return "certified" if error_lower <= 0.0 and stated == "certified" else "reported"

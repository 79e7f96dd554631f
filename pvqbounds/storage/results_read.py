"""Results read back from disk, believing as little of the file as possible.

Of the JSON only what cannot be derived is used: what the problems are, the two ends of each
interval and what proves them. Statuses, labels, sums, SQNR and the verdict are derived afresh
from that and from the arrays; :mod:`pvqbounds.solving.verified_files` holds the file against them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, cast, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError, shown
from pvqbounds.problems import Gram, IntegerLeastSquares, Problem, SparseLeastSquares
from pvqbounds.relaxations.certificates import Certificate
from pvqbounds.relaxations.splits import ENTRIES, MOST_SPLITS, Splits
from pvqbounds.results.bounds import Bounds, LowerKind, status_of
from pvqbounds.results.layer import LayerReport, SharedBudget, Side, SliceResult
from pvqbounds.storage.archive import parse_arrays, parse_json, read_bytes
from pvqbounds.storage.results_written import (
    LAYER_SCHEMA,
    PROBLEM_SCHEMA,
    Arrays,
    Document,
    Task,
    layer_document,
    problem_document,
)

__all__ = ["Record", "read_layer", "read_record"]

LARGEST_JSON = 2**28
"""Bytes."""
LONGEST_NAME = 255
"""Characters: no file system has room for more."""

T = TypeVar("T")

PROTOCOLS: Mapping[str, Literal["full", "chunked"]] = {"full": "full", "chunked": "chunked"}

CERTIFICATES: Mapping[str, type[Certificate]] = {kind.kind: kind for kind in get_args(Certificate)}


@dataclass(frozen=True, eq=False)
class Record:
    """A result on disk: the file's own words, and the result that its data stand for."""

    document: Document
    result: LayerReport | SliceResult

    @property
    def derived(self) -> Document:
        """What the file ought to say."""
        if isinstance(self.result, LayerReport):
            return layer_document(self.result)[0]
        return problem_document(self.result, self.document["source"])[0]


def read_layer(path: str | Path) -> LayerReport:
    """Read the result of a layer; nothing in it is verified yet.

    Raises
    ------
    InputError
        If a file is missing, damaged or no result of a layer.
    """
    result = read_record(path).result
    if not isinstance(result, LayerReport):
        raise InputError(f"{path} holds the result of one problem, not of a layer.")
    return result


def read_record(path: str | Path) -> Record:
    """Read the result of a layer or of one problem from its JSON file and the `.npz` beside it.

    Raises
    ------
    InputError
        If a file is missing, damaged or no result, or if the arrays are not those that the JSON
        names (by SHA-256).
    """
    path = Path(path)
    node = _Node(parse_json(read_bytes(path, LARGEST_JSON), path), "", path)
    schema = node.text("schema", (LAYER_SCHEMA, PROBLEM_SCHEMA))
    arrays = _Arrays(_arrays_of(node.node("arrays"), path), path)
    try:
        result = _layer(node, arrays) if schema == LAYER_SCHEMA else _problem(node, arrays)
    except (ArithmeticError, np.linalg.LinAlgError) as error:
        raise InputError(f"{path} holds numbers at which arithmetic breaks down ({error}).") from error
    except MemoryError as error:
        raise InputError(f"What {path} holds does not fit into memory.") from error
    arrays.check_all_used()
    return Record(dict(node.values), result)


def _arrays_of(node: _Node, path: Path) -> Arrays:
    name = node.text("file")
    if Path(name).name != name or len(name) > LONGEST_NAME:
        node.fail("file", "the name of a file in the same folder", name)
    beside = path.parent / name
    content = read_bytes(beside)
    if hashlib.sha256(content).hexdigest() != node.text("sha256"):
        raise InputError(f"{beside} is not the file that {path} was written with (its SHA-256 differs).")
    return parse_arrays(content, beside)


def _layer(node: _Node, arrays: _Arrays) -> LayerReport:
    quantization, pruning = (_side(node.node(task), task, arrays) for task in ("quantization", "pruning"))
    places = [[(s.channel, s.inputs) for s in side.slices] for side in (quantization, pruning)]
    if places[0] != places[1] or len(set(places[0])) != len(places[0]):
        node.fail("per_channel", "the same channels and inputs on both sides, each once", "others")
    return LayerReport(
        model=node.text("model"),
        layer=node.text("layer"),
        description=node.text("description"),
        protocol=PROTOCOLS[node.text("protocol", tuple(PROTOCOLS))],
        inputs=node.count("inputs"),
        channels=(node.count("channels"), node.count("channels_in_layer")),
        positions=node.count("positions"),
        range_method=node.text("range"),
        quantization=quantization,
        pruning=pruning,
        seconds=node.number("seconds"),
        notes=node.optional("notes", node.texts) or (),
    )


def _problem(node: _Node, arrays: _Arrays) -> SliceResult:
    node.text("source")
    task = cast(Task, node.text("task", ("quantization", "pruning")))
    entry = node.node("result")
    return _results([entry], entry, task, arrays)[0]


def _side(node: _Node, task: Task, arrays: _Arrays) -> Side:
    entries = node.nodes("per_channel")
    slices = _results(entries, node, task, arrays)
    kind = np.int64 if task == "quantization" else np.float64
    points: dict[str, tuple[NDArray[Any], ...]] = {}
    for name in node.node("methods").values:
        rows = arrays.rows(entries, f"{task}/method/{name}", kind, [s.problem.n for s in slices])
        points[name] = tuple(rows)
    return Side(
        task=task,
        bits=node.count("bits") if task == "quantization" else None,
        density=node.optional("density", node.number) if task == "pruning" else None,
        slices=tuple(slices),
        methods=points,
        shared=_shared_budget(node) if task == "pruning" else None,
    )


def _shared_budget(node: _Node) -> SharedBudget | None:
    """The budget over the layer; ``budget`` is left out where each channel has its own."""
    if node.optional("budget", lambda name: node.text(name, ("layer",))) is None:
        return None
    return SharedBudget(node.count("nnz"), node.number("error_lower"))


def _results(entries: Sequence[_Node], budget: _Node, task: Task, arrays: _Arrays) -> list[SliceResult]:
    """Problems and intervals of one side; `budget` is where the grid or the pattern stands."""
    grams = {g: arrays.gram(g) for g in sorted({entry.count("gram") for entry in entries})}
    sizes = [grams[entry.count("gram")].n for entry in entries]
    weights = arrays.rows(entries, "weight", np.float64, sizes)
    results = []
    if task == "quantization":
        scales = arrays.rows(entries, f"{task}/scale", np.float64)
        best = arrays.rows(entries, f"{task}/codes", np.int64, sizes)
        qmin, qmax = budget.whole("qmin"), budget.whole("qmax")
    else:
        best = arrays.rows(entries, f"{task}/weight", np.float64, sizes)
        kept = arrays.rows(entries, f"{task}/kept", np.bool_, sizes)
        pattern = budget.optional("pattern", budget.pair)
        stride = budget.optional("pattern_stride", budget.whole) or 1
    for i, entry in enumerate(entries):
        gram = grams[entry.count("gram")]
        problem: Problem
        if task == "quantization":
            problem = IntegerLeastSquares(gram, weights[i], float(scales[i]), qmin, qmax)
            codes, support, weight = best[i], None, problem.weight_of(best[i])
        else:
            nnz = entry.optional("nnz", entry.count)
            problem = SparseLeastSquares(gram, weights[i], nnz, pattern, stride)
            codes, support, weight = None, np.flatnonzero(kept[i]), best[i]
        certificate = _certificate(entry, arrays, f"{task}/certificate/{i}", problem.n)
        error_lower, error_upper = entry.number("error_lower"), entry.number("error_upper")
        bounds = Bounds(
            error_lower=error_lower,
            error_upper=error_upper,
            signal_enclosure=problem.signal,
            lower_kind=_lower_kind(entry, certificate, error_lower),
            status=status_of(error_lower, error_upper, problem.signal.upper),
            solver=entry.text("solver"),
            method=entry.text("method"),
            relaxation=entry.optional("relaxation", entry.text),
            seconds=entry.number("seconds"),
            weight=weight,
            codes=codes,
            support=support,
            certificate=certificate,
            reported_lower=entry.optional("reported_lower", entry.number),
            note=entry.text("note"),
        )
        results.append(SliceResult(entry.count("channel"), entry.pair("inputs"), problem, bounds))
    return results


def _lower_kind(entry: _Node, certificate: Certificate | None, error_lower: float) -> LowerKind:
    """The label that follows from the data; E is a mean square, so that 0 needs no certificate."""
    if certificate is not None:
        return "certified"
    stated = entry.values.get("lower_kind")
    return "certified" if error_lower <= 0.0 and stated == "certified" else "reported"


def _certificate(entry: _Node, arrays: _Arrays, prefix: str, n: int) -> Certificate | None:
    if entry.values.get("certificate") is None:
        return None
    node = entry.node("certificate")
    kind = CERTIFICATES[node.text("kind", tuple(CERTIFICATES))]
    numbers: dict[Any, Callable[[str], float]] = {float: node.number, int: node.count}
    types = get_type_hints(kind)
    values: dict[str, Any] = {}
    for field in fields(kind):
        if field.name == "radius" and node.values.get("radius") is None:
            values["radius"] = math.inf
        elif field.name == "splits":
            count = node.optional("splits", node.count)
            if count is not None:
                if count > MOST_SPLITS * n:
                    node.fail("splits", f"at most {MOST_SPLITS * n} inequalities about {n} codes", count)
                values["splits"] = _splits(arrays, f"{prefix}/splits", count)
        elif types[field.name] in numbers:
            values[field.name] = numbers[types[field.name]](field.name)
        else:
            values[field.name] = arrays.take(f"{prefix}/{field.name}", np.float64, (n,))
    return kind(**values)


def _splits(arrays: _Arrays, prefix: str, count: int) -> Splits:
    return Splits(
        arrays.take(f"{prefix}/index", np.int32, (count, ENTRIES)),
        arrays.take(f"{prefix}/sign", np.int8, (count, ENTRIES)),
        arrays.take(f"{prefix}/low", np.int64, (count,)),
        arrays.take(f"{prefix}/multiplier", np.float64, (count,)),
    )


class _Node:
    """An object of the document that hands out its values only in the kind that is wanted."""

    def __init__(self, values: Any, where: str, path: Path) -> None:
        self.where, self.path = where, path
        if not isinstance(values, dict):
            self.fail("", "an object", values)
        self.values: Mapping[str, Any] = values

    def fail(self, name: str, wanted: str, found: Any) -> NoReturn:
        where = ".".join(part for part in (self.where, name) if part) or "the file"
        raise InputError(
            f"{self.path} is no result of pvqbounds: {where} must be {wanted}, not {shown(found)}."
        )

    def _value(self, name: str, wanted: str, fits: Callable[[Any], bool]) -> Any:
        value = self.values.get(name)
        if not fits(value):
            self.fail(name, wanted, value)
        return value

    def text(self, name: str, allowed: Sequence[str] = ()) -> str:
        wanted = f"one of {', '.join(allowed)}" if allowed else "a text"
        fits = allowed.__contains__ if allowed else lambda value: isinstance(value, str)
        return cast(str, self._value(name, wanted, fits))

    def texts(self, name: str) -> tuple[str, ...]:
        fits = lambda value: isinstance(value, list) and all(isinstance(text, str) for text in value)  # noqa: E731
        return tuple(self._value(name, "a list of texts", fits))

    def whole(self, name: str) -> int:
        return cast(int, self._value(name, "a whole number", _is_whole))

    def count(self, name: str) -> int:
        fits = lambda value: _is_whole(value) and value >= 0  # noqa: E731
        return cast(int, self._value(name, "a whole number that is not negative", fits))

    def number(self, name: str) -> float:
        return float(self._value(name, "a finite number", _is_number))

    def pair(self, name: str) -> tuple[int, int]:
        fits = lambda value: isinstance(value, list) and len(value) == 2 and all(map(_is_whole, value))  # noqa: E731
        first, second = self._value(name, "two whole numbers", fits)
        return first, second

    def optional(self, name: str, read: Callable[[str], T]) -> T | None:
        return None if self.values.get(name) is None else read(name)

    def node(self, name: str) -> _Node:
        return _Node(self.values.get(name), f"{self.where}.{name}".lstrip("."), self.path)

    def nodes(self, name: str) -> list[_Node]:
        values = self._value(name, "a list of objects", lambda value: isinstance(value, list) and value != [])
        return [_Node(value, f"{self.where}.{name}[{i}]", self.path) for i, value in enumerate(values)]


def _is_whole(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**53


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (type(value) is float and math.isfinite(value))


class _Arrays:
    """The arrays of a result, each of the type and the shape that the rest of the file implies."""

    def __init__(self, arrays: Arrays, path: Path) -> None:
        self.arrays, self.path = arrays, path
        self.used: set[str] = set()
        self.grams: dict[int, Gram] = {}

    def take(self, name: str, kind: type[np.generic], shape: tuple[int, ...] | None = None) -> NDArray[Any]:
        array = self.arrays.get(name)
        if array is None:
            raise InputError(f"The arrays of {self.path} lack {name}.")
        self.used.add(name)
        if array.dtype != kind:
            raise InputError(
                f"{name} in the arrays of {self.path} must be {kind.__name__}, not {array.dtype}."
            )
        if shape is not None and array.shape != shape:
            raise InputError(
                f"{name} in the arrays of {self.path} must have shape {shape}, not {array.shape}."
            )
        if not np.isfinite(array).all():
            raise InputError(f"{name} in the arrays of {self.path} has entries that are not finite.")
        return array

    def gram(self, g: int) -> Gram:
        # one object for both sides: that they share it is how a layer knows its groups
        if g not in self.grams:
            self.grams[g] = Gram(self.take(f"gram/{g}", np.float64))
        return self.grams[g]

    def rows(
        self, entries: Sequence[_Node], name: str, kind: type[np.generic], sizes: Sequence[int] | None = None
    ) -> list[NDArray[Any]]:
        """One row for each entry, from the array of its Gram matrix; of length `sizes` if given."""
        rows: dict[int, list[NDArray[Any]]] = {}
        numbers = [entry.count("gram") for entry in entries]
        for i, g in enumerate(numbers):
            if g not in rows:
                shape = (numbers.count(g),) if sizes is None else (numbers.count(g), sizes[i])
                rows[g] = list(self.take(f"{name}/{g}", kind, shape))
        return [rows[g].pop(0) for g in numbers]

    def check_all_used(self) -> None:
        left = sorted(self.arrays.keys() - self.used)
        if left:
            raise InputError(f"The arrays of {self.path} hold {shown(left[0])}, which no result has.")

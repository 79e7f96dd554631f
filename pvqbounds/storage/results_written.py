"""A result on disk: one JSON file, and beside it the `.npz` of the arrays that it speaks of.

``RESULT.json`` of a layer (schema ``pvqbounds.layer/2``) holds what was asked and what was found.
Numbers are written so that they come back as the same float64. JSON has no infinity and no
not-a-number: ``null`` stands for an SQNR without a finite value (no error, or no signal), for a
radius without a limit, and, under the protocol "chunked", for sums over slices, which mean
nothing. ``arrays`` names the file beside it and its SHA-256.

``RESULT.npz`` holds, for every Gram matrix ``g`` = 0, 1, ... of the layer (a group of a
convolution, a chunk of inputs), with one row for each of the m entries of ``per_channel`` whose
``gram`` is g, in their order; SIDE is ``sides/0``, ``sides/1``, ..., in the order of ``sides``:

=========================== ======= ======= ======================================================
``gram/g``                  (n, n)  float64 XᵀX/N
``weight/g``                (m, n)  float64 the weights w
``SIDE/scale/g``            (m,)    float64 step of the grid, where each entry has one of its own,
``SIDE/step/g``             (m, n)  float64 or steps and boxes of each input (``grid`` "steps"),
``SIDE/qmin/g``, ``qmax/g`` (m, n)  int64
``SIDE/levels/g``           (k, L)  float64 or tables of levels (``grid`` "levels"; rows that have
``SIDE/level_row/g``        (m, n)  int64   fewer repeat their last), and which of them an input has
``SIDE/codes/g``            (m, n)  int64   the best codes found: multiples of steps, numbers of levels
``SIDE/group/g``            (m, n)  int64   group of each input, -1 without one (``rule`` "groups"),
``SIDE/group_nnz/g``        (m, j)  int64   and non-zeros that each group may have
``SIDE/kept/g``             (m, n)  bool    the best support found, where values are re-fitted,
``SIDE/weight/g``           (m, n)  float64 and the weights re-fitted on it
``SIDE/method/NAME/g``      (m, n)          what a simple method makes of w: codes, or weights
``SIDE/certificate/i/NAME`` (n,)    float64 arrays of the certificate of entry i, by their names
``.../values``, ``nodes``   (n+1,)          of a "budget curve": what is proved of 0, 1, ..., n inputs
``.../splits/index``        (k, 3)  int32   its split inequalities, where the JSON counts k of them:
``.../splits/sign``         (k, 3)  int8    the inputs and entries of a, the lower code, and the
``.../splits/low``          (k,)    int64   multiplier
``.../splits/multiplier``   (k,)    float64
``.../splits/cell``         (k, 3)  int32   of levels: codes of the neighbours that entries count from
``.../direction``           (d, n)  float64 of a certificate by cases ("leaves" L, "directions" d): vectors a,
``.../axis``, ``cut``       (2L-1,)         the tree of cuts of aᵀ(v - w) in preorder (-1 for a leaf),
``.../chord``, ``push``     (L, d)  float64 multipliers of each leaf's slabs, one row a leaf; ``lam`` and
``.../searched``            (L,)    float64 ``nu`` are (L, n), and what a leaf's search proves, whose
``.../nodes``               (L,)    int64   nodes are -1 where none was needed; ``splits/count`` (L,) says
``.../splits/count``        (L,)    int64   how many split inequalities each leaf has
``.../scales``, ``bounds``  (k,)    float64 of a certificate for every scale: scales, the bounds there, and
``.../proofs/j/NAME``                       what proves them, of which ``proofs`` in the JSON has the rest
=========================== ======= ======= ======================================================

What is allowed stands in the JSON: ``qmin`` and ``qmax`` of the grid, ``nnz`` of each entry or
``pattern`` (with ``pattern_stride``, how far apart the inputs of a group lie, where that is not 1: the
size of a convolution's kernel, so that groups run along input channels); ``rule`` "groups" stands for
any other rule. With ``grid`` "any scale" the ``scale`` of an entry is the one found. A side that quantizes
has the former, one that prunes the latter, a joint one both. It must be what the side's ``format`` says.
With ``budget`` "layer" the side's own ``nnz`` is what all entries share, those of the entries are how the
best weights found spend it, and the side's ``error_lower`` is proved by the certificates of all entries
together. An ``estimate`` is what the ends of a side would be had all of its channels been bounded as those
of its ``sample`` were: value, low and high of a 95 % confidence interval, no bound; the side's own ends
hold for all channels. The result of one problem from a file (schema ``pvqbounds.problem/1``) has one entry
in place of sides, and its ``task``, "quantization", "pruning" or "joint", in the place of SIDE; so had
files of schema ``pvqbounds.layer/1``. A quadratic program
zᵀPz + 2qᵀz has its ``objective``, ``lower`` and ``upper``, in that entry, and P and q as ``quadratic/P`` and
``quadratic/q``. A curve (schema ``pvqbounds.curve/1``) has ``budgets``: an entry of one problem for each
number of non-zeros from 0 to n.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pvqbounds.errors import OutputError
from pvqbounds.problems import IntegerLeastSquares
from pvqbounds.problems.gram import Gram
from pvqbounds.results.bounds import Bounds, sqnr
from pvqbounds.results.compressed import AS_STORED, Compressed
from pvqbounds.results.curve import BudgetCurve
from pvqbounds.results.estimate import Estimate
from pvqbounds.results.layer import LayerReport, SharedScale, Side, SliceResult
from pvqbounds.results.sampling import CONFIDENCE
from pvqbounds.storage.archive import check_writable, json_bytes, replacing, write_arrays
from pvqbounds.storage.certificates import (
    certificate_arrays,
    certificate_document,
    layer_scales_arrays,
    layer_scales_document,
)
from pvqbounds.storage.nodes import Arrays, Document
from pvqbounds.storage.stored_kinds import KINDS, SideLayout, StoredKind
from pvqbounds.storage.text import finite

__all__ = [
    "CURVE_SCHEMA",
    "LAYER_SCHEMA",
    "PROBLEM_SCHEMA",
    "arrays_beside",
    "check_result_path",
    "curve_document",
    "layer_document",
    "problem_document",
    "write_curve",
    "write_layer",
    "write_problem",
]

LAYER_SCHEMA = "pvqbounds.layer/2"
PROBLEM_SCHEMA = "pvqbounds.problem/1"
CURVE_SCHEMA = "pvqbounds.curve/1"


def arrays_beside(path: Path) -> Path:
    """Name of the `.npz` that belongs to the JSON file `path`."""
    return path.with_suffix(".npz")


def check_result_path(path: Path, *inputs: Path | None) -> None:
    """Find out before any work whether the two files of a result can be written.

    Parameters
    ----------
    path
        The JSON file.
    inputs
        Files that the result comes from and must not replace.

    Raises
    ------
    OutputError
        If one of the two files cannot be written, or would replace an input or the other, or if
        the name of the arrays is that of a file which no result wrote.
    """
    if not path.name:
        raise OutputError("The result needs a file name that ends in .json.")
    beside = arrays_beside(path)
    if path == beside:
        raise OutputError(f"{path} is the name of the arrays beside a result; end the result's own in .json.")
    for source in inputs:
        for target in (path, beside):
            if source is not None and source.resolve() == target.resolve():
                raise OutputError(f"The result would replace its own input {source}; give it another name.")
    check_writable(path)
    check_writable(beside)
    if beside.exists() and not _holds_arrays_of_a_result(beside):
        raise OutputError(
            f"The arrays of the result {path} would replace {beside}, which no result wrote; give it "
            "another name, or move that file."
        )


def _holds_arrays_of_a_result(path: Path) -> bool:
    """Whether a file is what a result put beside its JSON: nobody named that file, so it is no one else's."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {"gram/0.npy", "weight/0.npy"} <= set(archive.namelist())
    except (OSError, RuntimeError, ValueError, zipfile.BadZipFile):
        return False


def write_layer(report: LayerReport, path: Path, beside: Path | None = None) -> None:
    """Write `report` to the JSON file `path` and the `.npz` beside it, both or neither.

    Parameters
    ----------
    beside
        Another name of the `.npz`, in the same folder: a result that is replaced then stands at any moment,
        as its own arrays stay until the new JSON has taken its name.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    _write(*layer_document(report), path, beside)


def write_problem(result: SliceResult, source: str, path: Path) -> None:
    """Write the result of the one problem of the file `source`, as :func:`write_layer` does."""
    _write(*problem_document(result, source), path)


def _write(document: Document, arrays: Arrays, path: Path, beside: Path | None = None) -> None:
    check_result_path(path)
    beside = arrays_beside(path) if beside is None else beside
    # both files are complete before the first takes its name, and the arrays come first
    with replacing(path) as json_file, replacing(beside) as npz_file:
        write_arrays(npz_file, arrays)
        with npz_file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        document = document | {"arrays": {"file": beside.name, "sha256": digest}}
        json_file.write_bytes(json_bytes(document))


# --------------------------------------------------------------------------- to the file


def layer_document(report: LayerReport) -> tuple[Document, Arrays]:
    """What the two files of a layer hold; the document still without ``arrays``."""
    slices = report.sides[0].slices
    if any([_place(s) for s in side.slices] != [_place(s) for s in slices] for side in report.sides):
        raise ValueError("the sides of a layer must cover the same slices in one order")
    arrays = _shared_arrays(slices)
    grams = _gram_numbers(slices)
    layouts = [KINDS[side.task].layout([s.problem for s in side.slices]) for side in report.sides]
    for i, (side, layout) in enumerate(zip(report.sides, layouts, strict=True)):
        arrays |= _own_arrays(f"sides/{i}", side.slices, KINDS[side.task], layout)
        arrays |= _method_arrays(f"sides/{i}", side)
        if side.one_scale is not None and side.one_scale.certificate is not None:
            for name, array in layer_scales_arrays(side.one_scale.certificate).items():
                arrays[f"sides/{i}/one_scale/{name}"] = array
    document: Document = {
        "schema": LAYER_SCHEMA,
        "model": report.model,
        "layer": report.layer,
        "description": report.description,
        "protocol": report.protocol,
        "range": report.range_method,
        "inputs": report.inputs,
        "channels": report.channels[0],
        "channels_in_layer": report.channels[1],
        "positions": report.positions,
        "sides": [
            _side_document(side, layout, grams, report.protocol == "full")
            for side, layout in zip(report.sides, layouts, strict=True)
        ],
        "dead_inputs": report.dead_inputs[0],
        "notes": list(report.notes),
        "verdict": [list(pair) for pair in report.verdict],
        "dominates": [list(pair) for pair in report.dominates],
        "contains": [list(pair) for pair in report.contains],
        "seconds": report.seconds,
    }
    if (held := report.held_out) is not None:
        document["held_out"] = {
            "positions": held.positions,
            "signal": held.signal,
            "sides": [
                {name: {"error": error, "sqnr": finite(held.sqnr(i, name))} for name, error in errors.items()}
                for i, errors in enumerate(held.errors)
            ],
        }
    return document, arrays


def problem_document(result: SliceResult, source: str) -> tuple[Document, Arrays]:
    """What the two files of one problem hold; the document still without ``arrays``."""
    task = result.problem.task
    layout = KINDS[task].layout([result.problem])
    objective, data = _objective(result)
    document: Document = {
        "schema": PROBLEM_SCHEMA,
        "source": source,
        "task": task,
        "inputs": result.problem.n,
        "result": layout.alone(result.problem) | _entry(result, 0) | objective,
    }
    arrays = _shared_arrays([result]) | _own_arrays(task, [result], KINDS[task], layout)
    return document, arrays | data


def write_curve(curve: BudgetCurve, source: str, path: Path) -> None:
    """Write every budget of the one problem of the file `source`, as :func:`write_layer` does."""
    _write(*curve_document(curve, source), path)


def curve_document(curve: BudgetCurve, source: str) -> tuple[Document, Arrays]:
    """What the two files of a budget curve hold; the document still without ``arrays``."""
    first = curve.entries[0].problem
    layout = KINDS[first.task].layout([entry.problem for entry in curve.entries])
    document: Document = {
        "schema": CURVE_SCHEMA,
        "source": source,
        "task": first.task,
        "inputs": first.n,
        **layout.common(first),
        "budgets": [_entry(entry, 0) | layout.own(entry.problem) for entry in curve.entries],
    }
    own = _own_arrays(first.task, curve.entries, KINDS[first.task], layout)
    return document, _shared_arrays(curve.entries) | own


def _objective(result: SliceResult) -> tuple[Document, Arrays]:
    """The bounds on the objective of a quadratic program, and its data; nothing for other problems."""
    problem = result.problem
    if not isinstance(problem, IntegerLeastSquares) or problem.quadratic is None:
        return {}, {}
    quadratic = problem.quadratic
    lower, upper = map(finite, quadratic.objective_bounds(result.bounds))
    arrays = {"quadratic/P": quadratic.matrix, "quadratic/q": quadratic.linear}
    return {"objective": {"lower": lower, "upper": upper}}, arrays


def _place(result: SliceResult) -> tuple[int, tuple[int, int], Gram, bytes]:
    return result.channel, result.inputs, result.problem.shared, result.problem.weight.tobytes()


def _gram_numbers(slices: Sequence[SliceResult]) -> list[int]:
    """Number of the Gram matrix of each slice, counted in order of appearance."""
    numbers: dict[Gram, int] = {}
    return [numbers.setdefault(s.problem.shared, len(numbers)) for s in slices]


def _by_gram(slices: Sequence[SliceResult]) -> list[list[SliceResult]]:
    numbers = _gram_numbers(slices)
    return [
        [s for s, number in zip(slices, numbers, strict=True) if number == g] for g in range(max(numbers) + 1)
    ]


def _shared_arrays(slices: Sequence[SliceResult]) -> Arrays:
    arrays: Arrays = {}
    for g, members in enumerate(_by_gram(slices)):
        arrays[f"gram/{g}"] = members[0].problem.gram
        arrays[f"weight/{g}"] = np.stack([s.problem.weight for s in members])
    return arrays


def _own_arrays(prefix: str, slices: Sequence[SliceResult], kind: StoredKind, layout: SideLayout) -> Arrays:
    """What is allowed, best weights and certificates of one side."""
    arrays: Arrays = {}
    for g, members in enumerate(_by_gram(slices)):
        own = layout.arrays([s.problem for s in members]) | kind.best(members)
        arrays |= {f"{prefix}/{name}/{g}": array for name, array in own.items()}
    for i, result in enumerate(slices):
        for name, array in certificate_arrays(result.bounds.certificate).items():
            arrays[f"{prefix}/certificate/{i}/{name}"] = array
    return arrays


def _method_arrays(prefix: str, side: Side) -> Arrays:
    """What the simple methods make of the weights."""
    numbers = _gram_numbers(side.slices)
    return {
        f"{prefix}/method/{name}/{g}": np.stack(
            [point for point, number in zip(points, numbers, strict=True) if number == g]
        )
        for name, points in side.methods.items()
        for g in range(max(numbers) + 1)
    }


def _one_scale(shared: SharedScale) -> Document:
    """One free scale for the layer: what was found, what is proved, and by what."""
    known = shared.certificate
    certificate = None if known is None else layer_scales_document(known)
    return {"scale": shared.scale, "error_lower": shared.error_lower, "certificate": certificate}


def _side_document(side: Side, layout: SideLayout, grams: Sequence[int], sums: bool) -> Document:
    shared = {} if side.shared is None else {"budget": "layer", "nnz": side.shared.nnz}
    sqnr_lower, sqnr_upper = side.sqnr_interval
    return {
        "format": side.format,
        "task": side.task,
        "bits_per_weight": side.bits_per_weight,
        **({} if side.mask_cost is None else {"mask_cost": side.mask_cost}),
        **layout.common(side.slices[0].problem),
        **shared,
        **({} if side.one_scale is None else {"one_scale": _one_scale(side.one_scale)}),
        "error_lower": side.error_lower if sums else None,
        "error_upper": side.error_upper if sums else None,
        "sqnr_lower": finite(sqnr_lower) if sums else None,
        "sqnr_upper": finite(sqnr_upper) if sums else None,
        "signal": side.signal_enclosure.middle if sums else None,
        **({"expected": _expected(side, sums)} if side.expected_errors else {}),
        **({} if side.compressed is None else {"compressed": _compressed(side, side.compressed, sums)}),
        **({} if side.estimate is None else {"estimate": _estimate(side, side.estimate)}),
        "status": side.status,
        "lower_kind": side.lower_kind,
        "solver": _common([s.bounds.solver for s in side.slices]),
        "method": _common([s.bounds.method for s in side.slices]),
        "methods": {
            name: {
                "error": side.method_error(name) if sums else None,
                "sqnr": finite(side.method_sqnr(name)) if sums else None,
            }
            for name in side.methods
        },
        "per_channel": [
            _entry(result, gram)
            | layout.own(result.problem)
            | ({"expected_error": side.expected_errors[i]} if side.expected_errors else {})
            | {"methods": {name: errors[i] for name, errors in side.method_errors.items()}}
            for i, (result, gram) in enumerate(zip(side.slices, grams, strict=True))
        ],
    }


def _compressed(side: Side, origin: Compressed, sums: bool) -> Document:
    """Where the compressed weights come from, how good they are, and by how many dB that can be exceeded."""
    least, most = side.left
    return {
        "source": origin.source,
        "layer": origin.layer,
        "kind": origin.kind,
        "values": origin.values,
        "bits": origin.bits,
        "steps": origin.steps,
        "pattern": None if origin.pattern is None else list(origin.pattern),
        "kept": origin.kept,
        **({"presumed": origin.presumed} if origin.presumed else {}),
        **({"mixed": list(origin.mixed)} if origin.mixed else {}),
        "error": side.method_error(AS_STORED) if sums else None,
        "sqnr": finite(side.method_sqnr(AS_STORED)) if sums else None,
        "left_sqnr_lower": finite(least) if sums else None,
        "left_sqnr_upper": finite(most) if sums else None,
    }


def _estimate(side: Side, found: Estimate) -> Document:
    """The ends of the layer as a sample of its channels has them, with their label."""
    signal = side.signal_enclosure.middle

    def decibels(error: tuple[float, float, float]) -> list[float | None]:
        value, low, high = error
        return [finite(sqnr(signal, value)), finite(sqnr(signal, high)), finite(sqnr(signal, low))]

    return {
        "kind": "estimated",
        "confidence": CONFIDENCE,
        "sample": list(found.sample),
        "error_lower": list(found.error_lower),
        "error_upper": list(found.error_upper),
        "sqnr_lower": decibels(found.error_upper),
        "sqnr_upper": decibels(found.error_lower),
        "cheap_lower": list(found.cheap_lower),
        "cheap_upper": list(found.cheap_upper),
    }


def _expected(side: Side, sums: bool) -> Document:
    """The typical value on a fine, wide grid, with its label."""
    return {
        "kind": "expected",
        "error": math.fsum(side.expected_errors) if sums else None,
        "sqnr": finite(side.expected_sqnr) if sums else None,
    }


def _entry(result: SliceResult, gram: int) -> Document:
    bounds = result.bounds
    return {
        "channel": result.channel,
        "inputs": list(result.inputs),
        "gram": gram,
        "status": bounds.status,
        "lower_kind": bounds.lower_kind,
        "error_lower": bounds.error_lower,
        "error_upper": bounds.error_upper,
        "sqnr_lower": finite(bounds.sqnr_lower),
        "sqnr_upper": finite(bounds.sqnr_upper),
        "signal": bounds.signal,
        "dead": result.dead,
        "solver": bounds.solver,
        "method": bounds.method,
        "relaxation": bounds.relaxation,
        "seconds": bounds.seconds,
        "reported_lower": bounds.reported_lower,
        "certificate": certificate_document(bounds.certificate),
        "note": bounds.note,
    } | _scale_and_history(bounds)


def _scale_and_history(bounds: Bounds) -> Document:
    """What few results have."""
    document: Document = {} if bounds.scale is None else {"scale": bounds.scale}
    if bounds.history:
        document["history"] = [asdict(moment) for moment in bounds.history]
    return document


def _common(words: Sequence[str]) -> str:
    """The words of all slices, each once."""
    return ", ".join(dict.fromkeys(words))

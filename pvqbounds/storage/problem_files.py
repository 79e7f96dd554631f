"""Problems in files: `.npz` of this package, `.mat` of the paper's MATLAB script, binary programs as text.

**.npz**: ``gram`` (n, n) and ``weight`` (n,), and what is allowed: ``scale``, ``qmin``, ``qmax``
(uniform steps; numbers, or one for each input, shape (n,)), the numbers ``qmin`` and ``qmax`` alone (steps
of any scale; with a number ``span`` of any zero point too) or ``levels`` (m,) or (n, m), whose shorter rows
repeat their last; and ``nnz`` or ``pattern`` (two numbers N, M, with ``stride`` where the weights of a group
lie apart), or ``group`` (n,) and ``group_nnz`` (groups,), any other rule. Values alone are quantization, a
rule alone is pruning, both are joint compression. A file without any of these gets its budget from the
caller.
Or ``P`` (n, n), ``q`` (n,), ``qmin`` and ``qmax``: the quadratic program min zᵀPz + 2qᵀz.

**.sparse**, **.mc** (and ``.gz`` of them): :mod:`pvqbounds.storage.quadratic_files`.

**.mat**, the input of ``post_training_pruning_acts_sqnr.m`` (Kuzmin et al., NeurIPS 2023): ``P``
(n, n), ``q`` and ``x0`` (n numbers each), ``r`` (one number), for the objective

    ½ xᵀPx + qx + r    with P = 2XᵀX, q = -Px0, r = ½ x0ᵀPx0.

That is (x - x0)ᵀ G (x - x0) with G = P/2, so errors and signal keep the script's units: sums
over input positions, not means. It states no budget: the script derives one from its `n_bits`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError
from pvqbounds.problems.any_scale import AnyScaleLeastSquares
from pvqbounds.problems.codebook import CodebookLeastSquares
from pvqbounds.problems.formats import parse
from pvqbounds.problems.gram import Gram
from pvqbounds.problems.grids import RangeMethod, range_scale, symmetric_codes
from pvqbounds.problems.integer import IntegerLeastSquares
from pvqbounds.problems.least_squares import Problem
from pvqbounds.problems.sparse import SparseLeastSquares, nnz_of_density
from pvqbounds.problems.supports import Groups, SupportRule, rule_of
from pvqbounds.problems.validation import as_real_array
from pvqbounds.storage.archive import (
    parse_arrays,
    read_bytes,
    refuse_repeated,
    replacing,
    write_arrays,
)
from pvqbounds.storage.matlab import parse_matlab
from pvqbounds.storage.quadratic_files import QUADRATIC_SUFFIXES, read_quadratic, suffix_of

__all__ = ["PROBLEM_SUFFIXES", "Budget", "load_problem", "problem_paths", "write_npz"]

PROBLEM_SUFFIXES = (".npz", ".mat", *QUADRATIC_SUFFIXES)
"""What names of files end in that are read."""

MATLAB_TOLERANCE = 1e-5
"""Relative disagreement of q and r with P and x0 that passes: the paper's code has r from float32."""

GRID_KEYS = frozenset({"scale", "qmin", "qmax"})
BOX_KEYS = frozenset({"qmin", "qmax"})
SPAN_KEYS = BOX_KEYS | {"span"}
VALUE_KEYS = (GRID_KEYS, BOX_KEYS, SPAN_KEYS, frozenset({"levels"}), frozenset[str]())
RULE_KEYS = tuple(
    map(frozenset, ({"nnz"}, {"pattern"}, {"pattern", "stride"}, {"group", "group_nnz"}, set[str]()))
)
"""What stands together."""
QUADRATIC_KEYS = frozenset({"P", "q", "qmin", "qmax"})


@dataclass(frozen=True)
class Budget:
    """What the compressed weights may look like, where the file does not say.

    Give one of `bits`, `nnz`, `density`, `pattern` and `format`.
    """

    bits: int | None = None
    """Quantization to the grid of so many bits."""
    scale: float | None = None
    """Its step; None finds it from the weights by `range_method`."""
    range_method: RangeMethod = "mse"
    nnz: int | None = None
    """Pruning to at most so many non-zeros."""
    density: float | None = None
    """Pruning to at most this fraction of the weights, in (0, 1]."""
    pattern: tuple[int, int] | None = None
    """N:M pruning."""
    format: str | None = None
    """A format by name, joint ones too."""
    every: bool = False
    """Whether nothing need be said: pruning, of which every number of non-zeros is asked for."""

    @property
    def given(self) -> bool:
        """Whether anything was asked for."""
        return any(
            value is not None
            for value in (self.bits, self.scale, self.nnz, self.density, self.pattern, self.format)
        )

    def problem(self, gram: Gram, weight: NDArray[np.float64]) -> Problem:
        """Build the problem of `weight` under this budget.

        Raises
        ------
        InputError
            If not exactly one of the five was given, or its value cannot be used.
        """
        sizes = (self.bits, self.nnz, self.density, self.pattern, self.format)
        if self.every and not self.given:
            return SparseLeastSquares(gram, weight, nnz=gram.n)
        if sum(value is not None for value in sizes) != 1:
            raise InputError(
                "Say how to compress: give one of bits (quantization), density, nnz or pattern (pruning), or "
                "a format (any of them, and both at once)."
            )
        if self.bits is not None:
            qmin, qmax = symmetric_codes(self.bits)
            scale = self.scale
            if scale is None:
                live = weight[np.diagonal(gram.matrix) > 0.0]  # others do not count in the error
                scale = range_scale(self.range_method, live if len(live) else weight, qmin, qmax)
            return IntegerLeastSquares(gram, weight, scale, qmin, qmax)
        if self.scale is not None:
            raise InputError("A scale belongs to quantization; give bits with it, or leave it out.")
        if self.format is not None:
            return parse(self.format).problems(gram, weight[None])[0]
        if self.pattern is not None:
            return SparseLeastSquares(gram, weight, pattern=self.pattern)
        nnz = self.nnz if self.density is None else nnz_of_density(self.density, gram.n)
        return SparseLeastSquares(gram, weight, nnz=nnz)


def load_problem(path: str | Path, budget: Budget | None = None) -> Problem:
    """Read a problem from a `.npz`, `.mat`, `.sparse` or `.mc` file.

    Parameters
    ----------
    path
        The file; the module's description says what it holds.
    budget
        What is allowed, for a file that does not say: every `.mat`, and a `.npz` of ``gram``
        and ``weight`` alone.

    Raises
    ------
    InputError
        If the file is missing, damaged or of another kind, if it holds anything but numbers
        (pickles, structs and cells are never loaded), if its quantities disagree, or if the
        budget is missing or stated twice.
    """
    path = Path(path)
    budget = budget or Budget()
    suffix = suffix_of(path)
    if suffix in QUADRATIC_SUFFIXES:
        problem = read_quadratic(path)
        _refuse_budget(budget, "codes 0 and 1", path)
        return problem
    if suffix == ".mat":
        gram, weight = _read_matlab(path)
        return budget.problem(Gram(gram), as_real_array(weight, "The weight", ndim=1))
    if suffix != ".npz":
        if not path.exists():
            raise InputError(f"There is no file and no folder {path}.")
        raise InputError(
            f"{path} has a name that ends in neither .npz, .mat, .sparse nor .mc, the kinds that are read."
        )
    return _problem_of(parse_arrays(read_bytes(path), path), path, budget)


def problem_paths(paths: Sequence[Path]) -> list[Path]:
    """The files that are meant: of a folder those in it that are read, by name.

    Raises
    ------
    InputError
        If a folder holds none, or a file is meant twice.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(file for file in path.iterdir() if suffix_of(file) in PROBLEM_SUFFIXES)
        if not inside:
            raise InputError(f"The folder {path} holds no file that ends in {', '.join(PROBLEM_SUFFIXES)}.")
        found += inside
    refuse_repeated(found)
    return found


def write_npz(problem: Problem, path: str | Path) -> None:
    """Write `problem` to a `.npz` file, whole or not at all.

    Raises
    ------
    InputError
        If its values are of a kind of their own that files do not hold.
    OutputError
        If the file cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {"gram": problem.gram, "weight": problem.weight}
    if isinstance(problem, IntegerLeastSquares) and problem.quadratic is not None:
        ends = {"qmin": np.array(problem.qmin), "qmax": np.array(problem.qmax)}
        arrays = {"P": problem.quadratic.matrix, "q": problem.quadratic.linear, **ends}
    else:
        arrays |= _value_arrays(problem) | _rule_arrays(problem)
    with replacing(Path(path)) as temporary:
        write_arrays(temporary, arrays)


def _value_arrays(problem: Problem) -> dict[str, NDArray[Any]]:
    """The values; one number, or one row, where all inputs have the same."""
    names = {"step": "scale"}
    parts = {names.get(name, name): np.asarray(array) for name, array in problem.values.arrays.items()}
    if frozenset(parts) not in VALUE_KEYS:
        raise InputError(f"Files hold no values that are made of {_listed(set(parts))}.")
    return {name: array[0] if (array == array[0]).all() else array for name, array in parts.items()}


def _rule_arrays(problem: Problem) -> dict[str, NDArray[Any]]:
    if problem.nnz is not None:
        return {"nnz": np.array(problem.nnz)}
    if problem.pattern is not None:
        stride = {} if problem.stride == 1 else {"stride": np.array(problem.stride)}
        return {"pattern": np.array(problem.pattern)} | stride
    if problem.values.is_finite and not problem.is_restricted:
        return {}
    groups = Groups.of(problem.rule, problem.n)
    return {"group": groups.group, "group_nnz": groups.most}


def _problem_of(arrays: dict[str, NDArray[Any]], path: Path, budget: Budget) -> Problem:
    if arrays.keys() == QUADRATIC_KEYS:
        _refuse_budget(budget, _listed(QUADRATIC_KEYS), path)
        return _quadratic_of(arrays, path)
    missing = {"gram", "weight"} - arrays.keys()
    if missing:
        raise InputError(f"{path} lacks the array{'s' * (len(missing) > 1)} {_listed(missing)}.")
    stated = frozenset(arrays) - {"gram", "weight"}
    named = {"levels", "span", *GRID_KEYS}
    values, rule = stated & named, stated - named
    if values not in VALUE_KEYS or rule not in RULE_KEYS:
        raise InputError(
            f"{path} holds {_listed(stated)} beside gram and weight; it must hold scale, qmin and qmax, or "
            "qmin and qmax for any scale (and span for any zero point), or levels, and nnz, or pattern (and "
            "stride), or group and group_nnz; or none of them."
        )
    gram, weight = Gram(arrays["gram"]), as_real_array(arrays["weight"], "The weight", ndim=1)
    if not stated:
        return budget.problem(gram, weight)
    _refuse_budget(budget, _listed(stated), path)
    problem: Problem
    if "levels" in values:
        levels = arrays["levels"]
        problem = CodebookLeastSquares(gram, weight, levels if levels.ndim == 2 else levels.ravel())
    elif values in (BOX_KEYS, SPAN_KEYS):
        ends = (_whole(_scalar(arrays[name], name, path), name, path) for name in ("qmin", "qmax"))
        span = _whole(_scalar(arrays["span"], "span", path), "span", path) if "span" in values else None
        problem = AnyScaleLeastSquares(gram, weight, *ends, span=span)
    elif values:
        scale = _one_or_each(arrays["scale"], "scale", len(weight), path)
        problem = IntegerLeastSquares(gram, weight, scale, *_box(arrays, len(weight), path))
    else:
        problem = SparseLeastSquares(gram, weight, nnz=0)
    return problem.under(_rule_of(arrays, rule, len(weight), path)) if rule else problem


def _quadratic_of(arrays: dict[str, NDArray[Any]], path: Path) -> IntegerLeastSquares:
    linear = as_real_array(arrays["q"], "q", ndim=1)
    return IntegerLeastSquares.from_quadratic(arrays["P"], linear, *_box(arrays, len(linear), path))


def _box(arrays: dict[str, NDArray[Any]], n: int, path: Path) -> tuple[Any, Any]:
    """qmin and qmax: whole numbers, or one for each input."""
    ends = {name: _one_or_each(arrays[name], name, n, path) for name in ("qmin", "qmax")}
    qmin, qmax = (_whole(end, name, path) if isinstance(end, float) else end for name, end in ends.items())
    return qmin, qmax


def _refuse_budget(budget: Budget, stated: str, path: Path) -> None:
    if budget.given:
        raise InputError(f"{path} states {stated} itself; leave the options for it out.")


def _rule_of(arrays: dict[str, NDArray[Any]], names: frozenset[str], n: int, path: Path) -> SupportRule:
    """The support rule that a file states."""
    if "group" in names:
        group, most = (_whole_numbers(arrays[name], name, path) for name in ("group", "group_nnz"))
        if len(group) != n or group.min() < -1 or group.max() >= len(most) or most.min() < 0:
            raise InputError(
                f"group in {path} must name for each of {n} inputs a group of group_nnz, or -1, and no "
                "budget may be negative."
            )
        return Groups(group, most)
    if "pattern" not in names:
        return rule_of(n, _whole(_scalar(arrays["nnz"], "nnz", path), "nnz", path), None)
    if arrays["pattern"].shape != (2,):
        raise InputError(f"The pattern in {path} must be two whole numbers N, M.")
    kept, size = (_whole(number, "pattern", path) for number in arrays["pattern"])
    stride = _whole(_scalar(arrays["stride"], "stride", path), "stride", path) if "stride" in names else 1
    return rule_of(n, None, (kept, size), stride)


def _whole_numbers(array: NDArray[Any], name: str, path: Path) -> NDArray[np.int64]:
    numbers = as_real_array(array, f"{name} in {path}", ndim=1)
    if (numbers != np.rint(numbers)).any() or np.abs(numbers).max() > 2**31:
        raise InputError(f"{name} in {path} must hold whole numbers.")
    return numbers.astype(np.int64)


def _one_or_each(array: NDArray[Any], name: str, n: int, path: Path) -> float | NDArray[Any]:
    """A number, or one for each input."""
    return array if array.shape == (n,) and n > 1 else _scalar(array, name, path)


def _scalar(array: NDArray[Any], name: str, path: Path) -> float:
    if array.size != 1:
        raise InputError(f"{name} in {path} must be one number, but its shape is {array.shape}.")
    return float(array.item())


def _whole(number: float, name: str, path: Path) -> int:
    if not np.isfinite(number) or number != int(number):
        raise InputError(f"{name} in {path} must be whole, not {number}.")
    return int(number)


def _listed(names: frozenset[str] | set[str]) -> str:
    return ", ".join(sorted(names))


def _read_matlab(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gram P/2 and weight x0 of the MATLAB script's input."""
    wanted = parse_matlab(read_bytes(path), ("P", "q", "r", "x0"), path)
    form = as_real_array(wanted["P"], f"P in {path}", ndim=2)
    n = len(form)
    if form.shape != (n, n):
        raise InputError(f"P in {path} must be square, but its shape is {form.shape}.")
    weight, slope = (as_real_array(wanted[name].ravel(), f"{name} in {path}", ndim=1) for name in ("x0", "q"))
    for name, vector in (("x0", weight), ("q", slope)):
        if len(vector) != n:
            raise InputError(f"P in {path} has {n} inputs, but {name} has {len(vector)}.")
    constant = _scalar(as_real_array(wanted["r"], f"r in {path}", ndim=2), "r", path)
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow is refused in the next line
        gradient = form @ weight
        signal = 0.5 * float(weight @ gradient)
        scale = float((np.abs(form) @ np.abs(weight)).max())
    if not (math.isfinite(signal) and math.isfinite(scale)):
        raise InputError(f"The signal x0' P x0 / 2 of {path} is beyond float64: give smaller units.")
    if float(np.abs(slope + gradient).max()) > MATLAB_TOLERANCE * scale:
        raise InputError(f"q in {path} disagrees with P and x0: it must be -P x0, so that x0 has no error.")
    if abs(constant - signal) > MATLAB_TOLERANCE * max(signal, abs(constant)):
        raise InputError(
            f"r in {path} disagrees with P and x0: it is {constant:.9g}, but x0' P x0 / 2 = {signal:.9g} "
            "(P must be 2 X'X)."
        )
    return 0.5 * form, weight

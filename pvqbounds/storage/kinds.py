"""What the files of a result hold of each kind of problem: one class for each, found by its task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems import Gram, IntegerLeastSquares, Problem, SparseLeastSquares
from pvqbounds.results.layer import SliceResult
from pvqbounds.storage.nodes import Arrays, Document, Node, StoredArrays

__all__ = ["KINDS", "Kind", "Stored"]


@dataclass(frozen=True, eq=False)
class Stored:
    """A problem that was read, and the best weights found for it."""

    problem: Problem
    weight: NDArray[np.float64]
    codes: NDArray[np.int64] | None = None
    support: NDArray[np.int64] | None = None


class Kind(ABC):
    """How one kind of problem lies in files."""

    points: type[np.generic]
    """Type of what a simple method makes of the weights: codes, or weights."""

    @abstractmethod
    def common(self, problem: Any) -> Document:
        """What all entries of a side share."""

    @abstractmethod
    def own(self, problem: Any) -> Document:
        """What an entry has for itself, beside its arrays."""

    @abstractmethod
    def alone(self, problem: Any) -> Document:
        """What is allowed, of a problem without a layer."""

    @abstractmethod
    def arrays(self, slices: Sequence[SliceResult]) -> Arrays:
        """The best weights of problems of one Gram, one row each, and what is allowed of them."""

    @abstractmethod
    def read(
        self,
        entries: Sequence[Node],
        common: Node,
        arrays: StoredArrays,
        prefix: str,
        given: Sequence[tuple[Gram, NDArray[np.float64]]],
    ) -> list[Stored]:
        """The problems of one side, each on its Gram and weight in `given`."""

    @abstractmethod
    def check_point(self, problem: Any, point: NDArray[Any]) -> None:
        """Raise InputError where a point of a simple method is not allowed."""


STEPS = "steps"
"""The grid that has a scale and a box for each input."""


class Quantization(Kind):
    """Codes on a uniform grid: one scale and one box a channel, or (grid "steps") one of each an input."""

    points = np.int64

    def common(self, problem: IntegerLeastSquares) -> Document:
        return {"qmin": problem.qmin, "qmax": problem.qmax} if problem.is_uniform else {"grid": STEPS}

    def own(self, problem: IntegerLeastSquares) -> Document:
        return {}

    def alone(self, problem: IntegerLeastSquares) -> Document:
        scale = {"scale": problem.scale} if problem.is_uniform else {}
        return scale | self.common(problem)

    def arrays(self, slices: Sequence[SliceResult]) -> Arrays:
        problems = [cast(IntegerLeastSquares, s.problem) for s in slices]
        codes = {"codes": np.stack([cast(NDArray[np.int64], s.bounds.codes) for s in slices])}
        if all(problem.is_uniform for problem in problems):
            return {"scale": np.array([p.scale for p in problems])} | codes
        grid = ("step", "qmin", "qmax")
        return {name: np.stack([getattr(p.values, name) for p in problems]) for name in grid} | codes

    def read(
        self,
        entries: Sequence[Node],
        common: Node,
        arrays: StoredArrays,
        prefix: str,
        given: Sequence[tuple[Gram, NDArray[np.float64]]],
    ) -> list[Stored]:
        sizes = [gram.n for gram, _ in given]
        best = arrays.rows(entries, f"{prefix}/codes", np.int64, sizes)
        grids: list[tuple[Any, Any, Any]]
        if common.optional("grid", lambda name: common.text(name, (STEPS,))) is not None:
            kinds: dict[str, type[Any]] = {"step": np.float64, "qmin": np.int64, "qmax": np.int64}
            parts = [arrays.rows(entries, f"{prefix}/{name}", kind, sizes) for name, kind in kinds.items()]
            grids = list(zip(*parts, strict=True))
        else:
            ends = common.whole("qmin"), common.whole("qmax")
            scales = arrays.rows(entries, f"{prefix}/scale", np.float64)
            grids = [(float(cast(Any, scale)), *ends) for scale in scales]
        found = []
        for (gram, weight), grid, codes in zip(given, grids, best, strict=True):
            problem = IntegerLeastSquares(gram, weight, *grid)
            found.append(Stored(problem, problem.weight_of(codes), codes=codes))
        return found

    def check_point(self, problem: IntegerLeastSquares, point: NDArray[Any]) -> None:
        problem.checked_codes(point)


class Pruning(Kind):
    """Weights of which few are kept."""

    points = np.float64

    def common(self, problem: SparseLeastSquares) -> Document:
        stride = {} if problem.stride == 1 else {"pattern_stride": problem.stride}
        return {"pattern": None if problem.pattern is None else list(problem.pattern)} | stride

    def own(self, problem: SparseLeastSquares) -> Document:
        return {"nnz": problem.nnz}

    def alone(self, problem: SparseLeastSquares) -> Document:
        return self.own(problem) | self.common(problem)

    def arrays(self, slices: Sequence[SliceResult]) -> Arrays:
        kept = np.zeros((len(slices), slices[0].problem.n), dtype=bool)
        for row, member in zip(kept, slices, strict=True):
            row[member.bounds.support] = True
        return {"kept": kept, "weight": np.stack([s.bounds.weight for s in slices])}

    def read(
        self,
        entries: Sequence[Node],
        common: Node,
        arrays: StoredArrays,
        prefix: str,
        given: Sequence[tuple[Gram, NDArray[np.float64]]],
    ) -> list[Stored]:
        sizes = [gram.n for gram, _ in given]
        best = arrays.rows(entries, f"{prefix}/weight", np.float64, sizes)
        kept = arrays.rows(entries, f"{prefix}/kept", np.bool_, sizes)
        pattern = common.optional("pattern", common.pair)
        stride = common.optional("pattern_stride", common.whole) or 1
        found = []
        for entry, (gram, weight), refitted, row in zip(entries, given, best, kept, strict=True):
            nnz = entry.optional("nnz", entry.count)
            problem = SparseLeastSquares(gram, weight, nnz, pattern, stride)
            found.append(Stored(problem, refitted, support=np.flatnonzero(row)))
        return found

    def check_point(self, problem: SparseLeastSquares, point: NDArray[Any]) -> None:
        problem.checked_support(np.flatnonzero(point))


KINDS: Mapping[str, Kind] = {"quantization": Quantization(), "pruning": Pruning()}

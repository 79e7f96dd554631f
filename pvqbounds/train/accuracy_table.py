"""The paper's table in miniature: accuracy after quantization and after pruning, bits 8 to 2."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from pvqbounds.errors import InputError, checked_flags
from pvqbounds.problems.grids import symmetric_codes
from pvqbounds.train.data import TrainingData
from pvqbounds.train.engine import Engine
from pvqbounds.train.fit import fine_tune
from pvqbounds.train.presets import FULL_BITS, Pruning, Quantization, Recipe

__all__ = ["AccuracyTable", "Cell", "accuracy_table"]


@dataclass(frozen=True)
class Cell:
    """One task at one size."""

    task: str
    """"quantization" or "pruning"."""
    bits: int
    """Bits a weight; pruning has the density bits/16."""
    accuracies: tuple[float, ...]
    """One for each seed."""

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return math.fsum(self.accuracies) / len(self.accuracies)


@dataclass(frozen=True)
class AccuracyTable:
    """All cells, and what they rest on."""

    model: str
    data: str
    dense: float
    """Accuracy of the dense model."""
    test_images: int
    recipes: Mapping[str, Recipe]
    cells: tuple[Cell, ...]
    seconds: float

    @property
    def bits(self) -> list[int]:
        """Sizes, the largest first."""
        return sorted({cell.bits for cell in self.cells}, reverse=True)

    @property
    def seeds(self) -> int:
        """Runs behind each cell."""
        return len(self.cells[0].accuracies)

    def cell(self, task: str, bits: int) -> Cell:
        """The cell of that task and size."""
        return next(cell for cell in self.cells if (cell.task, cell.bits) == (task, bits))


def accuracy_table(
    load: Callable[[], nn.Module],
    data: TrainingData,
    quantization: Recipe,
    pruning: Recipe,
    *,
    bits: Sequence[int] = (8, 7, 6, 5, 4, 3, 2),
    seeds: int = 1,
    engine: Engine | None = None,
    workers: int = 0,
    skip_corrupt: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> AccuracyTable:
    """Fine-tune the dense model once for each task, size and seed.

    Parameters
    ----------
    load
        Gives the dense model anew.
    quantization, pruning
        Recipes; bits and sparsity of them are replaced.
    bits
        Sizes: bits a weight, and density bits/16.
    seeds
        Runs for each, with seeds from the recipe's on.
    progress
        Called with the runs done, their number, and what is being done.

    Raises
    ------
    InputError
        As :func:`fine_tune`, or if a recipe is for the other task.
    """
    checked_flags(skip_corrupt=skip_corrupt)
    start = time.perf_counter()
    inner = quantization.compression, pruning.compression
    if not (isinstance(inner[0], Quantization) and isinstance(inner[1], Pruning)):
        raise InputError("The table needs a recipe that quantizes and one that prunes.")
    for size in bits:
        symmetric_codes(size)
    report = progress or (lambda done, total, what: None)
    cells, total, done, dense = [], 2 * len(bits) * seeds, 0, math.nan
    for size in bits:
        for task, recipe in (
            ("quantization", replace(quantization, compression=replace(inner[0], bits=size))),
            ("pruning", replace(pruning, compression=replace(inner[1], sparsity=1.0 - size / FULL_BITS))),
        ):
            accuracies = []
            for seed in range(seeds):
                report(done, total, f"{task}, {size} bits")
                seeded = replace(recipe, seed=recipe.seed + seed)
                trained = fine_tune(
                    load(), data, seeded, engine=engine, workers=workers, skip_corrupt=skip_corrupt
                )
                accuracies.append(trained.accuracy_after)
                dense, done = trained.accuracy_before, done + 1
            cells.append(Cell(task, size, tuple(accuracies)))
    return AccuracyTable(
        model=quantization.model,
        data=data.name,
        dense=dense,
        test_images=len(data.test),
        recipes={"quantization": quantization, "pruning": pruning},
        cells=tuple(cells),
        seconds=time.perf_counter() - start,
    )

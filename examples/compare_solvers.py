"""Two problems, every backend that is usable here: each states its own bound, one proof judges all.

    python examples/compare_solvers.py [PICTURE.png]

The table, and the picture, show what each found, what is proved, what it states and how long it took.
"""

import sys
from pathlib import Path

import numpy as np
from rich.console import Console

import pvqbounds as pvq
from pvqbounds.report.comparison import Entry, comparison_view, entry_of, plot_comparison


def main(picture: str | None = None) -> None:
    generator = np.random.default_rng(0)
    inputs = np.maximum(generator.normal(size=(200, 12)) @ generator.normal(size=(12, 12)), 0.0)
    gram, weight = inputs.T @ inputs / 200, generator.normal(size=12)
    problems = {
        "quantization": pvq.IntegerLeastSquares(gram, weight, 0.4, -4, 3),
        "pruning": pvq.SparseLeastSquares(gram, weight, nnz=4),
    }
    entries = []
    for task, problem in problems.items():
        for solver in pvq.available_solvers():
            try:
                entries.append(entry_of(task, pvq.solve(problem, solver, time_limit=10.0)))
            except pvq.SolverError as error:  # it is not made for this problem: the message says what is
                entries.append(Entry(solver, task, note=str(error)))
    title = "12 inputs, 3 bits against 4 weights kept"
    Console(highlight=False).print(comparison_view(title, entries))
    if picture is not None:
        plot_comparison(title, entries, Path(picture))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Two problems, every backend that is usable here: each states its own bound, one proof judges all."""

import numpy as np
from rich.console import Console
from rich.table import Table

import pvqbounds as pvq


def main() -> None:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(200, 12)) @ generator.normal(size=(12, 12))
    gram, weight = inputs.T @ inputs / 200, generator.normal(size=12)
    problems = {
        "quantization": pvq.IntegerLeastSquares(gram, weight, 0.4, -4, 3),
        "pruning": pvq.SparseLeastSquares(gram, weight, nnz=4),
    }
    table = Table("", "solver", "method", "SQNR, dB", "proof", "stated", "seconds")
    for name, problem in problems.items():
        for solver in pvq.available_solvers():
            try:
                bounds = pvq.solve(problem, solver=solver, time_limit=10.0)
            except pvq.SolverError:
                continue  # it is not made for this problem
            interval = f"{bounds.sqnr_lower:.2f} .. {bounds.sqnr_upper:.2f}"
            stated = "" if bounds.reported_lower is None else f"{bounds.reported_lower:.5g}"
            seconds = f"{bounds.seconds:.3f}"
            table.add_row(name, solver, bounds.method, interval, bounds.lower_kind, stated, seconds)
    Console().print(table)


if __name__ == "__main__":
    main()

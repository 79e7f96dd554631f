"""Solve one problem with two backends: each states its own bound, one proof judges them all."""

import numpy as np
from rich.console import Console
from rich.table import Table

import pvqbounds as pvq


def main() -> None:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(200, 20)) @ generator.normal(size=(20, 20))
    problem = pvq.IntegerLeastSquares(inputs.T @ inputs / 200, generator.normal(size=20), 0.4, -4, 3)

    table = Table("solver", "method", "SQNR, dB", "status", "proof", "stated", "seconds")
    for solver, method in (("native", "exact"), ("native", "relax"), ("clarabel", "relax")):
        bounds = pvq.solve(problem, solver=solver, method=method)
        interval = f"{bounds.sqnr_lower:.2f} .. {bounds.sqnr_upper:.2f}"
        stated = "" if bounds.reported_lower is None else f"{bounds.reported_lower:.5g}"
        table.add_row(
            solver, method, interval, bounds.status, bounds.lower_kind, stated, f"{bounds.seconds:.3f}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()

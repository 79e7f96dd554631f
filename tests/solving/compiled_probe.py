"""Prints what is compiled by solves although it should have been ahead of them: run by test_compiling.py."""

import sys

import numpy as np
from numba.core.dispatcher import Dispatcher

import pvqbounds as pvq
from pvqbounds.problems import LeastSquares
from pvqbounds.solvers.base import Options
from pvqbounds.solvers.native.compiling import compile_for
from pvqbounds.solving.channels import solve_channels
from pvqbounds.solving.layer_budget import compile_layer_budget, solve_layer_budget

RELAXATIONS = ("hybrid", "splits", "box-hull", "park-boyd")


def compiled():
    """Name and types of every compiled function of the package."""
    found = set()
    for name, module in list(sys.modules.items()):
        if name.startswith("pvqbounds"):
            for value in list(vars(module).values()):
                if isinstance(value, Dispatcher):
                    found |= {(value.py_func.__qualname__, str(s)) for s in value.signatures}
    return found


def main() -> None:
    rng = np.random.default_rng(0)
    x = np.maximum(rng.standard_normal((120, 30)) @ rng.standard_normal((30, 30)), 0.0)
    gram = pvq.Gram(x.T @ x / len(x))
    weights = rng.standard_normal((3, 30))
    integer = [pvq.IntegerLeastSquares(gram, w, 0.2, -8, 7) for w in weights]
    sparse = [pvq.SparseLeastSquares(gram, w, nnz=8) for w in weights]
    levels = [-2.0, -1.0, -0.4, 0.0, 0.3, 1.5]
    coded = [
        pvq.IntegerLeastSquares(gram, weights[0], 0.2, -8, 7, pattern=(2, 4)),
        pvq.CodebookLeastSquares(gram, weights[0], levels),
        pvq.CodebookLeastSquares(gram, weights[0], levels, nnz=8),
        LeastSquares(gram, weights[0], integer[0].values),
    ]
    for relaxation in RELAXATIONS:
        compile_for(integer[0], Options(relaxation=relaxation))
    for problem in coded:
        compile_for(problem, Options(relaxation="hybrid"))
    compile_for(sparse[0], Options())
    compile_layer_budget()
    before = compiled()
    for method in ("auto", "exact", "relax"):
        for relaxation in RELAXATIONS:
            found = pvq.solve(integer[0], method=method, relaxation=relaxation, time_limit=0.3)
            assert pvq.verify(integer[0], found)
        for problem in coded:
            for relaxation in ("hybrid", "box-hull"):
                found = pvq.solve(problem, method=method, relaxation=relaxation, time_limit=0.3)
                assert pvq.verify(problem, found)
        found = pvq.solve(sparse[0], method=method, time_limit=2.0)
        assert pvq.verify(sparse[0], found)
    singular = x[:20].T @ x[:20] / 20.0
    pvq.solve(pvq.IntegerLeastSquares(singular, weights[0], 0.2, -8, 7), time_limit=0.3)
    pvq.solve(pvq.SparseLeastSquares(singular, weights[0], pattern=(2, 4)), time_limit=0.3)
    for relaxation in ("shared", "box-hull"):
        solve_channels(integer, method="relax", relaxation=relaxation, jobs=2)
    solve_layer_budget(sparse, 20)
    for function, signature in sorted(compiled() - before):
        print(function, signature)


if __name__ == "__main__":
    main()

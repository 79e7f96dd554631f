"""Certified bounds for layer-wise quantization and pruning.

How far from the best possible is this compressed layer, and which could ever be better on it:
quantization or pruning? See ``docs/`` for the mathematics and ``pvqbounds --help`` for the
command line.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pvqbounds._version import __version__ as __version__
from pvqbounds.errors import (
    ContradictionError,
    InputError,
    OutputError,
    PvqError,
    SolverError,
    SolverFailedError,
)
from pvqbounds.numba_cache import provide_cache
from pvqbounds.problems import (
    AnyScaleLeastSquares,
    CodebookLeastSquares,
    Gram,
    IntegerLeastSquares,
    LeastSquares,
    SparseLeastSquares,
)

if TYPE_CHECKING:
    from pvqbounds import formats, methods, nn, solvers
    from pvqbounds.results.bounds import Bounds
    from pvqbounds.results.layer import LayerReport
    from pvqbounds.solvers import available_solvers
    from pvqbounds.solving.budget_curve import budget_curve
    from pvqbounds.solving.channels import solve_channels
    from pvqbounds.solving.one import solve
    from pvqbounds.solving.verification import Verification, verify
    from pvqbounds.storage.problem_files import load_problem
    from pvqbounds.storage.problem_forms import save_problem

__all__ = [
    "AnyScaleLeastSquares",
    "Bounds",
    "CodebookLeastSquares",
    "ContradictionError",
    "Gram",
    "InputError",
    "IntegerLeastSquares",
    "LayerReport",
    "LeastSquares",
    "OutputError",
    "PvqError",
    "SolverError",
    "SolverFailedError",
    "SparseLeastSquares",
    "Verification",
    "available_solvers",
    "budget_curve",
    "formats",
    "load_problem",
    "methods",
    "nn",
    "save_problem",
    "solve",
    "solve_channels",
    "solvers",
    "verify",
]

# imported on first use, so that `import pvqbounds` needs numpy and little else
_LAZY = {
    "Bounds": "pvqbounds.results.bounds",
    "LayerReport": "pvqbounds.results.layer",
    "Verification": "pvqbounds.solving.verification",
    "available_solvers": "pvqbounds.solvers",
    "budget_curve": "pvqbounds.solving.budget_curve",
    "load_problem": "pvqbounds.storage.problem_files",
    "save_problem": "pvqbounds.storage.problem_forms",
    "solve": "pvqbounds.solving.one",
    "solve_channels": "pvqbounds.solving.channels",
    "verify": "pvqbounds.solving.verification",
}


def __getattr__(name: str) -> Any:
    if name in ("formats", "methods", "nn", "solvers"):
        return import_module(f"pvqbounds.{name}")
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'pvqbounds' has no attribute '{name}'")


def __dir__() -> list[str]:
    # names that are imported on first use are completed too; the imports of this file are not offered
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


provide_cache(Path(__file__).parent)  # before the first kernel is compiled

"""Compile everything ahead: ``python -m pvqbounds.solving.compiling``, at an installation."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

from pvqbounds.solvers.native.compiling import KINDS, compile_kind
from pvqbounds.solving.layer_budget import compile_layer_budget

__all__ = ["main"]

LONGEST_FIRST = ("hybrid", "perspective")
"""What takes longest, and has least in common."""

LAYER_BUDGET = "layer budget"


def main() -> None:
    """Compile everything, on all cores, and say how long it took."""
    started = time.perf_counter()
    kinds = [*LONGEST_FIRST, *(kind for kind in KINDS if kind not in LONGEST_FIRST), LAYER_BUDGET]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_compile, kinds))  # on disk, where all processes find it
    print(f"compiled in {time.perf_counter() - started:.0f} s")


def _compile(kind: str) -> None:
    if kind == LAYER_BUDGET:
        compile_layer_budget()
    else:
        compile_kind(kind)


if __name__ == "__main__":
    main()

"""A backend of somebody else's: what registering one takes, in one file outside the package."""

from __future__ import annotations

from itertools import product
from typing import ClassVar

import numpy as np

from pvqbounds.errors import SolverError
from pvqbounds.relaxations.miqp import MIQP
from pvqbounds.solvers.base import Capability, Options
from pvqbounds.solvers.miqp.programs import MIQPBackend, MIQPSolution


class Counting(MIQPBackend):
    """Tries all codes."""

    name: ClassVar[str] = "counting"
    module: ClassVar[str] = "itertools"
    install: ClassVar[str] = "comes with Python"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.EXACT_QUANTIZATION})
    citation: ClassVar[str] = ""

    def solve_miqp(self, program: MIQP, options: Options) -> MIQPSolution:
        """One product of all boxes."""
        if program.n > 6:
            raise SolverError(f"counting takes at most 6 inputs, not {program.n}; use --solver native.")
        ranges = [range(int(a), int(b) + 1) for a, b in zip(program.lower, program.upper, strict=True)]
        best = min((np.array(z, dtype=float) for z in product(*ranges)), key=program.objective)
        return MIQPSolution(best, program.objective(best), "optimal")

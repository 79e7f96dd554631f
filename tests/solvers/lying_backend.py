"""A backend whose searches never took place."""

from typing import ClassVar

import numpy as np

from pvqbounds.solvers.base import Backend, Capability, ExactSolution
from pvqbounds.solvers.native.pruning.certificate import SubsetCertificate
from pvqbounds.solvers.native.quantization.certificate import SearchCertificate


class Lying(Backend):
    """Claims that round to nearest and magnitude pruning are all but the best there is."""

    name: ClassVar[str] = "lying"
    module: ClassVar[str] = "itertools"
    install: ClassVar[str] = "comes with Python"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.EXACT_QUANTIZATION, Capability.EXACT_PRUNING}
    )
    citation: ClassVar[str] = ""

    def solve_integer(self, problem, options):
        start, nothing = problem.start(), np.zeros(problem.n)
        claim = SearchCertificate(nothing, nothing, 0.99 * start.upper, 1)
        return ExactSolution(start.codes, None, claim.value, claim, "optimal")

    def solve_sparse(self, problem, options):
        start = problem.start()
        claim = SubsetCertificate(0.99 * start.upper, 1)
        return ExactSolution(None, start.support, claim.value, claim, "optimal")

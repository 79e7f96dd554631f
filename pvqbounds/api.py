"""Names of version 0.1.0: solving stands in :mod:`pvqbounds.solving` now."""

from pvqbounds.solving.choice import solver_for_side
from pvqbounds.solving.guards import blas_threads
from pvqbounds.solving.one import solve, weak_bounds
from pvqbounds.solving.verification import Verification, verify

__all__ = ["Verification", "blas_threads", "solve", "solver_for_side", "verify", "weak_bounds"]

"""Names of version 0.1.0: solving stands in :mod:`pvqbounds.solving` now."""

from pvqbounds.solving.one import Verification, blas_threads, solve, solver_for_side, verify, weak_bounds

__all__ = ["Verification", "blas_threads", "solve", "solver_for_side", "verify", "weak_bounds"]

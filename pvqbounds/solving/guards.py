"""What a solve runs under: so many BLAS threads, and one error for whatever breaks down."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
from threadpoolctl import ThreadpoolController

from pvqbounds.errors import SolverFailedError

__all__ = ["blas_threads", "breakdowns"]


@contextmanager
def breakdowns(solver: str) -> Iterator[None]:
    """Arithmetic or memory that gives out inside an engine, as one error that says so."""
    name = "native" if solver == "auto" else solver
    try:
        yield
    except MemoryError as error:
        raise SolverFailedError(
            f"{name} ran out of memory; a smaller problem or more memory helps."
        ) from error
    except (ArithmeticError, np.linalg.LinAlgError) as error:
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise SolverFailedError(
            f"{name} broke down on these numbers ({reason}); try another --method or --solver."
        ) from error


@contextmanager
def blas_threads(threads: int) -> Iterator[None]:
    """Hold BLAS to so many threads: on matrices of a few hundred rows they only wait for each other.

    The limit is the process's own, so that only the main thread sets it and takes it back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    controller = _blas()
    if all(library.num_threads == threads for library in controller.lib_controllers):
        yield  # as a limit would leave it, at a fifth of its cost
        return
    with controller.limit(limits=threads, user_api="blas"):
        yield


@cache
def _blas() -> ThreadpoolController:
    """The BLAS libraries of this process."""
    import scipy.linalg  # noqa: F401  (brings a BLAS of its own, which must be loaded to be found)

    return ThreadpoolController().select(user_api="blas")

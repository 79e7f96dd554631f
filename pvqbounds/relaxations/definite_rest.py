"""What multipliers leave of a form, S = A - diag(lam), proved positive definite.

The proof is most of what a certificate costs, and channels that share their lam share S: the last one of
each Gram is kept for the next channel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from pvqbounds.problems.gram import Gram

__all__ = ["DefiniteRest", "Nearest", "kept_rest"]

Array = NDArray[np.float64]
Kept = TypeVar("Kept")


@dataclass(frozen=True, eq=False)
class DefiniteRest:
    """A matrix S and what is proved of it."""

    matrix: Array
    """S, taken as exact, shape (n, n)."""
    smallest: float
    """A proved lower bound on its least eigenvalue."""
    lowered: float
    """By which share of what there is to lower lam was less than the one asked for."""

    @cached_property
    def _factor(self) -> Array | None:
        factor, info = lapack.dpotrf(self.matrix, lower=1, clean=0)
        return np.asarray(factor) if info == 0 else None

    def solve(self, right: Array) -> Array:
        """S⁻¹ times a vector, but for rounding, shape (n,)."""
        if self._factor is None:
            return np.asarray(np.linalg.solve(self.matrix, right), dtype=np.float64)
        return np.asarray(lapack.dpotrs(self._factor, right, lower=1)[0], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Nearest:
    """The lam nearest to one asked for at which S is proved, for every nu."""

    definite: DefiniteRest
    lam: Array
    """Shape (n,)."""
    before: Array | None
    """S at a lam that is hardly lowered, shape (n, n); None where `lam` is the one asked for."""

    @cached_property
    def _inverse(self) -> Array:
        """Of `before`, without what rounding makes of its null space."""
        assert self.before is not None
        least = len(self.before) * np.finfo(np.float64).eps
        return np.asarray(np.linalg.pinv(self.before, rcond=least, hermitian=True))

    def moved(self, nu: Array) -> Array:
        """The nu of this S with the y = S⁻¹nu that the given one had, shape (n,).

        The bound then loses sum e_i (d_i - y_i)², where lam is lowered by e: the distance from the relaxed
        weights and not from w.
        """
        if self.before is None:
            return nu
        moved = np.asarray(self.definite.matrix @ (self._inverse @ nu), dtype=np.float64)
        return moved if np.isfinite(moved).all() else nu


_last: WeakKeyDictionary[Gram, tuple[bytes, object]] = WeakKeyDictionary()
"""Of each Gram one: S is as large as the Gram."""


def kept_rest(gram: Gram, asked: Array, prove: Callable[[], Kept]) -> Kept:
    """What `prove` gives, which follows from the Gram and these numbers alone; not done twice in a row."""
    key = asked.tobytes()
    last = _last.get(gram)
    if last is None or last[0] != key:
        last = key, prove()
        _last[gram] = last
    found: Kept = last[1]  # type: ignore[assignment]  # the same question was answered by the same function
    return found

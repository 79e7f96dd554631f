"""Binary quadratic programs and maximum cuts in text files, as the Biq Mac library has them.

After comment lines that begin with ``#`` comes a line ``n m`` and then m lines ``i j q``, i and j counted
from 1, each pair once in either order:

- ``.sparse``: minimise zᵀQz over z in {0, 1}ⁿ with Q_ij = Q_ji = q; i = j is allowed;
- ``.mc``: the largest cut of a graph of n nodes whose edge between i and j weighs q. z in {0, 1}ⁿ says on
  which side a node is, and what is minimised is minus the weight of the cut:
  sum over edges of q (2 z_i z_j - z_i - z_j).

Both may be packed as ``.gz``. Numbers that are not whole are read as the float64 next to them, and the
weights of the edges at a node are summed to one. Sources:
Wiegele, "Biq Mac Library", 2007; the pages on formats of the Spin Glass Server, University of Bonn.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.enclosures import total
from pvqbounds.errors import InputError, shown
from pvqbounds.problems.integer import IntegerLeastSquares
from pvqbounds.storage.archive import LARGEST_FILE, inflated, read_bytes

__all__ = ["QUADRATIC_SUFFIXES", "read_quadratic", "suffix_of"]

QUADRATIC_SUFFIXES = (".sparse", ".mc")
"""Binary quadratic programs, and maximum cuts."""


def suffix_of(path: Path) -> str:
    """What the name of a file ends in, before a ``.gz``; in lower case."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix == ".gz" else suffix


def read_quadratic(path: Path) -> IntegerLeastSquares:
    """Read the problem of a file; the module's description says what it holds.

    Raises
    ------
    InputError
        If the file is missing, damaged, or says anything that its format does not allow.
    """
    content = read_bytes(path)
    if path.suffix.lower() == ".gz":
        try:
            content = inflated(content, path, gzip=True)
        except zlib.error as error:
            raise InputError(f"{path} is damaged or not a gzip file ({error}).") from error
    try:
        entries = _entries(content, path, loops=suffix_of(path) == ".sparse")
        form = entries if suffix_of(path) == ".sparse" else _cut(entries)
        return IntegerLeastSquares.from_quadratic(form, np.zeros(len(form)), 0, 1)
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory.") from error


def _cut(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """P of minus the cut."""
    form = weights.copy()
    form[np.diag_indices(len(form))] = [-total(row) for row in weights.tolist()]
    return form


def _entries(content: bytes, path: Path, *, loops: bool) -> NDArray[np.float64]:
    """The symmetric matrix of a file, shape (n, n); `loops` says whether its diagonal may be given."""
    try:
        lines = content.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is damaged or no text of numbers.") from error
    rows = [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip()]
    rows = [(number, words) for number, words in rows if not words[0].startswith("#")]
    if not rows:
        raise InputError(f"{path} is empty, where a line 'n m' is wanted.")
    n, m = _counts(*rows[0], path)
    if len(rows) - 1 != m:
        raise InputError(f"{path} has {len(rows) - 1} entries, but its first line says {m}.")
    matrix = np.zeros((n, n))
    given = np.zeros((n, n), dtype=np.bool_)
    for number, words in rows[1:]:
        i, j, value = _entry(number, words, n, path)
        if given[i, j] or (i == j and not loops):
            what = (
                "gives a pair that an earlier line has given" if given[i, j] else "joins a node with itself"
            )
            raise InputError(f"Line {number} of {path} {what}.")
        given[i, j] = given[j, i] = True
        matrix[i, j] = matrix[j, i] = value
    return matrix


def _counts(number: int, words: list[str], path: Path) -> tuple[int, int]:
    """n and m of the first line."""
    try:
        n, m = map(int, words)
    except ValueError:
        n = m = -1
    if n < 1 or m < 0:
        raise InputError(f"Line {number} of {path} must be 'n m', two whole numbers, not {_said(words)}.")
    if 8 * n * n > LARGEST_FILE:
        raise InputError(f"{path} is about {shown(n)} variables, whose matrix is larger than what is read.")
    return n, m


def _entry(number: int, words: list[str], n: int, path: Path) -> tuple[int, int, float]:
    """i and j, counted from 0, and q of one line."""
    try:
        first, second, value = words
        i, j, q = int(first) - 1, int(second) - 1, float(value)
    except ValueError:
        i = j = -1
    if not (0 <= i < n and 0 <= j < n and np.isfinite(q)):
        raise InputError(
            f"Line {number} of {path} must be 'i j q' with i and j from 1 to {n} and a finite q, "
            f"not {_said(words)}."
        )
    return i, j, q


def _said(words: list[str]) -> str:
    return shown(" ".join(words))

"""A place for numba's compiled code where its own places cannot be written, and one writer at a time.

numba keeps what it compiles beside the source, or else in the user's cache folder; where neither can
be written (a package of the system's, a home that is read-only) it refuses to compile at all.

Its cache is also none for processes that compile at once: each entry is a line of an index and a file by
number, and two processes that read one index before either wrote give two entries one number. The index of
one then names the code of the other, for arguments of other types. Here one at a time reads and writes.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

__all__ = ["one_at_a_time", "provide_cache"]

VARIABLE = "NUMBA_CACHE_DIR"


def provide_cache(package: Path) -> None:
    """Point numba to a folder of this user's below the temporary folder, where it has no other.

    Nothing is done where numba finds a place itself, or where there is no temporary folder either.

    Parameters
    ----------
    package
        Folder of the sources that are compiled, with those below it.
    """
    chosen = os.environ.get(VARIABLE)
    if (chosen and _writable(Path(chosen))) or _writable(_cache_of_user()) or _beside(package):
        return
    folder = _temporary()
    if folder is None:
        return
    os.environ[VARIABLE] = str(folder)
    if "numba" in sys.modules:  # imported already: it has read the environment
        sys.modules["numba"].config.CACHE_DIR = str(folder)


def one_at_a_time() -> None:
    """Let one process at a time read or write the cached code of a function, from now on in this one."""
    from numba.core.caching import IndexDataCacheFile

    for name in ("save", "load"):
        own = getattr(IndexDataCacheFile, name)
        if not hasattr(own, "__wrapped__"):
            setattr(IndexDataCacheFile, name, _alone(own))


def _alone(own: Callable[..., Any]) -> Callable[..., Any]:
    """The same under the lock of its index."""

    @wraps(own)
    def alone(cache: Any, *arguments: Any) -> Any:
        with _lock(Path(f"{cache._index_path}.lock")):
            return own(cache, *arguments)

    return alone


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Wait for all others that hold this lock; where there are no locks, or no place for one, for nobody."""
    try:
        import fcntl

        stream = path.open("ab")
    except (ImportError, OSError):
        yield
        return
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _writable(folder: Path) -> bool:
    """Whether the folder can be written to, or made."""
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        return False


def _cache_of_user() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "numba"


def _beside(package: Path) -> bool:
    """Whether compiled code can be kept beside all sources."""
    folders: Iterable[Path] = {source.parent for source in package.rglob("*.py")}
    return all(_writable(folder / "__pycache__") for folder in folders)


def _temporary() -> Path | None:
    """A folder that only this user can write: what is kept in it is run."""
    try:
        base = Path(tempfile.gettempdir())
        if not hasattr(os, "getuid"):
            return Path(tempfile.mkdtemp(prefix="pvqbounds-numba-"))
        shared = base / f"pvqbounds-numba-{os.getuid()}"
        shared.mkdir(mode=0o700, exist_ok=True)
        state = os.lstat(shared)
        ours = stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid() and not state.st_mode & 0o077
        return shared if ours and _writable(shared) else Path(tempfile.mkdtemp(prefix="pvqbounds-numba-"))
    except OSError:
        return None

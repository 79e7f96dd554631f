"""A place for numba's compiled code where its own places cannot be written.

numba keeps what it compiles beside the source, or else in the user's cache folder; where neither can
be written (a package of the system's, a home that is read-only) it refuses to compile at all.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

__all__ = ["provide_cache"]

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

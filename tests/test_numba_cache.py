"""Compiled code finds a place where neither the package nor the home can be written."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from numba.core.caching import IndexDataCacheFile

from pvqbounds import numba_cache


@pytest.fixture
def read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package and a home that cannot be written; tests may run as somebody who can write all."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "kernel.py").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(numba_cache, "_writable", lambda folder: temporary in (folder, *folder.parents))
    # set, so that it is taken back after the test
    monkeypatch.setenv(numba_cache.VARIABLE, str(tmp_path / "not-this"))
    module = ModuleType("numba")
    module.config = SimpleNamespace(CACHE_DIR="")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "numba", module)
    return tmp_path


def test_it_is_a_folder_of_this_user_alone(read_only: Path) -> None:
    numba_cache.provide_cache(read_only / "package")
    folder = Path(os.environ[numba_cache.VARIABLE])
    assert folder.parent == read_only / "tmp"
    assert folder.stat().st_mode & 0o077 == 0
    assert str(folder) == sys.modules["numba"].config.CACHE_DIR
    numba_cache.provide_cache(read_only / "package")
    assert Path(os.environ[numba_cache.VARIABLE]) == folder  # what was compiled is found again


def test_a_folder_that_others_may_write_is_not_taken(read_only: Path) -> None:
    prepared = read_only / "tmp" / f"pvqbounds-numba-{os.getuid()}"
    prepared.mkdir()
    prepared.chmod(0o777)
    numba_cache.provide_cache(read_only / "package")
    folder = Path(os.environ[numba_cache.VARIABLE])
    assert folder != prepared
    assert folder.stat().st_mode & 0o077 == 0


def test_a_link_is_not_followed(read_only: Path) -> None:
    (read_only / "elsewhere").mkdir(mode=0o700)
    (read_only / "tmp" / f"pvqbounds-numba-{os.getuid()}").symlink_to(read_only / "elsewhere")
    numba_cache.provide_cache(read_only / "package")
    assert not Path(os.environ[numba_cache.VARIABLE]).is_symlink()


def test_numba_is_left_alone_where_it_finds_a_place(read_only: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(read_only / "tmp" / "cache"))
    numba_cache.provide_cache(read_only / "package")
    assert os.environ[numba_cache.VARIABLE] == str(read_only / "not-this")
    assert sys.modules["numba"].config.CACHE_DIR == ""


SAVER = """
import sys
from pathlib import Path
from types import SimpleNamespace

from numba.core.caching import IndexDataCacheFile

from pvqbounds.numba_cache import one_at_a_time

if sys.argv[2] == "locked":
    one_at_a_time()
    one_at_a_time()
own = int(sys.argv[3])
stem = Path(sys.argv[1])
cache = IndexDataCacheFile(str(stem.parent), stem.name, "stamp")
print("ready", flush=True)
sys.stdin.readline()
for i in range(150):
    cache.save((own, i), (own, i))
"""


def entries_after_two_writers(stem: Path, how: str) -> tuple[int, int]:
    """Entries of the index after two processes wrote 150 each, and how many of these name other code."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", SAVER, str(stem), how, str(own)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for own in range(2)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    cache = IndexDataCacheFile(str(stem.parent), stem.name, "stamp")
    index = cache._load_index()
    return len(index), sum(cache.load(key) != key for key in index)


def test_two_processes_that_compile_at_once_lose_no_code(tmp_path: Path) -> None:
    """Without the lock entries are lost, or name what the other process wrote."""
    assert entries_after_two_writers(tmp_path / "kernel", "locked") == (300, 0)

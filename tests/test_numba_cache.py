"""Compiled code finds a place where neither the package nor the home can be written."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

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

"""The site: every page is found, every public name has its entry, and nothing is fetched when it is read."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from page_blocks import ROOT, pages

import pvqbounds as pvq
from pvqbounds import formats, methods, nn, solvers

pytest.importorskip("torch")  # parts of the reference are read from modules that need it
pytest.importorskip("dimod")

DOCS = ROOT / "docs"

HELPERS = {
    *("EQUAL_SIZE", "MASKS", "asked_formats", "checked_mask", "density_format", "int_format", "levels_of"),
    *("pattern_format", "BACKENDS", "alternatives", "backend_named", "backend_of", "citation"),
}
"""Names by which rooms of the package help one another: users need none of them."""

ASKED = re.compile(
    r"""<(?:script|img|iframe)[^>]*\ssrc="?(https?:[^" >]+)|<link[^>]*\shref="?(https?:[^" >]+)"""
)
"""What a browser fetches from elsewhere."""


def navigation() -> list[str]:
    """Pages in the order of the site's menu."""
    menu = (ROOT / "mkdocs.yml").read_text().split("\nnav:\n")[1]
    return re.findall(r"^ +- ([\w/-]+\.md)$", menu, re.MULTILINE)


def referred() -> list[tuple[str, list[str]]]:
    """What pages of the reference take from docstrings, and the members that they name of it."""
    text = "\n".join(path.read_text() for path in sorted((DOCS / "reference").glob("*.md")))
    found = re.findall(r"^::: (\S+)(?:\n    options:\n      members: \[(.*?)\])?", text, re.MULTILINE)
    return [(target, re.findall(r"\w+", members)) for target, members in found]


def resolved(target: str) -> object:
    """The object of a dotted name."""
    try:
        return importlib.import_module(target)
    except ImportError:
        module, _, name = target.rpartition(".")
        return getattr(importlib.import_module(module), name)


def documented() -> set[str]:
    """Names that have an entry, without their modules'."""
    names = set()
    for target, members in referred():
        thing = resolved(target)
        own = thing.__all__ if isinstance(thing, ModuleType) and not members else members
        names |= {target.rsplit(".", 1)[-1], *own}
    return names


def test_every_page_is_in_the_menu_once() -> None:
    there = {path.relative_to(DOCS).as_posix() for path in pages() if DOCS in path.parents}
    assert sorted(navigation()) == sorted(there)


@pytest.mark.parametrize("module", [pvq, formats, methods, nn, solvers], ids=lambda module: module.__name__)
def test_every_public_name_has_its_entry(module: ModuleType) -> None:
    pages_of_their_own = {"formats", "methods", "nn", "solvers"}
    assert set(module.__all__) - HELPERS - pages_of_their_own - documented() == set()


def test_pictures_of_pages_are_there() -> None:
    for path in pages():
        for place in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", path.read_text()):
            assert (path.parent / place).exists(), f"{path}: {place}"


def test_what_is_fetched_from_elsewhere_is_seen() -> None:
    assert ASKED.search('<script async src="https://elsewhere.example/a.js"></script>')
    assert ASKED.search('<link rel="stylesheet" href="https://elsewhere.example/a.css">')
    assert not ASKED.search('<a href="https://elsewhere.example/">a link</a> <img src="images/layer.png">')


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="the extra docs is not installed")
def test_the_site_is_built_without_a_warning_and_asks_for_nothing_elsewhere(tmp_path: Path) -> None:
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    built = list(site.rglob("*.html"))
    assert len(built) > len(navigation())
    for page in built:
        assert ASKED.findall(page.read_text()) == [], page

"""The version has one source, and what repeats it for readers and tools says the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import pvqbounds as pvq

ROOT = Path(__file__).parents[1]

REPEATED = {
    "CITATION.cff": r"^version: (\S+)$",
    "CHANGELOG.md": r"^## (\d\S*) \(",
    "README.md": r"^ *version += \{(\S+)\},$",
    "docs/workflows/compression.md": r"^ *version += \{(\S+)\},$",
}
"""Where it stands in words, newest first."""


def test_packaging_takes_it_from_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "pvqbounds._version.__version__"}
    here = [
        p for p in (ROOT / "pvqbounds").rglob("*.py") if re.search(r"^__version__ = ", p.read_text(), re.M)
    ]
    assert [path.name for path in here] == ["_version.py"]


@pytest.mark.parametrize(("file", "pattern"), REPEATED.items(), ids=REPEATED)
def test_what_repeats_it_says_the_same(file: str, pattern: str) -> None:
    assert re.findall(pattern, (ROOT / file).read_text(), re.MULTILINE)[:1] == [pvq.__version__]


def test_every_entry_for_bibtex_repeats_it() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    with_entry = {str(path.relative_to(ROOT)) for path in pages if "@software{pvqbounds" in path.read_text()}
    assert with_entry == {name for name in REPEATED if name.endswith(".md")} - {"CHANGELOG.md"}


def test_the_day_of_the_release_is_that_of_the_changelog() -> None:
    (released,) = re.findall(r'^date-released: "(\S+)"$', (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert f"## {pvq.__version__} ({released})" in (ROOT / "CHANGELOG.md").read_text()
    for name in ("README.md", "docs/workflows/compression.md"):
        assert f"year    = {{{released[:4]}}}" in (ROOT / name).read_text()

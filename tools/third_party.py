"""Print the table of licences in THIRD_PARTY.md from what packages say of themselves.

    python tools/third_party.py [FOLDER ...]

Packages are those that pyproject.toml asks for and those that constraints.txt pins; what they say is read
from this environment and from the folders given (`pip install --no-deps --target FOLDER NAME`).
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import Distribution, PackageMetadata, distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MISSING = "(not installed when this table was made)"
LONGEST = 60
"""Characters of a licence field; what is longer is the licence itself."""


def requirements() -> dict[str, list[str]]:
    """Who asks for a package: "base" and the names of extras, by the package's name; `all` is left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked: dict[str, list[str]] = {}
    for group, lines in {"base": project["dependencies"], **project["optional-dependencies"]}.items():
        for line in lines:
            name = normalised(re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0])
            if name != "pvqbounds" and group != "all":
                asked.setdefault(name, []).append(group)
    return asked


def pinned() -> set[str]:
    """The packages of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {normalised(line.split("==")[0]) for line in lines if "==" in line}


def normalised(name: str) -> str:
    """A package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(metadata: PackageMetadata) -> str:
    """What a package says: its expression, its classifiers, or a short licence field."""
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    kinds = [line.split(" :: ")[-1] for line in metadata.get_all("Classifier", []) if "License ::" in line]
    kinds = [kind for kind in kinds if kind != "OSI Approved"]
    field = metadata["License"].strip() if "License" in metadata else ""
    field = "" if field.upper() == "UNKNOWN" else field
    if kinds and (not field or len(field) > LONGEST):
        return ", ".join(kinds)
    return field if 0 < len(field) <= LONGEST else "(see its own files)"


def table(folders: list[str]) -> list[str]:
    """The rows, sorted by name."""
    known: dict[str, Distribution] = {}
    for found in distributions(path=[*folders, *sys.path]):
        known.setdefault(normalised(found.metadata["Name"]), found)
    asked = requirements()
    rows = ["| package | its licence, as it says | asked for by |", "|---|---|---|"]
    for name in sorted(asked.keys() | pinned()):
        said = licence(known[name].metadata) if name in known else MISSING
        rows.append(f"| {name} | {said} | {', '.join(asked.get(name, ['others of these']))} |")
    return rows


if __name__ == "__main__":
    print("\n".join(table(sys.argv[1:])))

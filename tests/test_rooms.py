"""Imports run one way through the rooms of the package: CONTRIBUTING's map, checked."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "pvqbounds"

LEVELS = (
    ("_version", "clock", "errors", "numba_cache"),
    ("arithmetic",),
    ("problems",),
    ("relaxations",),
    ("heuristics",),
    ("solvers", "results"),
    ("methods",),
    ("solving", "storage"),
    ("report", "dimod_models"),
    ("nn",),
    ("studies", "train", "network"),
    ("commands", "cli"),
)
"""Rooms from the ground up: a line of code imports from its own level and from those below."""

DOORS = ("__init__", "__main__", "api", "formats")
"""Modules that only pass names on."""


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports_of(path: Path) -> list[tuple[int, str]]:
    """Lines and modules of the package's own that a file imports, those inside functions included."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            if node.module == "pvqbounds":
                found += [(node.lineno, f"pvqbounds.{alias.name}") for alias in node.names]
            else:
                found.append((node.lineno, node.module))
    return [(line, module) for line, module in found if module.split(".")[0] == "pvqbounds"]


def test_every_room_has_its_level():
    rooms = {
        path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert rooms - set(DOORS) == {room for level in LEVELS for room in level}


def test_no_import_runs_upwards():
    level = {room: height for height, rooms in enumerate(LEVELS) for room in rooms}
    upwards = []
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room in DOORS:
            continue
        for line, module in imports_of(path):
            target = room_of(module)
            if target not in DOORS and level[target] > level[room]:
                upwards.append(f"{path.relative_to(PACKAGE)}:{line} imports {module}")
            if target in ("__init__", "api", "formats"):
                upwards.append(f"{path.relative_to(PACKAGE)}:{line} goes through a door")
    assert upwards == []

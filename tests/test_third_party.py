"""Whoever's work is installed beside the package is named in THIRD_PARTY.md."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_package_is_listed() -> None:
    tool = runpy.run_path(str(ROOT / "tools" / "third_party.py"))
    rows = re.findall(r"^\| ([a-z0-9-]+) \|[^|]+\| ([^|]+) \|$", (ROOT / "THIRD_PARTY.md").read_text(), re.M)
    asked = tool["requirements"]()
    assert {name for name, _ in rows} >= asked.keys() | tool["pinned"](), "python tools/third_party.py"
    assert {name for name, _ in rows} >= {"numpy", "torch", "pillow"}


def test_files_of_others_are_listed() -> None:
    notices = (ROOT / "THIRD_PARTY.md").read_text()
    kinds = {".npz", ".safetensors", ".bin", ".png", ".jpg", ".parquet"}
    data = [path for path in (ROOT / "pvqbounds").rglob("*") if path.suffix in kinds]
    assert data
    for path in data:
        assert f"`{path.relative_to(ROOT)}`" in notices

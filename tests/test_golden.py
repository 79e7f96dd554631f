"""Result files of earlier versions: they stay readable, and what they claim is proved again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.results_read import read_record

FOLDER = Path(__file__).parent / "golden"
CONDITIONAL = "problem-radius"
"""A bound for re-fits within a radius alone, which 0.1.0 called certified: it is read, and does not hold."""

FILES = sorted(FOLDER.glob("*/*.json"))


def test_every_certificate_and_layout_is_among_them() -> None:
    kinds, layouts, formats = set(), set(), set()
    for path in FILES:
        document = json.loads(path.read_text())
        sides = [document[side] for side in ("quantization", "pruning") if side in document]
        sides += document.get("sides", [])
        for entry in [entry for side in sides for entry in side["per_channel"]] or [document["result"]]:
            kinds.add((entry["certificate"] or {"kind": entry["lower_kind"]})["kind"])
        layouts |= {document["schema"], document.get("protocol", ""), *(s.get("budget", "") for s in sides)}
        layouts |= {"pattern" for s in sides if s.get("pattern")}
        formats |= {side["format"] for side in document.get("sides", [])}
    assert kinds >= {
        "integer search",
        "subset search",
        "box-hull dual",
        "perspective dual",
        "reported",
        "dual",
    }
    assert layouts >= {"pvqbounds.layer/1", "pvqbounds.problem/1", "full", "chunked", "layer", "pattern"}
    assert "pvqbounds.layer/2" in layouts
    assert formats >= {"int4", "int4:g12", "int4:g12:asym", "nf4", "fp8", "nvfp4"}  # steps, groups, levels
    assert formats >= {"25%", "2:4", "2:4+int4", "2:4+int4:g12", "25%+nf4"}  # pruning, joint


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_it_is_read_and_verified(path: Path) -> None:
    record = read_record(path)
    assert record.document["schema"] == record.derived["schema"]
    faults = [finding for finding in verify_file(path) if not finding.holds]
    if path.stem == CONDITIONAL:
        assert [(fault.where, "re-fits" in fault.text) for fault in faults] == [("result", True)]
    else:
        assert faults == []

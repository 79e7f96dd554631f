"""``--any-scale`` and ``--search-scales`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import run

LAYER = ["layer", "--layer", "block1.0", "--out-channels", "1"]


def test_any_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.json"
    assert run(*LAYER, "--bits", "2", "--any-scale", "--json", str(path)) == 0
    assert "any scale a channel" in " ".join(capsys.readouterr().out.split())
    side = json.loads(path.read_text())["sides"][0]
    assert side["format"] == "int2:any"
    assert side["grid"] == "any scale"
    assert side["per_channel"][0]["scale"] > 0.0
    assert run("verify", str(path)) == 0


def test_search_scales(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.json"
    assert run(*LAYER, "--format", "int3:g3", "--search-scales", "--json", str(path)) == 0
    assert "found on the output error" in " ".join(capsys.readouterr().out.split())
    assert run("verify", str(path)) == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--format", "nf4:b8", "--any-scale"], "any_scale"),
        (["--format", "int4", "--search-scales"], "search_scales"),
    ],
)
def test_options_without_a_format_for_them(options, says, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*LAYER, *options) == 2
    assert says in " ".join(capsys.readouterr().err.split())

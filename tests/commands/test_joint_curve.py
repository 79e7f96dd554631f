"""``pvqbounds layer --joint-curve``: formats of one size, bounded, drawn and proved again."""

from __future__ import annotations

import json

import pytest
import torch
from command_line import run as command

import pvqbounds as pvq
from pvqbounds.errors import InputError
from pvqbounds.nn import joint_curve, layer_bounds
from pvqbounds.solving.verified_files import verify_file


def run(*arguments: object) -> int:
    return command(*map(str, arguments))


def test_a_joint_curve_is_a_report_of_formats_of_one_size(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    path, picture = tmp_path / "r.json", tmp_path / "r.svg"
    options = ["--joint-curve", "--bits", 3, "--mask-cost", "none", "--out-channels", 1]
    assert run("layer", *options, "--time-limit", 0.2, "--json", path, "--plot", picture) == 0
    document = json.loads(path.read_text())
    names = [side["format"] for side in document["sides"]]
    assert names[-1] == "int3"
    assert {"50%+int6", "75%+int4"} <= set(names)
    sizes = [side["bits_per_weight"] for side in document["sides"]]
    assert max(sizes) <= 1.01 * min(sizes)
    assert {side.get("mask_cost") for side in document["sides"]} == {"none", None}
    assert document["dominates"] == document["verdict"]  # all are of one size
    assert "<svg" in picture.read_text()
    assert all(finding.holds for finding in verify_file(path))
    assert "masks counted: none" in capsys.readouterr().out


@pytest.mark.parametrize(
    "option", [["--format", "int4"], ["--density", "0.5"], ["--pattern", "2:4"], ["--compressed", "x"]]
)
def test_a_joint_curve_names_its_formats_itself(option, capsys):
    assert run("layer", "--joint-curve", *option) == 2
    assert "names its formats itself" in " ".join(capsys.readouterr().err.split())


def test_what_means_nothing_for_a_layer_is_left_out():
    torch.manual_seed(0)
    depthwise = torch.nn.Conv2d(8, 8, 3, groups=8, dtype=torch.float64)
    plain = torch.nn.Linear(64, 16, dtype=torch.float64)
    assert "2:4+int6" in joint_curve(plain, "", 3, "none")
    assert not [name for name in joint_curve(depthwise, "", 3, "none") if ":" in name]
    data = torch.randn(3, 8, 6, 6, dtype=torch.float64)
    names = joint_curve(depthwise, "", 4)
    report = layer_bounds(depthwise, "", data, formats=names, out_channels=1, time_limit=0.5)
    assert [side.format for side in report.sides] == names
    with pytest.raises(InputError, match="bits of the dense grid"):
        joint_curve(plain, "", 17)
    with pytest.raises(InputError, match="counted as one of"):
        joint_curve(plain, "", 4, "zip")
    assert joint_curve(plain, "", 4) == pvq.nn.joint_curve(plain, "")

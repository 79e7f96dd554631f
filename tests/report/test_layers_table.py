"""Several layers in one table."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import save_file  # noqa: E402

from pvqbounds.nn import layer_bounds  # noqa: E402
from pvqbounds.report.layers_table import layers_text  # noqa: E402


@pytest.fixture
def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3)).double()


def test_a_row_for_each_layer_and_side(model, tmp_path):
    x = torch.randn(50, 6, dtype=torch.float64)
    grids = {f"{i}.weight": (model[i].weight / 0.1).round().detach() * 0.1 for i in (0, 2)}
    save_file(grids, tmp_path / "w.safetensors")
    reports = [
        layer_bounds(model, name, x, formats=["int3"], compressed=tmp_path / "w.safetensors")
        for name in ("0", "2")
    ]
    rows = [
        words for line in layers_text(reports).splitlines() if (words := line.split())[:1] in (["0"], ["2"])
    ]
    assert [row[:2] for row in rows] == [["0", "int3"], ["0", "w"], ["2", "int3"], ["2", "w"]]
    for row, side in zip(rows[1::2], (report.sides[1] for report in reports), strict=True):
        reached, least, most = float(row[-4]), float(row[-3]), float(row[-1])
        assert reached == pytest.approx(side.method_sqnr("compressed"), abs=0.01)
        assert least <= side.left[0]
        assert most >= side.left[1]
        assert np.isclose([least, most], side.left, atol=0.011).all()


def test_without_compressed_weights_nothing_is_left_to_say(model):
    report = layer_bounds(model, "0", torch.randn(50, 6, dtype=torch.float64), formats=["int3"])
    text = layers_text([report, report])
    assert "left" not in text
    assert text.count("int3") == 1  # the only format, above the table
    assert len([line for line in text.splitlines() if line.split()[:1] == ["0"]]) == 2

"""Grids that are presumed, in allocations and exports of a network."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import load_file, save_file  # noqa: E402
from torch import nn  # noqa: E402

import pvqbounds as pvq  # noqa: E402
from pvqbounds.network.allocation import notes_of  # noqa: E402
from pvqbounds.network.export import export_weights  # noqa: E402
from pvqbounds.report.network_tables import _best_method, _side_cells  # noqa: E402
from pvqbounds.report.tables import estimate_text  # noqa: E402


def test_presumed_grids_are_told_and_channels_that_mix_are_exported_as_stored(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 4)).eval()
    weight = model[0].weight.detach()
    step = weight.abs().amax(1, keepdim=True) / 7
    codes = (weight / step).round()
    codes[2] = (codes[2] / 3).round() * 3  # its step may be all of this, a half or a third
    stored = (codes * step).contiguous()
    save_file({"0.weight": stored}, tmp_path / "q.safetensors")
    data = torch.randn(40, 8, generator=torch.Generator().manual_seed(1))
    network = pvq.nn.network_bounds(
        model, data, store=tmp_path / "s", compressed=tmp_path / "q.safetensors", methods=["rtn"]
    )
    side = network.layers[0].report.sides[0]
    assert side.compressed.mixed == (2,)
    assert any("grids that are found from the weights and presumed" in note for note in notes_of(network))
    assert set(side.methods) == {"compressed"}  # others would mix steps
    assert _best_method(side).endswith("dB compressed")
    export_weights(network, model, tmp_path / "e.safetensors")
    written = load_file(tmp_path / "e.safetensors")["0.weight"]
    assert torch.allclose(written[2], stored[2], rtol=1e-6, atol=0)
    assert torch.allclose(torch.tensor(side.slices[2].bounds.weight).float(), stored[2], rtol=1e-6)


def test_estimates_on_presumed_grids_say_so(tmp_path):
    model = nn.Sequential(nn.Linear(8, 32)).eval()
    weight = model[0].weight.detach()
    step = weight.abs().amax(1, keepdim=True) / 7
    save_file({"0.weight": ((weight / step).round() * step).contiguous()}, tmp_path / "q.safetensors")
    data = torch.randn(40, 8, generator=torch.Generator().manual_seed(1))
    network = pvq.nn.network_bounds(
        model, data, store=tmp_path / "s", compressed=tmp_path / "q.safetensors", methods=[], sample=10
    )
    side = network.layers[0].report.sides[0]
    assert side.estimate is not None
    assert "channels, no bound, grid presumed: " in estimate_text(side)
    assert "estimated (10 channels), grid presumed" in [cells[2] for cells in _side_cells(side)]

"""Grams that are given, saved and read, of one's own making and of other tools."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pvqbounds.errors import InputError
from pvqbounds.nn import find_layer, gram_of_layer, grams_of_layers, layer_bounds
from pvqbounds.nn.gram_files import given_grams, read_grams, save_grams
from pvqbounds.nn.layers import find_layers
from pvqbounds.problems import Gram

FEW = {"formats": ["int3", "50%"], "methods": ["rtn", "magnitude"]}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)).double()


@pytest.fixture
def x():
    torch.manual_seed(1)
    return torch.randn(40, 6, dtype=torch.float64)


def test_a_gram_takes_the_place_of_data(model, x):
    expected = layer_bounds(model, "0", x, **FEW)
    matrix = (x.T @ x / len(x)).numpy()
    for given in (matrix, torch.from_numpy(matrix), Gram(matrix), gram_of_layer(model, "0", x), matrix[None]):
        report = layer_bounds(model, "0", grams=given, **FEW)
        for side, other in zip(report.sides, expected.sides, strict=True):
            np.testing.assert_allclose(side.sqnr_interval, other.sqnr_interval, rtol=1e-9)
    assert layer_bounds(model, "0", grams=matrix, **FEW).positions == 0
    assert "a given Gram" in str(layer_bounds(model, "0", grams=matrix, **FEW))
    with pytest.raises(InputError, match="has 4 inputs, but 1 Gram of 6"):
        layer_bounds(model, "2", grams=matrix, **FEW)
    with pytest.raises(InputError, match="without data; give calibration inputs for it, or a Gram"):
        layer_bounds(model, "0", **FEW)


def test_saved_grams_are_read_as_they_were(model, x, tmp_path):
    grams = grams_of_layers(model, ["0", "2"], x)
    save_grams(grams, tmp_path / "g.npz")
    for name, own in grams.items():
        read = read_grams(tmp_path / "g.npz", find_layer(model, name))
        np.testing.assert_array_equal(read.grams[0].matrix, own.grams[0].matrix)
        assert (read.positions, read.notes) == (own.positions, own.notes)
    with pytest.raises(InputError, match="none of layer '0'; they have 2"):
        given_grams({"2": grams["2"]}, find_layer(model, "0"))


def test_grams_that_were_made_with_other_weights_are_told(model, x, tmp_path):
    grams = grams_of_layers(model, ["0", "2"], x)
    save_grams(grams, tmp_path / "g.npz", find_layers(model, ["0", "2"]))
    assert read_grams(tmp_path / "g.npz", find_layer(model, "0")).notes == ()
    with torch.no_grad():
        model[0].weight[0, 0] += 1.0
    (note,) = read_grams(tmp_path / "g.npz", find_layer(model, "0")).notes
    assert "the layer had other weights: is it of the same model?" in note
    assert read_grams(tmp_path / "g.npz", find_layer(model, "2")).notes == ()


def test_groups_and_notes_survive(tmp_path):
    model = nn.Sequential(nn.Conv1d(4, 4, 2, groups=2))
    found = gram_of_layer(model, "0", torch.randn(3, 4, 9))
    noted = type(found)(found.grams, found.positions, ("One.", "Zwölf."))
    save_grams({"0": noted}, tmp_path / "g.npz")
    read = read_grams(tmp_path / "g.npz", find_layer(model, "0"))
    assert read.notes == noted.notes
    assert len(read.grams) == 2


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
@pytest.mark.parametrize(
    ("names", "factor", "positions"),
    [
        (("gram",), 1.0, 0),
        (("0/gram", "0/positions"), 1.0, 40),
        (("0.xtx", "0.positions"), 40.0, 40),
        (("hessian",), 2.0, 0),
        (("H",), 2.0, 0),
        (("0",), 1.0, 0),
        (("anything",), 1.0, 0),
    ],
)
def test_grams_of_other_tools(model, x, tmp_path, suffix, names, factor, positions):
    matrix = (x.T @ x / 40).numpy()
    arrays = dict(zip(names, (factor * matrix, np.array([40])), strict=False))
    path = tmp_path / f"h.{suffix}"
    if suffix == "npz":
        np.savez(path, **arrays)
    else:
        save_file({name: torch.from_numpy(array) for name, array in arrays.items()}, path)
    read = read_grams(path, find_layer(model, "0"))
    np.testing.assert_allclose(read.grams[0].matrix, matrix, rtol=1e-14)
    assert read.positions == positions
    assert bool(read.notes) == (positions == 0)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_hessians_of_quip(model, x, tmp_path, kind):
    mean = x.mean(0)
    covariance = x.T @ x / 40 - mean[:, None] * mean
    flat = covariance[tuple(torch.tril_indices(6, 6))]
    torch.save(
        {"flatH": flat.to(kind), "mu": mean.to(kind), "n": 6, "ct": torch.tensor(40)}, tmp_path / "q.pt"
    )
    read = read_grams(tmp_path / "q.pt", find_layer(model, "0"))
    tolerance = 1e-5 if kind is torch.float32 else 1e-12
    np.testing.assert_allclose(read.grams[0].matrix, (x.T @ x / 40).numpy(), rtol=tolerance, atol=tolerance)
    assert read.positions == 40
    assert read.notes == ()
    torch.save({"flatH": flat.to(kind), "n": 6, "ct": 40}, tmp_path / "q.pt")
    (note,) = read_grams(tmp_path / "q.pt", find_layer(model, "0")).notes
    assert note.startswith("There is no mu in q.pt")


def test_files_that_hold_no_gram_of_the_layer(model, tmp_path):
    layer = find_layer(model, "0")

    def refused(words, name="bad.npz", **arrays):
        path = tmp_path / name
        if arrays:
            np.savez(path, **arrays)
        with pytest.raises(InputError, match=words):
            read_grams(path, layer)

    refused("There is no file")
    refused("put its positions, N, beside it", xtx=np.eye(6))
    refused("does not tell the Gram of layer '0': it holds a, b", a=np.eye(6), b=np.eye(6))
    refused("shape \\(n, n\\)", gram=np.ones(6))
    refused("holds 'gram' and 'H' of layer '0'; leave one of them", gram=np.eye(6), H=7 * np.eye(6))
    refused("indefinite", gram=-np.eye(6))
    torch.save({"flatH": torch.ones(7), "n": 6}, tmp_path / "q.pt")
    refused("no triangle of n = 6", "q.pt")
    (tmp_path / "p.pt").write_bytes(b"junk")
    refused("never unpickled", "p.pt")


COUNTS = [np.zeros(0), np.array(np.nan), np.array(np.inf), np.array([3, 4]), 2.5, -3]


@pytest.mark.parametrize("count", COUNTS)
def test_positions_that_are_no_number_of_them(model, tmp_path, count):
    layer = find_layer(model, "0")
    for word in ("gram", "xtx"):
        np.savez(tmp_path / "g.npz", **{word: np.eye(6), "positions": count})
        with pytest.raises(InputError, match="under 'positions', where"):
            read_grams(tmp_path / "g.npz", layer)
    flat = torch.eye(6)[tuple(torch.tril_indices(6, 6))]
    for name in ("n", "ct"):
        torch.save({"flatH": flat, "n": 6} | {name: torch.as_tensor(count)}, tmp_path / "q.pt")
        with pytest.raises(InputError, match=f"under '{name}', where"):
            read_grams(tmp_path / "q.pt", layer)


def test_the_gram_of_another_layer_is_nobody_elses(model, tmp_path):
    layer = find_layer(model, "0")
    for name in ("other/gram", "other.gram", "model.other.xtx", "other/hessian"):
        np.savez(tmp_path / "g.npz", **{name: np.eye(6), "other/positions": 3})
        with pytest.raises(InputError, match="does not tell the Gram of layer '0'"):
            read_grams(tmp_path / "g.npz", layer)


@pytest.mark.filterwarnings("ignore")
def test_grams_in_files_of_pytorch_that_are_none(model, tmp_path):
    layer = find_layer(model, "0")
    quantized = torch.quantize_per_tensor(torch.eye(6), 0.1, 0, torch.qint8)
    for matrix in (torch.eye(6).to_sparse(), torch.eye(6, device="meta"), quantized):
        torch.save({"gram": matrix}, tmp_path / "g.pt")
        with pytest.raises(InputError, match="no dense tensor"):
            read_grams(tmp_path / "g.pt", layer)
    torch.save({"flatH": torch.ones(21, dtype=torch.complex64)}, tmp_path / "g.pt")
    with pytest.raises(InputError, match="real numbers are wanted"):
        read_grams(tmp_path / "g.pt", layer)
    torch.save({"gram": torch.eye(6), "positions": 10**400}, tmp_path / "g.pt")
    assert read_grams(tmp_path / "g.pt", layer).positions == 0
    with pytest.raises(InputError, match="rows of one length"):
        layer_bounds(model, "0", grams=[[1.0], [1.0, 2.0]], formats=["int4"])


def test_notes_of_a_file_reach_no_terminal_as_they_are(model, tmp_path):
    layer = find_layer(model, "0")
    for notes, wanted in (
        (np.frombuffer(b"kept\n\x1b[31mred\n\xff", dtype=np.uint8), ("kept", "\ufffd")),
        (np.array([np.nan, 300.0]), ()),
    ):
        np.savez(tmp_path / "g.npz", gram=np.eye(6), positions=3, notes=notes)
        assert read_grams(tmp_path / "g.npz", layer).notes == wanted


def test_held_out_errors_are_those_of_the_layers_outputs(model, x):
    later = torch.randn(30, 6, dtype=torch.float64)
    report = layer_bounds(model, "0", x, held_out=later, out_channels=[3, 1], **FEW)
    held = report.held_out
    assert held.positions == 30
    dense = model[0].weight.detach().numpy()[[3, 1]]
    for number, side in enumerate(report.sides):
        best = np.stack([s.bounds.weight for s in side.slices])
        expected = (((best - dense) @ later.numpy().T) ** 2).mean(1).sum()
        assert held.errors[number]["best"] == pytest.approx(expected, rel=1e-10)
        assert set(held.errors[number]) == {"best", *side.methods}
    signal = ((dense @ later.numpy().T) ** 2).mean(1).sum()
    assert held.signal == pytest.approx(signal, rel=1e-10)
    again = layer_bounds(model, "0", x, held_out=gram_of_layer(model, "0", later), out_channels=[3, 1], **FEW)
    assert again.held_out.errors == held.errors


def test_codes_of_any_scale_are_held_out_at_their_own(model, x):
    report = layer_bounds(model, "0", x, formats=["int3:any"], methods=["rtn"], held_out=x, out_channels=2)
    side = report.sides[0]
    assert report.held_out.errors[0]["rtn"] == pytest.approx(side.method_error("rtn"), rel=1e-9)
    assert report.held_out.errors[0]["best"] == pytest.approx(side.error_upper, rel=1e-9)

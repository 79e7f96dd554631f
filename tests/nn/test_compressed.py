"""Somebody's compressed weights beside the bounds, on the file's own values: table, picture, file, proof."""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import run
from safetensors.torch import load_file, save_file
from torch import nn

import pvqbounds as pvq
from pvqbounds.errors import InputError
from pvqbounds.nn import layer_bounds
from pvqbounds.report.frames import layer_rows
from pvqbounds.report.layers_table import layers_text
from pvqbounds.report.plot import plot_layer
from pvqbounds.report.tables import compressed_text, layer_text
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.checkpoints import claimed_loss, read_claims
from pvqbounds.storage.results_read import read_layer
from pvqbounds.storage.results_written import write_layer

sys.path.insert(0, str(Path(__file__).parents[1] / "storage"))

from checkpoint_files import packed, two_four, write

INPUTS, CHANNELS = 8, 3


class Model(nn.Module):
    """One linear layer under the name that the files have."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        block = nn.Module()
        block.fc = nn.Linear(INPUTS, CHANNELS)
        self.model = nn.Module()
        self.model.block = block

    def forward(self, x: torch.Tensor) -> Any:
        return self.model.block.fc(x)


LAYER = "model.block.fc"


def data() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.relu(torch.randn(200, INPUTS) @ torch.randn(INPUTS, INPUTS))


def weights() -> np.ndarray:
    return np.asarray(Model().model.block.fc.weight.detach().double().numpy())


def quantized(path: Path, nudge: int = 0) -> tuple[Path, np.ndarray, np.ndarray]:
    """The layer in int2 with two groups, its scales and codes, of which some are not the nearest."""
    scale = torch.tensor(np.abs(weights()).reshape(CHANNELS, 2, 4).max(axis=2) / 1.7, dtype=torch.float16)
    each = np.repeat(scale.double().numpy(), 4, axis=1)
    codes = np.clip(np.rint(weights() / each), -2, 1).astype(int)
    codes[0, 0] += 1 if codes[0, 0] < 1 else -1
    codes[1, nudge] = -2 if codes[1, nudge] == 1 else codes[1, nudge] + 1
    tensors = {
        "weight_packed": packed(codes + 2, 2),
        "weight_scale": scale,
        "weight_shape": torch.tensor([CHANNELS, INPUTS]),
    }
    return write(path, tensors, {"config_groups": {"g": {"weights": {"num_bits": 2}}}}), each, codes


def brute_force(
    step: np.ndarray, low: np.ndarray, high: np.ndarray, weight: np.ndarray, gram: np.ndarray
) -> float:
    boxes = [np.arange(a, b + 1) for a, b in zip(low, high, strict=True)]
    points = np.array(list(itertools.product(*boxes))) * step - weight
    return float(np.einsum("ij,jk,ik->i", points, gram, points).min())


@pytest.fixture
def report(tmp_path: Path) -> Any:
    return layer_bounds(Model(), LAYER, data(), compressed=quantized(tmp_path / "mine")[0])


def test_the_bound_is_that_of_the_file_s_own_grid(tmp_path: Path) -> None:
    path, step, codes = quantized(tmp_path / "mine")
    report = layer_bounds(Model(), LAYER, data(), compressed=path)
    (side,) = report.sides
    assert (side.format, side.task, side.status) == ("mine", "quantization", "optimal")
    inputs = data().double().numpy()
    gram = inputs.T @ inputs / len(inputs)
    low, high = np.full(INPUTS, -2), np.full(INPUTS, 1)
    for channel, result in enumerate(side.slices):
        best = brute_force(step[channel], low, high, weights()[channel], gram)
        assert result.bounds.error_lower <= best * (1 + 1e-9)
        assert result.bounds.error_upper == pytest.approx(best, rel=1e-9)
        apart = step[channel] * codes[channel] - weights()[channel]
        assert side.method_errors["compressed"][channel] == pytest.approx(
            float(apart @ gram @ apart), rel=1e-9
        )
    least, most = side.left
    assert 0.0 < least <= most < np.inf
    assert least == pytest.approx(side.sqnr_interval[0] - side.method_sqnr("compressed"), abs=1e-6)
    assert side.compressed is not None
    assert side.compressed.kind == "compressed-tensors pack-quantized"
    assert side.bits_per_weight == pytest.approx(2 * 32 / 16 + 16 * 2 / 8)  # eight codes in a word of 32


def test_weights_that_are_best_leave_nothing(tmp_path: Path) -> None:
    path, _, _ = quantized(tmp_path / "mine")
    first = layer_bounds(Model(), LAYER, data(), compressed=path).sides[0]
    best = np.array([s.bounds.codes for s in first.slices])
    tensors = load_file(path / "model.safetensors")
    tensors[f"{LAYER}.weight_packed"] = packed(best + 2, 2)
    save_file(tensors, path / "model.safetensors")
    side = layer_bounds(Model(), LAYER, data(), compressed=path).sides[0]
    assert side.left[0] == 0.0
    assert side.left[1] < 1e-5


def test_the_file_comes_back_and_is_proved(tmp_path: Path, report: Any) -> None:
    write_layer(report, tmp_path / "r.json")
    assert all(finding.holds for finding in verify_file(tmp_path / "r.json"))
    back = read_layer(tmp_path / "r.json")
    assert back.sides[0].compressed == report.sides[0].compressed
    assert back.sides[0].left == pytest.approx(report.sides[0].left)
    stated = json.loads((tmp_path / "r.json").read_text())["sides"][0]
    assert stated["format"] == "mine"
    assert stated["compressed"]["values"] == "int2:g4"
    assert stated["compressed"]["sqnr"] == stated["methods"]["compressed"]["sqnr"]
    assert str(back) == str(report)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("error", 1e-9, "compressed.error"),
        ("sqnr", 99.0, "compressed.sqnr"),
        ("left_sqnr_upper", 0.0, "compressed.left_sqnr_upper"),
        ("left_sqnr_lower", 5.0, "compressed.left_sqnr_lower"),
    ],
)
def test_a_number_that_does_not_follow_is_found(
    tmp_path: Path, report: Any, field: str, value: float, says: str
) -> None:
    write_layer(report, tmp_path / "r.json")
    document = json.loads((tmp_path / "r.json").read_text())
    document["sides"][0]["compressed"][field] = value
    (tmp_path / "r.json").write_text(json.dumps(document))
    assert [f.where for f in verify_file(tmp_path / "r.json") if not f.holds] == [f"sides[0].{says}"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"steps": False}, "of another kind"),
        ({"values": "", "kept": False}, "not empty"),
        ({"pattern": [2, 4]}, "pattern|nnz"),
        ({"steps": 1}, "true or false"),
        ({"bits": -1}, "not negative"),
        ({"kind": None}, "a text"),
    ],
)
def test_a_file_whose_compressed_weights_are_something_else(
    tmp_path: Path, report: Any, change: dict[str, Any], says: str
) -> None:
    write_layer(report, tmp_path / "r.json")
    document = json.loads((tmp_path / "r.json").read_text())
    document["sides"][0]["compressed"] |= change
    (tmp_path / "r.json").write_text(json.dumps(document))
    try:
        texts = [finding.text for finding in verify_file(tmp_path / "r.json") if not finding.holds]
    except InputError as error:
        texts = [str(error)]
    assert any(any(word in text for word in says.split("|")) for text in texts), texts


def test_codes_outside_the_grid_of_the_file_do_not_pass(tmp_path: Path, report: Any) -> None:
    write_layer(report, tmp_path / "r.json")
    beside = tmp_path / "r.npz"
    arrays = dict(np.load(beside))
    arrays["sides/0/method/compressed/0"][1, 2] = 7
    np.savez(beside, **arrays)
    document = json.loads((tmp_path / "r.json").read_text())
    document["arrays"]["sha256"] = hashlib.sha256(beside.read_bytes()).hexdigest()
    (tmp_path / "r.json").write_text(json.dumps(document))
    faults = [finding for finding in verify_file(tmp_path / "r.json") if not finding.holds]
    assert any(f.where == "sides[0].per_channel[1].methods.compressed" for f in faults)


def test_the_table_and_the_picture_show_it(tmp_path: Path, report: Any) -> None:
    text = " ".join(str(report).split())
    assert "mine (compressed-tensors pack-quantized, int2:g4, 8 bits a weight) reaches" in text
    assert "dB below the best possible on the values that it allows" in text
    assert "the fixed scales of int2:g4" in text
    plot_layer(report, tmp_path / "r.svg")
    assert "compressed" in (tmp_path / "r.svg").read_text()


def test_a_bound_that_is_not_proved_is_said_to_be_stated(report: Any) -> None:
    (side,) = report.sides
    stated = tuple(
        replace(s, bounds=replace(s.bounds, lower_kind="reported", certificate=None)) for s in side.slices
    )
    assert "states, without a proof" in compressed_text(replace(side, slices=stated))
    assert "states" not in compressed_text(side)


def test_beside_formats_and_other_files(tmp_path: Path) -> None:
    files = {"a": quantized(tmp_path / "one")[0], "b": quantized(tmp_path / "two", 3)[0]}
    report = layer_bounds(Model(), LAYER, data(), formats=["int2", "25%"], compressed=files)
    assert [side.format for side in report.sides] == ["int2", "25%", "a", "b"]
    assert report.names == ("int2", "25%", "a", "b")
    assert [side.compressed is None for side in report.sides] == [True, True, False, False]
    assert report.side("a").sqnr_interval == report.side("b").sqnr_interval  # one grid
    assert report.side("a").method_sqnr("compressed") != report.side("b").method_sqnr("compressed")
    text = str(report)
    assert "a (compressed-tensors" in text
    assert "b (compressed-tensors" in text
    write_layer(report, tmp_path / "r.json")
    assert all(finding.holds for finding in verify_file(tmp_path / "r.json"))


def test_chunks_have_the_values_of_their_inputs(tmp_path: Path) -> None:
    path, step, _ = quantized(tmp_path / "mine")
    report = layer_bounds(Model(), LAYER, data(), compressed=path, opt_dim=4)
    side = report.sides[0]
    assert len(side.slices) == 2 * CHANNELS
    for result in side.slices:
        assert np.array_equal(
            result.problem.values.arrays["step"], step[result.channel, slice(*result.inputs)]
        )
    write_layer(report, tmp_path / "r.json")
    assert all(finding.holds for finding in verify_file(tmp_path / "r.json"))
    assert "they do not add up" in " ".join(str(report).split())


# ------------------------------------------------------------------------------ other kinds


def _plain(path: Path, weight: np.ndarray, dtype: torch.dtype = torch.float32) -> Path:
    return write(path, {"weight": torch.tensor(weight).to(dtype)})


def test_pruned_weights_are_held_to_as_many_as_they_keep(tmp_path: Path) -> None:
    weight = weights()
    weight[0, :3] = weight[1, 4:] = weight[2, [0, 7]] = 0.0
    report = layer_bounds(Model(), LAYER, data(), compressed=_plain(tmp_path / "pruned", weight))
    side = report.sides[0]
    assert side.task == "pruning"
    assert [s.problem.nnz for s in side.slices] == [5, 4, 6]
    assert "kept as in the file" in str(report)
    write_layer(report, tmp_path / "r.json")
    assert all(finding.holds for finding in verify_file(tmp_path / "r.json"))


def test_two_four_of_codes_is_joint(tmp_path: Path) -> None:
    path, weight = two_four(tmp_path / "mine", torch.float8_e4m3fn, CHANNELS, INPUTS)
    report = layer_bounds(Model(), LAYER, data(), compressed=path)
    side = report.sides[0]
    assert side.task == "joint"
    assert all(s.problem.pattern == (2, 4) for s in side.slices)
    for result, codes in zip(side.slices, side.methods["compressed"], strict=True):
        assert np.array_equal(result.problem.values.weight_of(codes), weight[result.channel])
    write_layer(report, tmp_path / "r.json")
    assert all(finding.holds for finding in verify_file(tmp_path / "r.json"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dequantized_weights_are_held_to_the_grid_that_is_found(tmp_path: Path, dtype: torch.dtype) -> None:
    _, step, codes = quantized(tmp_path / "mine")
    path = _plain(tmp_path / "plain", step * codes, dtype)
    with pytest.raises(InputError, match=r"no uniform grid .* is found"):
        layer_bounds(Model(), LAYER, data(), compressed=path)  # groups of 4 are none that anybody takes
    report = layer_bounds(Model(), LAYER, data(), compressed=path, formats=["int2:g4"])
    side = report.side("plain")
    assert side.compressed is not None
    assert side.compressed.steps == (dtype == torch.float32)
    assert any("grid is found from the weights" in note for note in report.notes)
    write_layer(report, tmp_path / "r.json")
    assert all(finding.holds for finding in verify_file(tmp_path / "r.json"))


def test_what_a_found_grid_presumes_stands_at_every_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """In tables, pictures and files of a layer, and in those of a network and its page."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    weight = pvq.nn.load_model("digits").module.get_submodule("block1.0").weight.detach()
    codes = torch.round(weight / 0.25).clamp(-8, 7).flatten(1)
    codes[:, 0], codes[:, 1] = -8, 7
    codes[0], codes[1] = codes[0].clamp(-1, 1), 0
    steps = 0.25 + 0.03 * torch.arange(len(codes))[:, None]  # no step of the tensor
    save_file({"block1.0.weight": (steps * codes).reshape(weight.shape)}, "mine.safetensors")
    few = ["--methods", "none", "--method", "relax", "--relaxation", "shared"]
    layer = ["layer", "--layer", "block1.0", "--out-channels", "2", "--compressed", "mine.safetensors", *few]
    assert run(*layer, "--json", "r.json", "--plot", "r.svg", "--table", "r.csv") == 0
    blocks = len(codes)
    told = (
        "The interval presumes int4:channel, found from the weights; values to the last place of float32; "
        f"in 1 of {blocks} blocks, whose weights are all 0, nothing else; in 1 of {blocks} blocks, which use "
        "few codes, it holds for every step and zero point that they can have had; what was found in their "
        "channels, which may mix them, is not counted as reached."
    )
    out = " ".join(capsys.readouterr().out.split())
    assert told in out
    assert "certified, grid presumed" in out
    assert told in Path("r.csv").read_text()
    assert "certified, grid presumed" in Path("r.svg").read_text()
    written = json.loads(Path("r.json").read_text())["sides"][0]["compressed"]
    assert f"The interval {written['presumed']}." == told
    assert run("show", "r.json") == 0
    assert told in " ".join(capsys.readouterr().out.split())
    assert "certified, grid presumed" in repr(pvq.LayerReport.load("r.json"))
    assert run("verify", "r.json") == 0
    report = pvq.LayerReport.load("r.json")
    (side,) = report.sides
    assert side.compressed.mixed == (0,)
    reached = (
        side.method_errors["compressed"][0] + side.slices[1].bounds.error_upper
    )  # the file's own of the first
    assert reached == pytest.approx(sum(s.bounds.error_upper for s in side.slices))
    assert side.slices[0].bounds.error_upper == pytest.approx(side.method_errors["compressed"][0])
    assert np.array_equal(side.slices[0].bounds.codes, side.methods["compressed"][0])
    assert side.error_upper == pytest.approx(reached)
    assert (side.left[0], side.status) == (pytest.approx(0.0, abs=1e-9), "bounded")
    assert {row["presumed"] for row in layer_rows(report, per_channel=True)} == {told}
    assert "(grid presumed)" in layers_text([report])
    assert run(*layer, "--format", "25%") == 0
    assert "The grid of mine is presumed." in " ".join(capsys.readouterr().out.split())
    network = ["network", "digits", "--layer", "block1.0", "--store", "s", "--compressed", "mine.safetensors"]
    capsys.readouterr()
    assert run(*network, *few) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"block1.0 mine: {told}" in out
    assert "certified, grid presumed" in out
    pytest.importorskip("jinja2")
    assert run("report", "s", "--out", "page.html") == 0
    page = Path("page.html").read_text()
    assert f"(certified) {told}</title>" in page
    assert '<span class="label presumed">presumed</span>' in page


def test_what_no_single_step_reaches_is_no_verdict(tmp_path: Path) -> None:
    """Weights of one magnitude: the values of all steps together come closer than those of any."""
    sign = np.sign(weights())
    report = layer_bounds(
        Model(), LAYER, data(), compressed=_plain(tmp_path / "sign", sign), formats=["int4:channel"]
    )
    side = report.side("sign")
    assert side.compressed is not None
    assert side.compressed.mixed == (0, 1, 2)
    assert {own.bounds.note for own in side.slices} == {
        "which of its values the file allowed at once is not known"
    }
    assert "sign is bounded: which of its values the file allowed at once is not known." in " ".join(
        str(report).split()
    )
    assert side.sqnr_interval[0] <= side.method_sqnr("compressed") + 1e-9 < side.sqnr_interval[1]
    assert not any(better == "sign" for better, _ in report.verdict)


def test_a_convolution(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 2, 3, padding=1))
    weight = model[0].weight.detach().double().numpy().copy()
    weight[:, [0, 2]] = 0.0
    save_file({"0.weight": torch.tensor(weight).float()}, tmp_path / "w.safetensors")
    report = layer_bounds(model, "0", torch.rand(4, 4, 6, 6), compressed=tmp_path / "w.safetensors")
    side = report.sides[0]
    assert (side.format, side.task) == ("w", "pruning")
    assert all((s.problem.pattern, s.problem.stride) == ((2, 4), 9) for s in side.slices)


@pytest.mark.parametrize("kind", ["steps", "levels"])
def test_groups_whose_scale_is_zero_have_zero_alone(tmp_path: Path, kind: str) -> None:
    if kind == "steps":
        path, _, _ = quantized(tmp_path / "mine")
        name = f"{LAYER}.weight_scale"
    else:
        codes = torch.tensor(weights() * 100).to(torch.float8_e4m3fn)
        path = write(tmp_path / "mine", {"weight": codes, "weight_scale": torch.full((CHANNELS, 2), 0.01)})
        name = f"{LAYER}.weight_scale"
    tensors = load_file(path / "model.safetensors")
    tensors[name][1, 0] = 0.0
    save_file(tensors, path / "model.safetensors")
    report = layer_bounds(Model(), LAYER, data(), compressed=path)
    best = report.sides[0].slices[1].bounds.weight
    assert not best[:4].any()
    write_layer(report, tmp_path / "r.json")
    assert all(finding.holds for finding in verify_file(tmp_path / "r.json"))


# ------------------------------------------------------------------------------ what is refused


def test_what_cannot_be_compared_is_refused_before_any_work(tmp_path: Path) -> None:
    path, _, _ = quantized(tmp_path / "mine")

    class Unused:
        def __iter__(self) -> Any:
            raise AssertionError("the model was run")

    def refused(says: str, layer: str = LAYER, model: nn.Module | None = None, **options: Any) -> None:
        with pytest.raises(InputError, match=says):
            layer_bounds(model or Model(), layer, Unused(), **{"compressed": path, **options})

    refused("no file or folder", compressed=tmp_path / "absent")
    other = Model()
    other.model.block.fc = nn.Linear(INPUTS + 1, CHANNELS)
    refused("of the model has weights of shape", model=other)
    refused("as another side is", formats=["int4"], compressed={"int4": path})
    refused("called by names that are texts", compressed={3: path})
    refused("Two of the compressed weights are called 'mine'", compressed=[path, path])
    refused("no uniform grid", compressed=_plain(tmp_path / "dense", weights() + 1e-3))
    refused("has a budget of its own", compressed=_sparse(tmp_path / "s"), formats=["25%"], budget="layer")
    refused("at least one", compressed=[])


def _sparse(path: Path) -> Path:
    weight = weights()
    weight[:, ::2] = 0.0
    return _plain(path, weight)


def test_weights_of_another_model_are_noted(tmp_path: Path) -> None:
    path, _, _ = quantized(tmp_path / "mine")
    torch.manual_seed(5)
    other = Model()
    other.model.block.fc = nn.Linear(INPUTS, CHANNELS)
    report = layer_bounds(other, LAYER, data(), compressed=path)
    assert any("not near those of the model" in note for note in report.notes)
    same = layer_bounds(Model(), LAYER, data(), compressed=path)
    assert not same.notes


def test_a_weight_off_the_grid_of_its_file_is_named(tmp_path: Path) -> None:
    scale = torch.full((CHANNELS, 1), 0.1)
    codes = torch.zeros(CHANNELS, INPUTS, dtype=torch.int8)
    codes[1, 4] = 9
    config = {"config_groups": {"g": {"weights": {"num_bits": 4}}}}
    path = write(tmp_path / "off", {"weight": codes, "weight_scale": scale}, config)
    with pytest.raises(InputError, match=r"of input 4 of output channel 1 of .* is off its own grid"):
        layer_bounds(Model(), LAYER, data(), compressed=path)


def test_values_that_overflow_are_refused_though_the_weights_do_not(tmp_path: Path) -> None:
    scale = torch.full((CHANNELS, 1), 1e307, dtype=torch.float64)
    weight = torch.zeros(CHANNELS, INPUTS, dtype=torch.int8)
    path = write(tmp_path / "w", {"weight": weight, "weight_scale": scale})
    with pytest.raises(InputError, match="so large that its ends overflow"):
        layer_bounds(Model(), LAYER, data(), compressed=path)


def test_what_is_no_list_of_files(tmp_path: Path) -> None:
    for files in (3, {"a", "b"}, [3], [None]):
        with pytest.raises(InputError, match="a file or folder, several of them in a list, or a mapping"):
            layer_bounds(Model(), LAYER, data(), compressed=files)
    loop = tmp_path / "loop.safetensors"
    loop.symlink_to(loop)
    with pytest.raises(InputError, match="no file or folder"):
        layer_bounds(Model(), LAYER, data(), compressed=loop)


# ------------------------------------------------------------------------------ what is claimed


LOGS = {
    "quant_log.csv": "layer,module,loss,damp,time\n0,fc,0.25,0.01,1.0\n1,fc,0.5,0.01,1.0\n",
    "own.csv": "name,error,notes\nblock.fc,0.25,x\n",
    "own.json": '{"model.block.fc": 0.25, "other": 3}',
    "list.json": '[{"module": "block.fc", "loss": 0.25}, {"module": "x", "loss": "failed"}]',
}


@pytest.mark.parametrize("name", LOGS)
def test_what_the_log_of_the_quantizer_claims_is_recomputed(tmp_path: Path, name: str) -> None:
    path, step, codes = quantized(tmp_path / "mine")
    log = (path if name == "quant_log.csv" else tmp_path) / name
    log.write_text(LOGS[name].replace("0,fc", "model.block,fc"))
    own = None if name == "quant_log.csv" else log
    report = layer_bounds(Model(), LAYER, data(), compressed=path, error_log=own, out_channels=1)
    inputs = data().double().numpy()
    error = float((((step * codes - weights()) @ inputs.T) ** 2).sum(axis=0).mean())
    (note,) = report.notes
    assert f"is {error:.6g} a position over all {CHANNELS} channels" in note
    assert f"claims 0.25, {0.25 / error:.4g} times that" in note


def test_rows_that_lack_a_value_behind_the_loss_are_read(tmp_path: Path) -> None:
    log = tmp_path / "quant_log.csv"
    log.write_text(
        "layer,module,loss,samples,damp,time\n3,self_attn.q_proj,0.125,0.05,1.5\n3,mlp.up,nan,1,2\n"
    )
    claims = read_claims(log)
    assert claims["3.self_attn.q_proj"] == 0.125
    assert claimed_loss(claims, "model.layers.3.self_attn.q_proj") == 0.125
    assert claimed_loss(claims, "model.layers.13.self_attn.q_proj") is None


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "", "has no loss of layer"),
        ("a.csv", "x,y\n1,2\n", "names no layer and loss"),
        ("a.csv", "name,loss\nfc,1\nfc,2\n", "two losses of 'fc'"),
        ("a.csv", "name,loss\nother,1\n", "has no loss of layer"),
        ("a.csv", "\xff\xfe", "damaged"),
        ("a.json", '{"fc": 1, "fc": 2}', "twice"),
        ("a.json", "7", "one for each layer"),
        ("a.json", "[1]", "one for each layer"),
        ("absent.csv", None, "no file"),
    ],
)
def test_a_log_that_says_nothing_is_refused(tmp_path: Path, name: str, text: str | None, says: str) -> None:
    path, _, _ = quantized(tmp_path / "mine")
    if text is not None:
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=says):
        layer_bounds(Model(), LAYER, data(), compressed=path, error_log=tmp_path / name)
    with pytest.raises(InputError, match="belongs to one file"):
        layer_bounds(Model(), LAYER, data(), error_log=tmp_path / name)


# ------------------------------------------------------------------------------ the command line


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    weight = pvq.nn.load_model("digits").module.get_submodule("block1.0").weight.detach()
    save_file({"block1.0.weight": torch.round(weight / 0.25).clamp(-2, 1) * 0.25}, "mine.safetensors")
    small = ["layer", "--layer", "block1.0", "--out-channels", "2"]
    assert run(*small, "--compressed", "mine.safetensors", "--json", "r.json", "--plot", "r.png") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "mine (plain weights, int2," in out
    assert "is the only side" in out
    assert run("verify", "r.json") == 0
    assert run(*small, "--compressed", "mine.safetensors", "--bits", "2") == 0
    assert "25%" not in (out := capsys.readouterr().out)
    assert "12.5%" in out
    assert run(*small, "--compressed", "absent.safetensors") == 2
    assert "no file or folder absent.safetensors" in capsys.readouterr().err
    assert run(*small, "--compressed", "mine.safetensors", "--json", "mine.safetensors") == 2


@pytest.mark.parametrize("name", ["compressed"])
def test_the_name_of_a_file_s_weights_is_nobody_else_s(name: str) -> None:
    assert name not in pvq.methods.names()


def test_held_out_rows_on_presumed_grids_say_so(tmp_path: Path) -> None:
    _, step, codes = quantized(tmp_path / "mine")
    path = _plain(tmp_path / "plain", step * codes, torch.float32)
    report = layer_bounds(
        Model(), LAYER, data(), compressed=path, formats=["int2:g4"], methods=["rtn"], held_out=data()
    )
    rows = [line for line in layer_text(report).splitlines() if "held out" in line]
    told = [line for line in rows if "grid presumed" in line]
    assert len(rows) > len(told) >= 1
    assert any("best found" in line for line in told)
    assert not any("compressed" in line for line in told)


def test_what_zeros_of_a_plain_file_tell_is_presumed(tmp_path: Path) -> None:
    """Each channel keeps as many; whoever pruned may have had one budget for the layer."""
    weight = Model().state_dict()[f"{LAYER}.weight"].clone()
    flat = weight.flatten(1)
    flat[flat.abs() < flat.abs().median()] = 0.0
    flat[:, 0] = 1.5
    flat[0, 1:3] = 0.25
    save_file({f"{LAYER}.weight": weight}, tmp_path / "p.safetensors")
    report = layer_bounds(Model(), LAYER, data(), compressed=tmp_path / "p.safetensors", formats=["int4"])
    side = report.side("p")
    assert side.proof == "certified, pruning presumed"
    text = " ".join(layer_text(report).split())
    assert "The interval presumes that each channel keeps so many weights, rather than the layer" in text
    assert "The pruning of p is presumed." in text


def test_channels_of_different_numbers_of_levels_stand_beside_methods(tmp_path: Path) -> None:
    """A channel whose scales are all 0 has the one level 0."""
    model = nn.Sequential(nn.Linear(16, 4)).eval()
    scale = torch.ones(4, 1, dtype=torch.float32)
    scale[2] = 0.0
    codes = torch.randint(0, 256, (4, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    save_file(
        {
            "0.weight_packed": codes,
            "0.weight_scale": scale.to(torch.float8_e4m3fn),
            "0.weight_global_scale": torch.tensor([10.0]),
        },
        tmp_path / "q.safetensors",
    )
    inputs = torch.randn(40, 16, generator=torch.Generator().manual_seed(1))
    report = layer_bounds(model, "0", inputs, compressed=tmp_path / "q.safetensors", methods=["gptq", "rtn"])
    side = report.side("q")
    assert side.method_sqnr("gptq") <= side.sqnr_interval[1]
    assert not side.slices[2].bounds.weight.any()

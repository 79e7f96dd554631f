"""Checkpoints of the best weights found: read back by our own readers, and into the model."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from small_networks import network_of

torch = pytest.importorskip("torch")
from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402

from pvqbounds.errors import InputError, OutputError  # noqa: E402
from pvqbounds.network.export import compressed_model, export_weights  # noqa: E402
from pvqbounds.nn import find_layer, layer_bounds, layer_names  # noqa: E402
from pvqbounds.nn.weights import load_weights  # noqa: E402
from pvqbounds.storage.checkpoints import open_checkpoint, read_layer  # noqa: E402

FORMATS = ("int4:g8", "int3:g8:asym", "int4:channel", "int4", "int3:any", "2:4+int4:g8", "nf4:b8", "25%")


class Small(nn.Module):
    """Layers of several kinds behind each other."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(4, 4, 3, groups=1, padding=1)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2, groups=2)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(16, 5)

    def forward(self, images):
        x = self.norm(self.up(self.conv(images).relu()))
        return self.head(x.mean(3).flatten(1))


@pytest.fixture(scope="module")
def model():
    return Small().eval()


@pytest.fixture(scope="module")
def images():
    torch.manual_seed(1)
    return torch.randn(40, 4, 2, 2)


def bounded(model, images, formats, names=None):
    reports = []
    for name in names or layer_names(model):
        report = layer_bounds(model, name, images, formats=formats, methods=[], time_limit=0.1)
        reports.append((report, find_layer(model, name).kind.parameter.numel()))
    return network_of(reports)


@pytest.fixture(scope="module")
def network(model, images):
    return bounded(model, images, ["int4:g8", "25%"])


def best_of(network, name, form):
    return np.stack([s.bounds.weight for s in network.layer(name).report.side(form).slices])


@pytest.mark.parametrize("form", ["int4:g8", "25%"])
def test_a_dense_checkpoint_loads_into_the_model(model, network, tmp_path, form):
    path = tmp_path / "best.safetensors"
    written = export_weights(network, model, path, choice=form)
    assert written.formats == dict.fromkeys(layer_names(model), form)
    state = load_file(path)
    own = model.state_dict()
    assert {name: t.dtype for name, t in state.items()} == {name: t.dtype for name, t in own.items()}
    assert torch.equal(state["norm.running_var"], own["norm.running_var"])
    assert torch.equal(state["conv.bias"], own["conv.bias"])
    again = Small().eval()
    load_weights(again, path)
    for name in layer_names(model):
        stored = find_layer(again, name).weight.astype(np.float32)
        assert np.array_equal(stored, best_of(network, name, form).astype(np.float32))
    assert torch.equal(own["conv.weight"], Small().state_dict()["conv.weight"])


def test_the_error_of_what_is_written_is_the_one_reported(model, network, images):
    again = compressed_model(network, model, "int4:g8")
    with torch.no_grad():
        inputs = model.up(model.conv(images).relu())  # the dense inputs of what follows
        inputs = model.norm(inputs).mean(3).flatten(1)
        error = ((again.head(inputs) - model.head(inputs)) ** 2).sum(1).mean()
    assert float(error) == pytest.approx(network.layer("head").report.sides[0].error_upper, rel=1e-4)
    one = compressed_model(network, model, {"up": "25%"})
    with torch.no_grad():
        inputs = model.conv(images).relu()
        error = ((one.up(inputs) - model.up(inputs)) ** 2).sum(1).mean()
    assert float(error) == pytest.approx(network.layer("up").report.side("25%").error_upper, rel=1e-4)
    assert torch.equal(one.head.weight, model.head.weight)


@pytest.mark.parametrize("form", FORMATS)
def test_packed_layers_are_read_back_to_the_very_weights(model, images, tmp_path, form):
    network = bounded(model, images, [form], ["head"])
    written = export_weights(network, model, tmp_path / "q", "compressed-tensors")
    layer = read_layer(open_checkpoint(tmp_path / "q"), "head", [form])
    best = best_of(network, "head", form)
    if form in ("nf4:b8", "25%"):
        assert "whole codes" in written.dense["head"]
        assert np.array_equal(layer.weight.astype(np.float32), best.astype(np.float32))
        return
    assert written.dense == {}
    assert layer.kind.endswith("pack-quantized")
    assert np.array_equal(layer.weight, best)
    own = network.layer("head").report.sides[0].slices
    for channel, result in enumerate(own):
        assert np.array_equal(layer.codes(channel), result.bounds.codes)
        for name in ("step", "qmin", "qmax") if form != "int3:any" else ():
            read, bounded_on = layer.grid.values(channel), result.problem.values
            assert np.array_equal(getattr(read, name), getattr(bounded_on, name))


def test_what_has_no_packed_layout_is_dense(model, network, tmp_path):
    written = export_weights(network, model, tmp_path / "q", "compressed-tensors", "int4:g8")
    assert written.dense == dict.fromkeys(("conv", "up"), "only Linear layers are packed")
    config = json.loads((tmp_path / "q" / "config.json").read_text())["quantization_config"]
    (group,) = config["config_groups"].values()
    assert group["targets"] == ["head"]
    assert group["weights"]["group_size"] == 8
    state = load_file(tmp_path / "q" / "model.safetensors")
    assert {
        "head.weight_packed",
        "head.weight_scale",
        "head.weight_shape",
        "head.bias",
        "conv.weight",
    } <= set(state)
    assert "head.weight" not in state
    export_weights(network, model, tmp_path / "q", "compressed-tensors", "int4:g8")  # once more


def test_what_cannot_be_exported_is_told_in_a_sentence(model, network, tmp_path):
    path = tmp_path / "x.safetensors"
    entry = network.layer("head")
    part = replace(network, layers=(replace(entry, report=replace(entry.report, channels=(2, 5))),))
    failed = replace(network, layers=(replace(entry, failures={"nf4": "it broke."}),))
    for report, choice, sentence in (
        (network, None, "say in which of them"),
        (network, "nf4", "no result in 'nf4'"),
        (network, {"tail": "25%"}, "no layer 'tail'"),
        (part, "25%", "2 of 5 channels"),
        (failed, "nf4", "failed in nf4: it broke"),
    ):
        with pytest.raises(InputError, match=sentence):
            export_weights(report, model, path, choice=choice)
    with pytest.raises(InputError, match="other weights"):
        export_weights(network, other_weights(), path, choice="25%")
    assert not path.exists()
    for target, form, sentence in (
        (tmp_path / "x.pt", "dense", "safetensors"),
        (path, "gptq", "exported as"),
        (tmp_path, "compressed-tensors", "holds other files"),
    ):
        (tmp_path / "thesis.tex").write_text("x")
        with pytest.raises((InputError, OutputError), match=sentence):
            export_weights(network, model, target, form, "25%")


def test_the_weights_of_a_method(model, images):
    report = layer_bounds(
        model,
        "head",
        images,
        formats=["int3", "int3:any", "25%"],
        methods=["rtn", "magnitude"],
        time_limit=0.5,
    )
    network = network_of([(report, 80)])
    for form, method in (("int3", "rtn"), ("int3:any", "rtn"), ("25%", "magnitude")):
        changed = compressed_model(network, model, form, method)
        side = report.side(form)
        off = find_layer(changed, "head").weight - find_layer(model, "head").weight
        gram = side.slices[0].problem.shared.matrix
        assert float(((off @ gram) * off).sum()) == pytest.approx(side.method_error(method), rel=1e-5)
    with pytest.raises(InputError, match="has no int3 of 'gptq', only of rtn"):
        compressed_model(network, model, "int3", "gptq")


def other_weights():
    changed = Small().eval()
    with torch.no_grad():
        changed.head.weight[0, 0] += 1.0
    return changed


def test_tied_weights_are_refused(model, images):
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    report = layer_bounds(tied, "0", torch.randn(20, 4), formats=["int2"], methods=[])
    with pytest.raises(InputError, match="shares its weights"):
        compressed_model(network_of([(report, 16)]), tied)


@pytest.mark.parametrize("form", [own for own in FORMATS if own.partition("+")[2] or own[0] == "i"])
def test_packed_layers_are_what_compressed_tensors_reads(model, images, tmp_path, form):
    quantization = pytest.importorskip("compressed_tensors.quantization")
    from compressed_tensors.compressors import BaseCompressor

    network = bounded(model, images, [form], ["head"])
    export_weights(network, model, tmp_path / "q", "compressed-tensors")
    config = json.loads((tmp_path / "q" / "config.json").read_text())["quantization_config"]
    (scheme,) = quantization.QuantizationConfig.model_validate(config).config_groups.values()
    state = load_file(tmp_path / "q" / "model.safetensors")
    parts = {name.removeprefix("head."): state[name] for name in state if name.startswith("head.weight_")}
    decoded = BaseCompressor.get_value_from_registry("pack-quantized").decompress(dict(parts), scheme)
    # theirs is rounded to the type of the scale
    best = torch.from_numpy(best_of(network, "head", form)).to(parts["weight_scale"].dtype)
    assert torch.equal(decoded["weight"].to(best.dtype), best)

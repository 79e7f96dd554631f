"""Mean errors of layers that an export takes off their biases."""

from __future__ import annotations

import json

import numpy as np
import pytest
from command_line import run
from conforming import written_as_published

torch = pytest.importorskip("torch")
from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402

import pvqbounds as pvq  # noqa: E402
from pvqbounds.network.evaluation import first_classes  # noqa: E402
from pvqbounds.network.export import compressed_model, export_weights  # noqa: E402
from pvqbounds.nn import find_layer  # noqa: E402
from pvqbounds.storage.network_store import Store  # noqa: E402


class Small(nn.Module):
    """A convolution in front of a batch normalisation, one with neither, and linear layers with a bias."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 4, 3, groups=2, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.bare = nn.Conv2d(4, 4, 1, bias=False)
        self.first = nn.Linear(16, 6)
        self.second = nn.Linear(6, 3)
        with torch.no_grad():
            self.norm.running_mean.normal_()
            self.norm.running_var.uniform_(0.5, 2.0)

    def forward(self, images):
        x = self.bare(self.norm(self.conv(images)).relu())
        return self.second(self.first(x.flatten(1)).relu())


@pytest.fixture(scope="module")
def images():
    return 1.0 + torch.randn(50, 2, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def model():
    return Small().eval()


@pytest.fixture(scope="module")
def store(model, images, tmp_path_factory):
    place = tmp_path_factory.mktemp("runs") / "bias"
    pvq.nn.network_bounds(model, images, store=place, formats=["int2"], methods=[])
    return place


def heard(model, name, images):
    """What a module is given."""
    found = []
    handle = model.get_submodule(name).register_forward_hook(
        lambda m, inputs, output: found.append(inputs[0])
    )
    with torch.no_grad():
        model(images)
    handle.remove()
    return found[0]


def mean_error(model, changed, parts, images):
    """Mean and power of what modules in a row make differently of what the dense network gives them."""
    inputs = heard(model, parts[0], images)
    outputs = []
    for own in (model, changed):
        x = inputs
        with torch.no_grad():
            for part in parts:
                x = own.get_submodule(part)(x)
        outputs.append(x.double())
    off = outputs[1] - outputs[0]
    return off.mean((0, *range(2, off.dim()))).abs().max(), off.square().mean()


@pytest.mark.parametrize("parts", [["conv", "norm"], ["first"], ["second"]])
def test_the_mean_error_goes_and_the_rest_is_its_variance(model, images, store, parts):
    network = Store.open(store).read()
    plain = compressed_model(network, model)
    corrected = compressed_model(network, model, calibration=images)
    before, after = (mean_error(model, own, parts, images) for own in (plain, corrected))
    assert before[0] > 1e-3
    assert after[0] < 1e-3 * before[0]
    assert after[1] < before[1]


def test_what_has_no_bias_stays_and_is_named(model, images, store, tmp_path):
    network = Store.open(store).read()
    written = export_weights(network, model, tmp_path / "w.safetensors", calibration=images)
    assert written.corrected == ("conv", "first", "second")
    state, plain = load_file(written.path), compressed_model(network, model).state_dict()
    changed = {name for name in state if not torch.equal(state[name], plain[name])}
    assert changed == {"norm.running_mean", "first.bias", "second.bias"}
    assert not torch.equal(model.state_dict()["first.bias"], state["first.bias"])


def test_masked_positions_have_no_part_in_it(images):
    """Padded positions stay out of the means as they do out of the Grams."""
    from pvqbounds.nn.means import input_means

    model = nn.Sequential(nn.Linear(3, 3))
    rows = torch.randn(4, 5, 3)
    mask = torch.tensor([[1, 1, 1, 0, 0]] * 4)
    batch = {"input": rows, "position_mask": mask}
    found = input_means(model, [find_layer(model, "0")], [batch])
    assert np.allclose(found.means["0"], rows[:, :3].double().mean((0, 1)).numpy())


def test_a_normalisation_that_others_use_is_left_alone(images):
    from pvqbounds.nn.means import input_means

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = (nn.Conv2d(2, 2, 1, bias=False) for _ in range(2))
            self.norm = nn.BatchNorm2d(2)

        def forward(self, x):
            return self.norm(self.a(x)) + self.norm(self.b(x))

    model = Twice().eval()
    layers = [find_layer(model, name) for name in "ab"]
    assert input_means(model, layers, images).followed == {}


def test_from_the_command_line(model, images, store, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("data.npy", images.numpy())
    place = str(tmp_path / "s")
    network = ["test_bias:Small", "--data", "data.npy", "--format", "int2", "--store", place, "--jobs", "1"]
    assert run("network", *network, "--methods", "rtn") == 0
    capsys.readouterr()
    arguments = ["w.safetensors", "--correct-bias", "data.npy", "--data", "data.npy", "--json", "e.json"]
    assert run("export", place, *arguments) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert (
        "The mean error of 3 layers was taken off their biases; of these it was not, for want of one: 'bare'."
        in told
    )
    assert written_as_published(tmp_path / "e.json")
    document = json.loads((tmp_path / "e.json").read_text())
    assert document["bias_corrected"] == ["conv", "first", "second"]
    assert run("export", place, "v.safetensors", "--data", "data.npy", "--json", "p.json") == 0
    plain = json.loads((tmp_path / "p.json").read_text())
    assert document["after"]["output_error"] < plain["after"]["output_error"]


def test_first_classes(model, images):
    with torch.no_grad():
        assert (first_classes(model, images, batch_size=7) == model(images).argmax(1).numpy()).all()

"""Quantization-aware training: gradients against torch's own kernel, scales, oscillations."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from train_helpers import few_digits, recipe, tiny  # noqa: E402

from pvqbounds.errors import InputError  # noqa: E402
from pvqbounds.nn.layers import find_layer  # noqa: E402
from pvqbounds.problems.grids import mse_scale, symmetric_codes  # noqa: E402
from pvqbounds.train.fit import build_compressor, build_optimizers  # noqa: E402
from pvqbounds.train.oscillation import Freezer, annealed, dampening  # noqa: E402
from pvqbounds.train.presets import Quantization  # noqa: E402
from pvqbounds.train.quantize import ActivationQuantizer, LearnedStep, Quantizer  # noqa: E402


def test_gradients_are_those_of_torchs_own_kernel():
    torch.manual_seed(0)
    weight = torch.randn(6, 5)
    step = LearnedStep(weight, 3, Quantization())
    with torch.no_grad():
        step.scale.mul_(0.4)  # so that some weights are clipped
        centre = weight / step.scale
        # within half a code beyond the grid the kernel takes the rounded value for inside; LSQ does not
        weight[((centre > 3) & (centre < 3.6)) | ((centre < -4) & (centre > -4.6))] *= 1.5
    weight.requires_grad_()
    upstream = torch.randn(6, 5)
    (step(weight) * upstream).sum().backward()
    other, scale = weight.detach().clone().requires_grad_(), step.scale.detach().clone().reshape(1)
    scale.requires_grad_()
    factor = 1.0 / math.sqrt(30 * 3)
    theirs = torch._fake_quantize_learnable_per_tensor_affine(other, scale, torch.zeros(1), -4, 3, factor)
    (theirs * upstream).sum().backward()
    assert int((step.codes(weight).abs() >= 3).sum()) > 3
    torch.testing.assert_close(step(weight), theirs)
    torch.testing.assert_close(weight.grad, other.grad)
    torch.testing.assert_close(step.scale.grad, scale.grad.squeeze())


def test_each_channel_has_its_own_scale_and_gradient():
    torch.manual_seed(1)
    weight = torch.randn(3, 2, 3, 3) * torch.tensor([1.0, 5.0, 0.1])[:, None, None, None]
    together = LearnedStep(weight, 4, Quantization(per_channel=True))
    upstream = torch.randn_like(weight)
    (together(weight) * upstream).sum().backward()
    for channel in range(3):
        alone = LearnedStep(weight[channel : channel + 1], 4, Quantization())
        (alone(weight[channel : channel + 1]) * upstream[channel : channel + 1]).sum().backward()
        torch.testing.assert_close(together.scale[channel].squeeze(), alone.scale)
        torch.testing.assert_close(together.scale.grad[channel].squeeze(), alone.scale.grad)


def test_scales_start_where_the_weight_error_is_least():
    model = tiny()
    weight = find_layer(model, "second").weight
    quantizer = Quantizer(model, {"second": 3}, Quantization(bits=3))
    assert quantizer.steps["second"].scale.item() == pytest.approx(mse_scale(weight, -4, 3), rel=1e-6)
    assert len(quantizer.scale_parameters()) == 1


@pytest.mark.parametrize(
    ("ends", "bits"), [("8-bit", [8, 3, 8]), ("same", [3, 3, 3]), ("dense", [None, 3, None])]
)
def test_the_ends_are_a_choice(ends, bits):
    compressor = build_compressor(tiny(), recipe(Quantization(bits=3), ends=ends), few_digits())
    outcome = compressor.outcome()
    found = [outcome[name].bits if name in outcome else None for name in ("first", "second", "head")]
    assert found == bits


def test_the_outcome_is_what_the_network_computes_with():
    model, settings = tiny(), recipe(Quantization(bits=3, per_channel=True), ends="same")
    compressor = build_compressor(model, settings, few_digits())
    inside = {name: find_layer(model, name).weight for name in ("first", "second", "head")}
    outcome = compressor.outcome()
    compressor.remove()
    for name, weight in inside.items():
        assert type(find_layer(model, name).module) in (torch.nn.Conv2d, torch.nn.Linear)
        np.testing.assert_array_equal(find_layer(model, name).weight, weight)
        np.testing.assert_allclose(outcome[name].weight, weight, rtol=2.0**-22)
        low, high = symmetric_codes(3)
        assert low <= outcome[name].codes.min()
        assert outcome[name].codes.max() <= high


def test_scales_have_an_optimiser_of_their_own():
    model, settings = tiny(), recipe(Quantization(scale_rate=3e-4))
    compressor = build_compressor(model, settings, few_digits())
    main, scales = build_optimizers(model, settings, compressor)
    assert isinstance(scales, torch.optim.Adam)
    assert scales.param_groups[0]["lr"] == 3e-4
    assert scales.param_groups[0]["weight_decay"] == 0.0
    sets = [{id(p) for group in o.param_groups for p in group["params"]} for o in (main, scales)]
    assert not sets[0] & sets[1]
    assert sets[0] | sets[1] == {id(p) for p in model.parameters()}


def test_inputs_are_quantized_where_asked_and_left_alone_afterwards():
    model, data = tiny(), few_digits()
    plain = {name: find_layer(model, name).module for name in ("first", "second")}
    compressor = build_compressor(model, recipe(Quantization(bits=3, activation_bits=3)), data)
    assert plain["second"].activation_quantizer.qmax == 7  # no sign after a ReLU
    seen = []
    plain["second"].register_forward_hook(lambda module, args, output: seen.append(args[0]))
    model(data.test.__getitems__([0, 1]).inputs)
    assert len(torch.unique(seen[0])) <= 8
    compressor.remove()
    model(data.test.__getitems__([0, 1]).inputs)
    assert len(torch.unique(seen[1])) > 8


def test_signed_inputs_keep_their_sign():
    quantizer = ActivationQuantizer(4, torch.linspace(-1.0, 1.0, 64).reshape(8, 8), True)
    assert (quantizer.qmin, quantizer.qmax) == (-8, 7)
    with pytest.raises(InputError, match="not finite"):
        ActivationQuantizer(4, torch.full((2, 2), math.nan), True)


def test_annealing_holds_at_its_ends():
    assert annealed(4.0, 1.0, 0.25, 0.2) == 0.0
    assert annealed(4.0, 1.0, 0.25, 0.25) == 4.0
    assert annealed(4.0, 1.0, 0.25, 1.0) == 1.0
    assert annealed(4.0, 1.0, 0.25, 2.0) == 1.0
    assert annealed(4.0, 1.0, 0.25, 0.0, before=math.inf) == math.inf


def test_dampening_pulls_to_the_middle_of_the_cell_and_not_where_clipped():
    latent = torch.tensor([0.3, -0.6, 9.0], requires_grad=True)
    scale = torch.tensor(1.0, requires_grad=True)
    quantized = torch.tensor([0.0, -1.0, 3.0])
    dampening(latent, quantized, scale, -4, 3).backward()
    torch.testing.assert_close(latent.grad, torch.tensor([0.6, 0.8, 0.0]))
    assert scale.grad is None


def test_what_oscillates_is_frozen_at_its_mean_code_and_nothing_else():
    latent = torch.zeros(3)
    freezer = Freezer({"layer": latent}, 0.2)
    for step in range(40):
        codes = torch.tensor([float(step % 2), 1.0, float(step)])  # back and forth, still, one way
        freezer.update("layer", latent, codes, 0.5)
    latent.fill_(5.0)
    freezer.hold("layer", latent, torch.tensor(0.5))
    assert freezer.frozen_share() == pytest.approx(1 / 3)
    assert float(latent[0]) in (0.0, 0.5)
    assert latent[1:].tolist() == [5.0, 5.0]
    again = Freezer({"layer": latent}, 0.2)
    again.load_state(freezer.state())
    assert again.frozen_share() == freezer.frozen_share()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"bits": 1}, "bit width"),
        ({"bits": "four"}, "whole number"),
        ({"per_channel": "maybe"}, "true or false"),
        ({"freeze": 0.1}, "freeze_final"),
        ({"scale_rate": 0.0}, "positive"),
        ({"ends": "none"}, "8-bit"),
        ({"learning_rat": 1.0}, "did you mean 'learning_rate'"),
        ({"epochs": 0}, "at least 1"),
    ],
)
def test_values_that_cannot_be_used(values, words):
    with pytest.raises(InputError, match=words):
        recipe(Quantization(), **values)

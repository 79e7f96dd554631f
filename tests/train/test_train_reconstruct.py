"""Layer-wise reconstruction: close to the exact optimum, feasible, exact counts."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from train_helpers import few_digits, recipe, tiny  # noqa: E402

import pvqbounds as pvq  # noqa: E402
from pvqbounds.errors import InputError  # noqa: E402
from pvqbounds.methods.adaround import AdaRound  # noqa: E402
from pvqbounds.methods.k_best import KBest  # noqa: E402
from pvqbounds.nn.grams import gram_of_layer  # noqa: E402
from pvqbounds.nn.layers import find_layer  # noqa: E402
from pvqbounds.nn.models import load_model  # noqa: E402
from pvqbounds.problems.grids import mse_scale  # noqa: E402
from pvqbounds.train import reconstruct_pruning, reconstruct_quantization  # noqa: E402
from pvqbounds.train.network_reconstruction import reconstruct_network  # noqa: E402
from pvqbounds.train.presets import Pruning, Quantization  # noqa: E402
from pvqbounds.train.runs import result_document  # noqa: E402

FEW = (KBest(), AdaRound(steps=100))


def correlated(n: int, channels: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    inputs = np.maximum(rng.standard_normal((300, n)) @ rng.standard_normal((n, n)), 0.0)
    return inputs.T @ inputs / 300, rng.standard_normal((channels, n))


@pytest.mark.parametrize("bits", [2, 4])
def test_small_layers_are_solved_nearly_exactly(bits):
    gram, weight = correlated(12, 12)
    qmin, qmax = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    scale = mse_scale(weight, qmin, qmax)
    codes = reconstruct_quantization(gram, weight, np.full(12, scale), qmin, qmax, methods=FEW)
    gaps = []
    for row, z in zip(weight, codes, strict=True):
        problem = pvq.IntegerLeastSquares(gram, row, scale, qmin, qmax)
        error = problem.error(problem.checked_codes(z)).upper
        bounds = pvq.solve(problem)
        assert error >= bounds.error_lower
        assert error <= problem.error(problem.codes_of_nearest()).upper
        gaps.append(10 * np.log10(error / bounds.error_upper))
    assert np.median(gaps) < 0.1
    assert max(gaps) < 2.0


def test_a_slice_of_36_inputs_at_4_bits_is_within_half_a_decibel_for_the_median_channel():
    loaded = load_model("digits")
    layer = find_layer(loaded.module, "block2.0")
    gram, weight = gram_of_layer(loaded.module, layer, loaded.data).grams[0].matrix, layer.weight
    scale = mse_scale(weight, -8, 7)
    codes = reconstruct_quantization(gram, weight, np.full(len(weight), scale), -8, 7)
    gaps = []
    for row, z in zip(weight, codes, strict=True):
        problem = pvq.IntegerLeastSquares(gram, row, scale, -8, 7)
        gaps.append(10 * np.log10(problem.error(z).upper / pvq.solve(problem).error_upper))
    assert np.median(gaps) < 0.5


def test_every_budget_is_kept_and_nearly_as_good_as_the_optimum():
    gram, weight = correlated(12, 6)
    for budget in ({"nnz": 4}, {"pattern": (2, 4)}, {"pattern": (2, 4), "stride": 3}):
        found = reconstruct_pruning(gram, weight, **budget)
        errors = []
        for row, v in zip(weight, found, strict=True):
            problem = pvq.SparseLeastSquares(gram, row, **budget)
            support = problem.checked_support(np.flatnonzero(v))
            error = problem.error(v).upper
            assert error == pytest.approx(problem.error(problem.refit(support)).upper, rel=1e-6)
            errors.append((error, pvq.solve(problem).error_upper))
        assert all(error >= best * (1 - 1e-9) for error, best in errors)
        assert np.median([10 * np.log10(error / best) for error, best in errors]) < 1.0


def test_one_budget_for_the_layer_is_spent_where_it_counts():
    gram, weight = correlated(12, 6)
    weight *= np.array([0.1, 1.0, 1.0, 2.0, 5.0, 10.0])[:, None]

    def error(found):
        return sum((v - w) @ gram @ (v - w) for v, w in zip(found, weight, strict=True))

    apart, together = (reconstruct_pruning(gram, weight, nnz=k, together=k > 12) for k in (4, 24))
    assert np.count_nonzero(together) == np.count_nonzero(apart) == 24
    assert error(together) < 0.7 * error(apart)


def test_nothing_to_remove_and_nothing_to_keep():
    gram, weight = correlated(6, 3)
    np.testing.assert_allclose(reconstruct_pruning(gram, weight, nnz=6), weight)
    np.testing.assert_array_equal(reconstruct_pruning(gram, weight, nnz=0), 0.0)


def test_singular_and_dead_inputs():
    gram, weight = correlated(8, 4)
    gram[:, 3] = gram[3, :] = 0.0
    gram[:, 5], gram[5, :] = gram[:, 6], gram[6, :]
    gram[5, 5] = gram[5, 6] = gram[6, 5] = gram[6, 6]
    codes = reconstruct_quantization(gram, weight, np.full(4, 0.4), -4, 3, methods=FEW)
    assert codes.min() >= -4
    assert codes.max() <= 3
    found = reconstruct_pruning(gram, weight, nnz=6)
    difference = found - weight
    assert np.einsum("ci,ij,cj", difference, gram, difference) < 1e-9  # one dead, two alike: all for nothing
    zero = np.zeros((8, 8))
    assert reconstruct_quantization(zero, weight, np.full(4, 0.4), -4, 3, methods=FEW).shape == (4, 8)
    assert not reconstruct_pruning(zero, weight, nnz=2).any()  # no input counts: all may go


def test_one_input_and_large_weights():
    codes = reconstruct_quantization([[2.0]], [[100.0], [-0.2]], [1.0, 1.0], -8, 7, methods=FEW)
    assert codes.tolist() == [[7], [0]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((np.eye(3), np.ones((2, 4)), [1.0, 1.0], -4, 3), "does not fit"),
        ((np.eye(4), np.ones((2, 4)), [1.0], -4, 3), "one positive scale"),
        ((np.eye(4), np.ones((2, 4)), [1.0, 0.0], -4, 3), "one positive scale"),
        ((np.eye(4), np.full((2, 4), np.nan), [1.0, 1.0], -4, 3), "not finite"),
    ],
)
def test_arrays_that_cannot_be_used(arguments, words):
    with pytest.raises(InputError, match=words):
        reconstruct_quantization(*arguments)


def test_budgets_that_cannot_be_used():
    pattern = {"pattern": (2, 4)}
    for budget in ({}, {"nnz": 2, **pattern}, {"nnz": 5}, {"together": True, **pattern}):
        with pytest.raises(InputError):
            reconstruct_pruning(np.eye(4), np.ones((2, 4)), **budget)


@pytest.mark.parametrize("compression", [Quantization(bits=4), Pruning(sparsity=0.5)])
def test_a_whole_network_beats_the_simple_method(compression):
    model, dense, data = tiny(), tiny(), few_digits()
    made = reconstruct_network(model, data, recipe(compression, ends="same"))
    assert set(made.layers) == {"first", "second", "head"}
    inputs = data.calibration.__getitems__(range(len(data.calibration))).inputs
    for name, layer in made.layers.items():
        place = find_layer(dense, name)
        gram, weight = gram_of_layer(dense, place, inputs).grams[0].matrix, place.weight
        np.testing.assert_allclose(find_layer(model, name).weight, layer.weight, rtol=2.0**-22)
        if isinstance(compression, Quantization):
            simple = np.clip(np.rint(weight / layer.scales[:, None]), -8, 7) * layer.scales[:, None]
        else:
            cut = np.sort(np.abs(weight).ravel())[weight.size - weight.size // 2]
            simple = np.where(np.abs(weight) >= cut, weight, 0.0)
            assert np.count_nonzero(layer.weight) <= weight.size // 2

        def error(v, gram=gram, weight=weight):
            return np.einsum("ci,ij,cj", v - weight, gram, v - weight)

        assert error(layer.weight) <= error(simple)


def test_a_pattern_of_a_network_runs_along_input_channels():
    data, settings = few_digits(), recipe(Pruning(scope="pattern", pattern="1:2"), ends="same")
    model = tiny()
    made = reconstruct_network(model, data, settings)
    assert set(made.layers) == {"second", "head"}  # the first has one input channel: nothing to group
    assert (find_layer(model, "first").weight != 0.0).all()
    assert made.layers["second"].stride == 9
    kept = (find_layer(model, "second").module.weight != 0.0).unflatten(1, (-1, 2))
    assert (kept.sum(2) <= 1).all()
    document = result_document(settings, made, "")
    assert document["dense_layers"] == ["first"]
    inside = sum(layer.weight.size for layer in made.layers.values())
    assert document["share_of_parameters"] == pytest.approx(
        inside / sum(p.numel() for p in model.parameters())
    )
    assert document["mask_bits_per_weight"] == pytest.approx(0.5)
    lone = torch.nn.Sequential(torch.nn.Conv2d(1, 10, 8), torch.nn.Flatten())
    with pytest.raises(InputError, match="No layer has enough input channels for a pattern 1:2"):
        reconstruct_network(lone, data, settings)


def test_what_reconstruction_cannot_do():
    for compression in (None, Pruning(scope="channel"), Quantization(activation_bits=4)):
        with pytest.raises(InputError):
            reconstruct_network(tiny(), few_digits(), recipe(compression))

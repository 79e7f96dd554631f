"""Bounds of a layer: that the problems are the layer's own, in both protocols, and bad options."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import pvqbounds.nn.bounds as bounds_module
from pvqbounds.errors import InputError
from pvqbounds.nn import LoadedModel, layer_bounds, load_model
from pvqbounds.problems import IntegerLeastSquares, magnitude_support
from pvqbounds.problems.grids import minmax_scale, mse_scale
from pvqbounds.results import Bounds


def heuristic(problems, *, progress, time_limit, **options):
    """In place of a solver: the simple methods, and a lower bound of zero."""
    passed = {"solver", "method", "relaxation", "solver_options", "threads", "tolerance", "verbose", "seed"}
    assert set(options) == passed | {"jobs", "device"}
    found = []
    for done, problem in enumerate(problems, start=1):
        quantization = isinstance(problem, IntegerLeastSquares)
        codes = problem.codes_of_nearest() if quantization else None
        support = None if quantization else magnitude_support(problem)
        weight = problem.weight_of(codes) if quantization else problem.refit(support)
        found.append(
            Bounds(
                error_lower=0.0,
                error_upper=problem.error(codes if quantization else weight).upper,
                signal_enclosure=problem.signal,
                lower_kind="certified",
                status="bounded",
                solver="heuristic",
                method="relax",
                relaxation=None,
                seconds=0.0,
                weight=weight,
                codes=codes,
                support=support,
                certificate=None,
            )
        )
        progress(done)
    return found


@pytest.fixture
def simple(monkeypatch):
    monkeypatch.setattr(bounds_module, "solve_channels", heuristic)


def conv(groups: int = 2) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=groups, dtype=torch.float64)


X = torch.randn(5, 4, 7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def rebuilt(module: nn.Module, side) -> torch.Tensor:
    """The layer's weight with the compressed slices in their places."""
    weight = module.weight.detach().clone().flatten(1)
    for s in side.slices:
        weight[s.channel, s.inputs[0] : s.inputs[1]] = torch.from_numpy(s.bounds.weight)
    return weight.reshape(module.weight.shape)


def output_error(module: nn.Module, weight: torch.Tensor) -> float:
    """Summed over channels, mean over positions: of the module's own forward pass, bias and all."""
    with torch.no_grad():
        original, before = module(X), module.weight.clone()
        module.weight.copy_(weight)
        changed = module(X)
        module.weight.copy_(before)
    return float((changed - original).square().sum(1).mean())


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("per_channel", [False, True])
def test_errors_are_those_of_the_layers_own_forward_pass(simple, groups, per_channel):
    module = conv(groups)
    report = layer_bounds(module, "", X, bits=3, per_channel=per_channel)
    assert report.protocol == "full"
    assert report.description.startswith("Conv2d 4->6, 3x3, stride 2")
    assert (report.inputs, report.channels, report.positions) == (36 // groups, (6, 6), 5 * 4 * 4)
    for side in (report.quantization, report.pruning):
        weight = rebuilt(module, side)
        assert side.error_upper == pytest.approx(output_error(module, weight), rel=1e-9)
    signal = report.quantization.signal_enclosure.middle
    zero = torch.zeros_like(module.weight)
    assert signal == pytest.approx(output_error(module, zero), rel=1e-9)


def test_one_scale_for_the_layer_or_one_a_channel(simple):
    module = conv()
    rows = module.weight.detach().flatten(1).numpy()
    for method, find in (("mse", mse_scale), ("minmax", minmax_scale)):
        chunked = layer_bounds(module, "", X, opt_dim=9, out_channels=1, range_method=method)
        assert {s.problem.scale for s in chunked.quantization.slices} == {find(rows, -8, 7)}
        report = layer_bounds(module, "", X, range_method=method, per_channel=True)
        assert [s.problem.scale for s in report.quantization.slices] == [find(row, -8, 7) for row in rows]


def test_channels_of_a_group_share_its_gram(simple):
    report = layer_bounds(conv(2), "", X)
    grams = [s.problem.gram for side in (report.quantization, report.pruning) for s in side.slices]
    assert len({id(gram) for gram in grams}) == 2
    assert grams[0] is grams[2] is grams[6]
    assert grams[0] is not grams[3]
    chunked = layer_bounds(conv(2), "", X, opt_dim=9)
    assert len({id(s.problem.gram) for s in chunked.quantization.slices}) == 4


def test_chunks_are_whole_input_channels(simple):
    report = layer_bounds(conv(1), "", X, opt_dim=20, out_channels=[5, 2])
    assert report.protocol == "chunked"
    assert report.verdict == "undecided"
    assert [(s.channel, s.inputs) for s in report.pruning.slices] == [
        (5, (0, 18)), (5, (18, 36)), (2, (0, 18)), (2, (18, 36))
    ]  # fmt: skip
    for s in report.pruning.slices:
        weight = conv(1).weight.detach().flatten(1).numpy()[s.channel, slice(*s.inputs)]
        np.testing.assert_array_equal(s.problem.weight, weight)
    whole = layer_bounds(conv(1), "", X, opt_dim=36, out_channels=2)
    assert whole.protocol == "full"
    assert whole.channels == (2, 6)
    part, full = report.quantization.slices[1].problem.gram, whole.quantization.slices[0].problem.gram
    np.testing.assert_array_equal(part, full[18:, 18:])


@pytest.mark.parametrize(
    ("options", "nnz", "density"),
    [
        ({}, 4, 0.25),  # 4 bits: a quarter of 18 is 4.5
        ({"bits": 3}, 3, 0.1875),
        ({"bits": 16}, 18, 1.0),
        ({"density": 0.5}, 9, 0.5),
        ({"density": 0.01}, 0, 0.01),
    ],
)
def test_budget_of_pruning(simple, options, nnz, density):
    report = layer_bounds(conv(2), "", X, out_channels=1, **options)
    assert [s.problem.nnz for s in report.pruning.slices] == [nnz]
    assert report.pruning.density == density


def test_patterns_are_never_cut(simple):
    report = layer_bounds(conv(1), "", X, pattern=(2, 4), opt_dim=20, out_channels=1)
    assert report.pruning.density == 0.5
    assert [s.inputs for s in report.pruning.slices] == [(0, 20), (20, 36)]
    assert [s.problem.pattern for s in report.pruning.slices] == [(2, 4)] * 2
    together = layer_bounds(conv(1), "", X, pattern=(1, 3), opt_dim=20, out_channels=1)
    assert [s.inputs for s in together.pruning.slices] == [(0, 18), (18, 36)]


def test_simple_methods_are_feasible_and_inside(simple):
    report = layer_bounds(conv(), "", X)
    quantized, pruned = report.quantization, report.pruning
    assert set(quantized.methods) >= {"rtn"}
    assert set(pruned.methods) >= {"magnitude", "magnitude+refit"}
    for points in quantized.methods.values():
        for s, codes in zip(quantized.slices, points, strict=True):
            s.problem.checked_codes(codes)
    for points in pruned.methods.values():
        for s, weight in zip(pruned.slices, points, strict=True):
            s.problem.checked_support(np.flatnonzero(weight))
    assert pruned.method_error("magnitude+refit") <= pruned.method_error("magnitude")


def test_dead_channels_are_reported(simple):
    module = conv(1)
    with torch.no_grad():
        module.weight[2] = 0.0
    report = layer_bounds(module, "", X)
    assert [s.channel for s in report.quantization.slices if s.dead] == [2]
    assert all(s.dead for s in layer_bounds(module, "", torch.zeros_like(X)).pruning.slices)


@pytest.mark.parametrize("name", ["park-boyd", "perspective", None])
def test_a_relaxation_is_meant_for_one_side(monkeypatch, name):
    given = []

    def listen(problems, *, relaxation, **options):
        given.append(relaxation)
        return heuristic(problems, relaxation=relaxation, **options)

    monkeypatch.setattr(bounds_module, "solve_channels", listen)
    layer_bounds(conv(1), "", X, relaxation=name)
    assert given == ([None, name] if name == "perspective" else [name, None])


def test_progress_runs_to_the_end(simple):
    calls = []
    layer_bounds(conv(1), "", X, opt_dim=18, progress=lambda *call: calls.append(call))
    assert calls[0] == (0, 24, "layer inputs")
    assert calls[-1] == (24, 24, "pruning")
    assert [done for done, _, _ in calls] == sorted(done for done, _, _ in calls)
    assert {label for _, _, label in calls} == {"layer inputs", "quantization", "pruning"}


def test_a_loaded_model_brings_name_and_data(simple):
    loaded = load_model("digits")
    report = layer_bounds(loaded, "block3.0", out_channels=1)
    assert (report.model, report.inputs, report.positions) == ("digits", 72, 256 * 16)
    assert layer_bounds(loaded, "head", loaded.data[:3], out_channels=1).positions == 3
    with pytest.raises(InputError, match="without data"):
        layer_bounds(LoadedModel("own", conv(), None), "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 1}, "bit width"),
        ({"density": 0.0}, r"density must lie in \(0, 1\]"),
        ({"density": 1.01}, "density"),
        ({"density": float("nan")}, "density"),
        ({"density": 0.5, "pattern": (2, 4)}, "not both"),
        ({"pattern": (5, 4)}, "N of the pattern"),
        ({"pattern": (2, 4), "opt_dim": 3}, "cannot hold a group of 4"),
        ({"opt_dim": 0}, "opt_dim must be a positive"),
        ({"out_channels": 0}, "output channels?.* to [56]"),
        ({"out_channels": 7}, "output channels?.* to [56]"),
        ({"out_channels": [1, 1]}, "different numbers"),
        ({"out_channels": []}, "different numbers"),
        ({"out_channels": [6]}, "from 0 to 5"),
        ({"range_method": "MSE"}, "one of mse, minmax"),
    ],
)
def test_bad_options_are_found_before_the_model_runs(options, message):
    module = conv(1)
    module.register_forward_pre_hook(lambda *_: pytest.fail("the model has run"))
    with pytest.raises(InputError, match=message):
        layer_bounds(module, "", X, **options)


def test_a_small_layer_solved_in_earnest():
    report = layer_bounds(load_model("digits"), "block1.0", bits=2, out_channels=2)
    for side in (report.quantization, report.pruning):
        assert side.status == "optimal"
        assert side.lower_kind == "certified"
        for name in side.methods:
            assert side.error_lower <= side.method_error(name)
    assert 0 < report.quantization.error_lower <= report.quantization.error_upper


def test_the_example_with_a_module_of_ones_own_runs(capsys):
    runpy.run_path(str(Path(__file__).parent.parent / "examples" / "own_module.py"))
    assert "provably better: quantization" in capsys.readouterr().out

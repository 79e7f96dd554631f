"""Bounds of a layer: that the problems are the layer's own, in both protocols, and bad options."""

from __future__ import annotations

import io
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

import pvqbounds as pvq
import pvqbounds.methods.randomized as randomized_module
import pvqbounds.nn.side_bounds as bounds_module
from pvqbounds.errors import InputError, SolverError, SolverFailedError
from pvqbounds.nn import LoadedModel, gram_of_layer, layer_bounds, load_model
from pvqbounds.problems import IntegerLeastSquares, magnitude_support
from pvqbounds.problems.formats import density_format, parse
from pvqbounds.problems.grids import minmax_scale, mse_scale
from pvqbounds.report.tables import layer_view, verdict_text
from pvqbounds.results.bounds import Bounds
from pvqbounds.results.decibels import interval_text
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.results_read import read_layer
from pvqbounds.storage.results_written import layer_document, write_layer


def heuristic(problems, asked, execution):
    """In place of a solver: the simple methods, and a lower bound of zero."""
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
        execution.report(done)
    return found


@pytest.fixture
def simple(monkeypatch):
    monkeypatch.setattr(bounds_module, "solve_all", heuristic)


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


def dead_columns(factor: float) -> nn.Sequential:
    """Hidden units 1 and 4 never fire; the weights on them are multiplied by `factor`."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5))
    with torch.no_grad():
        net[0].bias[[1, 4]] = -1e4
        net[2].weight[:, [1, 4]] *= factor
    return net


@pytest.mark.parametrize("options", [{}, {"per_channel": True}, {"range_method": "minmax"}])
def test_weights_on_dead_inputs_do_not_set_the_scale(simple, options, tmp_path):
    data = torch.randn(200, 6, generator=torch.Generator().manual_seed(2))
    plain, large = (layer_bounds(dead_columns(f), "2", data, **options) for f in (1.0, 50.0))
    assert plain.dead_inputs == large.dead_inputs == (2, 8)
    scales = [[s.problem.scale for s in report.quantization.slices] for report in (plain, large)]
    assert scales[0] == scales[1]
    assert plain.quantization.error_upper == large.quantization.error_upper
    document = layer_document(large)[0]
    assert document["dead_inputs"] == 2
    given = layer_bounds(dead_columns(50.0), "2", data, scales=0.3)
    assert {s.problem.scale for s in given.quantization.slices} == {0.3}
    assert layer_bounds(conv(2), "", X).dead_inputs == (0, 36)


def test_a_channel_of_zeros_adds_nothing_to_the_expected_error(simple):
    module = conv(1)
    expected = layer_bounds(module, "", X, per_channel=True).quantization
    with torch.no_grad():
        module.weight[2] = 0.0
    found = layer_bounds(module, "", X, per_channel=True).quantization
    assert found.expected_errors[2] == 0.0
    assert found.expected_errors[:2] == expected.expected_errors[:2]
    assert found.expected_sqnr == pytest.approx(expected.expected_sqnr, abs=1.0)
    for s, error in zip(found.slices, found.expected_errors, strict=True):
        assert error <= s.problem.signal.upper
    with torch.no_grad():
        module.weight.zero_()
    assert "no signal" in verdict_text(layer_bounds(module, "", X))


def test_what_nobody_can_tell_is_noted(simple, tmp_path):
    loaded = LoadedModel("own", conv(1), X, "The weights are those of a dream.")
    report = layer_bounds(loaded, "", out_channels=1)
    assert report.notes == ("The weights are those of a dream.",)
    write_layer(report, tmp_path / "r.json")
    assert read_layer(tmp_path / "r.json").notes == report.notes
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(layer_view(report))
    assert "Note: The weights are those of a dream." in console.export_text()


def test_the_seed_reaches_randomized_rounding(simple, monkeypatch):
    given = []

    def listen(problem, mean, covariance, *, seed):
        given.append(seed)
        return problem.codes_of_nearest()

    monkeypatch.setattr(randomized_module, "randomized_rounding", listen)
    layer_bounds(conv(1), "", X, bits=3, seed=7, out_channels=2)
    assert given == [7, 7]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"solver": "clarabel"}, "native solver alone"), ({"tolerance": 1e-3}, "takes no tolerance")],
)
def test_a_budget_of_the_layer_drops_no_option(options, message, monkeypatch):
    pytest.importorskip("clarabel")
    with pytest.raises(InputError, match=message):
        layer_bounds(conv(1), "", X, budget="layer", method="relax", **options)
    given = []

    def listen(problems, nnz, asked, execution):
        given.extend((asked.threads, execution.jobs, asked.time_limit))
        raise InputError("heard")

    monkeypatch.setattr(bounds_module, "solve_all", heuristic)
    monkeypatch.setattr(bounds_module, "solve_together", listen)
    with pytest.raises(InputError, match="heard"):
        layer_bounds(conv(1), "", X, budget="layer", threads=3, jobs=2, time_limit=7.0)
    assert given == [3, 2, 7.0]


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
    assert report.verdict == ()
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
    assert parse(report.pruning.format) == density_format(density)


def test_patterns_are_never_cut(simple):
    report = layer_bounds(conv(1), "", X, pattern=(1, 2), opt_dim=20, out_channels=1)
    assert report.pruning.format == "1:2"
    assert [s.inputs for s in report.pruning.slices] == [(0, 18), (18, 36)]
    assert [(s.problem.pattern, s.problem.stride) for s in report.pruning.slices] == [((1, 2), 9)] * 2
    with pytest.raises(InputError, match="group of 36 inputs, which 2:4 keeps together; take 36"):
        layer_bounds(conv(1), "", X, pattern=(2, 4), opt_dim=35)
    whole = layer_bounds(conv(1), "", X, pattern=(3, 5), opt_dim=36, out_channels=1)
    assert whole.protocol == "full"


def sparse_conv() -> nn.Conv2d:
    """Two of every four input channels are kept, at all nine positions: 2:4 already."""
    torch.manual_seed(0)
    module = nn.Conv2d(4, 2, 3, padding=1, bias=False)
    with torch.no_grad():
        module.weight[:, 2:] = 0.0
    return module


def test_a_pattern_groups_input_channels_at_each_kernel_position(tmp_path):
    report = layer_bounds(sparse_conv(), "", X, pattern=(2, 4), bits=3, time_limit=20.0)
    side = report.pruning
    assert side.error_upper <= 1e-20 * side.signal_enclosure.lower  # nothing is lost
    for points in side.methods.values():
        for s, weight in zip(side.slices, points, strict=True):
            s.problem.checked_support(np.flatnonzero(weight))
    channels = np.arange(36) // 9
    for s in side.slices:
        assert all(sorted(channels[group]) == [0, 1, 2, 3] for group, _ in s.problem.budgets)
    write_layer(report, tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["sides"][1]["pattern_stride"] == 9
    assert all(finding.holds for finding in verify_file(tmp_path / "r.json"))
    assert report.notes == ()


def strided(unit: float = 1.0) -> tuple[pvq.SparseLeastSquares, pvq.SparseLeastSquares]:
    """A problem with groups of four inputs that lie three apart, and the same with its inputs in order."""
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((60, 12)), unit * rng.standard_normal(12)
    gram, order = x.T @ x / 60, np.arange(12).reshape(4, 3).T.ravel()
    apart = pvq.SparseLeastSquares(gram, w, pattern=(2, 4), stride=3)
    return apart, pvq.SparseLeastSquares(gram[np.ix_(order, order)], w[order], pattern=(2, 4))


@pytest.mark.parametrize("unit", [1.0, 1e-30, 3e20])
@pytest.mark.parametrize("method", ["exact", "relax"])
def test_a_strided_pattern_is_the_plain_one_of_permuted_inputs(method, unit):
    apart, plain = strided(unit)
    found, expected = (pvq.solve(problem, method=method) for problem in (apart, plain))
    assert found.error_upper == pytest.approx(expected.error_upper, rel=1e-9)
    assert found.error_lower == pytest.approx(expected.error_lower, rel=1e-5)
    assert pvq.verify(apart, found)
    apart.checked_support(found.support)


@pytest.mark.parametrize("solver", [name for name in pvq.available_solvers() if name != "native"])
def test_no_backend_loses_the_stride_of_a_pattern(solver):
    apart, plain = strided()
    best = pvq.solve(plain, method="exact")
    try:
        found = pvq.solve(apart, solver=solver, time_limit=20.0)
    except (SolverError, SolverFailedError):
        pytest.skip(f"{solver} does not prune")
    assert found.error_lower <= best.error_upper * (1 + 1e-6)
    assert found.error_upper >= best.error_lower * (1 - 1e-6)
    apart.checked_support(found.support)
    if found.status == "optimal":
        assert found.error_upper == pytest.approx(best.error_upper, rel=1e-5)


def test_a_shorter_last_group_is_told_and_too_few_channels_are_refused(simple):
    report = layer_bounds(nn.Conv2d(3, 2, 3), "", torch.randn(4, 3, 6, 6), pattern=(2, 4))
    assert [kept for _, kept in report.pruning.slices[0].problem.budgets] == [2] * 9
    assert [len(group) for group, _ in report.pruning.slices[0].problem.budgets] == [3] * 9
    assert "last group of 4 input channels has only 3, and may keep 2" in report.notes[0]
    linear = layer_bounds(nn.Linear(30, 2), "", torch.randn(50, 30), pattern=(1, 4))
    assert "has only 2, and may keep 1" in linear.notes[0]
    depthwise = nn.Conv2d(4, 4, 3, groups=4)
    with pytest.raises(
        InputError, match="1 input channel behind each output channel, of which a pattern 2:4"
    ):
        layer_bounds(depthwise, "", X, pattern=(2, 4))
    with pytest.raises(InputError, match="2 input channels behind"):
        layer_bounds(conv(2), "", X, pattern=(2, 4))


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

    def listen(problems, asked, execution):
        given.append(asked.relaxation)
        return heuristic(problems, asked, execution)

    monkeypatch.setattr(bounds_module, "solve_all", listen)
    layer_bounds(conv(1), "", X, relaxation=name)
    assert given == ([None, name] if name == "perspective" else [name, None])


def test_progress_runs_to_the_end(simple):
    calls = []
    layer_bounds(conv(1), "", X, opt_dim=18, progress=lambda *call: calls.append(call))
    assert calls[0] == (0, 24, "layer inputs")
    assert calls[-1] == (24, 24, "pruning")
    assert [done for done, _, _ in calls] == sorted(done for done, _, _ in calls)
    assert {label for _, _, label in calls} == {"layer inputs", "quantization", "pruning"}


def test_the_sides_of_a_layer_share_its_time(monkeypatch):
    given = []

    def listen(problems, asked, execution):
        given.append(execution.total_time)
        return heuristic(problems, asked, execution)

    monkeypatch.setattr(bounds_module, "solve_all", listen)
    layer_bounds(conv(1), "", X, formats=FIVE, total_time=1e6)
    assert given == pytest.approx([1e6 / sides for sides in (5, 4, 3, 2, 1)], rel=0.01)  # none took any


def test_progress_tells_the_interval():
    calls = []
    report = layer_bounds(conv(1), "", X, formats=["int2"], progress=lambda *call: calls.append(call))
    assert calls[-1][2] == f"quantization {interval_text(*report.sides[0].sqnr_interval)}"
    calls.clear()
    layer_bounds(conv(1), "", X, formats=["int2"], opt_dim=18, progress=lambda *call: calls.append(call))
    assert {label for _, _, label in calls} == {"layer inputs", "quantization"}  # chunks do not add up


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
        ({"pattern": (2, 4), "opt_dim": 3}, "cannot hold a group of 36"),
        ({"opt_dim": 0}, "opt_dim must be a positive"),
        ({"pattern": (2, 4), "opt_dim": 0}, "opt_dim must be a positive"),
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


FIVE = ["int4", "25%", "2:4", "int3", "50%"]


def test_many_formats_share_one_pass_and_one_gram(simple, monkeypatch):
    passes = []

    def listen(*arguments, **options):
        passes.append(1)
        return gram_of_layer(*arguments, **options)

    monkeypatch.setattr("pvqbounds.nn.layer_inputs.gram_of_layer", listen)
    calls = []
    report = layer_bounds(conv(1), "", X, formats=FIVE, progress=lambda *call: calls.append(call))
    assert passes == [1]
    assert [side.format for side in report.sides] == FIVE
    assert len({id(s.problem.gram) for side in report.sides for s in side.slices}) == 1
    assert list(dict.fromkeys(label for _, _, label in calls)) == ["layer inputs", *FIVE]
    assert calls[-1] == (30, 30, "50%")
    short = layer_bounds(conv(1), "", X, bits=4, pattern=(2, 4))
    for side in short.sides:
        same = next(other for other in report.sides if other.format == side.format)
        assert same.error_upper == side.error_upper
        assert same.method_errors == side.method_errors
        assert same.bits_per_weight == side.bits_per_weight
    assert short.quantization.bits_per_weight == 4 + 16 / (6 * 36)
    apart = layer_bounds(conv(1), "", X, formats=["int4"], per_channel=True)
    assert apart.sides[0].bits_per_weight == 4 + 16 / 36


def test_groups_of_several_patterns_are_never_cut(simple):
    module = nn.Conv2d(12, 2, 3, dtype=torch.float64)
    data = torch.randn(3, 12, 5, 5, dtype=torch.float64)
    report = layer_bounds(module, "", data, formats=["1:2", "2:3"], opt_dim=60)
    assert [s.inputs for s in report.sides[0].slices[:2]] == [(0, 54), (54, 108)]  # six channels of nine
    assert report.verdict == ()


def test_one_budget_goes_to_each_density(tmp_path):
    report = layer_bounds(
        load_model("digits"), "block1.0", formats=["int2", "25%", "50%"], budget="layer", method="relax"
    )
    assert [side.shared and side.shared.nnz for side in report.sides] == [None, 9, 18]
    write_layer(report, tmp_path / "r.json")
    assert all(finding.holds for finding in verify_file(tmp_path / "r.json"))


def test_a_solver_that_can_do_none_of_the_formats_is_refused():
    pytest.importorskip("highspy")
    with pytest.raises(SolverError, match="highs cannot do quantization"):
        layer_bounds(conv(1), "", X, formats=["int4", "int3"], solver="highs")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": ["int4", "int4"]}, "given 2 times"),
        ({"formats": ["int4"], "bits": 4}, "short forms"),
        ({"formats": ["nf5"]}, "no format .nf5.; did you mean .nf4."),
        ({"formats": []}, "at least one"),
        ({"formats": ["25%"], "scales": 0.1}, "leave out scales"),
        ({"formats": ["25%"], "per_channel": True}, "leave out scales and per_channel"),
        (
            {"formats": ["25%"], "relaxation": "splits"},
            "for quantization or quantization to levels or quantization at any scale, which no format asks",
        ),
        ({"formats": ["int4"], "relaxation": "perspective"}, "for pruning"),
        ({"formats": ["int4"], "budget": "layer"}, "that of a density"),
        ({"formats": ["25%", "2:4"], "budget": "layer"}, "N:M pattern"),
        ({"formats": ["2:4", "1:3"], "opt_dim": 11}, "group of 12"),
    ],
)
def test_formats_that_do_not_go_with_the_rest(options, message):
    module = nn.Linear(12, 2)
    module.register_forward_pre_hook(lambda *_: pytest.fail("the model has run"))
    with pytest.raises(InputError, match=message):
        layer_bounds(module, "", torch.randn(4, 12), **options)


def test_a_small_layer_solved_in_earnest():
    report = layer_bounds(load_model("digits"), "block1.0", bits=2, out_channels=2)
    for side in (report.quantization, report.pruning):
        assert side.status == "optimal"
        assert side.lower_kind == "certified"
        for name in side.methods:
            assert side.error_lower <= side.method_error(name)
    assert 0 < report.quantization.error_lower <= report.quantization.error_upper


def test_the_example_with_a_module_of_ones_own_runs(capsys):
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "own_module.py"))
    assert "provably better: int4 than 25%" in capsys.readouterr().out

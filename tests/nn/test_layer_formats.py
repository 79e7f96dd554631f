"""Every format by name, through a layer: problems, files, proofs, tables; formats of somebody else's too."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import pvqbounds as pvq
from pvqbounds.errors import InputError
from pvqbounds.nn import layer_bounds
from pvqbounds.problems.formats import registry
from pvqbounds.problems.grids import minmax_scale, mse_scale
from pvqbounds.results.layer import LayerReport
from pvqbounds.solving.kinds import JOINT, LEVELS, PRUNING, STEPS, kind_for, kind_of
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.problem_files import load_problem, write_npz
from pvqbounds.storage.results_read import read_layer
from pvqbounds.storage.results_written import layer_document, write_layer

TRIALS = Path(__file__).parents[1] / "problems"
sys.path.insert(0, str(TRIALS))

from halves_format import halves  # noqa: E402
from logarithmic_format import Logarithmic  # noqa: E402

NAMES = [
    "int4", "int2:channel", "int3:g5", "int3:g5:asym", "int16", "nf4", "nf4:b8:dq", "nvfp4", "nvfp4:4over6",
    "mxfp4", "mxfp4:ct", "fp8", "fp8:e5m2:channel", "q4_0", "q4_1", "q8_0", "iq4_nl",
    "25%", "2:4", "2:4+int4:g5", "25%+nf4", "2:4+nvfp4", "50%+int3", "1:2+q8_0", "1:4+int3:asym",
    "4:4+int4", "100%+nf4",
]  # fmt: skip
"""Of each rule for values some, and joint formats; of the last two nothing is removed."""

INPUTS, CHANNELS = 10, 2


@pytest.fixture
def register(monkeypatch):
    """What is registered in a test is gone after it."""
    monkeypatch.setattr(registry, "VALUE_RULES", dict(registry.VALUE_RULES))
    monkeypatch.setattr(registry, "SUPPORT_RULES", dict(registry.SUPPORT_RULES))
    pvq.formats.register("log4", lambda options: Logarithmic())
    pvq.formats.register_support("halves", halves)


def linear(inputs: int = INPUTS, channels: int = CHANNELS) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    data = torch.relu(torch.randn(200, inputs, dtype=torch.float64) @ torch.randn(inputs, inputs).double())
    return nn.Linear(inputs, channels).double(), data


def written_and_verified(report: LayerReport, path: Path) -> LayerReport:
    """What comes back of a report from its files, every claim of which holds."""
    write_layer(report, path)
    assert [finding for finding in verify_file(path) if not finding.holds] == []
    again = read_layer(path)
    assert layer_document(again)[0] == layer_document(report)[0]
    assert str(again) == str(report)
    return again


@pytest.fixture(scope="module")
def all_formats() -> LayerReport:
    model, data = linear()
    return layer_bounds(model, "", data, formats=NAMES, time_limit=1.0)


def test_every_format_comes_to_problems_files_and_tables(all_formats, tmp_path):
    assert [side.format for side in all_formats.sides] == NAMES
    again = written_and_verified(all_formats, tmp_path / "r.json")
    text = str(all_formats)
    assert max(map(len, text.splitlines())) <= 80
    for side, other in zip(all_formats.sides, again.sides, strict=True):
        assert re.search(rf"(?m)^ ?{re.escape(side.format)}\b", text) or side.format in text
        assert side.bits_per_weight == pytest.approx(
            pvq.formats.parse(side.format).bits_per_weight((CHANNELS, INPUTS))
        )
        for s, o in zip(side.slices, other.slices, strict=True):
            assert str(s.problem.values) == str(o.problem.values)
            assert s.bounds.error_lower <= s.bounds.error_upper
            assert pvq.verify(s.problem, s.bounds)
    assert len({id(s.problem.shared) for side in all_formats.sides for s in side.slices}) == 1


@pytest.mark.parametrize("mask", ["stored", "bitmap", "entropy", "none"])
def test_sizes_count_masks_as_told(tmp_path, mask):
    model, data = linear()
    names, shape = ["int4", "40%", "2:4+int4"], (CHANNELS, INPUTS)
    report = layer_bounds(model, "", data, formats=names, mask_cost=mask, time_limit=1.0)
    for side in report.sides:
        assert side.bits_per_weight == pvq.formats.parse(side.format).bits_per_weight(shape, mask)
        assert side.mask_cost == (None if side.format == "int4" else mask)
    assert f"masks counted: {mask}" in str(report)
    written_and_verified(report, tmp_path / "r.json")


def test_one_budget_has_one_mask():
    model, data = linear()
    report = layer_bounds(model, "", data, formats=["40%"], mask_cost="entropy", budget="layer")
    assert report.sides[0].bits_per_weight == pytest.approx(16 * 0.4 + np.log2(math.comb(20, 8)) / 20)


def test_a_way_to_count_masks_is_one_of_ours():
    model, data = linear()
    with pytest.raises(InputError, match="one of bitmap, entropy, stored, none, not 'zip'"):
        layer_bounds(model, "", data, formats=["40%"], mask_cost="zip")


def test_values_come_back_bit_by_bit(all_formats, tmp_path):
    write_layer(all_formats, tmp_path / "r.json")
    for side, other in zip(all_formats.sides, read_layer(tmp_path / "r.json").sides, strict=True):
        for s, o in zip(side.slices, other.slices, strict=True):
            for name, array in s.problem.values.arrays.items():
                back = o.problem.values.arrays[name]
                width = max(np.shape(array)[-1], np.shape(back)[-1]) if array.ndim == 2 else 0
                pad = ((0, 0), (0, width - np.shape(array)[-1])) if width else 0
                np.testing.assert_array_equal(np.pad(array, pad, mode="edge") if width else array, back)
            assert [(g.tolist(), m) for g, m in s.problem.budgets] == [
                (g.tolist(), m) for g, m in o.problem.budgets
            ]


def test_rounding_by_the_format_is_one_of_the_choices(all_formats):
    model, _ = linear()
    weight = model.weight.detach().numpy()
    for side in all_formats.sides:
        if side.task == "pruning":
            continue
        decoded = pvq.formats.parse(side.format).round_to_nearest(weight)
        name = "rtn" if side.task == "quantization" else "magnitude+rtn"
        for row, s, codes in zip(decoded, side.slices, side.methods[name], strict=True):
            np.testing.assert_array_equal(s.problem.weight_of(codes), row)
        assert side.error_lower <= side.error_upper <= min(map(side.method_error, side.methods))


@pytest.mark.parametrize("name", NAMES)
def test_a_format_knows_how_its_problems_are_solved(name, all_formats):
    form = pvq.formats.parse(name)
    kind = kind_for(form.task, form.has_steps)
    problem = all_formats.side(name).slices[0].problem
    removes_nothing = name in ("4:4+int4", "100%+nf4")
    expected = kind_for("quantization", form.has_steps) if removes_nothing else kind
    assert kind_of(problem) is expected
    assert kind in (STEPS, LEVELS, JOINT, PRUNING)
    assert form.fault(problem) is None


def test_a_problem_of_another_format_has_a_fault(all_formats):
    for first, second in itertools.permutations(
        ["int4", "int2:channel", "nf4", "fp8", "25%", "2:4", "2:4+int4:g5", "25%+nf4", "50%+int3", "q4_1"], 2
    ):
        problem = all_formats.side(second).slices[0].problem
        fault = pvq.formats.parse(first).fault(problem)
        # any sixteen levels may be those of q4_1, whose offsets are its own
        assert (fault is None) == ((first, second) == ("q4_1", "nf4")), (first, second, fault)


# ---------------------------------------------------------------- scales, chunks, convolutions


def test_joint_scales_are_those_of_the_dense_weights_on_live_inputs():
    model, data = linear(12)
    data[:, 3] = 0.0
    with torch.no_grad():
        model.weight[:, 3] = 100.0
    live = np.arange(12) != 3
    rows = model.weight.detach().numpy()[:, live]
    report = layer_bounds(model, "", data, formats=["int4", "2:4+int4", "25%+int3:channel:fp64"])
    dense = mse_scale(rows.ravel(), -8, 7)
    for name in ("int4", "2:4+int4"):
        assert {s.problem.scale for s in report.side(name).slices} == {dense}
    assert [s.problem.scale for s in report.sides[2].slices] == [mse_scale(row, -4, 3) for row in rows]


@pytest.mark.parametrize("name", ["int4", "2:4+int4"])
def test_the_options_of_scales_are_those_of_plain_grids(name, tmp_path):
    model, data = linear()
    rows = model.weight.detach().numpy()
    report = layer_bounds(model, "", data, formats=[name, "int4:g5"], per_channel=True, range_method="minmax")
    assert [s.problem.scale for s in report.sides[0].slices] == [minmax_scale(row, -8, 7) for row in rows]
    form = pvq.formats.parse(name)
    assert report.sides[0].bits_per_weight == form.bits_per_weight((1, INPUTS))  # a scale for each channel
    written_and_verified(report, tmp_path / "r.json")
    given = layer_bounds(model, "", data, formats=[name], scales=[0.1, 0.2])
    assert [s.problem.scale for s in given.sides[0].slices] == [0.1, 0.2]
    with pytest.raises(InputError, match="leave out scales and per_channel"):
        layer_bounds(model, "", data, formats=["nf4", "int4:g5"], per_channel=True)


def test_chunks_keep_groups_whole_or_are_refused(tmp_path):
    model, data = linear(48)
    report = layer_bounds(
        model, "", data, formats=["int4:g8", "2:4+int4:g8", "1:3"], opt_dim=30, time_limit=0.5
    )
    assert [s.inputs for s in report.sides[0].slices[:2]] == [(0, 24), (24, 48)]
    whole = pvq.formats.parse("int4:g8").grids(model.weight.detach().numpy())
    for s in report.sides[0].slices:
        np.testing.assert_array_equal(s.problem.step, whole[s.channel].step[slice(*s.inputs)])
    written_and_verified(report, tmp_path / "r.json")
    for names, message in (
        (["nf4:b32"], "opt_dim = 30 cannot hold a group of 32 inputs, which nf4:b32 keeps together; take 32"),
        (["int4:g8", "1:5"], "group of 40 inputs, which int4:g8 and 1:5 keep together"),
    ):
        with pytest.raises(InputError, match=message):
            layer_bounds(model, "", data, formats=names, opt_dim=30)
    alone = layer_bounds(model, "", data, formats=["int4", "nf4", "int4:channel"], opt_dim=30, time_limit=0.5)
    assert alone.protocol == "chunked"  # one scale for all inputs binds no two of them together


def test_joint_patterns_run_along_the_input_channels_of_a_convolution(tmp_path):
    torch.manual_seed(1)
    module = nn.Conv2d(8, 2, 3).double()
    data = torch.randn(20, 8, 6, 6, dtype=torch.float64)
    names = ["2:4", "2:4+int4:g18", "2:4+mxfp4"]
    report = layer_bounds(module, "", data, formats=names, time_limit=0.5)
    pruned, *joint = report.sides
    for side in joint:
        for s, other in zip(side.slices, pruned.slices, strict=True):
            assert (s.problem.pattern, s.problem.stride) == ((2, 4), 9)
            assert [g.tolist() for g, _ in s.problem.budgets] == [
                g.tolist() for g, _ in other.problem.budgets
            ]
            kept = s.bounds.weight.reshape(8, 9) != 0.0
            assert (kept.reshape(2, 4, 9).sum(axis=1) <= 2).all()
    written_and_verified(report, tmp_path / "r.json")
    depthwise = nn.Conv2d(4, 4, 3, groups=4)
    with pytest.raises(InputError, match="of which a pattern 2:4 along the input channels removes none"):
        layer_bounds(depthwise, "", torch.randn(4, 4, 6, 6), formats=["2:4+int4"])


def test_a_shared_budget_is_one_of_densities_alone():
    model, data = linear()
    for names in (["25%", "25%+int4"], ["2:4+int4"]):
        with pytest.raises(InputError, match="has a budget of its own for each channel"):
            layer_bounds(model, "", data, formats=names, budget="layer")


def test_formats_of_a_gram_and_weights_alone():
    rng = np.random.default_rng(0)
    X, weights = rng.standard_normal((60, 8)), rng.standard_normal((3, 8))
    gram = pvq.Gram(X.T @ X / 60)
    problems = pvq.formats.parse("2:4+int4:g4").problems(gram, weights)
    assert [type(p) for p in problems] == [pvq.IntegerLeastSquares] * 3
    assert all(p.shared is gram and p.pattern == (2, 4) for p in problems)
    assert isinstance(pvq.formats.parse("nf4").problems(gram, weights)[0], pvq.CodebookLeastSquares)
    assert isinstance(pvq.formats.parse("25%").problems(gram, weights)[0], pvq.SparseLeastSquares)
    with pytest.raises(InputError, match="8 inputs, but the weights have 7"):
        pvq.formats.parse("nf4").problems(gram, weights[:, :7])


# ---------------------------------------------------------------- words


def test_words_about_formats(all_formats):
    model, data = linear()
    report = layer_bounds(model, "", data, formats=["int4", "nf4", "25%+int4:g5", "2:4"], time_limit=1.0)
    assert report.names == ("int4", "nf4", "25%+int4:g5", "2:4")
    words = (
        "one fixed scale (mse), the fixed scales of nf4, the fixed scales of int4:g5, a pruning budget for "
        "each channel, and the output error"
    )
    assert words in " ".join(str(report).split())
    pair = layer_bounds(model, "", data, formats=["nf4", "2:4+nf4"], time_limit=1.0)
    assert pair.names == ("nf4", "2:4+nf4")
    assert "pattern 2:4, nf4" in str(pair)
    assert max(map(len, str(pair).splitlines())) <= 80
    assert pair.side("2:4+nf4") is pair.sides[1]
    with pytest.raises(InputError, match="no side of 'nf5'; there are nf4, 2:4"):
        pair.side("nf5")
    assert layer_bounds(model, "", data, formats=["nf4", "25%"], time_limit=1.0).names == (
        "quantization",
        "pruning",
    )


def test_only_steps_have_an_expected_error(all_formats):
    for side in all_formats.sides:
        expects = side.task == "quantization" and side.form.has_steps
        assert bool(side.expected_errors) == expects, side.format


@pytest.mark.parametrize("protocol", ["full", "chunked"])
def test_pictures_of_all_kinds(tmp_path, protocol):
    pytest.importorskip("matplotlib")
    from pvqbounds.report.plot import colours_of, plot_layer

    model, data = linear()
    names = ["int4", "nf4", "fp8", "q4_1", "25%", "2:4", "2:4+int4", "25%+nf4", "50%+fp8"]
    opt_dim = None if protocol == "full" else 8
    report = layer_bounds(model, "", data, formats=names, opt_dim=opt_dim, time_limit=0.5)
    plot_layer(report, tmp_path / "r.svg")
    text = (tmp_path / "r.svg").read_text().lower()
    assert len(set(colours_of(report))) == len(names)
    assert all(colour.lower() in text for colour in colours_of(report))


# ---------------------------------------------------------------- somebody else's


@pytest.mark.parametrize("name", ["log4", "halves:k2", "halves:k2+log4", "halves:k3+int3:g5", "2:4+log4"])
def test_formats_of_ones_own_from_one_file_to_table_and_proof(name, register, tmp_path):
    for file in ("logarithmic_format.py", "halves_format.py"):
        assert len((TRIALS / file).read_text().splitlines()) < 60
    model, data = linear()
    form = pvq.formats.parse(name)
    assert form.name == name
    report = layer_bounds(model, "", data, formats=[name, "25%"], time_limit=1.0)
    side = report.sides[0]
    assert side.bits_per_weight == form.bits_per_weight((CHANNELS, INPUTS))
    again = written_and_verified(report, tmp_path / "r.json")
    for s, other in zip(side.slices, again.sides[0].slices, strict=True):
        assert pvq.verify(s.problem, pvq.solve(s.problem, time_limit=1.0))
        assert form.fault(other.problem) is None
        write_npz(s.problem, tmp_path / "p.npz")
        alone = load_problem(tmp_path / "p.npz")
        assert (alone.task, str(alone.values)) == (s.problem.task, str(s.problem.values))
        assert alone.error(s.bounds.weight if s.bounds.codes is None else s.bounds.codes).upper == (
            pytest.approx(s.bounds.error_upper)
        )
    document = json.loads((tmp_path / "r.json").read_text())
    document["sides"][0]["format"] = "halves:k1" if name.startswith("halves") else "25%+log4"
    (tmp_path / "r.json").write_text(json.dumps(document))
    with contextlib.suppress(InputError):
        assert any(not finding.holds for finding in verify_file(tmp_path / "r.json"))


@pytest.mark.parametrize("name", ["log4", "halves:k1+log4", "2:4+log4", "nf4:b2", "50%+nf4", "1:2+q8_0"])
@pytest.mark.parametrize("method", ["auto", "relax"])
def test_bounds_hold_against_all_choices(name, method, register):
    model, data = linear(4 if name != "1:2+q8_0" else 2)
    side = layer_bounds(model, "", data, formats=[name], method=method, methods=[]).sides[0]
    for s in side.slices:
        problem, (low, high) = s.problem, s.problem.values.code_ends
        values = [
            [problem.values.among(np.array([i])).weight_of(np.array([k]))[0] for k in range(first, last + 1)]
            for i, (first, last) in enumerate(zip(low, high, strict=True))
        ]
        points = np.stack(np.meshgrid(*values), axis=-1).reshape(-1, problem.n)
        for group, most in problem.budgets:
            points = points[np.count_nonzero(points[:, group], axis=1) <= most]
        difference = points - problem.weight
        errors = np.einsum("ki,ij,kj->k", difference, problem.gram, difference)
        assert s.bounds.error_lower <= errors.min() * (1.0 + 1e-9)
        assert s.bounds.error_upper >= errors.min() * (1.0 - 1e-9)


def test_names_of_ones_own_are_refused_like_others(register):
    with pytest.raises(InputError, match="already"):
        pvq.formats.register_support("log4", halves)
    with pytest.raises(InputError, match="lower-case"):
        pvq.formats.register_support("2:4", halves)
    with pytest.raises(InputError, match="'zz' of format 'halves' is unknown"):
        pvq.formats.parse("halves:zz")
    with pytest.raises(InputError, match="did you mean 'halves'"):
        pvq.formats.parse("halve")
    with pytest.raises(InputError, match="at most one pattern or density"):
        pvq.formats.parse("2:4+halves")
    assert "halves" in pvq.formats.names()
    assert pvq.formats.parse("halves").bits_per_weight((2, 8)) == 16 / 4 + 1  # a bitmap


@pytest.mark.parametrize(
    "name", ["nf4:b8", "nf4:b8:dq", "nvfp4", "mxfp4:ct", "fp8:g4", "fp8:e5m2", "iq4_nl", "int4:g4"]
)
@pytest.mark.parametrize("size", [1e-44, 1e-40, 1e-12, 1.0, 1e3])
def test_no_honest_values_have_a_fault(name, size):
    """Of any size that scales can store: subnormal ones lose levels, and remain those of the format."""
    rng = np.random.default_rng(1)
    weights = size * rng.standard_normal((4, 40))
    weights[1, :9], weights[2] = 0.0, 0.0
    form = pvq.formats.parse(name)
    for values in form.grids(weights):
        assert form.values.fault(values) is None


def test_the_documented_formats_work(register, tmp_path):
    del registry.SUPPORT_RULES["halves"]
    page = Path(__file__).parents[2] / "docs" / "adding-a-format.md"
    names = dict(zip(("model", "data"), linear(8), strict=True))
    names["model"] = nn.Sequential(names["model"])
    for code in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(code, str(page), "exec"), names)
    assert [side.format for side in names["report"].sides] == ["ternary", "2:4+ternary", "25%"]
    assert names["report"].side("ternary").status == "optimal"
    written_and_verified(names["report"], tmp_path / "r.json")
    written_and_verified(names["joint"], tmp_path / "j.json")

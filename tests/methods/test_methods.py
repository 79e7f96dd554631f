"""Methods by name: what they propose is allowed and believed by nobody; one's own in one file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stochastic_method import StochasticRounding
from torch import nn
from truth import least_integer_error, random_integer_problem

import pvqbounds as pvq
from pvqbounds import methods
from pvqbounds.errors import InputError
from pvqbounds.methods.k_best import KBest
from pvqbounds.nn import layer_bounds
from pvqbounds.problems import magnitude_support
from pvqbounds.report.tables import layer_text
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.results_read import read_layer
from pvqbounds.storage.results_written import write_layer

ROUNDING = ["nearest-plane", "gptq", "cd", "adaround", "obq", "k-best"]
QUANTIZATION = ["rtn", *ROUNDING, "randomized"]
JOINT = ["magnitude+rtn", *ROUNDING, "randomized", "sparsegpt"]
PRUNING = ["magnitude", "magnitude+refit", "wanda", "sparsegpt", "obs", "swaps", "alps"]


@pytest.fixture
def registry(monkeypatch):
    """What is registered in a test is gone after it."""
    monkeypatch.setattr(methods, "_METHODS", dict(methods._METHODS))


def gram_of(n: int, positions: int, seed: int = 0) -> pvq.Gram:
    rng = np.random.default_rng(seed)
    inputs = np.maximum(rng.standard_normal((positions, n)) @ rng.standard_normal((n, n)), 0.0)
    return pvq.Gram(inputs.T @ inputs / positions)


def layer_problems(n: int = 12, channels: int = 5, scale: float = 0.4, positions: int = 200) -> list[Any]:
    gram, rng = gram_of(n, positions), np.random.default_rng(1)
    return [pvq.IntegerLeastSquares(gram, rng.standard_normal(n), scale, -4, 3) for _ in range(channels)]


def error_of(problems: list[Any], points: Any) -> float:
    return sum(problem.error(point).upper for problem, point in zip(problems, points, strict=True))


def test_names_by_kind_and_what_each_says_of_itself():
    assert methods.names("quantization") == QUANTIZATION
    assert methods.names("pruning") == PRUNING
    assert methods.names("joint") == JOINT
    assert sorted(pvq.methods.names()) == sorted({*QUANTIZATION, *PRUNING, *JOINT})
    for name in methods.names():
        method = methods.get(name)
        assert (method.name, methods.label_of(name)) == (name, method.label)
        assert method.citation
        assert all(name in methods.names(task) for task in method.tasks)


ALGORITHMS = {"adaround", "alps", "cd", "gptq", "obq", "obs", "sparsegpt", "swaps"}
"""Methods that are an algorithm of a paper, and not a line on what is there already."""


def test_each_method_is_one_small_file_of_its_own():
    files = {name: type(methods.get(name)).__module__ for name in methods.names()}
    assert len(set(files.values())) == len(methods.names())
    for name, module in files.items():
        most = 150 if name in ALGORITHMS else 60
        assert len(Path(sys.modules[module].__file__).read_text().splitlines()) < most


def test_the_names_load_no_torch_and_no_compiler():
    code = (
        "import sys, pvqbounds as pvq\n"
        "assert 'pvqbounds.methods' not in sys.modules\n"
        "pvq.methods.names()\n"
        "assert not {'torch', 'numba', 'scipy', 'clarabel'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("positions", [200, 7])
def test_what_each_proposes_is_allowed_and_what_its_name_says(positions):
    problems = layer_problems(positions=positions)
    codes = methods.proposals(QUANTIZATION, problems, seed=3)
    assert set(codes) == set(QUANTIZATION)
    for problem, nearest in zip(problems, codes["rtn"], strict=True):
        np.testing.assert_array_equal(nearest, problem.codes_of_nearest())
    sparse = [pvq.SparseLeastSquares(p.shared, p.weight, pattern=(2, 4)) for p in problems]
    weights = methods.proposals(PRUNING, sparse)
    for problem, plain, refitted in zip(
        sparse, weights["magnitude"], weights["magnitude+refit"], strict=True
    ):
        kept = magnitude_support(problem)
        np.testing.assert_array_equal(np.flatnonzero(plain), kept)
        np.testing.assert_array_equal(plain[kept], problem.weight[kept])
        np.testing.assert_allclose(refitted, problem.refit(kept))
        assert problem.error(refitted).lower <= problem.error(plain).upper
    assert np.array_equal(
        codes["randomized"], methods.proposals(["randomized"], problems, seed=3)["randomized"]
    )


@pytest.mark.parametrize("scale", [0.4, 0.05])
def test_more_beginnings_are_better_and_enough_of_them_optimal(scale):
    problems = layer_problems(n=6, channels=8, scale=scale)
    errors = [error_of(problems, KBest(width).propose(problems)) for width in (1, 8, 10**5)]
    best = sum(pvq.solve(problem).error_upper for problem in problems)
    assert errors[0] >= errors[1] >= errors[2]
    if scale == 0.4:  # codes well inside the box: the three next to the centre hold the best
        assert errors[2] == pytest.approx(best, rel=1e-9)
    assert all(error >= best * (1.0 - 1e-12) for error in errors)


def test_steps_and_boxes_of_their_own():
    rng, gram = np.random.default_rng(8), gram_of(6, 200)
    steps, low = rng.uniform(0.2, 0.6, 6), rng.integers(-12, -8, 6)
    problems = [pvq.IntegerLeastSquares(gram, rng.standard_normal(6), steps, low, low + 20) for _ in range(5)]
    best = sum(pvq.solve(problem).error_upper for problem in problems)
    assert error_of(problems, KBest(10**5).propose(problems)) == pytest.approx(best, rel=1e-9)
    for problem, codes in zip(problems, KBest(1).propose(problems), strict=True):
        np.testing.assert_array_equal(codes, plain_nearest_plane(problem))


def plain_nearest_plane(problem):
    """Babai's nearest plane, one channel: the input whose code is determined best comes next."""
    gram, weight, step = problem.gram, problem.weight, problem.step
    codes, fixed, rest = np.zeros(problem.n), [], list(range(problem.n))
    while rest:
        block = gram[np.ix_(rest, rest)]
        place = int(np.argmin(np.diagonal(np.linalg.inv(block)) / step[rest] ** 2))  # (DGD)^-1 of the rest
        # the minimiser over the inputs that are still free, given the fixed ones
        pull = gram[np.ix_(rest, fixed)] @ (step[fixed] * codes[fixed] - weight[fixed])
        free = weight[rest] - np.linalg.solve(block, pull)
        i = rest.pop(place)
        codes[i] = np.clip(np.rint(free[place] / step[i]), problem.low[i], problem.high[i])
        fixed.append(i)
    return codes


def test_width_one_is_babais_nearest_plane():
    problems = layer_problems(n=9)
    for problem, codes in zip(problems, KBest(1).propose(problems), strict=True):
        np.testing.assert_array_equal(codes, plain_nearest_plane(problem))


def test_channels_of_one_gram_get_what_each_would_get_alone():
    """Steps, boxes and Grams mixed, dead inputs among them."""
    matrix = gram_of(9, 40).matrix.copy()
    matrix[2] = matrix[:, 2] = 0.0
    grams, rng = (gram_of(9, 40, seed=5), pvq.Gram(matrix)), np.random.default_rng(2)
    problems = [
        pvq.IntegerLeastSquares(grams[i % 2], rng.standard_normal(9), 0.1 * (1 + i % 3), -4, 2 + i % 2)
        for i in range(12)
    ]
    steps, low = (rng.uniform(0.1, 0.5, 9) for _ in range(2)), rng.integers(-6, 0, 9)
    for own in steps:
        problems += [
            pvq.IntegerLeastSquares(grams[i % 2], rng.standard_normal(9), own, low - i % 3, low + 7)
            for i in range(6)
        ]
    for name in ("rtn", *ROUNDING):
        together = methods.get(name).propose(problems)
        for problem, codes in zip(problems, together, strict=True):
            np.testing.assert_array_equal(codes, methods.get(name).propose([problem])[0], err_msg=name)
            assert problem.checked_codes(codes).tolist() == codes.tolist()


@pytest.mark.parametrize("seed", range(30))
def test_no_proposal_is_better_than_brute_force(seed):
    problem = random_integer_problem(np.random.default_rng(seed))
    optimum = least_integer_error(problem)
    for (codes,) in methods.proposals(QUANTIZATION, [problem]).values():
        assert problem.error(codes).upper >= optimum


def layer(seed: int = 0) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 3).double()), torch.randn(50, 8, dtype=torch.float64)


def test_a_method_of_ones_own_from_one_file_to_table_and_files(registry, tmp_path):
    assert len((Path(__file__).parent / "stochastic_method.py").read_text().splitlines()) < 60
    methods.register(StochasticRounding())
    model, data = layer()
    listed = ["rtn", "stochastic", "magnitude"]
    report = layer_bounds(model, "0", data, bits=3, methods=listed, seed=4)
    assert list(report.quantization.methods) == ["rtn", "stochastic"]
    assert list(report.pruning.methods) == ["magnitude"]
    problems = [s.problem for s in report.quantization.slices]
    again = StochasticRounding().propose(problems, 4)
    assert report.quantization.method_error("stochastic") == pytest.approx(error_of(problems, again))
    assert re.search(r"stochastic rounding +[0-9.]+ dB", layer_text(report))
    path = tmp_path / "layer.json"
    write_layer(report, path)
    document = json.loads(path.read_text())
    assert "stochastic rounding" not in path.read_text()  # files hold the name
    assert document["sides"][0]["methods"]["stochastic"]["error"] > 0.0
    assert all(finding.holds for finding in verify_file(path))
    methods._METHODS.pop("stochastic")  # a reader who has not registered it sees its name
    assert re.search(r"stochastic +[0-9.]+ dB", layer_text(read_layer(path)))


def test_the_documented_method_works(registry):
    page = Path(__file__).parents[2] / "docs" / "adding-a-method.md"
    code = re.search(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL).group(1)
    names = dict(zip(("model", "data"), layer(), strict=True))
    exec(compile(code, str(page), "exec"), names)
    assert list(names["report"].quantization.methods) == ["rtn", "stochastic"]


def test_what_a_layer_lists_unasked(registry):
    methods.register(StochasticRounding())
    assert methods.chosen(None, "quantization", 100) == [
        "rtn",
        "nearest-plane",
        "gptq",
        "cd",
        "randomized",
    ]
    assert methods.chosen(None, "quantization", 101) == ["rtn", "nearest-plane", "gptq", "cd"]
    assert methods.chosen(None, "pruning", 101) == ["magnitude", "magnitude+refit", "wanda", "sparsegpt"]
    assert methods.chosen(None, "joint", 101) == ["magnitude+rtn", "nearest-plane", "gptq", "cd", "sparsegpt"]
    assert methods.chosen(["k-best", "magnitude", "randomized"], "quantization", 10**4) == [
        "k-best",
        "randomized",
    ]
    model, data = layer()
    report = layer_bounds(model, "0", data, methods=[])
    assert (report.quantization.methods, report.pruning.methods) == ({}, {})


def test_every_format_of_a_layer_has_the_methods_of_its_kind():
    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Linear(24, 3).double()), torch.randn(200, 24, dtype=torch.float64)
    forms = ["int4", "int4:g12", "int3:g12:asym", "25%", "2:4"]
    report = layer_bounds(model, "0", data, formats=forms, methods=["k-best", "magnitude", "rtn"])
    assert [list(side.methods) for side in report.sides] == [["k-best", "rtn"]] * 3 + [["magnitude"]] * 2
    for side in report.sides:
        for name in side.methods:
            assert side.error_lower <= side.error_upper <= side.method_error(name) * (1 + 1e-12)
    group = report.sides[1]
    problems = [s.problem for s in group.slices]
    assert all(len(set(problem.step)) == 2 for problem in problems)
    np.testing.assert_array_equal(group.methods["k-best"], KBest().propose(problems))
    assert group.method_error("k-best") < group.method_error("rtn")


@pytest.mark.parametrize(("form", "name"), [("int4", "magnitude"), ("2:4", "rtn")])
def test_a_method_that_no_format_asks_for_is_refused(form, name):
    model, data = layer()
    with pytest.raises(InputError, match=f"The method {name} is for .*, which no format asks for"):
        layer_bounds(model, "0", data, formats=[form], methods=[name])


class Liar(StochasticRounding):
    """Proposes what is not asked for."""

    name, label = "liar", "liar"
    made: Any = None

    def propose(self, problems: Any, seed: int = 0) -> Any:
        return [self.made(problem) for problem in problems][: None if self.made else 0]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda p: np.full(p.n, p.qmax + 1), "lies outside the grid"),
        (lambda p: np.full(p.n, 0.5), "must be 8 integers"),
        (lambda p: np.zeros(p.n + 1, dtype=np.int64), "must be 8 integers"),
        (lambda p: np.full(p.n, np.nan), "not finite"),
        (lambda p: None, "codes"),
    ],
)
def test_what_is_not_allowed_is_refused_by_the_name_of_its_method(made, words, registry):
    method = Liar()
    method.made = made
    methods.register(method)
    model, data = layer()
    with pytest.raises(InputError, match=f"Method liar proposes what is not allowed: .*{words}"):
        layer_bounds(model, "0", data, methods=["liar"])


def test_pruning_beyond_the_budget_and_too_few_proposals(registry):
    class Dense(methods.PruningMethod):
        name, label, citation = "dense", "dense", "nobody"
        less = 0

        def propose(self, problems: Any, seed: int = 0) -> Any:
            return [problem.weight for problem in problems[self.less :]]

    method = Dense()
    methods.register(method)
    model, data = layer()
    for budget in ("channel", "layer"):
        with pytest.raises(InputError, match="Method dense proposes what is not allowed: The support keeps"):
            layer_bounds(model, "0", data, methods=["dense"], budget=budget)
    Dense.less = 1
    with pytest.raises(InputError, match="proposes for 2 of 3 problems"):
        layer_bounds(model, "0", data, methods=["dense"])


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        (["magnitud"], "did you mean magnitude"),
        (["zzz"], "There is no method 'zzz'; they are: rtn, "),
        ("rtn", "list of names"),
        (["rtn", "rtn"], "named twice"),
        ([3], "There is no method 3"),
    ],
)
def test_names_that_cannot_be_used(listed, words):
    model, data = layer()
    with pytest.raises(InputError, match=words):
        layer_bounds(model, "0", data, methods=listed)


def test_what_cannot_be_registered(registry):
    for wrong in (StochasticRounding, lambda problems, seed: None, None):
        with pytest.raises(InputError, match="derives from"):
            methods.register(wrong)
    for part, value in (("name", "A B"), ("name", "a/b"), ("label", ""), ("citation", None)):
        with pytest.raises(InputError, match=part):
            methods.register(type("Odd", (StochasticRounding,), {part: value})())
    with pytest.raises(InputError, match="package's own"):
        methods.register(type("Odd", (StochasticRounding,), {"name": "rtn"})())
    with pytest.raises(InputError, match="for quantization or pruning"):
        methods.names("distillation")
    methods.register(StochasticRounding())
    methods.register(StochasticRounding())  # a cell of a notebook that is run again


def test_options_behind_a_name_and_what_a_table_calls_them():
    from pvqbounds.methods.gptq import Gptq

    assert methods.get("gptq:act-order:damp=0.05") == Gptq(damp=0.05, act_order=True)
    assert methods.get("k-best:width=3") == KBest(3)
    assert methods.label_of("gptq:damp=0.05:act-order") == "GPTQ, damp=0.05, act-order"
    assert methods.label_of("theirs:act-order") == "theirs:act-order"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gptq:", "its options are: damp=0.01, act-order"),
        ("gptq:damping=1", "its options are: damp=0.01, act-order"),
        ("gptq:damp", "another type"),
        ("gptq:damp=x", "another type"),
        ("gptq:damp=nan", "number from 0 on"),
        ("gptq:damp=-1", "number from 0 on"),
        ("gptq:damp=inf", "number from 0 on"),
        ("gptq:act-order=1", "another type"),
        ("gptq:act-order:act-order", "repeated"),
        ("k-best:width=1.5", "another type"),
        ("k-best:width=0", "at least one beginning"),
        ("cd:cycles=0", "at least one cycle"),
        ("adaround:steps=0", "positive"),
        ("adaround:rate=nan", "positive"),
        ("sparsegpt:block=0", "at least one column"),
        ("alps:iterations=0", "at least one iteration"),
        ("rtn:damp=1", "its options are: none"),
        ("gpt:damp=1", "did you mean gptq"),
    ],
)
def test_options_that_cannot_be_used(name, words):
    with pytest.raises(InputError, match=re.escape(words)):
        methods.get(name)


def test_all_stands_for_every_method_and_for_no_name(registry):
    every = methods.chosen(["all", "gptq:act-order"], "quantization", 10**4)
    assert every == [*QUANTIZATION, "gptq:act-order"]
    assert methods.chosen(["all", "gptq:act-order"], "pruning", 10**4) == PRUNING
    assert methods.asked_for(["all", "gptq:act-order"]) == ["gptq:act-order"]
    assert methods.chosen(["all", "gptq"], "quantization", 1).count("gptq") == 1
    for twice in (["all", "all"], ["gptq", "gptq:damp=0.01"], ["k-best:width=64", "k-best"]):
        with pytest.raises(InputError, match="named twice"):
            methods.asked_for(twice)
    for name in ("all", "none"):
        with pytest.raises(InputError, match="stands for a list"):
            methods.register(type("Odd", (StochasticRounding,), {"name": name})())


def test_every_method_of_every_format_from_the_table_to_files(tmp_path):
    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Linear(12, 3).double()), torch.randn(200, 12, dtype=torch.float64)
    forms = ["int4", "int3:g6:asym", "nf4:b12", "25%", "2:4", "2:4+int4", "25%+nf4"]
    listed = ["all", "gptq:damp=0.1:act-order", "swaps:refit"]
    report = layer_bounds(model, "0", data, formats=forms, methods=listed)
    for side in report.sides:
        own = {"quantization": QUANTIZATION, "pruning": PRUNING, "joint": JOINT}[side.task]
        further = ["swaps:refit"] if side.task == "pruning" else ["gptq:damp=0.1:act-order"]
        assert list(side.methods) == [*own, *further]
        problems = [s.problem for s in side.slices]
        for name, points in side.methods.items():
            assert side.method_error(name) == pytest.approx(error_of(problems, points), rel=1e-9, abs=1e-15)
            assert side.error_lower <= side.error_upper <= side.method_error(name) * (1 + 1e-12)
    assert all(word in layer_text(report) for word in ("damp=0.1,", "act-order"))
    path = tmp_path / "layer.json"
    write_layer(report, path)
    assert all(finding.holds for finding in verify_file(path))
    again = read_layer(path)
    for old, new in zip(report.sides, again.sides, strict=True):
        assert list(old.methods) == list(new.methods)
        for name in old.methods:
            np.testing.assert_array_equal(np.array(old.methods[name]), np.array(new.methods[name]))


def test_what_is_done_on_a_singular_gram_is_said():
    model, data = layer()
    few = data[:5]
    report = layer_bounds(model, "0", few, methods=["all"], time_limit=2.0)
    text = " ".join(report.notes)
    assert "The Gram is singular: nearest plane takes a factor of the Gram with" in text
    assert "OBS takes the inverse of the Gram with a ridge of 1e-10" in text
    report = layer_bounds(model, "0", few, methods=["rtn", "gptq", "magnitude"], time_limit=2.0)
    assert not any("singular" in note for note in report.notes)
    assert not any("singular" in note for note in layer_bounds(model, "0", data, methods=["all"]).notes)
    with pytest.raises(InputError, match="Method gptq:damp=0 cannot propose: With a damping of 0"):
        layer_bounds(model, "0", few, methods=["gptq:damp=0"], time_limit=2.0)


@pytest.mark.parametrize("positions", [40, 5])
def test_pruning_of_one_gram_is_what_each_channel_would_get_alone(positions):
    """Budgets, patterns and Grams mixed, dead inputs and extreme units among them."""
    matrix = gram_of(12, positions).matrix.copy()
    matrix[2] = matrix[:, 2] = 0.0
    grams = [gram_of(12, positions, seed=5), *(pvq.Gram(matrix * size) for size in (1.0, 2.0**300, 0.0))]
    rng, strided = np.random.default_rng(2), {"pattern": (1, 3), "stride": 2}
    rules: list[Any] = [{"nnz": 3}, {"nnz": 5}, {"pattern": (2, 4)}, strided]
    problems = [
        pvq.SparseLeastSquares(gram, rng.standard_normal(12) * 2.0**k, **rule)
        for gram in grams
        for rule in rules
        for k in (0, -200)
    ]
    for name in PRUNING:
        together = methods.get(name).propose(problems)
        for problem, weight in zip(problems, together, strict=True):
            problem.checked(weight)
            alone = problem.error(methods.get(name).propose([problem])[0])
            assert problem.error(weight).upper == pytest.approx(alone.upper, rel=1e-6, abs=0.0), name


# ---------------------------------------------------------------- levels and joint problems


def coded_problems(n: int, seed: int = 0, positions: int = 60) -> dict[str, list[Any]]:
    """Channels of one Gram in levels that are steps, in other levels, and in both under rules."""
    gram, rng = gram_of(n, positions, seed), np.random.default_rng(seed + 1)
    weights = rng.standard_normal((4, n))
    steps = [pvq.IntegerLeastSquares(gram, w, 0.4, -4, 3) for w in weights]
    same = [pvq.CodebookLeastSquares(gram, w, 0.4 * np.arange(-4, 4)) for w in weights]
    other = [pvq.CodebookLeastSquares(gram, w, [-2.0, -0.7, 0.0, 0.1, 0.9]) for w in weights]
    rule = pvq.SparseLeastSquares(gram, weights[0], pattern=(1, 2)).rule
    return {
        "steps": steps,
        "same": same,
        "other": other,
        "joint": [p.under(rule) for p in steps],
        "joint levels": [p.under(rule) for p in other],
        "nothing kept": [pvq.CodebookLeastSquares(gram, w, [-1.0, 0.0], nnz=0) for w in weights],
    }


@pytest.mark.parametrize("positions", [60, 4])
@pytest.mark.parametrize("kind", ["same", "other", "joint", "joint levels", "nothing kept"])
def test_what_is_proposed_for_levels_and_under_rules_is_allowed(kind, positions):
    problems = coded_problems(7, positions=positions)[kind]
    task = problems[0].task
    listed = methods.proposing(methods.names(task), problems)
    assert listed == methods.names(task)
    points = methods.proposals(listed, problems, seed=2)
    for name, codes in points.items():
        for problem, own in zip(problems, codes, strict=True):
            assert problem.checked_codes(own).tolist() == own.tolist(), name
            assert own.dtype == np.int64
    start = "rtn" if task == "quantization" else "magnitude+rtn"
    for problem, own in zip(problems, points[start], strict=True):
        np.testing.assert_array_equal(own, problem.start().codes)
    if kind != "nothing kept" and positions == 60:
        errors = {name: error_of(problems, codes) for name, codes in points.items()}
        assert errors["nearest-plane"] < errors[start]
        assert errors["randomized"] < errors[start]


@pytest.mark.parametrize("name", ["rtn", "nearest-plane", "k-best"])
def test_levels_that_are_steps_are_rounded_as_steps(name):
    problems = coded_problems(8)
    steps, levels = (methods.get(name).propose(problems[kind]) for kind in ("steps", "same"))
    for a, b in zip(steps, levels, strict=True):
        np.testing.assert_array_equal(a + 4, b)


def least_coded_error(problem: Any) -> float:
    """The minimum over all codes, in float64."""
    low, high = problem.values.code_ends
    codes = np.stack(np.meshgrid(*map(np.arange, low, high + 1)), axis=-1).reshape(-1, problem.n)
    values = np.array([problem.weight_of(code) for code in codes])
    for group, most in problem.budgets:
        values = values[np.count_nonzero(values[:, group], axis=1) <= most]
    difference = values - problem.weight
    return float(np.einsum("ki,ij,kj->k", difference, problem.gram, difference).min())


@pytest.mark.parametrize("seed", range(5))
def test_no_proposal_for_levels_or_under_rules_is_better_than_brute_force(seed):
    for kind in ("other", "joint", "joint levels"):
        for problem in coded_problems(4, seed)[kind][:2]:
            optimum = least_coded_error(problem)
            listed = methods.names(problem.task)
            for name, (codes,) in methods.proposals(listed, [problem], seed).items():
                assert problem.error(codes).upper >= optimum * (1.0 - 1e-9), name
            if kind == "other":
                (codes,) = KBest(10**5).propose([problem])
                assert problem.error(codes).upper == pytest.approx(optimum, rel=1e-9, abs=1e-12)


def test_what_is_kept_is_rounded_around_its_refit():
    problem = coded_problems(6)["joint levels"][0]
    sparse = pvq.SparseLeastSquares(problem.gram, problem.weight, pattern=(1, 2))
    kept = magnitude_support(sparse)
    refit = sparse.refit(kept)
    inner = pvq.CodebookLeastSquares(
        problem.gram[np.ix_(kept, kept)], refit[kept], [-2.0, -0.7, 0.0, 0.1, 0.9]
    )
    for name in ("nearest-plane", "k-best"):
        (codes,), (own,) = (methods.get(name).propose([p]) for p in (problem, inner))
        np.testing.assert_array_equal(codes[kept], own)
        assert not problem.weight_of(codes)[np.setdiff1d(np.arange(6), kept)].any()


def test_methods_of_steps_are_refused_where_no_format_has_any(registry):
    methods.register(StochasticRounding())
    model, data = layer()
    report = layer_bounds(model, "0", data, formats=["int3", "nf4"], methods=["rtn", "stochastic"])
    assert [list(side.methods) for side in report.sides] == [["rtn", "stochastic"], ["rtn"]]
    with pytest.raises(InputError, match="stochastic proposes nothing for these formats"):
        layer_bounds(model, "0", data, formats=["nf4", "25%"], methods=["rtn", "stochastic"])
    with pytest.raises(InputError, match=r"magnitude\+rtn is for joint, which no format asks for"):
        layer_bounds(model, "0", data, formats=["nf4"], methods=["magnitude+rtn"])

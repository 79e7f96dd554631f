"""One pruning budget for a layer: both ends against every way to spend it, and what is on disk."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from truth import rational_error, real_valued

import pvqbounds as pvq
from pvqbounds.clock import Clock
from pvqbounds.errors import InputError
from pvqbounds.nn import layer_bounds
from pvqbounds.problems import Gram, SparseLeastSquares
from pvqbounds.problems.units import Units
from pvqbounds.relaxations.dual import DualCertificate, dual_bound
from pvqbounds.relaxations.layer_dual import layer_dual_bound
from pvqbounds.report.tables import conditions_text, size_text
from pvqbounds.solvers.native.pruning.certificate import CurveCertificate
from pvqbounds.solvers.native.pruning.layer_pruning import _hull_steps, allocate
from pvqbounds.solvers.native.pruning.perspective_splitting import RowBudget, shared_multipliers
from pvqbounds.solving.layer_budget import solve_layer_budget
from pvqbounds.solving.layer_curves import curves_bound, proved_together
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.results_written import write_layer


def curve(problem):
    """Least error with 0, 1, ..., n kept, exactly."""
    return [
        min(rational_error(problem, list(support)) for support in itertools.combinations(range(problem.n), k))
        for k in range(problem.n + 1)
    ]


def least_layer_error(problems, nnz):
    """Over every way to spend the budget."""
    curves = [curve(problem) for problem in problems]
    choices = itertools.product(*(range(len(c)) for c in curves))
    return min(sum(c[k] for c, k in zip(curves, kept, strict=True)) for kept in choices if sum(kept) <= nnz)


@st.composite
def layers(draw):
    """Two or three channels of up to four inputs whose Grams are semidefinite exactly."""
    n, channels = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    grams = []
    for _ in range(draw(st.integers(1, channels))):
        X = rng.integers(-3, 4, (draw(st.integers(1, n + 4)), n)).astype(float)
        if draw(st.booleans()):
            X[:, rng.integers(n)] = 0.0
        grams.append(Gram(X.T @ X))
    weights = rng.standard_normal((channels, n)) * 10.0 ** rng.integers(-2, 3, (channels, 1))
    if draw(st.booleans()):
        weights[rng.integers(channels)] = 0.0
    problems = [SparseLeastSquares(grams[min(c, len(grams) - 1)], weights[c], nnz=n) for c in range(channels)]
    return problems, draw(st.integers(0, n * channels)), rng


@settings(max_examples=25, deadline=None)
@given(layers())
def test_both_ends_hold_for_every_way_to_spend_the_budget(case):
    problems, nnz, rng = case
    truth = least_layer_error(problems, nnz)
    allotted, bounds, lower = solve_layer_budget(problems, nnz)
    signal = sum(p.signal.upper for p in problems)
    assert lower <= truth
    assert float(truth) <= sum(b.error_upper for b in bounds) + 1e-13 * signal
    assert sum(len(b.support) for b in bounds) <= nnz
    for problem, found in zip(allotted, bounds, strict=True):
        assert found.error_lower <= curve(problem)[problem.nnz]
    # nor does the bound exceed the sum of the channels' optima where each has a part of the budget
    left, apart = nnz, 0
    for problem in problems:
        kept = min(problem.n, left)
        left -= kept
        apart += curve(problem)[kept]
    assert lower <= apart
    # any numbers at all prove something true
    for size in (0.3, 3.0):
        noise = [DualCertificate(*(size * rng.standard_normal((2, p.n)))) for p in problems]
        assert layer_dual_bound(problems, noise, nnz) <= truth


@pytest.mark.long
@settings(max_examples=1000, deadline=None)
@given(layers())
def test_both_ends_hold_on_many_layers(case):
    problems, nnz, _ = case
    _, bounds, lower = solve_layer_budget(problems, nnz)
    assert lower <= least_layer_error(problems, nnz)
    assert sum(len(b.support) for b in bounds) <= nnz


def channels_of(seed, n, count):
    gram, _ = real_valued(seed, n)
    shared = Gram(gram)
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((count, n)) * rng.uniform(0.2, 2.0, (count, 1))
    return [SparseLeastSquares(shared, w, nnz=n // 4) for w in weights]


def test_the_interval_is_of_use_and_the_budget_is_spent():
    problems = channels_of(3, 24, 6)
    _, bounds, lower = solve_layer_budget(problems, 36, jobs=2)
    upper = sum(b.error_upper for b in bounds)
    assert 0.4 * upper < lower <= upper
    assert sum(len(b.support) for b in bounds) == 36
    # with one price for all, the multipliers of the layer are good for the channels too
    assert sum(b.error_lower for b in bounds) <= upper


def test_more_channels_share_better_than_each_alone():
    problems = channels_of(4, 24, 6)
    problems = [
        SparseLeastSquares(p.gram, p.weight * (10.0 if i == 0 else 1.0), nnz=6)
        for i, p in enumerate(problems)
    ]
    _, bounds, _ = solve_layer_budget(problems, 36)
    apart = [solve_layer_budget([p], 6)[1][0].error_upper for p in problems]
    assert sum(b.error_upper for b in bounds) < 0.9 * sum(apart)
    assert len(bounds[0].support) > 6


def relaxed_alone(monkeypatch):
    """Layers of small channels by their relaxation, as large ones are."""
    monkeypatch.setattr("pvqbounds.solving.layer_curves.LARGEST_CHANNEL", 0)


def test_one_channel_is_the_channels_own_problem(monkeypatch):
    gram, weight = real_valued(5, 16)
    problem = SparseLeastSquares(gram, weight, nnz=5)
    _, bounds, lower = solve_layer_budget([problem], 5)
    alone = pvq.solve(problem)
    assert lower == pytest.approx(alone.error_lower, rel=1e-8)
    assert bounds[0].error_upper == pytest.approx(alone.error_upper, rel=1e-12)
    relaxed_alone(monkeypatch)
    _, bounds, lower = solve_layer_budget([problem], 5)
    assert lower == pytest.approx(dual_bound(problem, bounds[0].certificate), rel=1e-9)


def test_small_layers_are_exact_and_large_ones_are_not(monkeypatch):
    problems = channels_of(3, 12, 3)
    _, bounds, lower = solve_layer_budget(problems, 11)
    total = sum(b.error_upper for b in bounds)
    assert lower == pytest.approx(total, rel=1e-7)
    relaxed_alone(monkeypatch)
    _, relaxed, weaker = solve_layer_budget(problems, 11)
    assert weaker < 0.99 * lower
    assert sum(b.error_upper for b in relaxed) >= lower


@pytest.mark.parametrize("seed", range(12))
def test_a_budget_is_spent_as_well_as_it_can_be(seed):
    """Against every way to spend it, and with the curves proved again."""
    rng = np.random.default_rng(seed)
    n, channels = int(rng.integers(2, 7)), int(rng.integers(2, 4))
    X = rng.integers(-3, 4, (n + 4, n)).astype(float)
    shared = Gram(X.T @ X)
    weights = rng.standard_normal((channels, n)) * 10.0 ** rng.integers(-1, 2, (channels, 1))
    problems = [SparseLeastSquares(shared, w, nnz=n) for w in weights]
    nnz = int(rng.integers(1, n * channels))
    truth = least_layer_error(problems, nnz)
    allotted, bounds, lower = solve_layer_budget(problems, nnz)
    total = sum(b.error_upper for b in bounds)
    assert lower <= truth
    assert float(truth) <= total * (1.0 + 1e-12)
    assert total - lower <= 1e-6 * total
    curves = [b.certificate for b in bounds]
    if all(isinstance(own, CurveCertificate) for own in curves):
        assert lower <= proved_together(allotted, curves, nnz) <= truth
        liar = [replace(curves[0], values=1.01 * curves[0].values), *curves[1:]]
        assert proved_together(allotted, liar, nnz) <= truth  # what is not proved counts as 0


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_sums_of_curves_are_rounded_down(seed):
    rng = np.random.default_rng(seed)
    channels, n = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    curves = [np.sort(10.0 ** rng.uniform(-8, 8, n + 1))[::-1] for _ in range(channels)]
    nnz = int(rng.integers(0, channels * n + 1))
    ways = itertools.product(range(n + 1), repeat=channels)
    least = min(
        sum(Fraction(float(own[k])) for own, k in zip(curves, kept, strict=True))
        for kept in ways
        if sum(kept) <= nnz
    )
    found = curves_bound(curves, nnz)
    assert Fraction(found) <= least
    assert found == pytest.approx(float(least), rel=1e-12)


def test_curves_say_what_they_are_about():
    gram, weight = real_valued(2, 6)
    problem = SparseLeastSquares(gram, weight, nnz=2)
    _, bounds, _ = solve_layer_budget([problem, problem], 5)
    certificate = bounds[0].certificate
    assert certificate.fits(problem)
    assert pvq.verify(problem.with_nnz(len(bounds[0].support)), bounds[0])
    assert not certificate.fits(SparseLeastSquares(gram, weight, pattern=(1, 2)))
    assert not certificate.fits(SparseLeastSquares(*real_valued(2, 5), nnz=2))
    rising = replace(certificate, values=certificate.values[::-1].copy())
    assert not rising.fits(problem)
    assert not replace(certificate, values=certificate.values - 1.0).fits(problem)
    assert not replace(certificate, nodes=certificate.nodes.astype(float)).fits(problem)
    higher = replace(certificate, values=1.01 * certificate.values)
    assert higher.prove(problem, Clock(60.0)) == 0.0
    assert certificate.prove(problem, Clock(60.0)) == certificate.values[2]
    assert (certificate.in_units(Units(6, -2)).values == certificate.values / 4.0).all()


@pytest.mark.parametrize(
    "budget", [{"nnz": 0}, {"nnz": 5}, {"nnz": 15}, {"pattern": (2, 4)}, {"pattern": (1, 3)}]
)
def test_a_shared_diagonal_is_valid_and_not_idle(budget):
    gram, _ = real_valued(6, 16)
    weights = np.random.default_rng(0).standard_normal((5, 16))
    problems = [SparseLeastSquares(gram, w, **budget) for w in weights]
    found = shared_multipliers(problems[0].gram, weights, RowBudget.of(problems[0]))
    for problem, certificate in zip(problems, found, strict=True):
        bound = dual_bound(problem, certificate)
        best = min(problem.error(problem.refit(s)).upper for s in some_supports(problem))
        assert 0.0 < bound <= best


def some_supports(problem):
    rng = np.random.default_rng(1)
    for _ in range(200):
        yield np.sort(
            np.concatenate([rng.choice(group, kept, replace=False) for group, kept in problem.budgets])
        )


@pytest.mark.parametrize("seed", range(5))
def test_allocation_against_every_allocation(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    errors = np.sort(rng.random((3, 6)), axis=1)[:, ::-1].copy()
    for total in (0, 1, 4, 9, 15, 99):
        choices = [k for k in itertools.product(range(6), repeat=3) if sum(k) <= total]
        best = min(sum(errors[c, k] for c, k in enumerate(kept)) for kept in choices)
        kept = allocate(errors, total)
        assert kept.sum() <= total
        assert errors[np.arange(3), kept].sum() == pytest.approx(best)
        # on convex curves the hull is as good
        convex = -np.cumsum(-np.sort(-np.diff(errors, prepend=0.0), axis=1), axis=1)[:, ::-1]
        convex = np.cumsum(np.sort(rng.random((3, 6)), axis=1), axis=1)[:, ::-1].copy()
        exact = convex[np.arange(3), allocate(convex, total)].sum()
        with monkeypatch.context() as patch:
            patch.setattr("pvqbounds.solvers.native.pruning.layer_pruning.LARGEST_TABLE", 0)
            hull = allocate(convex, total)
            assert hull.sum() <= total
            assert convex[np.arange(3), hull].sum() == pytest.approx(exact)
            assert allocate(errors, total).sum() <= total


def test_the_hull_of_a_curve():
    assert _hull_steps(np.array([9.0, 5.0, 4.5, 1.0, 0.5])) == [(0, 1), (1, 3), (3, 4)]


def test_wrong_budgets():
    problems = channels_of(7, 8, 2)
    for nnz in (-1, 17, 2.5):
        with pytest.raises(InputError, match="budget of the layer"):
            solve_layer_budget(problems, nnz)
    with pytest.raises(InputError, match="same number of inputs"):
        solve_layer_budget([*problems, *channels_of(7, 9, 1)], 3)
    with pytest.raises(InputError, match="same number of inputs"):
        solve_layer_budget([], 0)
    with pytest.raises(InputError, match="time limit"):
        solve_layer_budget(problems, 3, time_limit=float("nan"))
    for kept in (0, 16):
        _, bounds, lower = solve_layer_budget(problems, kept)
        exact = sum(p.signal.middle for p in problems) if kept == 0 else 0.0
        assert lower <= exact * (1 + 1e-12)
        assert sum(b.error_upper for b in bounds) == pytest.approx(exact)
    assert lower == 0.0


# ----------------------------------------------------------------------------- of a layer


def conv(groups=1):
    torch.manual_seed(0)
    return torch.nn.Conv2d(4, 6, 3, padding=1, groups=groups, dtype=torch.float64)


X = torch.randn(5, 4, 7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def report():
    return layer_bounds(conv(2), "", X, bits=2, density=0.3, budget="layer", out_channels=4, method="auto")


def test_a_layer_says_which_budget_it_had(report):
    side = report.pruning
    assert side.shared.nnz == int(0.3 * 4 * 18 + 1e-9)
    assert sum(s.problem.nnz for s in side.slices) <= side.shared.nnz
    assert side.error_lower == side.shared.error_lower <= side.error_upper
    assert "one pruning budget for the layer" in conditions_text(report)
    assert "keep 21 of 72" in size_text(side)
    for points in side.methods.values():
        assert sum(np.count_nonzero(point) for point in points) <= side.shared.nnz


def test_a_layer_is_verified_from_its_file(report, tmp_path):
    path = tmp_path / "r.json"
    write_layer(report, path)
    findings = verify_file(path)
    assert all(finding.holds for finding in findings), [f for f in findings if not f.holds]
    assert any(finding.where == "sides[1].error_lower" for finding in findings)
    document = json.loads(path.read_text())
    assert document["sides"][1]["budget"] == "layer"
    assert document["sides"][1]["nnz"] == report.pruning.shared.nnz


@pytest.mark.parametrize("kind", ["curves", "multipliers"])
def test_what_proves_a_layer_is_in_its_file(tmp_path, monkeypatch, kind):
    if kind == "multipliers":
        relaxed_alone(monkeypatch)
    report = layer_bounds(conv(), "", X, density=0.3, budget="layer", out_channels=2, bits=2)
    searched = [isinstance(s.bounds.certificate, CurveCertificate) for s in report.pruning.slices]
    assert all(searched) == any(searched) == (kind == "curves")
    monkeypatch.undo()  # whoever verifies sees what is in the file
    path = tmp_path / "r.json"
    write_layer(report, path)
    assert all(finding.holds for finding in verify_file(path))
    if kind == "multipliers":
        return
    for change in ("raised", "rising", "gone"):
        write_layer(report, path)
        spoil_curve(path, change)
        try:
            holds = all(finding.holds for finding in verify_file(path))
        except InputError:
            assert change == "gone"
            continue
        assert not holds, change


def spoil_curve(path, change):
    """Change a stored curve, and the digest that the JSON holds of it."""
    beside = path.with_suffix(".npz")
    with np.load(beside) as file:
        arrays = dict(file)
    name = "sides/1/certificate/0/values"
    if change == "gone":
        del arrays[name]
    elif change == "rising":
        arrays[name] = arrays[name][::-1].copy()
    else:
        arrays[name] = 1.001 * arrays[name]
    np.savez(beside, **arrays)
    document = json.loads(path.read_text())
    document["arrays"]["sha256"] = hashlib.sha256(beside.read_bytes()).hexdigest()
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("nnz", "factor"), [(0, 1.0 + 1e-9), (0, 0.9), (1, 1.0), (-1, 1.0), (0, 2.0), (0, -1.0)]
)
def test_a_false_claim_about_the_layer_is_found(report, tmp_path, nnz, factor):
    shared = report.pruning.shared
    false = replace(shared, nnz=shared.nnz + nnz, error_lower=shared.error_lower * factor)
    path = tmp_path / "r.json"
    write_layer(replace(report, sides=(report.quantization, replace(report.pruning, shared=false))), path)
    holds = all(finding.holds for finding in verify_file(path))
    assert holds == (nnz == 0 and factor in (0.9, -1.0))  # a weaker claim is a true one


def test_a_budget_of_each_channel_is_written_as_before_there_was_another(tmp_path):
    report = layer_bounds(conv(), "", X, bits=2, out_channels=1, method="relax")
    path = tmp_path / "r.json"
    write_layer(report, path)
    assert not {"budget", "nnz"} & json.loads(path.read_text())["sides"][1].keys()
    assert all(finding.holds for finding in verify_file(path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": "network"}, "channel, layer"),
        ({"budget": "layer", "pattern": (2, 4)}, "N:M pattern"),
        ({"budget": "layer", "opt_dim": 9}, "full protocol"),
        ({"budget": "layer", "method": "exact"}, "relaxation"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    with pytest.raises(InputError, match=message):
        layer_bounds(conv(), "", X, **options)


def test_dead_channels_and_dead_inputs():
    module = conv()
    with torch.no_grad():
        module.weight[2] = 0.0
    data = X.clone()
    data[:, 1] = 0.0
    report = layer_bounds(module, "", data, bits=2, budget="layer", out_channels=3, method="relax")
    side = report.pruning
    assert 0.0 < side.error_lower <= side.error_upper
    assert side.slices[2].dead
    assert side.slices[2].problem.nnz == 0
    nothing = layer_bounds(module, "", torch.zeros_like(X), budget="layer", out_channels=2, method="relax")
    assert 0.0 == nothing.pruning.error_lower <= nothing.pruning.error_upper < 1e-300


def test_bounds_of_a_nearly_singular_channel_verify_beside_one_of_other_units():
    """Searches of a channel are repeated in its own units: in the layer's, rounding takes another way."""
    G = [
        [1.3866233364761762, -0.10724609759699574, 0.10434736607289782],
        [-0.10724609759699574, 1.1845875407580446, -0.29998883120468683],
        [0.10434736607289782, -0.29998883120468683, 0.08029721512082627],
    ]
    far = np.diag([2.0, 1.0, 1.0]) * 2.0**130
    problems = [SparseLeastSquares(G, [3.0, 2.0, -3.0], nnz=0), SparseLeastSquares(far, np.ones(3), nnz=0)]
    allotted, bounds, lower = solve_layer_budget(problems, 5)
    assert [problem.nnz for problem in allotted] == [2, 3]
    assert all(pvq.verify(problem, own) for problem, own in zip(allotted, bounds, strict=True))
    assert lower == pytest.approx(1.8934844e-13)
    assert proved_together(allotted, [own.certificate for own in bounds], 5) == lower

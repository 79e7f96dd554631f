"""One pruning budget by cases of a near-null direction: against brute force, on disk, with planted faults."""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from truth import rational_error

import pvqbounds as pvq
from pvqbounds.clock import Clock
from pvqbounds.errors import ContradictionError
from pvqbounds.nn import layer_bounds
from pvqbounds.problems import Gram, SparseLeastSquares
from pvqbounds.problems.units import Units
from pvqbounds.relaxations.cases import CasesCertificate
from pvqbounds.relaxations.dual import DualCertificate, dual_bound
from pvqbounds.relaxations.layer_dual import layer_dual_bound, layer_dual_proof
from pvqbounds.solvers.native.directions import layer
from pvqbounds.solving import layer_budget
from pvqbounds.solving.execution import Execution
from pvqbounds.solving.layer_budget import solve_layer_budget, solve_together
from pvqbounds.solving.options import SolveOptions
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.results_written import write_layer


@pytest.fixture(autouse=True, scope="module")
def relaxed():
    """Layers of small channels, which are solved exactly, by their relaxation, as large ones are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pvqbounds.solving.layer_curves.LARGEST_CHANNEL", 0)
        yield


def near_singular(rng, n, small=1e-5):
    """A Gram with one direction of next to no power, on all inputs."""
    basis = rng.normal(size=(n, n))
    basis[:, 0] = 1.0 + 0.3 * rng.normal(size=n)
    Q = np.linalg.qr(basis)[0]
    return (Q * np.concatenate([[small], rng.uniform(0.5, 2.0, n - 1)])) @ Q.T


def channels_of(seed, n=5, count=2, small=1e-5):
    rng = np.random.default_rng(seed)
    gram = Gram(near_singular(rng, n, small))
    return [SparseLeastSquares(gram, w, nnz=n) for w in rng.normal(size=(count, n))]


def curve(problem):
    """Least error with 0, 1, ..., n kept, exactly."""
    return [
        min(rational_error(problem, list(support)) for support in itertools.combinations(range(problem.n), k))
        for k in range(problem.n + 1)
    ]


def least_layer_error(curves, nnz):
    """Over every way to spend the budget."""
    choices = itertools.product(*(range(len(c)) for c in curves))
    return min(sum(c[k] for c, k in zip(curves, kept, strict=True)) for kept in choices if sum(kept) <= nnz)


def by_name(problems, nnz, relaxation):
    return solve_together(problems, nnz, SolveOptions(relaxation=relaxation), Execution())


@pytest.mark.parametrize(("seed", "count"), [(0, 2), (1, 2), (2, 3), (3, 3)])
def test_no_way_to_spend_the_budget_has_less(seed, count):
    problems = channels_of(seed, count=count)
    curves = [curve(problem) for problem in problems]
    won = 0
    for nnz in (2, 3, 5, 9):
        truth = least_layer_error(curves, nnz)
        allotted, bounds, lower = solve_layer_budget(problems, nnz)
        plain = by_name(problems, nnz, "perspective")[2]
        assert plain * (1.0 - 1e-9) <= lower <= truth <= Fraction(sum(b.error_upper for b in bounds))
        for problem, own, errors in zip(allotted, bounds, curves, strict=True):
            assert own.error_lower <= errors[problem.nnz]
            assert pvq.verify(problem, own)
        certificates = [b.certificate for b in bounds]
        assert lower <= layer_dual_bound(allotted, certificates, nnz) <= truth
        won += lower > 2.0 * plain and any(isinstance(c, CasesCertificate) for c in certificates)
    assert won >= 2


def test_the_bound_is_of_use():
    problems = channels_of(5, n=40, count=6, small=1e-7)
    _, bounds, lower = solve_layer_budget(problems, 60)
    upper = sum(b.error_upper for b in bounds)
    assert 0.5 * upper < lower <= upper
    assert by_name(problems, 60, "perspective")[2] < 0.1 * upper
    assert {b.relaxation for b in bounds} == {"directions"}


def test_channels_of_different_grams_have_one_price():
    plain = np.random.default_rng(7).normal(size=(30, 6))
    ordinary = Gram(plain.T @ plain / 30)
    rng = np.random.default_rng(8)
    problems = [
        *channels_of(6, n=6, count=2),
        *(SparseLeastSquares(ordinary, w, nnz=6) for w in rng.normal(size=(1, 6))),
    ]
    curves = [curve(problem) for problem in problems]
    for nnz in (4, 8):
        _, bounds, lower = solve_layer_budget(problems, nnz)
        truth = least_layer_error(curves, nnz)
        assert 0.4 * truth < Fraction(lower) <= truth
        kinds = [isinstance(b.certificate, CasesCertificate) for b in bounds]
        assert kinds == [True, True, False]


# ----------------------------------------------------------------------------- the proof


@pytest.fixture(scope="module")
def proved():
    problems = channels_of(0, count=3)
    allotted, bounds, lower = solve_layer_budget(problems, 6)
    certificates = [b.certificate for b in bounds]
    assert any(isinstance(c, CasesCertificate) for c in certificates)
    truth = least_layer_error([curve(p) for p in problems], 6)
    return allotted, certificates, lower, truth


def test_the_best_of_all_prices_counts(proved):
    problems, certificates, _, _ = proved
    parts = [c.parts(p) for p, c in zip(problems, certificates, strict=True)]

    def at(price, nnz):
        each = (min(t.constant + np.minimum(t.extra, price).sum() for t in own) for own in parts)
        return sum(each) - price * nnz

    breaks = np.unique(np.concatenate([t.extra for own in parts for t in own]))
    prices = np.unique(np.concatenate([[0.0], breaks, np.linspace(0.0, breaks.max(), 2001)]))
    for nnz in (0, 3, 6, 11, 15):
        best = max(at(price, nnz) for price in prices)
        assert layer_dual_bound(problems, certificates, nnz) == pytest.approx(
            max(best, 0.0), rel=1e-4, abs=1e-9
        )


def test_with_one_case_a_channel_it_is_the_least_extras():
    problems = channels_of(4, n=8, count=3, small=0.4)
    certificates = [b.certificate for b in by_name(problems, 9, "perspective")[1]]
    parts = [c.parts(p)[0] for p, c in zip(problems, certificates, strict=True)]
    extra = np.sort(np.concatenate([terms.extra for terms in parts]))
    for nnz in (0, 1, 9, 20, 24):
        expected = sum(terms.constant for terms in parts) + extra[: 24 - nnz].sum()
        found = layer_dual_bound(problems, certificates, nnz)
        assert found == pytest.approx(max(expected, 0.0), rel=1e-12, abs=1e-15)
    assert layer_dual_bound(problems[:1], certificates[:1], 3) == pytest.approx(
        dual_bound(problems[0].with_nnz(3), certificates[0]), rel=1e-12
    )


def spoilt(rng, certificate):
    """Other cuts, directions, multipliers or leaves."""
    cover, cases, kind = certificate.cover, list(certificate.cases), rng.integers(4)
    i, j = rng.integers(len(cases), size=2)
    if kind == 0:
        cover = replace(cover, cut=cover.cut + rng.normal(size=len(cover.cut)))
    elif kind == 1:
        cover = replace(cover, direction=cover.direction + 0.1 * rng.normal(size=cover.direction.shape))
    elif kind == 2:
        cases[i] = replace(cases[i], chord=cases[i].chord * rng.uniform(0.0, 5.0), push=rng.normal(size=1))
    else:
        cases[i] = replace(cases[i], proof=cases[j].proof)
    return replace(certificate, cover=cover, cases=tuple(cases))


def test_no_tampering_proves_more_than_the_truth(proved):
    problems, certificates, _, truth = proved
    rng = np.random.default_rng(0)
    for _ in range(60):
        other = [spoilt(rng, c) if isinstance(c, CasesCertificate) else c for c in certificates]
        assert layer_dual_bound(problems, other, 6) <= truth


def test_a_leaf_that_is_left_out_leaves_its_channel_without_a_bound(proved):
    problems, certificates, lower, _ = proved
    i = next(i for i, c in enumerate(certificates) if isinstance(c, CasesCertificate))
    fewer = replace(certificates[i], cases=certificates[i].cases[1:])
    found = layer_dual_bound(problems, [*certificates[:i], fewer, *certificates[i + 1 :]], 6)
    nothing = DualCertificate(*np.zeros((2, 5)))
    assert found == layer_dual_bound(problems, [*certificates[:i], nothing, *certificates[i + 1 :]], 6)
    assert found < lower


def test_an_honest_leaf_less_would_prove_what_is_false(proved, monkeypatch):
    """What the tree is for: the least of only some leaves lies above the truth."""
    problems, certificates, _, truth = proved
    whole = CasesCertificate.parts
    best = lambda self, *rest: [max(whole(self, *rest), key=lambda t: t.constant)]  # noqa: E731
    monkeypatch.setattr(CasesCertificate, "parts", best)
    assert layer_dual_bound(problems, certificates, 6) > truth


def test_a_proof_moves_with_the_units(proved):
    problems, certificates, _, _ = proved
    units = Units(-150, 90)
    moved = [SparseLeastSquares(p.gram * 2.0**150, p.weight * 2.0**-90, nnz=p.nnz) for p in problems]
    others = [c.in_units(units) for c in certificates]
    expected = layer_dual_proof(problems, certificates, 6).value * 2.0**-30
    assert layer_dual_proof(moved, others, 6).value == pytest.approx(expected, rel=1e-12)


def test_a_false_proof_is_a_contradiction(monkeypatch):
    problems = channels_of(1)
    true = layer_budget.layer_dual_proof
    monkeypatch.setattr(
        layer_budget, "layer_dual_proof", lambda *args: true(*args)._replace(value=1e3, blur=0.0)
    )
    with pytest.raises(ContradictionError):
        solve_layer_budget(problems, 4)


# ----------------------------------------------------------------------------- how they are found


def test_without_time_there_are_no_cases(monkeypatch):
    problems = channels_of(9, n=40, count=3)
    monkeypatch.setattr(layer, "LEAST_EFFORT", 1e12)
    _, bounds, lower = solve_layer_budget(problems, 30)
    assert not any(isinstance(b.certificate, CasesCertificate) for b in bounds)
    assert lower == pytest.approx(by_name(problems, 30, "perspective")[2], rel=1e-9)


def test_who_cancels_keeps_what_stands():
    problems, cancelled = channels_of(9, n=40, count=3), threading.Event()
    cancelled.set()
    _, bounds, lower = solve_together(problems, 30, SolveOptions(cancelled=cancelled), Execution())
    assert not any(isinstance(b.certificate, CasesCertificate) for b in bounds)
    assert 0.0 <= lower <= sum(b.error_upper for b in bounds)
    assert sum(len(b.support) for b in bounds) <= 30


def test_progress_counts_every_channel_once():
    told = []
    solve_together(channels_of(9, n=12, count=3), 9, SolveOptions(), Execution(progress=told.append))
    assert told == [1, 2, 3, 3]


def test_a_price_that_is_far_off_weakens_the_bound_and_no_more(monkeypatch):
    problems = channels_of(2, count=2)
    truth = least_layer_error([curve(p) for p in problems], 4)
    plain = by_name(problems, 4, "perspective")[2]
    for price in (1e-6, 0.05, 20.0):
        monkeypatch.setattr(layer, "_best_price", lambda *_, price=price: price)
        lower = solve_layer_budget(problems, 4)[2]
        assert plain * (1.0 - 1e-9) <= lower <= truth


def test_the_price_is_the_one_of_the_best_bound():
    problems = channels_of(11, n=24, count=4)
    supports = [problem.with_nnz(6).start().support for problem in problems]
    channels = [layer._channel(*pair) for pair in zip(problems, supports, strict=True)]
    clock = Clock(60.0)
    found = layer._best_price(channels, clock)

    def value(price):
        return sum(c.at(price, clock)[1] for c in channels) - 24 * price

    assert value(found) >= 0.95 * max(value(found * factor) for factor in (0.5, 0.7, 0.85, 1.2, 1.4, 2.0))


# ----------------------------------------------------------------------------- of a layer


@pytest.fixture(scope="module")
def report():
    """A linear layer whose inputs sum to about the same."""
    rng = np.random.default_rng(12)
    x = rng.normal(size=(200, 12))
    x -= x.mean(axis=1, keepdims=True) - 1e-3 * rng.normal(size=(200, 1))
    torch.manual_seed(0)
    module = torch.nn.Linear(12, 4, dtype=torch.float64)
    return layer_bounds(module, "", torch.from_numpy(x), formats=["25%"], budget="layer")


def with_arrays(path, change):
    """Change the arrays, and the digest that the JSON holds of them."""
    beside = path.with_suffix(".npz")
    with np.load(beside) as file:
        arrays = dict(file)
    change(arrays, next(name for name in arrays if name.endswith("/axis")).removesuffix("axis"))
    np.savez(beside, **arrays)
    document = json.loads(path.read_text())
    document["arrays"]["sha256"] = hashlib.sha256(beside.read_bytes()).hexdigest()
    path.write_text(json.dumps(document))


def findings(path):
    return {finding.where: finding.holds for finding in verify_file(path)}


def test_a_layer_is_proved_from_its_file(report, tmp_path):
    path = tmp_path / "r.json"
    write_layer(report, path)
    found = findings(path)
    assert all(found.values())
    assert "sides[0].error_lower" in found
    entries = json.loads(path.read_text())["sides"][0]["per_channel"]
    assert {entry["certificate"]["kind"] for entry in entries} == {"cases"}


@pytest.mark.parametrize("name", ["lam", "nu", "chord", "cut", "direction"])
def test_arrays_that_are_changed_prove_less(report, tmp_path, name):
    path = tmp_path / "r.json"
    write_layer(report, path)

    def change(arrays, prefix):
        arrays[prefix + name] = arrays[prefix + name] * 1.3 + 0.01

    with_arrays(path, change)
    assert not findings(path)["sides[0].error_lower"]


@pytest.mark.parametrize(("factor", "holds"), [(1.0, True), (0.9, True), (1.0 + 1e-6, False), (1.5, False)])
def test_a_bound_that_is_raised_is_found(report, tmp_path, factor, holds):
    (side,) = report.sides
    shared = replace(side.shared, error_lower=side.shared.error_lower * factor)
    path = tmp_path / "r.json"
    write_layer(replace(report, sides=(replace(side, shared=shared),)), path)
    assert findings(path)["sides[0].error_lower"] == holds

"""Split inequalities prove true bounds, tighter than the SDP's, and cannot be talked into false ones."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from truth import (
    correlated_problem,
    exact_error_of_codes,
    least_integer_error,
    random_gram,
    random_integer_problem,
    random_weight,
)

import pvqbounds as pvq
from pvqbounds.clock import Clock
from pvqbounds.errors import InputError, SolverError
from pvqbounds.relaxations.box_hull import box_hull, dual_value
from pvqbounds.relaxations.dual import DualCertificate, dual_bound
from pvqbounds.relaxations.minorant import error_minorant
from pvqbounds.relaxations.splits import NO_SPLITS, Splits, subtracted_splits
from pvqbounds.results.layer import SliceResult
from pvqbounds.solvers.base import Capability, Options
from pvqbounds.solvers.native.quantization import integer_solver, split_dual, split_kernel
from pvqbounds.solvers.native.quantization.box_hull_dual import solve_box_hull
from pvqbounds.solvers.native.quantization.certificate import SearchCertificate
from pvqbounds.solvers.native.quantization.integer_search import prove
from pvqbounds.solvers.native.quantization.split_dual import relax_with_splits, solve_by_path
from pvqbounds.solvers.relaxation import relax
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.archive import write_arrays
from pvqbounds.storage.results_read import read_record
from pvqbounds.storage.results_written import write_problem


def random_splits(rng: np.random.Generator, n: int, size: float) -> Splits:
    """Any inequalities at all, some of them about one input twice or about none."""
    m = int(rng.integers(1, 12))
    return Splits.of_codes(
        rng.integers(0, n, (m, 3)).astype(np.int32),
        rng.integers(-1, 2, (m, 3)).astype(np.int8),
        rng.integers(-6, 6, m),
        size * rng.random(m),
    )


def all_codes(problem: pvq.IntegerLeastSquares) -> list[tuple[int, ...]]:
    return list(itertools.product(range(problem.qmin, problem.qmax + 1), repeat=problem.n))


# ------------------------------------------------------------------------------------- proofs


@pytest.mark.parametrize("seed", range(80))
def test_the_form_lies_below_the_error_at_all_codes_exactly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = random_integer_problem(rng)
    n, size = problem.n, float(np.diagonal(problem.gram).max()) * 10.0 ** rng.uniform(-9, 1)
    form = error_minorant(problem, random_splits(rng, n, size))
    matrix = [[Fraction(float(x)) for x in row] for row in form.matrix]
    linear, radius = ([Fraction(float(x)) for x in part] for part in (form.linear, form.radius))
    codes = all_codes(problem)
    for z in [codes[k] for k in rng.integers(0, len(codes), 20)]:
        d = [Fraction(problem.scale) * k - Fraction(float(w)) for k, w in zip(z, problem.weight, strict=True)]
        below = sum(d[i] * matrix[i][j] * d[j] for i in range(n) for j in range(n))
        below -= 2 * sum(linear[i] * d[i] + radius[i] * abs(d[i]) for i in range(n))
        assert below + Fraction(form.constant) <= exact_error_of_codes(problem, z)


def test_the_form_loses_only_rounding() -> None:
    """At codes where an inequality holds with equality it takes nothing away."""
    problem = correlated_problem(6, 3, seed=0)
    splits = Splits.of_codes(
        np.array([[0, 2, 5]], np.int32), np.array([[1, -1, 1]], np.int8), np.array([1]), np.array([0.3])
    )
    form = error_minorant(problem, splits)
    for total in (1, 2):
        d = problem.scale * np.array([total, 0, 1, -1, 1, 1]) - problem.weight
        value = d @ form.matrix @ d - 2.0 * form.linear @ d + form.constant
        assert value == pytest.approx(float(d @ problem.gram @ d), rel=1e-12)
    d = problem.scale * np.array([3, 0, 1, -1, 1, 1]) - problem.weight
    value = d @ form.matrix @ d - 2.0 * form.linear @ d + form.constant
    assert value < float(d @ problem.gram @ d) * (1.0 - 1e-6)


@pytest.mark.parametrize("seed", range(80))
def test_any_multipliers_prove_a_true_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = random_integer_problem(rng)
    least = max(least_integer_error(problem), Fraction(0))
    diagonal = np.diagonal(problem.gram)
    for size in (1e-9, 1e-3, 0.1, 10.0):
        lam = size * rng.standard_normal(problem.n) * diagonal
        nu = size * rng.standard_normal(problem.n) * diagonal * np.abs(problem.weight)
        splits = random_splits(rng, problem.n, size * float(diagonal.max()))
        assert Fraction(dual_bound(problem, DualCertificate(lam, nu, splits))) <= least


@pytest.mark.parametrize("seed", range(40))
def test_a_search_proves_the_least_value_of_the_form_and_no_more(seed: int) -> None:
    """At most the optimum: where an inequality holds strictly, a leaf counts for less than its error."""
    rng = np.random.default_rng(seed)
    problem = random_integer_problem(rng)
    if not problem.gram.any(axis=1).all() or np.linalg.eigvalsh(problem.gram)[0] < 1e-6:
        problem = pvq.IntegerLeastSquares(np.eye(3), rng.standard_normal(3), 0.4, -2, 1)
    least = float(np.linalg.eigvalsh(problem.gram)[0])
    lam, nu = np.full(problem.n, 0.2 * least), problem.scale * least * rng.standard_normal(problem.n)
    for share in (1e-6, 0.05, 0.2):
        splits = random_splits(rng, problem.n, share * least / 12.0)
        form = error_minorant(problem, splits)
        d = problem.scale * np.array(all_codes(problem), float) - problem.weight
        reached = float(
            (np.einsum("ki,ij,kj->k", d, form.matrix, d) - 2.0 * d @ form.linear).min() + form.constant
        )
        assert reached <= float(least_integer_error(problem)) * (1.0 + 1e-9)
        step = 1e-6 * (abs(reached) + problem.signal.upper)
        for value, provable in ((reached + step, False), (reached - step, True)):
            certificate = SearchCertificate(lam, nu, value, 10**6, splits)
            assert prove(problem, certificate, Clock(60.0)) == provable


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("multiplier", [-0.1]),
        ("multiplier", [np.nan]),
        ("multiplier", [np.inf]),
        ("multiplier", [0.1, 0.1]),
        ("index", [[0, 1, 5]]),
        ("index", [[0, -1, 2]]),
        ("index", [[0, 1]]),
        ("sign", [[1, 2, 1]]),
        ("low", [0, 0]),
    ],
)
def test_what_is_no_split_inequality_proves_nothing(name: str, value: list) -> None:
    problem = correlated_problem(5, 2, seed=1)
    good = Splits.of_codes(
        np.array([[0, 1, 2]], np.int32), np.array([[1, 1, -1]], np.int8), np.array([0]), np.array([1e-6])
    )
    zero = np.zeros(5)
    assert dual_bound(problem, DualCertificate(zero, zero, good)) > -np.inf
    kind = getattr(good, name).dtype
    bad = dataclasses.replace(good, **{name: np.array(value, kind)})
    assert dual_bound(problem, DualCertificate(zero, zero, bad)) == -np.inf
    assert not prove(problem, SearchCertificate(zero, zero, 1e-12, 1000, bad), Clock(60.0))


def test_reals_have_none() -> None:
    pruning = pvq.SparseLeastSquares(np.eye(3), [0.1, 0.2, 0.3], nnz=1)
    with pytest.raises(InputError, match="neighbouring values"):
        subtracted_splits(pruning, random_splits(np.random.default_rng(0), 3, 1e-3))


@pytest.mark.parametrize(("low", "multiplier"), [(2**62, 1.0), (0, 1e300), (2**62, 1e300)])
def test_numbers_out_of_all_proportion_prove_nothing_much(low: int, multiplier: float) -> None:
    problem = correlated_problem(5, 2, seed=1)
    splits = Splits.of_codes(
        np.array([[0, 1, 2]], np.int32),
        np.array([[1, 1, -1]], np.int8),
        np.array([low]),
        np.array([multiplier]),
    )
    zero = np.zeros(5)
    assert dual_bound(problem, DualCertificate(zero, zero, splits)) <= 0.0
    assert not prove(problem, SearchCertificate(zero, zero, 1e-3, 1000, splits), Clock(60.0))


def test_inequalities_about_dead_inputs_are_left_out() -> None:
    gram = np.zeros((4, 4))
    gram[1:3, 1:3] = [[2.0, 0.5], [0.5, 1.0]]
    problem = pvq.IntegerLeastSquares(gram, np.array([5.0, 0.3, -0.4, 0.8]), 1.0, -2, 1)
    index, sign = np.array([[0, 1, 2], [1, 2, 0]], np.int32), np.array([[1, 1, 1], [1, 1, 0]], np.int8)
    splits = Splits.of_codes(index, sign, np.array([0, -1]), np.array([7.0, 0.2]))
    zero = np.zeros(4)
    proved = dual_bound(problem, DualCertificate(zero, zero, splits))
    live = np.array([False, True, True, False])
    among = splits.among(live)
    assert among.index.tolist() == [[0, 1, 0]]
    assert among.spread(live).index.tolist() == [[1, 2, 1]]
    assert splits.about(live).multiplier.tolist() == among.multiplier.tolist() == [0.2]
    inner = pvq.IntegerLeastSquares(gram[1:3, 1:3], problem.weight[1:3], 1.0, -2, 1)
    alone = dual_bound(inner, DualCertificate(zero[:2], zero[:2], among))
    assert proved == pytest.approx(alone, rel=1e-12)
    assert Fraction(proved) <= least_integer_error(problem)


# ------------------------------------------------------------------------------------- the path


def path_of(problem: pvq.IntegerLeastSquares, steps: int) -> split_dual._Path:
    path = split_dual._Path(box_hull(problem), problem.gram.any(axis=1))
    for number in range(3):
        path._advance(0.3, steps, Clock(60.0))
        path._exchange(with_splits=number > 0)
    return path


def test_the_gradient_is_that_of_the_barrier() -> None:
    path = path_of(correlated_problem(9, 3, seed=2), 6)
    assert (~path.rows.single).sum() > 3
    mu, start = path.mu, path.rows.multiplier + 1e-3

    def barrier(multiplier: np.ndarray) -> float:
        path.rows = path.rows.with_multiplier(multiplier)
        return path._evaluate(mu)[1]

    barrier(start)
    slope, unit = path._slope()
    for c in range(len(start)):
        step = 1e-4 * min(unit[c], 1.0)
        ends = [start.copy() for _ in range(2)]
        ends[0][c] -= step
        ends[1][c] += step
        low, high = map(barrier, ends)
        assert slope[c] == pytest.approx((high - low) / (2.0 * step), rel=1e-4, abs=1e-6)


def test_the_value_of_a_point_is_the_least_of_its_quadratic_function() -> None:
    """E(z) minus the rows' part, minimised over real z, is the value that the path states."""
    problem = correlated_problem(7, 3, seed=4)
    path = path_of(problem, 6)
    rows = path.rows
    value, _ = path._evaluate(path.mu)

    def lagrangian(x: np.ndarray) -> float:
        heights = (rows.sign * x[rows.index]).sum(axis=1) + rows.offset
        return float(x @ path.form @ x - rows.charge @ (heights**2 - rows.limit))

    assert lagrangian(path._x) == pytest.approx(value, rel=1e-9)
    rng = np.random.default_rng(0)
    assert all(lagrangian(path._x + 0.1 * rng.standard_normal(7)) > value for _ in range(50))


@pytest.mark.parametrize("most", [4, 40, 4000])
def test_separation_finds_the_worst_of_all_sums(most: int) -> None:
    rng = np.random.default_rng(most)
    n, depth = 14, 0.02
    factor = 0.25 * rng.standard_normal((n, n))
    covariance, z = factor @ factor.T / n, rng.normal(0.0, 3.0, n)
    violated = {}
    for size in (2, 3):
        for inputs in itertools.combinations(range(n), size):
            for signs in itertools.product((-1, 1), repeat=size - 1):
                a = np.zeros(n)
                a[list(inputs)[::-1]] = (1, *signs)
                t, low = a @ z, np.floor(a @ z)
                failure = -(a @ covariance @ a + (t - low) * (t - low - 1.0))
                if failure > depth:
                    violated[tuple(a)] = failure, low
    index, sign, low = split_kernel.separate(z, covariance, depth, most)
    found = {}
    for i, s, k in zip(index, sign, low, strict=True):
        a = np.zeros(n)
        np.add.at(a, i, s)
        found[tuple(a)] = violated[tuple(a)][0]
        assert violated[tuple(a)][1] == k
    assert len(found) == len(low) == min(most, len(violated))
    assert len(violated) > 300
    assert min(found.values()) >= sorted((f for f, _ in violated.values()), reverse=True)[len(found) - 1]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("stages", [split_dual.QUICK, split_dual.LONG, split_dual.TIGHT])
def test_tighter_than_the_sdp_and_below_the_optimum(bits: int, stages: Sequence[split_dual.Stage]) -> None:
    problem = correlated_problem(24, bits, seed=bits)
    optimum = pvq.solve(problem, method="exact").error_upper
    sdp = dual_bound(problem, relax(problem, "box-hull", solve_box_hull).certificate)
    found = relax_with_splits(problem, Clock(60.0), stages)
    proved = dual_bound(problem, found.certificate)
    assert len(found.certificate.splits) > 0
    assert found.status == "solved"
    assert sdp < proved <= optimum
    assert proved == pytest.approx(found.reported, rel=1e-6)


@settings(max_examples=40)
@given(st.integers(0, 10**6))
def test_bounds_hold_on_any_problem(seed: int) -> None:
    """Singular Grams, dead inputs, grids of one code and weights far outside the grid included."""
    problem = random_integer_problem(np.random.default_rng(seed))
    bounds = pvq.solve(problem, method="relax", relaxation="splits")
    least = float(least_integer_error(problem))
    slack = 1e-12 * max(problem.signal.upper, 1e-300)  # where a stored Gram is not quite definite
    assert bounds.error_lower <= least + slack
    assert least <= bounds.error_upper + slack
    assert bounds.relaxation == "splits"
    assert pvq.verify(problem, bounds)


def test_the_longest_path_that_the_time_allows() -> None:
    def chosen(share: float, n: int, seconds: float, tolerance: float | None = None) -> object:
        return split_dual.stages_for(Options(search_share=share, tolerance=tolerance), n, seconds)

    quick = split_dual.QUICK
    assert chosen(0.0, 288, 60.0) is split_dual.TIGHT
    assert chosen(1.0, 288, 60.0) is split_dual.LONG
    assert chosen(0.002, 288, 60.0) is quick
    assert [chosen(share, 1500, 60.0) for share in (0.0, 0.002, 1.0)] == [quick] * 3
    assert chosen(0.0, 288, 1.5) is split_dual.LONG
    paths = (split_dual.BRIEF, quick, split_dual.LONG, split_dual.TIGHT)
    assert tuple(chosen(0.0, 288, 60.0, tolerance) for tolerance in (0.4, 0.2, 0.1, 1e-6)) == paths


def test_a_tolerance_chooses_the_path() -> None:
    problem = correlated_problem(30, 4, seed=1)
    brief, tight = (
        pvq.solve(problem, method="relax", relaxation="splits", tolerance=tolerance)
        for tolerance in (0.4, None)
    )
    expected = relax_with_splits(problem, Clock(60.0), split_dual.BRIEF).reported
    assert brief.reported_lower == pytest.approx(expected, rel=1e-9)
    assert brief.reported_lower < 0.99 * tight.reported_lower


@pytest.mark.parametrize("power", [-20, 31])
def test_units_change_nothing(power: int) -> None:
    problem = correlated_problem(20, 3, seed=6)
    factor = 2.0**power
    scaled = pvq.IntegerLeastSquares(
        problem.gram * factor, problem.weight / factor, problem.scale / factor, problem.qmin, problem.qmax
    )
    one, other = (relax_with_splits(p, Clock(60.0)).reported for p in (problem, scaled))
    assert other == one / factor


def test_the_clock_ends_the_path_early_and_what_is_known_is_true() -> None:
    problem = correlated_problem(30, 3, seed=3)
    found = relax_with_splits(problem, Clock(0.0))
    assert "relative gap" in found.status
    proved = dual_bound(problem, found.certificate)
    assert 0.0 < proved <= pvq.solve(problem).error_upper
    longer = relax_with_splits(problem, Clock(60.0))
    assert dual_bound(problem, longer.certificate) > proved


def test_grams_like_those_of_transformers() -> None:
    rng = np.random.default_rng(0)
    n = 48
    inputs = rng.standard_normal((3 * n, n)) @ rng.standard_normal((n, n)) * np.exp(rng.standard_normal(n))
    inputs[:, 5] *= 300.0
    gram = inputs.T @ inputs / len(inputs)
    assert np.linalg.cond(gram) > 1e7
    problem = pvq.IntegerLeastSquares(gram, rng.standard_normal(n), 0.4, -8, 7)
    bounds = pvq.solve(problem, method="relax", relaxation="splits")
    sdp = pvq.solve(problem, method="relax", relaxation="box-hull")
    assert bounds.error_lower > 0.98 * sdp.error_lower
    assert pvq.verify(problem, bounds)


# ---------------------------------------------------------------------- without inequalities


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_without_splits_it_is_the_interior_point_and_never_above(bits: int) -> None:
    for seed in range(2):
        sdp = box_hull(correlated_problem(24, bits, seed))
        exact, found = solve_box_hull(sdp, tolerance=1e-8), solve_by_path(sdp, Clock(60.0))
        assert 0.9 * exact.value <= found.value <= exact.value * (1.0 + 1e-9)
        assert dual_value(sdp, found.lam, found.nu) >= found.value * (1.0 - 1e-9)
        assert "first-order" in found.status


def test_without_time_it_still_proves_something() -> None:
    assert solve_by_path(box_hull(correlated_problem(24, 4, seed=0)), Clock(0.0)).value > 0.0


@settings(max_examples=40)
@given(st.integers(0, 10**6))
def test_without_splits_its_bounds_hold_on_any_gram(seed: int) -> None:
    """Singular Grams, dead inputs and weights far outside the grid included."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 5))
    scale = float(rng.uniform(0.1, 1.0))
    problem = pvq.IntegerLeastSquares(random_gram(rng, n), random_weight(rng, n), scale, -2, 1)
    bounds = pvq.solve(problem, method="relax", relaxation="box-hull")
    relaxed = relax(problem, "box-hull", lambda sdp: solve_by_path(sdp, Clock(60.0)))
    proved = dual_bound(problem, relaxed.certificate)
    slack = 1e-9 * max(problem.signal.upper, 1e-300)
    assert proved <= float(least_integer_error(problem)) + slack
    assert proved <= bounds.error_lower * (1.0 + 1e-5) + slack


@pytest.mark.parametrize("relaxation", ["splits", "hybrid", None])
def test_a_grid_of_one_code_is_bounded_by_its_error(relaxation: str | None) -> None:
    drawn = correlated_problem(12, 3, seed=7)
    problem = pvq.IntegerLeastSquares(drawn.gram, drawn.weight, drawn.scale, 2, 2)
    bounds = pvq.solve(problem, method="relax", relaxation=relaxation)
    assert bounds.status == "optimal"
    assert pvq.verify(problem, bounds)


def test_a_layer_without_signal_has_a_path() -> None:
    problem = pvq.IntegerLeastSquares(np.zeros((3, 3)), np.array([1.0, -0.2, 3.0]), 0.5, -2, 1)
    found = solve_by_path(box_hull(problem), Clock(60.0))
    assert (found.value, found.mean.tolist()) == (0.0, [1.0, -0.4, 1.0])
    assert relax_with_splits(problem, Clock(60.0)).reported == 0.0


# --------------------------------------------------------------------------------- interfaces


def test_other_solvers_say_that_they_cannot() -> None:
    pytest.importorskip("scs")
    with pytest.raises(SolverError, match="split inequalities"):
        pvq.solve(correlated_problem(6, 2, seed=0), "scs", "relax", "splits")
    assert [info.name for info in pvq.solvers() if Capability.SPLITS in info.capabilities] == ["native"]


def test_auto_falls_back_on_the_relaxation_that_was_named() -> None:
    problem = correlated_problem(140, 4, seed=2, spread=0.0)
    found = {
        name: pvq.solve(problem, relaxation=name, time_limit=8.0) for name in ("box-hull", "splits", "hybrid")
    }
    assert {name: bounds.relaxation for name, bounds in found.items()} == {name: name for name in found}
    assert all(pvq.verify(problem, bounds) for bounds in found.values())
    assert found["box-hull"].error_lower < found["splits"].error_lower
    assert isinstance(found["hybrid"].certificate, SearchCertificate)
    assert len(found["hybrid"].certificate.splits) > 0


def test_a_search_on_splits_that_ends_is_not_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = correlated_problem(24, 3, seed=9)
    known = pvq.solve(problem, method="exact")
    monkeypatch.setattr(integer_solver, "PROVABLE", 0)
    monkeypatch.setattr(integer_solver, "HOPELESS", 0.0)
    bounds = pvq.solve(problem, method="exact")
    assert (bounds.status, bounds.method) == ("optimal", "exact")
    assert bounds.error_upper == pytest.approx(known.error_upper, rel=1e-9)
    assert pvq.verify(problem, bounds)


@pytest.fixture(scope="module")
def solved() -> SliceResult:
    problem = correlated_problem(24, 3, seed=5)
    bounds = pvq.solve(problem, method="relax", relaxation="splits")
    assert len(bounds.certificate.splits) > 20
    return SliceResult(0, (0, 24), problem, bounds)


def test_a_certificate_comes_back_from_its_file(solved: SliceResult, tmp_path: Path) -> None:
    write_problem(solved, "made here", tmp_path / "r.json")
    again = read_record(tmp_path / "r.json").result.bounds.certificate
    known = solved.bounds.certificate
    for field in dataclasses.fields(Splits):
        one, other = getattr(known.splits, field.name), getattr(again.splits, field.name)
        assert one.dtype == other.dtype
        assert (one == other).all()
    assert all(finding.holds for finding in verify_file(tmp_path / "r.json"))
    plain = pvq.solve(solved.problem, method="relax", relaxation="box-hull")
    write_problem(dataclasses.replace(solved, bounds=plain), "made here", tmp_path / "p.json")
    assert not any("splits" in name for name in np.load(tmp_path / "p.npz").files)
    assert read_record(tmp_path / "p.json").result.bounds.certificate.splits is NO_SPLITS


def planted(path: Path, name: str, array: np.ndarray) -> Path:
    """The result at `path` with one array of its certificate replaced, and the hash to match."""
    import hashlib

    arrays = dict(np.load(path.with_suffix(".npz")))
    arrays[f"quantization/certificate/0/splits/{name}"] = array
    write_arrays(path.with_suffix(".npz"), arrays)
    document = json.loads(path.read_text())
    document["arrays"]["sha256"] = hashlib.sha256(path.with_suffix(".npz").read_bytes()).hexdigest()
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("name", ["index", "sign", "low", "multiplier"])
def test_a_fault_in_an_array_is_found(solved: SliceResult, tmp_path: Path, name: str) -> None:
    write_problem(solved, "made here", tmp_path / "r.json")
    splits = solved.bounds.certificate.splits
    array = getattr(splits, name).copy()
    if name == "index":
        array = array[:, [1, 0, 2]]
        array[:, 0] = (array[:, 0] + 1) % 24
    elif name == "sign":
        array = -array
    elif name == "low":
        array += 1
    else:
        array = 3.0 * array
    assert not all(finding.holds for finding in verify_file(planted(tmp_path / "r.json", name, array)))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("index", lambda a: a.astype(np.int64)),
        ("sign", lambda a: a[:, :2]),
        ("low", lambda a: a[:-1]),
        ("multiplier", lambda a: np.where(np.arange(len(a)) == 3, np.nan, a)),
    ],
)
def test_arrays_of_another_kind_are_refused(solved: SliceResult, tmp_path: Path, name: str, change) -> None:
    write_problem(solved, "made here", tmp_path / "r.json")
    planted(tmp_path / "r.json", name, change(getattr(solved.bounds.certificate.splits, name)))
    with pytest.raises(InputError, match=name):
        read_record(tmp_path / "r.json")


@pytest.mark.parametrize(("name", "value"), [("multiplier", -1.0), ("index", 24), ("index", -1), ("sign", 2)])
def test_arrays_that_are_no_inequality_prove_nothing(
    solved: SliceResult, tmp_path: Path, name: str, value: float
) -> None:
    write_problem(solved, "made here", tmp_path / "r.json")
    array = getattr(solved.bounds.certificate.splits, name).copy()
    array[(0, 0) if array.ndim == 2 else 0] = value
    assert not all(finding.holds for finding in verify_file(planted(tmp_path / "r.json", name, array)))

"""Split inequalities of levels: counted from two neighbours, with what the other levels take of them."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from truth import correlated_problem, exact_error_of_any, least_error_of_any, random_levels_problem

import pvqbounds as pvq
from pvqbounds.clock import Clock
from pvqbounds.errors import InputError, SolverError
from pvqbounds.problems import CodebookLeastSquares, LeastSquares
from pvqbounds.problems.formats.nf4 import NF4_LEVELS
from pvqbounds.problems.formats.number_types import E2M1
from pvqbounds.problems.values import Levels, Steps
from pvqbounds.relaxations import splits as split_forms
from pvqbounds.relaxations.box_hull import box_hull, dual_value, of_gram_units
from pvqbounds.relaxations.dual import DualCertificate, dual_bound
from pvqbounds.relaxations.points import ValuePoints
from pvqbounds.relaxations.splits import Splits, subtracted_splits
from pvqbounds.results.layer import SliceResult
from pvqbounds.solvers.native.quantization import split_dual
from pvqbounds.solvers.native.quantization.codes_dual import relax_finite
from pvqbounds.solvers.native.quantization.split_dual import SplitPath, Stage, relax_with_splits
from pvqbounds.solvers.native.quantization.split_rows import rows_of_multipliers
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.archive import write_arrays
from pvqbounds.storage.results_read import read_record
from pvqbounds.storage.results_written import write_problem

FOREVER = Clock(1e6)


def random_splits(rng: np.random.Generator, problem: LeastSquares, size: float) -> Splits:
    """Any inequalities that its levels have, some of them about one input twice or about none."""
    m, n = int(rng.integers(1, 6)), problem.n
    index = rng.integers(0, n, (m, 3)).astype(np.int32)
    last = problem.values.code_ends[1][index]
    sign = np.where(last > 0, rng.integers(-1, 2, (m, 3)), 0).astype(np.int8)
    cell = (rng.random((m, 3)) * last).astype(np.int32)
    return Splits(index, sign, rng.integers(-3, 3, m), size * rng.random(m), cell)


def fp4_problem(n: int, seed: int) -> CodebookLeastSquares:
    """Channels of E2M1 in float32 scales of blocks, as NVFP4 has them."""
    steps = correlated_problem(n, 4, seed)
    scales = np.repeat(np.float32([0.31, 0.17, 0.23, 0.19]), n // 4).astype(np.float64)
    levels = [np.unique(np.float32(s * E2M1.levels()).astype(np.float64)) for s in scales]
    return CodebookLeastSquares(steps.gram, steps.weight, levels)


def exact_form(problem: LeastSquares, splits: Splits, weight: np.ndarray) -> Fraction:
    """The least that the form says of an error, in rational arithmetic."""
    form = subtracted_splits(problem, splits)
    d = [Fraction(float(v)) - Fraction(float(w)) for v, w in zip(weight, problem.weight, strict=True)]
    value = Fraction(form.constant)
    for i, row in enumerate(form.matrix):
        value += sum(Fraction(float(a)) * d[i] * d[j] for j, a in enumerate(row))
        value -= 2 * (Fraction(float(form.linear[i])) * d[i] + Fraction(float(form.radius[i])) * abs(d[i]))
    return value


# ------------------------------------------------------------------------------------- cells and lifts


def test_lifts_of_e2m1_are_those_of_its_holes() -> None:
    """In halves its positive numbers are 0, 1, 2, 3, 4, 6, 8, 12: beside 4..6 lies 3, half a step below."""
    levels = Levels(E2M1.levels()[None])
    lifts = levels.cells(np.zeros(7, np.int32), np.arange(7, 14, dtype=np.int32)).lift
    assert lifts == pytest.approx([0.0, 0.0, 0.0, 0.0, 1 / 3, 1 / 15, 1 / 3], abs=1e-12)


def test_lifts_of_nf4_are_small_where_its_steps_change_slowly() -> None:
    cells = np.arange(15, dtype=np.int32)
    lifts = Levels(np.array(NF4_LEVELS)[None]).cells(np.zeros(15, np.int32), cells).lift
    assert (round(lifts.min(), 2), round(lifts.max(), 2)) == (0.02, 0.28)


@settings(max_examples=200)
@given(st.lists(st.floats(-1e3, 1e3, allow_subnormal=False), min_size=2, max_size=8, unique=True))
def test_a_lift_is_enough_for_every_level_and_no_more(values: list[float]) -> None:
    table = np.sort(values)
    cells = Levels(table[None]).cells(
        np.zeros(len(table) - 1, np.int32), np.arange(len(table) - 1, dtype=np.int32)
    )
    exact = [Fraction(v) for v in table.tolist()]
    for c, lift in enumerate(cells.lift.tolist()):
        least = Fraction(0)
        for v in exact:
            u = (v - exact[c]) / (exact[c + 1] - exact[c])
            part = u - (u.numerator // u.denominator)
            assert part * (1 - part) <= Fraction(lift) * u * (u - 1)
            if not 0 <= u <= 1:
                least = max(least, part * (1 - part) / (u * (u - 1)))
        assert least <= Fraction(lift) <= 1
        sizes = [abs((v - exact[c]) / (exact[c + 1] - exact[c])) for v in exact]
        if max(sizes) < 10**6 and min(size for size in sizes if size > 0) > Fraction(1, 10**6):
            assert lift == pytest.approx(float(least), rel=1e-6, abs=1e-6)


def test_neighbours_that_values_do_not_have_prove_nothing() -> None:
    levels = Levels(np.array([[-1.0, 0.0, 2.0, 2.0], [0.0, 1.0, 2.0, 3.0]]))
    one, two = np.array([0], np.int32), np.array([1], np.int32)
    assert levels.has_cells(one, np.array([1], np.int32))
    assert levels.has_cells(two, np.array([2], np.int32))
    for inputs, cell in ((one, 2), (two, 3), (two, -1)):
        assert not levels.has_cells(inputs, np.array([cell], np.int32))
        with pytest.raises(InputError, match="neighbouring values"):
            levels.cells(inputs, np.array([cell], np.int32))
    steps = Steps(np.ones(2), np.full(2, -1), np.full(2, 1))
    assert steps.has_cells(one, np.zeros(1, np.int32))
    assert not steps.has_cells(one, np.ones(1, np.int32))
    problem = CodebookLeastSquares(np.eye(2), np.array([0.3, 0.4]), levels.levels[:, :3])
    zero = np.zeros(2)
    for cell, proves in ((1, True), (2, False)):
        splits = Splits(
            np.array([[0, 1, 0]], np.int32),
            np.array([[1, 1, 0]], np.int8),
            np.array([0]),
            np.array([1e-3]),
            np.array([[cell, 1, 0]], np.int32),
        )
        assert (dual_bound(problem, DualCertificate(zero, zero, splits)) > -np.inf) == proves


# ------------------------------------------------------------------------------------- proofs


@pytest.mark.parametrize("seed", range(80))
def test_the_form_lies_below_the_error_at_all_levels_exactly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = random_levels_problem(rng)
    size = float(np.diagonal(problem.gram).max()) * 10.0 ** rng.uniform(-9, 1)
    splits = random_splits(rng, problem, size)
    ends = problem.values.code_ends
    codes = list(itertools.product(*(range(a, b + 1) for a, b in zip(*ends, strict=True))))
    for z in [codes[k] for k in rng.integers(0, len(codes), 12)]:
        weight = problem.weight_of(np.array(z))
        assert exact_form(problem, splits, weight) <= exact_error_of_any(problem, z)


def test_without_lifts_it_would_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a step beside whole ones: 4, 6 and 3 of E2M1 in halves."""
    levels = np.array([3.0, 4.0, 6.0])
    problem = CodebookLeastSquares(np.eye(2), np.array([4.5, 5.0]), levels)
    ones, zeros = np.ones((1, 3), np.int32), np.zeros(1, np.int64)
    sign = np.array([[1, 1, 0]], np.int8)
    splits = Splits(np.array([[0, 1, 0]], np.int32), sign, zeros, np.array([0.2]), ones)
    weight = np.array([3.0, 6.0])  # u = -1/2 and 1: their sum lies between 0 and 1
    error = exact_error_of_any(problem, (0, 2))
    assert exact_form(problem, splits, weight) <= error
    true_cells = split_forms.cells_of

    def unlifted(own: Splits, of: LeastSquares) -> split_forms.Cells:
        return dataclasses.replace(true_cells(own, of), lift=np.zeros((1, 3)))

    monkeypatch.setattr(split_forms, "cells_of", unlifted)
    assert exact_form(problem, splits, weight) > error + Fraction(1, 10)


@pytest.mark.parametrize("seed", range(60))
def test_any_multipliers_prove_a_true_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = random_levels_problem(rng)
    least, diagonal = max(least_error_of_any(problem), Fraction(0)), np.diagonal(problem.gram)
    for size in (1e-9, 1e-3, 0.1, 10.0):
        lam = size * rng.standard_normal(problem.n) * diagonal
        nu = size * rng.standard_normal(problem.n) * diagonal * np.abs(problem.weight)
        splits = random_splits(rng, problem, size * float(diagonal.max()))
        assert Fraction(dual_bound(problem, DualCertificate(lam, nu, splits))) <= least


# ------------------------------------------------------------------------------------- the path


@pytest.mark.parametrize("seed", range(20))
def test_tangents_and_chords_say_what_multipliers_do(seed: int) -> None:
    """Rows made of any (lam, nu) prove what these prove, wherever an input has three values or more."""
    rng = np.random.default_rng(seed)
    n = 12
    if seed % 2:
        low = -rng.integers(1, 4, n)
        steps = correlated_problem(n, 3, seed)
        problem: LeastSquares = pvq.IntegerLeastSquares(steps.gram, steps.weight, steps.scale, low, low + 3)
    else:
        problem = fp4_problem(n, seed)
    sdp = box_hull(problem)
    found = relax_finite(problem, FOREVER, 0.1).certificate
    lam, nu = of_gram_units(sdp, found.lam, found.nu)
    lam = lam * rng.uniform(0.3, 1.0, n) - (rng.random(n) < 0.3) * rng.random(n)  # some of them concave
    nu = nu + 0.02 * rng.standard_normal(n)
    rows = rows_of_multipliers(sdp.points, sdp.centre, lam, nu)
    assert (rows.multiplier >= 0.0).all()
    slack = sdp.form.copy()
    np.add.at(slack, (rows.index[:, 0], rows.index[:, 0]), -rows.charge)
    pull = np.bincount(rows.index[:, 0], rows.charge * rows.offset, n)
    value = -pull @ np.linalg.solve(slack, pull) - rows.charge @ (rows.offset**2 - rows.limit)
    assert value == pytest.approx(dual_value(sdp, lam, nu), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("start", [None, 0.3])
def test_tighter_than_the_hull_and_below_the_optimum(seed: int, start: float | None) -> None:
    problem = fp4_problem(16, seed)
    optimum = pvq.solve(problem, method="exact")
    assert optimum.status == "optimal"
    hull = relax_finite(problem, FOREVER, 1e-6)
    begin = None if start is None else relax_finite(problem, FOREVER, start).certificate
    found = relax_with_splits(problem, FOREVER, split_dual.TIGHT, begin)
    proved = dual_bound(problem, found.certificate)
    assert found.certificate.splits.cell.any()
    assert dual_bound(problem, hull.certificate) < proved <= optimum.error_upper
    assert proved == pytest.approx(found.reported, rel=1e-6)
    # moments count in units of the weights, those of levels
    assert np.abs(found.mean - hull.mean).max() < 0.5 * float(np.diff(problem.values.table).max())


def test_a_path_never_proves_less_than_where_it_begins() -> None:
    problem = fp4_problem(24, seed=5)
    begin = relax_finite(problem, FOREVER, 0.05)
    found = SplitPath(problem, begin.certificate).follow((Stage(0.4, 1, 1),), Clock(0.0))
    assert dual_bound(problem, found.certificate) >= dual_bound(problem, begin.certificate) * (1.0 - 1e-9)


def test_levels_that_are_whole_steps_are_bounded_as_steps() -> None:
    """Lifts of whole codes are zero but for rounding: the path finds what it finds of steps."""
    steps = correlated_problem(24, 4, seed=2)
    levels = CodebookLeastSquares(
        steps.gram, steps.weight, steps.scale * np.arange(steps.qmin, steps.qmax + 1)
    )
    bounds = [
        dual_bound(p, relax_with_splits(p, FOREVER, split_dual.TIGHT).certificate) for p in (steps, levels)
    ]
    assert bounds[0] == pytest.approx(bounds[1], rel=0.02)


def test_inputs_of_one_and_two_values_have_a_path() -> None:
    points = ValuePoints(Levels(np.array([[0.5, 0.5], [-1.0, 3.0]])), 2.0)
    cell = points.cell_of(np.zeros(2))
    cells = points.cells(cell)
    assert cell.tolist() == [-1, 0]
    assert (cells.origin.tolist(), cells.width.tolist()) == ([0.25, -0.5], [1.0, 2.0])
    rows = [[0.4, 0.5], [-1.0, 0.0, 2.0], [-1.0, 1.0], [-1.0, 0.0, 0.7, 1.0]]
    gram = correlated_problem(4, 2, seed=0).gram
    problem = CodebookLeastSquares(gram, np.array([0.45, 0.9, -0.2, 0.3]), [np.array(row) for row in rows])
    found = relax_with_splits(problem, FOREVER, split_dual.TIGHT)
    proved = dual_bound(problem, found.certificate)
    assert proved > 0.0
    assert Fraction(proved) <= least_error_of_any(problem)


@pytest.mark.parametrize("method", [{"relaxation": "splits"}, {"relaxation": "hybrid"}, {}])
@pytest.mark.parametrize("values", ["levels", "steps"])
def test_values_of_inputs_that_are_always_zero_change_no_bound(values: str, method: dict[str, str]) -> None:
    """Multipliers of steps count in the largest of all inputs: those of live ones alone are recounted."""
    steps, n = correlated_problem(24, 4, seed=3), 24
    gram = np.zeros((n + 1, n + 1))
    gram[:n, :n] = steps.gram

    def posed(wide: float | None) -> LeastSquares:
        own, weight = (steps.gram, steps.weight) if wide is None else (gram, np.append(steps.weight, 0.1))
        scales = np.full(len(weight), steps.scale)
        scales[n:] *= wide or 1.0
        if values == "steps":
            return pvq.IntegerLeastSquares(own, weight, scales, -8, 7)
        return CodebookLeastSquares(own, weight, [s * E2M1.levels() for s in scales])

    bounds = [
        pvq.solve(posed(wide), method="relax", time_limit=1.0, **method).error_lower
        for wide in (None, 0.25, 8.0)
    ]
    assert bounds == pytest.approx([bounds[0]] * 3, rel=1e-3)


def test_multipliers_that_underflow_lose_no_lift() -> None:
    """Of the smallest number a third is 0: what lifts add to it is counted from its product with r²."""
    small, power = 2.0**-451, 2.0**-48
    row, other = np.array([0.0, small, 1.5 * small]), np.array([0.0, 2.0**60])
    problem = CodebookLeastSquares(
        np.diag([power, power, 1.0]), np.array([1.5 * small, 0.0, 2.0**60]), [row, row, other]
    )
    splits = Splits(
        np.array([[0, 1, 2]], np.int32),
        np.array([[1, 1, 0]], np.int8),
        np.array([1]),
        np.array([5e-324]),
        np.zeros((1, 3), np.int32),
    )
    lam = np.array([0.19 * power, 0.03 * power, 0.5])
    for multiplier in (5e-324, 1e-300, 1e-100, 1e-20, 0.1):
        for counted in (1, 2):  # from an input of wide levels, too: s is their width
            sign = np.array([[1, 1, counted - 1]], np.int8)
            own = dataclasses.replace(splits, multiplier=np.array([multiplier]), sign=sign)
            assert dual_bound(problem, DualCertificate(lam, np.zeros(3), own)) <= 0.0


# ------------------------------------------------------------------------------------- solving, files


@pytest.mark.parametrize("relaxation", ["splits", "hybrid"])
def test_by_name_it_proves_more_than_the_hull(relaxation: str) -> None:
    problem = fp4_problem(40, seed=1)
    hull = pvq.solve(problem, method="relax", relaxation="box-hull")
    found = pvq.solve(problem, method="relax", relaxation=relaxation, time_limit=2.0)
    assert found.error_lower > hull.error_lower
    assert found.lower_kind == "certified"
    assert pvq.verify(problem, found)
    joint = CodebookLeastSquares(problem.gram, problem.weight, problem.values.levels, nnz=20)
    with pytest.raises(InputError, match=r"no relaxation 'splits' for joint compression; use hybrid"):
        pvq.solve(joint, relaxation="splits")


def test_other_solvers_say_that_they_cannot() -> None:
    pytest.importorskip("scs")
    with pytest.raises(SolverError, match="split inequalities"):
        pvq.solve(fp4_problem(8, seed=0), "scs", "relax", "splits")


def test_files_keep_what_sums_count_from(tmp_path: Path) -> None:
    problem = fp4_problem(24, seed=3)
    solved = SliceResult(0, (0, 24), problem, pvq.solve(problem, method="relax", relaxation="splits"))
    known = solved.bounds.certificate.splits
    assert known.cell.any()
    path = tmp_path / "r.json"
    write_problem(solved, "made here", path)
    again = read_record(path).result.bounds.certificate.splits
    assert (again.cell == known.cell).all()
    assert again.cell.dtype == known.cell.dtype
    assert all(finding.holds for finding in verify_file(path))
    # counted from other neighbours they say something else
    arrays = dict(np.load(path.with_suffix(".npz")))
    name = next(name for name in arrays if name.endswith("splits/cell"))
    arrays[name] = np.where(known.sign != 0, 6, 0).astype(np.int32)
    write_arrays(path.with_suffix(".npz"), arrays)
    document = json.loads(path.read_text())
    digest = hashlib.sha256(path.with_suffix(".npz").read_bytes()).hexdigest()
    path.write_text(json.dumps(document).replace(document["arrays"]["sha256"], digest))
    assert not all(finding.holds for finding in verify_file(path))

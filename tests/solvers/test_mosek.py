"""MOSEK's models are right although nothing may be solved: data read back, and solved elsewhere."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import sparse
from truth import least_error, real_valued

import pvqbounds as pvq
from pvqbounds.errors import SolverError
from pvqbounds.relaxations.box_hull import box_hull, park_boyd
from pvqbounds.relaxations.dual import dual_bound
from pvqbounds.relaxations.miqp import (
    big_m_program,
    integer_program,
    joint_perspective_program,
    joint_program,
    one_hot_program,
    perspective_program,
)
from pvqbounds.solvers import mosek_
from pvqbounds.solvers.base import Capability, Licence, Options
from pvqbounds.solvers.cone.clarabel_ import Clarabel
from pvqbounds.solvers.cone.conic import ConicProgram, Triangle, conic_dual, perspective_dual
from pvqbounds.solvers.native.pruning.perspective_dual import maximise_perspective, normal_form
from pvqbounds.solvers.native.quantization.box_hull_dual import solve_box_hull

mosek = pytest.importorskip("mosek")


@pytest.fixture
def environment():
    with mosek.Env() as environment:
        yield environment


def integer(n=5, bits=2):
    gram, weight = real_valued(3, n)
    return pvq.IntegerLeastSquares(gram, weight, 0.4, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def pruning(n=6, **budget):
    gram, weight = real_valued(4, n)
    return pvq.SparseLeastSquares(gram, weight, **(budget or {"nnz": 2}))


def affine_rows(task):
    """F and g of all affine conic constraints, and their domains in order."""
    rows, columns, values = task.getaccftrip()
    shape = (task.getaccntot(), task.getnumvar())
    domains = [task.getdomaintype(task.getaccdomain(i)) for i in range(task.getnumacc())]
    return (
        sparse.coo_matrix((values, (rows, columns)), shape).toarray(),
        np.array(task.getaccgvector()),
        domains,
    )


def conic_programs():
    form = normal_form(pruning(pattern=(1, 3)))
    yield conic_dual(box_hull(integer()), Triangle.LOWER)
    yield conic_dual(park_boyd(integer()), Triangle.LOWER)
    yield perspective_dual(form, Triangle.LOWER)


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("suffix", [None, "task", "ptf"])
def test_conic_models_are_read_back_as_they_were(environment, tmp_path, number, suffix):
    program = list(conic_programs())[number]
    with mosek_.conic_task(environment, program) as task, environment.Task() as again:
        if suffix is not None:
            task.writedata(str(tmp_path / f"model.{suffix}"))
            again.readdata(str(tmp_path / f"model.{suffix}"))
        model = task if suffix is None else again
        matrix, offset, domains = affine_rows(model)
        np.testing.assert_array_equal(matrix, -program.matrix.toarray())
        np.testing.assert_array_equal(offset, program.offset)
        cones = [mosek.domaintype.rplus, *[mosek.domaintype.quadratic_cone] * program.triples]
        assert domains == [*cones, mosek.domaintype.svec_psd_cone]
        cost = np.zeros(model.getnumvar())
        model.getc(cost)
        np.testing.assert_array_equal(cost, program.cost)
        assert model.getobjsense() == mosek.objsense.minimize
        assert {model.getvarbound(i)[0] for i in range(model.getnumvar())} == {mosek.boundkey.fr}


def joint(**budget):
    gram, weight = real_valued(3, 5)
    return pvq.IntegerLeastSquares(gram, weight, 0.4, -2, 1, **budget)


def levels(**budget):
    gram, weight = real_valued(3, 5)
    return pvq.CodebookLeastSquares(gram, weight, [-1.0, -0.3, 0.0, 0.5], **budget)


PROBLEMS = [
    integer(),
    pruning(),
    pruning(pattern=(1, 3)),
    joint(nnz=2),
    joint(pattern=(1, 2)),
    levels(),
    levels(nnz=2),
]


def program_cases():
    yield integer_program(PROBLEMS[0])
    yield big_m_program(PROBLEMS[1])
    yield perspective_program(PROBLEMS[2])
    yield joint_program(PROBLEMS[3])
    yield joint_perspective_program(PROBLEMS[4], np.full(5, 0.9 * np.linalg.eigvalsh(PROBLEMS[4].gram)[0]))
    yield one_hot_program(PROBLEMS[5])
    yield one_hot_program(PROBLEMS[6])


@pytest.mark.parametrize("number", range(len(PROBLEMS)))
def test_integer_models_are_read_back_as_they_were(environment, tmp_path, number):
    program = list(program_cases())[number]
    with mosek_.miqp_task(environment, program) as task, environment.Task() as model:
        task.writedata(str(tmp_path / "model.task"))
        model.readdata(str(tmp_path / "model.task"))
        m = len(program.q)
        assert model.getnumvar() == m + 1
        cost = np.zeros(m + 1)
        model.getc(cost)
        np.testing.assert_array_equal(cost, [*program.q, 1.0])
        assert model.getcfix() == program.constant
        for i in range(m):
            key, low, high = model.getvarbound(i)
            assert (program.lower[i] if np.isfinite(program.lower[i]) else 0.0) == low or low < -1e20
            assert (program.upper[i] if np.isfinite(program.upper[i]) else 0.0) == high or high > 1e20
            assert (key == mosek.boundkey.fr) == bool(
                np.isinf(program.lower[i]) and np.isinf(program.upper[i])
            )
            whole = model.getvartype(i) == mosek.variabletype.type_int
            assert whole == program.integer[i]
        for row in range(len(program.b)):
            count, columns, values = model.getarow(row)
            dense = np.zeros(m + 1)
            dense[columns[:count]] = values[:count]
            np.testing.assert_array_equal(dense, [*program.A[row].toarray()[0], 0.0])
            key, _, high = model.getconbound(row)
            kind = mosek.boundkey.fx if row < program.equations else mosek.boundkey.up
            assert (key, high) == (kind, program.b[row])
        matrix, offset, domains = affine_rows(model)
        assert domains == [mosek.domaintype.rquadratic_cone] * (1 + len(program.cones))
        size = model.getaccn(0)
        root = matrix[2:size, : program.n]
        assert not matrix[2:size, program.n :].any()
        scale = np.abs(program.Q).max()
        np.testing.assert_allclose(root.T @ root, program.Q, atol=1e-14 * scale)
        assert matrix[0].tolist() == [0.0] * m + [1.0]
        assert not matrix[1].any()
        assert offset[:2].tolist() == [0.0, 0.5]
        for k, (a, b, c) in enumerate(program.cones):
            rows = matrix[size + 3 * k : size + 3 * k + 3]
            expected = np.zeros((3, m + 1))
            expected[0, b], expected[1, c], expected[2, a] = 1.0, 0.5, 1.0 / program.sizes[k]
            np.testing.assert_array_equal(rows, expected)
        assert not offset[2:].any()


def clarabel_in_place_of_mosek(task, cancelled):
    """Solve the task's own data with Clarabel, and put the solution where MOSEK would."""
    matrix, offset, domains = affine_rows(task)
    cost = np.zeros(task.getnumvar())
    task.getc(cost)
    sizes = [task.getaccn(i) for i in range(task.getnumacc())]
    assert domains[0] == mosek.domaintype.rplus
    order = round((np.sqrt(8 * sizes[-1] + 1) - 1) / 2)
    # the upper triangle, for Clarabel, of rows that hold the lower one
    tail = sum(sizes[:-1])
    position = {pair: k for k, pair in enumerate(zip(*Triangle.LOWER.indices(order), strict=True))}
    upper = [position[j, i] for i, j in zip(*Triangle.UPPER.indices(order), strict=True)]
    rows = np.concatenate([np.arange(tail), tail + np.array(upper)])
    program = ConicProgram(
        cost,
        sparse.csc_matrix(-matrix[rows]),
        offset[rows],
        sizes[0],
        len(sizes) - 2,
        order,
        Triangle.UPPER,
    )
    solution = Clarabel().solve_conic(program, Options())
    dual = np.empty(len(rows))
    dual[rows] = solution.dual
    task.putxx(mosek.soltype.itr, solution.x)
    for i, part in enumerate(np.split(dual, np.cumsum(sizes)[:-1])):
        task.putaccdoty(mosek.soltype.itr, i, part)


@pytest.fixture
def solved_elsewhere(monkeypatch):
    monkeypatch.setattr(mosek_, "_optimize", clarabel_in_place_of_mosek)
    monkeypatch.setattr(mosek_.Mosek, "licence", lambda self: Licence(True, "stood in for"))


@pytest.mark.parametrize("build", [box_hull, park_boyd])
def test_the_quantization_sdp_has_the_native_value(solved_elsewhere, build):
    sdp = build(integer(8))
    own, theirs = solve_box_hull(sdp), mosek_.Mosek().solve_sdp(sdp, Options())
    assert theirs.value == pytest.approx(own.value, rel=2e-5)
    np.testing.assert_allclose(theirs.mean, own.mean, atol=0.05)
    np.testing.assert_allclose(theirs.covariance, own.covariance, atol=0.05)


def test_the_pruning_relaxation_has_the_native_value(solved_elsewhere):
    problem = pruning(10, nnz=3)
    own = dual_bound(problem, maximise_perspective(problem, tolerance=1e-7))
    bounds = pvq.solve(problem, "mosek", "relax")
    assert bounds.error_lower == pytest.approx(own, rel=1e-4)
    assert bounds.reported_lower == pytest.approx(own, rel=1e-4)
    assert pvq.verify(problem, bounds)


def read_cbf(path):
    """Variables' cost and the semidefinite rows F(x) + g >= 0, linear rows A x + b >= 0 of a CBF file."""
    parts, name, lines = {}, None, iter(path.read_text().splitlines())
    for line in lines:
        if line.isupper() and line[0].isalpha() and " " not in line:
            name = line
            parts[name] = []
        elif line.strip() and name is not None:
            parts[name].append(line.split())
    return parts


def test_the_written_sdp_is_the_formulation(environment, tmp_path):
    """CBF states semidefinite matrices entry by entry: no stacking and no factors of sqrt 2."""
    sdp = box_hull(integer())
    program = conic_dual(sdp, Triangle.LOWER)
    path = tmp_path / "model.cbf"
    with mosek_.conic_task(environment, program) as task:
        task.writedata(str(path))
    parts = read_cbf(path)
    n = sdp.n
    constant, of_lam, of_mu = (np.zeros((n + 1, n + 1)) for _ in range(3))
    for _, i, j, value in parts["DCOORD"][1:]:
        constant[int(i), int(j)] = constant[int(j), int(i)] = float(value)
    np.testing.assert_allclose(constant[:n, :n], sdp.form, rtol=1e-15)
    np.testing.assert_allclose(constant[n, :n], sdp.linear, rtol=1e-15)
    for _, variable, i, j, value in parts["HCOORD"][1:]:
        target = of_lam if int(variable) < n else of_mu
        target[int(i), int(j)] += float(value)
    np.testing.assert_allclose(of_lam[:n, :n], -np.eye(n))
    np.testing.assert_allclose(of_mu[n, :n] + of_mu[:n, n], -np.ones(n))
    assert of_mu[n, n] == 1.0


@pytest.mark.parametrize("number", range(len(PROBLEMS)))
def test_integer_models_have_the_optimum_of_the_search(environment, number):
    """The task's data, handed to Gurobi row by row."""
    gurobipy = pytest.importorskip("gurobipy")
    program = list(program_cases())[number]
    problem = PROBLEMS[number]
    try:
        gurobi = gurobipy.Env(params={"OutputFlag": 0})
    except gurobipy.GurobiError as error:
        pytest.skip(str(error))
    with gurobi, gurobipy.Model(env=gurobi) as model, mosek_.miqp_task(environment, program) as task:
        model.Params.MIPGap = 1e-9
        model.Params.FeasibilityTol = 1e-9
        count = task.getnumvar()
        x = model.addMVar(count, lb=-gurobipy.GRB.INFINITY)
        for i in range(count):
            key, low, high = task.getvarbound(i)
            if key in (mosek.boundkey.lo, mosek.boundkey.ra, mosek.boundkey.fx):
                x[i].LB = low
            if key in (mosek.boundkey.up, mosek.boundkey.ra, mosek.boundkey.fx):
                x[i].UB = high
            if task.getvartype(i) == mosek.variabletype.type_int:
                x[i].VType = "I"
        for row in range(task.getnumcon()):
            used, columns, values = task.getarow(row)
            left = np.array(values[:used]) @ x[np.array(columns[:used])]
            key, _, right = task.getconbound(row)
            model.addConstr(left == right if key == mosek.boundkey.fx else left <= right)
        matrix, offset, _ = affine_rows(task)
        start = 0
        for size in (task.getaccn(i) for i in range(task.getnumacc())):
            y = model.addMVar(size, lb=[0.0, 0.0, *[-gurobipy.GRB.INFINITY] * (size - 2)])
            model.addConstr(y == matrix[start : start + size] @ x + offset[start : start + size])
            model.addConstr(y[2:] @ y[2:] <= 2.0 * y[0] * y[1])
            start += size
        cost = np.zeros(count)
        task.getc(cost)
        model.setObjective(cost @ x + task.getcfix())
        model.optimize()
        assert model.ObjVal == pytest.approx(least_error(problem), rel=1e-4)


def test_incumbents_are_read(monkeypatch):
    """The best codes, put in by hand, come out; a bound that was never computed is none."""
    problem = integer(4)
    best = min(
        itertools.product(range(problem.qmin, problem.qmax + 1), repeat=4),
        key=lambda z: problem.error(np.array(z)).middle,
    )
    monkeypatch.setattr(
        mosek_, "_optimize", lambda task, _: task.putxx(mosek.soltype.itg, [*map(float, best), 0.0])
    )
    solution = mosek_.Mosek().solve_integer(problem, Options())
    assert solution.codes.tolist() == list(best)
    assert solution.bound is None


def test_unknown_parameters_are_refused():
    with pytest.raises(SolverError, match="MSK_NO_SUCH"):
        mosek_.Mosek().solve_integer(integer(), Options(extra={"MSK_NO_SUCH": 1}))


def unlicensed():
    return not mosek_.Mosek().licence().valid


@pytest.mark.skipif("unlicensed()")
def test_with_a_licence_it_agrees():
    problem = integer(8)
    assert pvq.solve(problem, "mosek", "exact").error_upper == pytest.approx(
        pvq.solve(problem).error_upper, rel=1e-6
    )


def test_without_a_licence_one_sentence_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("MOSEKLM_LICENSE_FILE", str(tmp_path / "none.lic"))
    if not unlicensed():
        pytest.skip("MOSEK has a licence from elsewhere")
    with pytest.raises(SolverError) as caught:
        pvq.solve(integer(), "mosek")
    text = str(caught.value)
    for words in ("mosek is installed", "no licence", "mosek.lic", "MOSEKLM_LICENSE_FILE", "native"):
        assert words in text
    assert text.count(". ") == 0
    assert Capability.BOX_HULL in mosek_.Mosek.capabilities

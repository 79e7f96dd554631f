"""Problems as others read them: the optimum of the file is that of the problem, by readers of their own."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from form_readers import offset_of, read_cbf, read_qubo, read_sdpa
from relaxations.conic_reference import conic_value
from truth import least_error

import pvqbounds as pvq
from pvqbounds.errors import InputError, OutputError
from pvqbounds.relaxations.miqp.binary import binary_program
from pvqbounds.relaxations.semidefinite import values_of_inputs
from pvqbounds.storage.problem_forms import PROBLEM_FORMS, problem_form

LEVELS = [-1.0, -0.3, 0.0, 0.45, 1.2]


def _gram(n: int = 5, positions: int = 40) -> np.ndarray:
    X = np.random.default_rng(3).standard_normal((positions, n)) @ np.diag(np.linspace(0.5, 2.0, n))
    X[:, 1] += X[:, 0]
    return X.T @ X / positions


def _weight(n: int = 5) -> np.ndarray:
    return np.random.default_rng(4).standard_normal(n)


def _binary() -> pvq.IntegerLeastSquares:
    A = np.random.default_rng(5).integers(-9, 10, (6, 6))
    return pvq.IntegerLeastSquares.from_quadratic(A + A.T, np.arange(6) - 2.5, 0, 1)


PROBLEMS = {
    "steps": pvq.IntegerLeastSquares(_gram(), _weight(), 0.4, -2, 1),
    "group scales": pvq.IntegerLeastSquares(
        _gram(), _weight(), [0.4, 0.4, 0.7, 0.7, 0.7], [-1, -1, 0, 0, 2], [1, 2, 3, 3, 2]
    ),
    "steps, nnz": pvq.IntegerLeastSquares(_gram(), _weight(), 0.4, -2, 1, nnz=2),
    "levels": pvq.CodebookLeastSquares(_gram(), _weight(), LEVELS),
    "lists of levels, pattern": pvq.CodebookLeastSquares(
        _gram(), _weight(), [LEVELS, [0.0, 1.0], LEVELS, [-0.5, 0.0], LEVELS], pattern=(1, 2)
    ),
    "pruning": pvq.SparseLeastSquares(_gram(), _weight(), nnz=2),
    "pruning, pattern": pvq.SparseLeastSquares(_gram(), _weight(), pattern=(1, 3)),
    "nothing pruned": pvq.SparseLeastSquares(_gram(), _weight(), nnz=5),
    "small numbers": pvq.IntegerLeastSquares(1e-3 * _gram(), 1e-2 * _weight(), 0.004, -2, 1),
    "binary": _binary(),
    "boxes": pvq.IntegerLeastSquares.from_quadratic(_gram(), [1.0, -2.0, 3.0, 0.3, 0.0], -3, [2, 1, 2, 1, 0]),
}
MIQP = ("mps", "lp")


def least(problem: pvq.LeastSquares) -> float:
    """The least error, or objective of a quadratic program, by brute force."""
    quadratic = getattr(problem, "quadratic", None)
    if quadratic is None:
        return least_error(problem)
    boxes = (range(low, high + 1) for low, high in zip(quadratic.low, quadratic.high, strict=True))
    return min(float(quadratic.value(np.array(z))) for z in itertools.product(*boxes))


def written(problem: pvq.LeastSquares, folder: Path, form: str) -> Path:
    path = folder / f"p{PROBLEM_FORMS[form].suffixes[0]}"
    pvq.save_problem(problem, path)
    return path


@pytest.mark.parametrize("form", MIQP)
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_integer_program_as_gurobi_reads_it(tmp_path, name, form):
    gurobipy = pytest.importorskip("gurobipy")
    problem = PROBLEMS[name]
    path = written(problem, tmp_path, form)
    with gurobipy.Env(params={"OutputFlag": 0}) as env, gurobipy.read(str(path), env=env) as model:
        model.Params.MIPGap = model.Params.MIPGapAbs = 0.0
        model.Params.FeasibilityTol = model.Params.IntFeasTol = 1e-9
        model.optimize()
        found = model.ObjVal + offset_of(path)
    assert found == pytest.approx(least(problem), rel=1e-6, abs=1e-8 * problem.signal.middle)


@pytest.mark.parametrize("form", MIQP)
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_integer_program_as_scip_reads_it(tmp_path, name, form):
    scip = pytest.importorskip("pyscipopt")
    problem = PROBLEMS[name]
    path = written(problem, tmp_path, form)
    model = scip.Model()
    model.hideOutput()
    model.readProblem(str(path))
    model.setParam("numerics/feastol", 1e-9)
    model.optimize()
    assert model.getStatus() == "optimal"
    found = model.getObjVal() + offset_of(path)
    assert found == pytest.approx(least(problem), rel=1e-5, abs=1e-6 * problem.signal.middle)


@pytest.mark.parametrize("form", MIQP)
@pytest.mark.parametrize("name", PROBLEMS)
def test_what_highs_reads_of_the_integer_program(tmp_path, name, form):
    highspy = pytest.importorskip("highspy")
    from pvqbounds.relaxations.miqp import plain_program

    problem = PROBLEMS[name]
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    assert highs.readModel(str(written(problem, tmp_path, form))) != highspy.HighsStatus.kError
    model, program = highs.getModel(), plain_program(problem)
    lp, hessian = model.lp_, model.hessian_
    names = {name: i for i, name in enumerate(lp.col_names_)}
    own = [
        names[
            f"{'zvu'[0 if problem.values.lattice is not None else 1 if problem.values.is_finite else 2]}{i}"
        ]
        for i in range(1, problem.n + 1)
    ]
    assert lp.num_col_ == len(program.q)
    assert lp.num_row_ == len(program.b)
    for mine, theirs in (
        (program.q, lp.col_cost_),
        (program.lower, lp.col_lower_),
        (program.upper, lp.col_upper_),
    ):
        assert np.array_equal(mine[: problem.n], np.array(theirs)[own])
    whole = [kind == highspy.HighsVarType.kInteger for kind in lp.integrality_] or [False] * lp.num_col_
    assert np.array_equal(program.integer[: problem.n], np.array(whole)[own])
    form_read = np.zeros((lp.num_col_, lp.num_col_))
    for j in range(hessian.dim_):
        for k in range(hessian.start_[j], hessian.start_[j + 1]):
            form_read[hessian.index_[k], j] = form_read[j, hessian.index_[k]] = hessian.value_[k]
    # it drops entries up to 1e-9, and one triangle of a rounded product is the file's
    assert np.allclose(form_read[np.ix_(own, own)], 2.0 * program.Q, rtol=1e-15, atol=1e-9)
    assert np.abs(form_read).sum() == pytest.approx(np.abs(form_read[np.ix_(own, own)]).sum())


def relaxed_elsewhere(problem: pvq.LeastSquares) -> float:
    """The relaxation's value by formulations that are not those of the files."""
    if problem.values.is_finite:
        return conic_value(problem)
    return pvq.solve(problem, solver="clarabel", method="relax", relaxation="perspective").error_lower


@pytest.mark.parametrize("form", ["cbf", "sdpa"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_relaxation_by_a_reader_of_its_own(tmp_path, name, form):
    problem = PROBLEMS[name]
    path = written(problem, tmp_path, form)
    value = {"cbf": read_cbf, "sdpa": read_sdpa}[form](path).value()
    bound = offset_of(path) - value  # CBF maximises, which its reader turns round
    room = 1e-6 * max(problem.signal.middle, 1e-3)  # tolerances of solvers are absolute, too
    assert bound <= least(problem) + room
    if getattr(problem, "quadratic", None) is None:
        wanted = relaxed_elsewhere(problem)
        assert bound == pytest.approx(wanted, rel=1e-5, abs=room)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_relaxation_as_mosek_reads_it(tmp_path, name):
    mosek = pytest.importorskip("mosek")
    problem = PROBLEMS[name]
    path = written(problem, tmp_path, "cbf")
    with mosek.Env() as env, env.Task() as task:
        task.readdata(str(path))
        own = read_cbf(path)
        assert task.getnumvar() == len(own.cost)
        assert task.getobjsense() == mosek.objsense.maximize
        cost = [task.getcj(j) for j in range(len(own.cost))]
        assert np.array_equal(cost, -own.cost)
        size = problem.n + 1
        assert task.getnumacc() == len(own.cones) + 1
        assert task.getaccn(task.getnumacc() - 1) == size * (size + 1) // 2


def test_tangents_of_many_codes_are_all_there(tmp_path):
    problem = pvq.IntegerLeastSquares(_gram(), _weight(), 0.01, -128, 127)
    path = written(problem, tmp_path, "cbf")
    bound = offset_of(path) - read_cbf(path).value(1e-10)
    wanted = pvq.solve(problem, method="relax", relaxation="box-hull").error_lower
    assert bound == pytest.approx(wanted, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("name", ["steps", "group scales", "small numbers", "binary", "boxes", "two levels"])
def test_bits_without_constraints(tmp_path, name):
    two = pvq.CodebookLeastSquares(_gram(), _weight(), [[-0.5, 0.7]] * 4 + [[0.2, 0.3]])
    problem = PROBLEMS.get(name, two)
    path = written(problem, tmp_path, "qubo")
    Q = read_qubo(path)
    points = np.array(list(itertools.product((0, 1), repeat=len(Q))), dtype=np.int64)
    values = np.einsum("ki,ij,kj->k", points, Q, points) + offset_of(path)
    assert values.min() == pytest.approx(least(problem), rel=1e-9, abs=1e-12 * problem.signal.middle)
    program = binary_program(problem)
    codes = program.codes(points[values.argmin()])
    known = (
        problem.quadratic.value(codes) if getattr(problem, "quadratic", None) else problem.error(codes).middle
    )
    assert float(known) == pytest.approx(values.min(), rel=1e-9, abs=1e-12 * problem.signal.middle)
    assert np.array_equal(program.codes(program.bits(codes)), codes)


def test_every_code_of_a_box_has_bits():
    for high in range(1, 40):
        problem = pvq.IntegerLeastSquares(np.eye(1), [0.0], 1.0, 0, high)
        program = binary_program(problem)
        said = {int(program.codes(np.array(y))[0]) for y in itertools.product((0, 1), repeat=len(program.Q))}
        assert said == set(range(high + 1))
        assert len(set(program.names)) == len(program.Q)


def test_npz_is_the_problem_itself(tmp_path):
    for name, problem in PROBLEMS.items():
        again = pvq.load_problem(written(problem, tmp_path, "npz"))
        assert np.array_equal(again.gram, problem.gram), name
        assert np.array_equal(again.weight, problem.weight), name
        assert again.n == problem.n
        assert str(again.rule) == str(problem.rule)
        assert type(again) is type(problem)
        arrays, wanted = again.values.arrays, problem.values.arrays
        assert arrays.keys() == wanted.keys()
        assert all(np.array_equal(arrays[part], wanted[part]) for part in wanted), name


def test_every_form_is_found_by_suffix_and_by_name(tmp_path):
    for name, form in PROBLEM_FORMS.items():
        assert problem_form("x", name) is form
        for suffix in form.suffixes:
            assert problem_form(f"a.b{suffix}") is form
            assert problem_form(f"A{suffix.upper()}") is form


SINGULAR = pvq.SparseLeastSquares(_gram(positions=3), _weight(), nnz=2)
FREE = pvq.AnyScaleLeastSquares(_gram(), _weight(), -2, 1)


@pytest.mark.parametrize(
    ("problem", "file", "form", "says"),
    [
        (PROBLEMS["steps"], "p.txt", None, r"let its name end in one of \.npz"),
        (PROBLEMS["steps"], "p.txt", "mp", "did you mean mps"),
        (SINGULAR, "p.lp", None, "cbf, sdpa and npz can"),
        (SINGULAR, "p.mps", None, "cbf, sdpa and npz can"),
        (PROBLEMS["pruning"], "p.qubo", None, "as mps or lp"),
        (PROBLEMS["levels"], "p.qubo", None, "as mps or lp"),
        (FREE, "p.cbf", None, "fix the scale, or take npz"),
        (FREE, "p.dat-s", None, "fix the scale, or take npz"),
        (FREE, "p.lp", None, "fix the scale, or take npz"),
        (FREE, "p.qubo", None, "fix the scale, or take npz"),
        (pvq.IntegerLeastSquares(np.eye(4), np.ones(4), 1e-5, -(2**20), 2**20), "p.cbf", None, "mps or lp"),
        (4, "p.lp", None, "A problem is"),
    ],
)
def test_what_cannot_be_written_is_one_sentence(tmp_path, problem, file, form, says):
    with pytest.raises(InputError, match=says) as error:
        pvq.save_problem(problem, tmp_path / file, form)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path):
    for form in PROBLEM_FORMS.values():
        with pytest.raises(OutputError, match="cannot be written"):
            pvq.save_problem(PROBLEMS["binary"], tmp_path / "missing" / f"p{form.suffixes[0]}")


def test_a_singular_gram_has_its_relaxation(tmp_path):
    path = written(SINGULAR, tmp_path, "cbf")
    assert offset_of(path) - read_cbf(path).value() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("form", ["mps", "lp"])
def test_a_definite_gram_far_from_one_is_not_called_singular(tmp_path, form):
    gram = np.eye(3) + 0.1
    for power, size in ((-150, 60), (-250, 120), (200, -100)):
        far = pvq.SparseLeastSquares(10.0**power * gram, np.full(3, 10.0**size), nnz=1)
        pvq.save_problem(far, tmp_path / f"far.{form}")
    with pytest.raises(InputError, match="singular"):
        pvq.save_problem(pvq.SparseLeastSquares(np.ones((3, 3)), np.ones(3), nnz=1), tmp_path / f"s.{form}")


@pytest.mark.parametrize(("path", "form"), [(None, None), ([], None), ("p.lp", 5), ("p.lp", ["lp"])])
def test_what_is_no_path_and_no_form_is_one_sentence(path, form):
    with pytest.raises(InputError, match="must be"):
        pvq.save_problem(PROBLEMS["steps"], path, form)


def test_values_of_inputs_are_those_of_their_codes():
    problem = pvq.IntegerLeastSquares(np.eye(2), [0.0, 0.0], [0.1, 0.3], [-(2**15), 0], [2**15 - 1, 1])
    inputs, codes, numbers = values_of_inputs(problem.values)
    assert np.array_equal(inputs, np.repeat([0, 1], [2**16, 2]))
    assert np.array_equal(codes, [*range(-(2**15), 2**15), 0, 1])
    assert np.array_equal(numbers, np.array([0.1, 0.3])[inputs] * codes)

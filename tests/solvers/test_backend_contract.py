"""What every backend owes: our options under its own names, and an end where one is asked for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from test_miqp_backends import integer, usable
from truth import real_valued

import pvqbounds as pvq
from pvqbounds.commands import console
from pvqbounds.errors import InputError, SolverError
from pvqbounds.solvers import BACKENDS, backend_named
from pvqbounds.solvers.base import Capability, Options
from pvqbounds.solvers.cone.conic import ConicSolution
from pvqbounds.storage.problem_files import write_npz

TELLTALE = {"time_limit": 17.0, "threads": 3, "tolerance": 3e-5, "seed": 2**40 + 5}
"""Our options; the seed is larger than most solvers take."""

EXPECTED = {
    "clarabel": {
        "time_limit": 17.0,
        "max_threads": 3,
        "tol_gap_abs": 3e-5,
        "tol_gap_rel": 3e-5,
        "tol_feas": 3e-5,
        "verbose": False,
        "max_iter": 7,
    },
    "scs": {
        "time_limit_secs": 17.0,
        "eps_abs": 3e-5,
        "eps_rel": 3e-5,
        "verbose": False,
        "max_iters": 7,
    },
    "gurobi": {"TimeLimit": 17.0, "Threads": 3, "MIPGap": 3e-5, "Seed": 5, "NodeLimit": 7},
    "highs": {
        "threads": 3,
        "mip_rel_gap": 0.1 * 3e-5,
        "random_seed": 5,
        "output_flag": False,
        "simplex_iteration_limit": 7,
    },
    "scip": {
        "limits/time": 17.0,
        "limits/gap": 3e-5,
        "randomization/randomseedshift": 5,
        "limits/nodes": 7,
    },
    "mosek": {
        "MSK_DPAR_OPTIMIZER_MAX_TIME": "17.0",
        "MSK_IPAR_NUM_THREADS": "3",
        "MSK_IPAR_MIO_SEED": "5",
        "MSK_DPAR_MIO_TOL_REL_GAP": "3e-05",
        "MSK_DPAR_INTPNT_CO_TOL_REL_GAP": "3e-05",
        "MSK_IPAR_INTPNT_MAX_ITERATIONS": "7",
    },
}
"""Theirs, the last one passed on by name."""


class Recorder:
    """Notes what is set on a solver's object, by whatever means it has."""

    def __init__(self, inner=None):
        object.__setattr__(self, "seen", {})
        object.__setattr__(self, "inner", inner)

    def __setattr__(self, name, value):
        self.seen[name] = value

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def note(self, name, value):
        self.seen[name] = value


def settings_of(solver, options, monkeypatch):
    """The settings that the backend makes of our options."""
    extra = dict([list(EXPECTED[solver].items())[-1]])
    if solver == "mosek":
        extra = {name: int(value) for name, value in extra.items()}
    options = Options(**options, extra=extra)
    recorder = Recorder()
    if solver == "clarabel":
        import clarabel

        from pvqbounds.solvers.cone.clarabel_ import Clarabel

        settings = Clarabel()._settings(options)
        assert isinstance(settings, type(clarabel.DefaultSettings()))
        return {name: getattr(settings, name) for name in EXPECTED["clarabel"]}
    if solver == "scs":
        import scs

        def record(data, cone, **settings):
            recorder.seen.update(settings)
            raise ValueError("enough is known")

        monkeypatch.setattr(scs, "SCS", record)
        with pytest.raises(SolverError, match="enough"):
            pvq.solve(integer(4), "scs", **TELLTALE, solver_options=extra)
        return recorder.seen
    if solver == "highs":
        import highspy

        true = highspy.Highs.setOptionValue

        def note(self, name, value):
            recorder.note(name, value)
            return true(self, name, value)

        monkeypatch.setattr(highspy.Highs, "setOptionValue", note)
        gram, weight = real_valued(1, 6)
        pvq.solve(
            pvq.SparseLeastSquares(gram, weight, nnz=2), "highs", "relax", **TELLTALE, solver_options=extra
        )
        return recorder.seen
    if solver == "gurobi":
        from pvqbounds.relaxations.miqp import integer_program
        from pvqbounds.solvers.miqp import gurobi_

        recorder.__dict__["setParam"] = recorder.note
        gurobi_._set_parameters(recorder, integer_program(integer(3)), options, options.tolerance)
    elif solver == "scip":
        from pvqbounds.solvers.miqp import scip_

        recorder.__dict__["setParam"] = recorder.note
        scip_._set_parameters(recorder, options, options.tolerance)
    else:
        from pvqbounds.solvers import mosek_

        recorder.__dict__["putparam"] = recorder.note
        mosek_._set_parameters(recorder, options, options.tolerance)
    return recorder.seen


@pytest.mark.parametrize("solver", EXPECTED)
def test_our_options_become_the_solvers_own(solver, monkeypatch):
    pytest.importorskip({"gurobi": "gurobipy", "highs": "highspy", "scip": "pyscipopt"}.get(solver, solver))
    seen = settings_of(solver, TELLTALE, monkeypatch)
    expected = EXPECTED[solver]
    if solver == "scs":  # asked by way of `solve`, so that a little of the time has passed
        left = seen["time_limit_secs"]
        assert expected["time_limit_secs"] - 5.0 < left <= expected["time_limit_secs"]
        expected = expected | {"time_limit_secs": left}
    assert {name: seen.get(name) for name in expected} == expected


@pytest.mark.parametrize("name", ["SCS", "CLARABEL", "SCIP", "GUROBI"])
def test_our_options_reach_solvers_through_cvxpy(name, monkeypatch):
    cvxpy = pytest.importorskip("cvxpy")
    from pvqbounds.solvers.cvxpy_ import THEIR_NAMES, cvxpy_backend

    seen = {}

    def record(self, **arguments):
        seen.update(arguments)
        raise RuntimeError("enough is known")

    monkeypatch.setattr(cvxpy.Problem, "solve", record)
    with pytest.raises(pvq.SolverFailedError, match="enough is known"):
        cvxpy_backend(f"cvxpy:{name}")._solve(
            cvxpy.Problem(cvxpy.Minimize(0)), Options(**TELLTALE, extra={"extra": 1})
        )
    assert (seen.pop("solver"), seen.pop("verbose"), seen.pop("extra")) == (name, False, 1)
    flat = {
        (f"{outer}/{inner}" if inner else outer): value
        for outer, values in seen.items()
        for inner, value in (values.items() if isinstance(values, dict) else [("", values)])
    }
    wanted = {"time_limit": 17.0, "threads": 3, "tolerance": 3e-5, "small_seed": 5}
    assert flat == {path: wanted[ours] for path, ours in THEIR_NAMES[name].items()}


def test_cvxpys_other_solvers_take_a_tolerance_by_their_own_name_only():
    cvxpy = pytest.importorskip("cvxpy")
    from pvqbounds.solvers.cvxpy_ import cvxpy_backend

    with pytest.raises(SolverError, match="by the name that CVXPY"):
        cvxpy_backend("cvxpy:CVXOPT")._solve(cvxpy.Problem(cvxpy.Minimize(0)), Options(tolerance=1e-3))


@pytest.mark.parametrize("solver", ["clarabel", "scs", "gurobi", "highs"])
def test_a_tolerance_changes_the_accuracy(solver):
    usable(solver, Capability.PERSPECTIVE)
    gram, weight = real_valued(2, 16)
    problem = pvq.SparseLeastSquares(gram, weight, nnz=5)
    fine, rough = (pvq.solve(problem, solver, "relax", tolerance=t) for t in (1e-7, 0.3))
    assert rough.reported_lower != fine.reported_lower
    for bounds in (fine, rough):
        assert pvq.verify(problem, bounds)


@pytest.mark.parametrize("tolerance", [0.0, -1.0, 1.0, np.nan, "1e-3"])
def test_tolerances_that_cannot_be_used(tolerance):
    with pytest.raises(InputError, match="tolerance"):
        pvq.solve(integer(3), tolerance=tolerance)


def test_every_backend_states_its_accuracy():
    for module, name in BACKENDS.values():
        backend = getattr(__import__(module, fromlist=[name]), name)
        assert 0.0 < backend.tolerance < 1e-3
        assert 0.0 < backend.accuracy < 1e-2


# --------------------------------------------------------------------------- the command line


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-2", -2),
        ("1e-4", 1e-4),
        ("0.5", 0.5),
        ("true", True),
        ("False", False),
        ("big-M", "big-M"),
    ],
)
def test_values_of_options(text, value):
    (parsed,) = console.solver_options_of([f"name={text}"]).values()
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize("text", ["name", "=1", "name=", ""])
def test_options_that_are_none(text):
    with pytest.raises(InputError, match="NAME=VALUE"):
        console.solver_options_of([text])


def test_options_of_several_solvers():
    both = console.options_by_solver(["gurobi:MIPGap=0.1", "cvxpy:SCS:eps=1"], ["gurobi", "cvxpy:SCS"])
    assert both == {"gurobi": {"MIPGap": 0.1}, "cvxpy:SCS": {"eps": 1}}
    assert console.options_by_solver(["limits/nodes=3"], ["scip"]) == {"scip": {"limits/nodes": 3}}
    for text in ("MIPGap=1", "scip:MIPGap=1"):
        with pytest.raises(InputError, match="SOLVER:NAME=VALUE"):
            console.options_by_solver([text], ["gurobi", "highs"])
    with pytest.raises(InputError, match="twice"):
        console.solver_options_of(["a=1", "a=2"])


def test_options_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_npz(integer(5), "q.npz")
    assert run("solve", "q.npz", "--solver", "scs", "--solver-option", "no_such=1") == 2
    assert "no_such" in capsys.readouterr().err
    assert run("solve", "q.npz", "--solver", "scs", "--solver-option", "max_iters=5") == 0
    assert "inaccurate" in capsys.readouterr().out.replace("\n", " ")
    assert run("solve", "q.npz", "--solver-option", "a=1") == 2
    assert "no options of its own" in capsys.readouterr().err
    assert run("solve", "q.npz", "--tolerance", "2") == 2
    assert "tolerance" in capsys.readouterr().err


def test_options_reach_the_solver_of_a_layer(capsys):
    pytest.importorskip("torch")
    layer = ["layer", "--layer", "block1.0", "--out-channels", "1", "--solver", "scs"]
    assert run(*layer, "--solver-option", "no_such=1") == 2
    assert "no_such" in capsys.readouterr().err
    # SCS does both sides; HiGHS only one, and the native side must not see its options
    usable("highs", Capability.EXACT_PRUNING)
    layer = ["layer", "--layer", "block1.0", "--out-channels", "1", "--solver", "highs", "--method", "relax"]
    assert run(*layer, "--solver-option", "simplex_iteration_limit=100000") == 0
    assert "native relax" in " ".join(capsys.readouterr().out.split())


# ----------------------------------------------------------------------------------- stopping

INTERRUPTED = {
    "gurobi": integer(60, bits=4),
    "scip": integer(60, bits=4),
    "highs": pvq.SparseLeastSquares(*real_valued(0, 36), nnz=9),
    "clarabel": integer(72, bits=4),
    "scs": integer(220, bits=4),
}
"""Problems that take the solver far longer than a second."""

STOPPED = {
    "gurobi": Capability.EXACT_QUANTIZATION,
    "scip": Capability.EXACT_QUANTIZATION,
    "highs": Capability.EXACT_PRUNING,
    "clarabel": Capability.BOX_HULL,
    "scs": Capability.BOX_HULL,
}


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(
    "solver",
    [
        "gurobi",
        "highs",
        "scs",
        pytest.param("clarabel", marks=pytest.mark.long),
        pytest.param("scip", marks=pytest.mark.long),
    ],
)
def test_ctrl_c_stops_the_solve_and_leaves_no_file(solver, tmp_path):
    usable(solver, STOPPED[solver])
    write_npz(INTERRUPTED[solver], tmp_path / "p.npz")
    method = {"gurobi": "solve_miqp", "scip": "solve_miqp", "highs": "solve_sparse"}.get(
        solver, "solve_conic"
    )
    script = (
        "from pvqbounds import cli, solvers\n"
        f"backend = type(solvers.backend_named({solver!r}, *solvers.Capability))\n"
        f"true = backend.{method}\n"
        "def begun(*arguments):\n"
        "    print('ready', flush=True)\n"
        "    return true(*arguments)\n"
        f"backend.{method} = begun\n"
        f"cli.main(['solve', 'p.npz', '--solver', {solver!r}, '--json', 'r.json'])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    output, log = process.communicate(timeout=60.0)
    assert process.returncode == 130, log
    assert "SQNR" not in output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.npz"]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_while_several_channels_are_solved():
    usable("highs", Capability.EXACT_PRUNING)
    script = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from truth import real_valued\n"
        "import pvqbounds as pvq\n"
        "problems = [pvq.SparseLeastSquares(*real_valued(seed, 36), nnz=9) for seed in range(4)]\n"
        "print('ready', flush=True)\n"
        "pvq.solve_channels(problems, solver='highs', method='exact', jobs=2, time_limit=100.0)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(2.0)
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=60.0)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in log


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_process_that_is_killed_leaves_no_file(tmp_path):
    usable("scs", Capability.BOX_HULL)
    write_npz(INTERRUPTED["scs"], tmp_path / "p.npz")
    command = [Path(sys.executable).with_name("pvqbounds"), "solve", "p.npz", "--solver", "scs"]
    process = subprocess.Popen([*command, "--json", "r.json"], stdout=subprocess.DEVNULL, cwd=tmp_path)
    time.sleep(1.5)
    process.kill()
    process.wait(timeout=10.0)
    assert [path.name for path in tmp_path.iterdir()] == ["p.npz"]


def test_a_solver_that_breaks_on_one_channel_does_not_lose_the_others(monkeypatch):
    """That channel keeps the interval that needs no solver, and says why."""
    begun = []

    def solve_conic(self, program, options):
        begun.append(program)
        if len(begun) == 2:
            raise pvq.SolverFailedError("it was killed")
        return ConicSolution(np.zeros(len(program.cost)), np.zeros(len(program.offset)), "solved")

    backend = type(backend_named("scs", Capability.BOX_HULL))
    monkeypatch.setattr(backend, "solve_conic", solve_conic)
    problems = [integer(4, seed=k) for k in range(6)]
    for jobs in (1, 2):
        begun.clear()
        found = pvq.solve_channels(problems, solver="scs", jobs=jobs)
        assert sum("it was killed" in bounds.note for bounds in found) == 1
        assert all(pvq.verify(problem, bounds) for problem, bounds in zip(problems, found, strict=True))


def test_a_solver_that_cannot_go_on_ends_the_others(monkeypatch):
    """What no channel could do is raised, from any thread, and what was not begun is not begun."""
    begun = []

    def solve_conic(self, program, options):
        begun.append(program)
        raise pvq.SolverError("its licence has run out")

    backend = type(backend_named("scs", Capability.BOX_HULL))
    monkeypatch.setattr(backend, "solve_conic", solve_conic)
    for jobs in (1, 2):
        begun.clear()
        with pytest.raises(pvq.SolverError, match="licence"):
            pvq.solve_channels([integer(4, seed=k) for k in range(20)], solver="scs", jobs=jobs)
        assert len(begun) <= 3


@pytest.mark.parametrize("solver", ["clarabel", "scs", "gurobi", "highs", "scip"])
def test_channels_in_parallel_agree_with_one_by_one(solver):
    method = "exact" if solver == "scip" else "relax"
    usable(solver, Capability.EXACT_PRUNING if method == "exact" else Capability.PERSPECTIVE)
    problems = [pvq.SparseLeastSquares(*real_valued(seed, 8), nnz=2) for seed in range(5)]
    alone, together = (
        pvq.solve_channels(problems, solver=solver, method=method, jobs=jobs) for jobs in (1, 3)
    )
    assert [b.solver for b in together] == [solver] * 5
    for one, other in zip(alone, together, strict=True):
        assert other.error_upper == one.error_upper
        assert other.error_lower == pytest.approx(one.error_lower, rel=1e-6)


@pytest.mark.parametrize("solver", ["clarabel", "scs"])
def test_a_conic_solver_at_its_time_limit_says_so(solver):
    for problem in (integer(30), pvq.SparseLeastSquares(*real_valued(0, 30), nnz=8)):
        try:
            bounds = pvq.solve(problem, solver, "relax", time_limit=0.02)
        except pvq.SolverFailedError as error:
            assert "time" in str(error).lower() or "inaccurate" in str(error).lower()  # noqa: PT017
            continue
        assert bounds.note
        assert bounds.lower_kind == "certified"
        assert pvq.verify(problem, bounds)


@pytest.mark.parametrize("solver", ["clarabel", "scs"])
def test_inaccurate_and_not_a_number(solver, monkeypatch):
    """Planted: the status goes into the note, NaN multipliers are a failure of one sentence."""
    backend = type(backend_named(solver, Capability.BOX_HULL))
    true = backend.solve_conic
    worse = {"factor": 1.0}

    def solve_conic(self, program, options):
        solution = true(self, program, options)
        return ConicSolution(worse["factor"] * solution.x, solution.dual, "solved (inaccurate)")

    monkeypatch.setattr(backend, "solve_conic", solve_conic)
    for problem in (integer(6), pvq.SparseLeastSquares(*real_valued(0, 6), nnz=2)):
        best = pvq.solve(problem).error_upper
        for factor in (1.0, 1.01, 3.0, -1.0, 0.0):
            worse["factor"] = factor
            bounds = pvq.solve(problem, solver, "relax")
            assert bounds.note == "solved (inaccurate)"
            assert bounds.lower_kind == "certified"
            assert 0.0 <= bounds.error_lower <= best <= bounds.error_upper
            assert pvq.verify(problem, bounds)
        worse["factor"] = np.nan
        with pytest.raises(pvq.SolverFailedError, match="no usable multipliers"):
            pvq.solve(problem, solver, "relax")

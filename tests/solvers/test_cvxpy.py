"""Solvers through CVXPY: named, described by CVXPY itself, and certified like any other."""

from __future__ import annotations

import numpy as np
import pytest
from test_miqp_backends import integer
from truth import real_valued

import pvqbounds as pvq
from pvqbounds.solvers import backend_named
from pvqbounds.solvers.base import Capability
from pvqbounds.solvers.cvxpy_ import cvxpy_backend

cvxpy = pytest.importorskip("cvxpy")


def test_capabilities_are_cvxpys_own():
    assert cvxpy_backend("cvxpy:scs").capabilities == {Capability.BOX_HULL, Capability.PERSPECTIVE}
    assert cvxpy_backend("cvxpy:OSQP").capabilities == frozenset()
    assert Capability.EXACT_PRUNING in cvxpy_backend("cvxpy:SCIP").capabilities
    with pytest.raises(pvq.InputError, match=r"no solver 'NOSUCH'.*CLARABEL"):
        pvq.solve(integer(3), "cvxpy:nosuch")
    with pytest.raises(pvq.SolverError, match="neither"):
        pvq.solve(integer(3), "cvxpy:OSQP")


def test_the_relaxations_agree():
    quantization = integer(6)
    gram, weight = real_valued(1, 8)
    for problem in (quantization, pvq.SparseLeastSquares(gram, weight, nnz=3)):
        theirs = pvq.solve(problem, "cvxpy:CLARABEL", "relax")
        own = pvq.solve(problem, method="relax", relaxation=theirs.relaxation)
        assert theirs.solver == "cvxpy:CLARABEL"
        assert theirs.error_lower == pytest.approx(own.error_lower, rel=2e-3)
        assert theirs.reported_lower == pytest.approx(own.error_lower, rel=2e-3)
        assert theirs.error_lower <= own.error_upper
        assert pvq.verify(problem, theirs)


@pytest.mark.parametrize("name", ["SCIP", "GUROBI"])
def test_exact_methods_agree(name):
    if name not in cvxpy.installed_solvers():
        pytest.skip(f"{name} is not installed")
    gram, weight = real_valued(1, 8)
    for problem in (integer(5), pvq.SparseLeastSquares(gram, weight, nnz=3)):
        truth = pvq.solve(problem)
        bounds = pvq.solve(problem, f"cvxpy:{name}", "exact")
        assert bounds.error_upper == pytest.approx(truth.error_upper, rel=1e-6)
        assert bounds.reported_lower == pytest.approx(truth.error_upper, rel=1e-3)
        assert (bounds.method, bounds.lower_kind) == ("exact", "certified")


def test_a_solver_that_raises_is_one_sentence(monkeypatch):
    def fail(self, **arguments):
        raise RuntimeError("no such thing\nand a trace")

    monkeypatch.setattr(cvxpy.Problem, "solve", fail)
    with pytest.raises(pvq.SolverFailedError, match=r"cvxpy:SCS stopped.*no such thing\).*native"):
        pvq.solve(integer(3), "cvxpy:SCS")


def test_it_is_not_installed(monkeypatch):
    from pvqbounds.solvers import cvxpy_

    monkeypatch.setattr(cvxpy_, "find_spec", lambda name: None)
    with pytest.raises(pvq.SolverError, match="pip install cvxpy"):
        backend_named("cvxpy:SCS", Capability.BOX_HULL)


def test_an_incumbent_without_a_bound_is_certified(monkeypatch):
    from pvqbounds.solvers.miqp.programs import MIQPSolution

    problem = integer(5)
    backend = cvxpy_backend("cvxpy:GUROBI")
    monkeypatch.setattr(type(backend).__mro__[1], "available", lambda self: True)
    monkeypatch.setattr(type(backend).__mro__[1], "licence", lambda self: pvq.solvers.Licence(True, ""))
    found = MIQPSolution(np.zeros(5), None, "user_limit")
    monkeypatch.setattr(type(backend).__mro__[1], "solve_miqp", lambda self, program, options: found)
    bounds = pvq.solve(problem, "cvxpy:GUROBI", "exact")
    assert bounds.lower_kind == "certified"
    assert bounds.reported_lower is None
    assert bounds.note == "user_limit"

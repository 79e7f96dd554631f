"""dimod's models in and out, and the sampler, by dimod's own exact solver and test helpers."""

from __future__ import annotations

import itertools
import unittest

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.errors import InputError

dimod = pytest.importorskip("dimod")

from pvqbounds.dimod_models import PvqSampler, model_of, problem_of  # noqa: E402
from pvqbounds.relaxations.miqp.binary import binary_program  # noqa: E402


@dimod.testing.load_sampler_bqm_tests(PvqSampler, max_num_variables=12)
class TestSamplerAsDimodTestsIt(unittest.TestCase):
    pass


def test_the_interface_of_a_sampler():
    sampler = PvqSampler()
    dimod.testing.assert_sampler_api(sampler)
    assert {"time_limit", "seed", "method"} <= sampler.parameters.keys()


def random_model(seed, vartype):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 11))
    draw = (lambda *k: rng.integers(-9, 10, *k)) if rng.random() < 0.5 else rng.standard_normal
    pairs = [pair for pair in itertools.combinations(range(n), 2) if rng.random() < 0.7]
    linear = {f"x{i}": float(draw(1)[0]) for i in range(n)}
    quadratic = {(f"x{i}", f"x{j}"): float(draw(1)[0]) for i, j in pairs}
    return dimod.BinaryQuadraticModel(linear, quadratic, float(draw(1)[0]), vartype)


@pytest.mark.parametrize("vartype", ["BINARY", "SPIN"])
@pytest.mark.parametrize("seed", range(12))
def test_the_least_energy_is_that_of_dimods_exact_solver(seed, vartype):
    model = random_model(seed, vartype)
    truth = dimod.ExactSolver().sample(model).first.energy
    found = PvqSampler().sample(model, time_limit=20.0)
    assert found.vartype is model.vartype
    assert len(found) == 1
    assert found.info["lower_kind"] == "certified"
    assert found.info["energy_lower"] <= found.first.energy + 1e-12 * abs(truth)
    assert found.first.energy == pytest.approx(truth, abs=1e-9)
    assert found.info["energy_lower"] == pytest.approx(truth, rel=1e-5, abs=1e-5)
    assert found.info["energy_lower"] <= truth + 1e-12 * abs(truth)


def test_what_rounding_a_spin_model_may_lose_is_taken_off():
    # 4J and the sum of the linear parts differ by 2^60: the bits' coefficients cannot hold both
    model = dimod.BinaryQuadraticModel({"a": 2.0**60, "b": 3.0}, {("a", "b"): 1.0}, 0.0, "SPIN")
    asked = problem_of(model)
    assert asked.doubt > 0
    info = PvqSampler().sample(model).info
    exact = min(2**60 * a + 3 * b + a * b for a, b in itertools.product((-1, 1), repeat=2))
    assert info["energy_lower"] <= exact <= info["energy_upper"]
    assert problem_of(random_model(0, "BINARY")).doubt == 0


@pytest.mark.parametrize(
    "problem",
    [
        pvq.IntegerLeastSquares(np.diag([1.0, 2.0, 3.0]) + 0.5, [0.4, -0.3, 0.8], 0.3, -3, 2),
        pvq.CodebookLeastSquares(np.diag([1.0, 2.0, 3.0]) + 0.5, [0.4, -0.3, 0.8], [-0.5, 0.5]),
        pvq.IntegerLeastSquares.from_quadratic([[1, 2], [2, -3]], [0.5, 1.0], 0, 1),
    ],
)
def test_the_energy_of_a_model_is_the_error(problem):
    model = model_of(problem)
    program = binary_program(problem)
    best = dimod.ExactSolver().sample(model).first
    codes = program.codes(np.array([best.sample[name] for name in program.names]))
    bounds = pvq.solve(problem)
    if problem.values.lattice is not None and getattr(problem, "quadratic", None) is not None:
        assert best.energy == pytest.approx(float(problem.quadratic.value(bounds.codes)))
        assert best.energy == pytest.approx(float(problem.quadratic.value(codes)))
    else:
        assert best.energy == pytest.approx(bounds.error_upper)
        assert best.energy == pytest.approx(problem.error(codes).middle)


def test_inputs_of_one_value_have_no_variable():
    problem = pvq.IntegerLeastSquares(np.eye(2), [0.3, 0.4], 0.5, [1, 0], [1, 3])
    model = model_of(problem)
    assert list(model.variables) == ["y2_1", "y2_2"]
    assert model.energy({"y2_1": 1, "y2_2": 0}) == pytest.approx(problem.error(np.array([1, 1])).middle)
    alone = model_of(pvq.IntegerLeastSquares(np.eye(1), [0.3], 0.5, 1, 1))
    assert len(alone.variables) == 0
    assert alone.offset == pytest.approx(0.04)


def test_there_and_back():
    model = random_model(3, "BINARY")
    again = model_of(problem_of(model).problem)
    names = dict(zip(again.variables, model.variables, strict=True))
    again.relabel_variables(names)
    again.offset += model.offset
    dimod.testing.assert_bqm_almost_equal(model, again, ignore_zero_interactions=True)


def test_a_short_limit_leaves_an_interval():
    rng = np.random.default_rng(0)
    A = rng.integers(-50, 51, (90, 90))
    model = dimod.BinaryQuadraticModel(np.triu(A), "BINARY")
    found = PvqSampler().sample(model, time_limit=0.05)
    info = found.info
    assert info["status"] in ("bounded", "optimal")
    # no sample of any kind has less energy, and the bound is not the trivial one
    some = model.energies((rng.integers(0, 2, (500, 90)), range(90)))
    assert -np.abs(np.triu(A)).sum() < info["energy_lower"] <= info["energy_upper"] <= some.min()
    assert info["energy_upper"] == pytest.approx(found.first.energy)


def test_wrong_models_and_options_are_one_sentence():
    with pytest.raises(InputError, match="must be a dimod"):
        problem_of({"a": 1})
    with pytest.raises(InputError, match="fix the scale"):
        model_of(pvq.AnyScaleLeastSquares(np.eye(2), [0.3, 0.4], -1, 0))
    with pytest.raises(InputError, match="no variable"):
        problem_of(dimod.BinaryQuadraticModel("SPIN"))
    with pytest.raises(InputError, match="finite"):
        problem_of(dimod.BinaryQuadraticModel({"a": float("nan")}, {}, 0.0, "SPIN"))
    for model in (random_model(0, "SPIN"), dimod.BinaryQuadraticModel("SPIN")):
        with pytest.raises(InputError, match="no option 'num_reads'"):
            PvqSampler().sample(model, num_reads=10)
        with pytest.raises(InputError, match="time limit"):
            PvqSampler().sample(model, time_limit=-1.0)
    with pytest.raises(InputError, match="must be a dimod"):
        PvqSampler().sample(5)
    with pytest.raises(InputError, match="finite"):
        PvqSampler().sample(dimod.BinaryQuadraticModel({}, {}, float("nan"), "SPIN"))
    with pytest.raises(InputError, match="range of float64"):
        PvqSampler().sample(dimod.BinaryQuadraticModel({0: 1.0, 1: 0.0}, {(0, 1): 1e308}, 0.0, "SPIN"))
    for odd in (10**400, 1j, "x"):
        model = dimod.BinaryQuadraticModel({"a": odd}, {}, 0.0, "BINARY", dtype=object)
        with pytest.raises(InputError, match="real numbers"):
            problem_of(model)
    with pytest.raises(InputError):
        model_of(5)


def test_a_model_without_variables_says_as_much_as_any():
    full = PvqSampler().sample(random_model(0, "SPIN")).info
    info = PvqSampler().sample(dimod.BinaryQuadraticModel({}, {}, 2.5, "SPIN")).info
    assert info.keys() == full.keys()
    assert info["energy_lower"] == info["energy_upper"] == 2.5

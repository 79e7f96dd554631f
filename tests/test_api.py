"""Whatever a backend says, the result is true."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from truth import least_integer_error, least_sparse_error, random_integer_problem

import pvqbounds as pvq
from pvqbounds import solvers
from pvqbounds.arithmetic.enclosures import Enclosure
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.solvers.base import Backend, Capability, ExactSolution, Licence, SDPSolution
from pvqbounds.solvers.native.quantization.certificate import SearchCertificate


@pytest.fixture
def problem():
    rng = np.random.default_rng(8)
    X = rng.standard_normal((30, 6))
    return pvq.IntegerLeastSquares(X.T @ X / 30, rng.standard_normal(6), 0.5, -2, 1)


def plant(monkeypatch, **answers):
    """Register a backend "liar" whose solves return the given answers."""

    class Liar(Backend):
        name = "liar"
        module = "math"
        install = "nothing"
        capabilities = frozenset(Capability)
        citation = ""

        def licence(self):
            return answers.get("licence", Licence(True, "free"))

        def solve_sdp(self, sdp, options):
            return answers["sdp"](sdp)

        def solve_integer(self, problem, options):
            return answers["exact"](problem)

        def solve_sparse(self, problem, options):
            return answers["exact"](problem)

    monkeypatch.setattr(sys.modules[__name__], "Liar", Liar, raising=False)
    monkeypatch.setitem(solvers.BACKENDS, "liar", (__name__, "Liar"))


@pytest.mark.parametrize("factor", [0.0, 1.0, 10.0, 1e6, -3.0, np.nan, np.inf])
def test_false_multipliers_and_values_are_caught(monkeypatch, problem, factor):
    truth = pvq.solve(problem)

    def lie(sdp):
        return SDPSolution(
            lam=np.full(sdp.n, factor),
            nu=np.full(sdp.n, -factor),
            value=1e9,
            mean=np.zeros(sdp.n),
            covariance=np.eye(sdp.n),
            status="optimal",
        )

    plant(monkeypatch, sdp=lie)
    bounds = pvq.solve(problem, "liar", "relax")
    assert bounds.lower_kind == "certified"
    assert 0.0 <= bounds.error_lower <= truth.error_upper <= bounds.error_upper
    assert bounds.reported_lower == pytest.approx(1e9 * problem.scale**2, rel=1e3)


def test_a_bound_above_the_optimum_is_dropped(monkeypatch, problem):
    truth = pvq.solve(problem)

    def lie(problem):
        return ExactSolution(truth.codes, None, 2.0 * truth.error_upper, None, "optimal")

    plant(monkeypatch, exact=lie)
    bounds = pvq.solve(problem, "liar", "exact")
    assert 0.0 < bounds.error_lower <= truth.error_upper  # the native certificate's
    assert bounds.lower_kind == "certified"
    assert "false" in bounds.note
    assert pvq.verify(problem, bounds)


@pytest.mark.parametrize("many", [False, True])
def test_a_proved_bound_above_allowed_weights_is_an_error_that_keeps_the_evidence(monkeypatch, problem, many):
    truth = pvq.solve(problem)
    false = SearchCertificate(np.zeros(6), np.zeros(6), 2.0 * truth.error_upper, 10)
    plant(monkeypatch, exact=lambda p: ExactSolution(truth.codes, None, None, false, "optimal"))
    monkeypatch.setattr(SearchCertificate, "prove", lambda own, *_: own.value)  # a fault of the proof itself
    solve = (lambda p, **how: pvq.solve_channels([p, p], **how)) if many else pvq.solve
    with pytest.raises(pvq.ContradictionError, match="fault of pvqbounds") as caught:
        solve(problem, solver="liar", method="exact")
    error = caught.value
    assert error.problem is problem
    assert error.certificate.value == 2.0 * truth.error_upper == error.error_lower
    assert error.error_upper == truth.error_upper
    assert np.array_equal(error.weight, truth.weight)
    assert error.exit_code == 1


def test_verify_says_that_its_own_ends_contradict_each_other(monkeypatch, problem):
    bounds = pvq.solve(problem, method="relax", relaxation="box-hull")
    monkeypatch.setattr(DualCertificate, "prove", lambda *_: 2.0 * bounds.error_upper)
    with pytest.raises(pvq.ContradictionError):
        pvq.verify(problem, bounds)


def test_a_stated_bound_stands_beside_the_certified_one(monkeypatch, problem):
    truth = pvq.solve(problem)
    answer = ExactSolution(truth.codes, None, truth.error_upper, None, "optimal")
    plant(monkeypatch, exact=lambda problem: answer)
    bounds = pvq.solve(problem, "liar", "exact")
    assert (bounds.method, bounds.relaxation, bounds.lower_kind) == ("exact", "box-hull", "certified")
    assert bounds.reported_lower == truth.error_upper
    assert "not proved" in bounds.note
    assert pvq.verify(problem, bounds)


def test_a_stated_bound_is_labelled_where_nothing_can_be_proved(monkeypatch):
    rng = np.random.default_rng(3)
    X = rng.standard_normal((3, 6))  # singular: no perspective certificate
    sparse = pvq.SparseLeastSquares(X.T @ X, rng.standard_normal(6), nnz=2)
    truth = pvq.solve(sparse)
    for factor, kept in ((0.9, 0.9 * truth.error_upper), (2.0, 0.0)):
        answer = ExactSolution(None, truth.support, factor * truth.error_upper, None, "optimal")
        plant(monkeypatch, exact=lambda problem, answer=answer: answer)
        bounds = pvq.solve(sparse, "liar", "exact")
        assert bounds.lower_kind == "reported"
        assert bounds.error_lower == kept
        assert ("false" in bounds.note) == (factor > 1.0)


@pytest.mark.parametrize("codes", [None, [9] * 6, [0.5] * 6, [0, 1], [np.nan] * 6])
def test_infeasible_incumbents_are_replaced(monkeypatch, problem, codes):
    def lie(problem):
        return ExactSolution(None if codes is None else np.array(codes), None, 0.0, None, "optimal")

    plant(monkeypatch, exact=lie)
    bounds = pvq.solve(problem, "liar", "exact")
    assert problem.checked_codes(bounds.codes) is not None
    assert bounds.error_upper == problem.error(bounds.codes).upper


def test_no_bound_at_all_is_a_failure(monkeypatch, problem):
    plant(monkeypatch, exact=lambda problem: ExactSolution(None, None, None, None, "crashed"))
    with pytest.raises(pvq.SolverFailedError, match="crashed"):
        pvq.solve(problem, "liar", "exact")


def test_missing_licence_is_one_sentence(monkeypatch, problem):
    plant(monkeypatch, licence=Licence(False, "no licence file was found"))
    with pytest.raises(pvq.SolverError, match=r"no licence file was found.*native"):
        pvq.solve(problem, "liar")


def test_unknown_names(problem):
    with pytest.raises(pvq.InputError, match="did you mean native"):
        pvq.solve(problem, "nativ")
    with pytest.raises(pvq.InputError, match="box-hull or park-boyd"):
        pvq.solve(problem, relaxation="perspective")
    with pytest.raises(pvq.InputError, match="auto, exact, relax"):
        pvq.solve(problem, method="fast")
    with pytest.raises(pvq.InputError, match="time limit"):
        pvq.solve(problem, time_limit=-1.0)


def test_verify_finds_each_planted_fault(problem):
    bounds = pvq.solve(problem)
    assert pvq.verify(problem, bounds)
    other = (bounds.codes + 1) % 2
    faults = {
        "raised lower end": dataclasses.replace(bounds, error_lower=bounds.error_upper * 1.01),
        "lowered upper end": dataclasses.replace(bounds, error_upper=bounds.error_upper * 0.99),
        "other codes": dataclasses.replace(bounds, codes=other),
        "codes off the grid": dataclasses.replace(bounds, codes=bounds.codes + 50),
        "no codes": dataclasses.replace(bounds, codes=None),
        "other weights": dataclasses.replace(bounds, weight=np.zeros(6)),
        "another signal": dataclasses.replace(bounds, signal_enclosure=Enclosure(1e9, 1e9)),
        "no signal": dataclasses.replace(bounds, signal_enclosure=None),
        "no certificate": dataclasses.replace(bounds, certificate=None),
        "raised certificate": dataclasses.replace(
            bounds, certificate=dataclasses.replace(bounds.certificate, value=bounds.error_upper * 1.01)
        ),
        "broken multipliers": dataclasses.replace(
            bounds,
            certificate=SearchCertificate(np.full(6, np.nan), np.zeros(6), bounds.error_lower, 10),
        ),
    }
    for name, faulty in faults.items():
        verification = pvq.verify(problem, faulty)
        assert not verification, name
        assert verification.reason, name


def test_channels_in_parallel_agree_with_one_by_one():
    rng = np.random.default_rng(1)
    problems = [random_integer_problem(rng) for _ in range(12)]
    seen = []
    alone = pvq.solve_channels(problems, progress=seen.append)
    together = pvq.solve_channels(problems, jobs=3)
    assert seen == list(range(1, 13))
    assert [b.error_lower for b in alone] == [b.error_lower for b in together]


def test_interrupt_stops_parallel_work():
    rng = np.random.default_rng(1)
    problems = [random_integer_problem(rng) for _ in range(6)]

    def interrupt(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pvq.solve_channels(problems, jobs=2, progress=interrupt)


def test_importing_loads_nothing_heavy():
    """A fresh process: no backend, no torch, no compiler."""
    script = (
        "import sys, pvqbounds; "
        "heavy = {'torch', 'numba', 'scipy', 'clarabel', 'scs', 'gurobipy', 'cvxpy', 'mosek', 'highspy'}; "
        "heavy |= {'pyscipopt', 'matplotlib', 'typer'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_solvers_name_is_package_and_function():
    assert [info.name for info in pvq.solvers()] == [*solvers.BACKENDS, "cvxpy:NAME"]
    assert "cvxpy:NAME" not in pvq.available_solvers()
    assert "native" in pvq.available_solvers()


def test_blas_threads_are_given_back():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    import scipy.linalg  # noqa: F401

    def threads():
        infos = threadpoolctl.threadpool_info()
        return sorted(info["num_threads"] for info in infos if info["user_api"] == "blas")

    before = threads()
    rng = np.random.default_rng(1)
    pvq.solve_channels([random_integer_problem(rng) for _ in range(8)], jobs=3)
    assert threads() == before


@pytest.mark.parametrize(
    ("gram", "scale"), [(1e300, 0.1), (1e-300, 0.1), (1.0, 1e200), (1.0, 1e-200), (1e200, 1e100)]
)
def test_units_that_overflow_are_refused(gram, scale):
    with pytest.raises(pvq.InputError, match="rescale"):
        pvq.IntegerLeastSquares(gram * np.eye(3), np.ones(3), scale, -8, 7)


def test_inputs_of_very_different_size():
    """An eigenvalue far below the rounding of the largest entry is still proved positive."""
    gram = np.diag([1e16, 1.0, 1e-16])
    gram[0, 2] = gram[2, 0] = 0.3
    problem = pvq.IntegerLeastSquares(gram, np.array([0.3, -0.2, 0.4]), 0.5, -2, 1)
    exact = pvq.solve(problem)
    assert exact.status == "optimal"
    for relaxation in ("box-hull", "park-boyd"):
        relaxed = pvq.solve(problem, method="relax", relaxation=relaxation)
        assert 0.5 * exact.error_upper <= relaxed.error_lower <= exact.error_upper


@pytest.mark.parametrize("size", [1e100, 1e308])
def test_multipliers_of_any_size_prove_nothing_false(problem, size):
    bounds = pvq.solve(problem)
    for lam in (-size, size):
        for nu in (-size, size):
            certificate = SearchCertificate(np.full(6, lam), np.full(6, nu), bounds.error_lower, 10)
            claimed = dataclasses.replace(bounds, certificate=certificate)
            outcome = pvq.verify(problem, claimed, time_limit=5.0)
            assert outcome.error_lower <= bounds.error_upper


def test_a_proof_has_a_time_limit(problem):
    bounds = pvq.solve(problem)
    outcome = pvq.verify(problem, bounds, time_limit=1e-9)
    assert not outcome
    assert "seconds" in outcome.reason


def test_a_reported_bound_above_the_error_does_not_hold(problem):
    bounds = pvq.solve(problem)
    false = dataclasses.replace(bounds, lower_kind="reported", certificate=None, error_lower=99.0)
    assert not pvq.verify(problem, false)


@pytest.mark.parametrize("options", [{"seed": -1}, {"seed": 1.5}, {"threads": 0}, {"time_limit": "3"}])
def test_options_that_cannot_be_used(problem, options):
    with pytest.raises(pvq.InputError):
        pvq.solve(problem, **options)


@pytest.mark.parametrize("code", ["a", None, np.nan, np.inf, 1.5, True, 2**40])
def test_codes_that_are_not_whole_numbers(code):
    with pytest.raises(pvq.InputError, match="qmin"):
        pvq.IntegerLeastSquares(np.eye(2), np.ones(2), 1.0, code, 2)


JUNK = [
    None, 5, "x", [1, 2, 3], np.ones(2), np.ones(3, complex), np.ones(3, np.float16), np.array([1, 2, "a"]),
    np.array([None] * 3), {}, np.array(1.0), 10**400, float("nan"), True, [[1], [2, 3]],
]  # fmt: skip


@pytest.mark.parametrize("relaxation", [None, "splits", "perspective"])
@pytest.mark.parametrize("method", ["exact", "relax"])
def test_verify_takes_nothing_for_granted(method, relaxation):
    """Whatever stands in a result that someone made: an answer, and never an exception."""
    rng = np.random.default_rng(0)
    X, w = rng.standard_normal((9, 3)), rng.standard_normal(3)
    if relaxation == "perspective":
        problem = pvq.SparseLeastSquares(X.T @ X / 9, w, nnz=1)
    else:
        problem = pvq.IntegerLeastSquares(X.T @ X / 9, w, 0.3, -2, 1)
    bounds = pvq.solve(problem, method=method, relaxation=relaxation)
    changed = dataclasses.replace
    claim = bounds.certificate
    results = [
        changed(bounds, **{name: junk})
        for name in ("error_lower", "error_upper", "weight", "codes", "support", "certificate", "lower_kind")
        for junk in JUNK
    ]
    results += [
        changed(bounds, certificate=changed(claim, **{field.name: junk}))
        for field in dataclasses.fields(claim)
        for junk in JUNK
    ]
    if hasattr(claim, "splits"):
        results += [
            changed(bounds, certificate=changed(claim, splits=changed(claim.splits, **{name: junk})))
            for name in ("index", "sign", "low", "multiplier")
            for junk in JUNK
        ]
    truth = least_error(problem)
    for result in results:
        outcome = pvq.verify(problem, result)
        if outcome and isinstance(result.lower_kind, str) and result.lower_kind == "certified":
            assert result.error_lower <= truth


def least_error(problem):
    if isinstance(problem, pvq.SparseLeastSquares):
        return least_sparse_error(problem) * (1.0 + 1e-9)
    return least_integer_error(problem)


def test_names_are_completed():
    assert set(pvq.__all__) <= set(dir(pvq))
    assert not {"Any", "import_module", "annotations"} & set(dir(pvq))


ANYTHING = [None, 0, 1.5, "x", {}, [], np.zeros(0), np.ones(3), 10**400, np.nan, np.inf, -1, True, b"x"]


def assert_calm(call):
    """It comes back, or says in one short sentence why it does not."""
    text = ""
    try:
        call()
    except pvq.PvqError as error:
        text = str(error)
    assert "\n" not in text
    assert len(text) < 300


@pytest.mark.parametrize(
    "name",
    [
        "solver",
        "method",
        "relaxation",
        "time_limit",
        "threads",
        "tolerance",
        "seed",
        "cancelled",
        "solver_options",
        "jobs",
        "device",
    ],
)
def test_an_option_of_any_kind_is_taken_or_refused(problem, name):
    for value in ANYTHING:
        solve = pvq.solve if name not in ("jobs", "device") else pvq.solve_channels
        given = problem if solve is pvq.solve else [problem]
        assert_calm(lambda: solve(given, **{name: value}))  # noqa: B023 (called at once)


@pytest.mark.parametrize("name", ["gram", "weight", "scale", "qmin", "qmax", "nnz", "pattern", "stride"])
def test_a_problem_of_any_kind_of_numbers_is_taken_or_refused(name):
    sparse = name in ("nnz", "pattern", "stride")
    build = pvq.SparseLeastSquares if sparse else pvq.IntegerLeastSquares
    arguments = {"gram": np.eye(3), "weight": [1.0, 2.0, 3.0]}
    arguments |= {"nnz": 1} if sparse else {"scale": 0.3, "qmin": -2, "qmax": 1}
    for value in ANYTHING:
        assert_calm(lambda: build(**{**arguments, name: value}))  # noqa: B023 (called at once)


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (pvq.IntegerLeastSquares(np.eye(500), np.ones(500), 0.5, -8, 7), "scale 0.5, codes -8..7"),
        (
            pvq.IntegerLeastSquares(np.eye(4), np.ones(4), [1, 1, 2, 2], 0, 1, nnz=2),
            "codes from 0 to 1, keep 2",
        ),
        (pvq.CodebookLeastSquares(np.eye(4), np.ones(4), [-1.0, 0.0, 3.0]), "3 levels from -1 to 3"),
        (pvq.SparseLeastSquares(np.eye(4), np.ones(4), pattern=(2, 4)), "any values, pattern 2:4"),
    ],
)
def test_a_problem_tells_what_it_is_in_a_line(problem, text):
    assert f"{type(problem).__name__} of {problem.n} inputs" in repr(problem)
    assert text in repr(problem)
    assert len(repr(problem)) < 120

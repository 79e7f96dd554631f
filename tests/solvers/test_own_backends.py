"""Backends of one's own: registered, or offered by an installed package; a broken one costs only itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import run
from torch import nn

import pvqbounds as pvq
from pvqbounds import solvers
from pvqbounds.errors import InputError, SolverError
from pvqbounds.nn import layer_bounds
from pvqbounds.report.tables import layer_text
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.results_written import write_layer

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """What is registered in a test is gone after it."""
    monkeypatch.setattr(solvers, "BACKENDS", dict(solvers.BACKENDS))
    solvers._offered.cache_clear()
    yield
    solvers._offered.cache_clear()


def install(folder: Path, monkeypatch, points: dict[str, str], **modules: str) -> None:
    """Lay a package with these entry points and modules where Python finds it."""
    lines = "\n".join(f"{name} = {value}" for name, value in points.items())
    about = folder / "somebodys-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[pvqbounds.solvers]\n{lines}\n")
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(folder))


def small(n: int = 4) -> pvq.IntegerLeastSquares:
    rng = np.random.default_rng(3)
    inputs = rng.standard_normal((30, n))
    return pvq.IntegerLeastSquares(inputs.T @ inputs / 30, rng.standard_normal(n), 0.5, -2, 1)


def test_a_backend_of_ones_own_from_one_file_to_table_and_files(tmp_path):
    assert len((HERE / "counting_backend.py").read_text().splitlines()) < 60
    sys.modules.pop("counting_backend", None)
    solvers.register("counting", "counting_backend", "Counting")
    assert "counting_backend" not in sys.modules
    problem = small()
    bounds, truth = pvq.solve(problem, "counting", "exact"), pvq.solve(problem)
    np.testing.assert_array_equal(bounds.codes, truth.codes)
    assert (bounds.solver, bounds.lower_kind) == ("counting", "certified")
    assert pvq.verify(problem, bounds)
    assert "counting" in pvq.available_solvers()
    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Linear(5, 3).double()), torch.randn(40, 5, dtype=torch.float64)
    report = layer_bounds(model, "0", data, bits=2, solver="counting", method="exact")
    assert {s.bounds.solver for s in report.quantization.slices} == {"counting"}
    assert {s.bounds.solver for s in report.pruning.slices} == {"native"}
    assert "counting exact" in layer_text(report)
    write_layer(report, tmp_path / "layer.json")
    assert all(finding.holds for finding in verify_file(tmp_path / "layer.json"))
    with pytest.raises(SolverError, match="cannot do"):
        pvq.solve(problem, "counting", "relax")


def test_a_search_that_is_only_claimed_certifies_nothing():
    sys.modules.pop("lying_backend", None)
    solvers.register("lying", "lying_backend", "Lying")
    rng = np.random.default_rng(3)
    inputs = rng.standard_normal((9, 5)) @ (np.eye(5) + 2.0)
    gram, weight = inputs.T @ inputs / 9, rng.standard_normal(5)
    for problem in (
        pvq.IntegerLeastSquares(gram, weight, 0.6, -4, 3),
        pvq.SparseLeastSquares(gram, weight, pattern=(1, 2)),
        pvq.SparseLeastSquares(gram, weight, nnz=1),
    ):
        bounds, least = pvq.solve(problem, "lying", "exact"), pvq.solve(problem)
        assert bounds.lower_kind == "certified"
        assert bounds.error_lower <= least.error_upper
        assert pvq.verify(problem, bounds)


def test_an_installed_package_offers_one(tmp_path, monkeypatch):
    text = (HERE / "counting_backend.py").read_text().replace('"counting"', '"offered"')
    install(
        tmp_path,
        monkeypatch,
        {"offered": "somebodys_counting:Counting", "native": "somebodys_counting:Counting"},
        somebodys_counting=text,
    )
    problem = small()
    assert pvq.solve(problem).solver == "native"  # nobody takes the name of the package's own
    assert "somebodys_counting" not in sys.modules
    assert pvq.solve(problem, "offered", "exact").solver == "offered"
    assert [info.name for info in pvq.solvers()][-2:] == ["offered", "cvxpy:NAME"]
    with pytest.raises(InputError, match="did you mean offered"):
        pvq.solve(problem, "ofered")


@pytest.mark.parametrize(
    ("place", "text", "words"),
    [
        ("broken:Backend", "raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("broken:Backend", "import no_such_module", "ModuleNotFoundError"),
        ("broken:Backend", "", "AttributeError"),
        ("broken:Backend", "Backend = 3", "no backend of the name broken"),
        ("broken", "", "cannot be loaded"),
        ("!!! ::", "", "cannot be loaded"),
        (
            "broken:B",
            "from counting_backend import Counting\n"
            "class B(Counting):\n    name = 'broken'\n    def licence(self): return 1 / 0",
            "ZeroDivisionError",
        ),
    ],
)
def test_a_broken_one_costs_only_itself_and_says_so(place, text, words, tmp_path, monkeypatch, capsys):
    install(tmp_path, monkeypatch, {"broken": place}, broken=text)
    info = {info.name: info for info in pvq.solvers()}["broken"]
    assert not info.licence.valid
    assert words in info.licence.text
    assert "\n" not in info.licence.text
    assert "broken" not in pvq.available_solvers()
    assert pvq.solve(small()).status == "optimal"
    target = tmp_path / "solvers.json"
    assert run("solvers", "--json", str(target)) == 0
    assert "broken" in capsys.readouterr().out
    assert "broken" in json.dumps(json.loads(target.read_text()))
    if words != "ZeroDivisionError":
        with pytest.raises(SolverError, match="broken"):
            pvq.solve(small(), "broken")


def test_what_cannot_be_registered():
    for name in ("native", "auto", "A B", "cvxpy:X", "", 3):
        with pytest.raises(InputError, match="name"):
            solvers.register(name, "counting_backend", "Counting")
    with pytest.raises(InputError, match="module"):
        solvers.register("mine", "", "Counting")
    with pytest.raises(InputError, match="class"):
        solvers.register("mine", "counting_backend", None)

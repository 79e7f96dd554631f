"""The command line: what it prints, how it exits, and that it leaves nothing half-written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds import cli
from pvqbounds.problems.files import save_problem

pytest.importorskip("torch")

SMALL = ["layer", "--layer", "block1.0", "--out-channels", "2", "--bits", "2"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with a few problems in it; the terminal has 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    inputs = np.random.default_rng(0).normal(size=(20, 4))
    gram, weight = inputs.T @ inputs / 20, np.random.default_rng(1).normal(size=4)
    save_problem("q.npz", pvq.IntegerLeastSquares(gram, weight, 0.3, -2, 1))
    save_problem("s.npz", pvq.SparseLeastSquares(gram, weight, nnz=2))
    np.savez("bare.npz", gram=gram, weight=weight)
    np.savez("indefinite.npz", gram=-np.eye(2), weight=np.ones(2), nnz=1)
    np.savez("shapes.npz", gram=np.eye(3), weight=np.ones(2), nnz=1)
    np.savez("empty.npz", gram=np.zeros((0, 0)), weight=np.zeros(0), nnz=0)
    np.savez("nan.npz", gram=np.eye(2), weight=[1.0, np.nan], nnz=1)
    np.savez("grid.npz", gram=np.eye(2), weight=np.ones(2), scale=1.0, qmin=3, qmax=2)
    np.savez("pickle.npz", gram=np.array([None]), weight=np.ones(1), nnz=1)
    Path("corrupt.npz").write_bytes(Path("q.npz").read_bytes()[:100])
    return tmp_path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    return int(stop.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([*SMALL, "--model", "digit"], "digits"),
        (["layer", "--layer", "block3.1x"], "block3"),
        (["layer", "--layer", "block3"], "block3"),
        (["layer", "--layer", "block3.2"], "ReLU"),
        (["layer", "--model", "timm:x"], "--layer"),
        ([*SMALL, "--bits", "1"], "2 to 16"),
        ([*SMALL, "--density", "0"], "density"),
        ([*SMALL, "--density", "1.5"], "density"),
        ([*SMALL, "--pattern", "2-4"], "2:4"),
        ([*SMALL, "--pattern", "4:2"], "N:M"),
        ([*SMALL, "--opt-dim", "0"], "opt"),
        ([*SMALL, "--out-channels", "0"], "output channels"),
        ([*SMALL, "--range", "median"], "mse"),
        ([*SMALL, "--layer", "block2.0"], "--layer is given 2 times, but takes one value"),
        ([*SMALL, "--budget", "layer", "--tolerance", "1e-3"], "takes no tolerance"),
        ([*SMALL, "--pattern", "2:4"], "give a density"),
        (["solve", "q.npz", "--json", "a.json", "--json", "b.json"], "--json is given 2 times"),
        (["train", "qat", "--out", "a", "--out", "b"], "--out is given 2 times"),
        (["compare", "--layer", "block2.0", "--layer", "block3.0"], "--layer is given 2 times"),
        ([*SMALL, "--solver", "mosek"], "mosek"),
        ([*SMALL, "--solver", "nativ"], "native"),
        ([*SMALL, "--method", "guess"], "exact"),
        ([*SMALL, "--relaxation", "none"], "box-hull"),
        ([*SMALL, "--time-limit", "-1"], "positive"),
        ([*SMALL, "--data", "missing.npy"], "missing.npy"),
        ([*SMALL, "--data", "corrupt.npz"], "corrupt.npz"),
        ([*SMALL, "--data", "pickle.npz"], "pickle.npz"),
        ([*SMALL, "--weights", "missing.safetensors"], "missing.safetensors"),
        ([*SMALL, "--json", "missing/r.json"], "cannot be written"),
        ([*SMALL, "--json", "r.npz"], ".json"),
        ([*SMALL, "--plot", "missing/r.png"], "cannot be written"),
        ([*SMALL, "--plot", "r.gif"], ".png"),
        (["solve", "missing.npz"], "no file"),
        (["solve", "corrupt.npz"], "damaged"),
        (["solve", "pickle.npz"], "pickled"),
        (["solve", "indefinite.npz"], "indefinite"),
        (["solve", "shapes.npz"], "3 inputs, but the weight has 2"),
        (["solve", "empty.npz"], "empty"),
        (["solve", "nan.npz"], "not finite"),
        (["solve", "grid.npz"], "larger than qmax"),
        (["solve", "bare.npz"], "Say how to compress"),
        (["solve", "bare.npz", "--density", "2"], "density"),
        (["solve", "bare.npz", "--nnz", "9"], "nnz"),
        (["solve", "q.npz", "--bits", "4"], "states"),
        (["solve", "q.npz", "--solver", "mosek"], "mosek"),
        (["solve", "q.npz", "--json", "q.json"], "its own input"),
        (["verify", "missing.json"], "no file"),
        (["verify", "q.npz"], "JSON"),
        (["verify", "missing.json", "--json", "missing.json"], "its own input"),
        (["solvers", "--json", "missing/r.json"], "cannot be written"),
    ],
)
def test_bad_input_is_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    before = sorted(folder.iterdir())
    assert run(*arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("Error: ")
    assert output.err.count("\n") == 1
    assert says in output.err
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["layer", "--bits", "1"], "bit width"),
        (["layer", "--bits", "77"], "bit width"),
        (["layer", "--density", "0"], "density"),
        (["layer", "--pattern", "5:4"], "N of the pattern"),
        (["layer", "--range", "median"], "range method"),
        (["compare", "--bits", "1"], "bit width"),
        (["train", "qat", "--bits", "1"], "bit width"),
        (["weights", "--bits", "1"], "bit width"),
    ],
)
def test_wrong_sizes_are_found_before_torch_is_loaded(arguments: list[str], says: str) -> None:
    code = f"import sys; sys.modules['torch'] = None; from pvqbounds.cli import main; main({arguments!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["blah"], ["solve"], ["layer", "--bits", "four"], ["layer", "--colour"]]
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert "Usage" in capsys.readouterr().err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"pvqbounds {pvq.__version__}\n"
    for command in ("layer", "solve", "verify", "solvers"):
        assert run(command, "--help") == 0
        text = capsys.readouterr().out
        assert "--json" in text
        assert "Example" in text


def test_a_layer_from_the_command_to_the_proof(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    before = {path.name for path in folder.iterdir()}
    assert run(*SMALL, "--json", "r.json", "--plot", "r.svg") == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    for word in (
        "quantization",
        "pruning",
        "optimal",
        "certified",
        "round to nearest",
        "magnitude",
        "Verdict",
    ):
        assert word in text
    assert {path.name for path in folder.iterdir()} - before == {"r.json", "r.npz", "r.svg"}
    assert "<svg" in Path("r.svg").read_text()
    assert run("verify", "r.json", "--json", "v.json") == 0
    assert json.loads(Path("v.json").read_text())["holds"] is True
    document = json.loads(Path("r.json").read_text())
    document["pruning"]["per_channel"][1]["error_lower"] *= 1.5
    Path("r.json").write_text(json.dumps(document))
    capsys.readouterr()
    assert run("verify", "r.json", "--json", "v.json") == 1
    failures = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAILED")]
    assert failures[0].startswith("FAILED pruning.per_channel[1]: ")
    assert json.loads(Path("v.json").read_text())["holds"] is False


def test_the_same_seed_gives_the_same_result() -> None:
    for name in ("a.json", "b.json"):
        assert run("solve", "q.npz", "--seed", "3", "--method", "relax", "--json", name) == 0
    first, second = (json.loads(Path(name).read_text())["result"] for name in ("a.json", "b.json"))
    assert {**first, "seconds": 0} == {**second, "seconds": 0}


def test_chunks_are_not_added_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run("layer", "--layer", "block2.0", "--out-channels", "1", "--opt-dim", "9", "--json", "r.json") == 0
    )
    text = " ".join(capsys.readouterr().out.split())
    assert "do not add up" in text
    assert json.loads(Path("r.json").read_text())["quantization"]["error_lower"] is None
    assert run("verify", "r.json") == 0


@pytest.mark.parametrize(
    "arguments", [["q.npz"], ["s.npz"], ["bare.npz", "--bits", "3"], ["bare.npz", "--pattern", "1:2"]]
)
def test_solving_a_file(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("solve", *arguments, "--json", "r.json") == 0
    assert "optimal" in capsys.readouterr().out
    assert run("verify", "r.json") == 0
    assert "1 of 1 lower bounds proved again" in capsys.readouterr().out


def test_the_list_of_solvers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("solvers", "--json", "solvers.json") == 0
    text = capsys.readouterr().out
    listed = json.loads(Path("solvers.json").read_text())["solvers"]
    assert {info["name"] for info in listed} == {info.name for info in pvq.solvers()}
    assert all(info["name"] in text for info in listed)


def test_an_interrupt_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = sorted(folder.iterdir())
    monkeypatch.setattr("pvqbounds.api.solve", interrupted)
    assert run("solve", "q.npz", "--json", "r.json") == 130
    assert sorted(folder.iterdir()) == before


def test_a_plot_without_matplotlib(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert run(*SMALL, "--plot", "r.png") == 2
    assert "pvqbounds[plot]" in capsys.readouterr().err


def test_the_command_line_itself_is_light() -> None:
    """Help must not wait for torch, numba or a solver."""
    code = (
        "import sys, pvqbounds.cli\n"
        "heavy = {'torch', 'numba', 'cvxpy', 'clarabel', 'scs', 'matplotlib', 'scipy'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

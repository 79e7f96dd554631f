"""The command line: what it prints, how it exits, and that it leaves nothing half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run
from conforming import written_as_published
from safetensors.numpy import save_file

import pvqbounds as pvq
from pvqbounds import nn
from pvqbounds.solving import channels
from pvqbounds.storage.problem_files import write_npz

pytest.importorskip("torch")

SMALL = ["layer", "--layer", "block1.0", "--out-channels", "2", "--bits", "2"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with a few problems in it; the terminal has 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    inputs = np.random.default_rng(0).normal(size=(20, 4))
    gram, weight = inputs.T @ inputs / 20, np.random.default_rng(1).normal(size=4)
    write_npz(pvq.IntegerLeastSquares(gram, weight, 0.3, -2, 1), "q.npz")
    write_npz(pvq.SparseLeastSquares(gram, weight, nnz=2), "s.npz")
    np.savez("bare.npz", gram=gram, weight=weight)
    np.savez("indefinite.npz", gram=-np.eye(2), weight=np.ones(2), nnz=1)
    np.savez("shapes.npz", gram=np.eye(3), weight=np.ones(2), nnz=1)
    np.savez("empty.npz", gram=np.zeros((0, 0)), weight=np.zeros(0), nnz=0)
    np.savez("nan.npz", gram=np.eye(2), weight=[1.0, np.nan], nnz=1)
    np.savez("grid.npz", gram=np.eye(2), weight=np.ones(2), scale=1.0, qmin=3, qmax=2)
    np.savez("pickle.npz", gram=np.array([None]), weight=np.ones(1), nnz=1)
    Path("corrupt.npz").write_bytes(Path("q.npz").read_bytes()[:100])
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([*SMALL, "--model", "digit"], "digits"),
        (["layer", "--layer", "block3.1x"], "block3"),
        (["layer", "--layer", "block3"], "block3"),
        (["layer", "--layer", "block3.2"], "ReLU"),
        (["layer", "--model", "timm:x", "--layer", "fc"], "needs t"),
        (["layer", "digits", "--model", "digits"], "given twice"),
        (["layer", "--layer", "x*"], "No layer is called like 'x*'"),
        ([*SMALL, "--save-grams", "g.txt"], ".npz"),
        ([*SMALL, "--grams", "none.npz"], "There is no file"),
        ([*SMALL, "--bits", "1"], "2 to 16"),
        ([*SMALL, "--density", "0"], "density"),
        ([*SMALL, "--density", "1.5"], "density"),
        ([*SMALL, "--pattern", "2-4"], "2:4"),
        ([*SMALL, "--pattern", "4:2"], "N:M"),
        ([*SMALL, "--opt-dim", "0"], "opt"),
        ([*SMALL, "--out-channels", "0"], "output channels"),
        ([*SMALL, "--range", "median"], "mse"),
        ([*SMALL, "--layer", "block2.0", "--json", "new.json"], "put {layer} into its name"),
        ([*SMALL, "--grams", "none.npz", "--save-grams", "g.npz"], "leave it out beside --grams"),
        ([*SMALL, "--budget", "layer", "--tolerance", "1e-3"], "takes no tolerance"),
        ([*SMALL, "--pattern", "2:4"], "give a density"),
        (["solve", "q.npz", "--json", "a.json", "--json", "b.json"], "--json is given 2 times"),
        (["train", "qat", "--out", "a", "--out", "b"], "--out is given 2 times"),
        (["compare", "--layer", "block2.0", "--layer", "block3.0"], "--layer is given 2 times"),
        (["compare", "--layer", "block*.0"], "stands for 5 layers (block1.0, block2.0, block3.0, ...)"),
        (["compare", "--layer", "block1.0", "--grams", "none.npz"], "There is no file"),
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
        (["solve", "s.npz", "--json", "bare.csv"], "bare.npz"),
        (["solve", "s.npz", "--json", "bare.json"], "bare.npz"),
        ([*SMALL, "--json", "q.json"], "q.npz"),
        (["compare", "--json", "r.png", "--plot", "r.png"], "--json and --plot"),
        (["train", "table", "--json", "r.png", "--plot", "r.png"], "--json and --plot"),
        (["solve", "s.npz", "--pattern", "2:" + "x" * 500], "xxx"),
        (["distributions", "--bits", "4", "--plot", "r.png", "--group-size", "32"], "--figure 2"),
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
    assert len(output.err) < 400
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
    document["sides"][1]["per_channel"][1]["error_lower"] *= 1.5
    Path("r.json").write_text(json.dumps(document))
    capsys.readouterr()
    assert run("verify", "r.json", "--json", "v.json") == 1
    failures = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAILED")]
    assert failures[0].startswith("FAILED sides[1].per_channel[1]: ")
    assert json.loads(Path("v.json").read_text())["holds"] is False
    assert written_as_published("v.json")


def test_formats_from_the_command_to_the_proof(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["layer", "--layer", "block1.0", "--out-channels", "2"]
    names = ["int4", "int2", "25%", "1:3", "50%"]
    given = [part for name in names for part in ("--format", name)]
    with_layer = [*small[:2], "block2.0", *small[3:]]  # of four input channels
    assert run(*with_layer, *given, "--json", "r.json") == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "Verdict, provably better: int4 than" in text
    assert [side["format"] for side in json.loads(Path("r.json").read_text())["sides"]] == names
    assert run("verify", "r.json") == 0
    assert "10 of 10 lower bounds proved again" in capsys.readouterr().out
    assert run(*small, "--format", "int4") == 0
    assert "No verdict" in capsys.readouterr().out
    for wrong, says in (
        (["--format", "in4"], "did you mean 'int4'"),
        (["--format", "int4", "--bits", "4"], "not both"),
    ):
        assert run(*small, *wrong) == 2
        assert says in capsys.readouterr().err
    assert run("compare", *small[1:], "--format", "int3", "--format", "int2", "--solver", "native") == 0
    shown = capsys.readouterr().out
    assert "int3" in shown
    assert "int2" in shown


def test_compare_takes_the_data_that_layer_takes(monkeypatch, capsys):
    """Both print the interval of masked samples of a file, and of a file of Grams."""
    own = ["--layer", "block1.[0]", "--out-channels", "1", "--format", "int3"]
    images = np.random.default_rng(0).normal(size=(12, 1, 8, 8)).astype(np.float32)
    np.save("x.npy", images)
    np.save("mask.npy", np.repeat([0, 1], 6))
    data = ["--data", "x.npy", "--position-mask", "mask.npy", "--samples", "9"]
    assert run("layer", *own, *data, "--json", "r.json", "--save-grams", "g.npz") == 0
    side = json.loads(Path("r.json").read_text())["sides"][0]
    runs, counted = [], nn.grams.run
    monkeypatch.setattr(nn.grams, "run", lambda *a: runs.append(1) or counted(*a))
    for given in (data, ["--grams", "g.npz"]):
        assert run("compare", *own, *given, "--json", "c.json", "--solver", "native", "--solver", "scs") == 0
        assert written_as_published("c.json")
        for entry in json.loads(Path("c.json").read_text())["entries"]:
            assert entry["sqnr_lower"] == pytest.approx(side["sqnr_lower"])
            assert entry["sqnr_upper"] >= side["sqnr_lower"]
    assert len(runs) == 1  # one batch, once for both solvers, and none with Grams
    capsys.readouterr()


def test_the_same_seed_gives_the_same_result() -> None:
    for name in ("a.json", "b.json"):
        assert run("solve", "q.npz", "--seed", "3", "--method", "relax", "--json", name) == 0
    first, second = (json.loads(Path(name).read_text())["result"] for name in ("a.json", "b.json"))
    timed = {"seconds": 0, "history": []}
    assert first | timed == second | timed


def test_chunks_are_not_added_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run("layer", "--layer", "block2.0", "--out-channels", "1", "--opt-dim", "9", "--json", "r.json") == 0
    )
    text = " ".join(capsys.readouterr().out.split())
    assert "do not add up" in text
    assert json.loads(Path("r.json").read_text())["sides"][0]["error_lower"] is None
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
    assert written_as_published("solvers.json")
    listed = json.loads(Path("solvers.json").read_text())["solvers"]
    assert {info["name"] for info in listed} == {info.name for info in pvq.solvers()}
    assert all(info["name"] in text for info in listed)


def test_an_interrupt_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = sorted(folder.iterdir())
    monkeypatch.setattr("pvqbounds.solving.one.solve", interrupted)
    assert run("solve", "q.npz", "--json", "r.json") == 130
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("more", [(), ("--total-time", "600")])
def test_an_interrupt_of_a_layer_keeps_what_stands(
    more: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    solve, calls = channels.solve_one, []

    def interrupting(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return solve(*arguments)

    monkeypatch.setattr(channels, "solve_one", interrupting)
    before = signal.getsignal(signal.SIGINT)
    assert run(*SMALL, "--out-channels", "4", "--jobs", "1", "--json", "r.json", *more) == 130
    assert len(calls) == 3
    assert signal.getsignal(signal.SIGINT) is before
    assert "Interrupted" in capsys.readouterr().out
    assert run("verify", "r.json") == 0
    sides = json.loads(Path("r.json").read_text())["sides"]
    assert [len(side["per_channel"]) for side in sides] == [4, 4]


@pytest.mark.parametrize("count", [1, 2])
def test_an_interrupt_ends_at_once_where_nothing_stands_or_it_is_the_second(
    count: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solve, calls, before = channels.solve_one, [], sorted(folder.iterdir())

    def interrupting(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == count:
            for _ in range(count):
                os.kill(os.getpid(), signal.SIGINT)
        return solve(*arguments)

    monkeypatch.setattr(channels, "solve_one", interrupting)
    assert run(*SMALL, "--jobs", "1", "--json", "r.json") == 130
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


def in_terminal(*arguments: str | bytes, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a process of its own, in an environment without a locale."""
    plain = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, "-m", "pvqbounds", *arguments], env=plain | environment, capture_output=True
    )


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


def test_a_name_that_is_no_utf8_costs_no_result(folder: Path) -> None:
    name, json_name = b"p\xff.npz", b"r\xfe.json"
    Path(os.fsdecode(name)).write_bytes(Path("s.npz").read_bytes())
    done = in_terminal("solve", name, "--json", json_name)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(name)
    path = Path(os.fsdecode(json_name))
    path.read_bytes().decode("utf-8")  # JSON is UTF-8
    assert os.fsencode(json.loads(path.read_bytes())["source"]) == name
    assert run("verify", str(path)) == 0


def test_a_terminal_of_ascii_costs_no_result(folder: Path) -> None:
    Path("größe.npz").write_bytes(Path("q.npz").read_bytes())
    Path("free.npz").write_bytes(b"")
    np.savez("free.npz", gram=np.diag([1.0, 0.0]), weight=np.ones(2), nnz=1)
    for source, words in (("größe.npz", b"gr"), ("free.npz", b"inf (no error)")):
        done = in_terminal("solve", source, "--json", "r.json", **ASCII)
        assert (done.returncode, done.stderr) == (0, b"")
        assert words in done.stdout
        assert run("verify", "r.json") == 0
    done = in_terminal("solve", "nirgendwö.npz", **ASCII)
    assert done.returncode == 2
    assert done.stderr.startswith(b"Error: There is no file nirgendw")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", [["solve", "s.npz", "--json", "r.json"], ["solvers", "--cite", "scs"]])
def test_output_that_cannot_be_written(arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "pvqbounds", *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "Error: Standard output cannot be read or written (No space left on device).\n"
    assert Path("r.json").exists() == ("--json" in arguments)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError("Unable to allocate 116 GiB"), "memory"),
        (RuntimeError("cannot cache function 'f': no locator available for file 'x'"), "NUMBA_CACHE_DIR"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (pvq.InputError("two\nlines\x1b[31m"), "two lines"),
    ],
)
def test_what_breaks_off_a_command_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, says: str
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("pvqbounds.solving.one.solve", broken)
    assert run("solve", "q.npz") in (1, 2)
    text = capsys.readouterr().err
    assert text.startswith("Error: ")
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert says in text


def test_a_picture_that_fails_costs_no_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")

    def broken(*_: object, **__: object) -> None:
        raise pvq.OutputError("r.png cannot be written (disk full).")

    monkeypatch.setattr("pvqbounds.report.plot.plot_layer", broken)
    assert run(*SMALL, "--plot", "r.png") == 2
    output = capsys.readouterr()
    assert "Verdict" in output.out
    assert "disk full" in output.err


@pytest.mark.parametrize(
    "command", ["train qat", "train prune", "train reconstruct", "train against x", "train table",
                "weights --model torchvision:resnet18"]
)  # fmt: skip
def test_training_without_torch_names_the_extra(command: str) -> None:
    script = f"""
import sys
sys.modules["torch"] = None
from pvqbounds.cli import main
main({command.split()!r})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: `pvqbounds ")
    assert "pvqbounds[nn" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["layer", "compare"])
@pytest.mark.parametrize(
    ("option", "says"),
    [("--bits=1", "2 to 16"), ("--density=0", "density"), ("--pattern=3:2", "N:M"), ("--pattern=2", "2:4")],
)
def test_a_size_that_cannot_be_is_told_before_torch_loads(
    command: str, option: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert run(command, option) == 2
    assert says in capsys.readouterr().err


def test_methods_are_named_once_or_in_lists(capsys):
    layer = ("layer", "--layer", "block1.0", "--out-channels", "1", "--time-limit", "2")
    options = (
        "--methods",
        "rtn,k-best",
        "--methods",
        "magnitude+rtn",
        "--format",
        "int3",
        "--format",
        "2:4+int3",
    )
    assert run(*layer, *options) == 2  # one input channel: the pattern removes nothing
    assert "a pattern 2:4 along the input channels removes none" in capsys.readouterr().err
    assert run(*layer, *options[:-1], "25%+int3") == 0
    text = capsys.readouterr().out
    assert "K-best" in text
    assert "nearest plane" not in text
    assert run(*layer, "--methods", "none") == 0
    assert "round to nearest" not in capsys.readouterr().out
    for listed, says in (
        ("rnt", "did you mean rtn"),
        ("rtn,rtn", "named twice"),
        ("rtn,", "There is no method ''"),
        ("magnitude+rtn", "for joint, which no format asks for"),
    ):
        assert run(*layer, "--methods", listed) == 2
        assert says in capsys.readouterr().err


def test_several_layers_in_one_run_and_their_grams(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ["--out-channels", "1", "--bits", "2", "--methods", "none"]
    assert (
        run("layer", "--layer", "block[12].0", *few, "--json", "a-{layer}.json", "--save-grams", "g.npz") == 0
    )
    output = capsys.readouterr().out
    assert output.index("block1.0") < output.index("block2.0")
    for name in ("block1.0", "block2.0"):
        assert run("verify", f"a-{name}.json") == 0
    monkeypatch.setattr("pvqbounds.nn.layer_inputs.gram_of_layer", None)  # the model need not run
    assert run("layer", "digits", "--layer", "block2.0", *few, "--grams", "g.npz", "--json", "b.json") == 0
    first, again = (json.loads(Path(p).read_text()) for p in ("a-block2.0.json", "b.json"))
    for key in ("error_lower", "error_upper", "signal"):
        assert first["sides"][0][key] == again["sides"][0][key]
    assert first["positions"] == again["positions"] > 0


def test_layers_are_listed_where_none_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "listed_models.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Linear(30, 40), nn.ReLU())\n"
    )
    assert run("layer", "listed_models:make") == 0
    output = capsys.readouterr().out
    assert "Linear 30->40" in output
    assert "1,200" in output
    assert run("layer", "listed_models:make", "--json", "r.json") == 2
    assert "Name the layer" in capsys.readouterr().err


def test_what_was_found_is_evaluated_on_data_that_are_held_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:

    images = nn.load_model("digits").data
    np.save("later.npy", images[:20].numpy())
    arguments = ["--bits", "2", "--methods", "rtn", "--held-out", "later.npy", "--json", "r.json"]
    assert run("layer", "--layer", "block1.0", "--out-channels", "2", *arguments) == 0
    assert "held out: best found" in capsys.readouterr().out
    document = json.loads(Path("r.json").read_text())
    held = document["held_out"]
    assert held["positions"] == 20 * 64
    assert set(held["sides"][0]) == {"best", "rtn"}
    assert run("verify", "r.json") == 0


def test_a_layer_without_a_result_does_not_end_the_others(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "idle_models.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.first, self.idle, self.last = (nn.Linear(4, 4) for _ in range(3))\n"
        "    def forward(self, x):\n"
        "        return self.last(self.first(x))\n"
    )
    np.save("x.npy", np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32))
    few = ["--data", "x.npy", "--bits", "2", "--methods", "none", "--table", "t.csv"]
    assert run("layer", "idle_models:Net", "--layer", "*", *few) == 2
    told = capsys.readouterr()
    assert "1 of 3 layers have no result. Layer 'idle' is never called" in " ".join(told.err.split())
    assert {line.split(",")[1] for line in Path("t.csv").read_text().splitlines()[1:]} == {"first", "last"}
    assert run("layer", "idle_models:Net", "--layer", "idle", *few) == 2
    assert "no result" not in capsys.readouterr().err


def test_compare_has_the_notes_of_the_layer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("one.npz", any_name=np.eye(9))
    few = ["--layer", "block1.0", "--grams", "one.npz", "--format", "int2", "--solver", "native"]
    assert run("compare", *few) == 0
    assert "Note: Of 'any_name' in one.npz it is taken" in " ".join(capsys.readouterr().out.split())


def test_files_of_compressed_weights_are_read_before_the_model_runs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "telling_models.py").write_text(
        "from pathlib import Path\n"
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.first, self.last = (nn.Linear(4, 4) for _ in range(2))\n"
        "    def forward(self, x):\n"
        "        Path('ran').touch()\n"
        "        return self.last(self.first(x))\n"
    )
    np.save("x.npy", np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32))
    wrong = np.arange(20, dtype=np.float32).reshape(4, 5)
    save_file({"first.weight": wrong, "last.weight": wrong.T.copy()}, "wrong.safetensors")
    few = ["--data", "x.npy", "--methods", "none", "--compressed", "wrong.safetensors"]
    assert run("layer", "telling_models:Net", "--layer", "*", *few) == 2
    assert "2 of 2 layers have no result." in (told := " ".join(capsys.readouterr().err.split()))
    assert "(4, 5)" in told
    assert run("layer", "telling_models:Net", "--layer", "first", "--save-grams", "g.npz", *few) == 2
    assert run("network", "telling_models:Net", "--store", "s", *few) != 0
    assert not Path("ran").exists()
    right = np.arange(16, dtype=np.float32).reshape(4, 4) - 8.0
    save_file({"first.weight": wrong, "last.weight": right}, "wrong.safetensors")
    assert run("layer", "telling_models:Net", "--layer", "*", "--table", "t.csv", *few) == 2
    assert Path("ran").exists()
    assert "1 of 2 layers have no result." in " ".join(capsys.readouterr().err.split())
    assert [line.split(",")[1] for line in Path("t.csv").read_text().splitlines()[1:]] == ["last"]


def test_grams_are_not_saved_over_what_is_read_or_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--bits", "2", "--methods", "none", "--out-channels", "1", "--save-grams"]
    for name, given in (("r.npz", "r.json"), ("r-block1.0.npz", "r-{layer}.json")):
        assert run("layer", "--layer", "block1.0", *few, name, "--json", given) != 0
        assert f"--json and --save-grams would both write {name}" in " ".join(capsys.readouterr().err.split())
        assert not Path(name).exists()
    np.savez("x.npz", inputs=nn.load_model("digits").data[:20].numpy())
    kept = Path("x.npz").read_bytes()
    assert run("layer", "digits", "--layer", "block1.0", "--data", "x.npz", *few, "x.npz") != 0
    assert "would replace its own input x.npz" in " ".join(capsys.readouterr().err.split())
    assert Path("x.npz").read_bytes() == kept

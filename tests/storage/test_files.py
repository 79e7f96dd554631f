"""Problems in files: what is read is what was written, and hostile files end in a sentence."""

from __future__ import annotations

import os
import pickle
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import savemat
from scipy.sparse import csc_matrix

from pvqbounds.errors import InputError, OutputError
from pvqbounds.problems import IntegerLeastSquares, SparseLeastSquares
from pvqbounds.problems.grids import mse_scale
from pvqbounds.problems.sparse import nnz_of_density
from pvqbounds.storage import archive as archive_module
from pvqbounds.storage.archive import check_writable, replacing
from pvqbounds.storage.problem_files import Budget, load_problem, write_npz

N = 6


@pytest.fixture
def inputs() -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(size=(40, N))


@pytest.fixture
def weight() -> NDArray[np.float64]:
    return np.random.default_rng(1).normal(size=N)


@pytest.fixture
def script(inputs: NDArray[np.float64], weight: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """What the paper's code hands to its MATLAB script."""
    form = 2.0 * inputs.T @ inputs
    constant = np.array([[float(((inputs @ weight) ** 2).sum())]])
    return {"P": form, "q": -(form @ weight)[None], "r": constant, "x0": weight[None]}


@pytest.mark.parametrize(
    "allowed", [{"scale": 0.1, "qmin": -8, "qmax": 7}, {"nnz": 3}, {"pattern": (2, 4)}], ids=lambda a: min(a)
)
def test_a_saved_problem_comes_back_as_it_was(
    tmp_path: Path, inputs: NDArray[np.float64], weight: NDArray[np.float64], allowed: dict
) -> None:
    kind = IntegerLeastSquares if "scale" in allowed else SparseLeastSquares
    problem = kind(inputs.T @ inputs / len(inputs), weight, **allowed)
    write_npz(problem, tmp_path / "p.npz")
    loaded = load_problem(tmp_path / "p.npz")
    assert type(loaded) is kind
    assert (loaded.gram == problem.gram).all()
    assert (loaded.weight == problem.weight).all()
    assert all(getattr(loaded, name) == value for name, value in allowed.items())
    assert [path.name for path in tmp_path.iterdir()] == ["p.npz"]


@pytest.mark.parametrize("compressed", [False, True])
def test_the_matlab_objective_is_the_error(
    tmp_path: Path, script: dict, weight: NDArray[np.float64], compressed: bool
) -> None:
    savemat(tmp_path / "0000.mat", script | {"unused": np.eye(3)}, do_compression=compressed)
    problem = load_problem(tmp_path / "0000.mat", Budget(density=0.5))
    assert isinstance(problem, SparseLeastSquares)
    assert problem.nnz == 3
    v = np.random.default_rng(2).normal(size=N)
    objective = 0.5 * v @ script["P"] @ v + script["q"][0] @ v + script["r"][0, 0]
    assert problem.error(v).middle == pytest.approx(objective, rel=1e-12)
    assert problem.signal.middle == pytest.approx(script["r"][0, 0], rel=1e-12)


def test_a_matlab_file_may_hold_columns_single_precision_and_integers(tmp_path: Path, script: dict) -> None:
    columns = {name: np.asfortranarray(value.T.astype(np.float32)) for name, value in script.items()}
    savemat(tmp_path / "single.mat", columns)
    assert load_problem(tmp_path / "single.mat", Budget(bits=4)).n == N
    small = {"P": 2 * np.eye(2, dtype=np.int16), "q": [[-2, -4]], "r": [[5]], "x0": np.array([[1, 2]])}
    savemat(tmp_path / "whole.mat", small)
    assert load_problem(tmp_path / "whole.mat", Budget(nnz=1)).signal.middle == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("q", lambda q: -q, "q in .* disagrees"),
        ("r", lambda r: 2.0 * r, "r in .* disagrees"),
        ("x0", lambda x: x + 0.1, "q in .* disagrees"),
        ("x0", lambda x: x[:, :-1], "x0 has 5"),
        ("P", lambda p: p[:-1], "square"),
        ("P", lambda p: {"field": p}, "MATLAB struct"),
        ("P", lambda p: np.array([[p[0, 0], "text"]], dtype=object), "MATLAB cell"),
        ("P", lambda p: p * 1j, "complex"),
        ("P", csc_matrix, r"sparse, where a real numeric matrix is wanted; save full\(P\)"),
        ("P", lambda p: p > 0, r"logical array, where a real numeric matrix is wanted; save double\(P\)"),
        ("q", lambda q: "text", "MATLAB char"),
        ("r", lambda r: np.full((1, 2), r), "one number"),
        ("P", lambda p: np.full_like(p, np.nan), "not finite"),
    ],
)
def test_matlab_quantities_must_agree(tmp_path: Path, script: dict, name: str, change, says: str) -> None:
    savemat(tmp_path / "bad.mat", script | {name: change(script[name])})
    with pytest.raises(InputError, match=says):
        load_problem(tmp_path / "bad.mat", Budget(nnz=2))


def test_other_matlab_files_are_named(tmp_path: Path, script: dict) -> None:
    savemat(tmp_path / "lacks.mat", {name: script[name] for name in ("P", "q")})
    with pytest.raises(InputError, match=r"lacks the variables r, x0; the .* are P, q, r, x0"):
        load_problem(tmp_path / "lacks.mat", Budget(nnz=2))
    savemat(tmp_path / "old.mat", script, format="4")
    with pytest.raises(InputError, match="level-5"):
        load_problem(tmp_path / "old.mat", Budget(nnz=2))
    (tmp_path / "hdf.mat").write_bytes(b" " * 512 + b"\x89HDF\r\n\x1a\n" + b" " * 512)
    with pytest.raises(InputError, match=r"7\.3"):
        load_problem(tmp_path / "hdf.mat", Budget(nnz=2))


@pytest.mark.parametrize("suffix", [".mat", ".npz"])
def test_damaged_files_end_in_a_sentence(tmp_path: Path, script: dict, suffix: str) -> None:
    path = tmp_path / f"file{suffix}"
    if suffix == ".mat":
        savemat(path, script, do_compression=True)
    else:
        np.savez(path, gram=script["P"], weight=script["x0"][0])
    content = path.read_bytes()
    dice = random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content[: dice.randrange(len(content))] if dice.random() < 0.3 else content)
        for _ in range(min(3, len(damaged))):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        path.write_bytes(bytes(damaged))
        try:
            load_problem(path, Budget(nnz=2))
        except InputError:  # the damage may lie where nothing is read
            refused += 1
    assert refused > 0


class Bomb:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("exploded"),))


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("bomb.npz", gram=np.array([Bomb()], dtype=object), weight=np.ones(1))
    with zipfile.ZipFile("raw.npz", "w") as target:
        target.writestr("gram.npy", pickle.dumps(Bomb()))
    for name, says in (("bomb.npz", "pickled"), ("raw.npz", "damaged")):
        with pytest.raises(InputError, match=says):
            load_problem(name, Budget(nnz=1))
    assert not Path("exploded").exists()


def test_an_array_larger_than_its_file_is_not_allocated(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as target:
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }\n"
        target.writestr("gram.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(InputError, match="not as long as its shape says"):
        load_problem(tmp_path / "huge.npz")


def test_what_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "zeros.npz", gram=np.zeros((300, 300)), weight=np.zeros(300))
    monkeypatch.setattr(archive_module, "LARGEST_FILE", 100_000)
    with pytest.raises(InputError, match="unpacks to more"):
        load_problem(tmp_path / "zeros.npz", Budget(nnz=1))


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"weight": np.ones(2)}, "lacks the array gram"),
        ({"gram": np.eye(2), "weight": np.ones(3), "nnz": 1}, "2 inputs, but the weight has 3"),
        ({"gram": np.eye(2), "weight": np.ones(2), "nzz": 1}, "holds nzz"),
        ({"gram": np.eye(2), "weight": np.ones(2), "scale": 1.0}, "holds scale"),
        ({"gram": np.eye(2), "weight": np.ones(2), "nnz": 1.5}, "whole"),
        ({"gram": np.eye(2), "weight": np.ones(2), "nnz": [1, 2]}, "one number"),
        ({"gram": np.eye(2), "weight": np.ones(2), "nnz": np.nan}, "whole"),
        ({"gram": np.eye(2), "weight": np.ones(2), "pattern": [1, 2, 3]}, "two whole numbers"),
        ({"gram": np.eye(2), "weight": np.array(["a", "b"])}, "real numbers"),
        ({"gram": -np.eye(2), "weight": np.ones(2), "nnz": 1}, "indefinite"),
        ({"gram": np.eye(2), "weight": np.ones(2), "scale": 1.0, "qmin": 3, "qmax": 2}, "larger than qmax"),
        (
            {"gram": np.eye(2), "weight": np.ones(2), "scale": 0.0, "qmin": -1, "qmax": 2},
            "scale must be positive",
        ),
    ],
)
def test_what_an_npz_lacks_or_has_too_much(tmp_path: Path, arrays: dict, says: str) -> None:
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(InputError, match=says):
        load_problem(tmp_path / "p.npz")


def test_the_budget_is_stated_once(tmp_path: Path) -> None:
    np.savez(tmp_path / "bare.npz", gram=np.eye(4), weight=np.ones(4))
    np.savez(tmp_path / "full.npz", gram=np.eye(4), weight=np.ones(4), nnz=2)
    with pytest.raises(InputError, match="Say how to compress"):
        load_problem(tmp_path / "bare.npz")
    with pytest.raises(InputError, match="Say how to compress"):
        load_problem(tmp_path / "bare.npz", Budget(bits=4, nnz=2))
    with pytest.raises(InputError, match="scale belongs to quantization"):
        load_problem(tmp_path / "bare.npz", Budget(scale=0.1, nnz=2))
    with pytest.raises(InputError, match="states nnz itself"):
        load_problem(tmp_path / "full.npz", Budget(bits=4))
    quantized = load_problem(tmp_path / "bare.npz", Budget(bits=3, scale=0.5))
    assert isinstance(quantized, IntegerLeastSquares)
    assert (quantized.scale, quantized.qmin, quantized.qmax) == (0.5, -4, 3)
    assert load_problem(tmp_path / "bare.npz", Budget(pattern=(1, 2))).pattern == (1, 2)


def test_a_pattern_keeps_its_stride(tmp_path: Path) -> None:
    problem = SparseLeastSquares(np.eye(6), np.arange(6.0), pattern=(1, 2), stride=3)
    write_npz(problem, tmp_path / "p.npz")
    again = load_problem(tmp_path / "p.npz")
    assert isinstance(again, SparseLeastSquares)
    assert (again.pattern, again.stride) == ((1, 2), 3)
    assert [group.tolist() for group, _ in again.budgets] == [[0, 3], [1, 4], [2, 5]]
    for stride in (0, 4, 7, 1.5):
        np.savez(tmp_path / "p.npz", gram=np.eye(6), weight=np.ones(6), pattern=(1, 2), stride=stride)
        with pytest.raises(InputError, match="stride"):
            load_problem(tmp_path / "p.npz")


def test_a_weight_on_a_dead_input_does_not_set_the_scale(tmp_path: Path) -> None:
    gram = np.diag([1.0, 0.0, 2.0])
    np.savez(tmp_path / "dead.npz", gram=gram, weight=np.array([0.3, 90.0, -0.7]))
    found = load_problem(tmp_path / "dead.npz", Budget(bits=4))
    assert isinstance(found, IntegerLeastSquares)
    assert found.scale == mse_scale([0.3, -0.7], -8, 7)


@pytest.mark.parametrize("name", ["missing.npz", "folder.npz", "problem.txt"])
def test_files_that_are_none(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(InputError):
        load_problem(tmp_path / name)


@pytest.mark.parametrize(("density", "n", "nnz"), [(0.1, 30, 3), (0.25, 27, 6), (1.0, 5, 5), (0.01, 5, 0)])
def test_a_density_never_keeps_more_than_it_allows(density: float, n: int, nnz: int) -> None:
    assert nnz_of_density(density, n) == nnz


@pytest.mark.parametrize("density", [0.0, -0.5, 1.1, float("nan")])
def test_density_outside_the_unit_interval(density: float) -> None:
    with pytest.raises(InputError, match="density"):
        nnz_of_density(density, 8)


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "result.npz"
    target.write_text("old")

    def write_half() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_paths_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="folder"):
        check_writable(tmp_path)
    with pytest.raises(OutputError, match="cannot be written"):
        check_writable(tmp_path / "missing" / "file.json")
    with pytest.raises(OutputError, match="cannot be written"):
        write_npz(SparseLeastSquares(np.eye(2), np.ones(2), nnz=1), tmp_path / "missing" / "p.npz")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_pipe_or_a_device_is_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "r.json"
    os.mkfifo(pipe)
    for path in (pipe, Path(os.devnull)):
        with pytest.raises(OutputError, match="is a device or a pipe"):
            check_writable(path)
        with pytest.raises(OutputError, match="is a device or a pipe"), replacing(path):
            pass
    assert pipe.is_fifo()
    assert Path(os.devnull).is_char_device()


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_a_link_to_the_new_file(tmp_path: Path, exists: bool) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "target.json", tmp_path / "link.json"
    link.symlink_to(target)
    if exists:
        target.write_text("old")
    check_writable(link)
    with replacing(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert (target.read_text(), link.read_text()) == ("new", "new")
    assert [path.name for path in target.parent.iterdir()] == ["target.json"]

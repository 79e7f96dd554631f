"""What an installed wheel must do where nothing but its own requirements is installed.

    make smoke PYTHON=python3.13        builds the wheel, makes an empty environment, runs this there
    python tests/smoke.py               in an environment of your own

Needs neither pytest nor the checkout. It fails with a traceback, and says what it saw where all is well.
"""

from __future__ import annotations

import importlib.util
import itertools
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pvqbounds as pvq

HEAVY = ("numba", "scipy", "torch", "matplotlib")
light = not any(name in sys.modules for name in HEAVY)

import numpy as np  # noqa: E402  after the look at what `import pvqbounds` brought

ROW = 5
RNG = np.random.default_rng(0)
INPUTS = RNG.standard_normal((50, ROW))
GRAM = INPUTS.T @ INPUTS / len(INPUTS)
WEIGHT = RNG.standard_normal(ROW)
CODES = range(-2, 2)
SCALE = 0.5
KEPT = 2


def error(weights: np.ndarray) -> float:
    """The mean squared output error of weights."""
    difference = weights - WEIGHT
    return float(difference @ GRAM @ difference)


def refit(support: tuple[int, ...]) -> float:
    """The least error of weights that are zero outside a support."""
    kept = list(support)
    weights = np.zeros(ROW)
    weights[kept] = np.linalg.solve(GRAM[np.ix_(kept, kept)], GRAM[kept] @ WEIGHT)
    return error(weights)


def solved() -> Mapping[str, tuple[object, pvq.Bounds]]:
    """Quantization, pruning and both at once, each held against all that there is."""
    grid = [np.array(z) * SCALE for z in itertools.product(CODES, repeat=ROW)]
    ends = SCALE, CODES[0], CODES[-1]
    cases = {
        "quantization": (
            pvq.IntegerLeastSquares(GRAM, WEIGHT, *ends),
            min(error(v) for v in grid),
        ),
        "pruning": (
            pvq.SparseLeastSquares(GRAM, WEIGHT, nnz=KEPT),
            min(refit(support) for support in itertools.combinations(range(ROW), KEPT)),
        ),
        "joint": (
            pvq.IntegerLeastSquares(GRAM, WEIGHT, *ends, nnz=KEPT),
            min(error(v) for v in grid if np.count_nonzero(v) <= KEPT),
        ),
    }
    found = {}
    for name, (problem, least) in cases.items():
        bounds = pvq.solve(problem)
        assert bounds.status == "optimal", (name, bounds.status)
        assert bounds.lower_kind == "certified", (name, bounds.lower_kind)
        assert bounds.error_lower <= least * (1 + 1e-9), (name, bounds.error_lower, least)
        assert abs(bounds.error_upper - least) <= 1e-9 * least, (name, bounds.error_upper, least)
        assert pvq.verify(problem, bounds), name
        found[name] = problem, bounds
    return found


def command(*arguments: str, code: int = 0) -> str:
    """What a command prints, standard error included."""
    program = [str(Path(sys.executable).parent / "pvqbounds"), *arguments]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


def files(folder: Path) -> None:
    """A problem from a file, its result in a file, proved again from there; a false one is not."""
    np.savez(folder / "problem.npz", gram=GRAM, weight=WEIGHT, scale=SCALE, qmin=CODES[0], qmax=CODES[-1])
    result = folder / "result.json"
    command("solve", str(folder / "problem.npz"), "--json", str(result))
    command("verify", str(result))
    text = result.read_text()
    stated = re.search(r'"error_lower": ([0-9.e+-]+)', text)
    assert stated is not None, text
    result.write_text(text.replace(stated[1], str(1.01 * float(stated[1]))))
    command("verify", str(result), code=1)


def commands() -> None:
    """The command line helps, names its version, and says what a layer needs."""
    assert "layer" in command("--help")
    assert command("--version") == f"pvqbounds {pvq.__version__}\n"
    assert metadata.version("pvqbounds") == pvq.__version__
    assert "native" in command("solvers")
    if importlib.util.find_spec("torch") is None:
        refused = command("layer", code=2)
        assert "torch" in refused, refused
        assert "pip install" in refused, refused


def main() -> None:
    """Run all of it."""
    assert light, [name for name in HEAVY if name in sys.modules]
    where = Path(pvq.__file__).parent
    assert (where / "py.typed").exists()
    assert (where / "nn" / "embedded" / "digits_cnn.safetensors").exists()
    assert (where / "report" / "page" / "templates" / "page.html").exists()
    assert list((where / "storage" / "schemas").glob("*.json"))
    for name, (_, bounds) in solved().items():
        print(f"{name:14} {bounds.error_upper:.6f}, optimal and certified")
    with tempfile.TemporaryDirectory() as folder:
        files(Path(folder))
    commands()
    print(f"pvqbounds {pvq.__version__} holds on Python {platform.python_version()}: {where}")


if __name__ == "__main__":
    main()

"""Commands whose packages are not installed say which extra brings them."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pvqbounds.commands.missing import EXTRAS, what_is_missing

HIDDEN = "import sys; sys.modules[{module!r}] = None; from pvqbounds.cli import main; main({arguments!r})"


@pytest.mark.parametrize(
    ("module", "extra", "arguments"),
    [
        ("torch", "nn", ["layer"]),
        ("torch", "nn", ["network", "--store", "nowhere"]),
        ("torch", "nn", ["compare"]),
        ("torch", "nn,train", ["train", "qat"]),
        ("matplotlib", "plot", ["distributions", "--figure", "2", "--plot", "figure.svg"]),
    ],
)
def test_a_sentence_names_the_extra(module: str, extra: str, arguments: list[str], tmp_path: Path) -> None:
    program = [sys.executable, "-c", HIDDEN.format(module=module, arguments=arguments)]
    done = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2, done.stderr
    assert module in done.stderr.lower()
    assert f"pvqbounds[{extra}]" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_fault_of_ours_stays_a_traceback() -> None:
    assert (
        what_is_missing(ModuleNotFoundError("No module named 'pvqbounds.gone'", name="pvqbounds.gone"))
        is None
    )
    assert what_is_missing(ModuleNotFoundError("who knows")) is None


def test_every_extra_that_is_named_exists() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(EXTRAS.values()) <= project["optional-dependencies"].keys()

"""Blocks of a page, run in a folder one after the other: Python in one namespace, commands as typed."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import run
from page_blocks import LANGUAGES, ROOT, Block

PROMPT = "$ "


class Stage:
    """The folder and the namespace in which the blocks of one page run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {"__name__": "__page__"}
        (folder / "examples").symlink_to(ROOT / "examples")

    def play(self, block: Block) -> None:
        """Run a block; its failure is an error that names its place."""
        language = LANGUAGES[block.language]
        if language == "python":
            self._python(block)
        elif language == "shell":
            self._commands(block, [(command, None) for command in logical_lines(block.text)])
        else:
            self._commands(block, sessions(block.text))

    def _python(self, block: Block) -> None:
        tree = ast.increment_lineno(ast.parse(block.text), block.line - 1)
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(tree, str(ROOT / block.page), "exec", dont_inherit=True), self.names)

    def _commands(self, block: Block, commands: list[tuple[str, str | None]]) -> None:
        expected = int(block.markers.get("exit", "0"))
        for number, (command, shown) in enumerate(commands):
            output, code = self._command(command)
            wanted = expected if number == len(commands) - 1 else 0
            assert code == wanted, f"{block.place}: `{command}` ended with {code}, not {wanted}\n{output}"
            if shown is not None:
                assert matches(shown, output), (
                    f"{block.place}: `{command}` prints\n{output}\nand not\n{shown}"
                )

    def _command(self, command: str) -> tuple[str, int]:
        """What a command prints, and how it ends; `pvqbounds` is run in this process, all else by a shell."""
        words = shlex.split(command, comments=True)
        if words and words[0] == "pvqbounds" and not set(words) & {"|", ">", "&&", "<", ";"}:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                code = run(*words[1:])
            return printed.getvalue(), code
        bin_folder = str(Path(sys.executable).parent)
        environment = os.environ | {
            "PATH": bin_folder + os.pathsep + os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr, done.returncode


def logical_lines(text: str) -> list[str]:
    """The commands of a block of shell: continued lines in one, loops as they are, without comments."""
    joined = text.replace("\\\n", " ")
    if re.search(r"^(for|while|if) ", joined, re.MULTILINE):
        return [joined]
    return [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def sessions(text: str) -> list[tuple[str, str]]:
    """Commands behind a prompt, each with what it prints."""
    found: list[tuple[str, str]] = []
    for part in re.split(rf"^{re.escape(PROMPT)}", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        while command.endswith("\\"):
            more, _, output = output.partition("\n")
            command = command[:-1] + more
        found.append((command, output))
    return found


def matches(shown: str, printed: str) -> bool:
    """Whether an output is what a page shows, but for spaces and seconds; `...` stands for anything."""
    wanted = re.escape(_plain(shown)).replace(re.escape("..."), ".*")
    return re.fullmatch(wanted, _plain(printed), re.DOTALL) is not None


def _plain(text: str) -> str:
    """Text whose seconds are all alike, and so are its spaces and the lengths of its lines."""
    timeless = re.sub(r"\d[\d.e-]* s\b", "# s", text)
    return re.sub(r"\s+", " ", re.sub(r"─+", "─", timeless)).strip()


def missing(block: Block) -> list[str]:
    """Modules that a block needs and that are not here."""
    return [name for name in block.listed("needs") if importlib.util.find_spec(name) is None]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A stage of its own; what pages register, import and set is gone after it."""
    from pvqbounds import methods, solvers
    from pvqbounds.problems.formats import registry

    for module, name in (
        (methods, "_METHODS"),
        (solvers, "BACKENDS"),
        (registry, "VALUE_RULES"),
        (registry, "SUPPORT_RULES"),
    ):
        monkeypatch.setattr(module, name, dict(getattr(module, name)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setenv("COLUMNS", "80")
    before = set(sys.modules)
    yield Stage(tmp_path)
    for name in set(sys.modules) - before:
        place = getattr(sys.modules[name], "__file__", None) or ""
        if place.startswith(str(tmp_path)) or name.split(".")[0] == "examples":
            del sys.modules[name]

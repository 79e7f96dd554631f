"""What ``--help`` prints in a terminal of 80 columns: whole words, the options' own forms, and defaults."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from command_line import run

from pvqbounds.cli import app

NEGATIVE = {"--no-words", "--no-keep-grams", "--per-layer"}
"""The other half of a switch that is on, or may be, where nothing is said. Others have none."""

FRAME = re.compile("[│╭╮╰╯─]+")
MARKUP = re.compile(r"\[/?(?:bold|dim|italic|red|green|yellow|cyan|link)\b")

Path = tuple[str, ...]


def commands(command: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.fixture(params=COMMANDS, ids=lambda path: " ".join(path) or "pvqbounds")
def asked(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture
def shown(asked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    assert run(*asked, "--help") == 0
    return capsys.readouterr().out


def options(path: Path) -> list[Any]:
    """By their word for it: typer may bring a click of its own."""
    return [each for each in COMMANDS[path].params if each.param_type_name == "option"]


def has_default(option: Any) -> bool:
    """Whether there is a value that is taken, or told, where nothing is said."""
    return isinstance(option.show_default, str) or option.default not in (None, False)


def test_every_command_is_asked() -> None:
    assert {("layer",), ("network",), ("train", "qat")} <= COMMANDS.keys()
    assert any(has_default(option) for path in COMMANDS for option in options(path))
    assert {
        form for path in COMMANDS for option in options(path) for form in option.secondary_opts
    } == NEGATIVE


def test_it_fits_and_nothing_is_cut_or_left_as_markup(shown: str) -> None:
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    assert not MARKUP.search(shown)


def test_no_word_of_it_is_broken(asked: Path, shown: str) -> None:
    words = set(FRAME.sub(" ", shown).split())
    command = COMMANDS[asked]
    for text in (command.help, command.epilog, *(getattr(each, "help", None) for each in command.params)):
        plain = re.sub(r"\[/?[a-z]+\]", " ", text or "").split("\f")[0]
        assert set(plain.split()) <= words, f"{' '.join(asked)}: {set(plain.split()) - words}"


def test_options_have_the_forms_that_are_meant(asked: Path, shown: str) -> None:
    words = set(shown.split())
    for option in options(asked):
        assert {*option.opts, *option.secondary_opts} <= words
        assert set(option.secondary_opts) <= NEGATIVE
    assert set(re.findall(r"--no-[\w-]+", shown)) <= NEGATIVE


def test_defaults_are_shown(asked: Path, shown: str) -> None:
    for option in filter(has_default, options(asked)):
        _, row = re.split(rf"^│[ *]{{1,4}}{re.escape(option.opts[0])}(?= )", shown, flags=re.MULTILINE)
        row = re.split(r"^│[ *]{1,4}--", row, maxsplit=1, flags=re.MULTILINE)[0]
        assert "[default: " in " ".join(FRAME.sub(" ", row).split()), f"{' '.join(asked)} {option.opts[0]}"

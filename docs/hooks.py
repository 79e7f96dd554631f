"""The command line's own words as a page of the site: every command with its options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

MARK = "<!-- every command -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the commands in the place of the mark."""
    return markdown.replace(MARK, "\n".join(_commands())) if MARK in markdown else markdown


def _commands() -> Iterator[str]:
    """Sections of all commands, in the order of `pvqbounds --help`."""
    import typer

    from pvqbounds.cli import app

    root: Any = typer.main.get_command(app)
    for name, command in root.commands.items():
        if hasattr(command, "commands"):
            for inner, own in command.commands.items():
                yield from _section(f"{name} {inner}", own)
        else:
            yield from _section(name, command)


def _section(name: str, command: Any) -> Iterator[str]:
    yield f"## pvqbounds {name}\n"
    yield _text(command.help or "")
    yield "\n| option | what it does | default |\n|---|---|---|"
    for parameter in command.params:
        names = ", ".join([*parameter.opts, *parameter.secondary_opts])
        if parameter.param_type_name == "argument":
            names = parameter.make_metavar(None) if parameter.metavar is None else parameter.metavar
        default = parameter.default
        shown = "" if default in (None, (), [], False) or callable(default) else f"`{default}`"
        yield f"| `{names}` | {_text(parameter.help or '').replace('|', chr(92) + '|')} | {shown} |"
    yield ""


def _text(help_text: str) -> str:
    """Help without the marks of the terminal."""
    plain = re.sub(r"\[/?(bold|dim|italic|green|cyan)\]", "", help_text.replace("\b", "").replace("\f", ""))
    return re.sub(r"\s*\n\s*", " ", plain.strip()).replace("<", "&lt;")

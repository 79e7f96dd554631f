"""The command line, called as the shell calls it."""

from __future__ import annotations

import pytest

from pvqbounds import cli


def run(*arguments: str) -> int:
    """The exit status of a command."""
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    return int(stop.value.code or 0)

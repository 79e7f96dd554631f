"""The command line, called as the shell calls it."""

from __future__ import annotations

import pytest
from optional import absent

from pvqbounds import cli


def run(*arguments: str) -> int:
    """The exit status of a command; a skip where it stopped for want of an optional package."""
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    if package := absent(stop.value.__context__):  # what it stopped for
        pytest.skip(f"needs {package}")
    return int(stop.value.code or 0)

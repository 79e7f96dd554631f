"""Formats asked for by names or short forms, and what cannot be asked."""

from __future__ import annotations

from typing import Any

import pytest

from pvqbounds.errors import InputError
from pvqbounds.problems.formats import asked_formats
from pvqbounds.problems.formats.format import Format

NOTHING: dict[str, Any] = {"formats": None, "bits": None, "density": None, "pattern": None}


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, ["int4", "25%"]),
        ({"bits": 8}, ["int8", "50%"]),
        ({"bits": 3, "density": 0.5}, ["int3", "50%"]),
        ({"pattern": (2, 4)}, ["int4", "2:4"]),
        ({"formats": ["nf4", "2:4+int4"]}, ["nf4", "2:4+int4"]),
        ({"formats": ()}, None),
        ({"formats": "int4"}, "in brackets"),
        ({"formats": ["int4", "4:8", "int4"]}, "int4 is given 2 times"),
        ({"formats": ["int4"], "bits": 4}, "not both"),
        ({"formats": ["int4"], "pattern": (2, 4)}, "not both"),
        ({"density": 0.5, "pattern": (2, 4)}, "not both"),
        ({"formats": ["int4:g0"]}, "g0"),
    ],
)
def test_names(asked: dict[str, Any], names: list[str] | str | None) -> None:
    if isinstance(names, list):
        assert [form.name for form in asked_formats(**NOTHING | asked)] == names
    else:
        with pytest.raises(InputError, match=names or "at least one"):
            asked_formats(**NOTHING | asked)


def test_a_format_is_something() -> None:
    with pytest.raises(InputError, match="values, like int4, or a support"):
        Format()

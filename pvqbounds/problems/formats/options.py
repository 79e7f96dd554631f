"""The options of a format's name, ``:g128`` and the like, each taken once."""

from __future__ import annotations

import re

from pvqbounds.errors import InputError, shown
from pvqbounds.problems.validation import whole_number

__all__ = ["Options", "whole"]

LARGEST_NUMBER = 2**31
MOST_DIGITS = 12
"""int refuses thousands of them with an error of its own."""


def whole(digits: str) -> int:
    """The number of digits 0 to 9, or where there are very many another one that is too large as well."""
    return int(digits.lstrip("0")[:MOST_DIGITS] or "0")


class Options:
    """What follows the colons of a name: a format asks for what it knows, and nothing may be left."""

    def __init__(self, head: str, texts: list[str]) -> None:
        self._head, self._left = head, list(texts)
        self._known: list[str] = []

    def one_of(self, *choices: str) -> str:
        """The one of `choices` that is asked for, or the first of them."""
        return self._taken(choices) or choices[0]

    def named(self, name: str) -> bool:
        """Whether `name` is among what is left, which it does not take."""
        return name in self._left

    def flag(self, name: str) -> bool:
        """Whether `name` is asked for."""
        return self._taken((name,)) is not None

    def number(self, letter: str) -> int | None:
        """N of an option like ``g128``, or None."""
        self._known.append(f"{letter}N")
        asked = [text for text in self._left if re.fullmatch(letter + "[0-9]+", text)]
        if not asked:
            return None
        self._left.remove(asked[0])  # a second one is left over, and refused
        return whole_number(whole(asked[0][1:]), f"N of {shown(asked[0])}", 1, LARGEST_NUMBER)

    def _taken(self, choices: tuple[str, ...]) -> str | None:
        self._known += [choice for choice in dict.fromkeys(choices) if choice not in self._known]
        for text in self._left:
            if text in choices:
                self._left.remove(text)  # a second one is left over, and refused
                return text
        return None

    def finish(self) -> None:
        """Refuse what is left.

        Raises
        ------
        InputError
            If an option is unknown, or given twice, or does not go with another.
        """
        if not self._left:
            return
        if not self._known:
            raise InputError(f"Format '{self._head}' has no options; leave out {shown(self._left[0])}.")
        known = ", ".join(self._known)
        raise InputError(
            f"Option {shown(self._left[0])} of format '{self._head}' is unknown, repeated or against "
            f"another; there are {known}, each at most once."
        )

"""Refuses what only npz says: steps of a scale that is free."""

from __future__ import annotations

from pvqbounds.errors import InputError
from pvqbounds.problems import Problem

__all__ = ["refuse_free_scale"]


def refuse_free_scale(problem: Problem, form: str) -> None:
    """Refuse a problem whose values depend on a scale.

    Raises
    ------
    InputError
        If it is one.
    """
    if problem.settled is not problem:
        raise InputError(
            f"{form} holds values, and steps of any scale have none; fix the scale, or take npz."
        )

"""Problems in files that others read: one small file a form, and the registry that finds them by suffix."""

from __future__ import annotations

from pathlib import Path

from pvqbounds.errors import InputError, did_you_mean, shown
from pvqbounds.problems import Problem
from pvqbounds.problems.least_squares import checked_problem
from pvqbounds.storage.problem_forms.cbf import CBF
from pvqbounds.storage.problem_forms.form import ProblemForm
from pvqbounds.storage.problem_forms.lp import LP
from pvqbounds.storage.problem_forms.mps import MPS
from pvqbounds.storage.problem_forms.npz import NPZ
from pvqbounds.storage.problem_forms.qubo import QUBO
from pvqbounds.storage.problem_forms.sdpa import SDPA

__all__ = ["PROBLEM_FORMS", "ProblemForm", "problem_form", "save_problem"]

PROBLEM_FORMS = {form.name: form for form in (NPZ, MPS, LP, CBF, SDPA, QUBO)}
"""All forms by name."""


def problem_form(path: str | Path, name: str | None = None) -> ProblemForm:
    """The form of that name, or the one that files with such a name have.

    Raises
    ------
    InputError
        If there is none.
    """
    if name is not None:
        if not isinstance(name, str):
            raise InputError(f"The form must be one of {', '.join(PROBLEM_FORMS)}, not {shown(name)}.")
        if name not in PROBLEM_FORMS:
            hint = did_you_mean(name, PROBLEM_FORMS)
            raise InputError(f"There is no form '{name}' of a problem; {hint} {', '.join(PROBLEM_FORMS)}.")
        return PROBLEM_FORMS[name]
    if not isinstance(path, str | Path):
        raise InputError(f"The path of a problem must be a text or a Path, not {shown(path)}.")
    suffix = Path(path).suffix.lower()
    for form in PROBLEM_FORMS.values():
        if suffix in form.suffixes:
            return form
    known = ", ".join(suffix for form in PROBLEM_FORMS.values() for suffix in form.suffixes)
    raise InputError(
        f"{path} does not say in what form to write a problem; let its name end in one of {known}, or name "
        "the form."
    )


def save_problem(problem: Problem, path: str | Path, form: str | None = None) -> None:
    """Write a problem for this package or for others, whole or not at all.

    Parameters
    ----------
    problem
        Any; :data:`PROBLEM_FORMS` says what each form holds of it.
    path
        The file.
    form
        "npz" (the problem itself, which :func:`pvqbounds.load_problem` reads), "mps" or "lp" (its integer
        program), "cbf" or "sdpa" (its semidefinite relaxation), "qubo" (bits without constraints); by default
        what the file's name ends in.

    Raises
    ------
    InputError
        If there is no such form, or it cannot say such a problem.
    OutputError
        If the file cannot be written.
    """
    problem_form(path, form).write(checked_problem(problem), Path(path))

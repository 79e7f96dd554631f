"""npz: the problem itself, exactly, as `pvqbounds solve` and :func:`pvqbounds.load_problem` read it."""

from __future__ import annotations

from pvqbounds.storage.problem_files import write_npz
from pvqbounds.storage.problem_forms.form import ProblemForm

__all__ = ["NPZ"]

NPZ = ProblemForm("npz", (".npz",), "the problem itself", write_npz)

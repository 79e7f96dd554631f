"""Who solves: one file a backend, and the registry that finds them by name.

No backend is imported before it is asked for, and none is trusted: its multipliers are turned
into a proof, its incumbents are evaluated again (:mod:`pvqbounds.solving.one`).
"""

from __future__ import annotations

import difflib
import sys
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from pvqbounds.errors import InputError, SolverError
from pvqbounds.solvers.base import Backend, Capability, Licence

__all__ = [
    "BACKENDS",
    "SolverInfo",
    "alternatives",
    "available_solvers",
    "backend_named",
    "backend_of",
    "citation",
    "solvers",
]

BACKENDS = {
    "native": ("pvqbounds.solvers.native.backend", "Native"),
    "clarabel": ("pvqbounds.solvers.cone.clarabel_", "Clarabel"),
    "scs": ("pvqbounds.solvers.cone.scs_", "SCS"),
    "mosek": ("pvqbounds.solvers.mosek_", "Mosek"),
    "gurobi": ("pvqbounds.solvers.miqp.gurobi_", "Gurobi"),
    "highs": ("pvqbounds.solvers.miqp.highs_", "Highs"),
    "scip": ("pvqbounds.solvers.miqp.scip_", "Scip"),
}
"""Module and class of every backend, in the order in which they are listed."""


@dataclass(frozen=True)
class SolverInfo:
    """What `pvqbounds solvers` says of one backend."""

    name: str
    installed: bool
    licence: Licence | None
    """None where it is not installed."""
    capabilities: frozenset[Capability]
    install: str
    citation: str


def backend_named(name: str, *either: Capability) -> Backend:
    """The backend `name`, able to do one of what is needed, here and now; "auto" is the native one.

    Raises
    ------
    InputError
        If no backend has that name.
    SolverError
        If it is not installed, has no licence or cannot do what is needed.
    """
    backend = backend_of("native" if name == "auto" else name)
    if not backend.capabilities & set(either):
        able = ", ".join(sorted(capability.value for capability in backend.capabilities)) or "neither"
        wanted = "' or '".join(capability.value for capability in either)
        raise SolverError(f"{name} cannot do '{wanted}' (it can do: {able}); {alternatives(*either)}.")
    if not backend.available():
        raise SolverError(
            f"{name} is not installed; install it with `{backend.install}`, or {alternatives(*either)}."
        )
    licence = backend.licence()
    if not licence.valid:
        raise SolverError(
            f"{name} is installed but has no licence ({licence.text}); {alternatives(*either)}."
        )
    return backend


def alternatives(*either: Capability, without: str | None = None) -> str:
    """Advice: the solvers usable here that can do one of these, "use --solver native or scip"."""
    able = [
        name
        for name in available_solvers()
        if name != without and backend_of(name).capabilities & set(either)
    ]
    return "use --solver " + " or ".join(filter(None, [", ".join(able[:-1]), able[-1]]))


def solvers() -> list[SolverInfo]:
    """Every known backend: installed or not, licensed or not, what it can do.

    The last stands for all solvers of CVXPY: each is a backend of its own, ``cvxpy:NAME``.
    """
    return [*_own_backends(), _cvxpy()]


def _own_backends() -> list[SolverInfo]:
    infos = []
    for name in BACKENDS:
        backend = backend_of(name)
        installed = backend.available()
        infos.append(
            SolverInfo(
                name,
                installed,
                backend.licence() if installed else None,
                backend.capabilities,
                backend.install,
                backend.citation,
            )
        )
    return infos


def _cvxpy() -> SolverInfo:
    """What can be said of CVXPY's solvers together."""
    from pvqbounds.solvers.cvxpy_ import CVXPY, Cvxpy, usable_solvers

    usable = usable_solvers()
    licence = None
    if usable is not None:
        names = ", ".join(usable)
        text = (
            f"each its own; here are {names}: --solver {CVXPY.split(':')[0]}:{min(usable)}" if usable else ""
        )
        licence = Licence(bool(usable), text or "CVXPY finds no solver that can do any of it")
    able = frozenset[Capability]().union(*(usable or {}).values())
    known = frozenset(Capability) - {Capability.SPLITS}
    return SolverInfo(
        CVXPY, usable is not None, licence, able if usable else known, Cvxpy.install, Cvxpy.citation
    )


def available_solvers() -> list[str]:
    """Names of the backends that can be used here: installed and licensed; CVXPY's are not among them."""
    return [info.name for info in _own_backends() if info.licence is not None and info.licence.valid]


def citation(name: str) -> str:
    """How to cite the solver `name`, in BibTeX.

    Raises
    ------
    InputError
        If no backend has that name.
    """
    return backend_of("native" if name == "auto" else name).citation


def backend_of(name: str) -> Backend:
    """The backend `name`, whether it can be used here or not.

    Raises
    ------
    InputError
        If no backend has that name.
    """
    if name.startswith("cvxpy:"):
        from pvqbounds.solvers.cvxpy_ import cvxpy_backend

        return cvxpy_backend(name)
    if name not in BACKENDS:
        near = difflib.get_close_matches(name, BACKENDS, n=1)
        hint = f"did you mean {near[0]}?" if near else "they are:"
        raise InputError(f"There is no solver '{name}'; {hint} auto, {', '.join(BACKENDS)}, cvxpy:NAME.")
    module, attribute = BACKENDS[name]
    backend: Backend = getattr(import_module(module), attribute)()
    return backend


class _CallableModule(ModuleType):
    """Lets ``pvqbounds.solvers()`` list the backends although ``pvqbounds.solvers`` is this package."""

    def __call__(self) -> list[SolverInfo]:
        return solvers()


sys.modules[__name__].__class__ = _CallableModule

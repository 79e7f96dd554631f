"""Who solves: one file a backend, and the registry that finds them by name.

Besides the package's own there are those that :func:`register` was told of and those of installed
packages: entry points of the group ``pvqbounds.solvers``. No backend is imported before it is asked for, one
that cannot be loaded costs only itself, and none is trusted: its multipliers are turned
into a proof, its incumbents are evaluated again (:mod:`pvqbounds.solving.one`).
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from types import ModuleType

from pvqbounds.errors import InputError, PvqError, SolverError, did_you_mean, one_line, shown
from pvqbounds.solvers.base import Backend, Capability, Licence

__all__ = [
    "BACKENDS",
    "SolverInfo",
    "alternatives",
    "available_solvers",
    "backend_named",
    "backend_of",
    "citation",
    "register",
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
"""Module and class of the package's own backends and of those that were registered, in the order of lists."""

ENTRY_POINTS = "pvqbounds.solvers"
"""Group of the entry points by which installed packages offer backends."""

_OWN = frozenset(BACKENDS)
_NAME = re.compile(r"[a-z0-9][a-z0-9+._-]{0,39}")


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


def register(name: str, module: str, attribute: str) -> None:
    """Make a backend of one's own known by its name, in place of one that was registered by it before.

    Parameters
    ----------
    name
        What ``solver=`` takes; the class says the same.
    module, attribute
        Where its class is: a subclass of :class:`~pvqbounds.solvers.base.Backend`. It is imported when the
        backend is first asked for.

    Raises
    ------
    InputError
        If it is no name, or one of the package's own.
    """
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise InputError(
            f"The name of a backend is at most 40 small letters, digits and +-._, not {shown(name)}."
        )
    if name in _OWN or name == "auto":
        raise InputError(f"The solver {name} is the package's own; give yours another name.")
    for what, text in (("module", module), ("class", attribute)):
        if not (isinstance(text, str) and text):
            raise InputError(f"The {what} of a backend is given by its name, not {shown(text)}.")
    BACKENDS[name] = (module, attribute)


def _known() -> dict[str, tuple[str, str]]:
    """Module and class of every backend; those of installed packages come last, and take nobody's name."""
    return BACKENDS | {name: place for name, place in _offered().items() if name not in BACKENDS}


@cache
def _offered() -> dict[str, tuple[str, str]]:
    """Backends of the installed packages, by name."""
    offered = {}
    for point in metadata.entry_points(group=ENTRY_POINTS):
        module, _, attribute = point.value.partition(":")  # nothing is parsed that could fail for all
        if _NAME.fullmatch(point.name) and point.name != "auto":
            offered[point.name] = (module.strip(), attribute.strip())
    return offered


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
    return [_info(name) for name in _known()]


def _info(name: str) -> SolverInfo:
    """What a backend says of itself, or why it says nothing."""
    try:
        backend = backend_of(name)
        installed = backend.available()
        licence = backend.licence() if installed else None
    except Exception as error:  # whatever somebody's code does, the others are listed
        text = one_line(str(error) if isinstance(error, PvqError) else f"{type(error).__name__}: {error}")
        return SolverInfo(name, True, Licence(False, text), frozenset(), "", "")
    return SolverInfo(name, installed, licence, backend.capabilities, backend.install, backend.citation)


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
    return SolverInfo(
        CVXPY,
        usable is not None,
        licence,
        able if usable else Cvxpy.capabilities,
        Cvxpy.install,
        Cvxpy.citation,
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
    SolverError
        If it cannot be loaded.
    """
    if name.startswith("cvxpy:"):
        from pvqbounds.solvers.cvxpy_ import cvxpy_backend

        return cvxpy_backend(name)
    known = _known()
    if name not in known:
        hint = did_you_mean(name, known)
        raise InputError(f"There is no solver '{name}'; {hint} auto, {', '.join(known)}, cvxpy:NAME.")
    return _loaded(name, *known[name])


def _loaded(name: str, module: str, attribute: str) -> Backend:
    """The backend of a class by its place."""
    try:
        kind = getattr(import_module(module), attribute)
    except Exception as error:  # an import runs somebody's code
        why = one_line(f"{type(error).__name__}: {error}").rstrip(".")
        raise SolverError(
            f"The solver {name} cannot be loaded from {module} ({why}); mend or remove what offers it."
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, Backend) and getattr(kind, "name", None) == name):
        raise SolverError(
            f"{module}.{attribute} is no backend of the name {name}; derive a class from "
            f"pvqbounds.solvers.base.Backend with name = {name!r}."
        )
    return kind()


class _CallableModule(ModuleType):
    """Lets ``pvqbounds.solvers()`` list the backends although ``pvqbounds.solvers`` is this package."""

    def __call__(self) -> list[SolverInfo]:
        return solvers()


sys.modules[__name__].__class__ = _CallableModule

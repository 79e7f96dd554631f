"""Compile everything ahead: ``python -m pvqbounds.solving.compiling``, at an installation."""

from __future__ import annotations

from pvqbounds.solvers.native.compiling import KINDS, compile_kind, seconds_compiling
from pvqbounds.solving.layer_budget import compile_layer_budget

__all__ = ["main"]


def main() -> None:
    """Compile everything, and say how long it took."""
    for kind in KINDS:
        compile_kind(kind)
    compile_layer_budget()
    print(f"compiled in {seconds_compiling():.0f} s")


if __name__ == "__main__":
    main()

"""Why an interval is not closed: every "bounded" has its reason."""

from __future__ import annotations

__all__ = ["gap_note", "times"]


def gap_note(status: str, method: str, relaxation: str | None, note: str = "") -> str:
    """`note`, or what leaves the gap of a "bounded" interval where a solver has nothing to say of it.

    Parameters
    ----------
    status
        "optimal" or "bounded".
    method
        "exact" or "relax".
    relaxation
        Name of the relaxation, if one is behind the bound.
    note
        What is known already.
    """
    if note or status == "optimal":
        return note
    if method == "exact":
        return "the search ended, and rounding leaves this gap in its proof"
    return f"the gap of the {relaxation or 'solver'} relaxation"


def times(count: float) -> str:
    """A number of nodes in figures that a person reads: 0, 390, 12,000 or 3.4 million."""
    if count >= 1e6:
        return f"{count / 1e6:,.2g} million" if count < 1e9 else f"{count:.1e}"
    return f"{count:,.0f}"

"""Tests that need an absent package are skipped, and nothing else is: a fault beside it stays a fault."""

from __future__ import annotations

from collections.abc import Callable

import optional
import pytest
from conftest import _skipping

from pvqbounds.errors import InputError, SolverError

PACKAGE = "cvxpy"


@pytest.fixture(autouse=True)
def _absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optional, "find_spec", lambda name: None if name == PACKAGE else object())
    monkeypatch.delitem(optional.sys.modules, PACKAGE, raising=False)


def load() -> None:
    raise ModuleNotFoundError(f"No module named '{PACKAGE}'", name=PACKAGE)


def inner() -> None:
    raise ModuleNotFoundError("No module named 'cvxpy.atoms'", name="cvxpy.atoms")


def reworded() -> None:
    try:
        load()
    except ImportError as error:
        raise InputError(f"This needs {PACKAGE} ({error}).") from error


def twice() -> None:
    try:
        reworded()
    except InputError as error:
        raise SolverError("No solver is left.") from error


def fails_to_load() -> None:
    try:
        load()
    except ImportError as error:
        raise ImportError("a part of it does not load") from error


def wrong_type() -> None:
    try:
        reworded()
    except InputError:
        raise KeyError("bug") from None


def wrong_type_from() -> None:
    try:
        reworded()
    except InputError as error:
        raise KeyError("bug") from error


def bug_in_the_fallback() -> None:
    try:
        load()
    except ImportError:
        {}["bug"]


def own_error_in_the_fallback() -> None:
    try:
        load()
    except ImportError:
        raise InputError("The weights are not finite.")  # noqa: B904


def comparison_while_it_is_handled() -> None:
    try:
        reworded()
    except InputError as error:
        assert "pip install" in str(error)  # noqa: PT017  (the fault)


def comparison_from_it() -> None:
    try:
        reworded()
    except InputError as error:
        raise AssertionError("pip install") from error


def wrong_message() -> None:
    with pytest.raises(InputError, match="pip install"):
        reworded()


def another_package() -> None:
    raise ModuleNotFoundError("No module named 'pvqbound'", name="pvqbound")


def another_that_is_there() -> None:
    raise ModuleNotFoundError("No module named 'torch.fault'", name="torch.fault")


def circle() -> None:
    error = InputError("It is its own cause.")
    raise error from error


@pytest.mark.parametrize("need", [load, inner, reworded, twice, fails_to_load])
def test_what_needs_an_absent_package_is_skipped(need: Callable[[], None]) -> None:
    with pytest.raises((ImportError, InputError, SolverError)) as caught:
        need()
    assert optional.absent(caught.value) == PACKAGE
    step = _skipping()
    next(step)
    with pytest.raises(pytest.skip.Exception, match=f"needs {PACKAGE}"):
        step.throw(caught.value)


FAULTS = [
    wrong_type,
    wrong_type_from,
    bug_in_the_fallback,
    own_error_in_the_fallback,
    comparison_while_it_is_handled,
    comparison_from_it,
    wrong_message,
    another_package,
    another_that_is_there,
    circle,
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_stays_a_fault(fault: Callable[[], None]) -> None:
    with pytest.raises((Exception, pytest.fail.Exception)) as caught:
        fault()
    assert optional.absent(caught.value) is None
    step = _skipping()
    next(step)
    with pytest.raises(caught.type) as again:
        step.throw(caught.value)
    assert again.value is caught.value

import os
import sys
from collections.abc import Generator, Iterable
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

from optional import absent

# no test may depend on how fast the machine is; where others wait for the outcome, none on luck
settings.register_profile("pvqbounds", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("pvqbounds")


class Module(pytest.Module):
    """A file of tests, skipped as a whole where it imports an optional package that is not installed."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        try:
            return list(super().collect())
        except self.CollectError as error:
            if package := absent(error.__cause__):
                pytest.skip(f"needs {package}", allow_module_level=True)
            raise


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    return Module.from_parent(parent, path=module_path)


def _skipping() -> Generator[None, object, object]:
    """What a step of a test gives, or a skip for want of an optional package."""
    try:
        return (yield)
    except Exception as error:
        if package := absent(error):
            pytest.skip(f"needs {package}")
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from _skipping())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from _skipping())

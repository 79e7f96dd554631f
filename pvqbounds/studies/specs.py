"""Distributions by name, as the command line takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError, nearest_name
from pvqbounds.problems.validation import as_real_array
from pvqbounds.storage.archive import parse_arrays, read_bytes
from pvqbounds.studies.distributions import Distribution, Gaussian, Laplace, Mixture, StudentT, Uniform
from pvqbounds.studies.expected import expected_errors
from pvqbounds.studies.quadrature import ScipyDistribution
from pvqbounds.studies.rows import DistributionRow, distribution_row, sample_row
from pvqbounds.studies.tensors import tensor_errors

__all__ = ["DEFAULT_NAMES", "Sample", "as_distribution", "distribution_rows", "parse_distribution"]

DEFAULT_NAMES = ("gaussian", "laplace", "uniform", "student-t", "mixture")

SAMPLE_SUFFIXES = (".npy", ".npz")


@dataclass(frozen=True, eq=False)
class Sample:
    """Weights themselves in place of a distribution."""

    name: str
    values: NDArray[np.float64]
    """Shape (n,)."""


def _mixture(share: float = 0.1, ratio: float = 10.0) -> Distribution:
    if not 0.0 <= share <= 1.0:
        raise InputError(f"The share of the wide part of a mixture must lie in [0, 1], not {share}.")
    return Mixture((Gaussian(), Gaussian(ratio)), (1.0 - share, share))


NAMED: dict[str, Callable[..., Distribution]] = {
    "gaussian": Gaussian,
    "laplace": Laplace,
    "uniform": Uniform,
    "student-t": StudentT,
    "mixture": _mixture,
}


def parse_distribution(text: str) -> Distribution | Sample:
    """The distribution of a name.

    Parameters
    ----------
    text
        ``gaussian``, ``laplace``, ``uniform``, ``student-t`` (truncated: ``student-t:df=2,range=10``,
        or ``range=inf``) or ``mixture`` (of two Gaussians: ``mixture:share=0.1,ratio=10``), with
        ``scale=`` where there is one; ``scipy:NAME``, a continuous distribution of `scipy.stats`,
        with its parameters (``scipy:gennorm:0.7`` or ``scipy:gennorm:beta=0.7``); or
        ``sample:FILE``, the numbers of an .npy or .npz file.

    Raises
    ------
    InputError
        If there is no such distribution (the nearest is given), or its parameters are invalid.
    """
    name, _, rest = text.partition(":")
    if name == "sample":
        return _sample(Path(rest))
    if name == "scipy":
        return _scipy(*rest.partition(":")[::2])
    if name not in NAMED:
        near = nearest_name(name, NAMED)
        hint = f" (did you mean '{near}'?)" if near else ""
        raise InputError(
            f"There is no distribution '{name}'{hint}; there are {', '.join(NAMED)}, "
            "scipy:NAME and sample:FILE."
        )
    values, named = _parameters(rest)
    try:
        return NAMED[name](*values, **named)
    except TypeError as error:
        raise InputError(f"{name} does not take the parameters {rest}.") from error


def _parameters(text: str) -> tuple[list[float], dict[str, float]]:
    values: list[float] = []
    named: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.rpartition("=")
        try:
            number = float(value)
        except ValueError as error:
            raise InputError(f"'{value}' in '{text}' is not a number.") from error
        if equals:
            named[key.strip()] = number
        else:
            values.append(number)
    return values, named


def _scipy(name: str, parameters: str) -> Distribution:
    from scipy import stats

    family: Any = getattr(stats, name, None)
    if not isinstance(family, stats.rv_continuous):
        known = [each for each in dir(stats) if isinstance(getattr(stats, each), stats.rv_continuous)]
        near = nearest_name(name, known)
        hint = f" (did you mean '{near}'?)" if near else ""
        raise InputError(f"scipy.stats has no continuous distribution '{name}'{hint}.")
    values, named = _parameters(parameters)
    try:
        return ScipyDistribution(family(*values, **named))
    except TypeError as error:
        shapes = family.shapes or "no shape"
        raise InputError(f"scipy's {name} takes {shapes}, loc and scale, not '{parameters}'.") from error


def _sample(path: Path) -> Sample:
    if path.suffix not in SAMPLE_SUFFIXES:
        raise InputError(f"A sample is read from {' or '.join(SAMPLE_SUFFIXES)} files, not from {path}.")
    if path.suffix == ".npz":
        arrays = parse_arrays(read_bytes(path), path)
        if len(arrays) != 1:
            raise InputError(f"{path} must hold one array; it holds {len(arrays)}.")
        values = next(iter(arrays.values()))
    else:
        try:
            values = np.load(path, allow_pickle=False)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
        except (EOFError, ValueError) as error:
            raise InputError(f"{path} is damaged, or not a .npy file of numbers ({error}).") from error
    return Sample(f"sample {path.name}", as_real_array(np.ravel(values), f"The sample {path}", ndim=1))


def as_distribution(value: Any) -> Distribution | Sample:
    """A distribution, its name, a frozen distribution of `scipy.stats`, or a sample, as one of ours.

    Raises
    ------
    InputError
        If it is none of these.
    """
    if isinstance(value, Distribution | Sample):
        return value
    if isinstance(value, str):
        return parse_distribution(value)
    if hasattr(value, "pdf"):
        return ScipyDistribution(value)
    return Sample("sample", as_real_array(np.ravel(np.asarray(value)), "The sample", ndim=1))


def distribution_rows(
    distribution: Any,
    bits: Sequence[int] = range(2, 9),
    *,
    narrow: bool = False,
    group_size: int | None = None,
    monte_carlo: int = 0,
    seed: int = 0,
) -> list[DistributionRow]:
    """Quantization and pruning of weights from a distribution, one row for each bit width.

    Parameters
    ----------
    distribution
        What :func:`as_distribution` takes.
    bits, narrow, group_size, monte_carlo, seed
        As in :func:`pvqbounds.studies.expected.expected_errors`. A sample is its own expectation.

    Raises
    ------
    InputError
        If something of this cannot be used.
    """
    found = as_distribution(distribution)
    name = distribution if isinstance(distribution, str) else found.name
    if isinstance(found, Sample):
        if group_size is not None:
            raise InputError("Groups are drawn from a distribution, which a sample is not.")
        return [sample_row(name, found.name, e) for e in tensor_errors(found.values, bits, narrow=narrow)]
    results = expected_errors(
        found, bits, narrow=narrow, group_size=group_size, monte_carlo=monte_carlo, seed=seed
    )
    return [distribution_row(name, each) for each in results]

"""Flags of Python's entry points: what is neither true nor false is refused, and not taken as true."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.errors import InputError, checked_flags
from pvqbounds.solving.options import SolveOptions
from pvqbounds.studies.expected import expected_errors
from pvqbounds.studies.specs import as_distribution
from pvqbounds.studies.tensors import tensor_errors

torch = pytest.importorskip("torch")
from pvqbounds.nn.layer_options import LayerOptions  # noqa: E402
from pvqbounds.train.accuracy_table import accuracy_table  # noqa: E402
from pvqbounds.train.fit import fine_tune  # noqa: E402
from pvqbounds.train.layer_gaps import against_bounds  # noqa: E402
from pvqbounds.train.layer_reconstruction import reconstruct_pruning  # noqa: E402
from pvqbounds.train.network_reconstruction import reconstruct_network  # noqa: E402
from pvqbounds.train.run_gaps import gaps_of_run  # noqa: E402

GRAM, WEIGHT = np.eye(2), np.ones(2)
REPORT = pvq.nn.layer_bounds(torch.nn.Linear(2, 2), "", torch.eye(2), formats=["int2"], methods=[])


@pytest.mark.parametrize(
    ("name", "called"),
    [
        (name, called)
        for called, names in (
            (lambda **f: pvq.solve(pvq.IntegerLeastSquares(GRAM, WEIGHT, 0.4, -8, 7), **f), ["verbose"]),
            (SolveOptions, ["verbose"]),
            (
                lambda **f: pvq.nn.layer_bounds(torch.nn.Linear(2, 2), "", torch.eye(2), **f),
                ["verbose", "per_channel", "any_scale", "search_scales"],
            ),
            (LayerOptions, ["per_channel", "any_scale", "search_scales"]),
            (
                lambda **f: pvq.nn.network_bounds(torch.nn.Linear(2, 2), torch.eye(2), store="never", **f),
                ["per_channel", "keep_grams"],
            ),
            (lambda **f: REPORT.to_frame(**f), ["per_channel"]),
            (lambda **f: REPORT.plot("never.png", **f), ["words"]),
            (lambda **f: tensor_errors(WEIGHT, **f), ["narrow", "overwrite"]),
            (lambda **f: expected_errors(as_distribution("gaussian"), **f), ["narrow"]),
            (lambda **f: fine_tune(None, None, None, **f), ["resume", "skip_corrupt"]),
            (lambda **f: gaps_of_run(None, **f), ["any_scale", "skip_corrupt"]),
            (lambda **f: against_bounds(None, None, {}, **f), ["any_scale"]),
            (lambda **f: accuracy_table(None, None, None, None, **f), ["skip_corrupt"]),
            (lambda **f: reconstruct_network(None, None, None, **f), ["skip_corrupt"]),
            (lambda **f: reconstruct_pruning(GRAM, WEIGHT[None], nnz=1, **f), ["together"]),
        )
        for name in names
    ],
)
@pytest.mark.parametrize("value", ["no", 0, None])
def test_what_is_neither_true_nor_false_is_refused(
    name: str, called: Callable[..., Any], value: object
) -> None:
    with pytest.raises(InputError) as refused:
        called(**{name: value})
    assert str(refused.value) == f"{name} is True or False, not {value!r}."


def test_numpys_are_flags_too() -> None:
    checked_flags(one=np.bool_(True), other=False)
    assert inspect.signature(checked_flags).parameters

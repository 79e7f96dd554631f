"""Scales of groups that are searched for: never worse, of the format, and bounded as any others."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import pvqbounds as pvq
from pvqbounds import nn as bounds_of
from pvqbounds.clock import Clock
from pvqbounds.errors import InputError
from pvqbounds.problems.formats import parse
from pvqbounds.report.tables import layer_text
from pvqbounds.solving.block_scales import searched_blocks
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.results_written import write_layer

NAMES = ["int4:g8", "int3:g8:asym", "nvfp4", "mxfp4"]


def layer(seed: int, inputs: int = 32, channels: int = 2):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(4 * inputs, inputs))
    X[:, 1:] += 0.7 * X[:, :-1]
    return pvq.Gram(X.T @ X / len(X)), 0.1 * rng.standard_t(4, size=(channels, inputs))


def best(problem) -> float:
    return pvq.solve(problem, method="relax", time_limit=2.0).error_upper


@pytest.mark.parametrize("name", NAMES)
def test_scales_found_are_the_formats_own_and_no_worse(name: str) -> None:
    gram, weights = layer(1)
    form = parse(name)
    others = form.alternatives(weights)
    gains = []
    for channel, problem in enumerate(form.problems(gram, weights)):
        found, codes = searched_blocks(
            problem, others[channel], form.values.group, form.values.pose, Clock(math.inf)
        )
        assert form.fault(found) is None
        assert type(found) is type(problem)
        assert found.point(codes).upper <= problem.start().upper
        gains.append(best(problem) / min(best(found), found.error(codes).upper))
    assert min(gains) >= 1.0 - 1e-3
    assert name == "mxfp4" or max(gains) > 1.01


@pytest.mark.parametrize("name", NAMES)
def test_alternatives_differ_in_every_group(name: str) -> None:
    _, weights = layer(2)
    form = parse(name)
    (own, *_), others = form.grids(weights), form.alternatives(weights)[0]
    assert len(others) == len({tuple(values.highest) for values in others})
    for values in others:
        assert (values.highest != own.highest).all()


def test_formats_without_groups_have_none() -> None:
    _, weights = layer(3)
    for name in ("int4", "int4:channel", "nf4", "int4:any", "2:4"):
        assert parse(name).alternatives(weights) == [[], []]


def test_no_time_leaves_what_there_was() -> None:
    gram, weights = layer(4)
    form = parse("int4:g8")
    problem = form.problems(gram, weights)[0]
    others = form.alternatives(weights)[0]
    assert searched_blocks(problem, others, 8, form.values.pose, Clock(0.0))[0] is problem


def test_a_singular_gram_is_searched_too() -> None:
    rng = np.random.default_rng(5)
    X = rng.normal(size=(10, 24))
    gram, weights = pvq.Gram(X.T @ X / 10), rng.normal(size=(1, 24))
    form = parse("int4:g8")
    problem = form.problems(gram, weights)[0]
    found, codes = searched_blocks(
        problem, form.alternatives(weights)[0], 8, form.values.pose, Clock(math.inf)
    )
    assert form.fault(found) is None
    assert found.error(codes).upper <= problem.start().upper


def test_a_layer_with_searched_scales(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model, data = torch.nn.Sequential(torch.nn.Linear(32, 2, bias=False)), torch.randn(200, 32)
    formats = ["int4:g8", "nvfp4", "2:4"]
    own = bounds_of.layer_bounds(model, "0", data, formats=formats, time_limit=2.0)
    report = bounds_of.layer_bounds(model, "0", data, formats=formats, search_scales=True, time_limit=2.0)
    assert report.sides[0].error_upper <= own.sides[0].error_upper * 1.001
    assert [note for note in report.notes if "found on the output error" in note] == list(report.notes)[-2:]
    assert "int4:g8" in layer_text(report)
    path = tmp_path / "r.json"
    write_layer(report, path)
    assert [finding for finding in verify_file(path) if not finding.holds] == []
    with pytest.raises(InputError, match="search_scales"):
        bounds_of.layer_bounds(model, "0", data, formats=["int4", "2:4"], search_scales=True)


def every_scale(name: str, weight: np.ndarray) -> list[np.ndarray]:
    """E2M1 times every scale of a block of these weights: 126 numbers, or the powers of two around it."""
    levels = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    levels = np.concatenate([-levels[:0:-1], levels])
    if name == "mxfp4":
        exponent = int(np.frexp(np.abs(weight).max())[1])
        return [np.ldexp(levels, k) for k in range(exponent - 12, exponent + 3)]
    tensor = float(np.float32(np.abs(weight).max() / (6.0 * 448.0)))
    numbers = [m * 2.0**-9 for m in range(1, 8)]
    numbers += [(1.0 + m / 8.0) * 2.0**e for e in range(-6, 9) for m in range(8)]
    return [np.float32(np.float32(x) * levels * np.float32(tensor)).astype(float) for x in numbers[:126]]


def one_block(seed: int, n: int):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(4 * n, n))
    X[:, 1:] += 0.7 * X[:, :-1]
    return pvq.Gram(X.T @ X / len(X)), rng.normal(size=n)


def searched(name: str, gram: pvq.Gram, weight: np.ndarray) -> float:
    form = parse(name)
    problem, others = form.problems(gram, weight[None])[0], form.alternatives(weight[None])[0]
    found, codes = searched_blocks(problem, others, form.values.group, form.values.pose, Clock(math.inf))
    return found.error(codes).upper


@pytest.mark.parametrize("name", ["nvfp4", "mxfp4"])
def test_a_block_of_three_has_the_best_of_all_scales_and_codes(name: str) -> None:
    for seed in range(6):
        gram, weight = one_block(seed, 3)
        errors = []
        for levels in every_scale(name, weight):
            v = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
            errors.append(float(np.einsum("ki,ij,kj->k", v - weight, gram.matrix, v - weight).min()))
        assert searched(name, gram, weight) == pytest.approx(min(errors), rel=1e-9)


@pytest.mark.parametrize(("name", "n"), [("nvfp4", 8), ("mxfp4", 16)])
def test_a_block_has_the_best_of_exact_searches_at_every_scale(name: str, n: int) -> None:
    gram, weight = one_block(1, n)
    exact = [
        pvq.solve(pvq.CodebookLeastSquares(gram, weight, levels)) for levels in every_scale(name, weight)
    ]
    assert {bounds.status for bounds in exact} == {"optimal"}
    least = min(bounds.error_upper for bounds in exact)
    assert searched(name, gram, weight) == pytest.approx(least, rel=1e-9)
    assert pvq.solve(parse(name).problems(gram, weight[None])[0]).error_upper > 1.1 * least

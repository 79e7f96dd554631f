"""Sums of squares of rows, however the rows come, against one product of all of them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pvqbounds.errors import InputError
from pvqbounds.nn.accumulation import Accumulator
from pvqbounds.nn.layer_kinds import kind_of

GROUPS, CHANNELS, KERNEL = 2, 3, 4
"""Of the rows, whose inputs lie on two axes."""


@st.composite
def parts(draw):
    """Rows with two axes of positions, in any order in memory, some of them weighted."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    found = []
    for _ in range(draw(st.integers(1, 5))):
        lead = draw(st.tuples(st.integers(0, 4), st.integers(1, 9)))
        dtype = draw(st.sampled_from([torch.float64, torch.float32]))
        order = draw(st.permutations(range(5)))
        sizes = (GROUPS, *lead, CHANNELS, KERNEL)
        rows = torch.randn([sizes[axis] for axis in order], generator=generator).to(dtype)
        rows = rows.permute([order.index(axis) for axis in range(5)])
        weights = None
        if draw(st.booleans()):
            weights = torch.rand(lead[0] * lead[1], generator=generator)
            weights = torch.where(weights < 0.4, 0.0, weights.round(decimals=1))
        found.append((rows, weights))
    return found


@given(parts(), st.sampled_from([1, 4, 16, 1000]))
def test_rows_however_they_come_add_up(given, height):
    total = Accumulator("any", GROUPS, CHANNELS * KERNEL)
    expected, weight, positions = np.zeros((GROUPS, CHANNELS * KERNEL, CHANNELS * KERNEL)), 0.0, 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Accumulator, "height", height)
        for number, (rows, weights) in enumerate(given, start=1):
            flat = rows.reshape(GROUPS, rows.shape[1] * rows.shape[2], CHANNELS * KERNEL).double().numpy()
            own = np.ones(flat.shape[1]) if weights is None else weights.double().numpy()
            expected += np.einsum("p,gpi,gpj->gij", own, flat, flat)
            weight, positions = weight + own.sum(), positions + np.count_nonzero(own)
            if weights is not None:  # what has no weight is not looked at
                rows = rows.flatten(1, 2).clone()
                rows[:, weights == 0.0] = torch.nan
            total.add(rows, weights, number, inner=2)
        np.testing.assert_allclose(total.sums(), expected, rtol=1e-12, atol=1e-13)
    assert total.positions == positions
    assert total.weight == pytest.approx(weight)


@pytest.mark.parametrize("inputs", [5, 300])
@pytest.mark.parametrize("lines", [False, True])
def test_sums_of_a_layer_without_groups_are_whole(inputs, lines):
    total, expected = Accumulator("any", 1, inputs), np.zeros((inputs, inputs))
    for number in range(3):
        rows = torch.randn(1, 20, inputs, generator=torch.Generator().manual_seed(number))
        total.add(rows.mT.contiguous().mT if lines else rows)
        own = rows[0].double().numpy()
        expected += own.T @ own
        np.testing.assert_allclose(total.sums()[0], expected, rtol=1e-12, atol=1e-12)


def test_windows_are_views():
    module = nn.Conv2d(4, 2, 3, stride=2, groups=2)
    kind, inputs = kind_of(module), torch.randn(2, 4, 9, 9)
    rows = kind.spread_rows(inputs)
    assert rows.untyped_storage().data_ptr() == inputs.untyped_storage().data_ptr()
    assert rows.shape == (2, 2, 4, 4, 2, 3, 3)


def test_what_is_not_finite_is_told_by_its_batch():
    total = Accumulator("fc", 1, 2)
    for batch in (1, 2, 3):
        rows = torch.ones(1, 5, 2)
        rows[0, 3, 1] = torch.inf if batch == 2 else 1.0
        total.add(rows, None, batch)
    with pytest.raises(InputError, match="layer 'fc' is not finite in batch 2"):
        total.sums()


@pytest.mark.parametrize(("groups", "inputs"), [(1, 9), (1, 64), (3, 20), (3, 60)])
def test_sums_of_groups_are_whole_whatever_their_size(groups, inputs):
    """Half of a product is taken or all of it, by what is faster: both triangles are there."""
    total, expected = Accumulator("any", groups, inputs), np.zeros((groups, inputs, inputs))
    for number in range(3):
        rows = torch.randn(groups, 700, inputs, generator=torch.Generator().manual_seed(number))
        total.add(rows)
        own = rows.double().numpy()
        expected += own.transpose(0, 2, 1) @ own
        np.testing.assert_allclose(total.sums(), expected, rtol=1e-12, atol=1e-11)
    sums = total.sums()
    assert (sums == sums.transpose(0, 2, 1)).all()
    total.add(torch.full((groups, 1, inputs), torch.nan))
    with pytest.raises(InputError, match="not finite"):
        total.sums()

"""Chunks: a partition into few slices, none empty, none over the limit."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvqbounds.errors import InputError
from pvqbounds.problems.chunks import chunk_ranges


@given(st.integers(1, 700), st.integers(1, 80), st.integers(1, 30))
def test_chunks_are_a_partition_within_the_limit(inputs, opt_dim, block):
    ranges = chunk_ranges(inputs, opt_dim, block)
    assert ranges[0][0] == 0
    assert ranges[-1][1] == inputs
    assert all(a[1] == b[0] for a, b in pairwise(ranges))
    sizes = [stop - start for start, stop in ranges]
    assert min(sizes) >= 1
    assert max(sizes) <= opt_dim
    if block <= opt_dim:
        assert all(start % block == 0 for start, _ in ranges)
        blocks = [math.ceil(size / block) for size in sizes]
        assert max(blocks) - min(blocks) <= 1
        fewest = math.ceil(math.ceil(inputs / block) / (opt_dim // block))
        assert len(ranges) == fewest
    else:
        assert all(start // block == (stop - 1) // block for start, stop in ranges)


def test_chunks_of_the_paper():
    # four input channels of a 3x3 convolution; the released code makes 27 to 36 of "at most 32"
    assert chunk_ranges(64 * 9, 36, 9) == [(36 * i, 36 * i + 36) for i in range(16)]
    assert max(stop - start for start, stop in chunk_ranges(64 * 9, 32, 9)) == 27
    assert [stop - start for start, stop in chunk_ranges(100, 36)] == [34, 33, 33]


def test_a_kernel_larger_than_the_limit_is_cut_inside():
    assert chunk_ranges(18, 4, 9) == [(0, 3), (3, 6), (6, 9), (9, 12), (12, 15), (15, 18)]


@pytest.mark.parametrize("arguments", [(0, 4, 1), (9, 0, 1), (9, 4, 0), (9, 2.5, 1), (9, -1, 1)])
def test_bad_numbers(arguments):
    with pytest.raises(InputError, match="positive whole number"):
        chunk_ranges(*arguments)

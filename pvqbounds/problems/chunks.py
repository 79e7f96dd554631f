"""The paper's protocol: a layer's inputs in slices, each a small problem of its own.

Chunks drop the cross terms between slices: their bounds do not add up to one for the layer
(:mod:`pvqbounds.results.layer` keeps the two protocols apart).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError, shown
from pvqbounds.problems.gram import Gram

__all__ = ["Slice", "chunk_ranges"]


@dataclass(frozen=True, eq=False)
class Slice:
    """What one problem of a layer is about: a channel, or a chunk of its inputs."""

    channel: int
    """Output channel in the layer's own count."""
    inputs: tuple[int, int]
    """First and one past the last input of the channel's fan-in."""
    gram: Gram
    """Of these inputs; slices of one group of a convolution and one range share it."""
    weight: NDArray[np.float64]
    """Of these inputs."""


def chunk_ranges(inputs: int, opt_dim: int, block: int = 1) -> list[tuple[int, int]]:
    """Cut 0..inputs into as few slices of at most `opt_dim` inputs as there can be.

    Parameters
    ----------
    inputs
        Fan-in n.
    opt_dim
        Largest slice: a maximum, never exceeded.
    block
        Inputs that belong together, such as the kh·kw of one input channel of a convolution; a
        shorter last block is allowed. Slices consist of whole blocks, and their numbers of
        blocks differ by at most one, the larger slices first. Only where a block alone exceeds
        `opt_dim` is each block cut, into nearly equal pieces; no piece spans two blocks.

    Returns
    -------
    list of (start, stop)
        Adjacent, none empty.

    Raises
    ------
    InputError
        If a number is not positive.
    """
    for name, value in (("inputs", inputs), ("opt_dim", opt_dim), ("block", block)):
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not number or int(value) != value or value < 1:
            raise InputError(f"{name} must be a positive whole number, not {shown(value)}.")
    if block > opt_dim:
        return [
            (start + low, start + high)
            for start in range(0, inputs, block)
            for low, high in _even(min(block, inputs - start), opt_dim)
        ]
    blocks = -(-inputs // block)
    return [(low * block, min(high * block, inputs)) for low, high in _even(blocks, opt_dim // block)]


def _even(count: int, most: int) -> list[tuple[int, int]]:
    """Cut 0..count into the fewest slices of at most `most`, the larger ones first."""
    pieces = -(-count // most)
    size, larger = divmod(count, pieces)
    starts = [i * size + min(i, larger) for i in range(pieces + 1)]
    return list(pairwise(starts))

"""A format: values and a support rule with their storage."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pvqbounds.errors import InputError, shown
from pvqbounds.problems.chunks import Slice
from pvqbounds.problems.formats.rules import AskedScales, ValueRule
from pvqbounds.problems.formats.sparsity import MASKS, Sparsity, checked_mask
from pvqbounds.problems.gram import Gram
from pvqbounds.problems.least_squares import Problem, Task
from pvqbounds.problems.sparse import SparseLeastSquares
from pvqbounds.problems.supports import ALL, SupportRule, largest_kept
from pvqbounds.problems.validation import as_real_array, whole_number
from pvqbounds.problems.values import Reals, ValueSet

__all__ = ["REAL_BITS", "Format"]

Array = NDArray[np.float64]

REAL_BITS = 16
"""Bits that a weight which is kept and not quantized is counted with."""

MOST_CHANNELS = MOST_INPUTS = 2**31


@dataclass(frozen=True)
class Format:
    """What the weights of a layer may be, and how many bits that takes.

    Parameters
    ----------
    values
        How values are found from weights; None where kept weights may be any real number.
    support
        Which weights may be non-zero; None where all may.

    Raises
    ------
    InputError
        If both are None, or if the values lack the 0 that a support rule needs.
    """

    values: ValueRule | None = None
    support: Sparsity | None = None

    def __post_init__(self) -> None:
        if self.values is None and self.support is None:
            raise InputError("A format has values, like int4, or a support, like 2:4, or both.")
        if self.values is not None and self.support is not None and not self.values.has_zero:
            raise InputError(
                f"The values of '{self.values.name}' lack 0, which {self.support.name} needs for what it "
                "removes; take a format with 0, like int4:g32."
            )

    # ---------------------------------------------------------------------- what it says of itself

    @property
    def name(self) -> str:
        """The name that is parsed to this format, as short as it can be."""
        return "+".join(part.name for part in (self.support, self.values) if part is not None)

    @property
    def task(self) -> Task:
        """Kind of its problems, as the sides of a layer are told apart by it."""
        if self.values is None:
            return "pruning"
        return "quantization" if self.support is None else "joint"

    @property
    def has_steps(self) -> bool:
        """Whether values are whole multiples of a step."""
        return self.values is not None and self.values.has_steps

    @property
    def any_scale(self) -> bool:
        """Whether values are multiples of a step that is free."""
        return self.values is not None and self.values.any_scale

    @property
    def one_scale(self) -> bool:
        """Whether a free step is one for the layer."""
        return self.values is not None and self.values.one_scale

    def at_any_scale(self) -> Format:
        """The format whose scale is free in place of found; itself where there is none."""
        values = None if self.values is None else self.values.at_any_scale()
        return self if values is None else replace(self, values=values)

    @property
    def takes_scales(self) -> bool:
        """Whether a layer's options may say how its scales are found."""
        return self.values is not None and self.values.takes_scales

    @property
    def bits(self) -> int | None:
        """Bits of a code; None where weights have none."""
        return None if self.values is None else self.values.code_bits

    @property
    def density(self) -> float | None:
        """The part of the weights that may be non-zero, where the format's name says so."""
        return None if self.support is None else self.support.density

    def layer_budget(self, weights: int) -> int | None:
        """How many of so many weights all channels may keep together; None where each has its own rule."""
        if self.values is not None or self.support is None:
            return None
        return self.support.layer_budget(weights)

    def together(self, inputs: int, stride: int = 1) -> int:
        """Consecutive inputs of a channel that no chunk may cut: groups of scales and of patterns, whole.

        Parameters
        ----------
        inputs
            Those of a channel; where one scale serves all of them, its parts may go apart.
        stride
            How far apart the inputs of a pattern's group lie.
        """
        together = 1
        if self.values is not None and self.values.group is not None and self.values.group < inputs:
            together = self.values.group
        if self.support is not None and self.support.group is not None:
            together = math.lcm(together, min(self.support.group * stride, inputs))
        return together

    # ---------------------------------------------------------------------- size

    def bits_per_weight(self, shape: tuple[int, int], mask: str | None = None, stride: int = 1) -> float:
        """Size of weights of a shape (output channels, inputs): codes, scales, zero points, the mask.

        Parameters
        ----------
        shape
            Shape of the weights; a convolution's inputs are those of all kernel positions.
        mask
            How the mask of a support rule is counted: "stored" (the default: in the layout that is usual,
            of N:M the positions of the kept ones, of a density a bitmap), "bitmap" (1 bit a weight),
            "entropy" (log2 of the number of masks) or "none".
        stride
            How far apart the inputs of a pattern's group lie.

        Raises
        ------
        InputError
            If the shape or the way of counting is none.
        """
        counted = MASKS[checked_mask(mask)]
        try:
            channels, inputs = shape
        except (TypeError, ValueError) as error:
            raise InputError(f"The shape must be (output channels, inputs), not {shown(shape)}.") from error
        channels = whole_number(channels, "The number of output channels", 1, MOST_CHANNELS)
        inputs = whole_number(inputs, "The number of inputs", 1, MOST_INPUTS)
        kept, mask_bits = 1.0, 0.0
        stride = whole_number(stride, "The stride", 1, inputs)
        if self.support is not None:
            kept = self.support.kept(inputs, stride)
            mask_bits = counted(self.support, inputs, stride)
        if self.values is None:
            return REAL_BITS * kept + mask_bits
        side_bits = self.values.side_bits((channels, inputs)) / (channels * inputs)
        return self.values.code_bits * kept + side_bits + mask_bits

    def size(
        self,
        problems: Sequence[Problem],
        shape: tuple[int, int],
        mask: str | None = None,
        *,
        one_budget: bool = False,
    ) -> float:
        """:meth:`bits_per_weight` of a layer of this shape with these problems, of all scales that they have.

        A plain ``int4`` with a scale for each channel, as a layer's options may ask for, counts them all; a
        single one counts as one for the layer.

        Parameters
        ----------
        one_budget
            Whether all channels share one budget, so that their masks are one of the layer.
        """
        seen = self
        if self.values is not None:
            seen = replace(self, values=self.values.as_seen([problem.values for problem in problems]))
        of = (1, math.prod(shape)) if one_budget else shape
        return seen.bits_per_weight(of, mask, problems[0].stride)

    # ---------------------------------------------------------------------- values and problems

    def grids(
        self, weights: ArrayLike, live: ArrayLike | None = None, asked: AskedScales | None = None
    ) -> list[ValueSet]:
        """The values that the weights of each output channel may take, by the format's own scale rule.

        Under a support rule too the scales are those of all weights, as they are before any is removed.

        Parameters
        ----------
        weights
            Shape (output channels, inputs).
        live
            Which inputs scales are found from, shape (inputs,) or that of the weights; all by default.
            The others have the values of their group as well.
        asked
            How a layer's options want the scales of a plain ``int4`` to be found.

        Raises
        ------
        InputError
            If weights are not finite, the mask does not fit, or a scale overflows what stores it.
        """
        return list(self._rows(*_checked(weights, live), asked))

    def alternatives(self, weights: ArrayLike, live: ArrayLike | None = None) -> list[list[ValueSet]]:
        """For each output channel, :meth:`grids` with other scales of its groups near their own.

        Parameters
        ----------
        weights, live
            As for :meth:`grids`.
        """
        rows, alive = _checked(weights, live)
        if self.values is None:
            return [[] for _ in rows]
        others = [list(grids) for grids in self.values.alternatives(rows, alive)]
        return [[grids[channel] for grids in others] for channel in range(len(rows))]

    def rule(self, inputs: int, stride: int = 1) -> SupportRule:
        """The support rule of so many inputs, those of a pattern `stride` apart."""
        return ALL if self.support is None else self.support.rule(inputs, stride)

    def problems(
        self, gram: Gram | ArrayLike, weights: ArrayLike, live: ArrayLike | None = None, stride: int = 1
    ) -> list[Problem]:
        """The problem of each output channel on one Gram.

        Parameters
        ----------
        gram
            G = XᵀX/N, shape (n, n), or a :class:`~pvqbounds.Gram`.
        weights
            Shape (output channels, n).
        live
            As for :meth:`grids`; by default the inputs that are not always zero.
        stride
            How far apart the inputs of a pattern's group lie: a convolution's size of the kernel.
        """
        shared = gram if isinstance(gram, Gram) else Gram(gram)
        array = as_real_array(weights, "The weights", ndim=2)
        if array.shape[1] != shared.n:
            raise InputError(f"The Gram matrix has {shared.n} inputs, but the weights have {array.shape[1]}.")
        alive = np.diagonal(shared.matrix) > 0.0 if live is None else live
        slices = [Slice(channel, (0, shared.n), shared, row) for channel, row in enumerate(array)]
        return self.problems_of(slices, self.grids(array, alive), stride)

    def problems_of(
        self, slices: Sequence[Slice], grids: Sequence[ValueSet], stride: int = 1
    ) -> list[Problem]:
        """The problems of channels or chunks of a layer, with the :meth:`grids` of all its channels."""
        problems: list[Problem] = []
        for piece in slices:
            rule = self.rule(len(piece.weight), stride)
            if self.values is None:
                problem: Problem = SparseLeastSquares(piece.gram, piece.weight, nnz=0)
            else:
                values = grids[piece.channel]
                own = values if values.n == len(piece.weight) else values.among(np.arange(*piece.inputs))
                problem = self.values.pose(piece.gram, piece.weight, own)
            problems.append(problem.under(rule))
        return problems

    def round_to_nearest(
        self, weights: ArrayLike, live: ArrayLike | None = None, stride: int = 1
    ) -> NDArray[np.float64]:
        """Weights as they are decoded after each was rounded to the nearest value, the lower code on ties.

        Under a support rule the largest magnitudes are kept, the lower index on ties; the weights of a
        pattern lie `stride` inputs apart.
        """
        array, alive = _checked(weights, live)
        decoded = array.copy()
        budgets = self.rule(array.shape[1], stride).budgets(array.shape[1])
        for row, values in zip(decoded, self._rows(array, alive), strict=True):
            kept = largest_kept(np.abs(row)[None], budgets)[0]
            row[:] = np.where(kept, values.rounded(row), 0.0)
        return decoded

    def _rows(
        self, weights: Array, live: NDArray[np.bool_], asked: AskedScales | None = None
    ) -> Iterator[ValueSet]:
        """One value set after another, so that only one need be held."""
        if self.values is None:
            return iter([Reals(weights.shape[1])] * len(weights))
        if asked is not None:
            return self.values.rows_as_asked(weights, live, asked)
        return self.values.rows(weights, live)

    # ---------------------------------------------------------------------- problems that were read

    def fault(self, problem: Problem) -> tuple[str, str] | None:
        """Which field of a problem is not that of the format, and why; None if it may be one of its own."""
        if problem.values.is_finite != (self.values is not None):
            return "format", f"{self.name}, but the entry is one of {problem.task}"
        if self.support is None and problem.is_restricted:
            return "format", f"{self.name}, but the entry is one of {problem.task}"
        fault = None if self.support is None else self.support.fault(problem)
        if fault is None and self.values is not None:
            fault = self.values.fault(problem.values)
        return fault

    def text(self, problems: Sequence[Problem], nnz: int | None = None) -> str:
        """The format in words; `nnz` is how many weights all problems keep together, where that is shared."""
        parts = [] if self.support is None else [self.support.text(_kept_text(problems, nnz))]
        return ", ".join(parts if self.values is None else [*parts, self.values.text()])


def _kept_text(problems: Sequence[Problem], nnz: int | None) -> str:
    """How many weights are kept of how many, where that is one number."""
    kept = {(problem.nnz, problem.n) for problem in problems}
    if nnz is not None:
        kept = {(nnz, sum(problem.n for problem in problems))}
    return ", keep {} of {}".format(*kept.pop()) if len(kept) == 1 else ""


def _checked(weights: ArrayLike, live: ArrayLike | None) -> tuple[Array, NDArray[np.bool_]]:
    array = as_real_array(weights, "The weights", ndim=2)
    mask = np.ones(array.shape[1], dtype=np.bool_) if live is None else np.asarray(live)
    if mask.dtype != np.bool_ or mask.shape not in (array.shape, array.shape[1:]):
        raise InputError(
            f"The mask of live inputs must hold {array.shape[1]} booleans, or as many for each channel, "
            f"not shape {mask.shape} of {mask.dtype}."
        )
    return array, np.broadcast_to(mask, array.shape)

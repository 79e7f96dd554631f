"""One scale for all channels of a layer, whichever it is: both ends for the layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.enclosures import down, up
from pvqbounds.clock import Clock
from pvqbounds.errors import ContradictionError, InputError
from pvqbounds.problems import AnyScaleLeastSquares, IntegerLeastSquares
from pvqbounds.relaxations.certificates import Certificate
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.relaxations.layer_scales import LayerScales, range_of_layer
from pvqbounds.results.bounds import Bounds
from pvqbounds.solving.candidates import at_least_methods
from pvqbounds.solving.channels import solve_all
from pvqbounds.solving.every_scale import SINGULAR, Relaxations
from pvqbounds.solving.execution import Execution
from pvqbounds.solving.options import SolveOptions
from pvqbounds.solving.scale_cover import AtScale, covered
from pvqbounds.solving.verification import ROUNDING

__all__ = ["OneScale", "bound_one_scale", "verify_one_scale"]

Array = NDArray[np.float64]
Proofs = tuple[Array, tuple[Certificate, ...]]
"""Bounds of all channels at one scale, and what proves them."""

SHARE = 0.2
"""Of the time that is left, what all channels may take at one scale."""


@dataclass(frozen=True, eq=False)
class OneScale:
    """Channels that share one free scale: the interval of their summed error."""

    scale: float
    """The best scale found."""
    problems: list[IntegerLeastSquares]
    """The channels at that scale."""
    bounds: list[Bounds]
    """Their bounds at that scale."""
    error_lower: float
    """No scale and no codes have a smaller summed error."""
    certificate: LayerScales | None
    """What proves it; None where it is 0."""
    status: str
    """How it ended, in words."""

    @property
    def error_upper(self) -> float:
        """The summed error found, rounded up."""
        return up(math.fsum(found.error_upper for found in self.bounds))


def bound_one_scale(
    problems: Sequence[AnyScaleLeastSquares], asked: SolveOptions, execution: Execution
) -> OneScale:
    """Bound the summed error of channels at every scale that they share.

    Parameters
    ----------
    problems
        The channels, of one box of codes, with numbers of ordinary size: they are not moved to other units.
    asked
        As for one channel at one scale; `time_limit` counts for each channel, all scales together.
    execution
        Channels at a time.

    Raises
    ------
    InputError
        If there are no channels, their boxes differ, or their zero points are free.
    ContradictionError
        If a proved bound lies above the error of weights that are allowed: a fault of this package.
    """
    if len({(own.qmin, own.qmax, own.span) for own in (problem.values for problem in problems)}) != 1:
        raise InputError("One scale is that of channels with one box of codes; give at least one channel.")
    if problems[0].values.span is not None:
        raise InputError(
            "One scale for all channels leaves no zero point free; give problems without a span."
        )
    clock = Clock(asked.time_limit * len(problems) / execution.jobs, asked.cancelled)
    layer, within = _Layer(problems, asked, execution, clock), range_of_layer(problems)
    first = layer.solve(_usual_scale(problems))
    certificate, value, status = None, 0.0, SINGULAR
    if within.signal.lower <= 0.0:
        status = "every weight is zero"
    elif within.largest == 0.0 or within.smallest > 0.0:
        parts, status = covered(layer, first, within, clock)
        certificate = LayerScales.of(problems, [(part.scale, *part.proof) for part in parts])
        value = certificate.value
    fixed = [problem.at(layer.scale) for problem in problems]
    own = layer.bounds_at(layer.scale)
    bounds = at_least_methods(fixed, own, {"best": layer.codes})
    found = OneScale(layer.scale, fixed, bounds, value, certificate, status)
    if value > found.error_upper:
        weights = [part.weight for part in bounds]
        raise ContradictionError(list(problems), certificate, weights, value, found.error_upper)
    return found


def verify_one_scale(
    problems: Sequence[AnyScaleLeastSquares], found: OneScale, time_limit: float = math.inf
) -> bool:
    """Whether the lower end is proved again from the certificate, and the upper one is that of the codes."""
    for problem, fixed, bounds in zip(problems, found.problems, found.bounds, strict=True):
        if bounds.codes is None or (fixed.step != found.scale).any():
            return False
        reached = problem.at(found.scale).point(bounds.codes).upper
        if not reached <= bounds.error_upper * (1.0 + ROUNDING):
            return False
    if found.error_lower <= 0.0:
        return True
    proved = 0.0 if found.certificate is None else found.certificate.prove(problems, Clock(time_limit))
    return found.error_lower <= proved


def _usual_scale(problems: Sequence[AnyScaleLeastSquares]) -> float:
    """The scale of least weight error over all channels, from inputs that are not always zero."""
    live = np.concatenate([problem.weight[problem.shared.live] for problem in problems])
    weights = live if len(live) else np.concatenate([problem.weight for problem in problems])
    return float(problems[0].values.usual(weights).step[0])


class _Layer:
    """All channels at one scale after the other, and the best codes found on the way."""

    def __init__(
        self,
        problems: Sequence[AnyScaleLeastSquares],
        asked: SolveOptions,
        execution: Execution,
        clock: Clock,
    ) -> None:
        self.problems, self.error, self.scale = problems, math.inf, 1.0
        self.codes: list[NDArray[np.int64]] = []
        self._signal = math.fsum(problem.signal.upper for problem in problems)
        self._relaxations = [Relaxations(problem, clock) for problem in problems]
        self._asked, self._execution, self._clock = asked, execution, clock

    @property
    def everywhere(self) -> float:
        """Nothing: what is known of each channel is known at each scale."""
        return 0.0

    def bounds_at(self, scale: float) -> list[Bounds]:
        """The bounds of all channels at a scale."""
        each = SHARE * self._clock.remaining * self._execution.jobs / len(self.problems)
        asked = replace(self._asked, time_limit=min(max(each, 1e-3), self._asked.time_limit))
        return solve_all([problem.at(scale) for problem in self.problems], asked, self._execution)

    def solve(self, scale: float, enough: float = math.inf, *, brief: bool = False) -> AtScale[Proofs]:
        """All channels as well as each can be by itself, always; their codes at their best common scale."""
        found = self.bounds_at(scale)
        zero = DualCertificate(*np.zeros((2, self.problems[0].n)))
        proofs = tuple(zero if own.certificate is None else own.certificate for own in found)
        lower = [own.error_lower if own.certificate is not None else 0.0 for own in found]
        self._try([own.codes for own in found if own.codes is not None])
        relaxation = next((own.relaxation for own in found if own.relaxation is not None), None)
        return AtScale(scale, down(math.fsum(lower)), (np.array(lower), proofs), True, relaxation)

    @np.errstate(all="ignore")  # as a solve does: multipliers that are not finite prove nothing
    def relax(self, scale: float) -> AtScale[Proofs]:
        """A quick relaxation of each channel."""
        shares = [self.error * problem.signal.upper / self._signal for problem in self.problems]
        found = [
            relaxations.at(scale, share) for relaxations, share in zip(self._relaxations, shares, strict=True)
        ]
        bounds, proofs = np.array([bound for bound, _ in found]), tuple(proof for _, proof in found)
        return AtScale(scale, down(math.fsum(bounds)), (bounds, proofs), False)

    def _try(self, codes: list[NDArray[np.int64]]) -> None:
        """Take codes that are better at their best common scale."""
        scale = _common_scale(self.problems, codes)
        error = math.fsum(
            problem.at(scale).error(z).upper for problem, z in zip(self.problems, codes, strict=True)
        )
        if error < self.error:
            self.codes, self.error, self.scale = codes, error, scale


def _common_scale(problems: Sequence[AnyScaleLeastSquares], codes: Sequence[NDArray[np.int64]]) -> float:
    """The best scale of the codes of all channels together; the usual one where that is none."""
    product = square = 0.0
    for problem, z in zip(problems, codes, strict=True):
        power = problem.gram @ z.astype(np.float64)
        product, square = product + float(power @ problem.weight), square + float(power @ z)
    scale = product / square if square > 0.0 else 0.0
    return scale if scale > 0.0 and math.isfinite(scale) else _usual_scale(problems)

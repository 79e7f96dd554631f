"""One lam for all channels of a Gram, of any finite values under any support rule: O(n²) a channel.

The matrices S = G - diag(lam) of definite duals are a convex set that does not depend on the channel:
the mean of the lam of a few channels is in it, and further out on its ray lies its border, where bounds are
best. What then is left to find for a channel is nu = S (v - w), where v minimises

    (v-w)ᵀS(v-w) + sum_i lam_i (w_i² - 2 w_i v_i) + h(v),

h being the convex hull of sum lam_i v_i² over the values, within the budgets. Douglas and Rachford's
splitting alternates between the two parts, as :mod:`pvqbounds.solvers.native.pruning.perspective_splitting`
does for weights that are re-fitted freely: one inverse serves all channels, and the other part is a search
in each input's sorted values, once for each price of being non-zero that is tried. Any v is a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems import LeastSquares
from pvqbounds.problems.code_grids import unit_of
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.solvers.native.quantization.finite_barrier import is_definite
from pvqbounds.solvers.native.quantization.finite_values import candidates
from pvqbounds.solvers.native.quantization.shared_values_kernel import hull_step, priced_value
from pvqbounds.solvers.relaxation import Relaxed

__all__ = ["PILOTS", "PILOT_TOLERANCE", "pilots_of", "reach_of", "relax_shared_values"]

Array = NDArray[np.float64]

PILOTS, FEW_PILOTS = 8, 4
"""Channels that are solved first, evenly spaced: four in place of eight lose 0.1 to 0.8 dB at 384 inputs."""

WIDE = 512
"""Inputs beyond which there are few: each takes minutes where a channel takes a second."""

PILOT_TOLERANCE = 1e-2
"""Relative gap at which their relaxations may end: their mean is as good as with less."""

AT_A_TIME = 32
"""Channels whose products with the inverse are taken together."""

SHARES = (1.0, 0.5, 0.25, 0.1)
"""Of lam, each for channels of which the one before proves nothing: values too unlike those of the pilots."""

DOUBLINGS, HALVINGS = 4, 10
"""Of the share of lam that may be taken, in the search for the border."""

INSIDE = 0.999
"""Share of the way to it, so that S stays definite."""

FLOOR = 0.05
"""Least entry of the metric, over its mean: where lam is 0, too, the next point must not be anywhere."""

ITERATIONS, EVERY = 80, 10
"""Steps of the splitting at most, and between two looks at the bound."""

SETTLED = 1e-3
"""Relative rise of the bounds between two looks under which they are left as they are."""


def pilots_of(channels: int, inputs: int) -> list[int]:
    """Positions of the channels that are solved first."""
    count = PILOTS if inputs <= WIDE else FEW_PILOTS
    return sorted(set(np.linspace(0, channels - 1, count).astype(int).tolist()))


def relax_shared_values(
    problems: Sequence[LeastSquares], relax: Callable[[LeastSquares], Relaxed]
) -> Iterator[Relaxed]:
    """Multipliers for channels of one Gram, all with the same lam, whatever their values and budgets.

    Parameters
    ----------
    problems
        In units near 1.
    relax
        Solves the relaxation of a pilot channel.

    Yields
    ------
    Those of one channel after another, with the v that they come from in place of moments.
    """
    with np.errstate(all="ignore"):
        pilots = [relax(problems[i]) for i in pilots_of(len(problems), problems[0].n)]
    lam = np.maximum(np.mean([found.certificate.lam for found in pilots], axis=0), 0.0)
    shared = _Shared.of(problems[0].gram, lam)
    for start in range(0, len(problems), AT_A_TIME):
        yield from _relaxed(problems[start : start + AT_A_TIME], shared)


def reach_of(gram: Array, lam: Array) -> float:
    """How many times lam may be taken so that G - diag(lam) stays positive definite, from below.

    At most 2**DOUBLINGS, and 0 where no share of lam may. Inputs that are always zero play no part.
    """
    live = np.diagonal(gram) > 0.0
    form, own = gram[np.ix_(live, live)], lam[live]

    def fits(share: float) -> bool:
        matrix = form.copy(order="F")
        matrix[np.diag_indices(len(own))] -= share * own
        return is_definite(matrix)

    low, high = 0.0, 1.0
    for _ in range(DOUBLINGS):
        if not fits(high):
            break
        low, high = high, 2.0 * high
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if fits(middle) else (low, middle)
    return INSIDE * low


@dataclass(frozen=True, eq=False)
class _Shared:
    """A Gram in units that give it a unit diagonal, and a lam for it."""

    power: Array
    """Root mean square of each input, by which weights and values are multiplied, shape (n,)."""
    gram: Array
    """G in these units, shape (n, n); an input that is always zero stands alone."""
    lam: Array
    """Not negative, near the border of what leaves S definite, shape (n,)."""

    @classmethod
    def of(cls, gram: Array, lam: Array) -> _Shared:
        """The lam, in units of the Gram, taken to the border."""
        power = np.sqrt(np.maximum(np.diagonal(gram), 0.0))
        unit = np.where(power > 0.0, power, 1.0)
        scaled = gram / np.outer(unit, unit)
        scaled[np.diag_indices(len(power))] = 1.0
        own = lam / unit**2
        return cls(power, scaled, reach_of(scaled, own) * own)

    def less(self, share: float) -> _Shared:
        """The same with a part of lam."""
        return self if share == 1.0 else _Shared(self.power, self.gram, share * self.lam)

    @cached_property
    def rest(self) -> Array:
        """S, shape (n, n)."""
        return self.gram - np.diag(self.lam)

    @cached_property
    def metric(self) -> Array:
        """In which steps are measured, shape (n,): lam, where that is not next to nothing."""
        return np.maximum(self.lam, FLOOR * float(self.lam.mean()))

    @cached_property
    def inverse(self) -> Array:
        """(S + diag(metric))⁻¹, shape (n, n)."""
        return np.asarray(np.linalg.inv(self.rest + np.diag(self.metric)))


def _relaxed(problems: Sequence[LeastSquares], shared: _Shared) -> Iterator[Relaxed]:
    """Channels with one lam, or a share of it."""
    channels = [_Channel.of(problem, shared.power) for problem in problems]
    nothing = np.broadcast_to(0.0, (len(shared.power), len(shared.power)))
    for share in SHARES if shared.lam.any() else ():
        wanting = [channel for channel in channels if not channel.value > 0.0]
        if not wanting:
            break
        try:
            _split(wanting, shared.less(share))
        except np.linalg.LinAlgError:  # numbers out of all proportion: nothing is proved
            break
    for problem, channel in zip(problems, channels, strict=True):
        certificate = DualCertificate(channel.lam * shared.power**2, channel.nu * shared.power)
        mean = channel.point / np.where(shared.power > 0.0, shared.power, 1.0) / unit_of(problem.values)
        yield Relaxed(certificate, mean, nothing, max(channel.value, 0.0), "shared lam", brief=True)


@dataclass(eq=False)
class _Channel:
    """A channel in the units of a Gram, and the best multipliers known for it."""

    weight: Array
    """Shape (n,); 0 at inputs that are always zero."""
    values: Array
    """Those that are looked at, shape (n, m), ascending along each row."""
    order: NDArray[np.int64]
    """Inputs by budget, those without one at the end, shape (n,)."""
    starts: NDArray[np.int64]
    """Where each budget's begin, and where those without one do."""
    most: Array
    """Non-zeros that each budget allows."""
    price: Array
    """Of a non-zero of each budget."""
    value: float
    """What the multipliers prove, but for rounding."""
    lam: Array
    nu: Array
    point: Array
    """The v of nu = S (v - w)."""

    @classmethod
    def of(cls, problem: LeastSquares, power: Array) -> _Channel:
        """A channel of which nothing is known."""
        budgets = [(group, most) for group, most in problem.budgets if most < len(group)]
        groups = [np.asarray(group, dtype=np.int64) for group, _ in budgets]
        grouped = np.concatenate([*groups, np.zeros(0, dtype=np.int64)])
        free = np.setdiff1d(np.arange(problem.n), grouped)
        chosen = candidates(problem.values, problem.weight).values
        zero = np.zeros(problem.n)
        return cls(
            weight=problem.weight * power,
            values=np.ascontiguousarray(chosen * power[:, None]),
            order=np.concatenate([grouped, free]).astype(np.int64),
            starts=np.cumsum([0, *map(len, groups)]).astype(np.int64),
            most=np.array([float(most) for _, most in budgets]),
            price=np.zeros(len(budgets)),
            value=-np.inf,
            lam=zero,
            nu=zero,
            point=problem.weight * power,
        )

    def step(self, shared: _Shared, toward: Array) -> Array:
        """The point of the hull next to another one, shape (n,)."""
        point = np.empty(len(toward))
        hull_step(
            toward, shared.lam, shared.metric, self.values, self.order, self.starts, self.most, self.price,
            point,
        )  # fmt: skip
        return point

    def look(self, shared: _Shared, point: Array, nu: Array) -> None:
        """Keep the multipliers of a point where they prove more than those known."""
        value = priced_value(
            point - self.weight, nu, shared.lam, self.weight, self.values, self.order, self.starts, self.most,
            self.price,
        )  # fmt: skip
        if value > self.value:
            self.value, self.lam, self.nu, self.point = float(value), shared.lam, nu, point


@np.errstate(all="ignore")  # what overflows proves nothing
def _split(channels: Sequence[_Channel], shared: _Shared) -> None:
    """Improve nu of channels by splitting, until their bounds hardly rise."""
    weights = np.stack([channel.weight for channel in channels])
    pull = weights @ shared.rest + weights * shared.lam
    point, gap = weights.copy(), np.zeros_like(weights)
    before = -np.inf
    for k in range(1, ITERATIONS + 1):
        smooth = (pull + shared.metric * (point - gap)) @ shared.inverse
        toward = smooth + gap
        point = np.stack([channel.step(shared, y) for channel, y in zip(channels, toward, strict=True)])
        gap = toward - point
        if k % EVERY:
            continue
        for found in (smooth, point):
            nu = (found - weights) @ shared.rest
            for channel, *own in zip(channels, found, nu, strict=True):
                channel.look(shared, *own)
        proved = sum(channel.value for channel in channels)
        if not proved - before > SETTLED * abs(proved):
            break
        before = proved

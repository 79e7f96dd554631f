"""Which scales are bounded: what is solved, how well, and what is repeated, on bounds made up for it."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from pvqbounds.arithmetic.enclosures import Enclosure
from pvqbounds.clock import Clock
from pvqbounds.relaxations.scales import ScaleRange, first_gap, gaps, largest_value
from pvqbounds.solving.scale_cover import AtScale, covered

FOREVER = Clock(math.inf)
WITHIN = ScaleRange(Enclosure(1.0, 1.0), 1e4, 1e-2)
"""Signal 1, best scales between 0.01 and 10."""


def best(scale: float) -> float:
    """The least error at a scale: 0.01 at 1, and more beside it."""
    return min(0.01 + 0.2 * math.log(scale) ** 2, 0.9)


@dataclass
class MadeUp:
    """Solves that prove 0.7 of the least error and relaxations that prove half, but for unlucky scales."""

    unlucky: tuple[float, float] = (0.0, 0.0)
    """Scales at which the first solve proves a tenth less."""
    error: float = 0.01
    everywhere: float = 0.0
    solves: list[tuple[float, float, bool]] = field(default_factory=list)
    relaxed: list[float] = field(default_factory=list)

    def solve(self, scale: float, enough: float = math.inf, *, brief: bool = False) -> AtScale[None]:
        """0.7 of the least error."""
        met = any(self.unlucky[0] <= other <= self.unlucky[1] for other, _, _ in self.solves)
        luck = 0.9 if self.unlucky[0] <= scale <= self.unlucky[1] and not met else 1.0
        self.solves.append((scale, enough, brief))
        return AtScale(scale, 0.7 * luck * best(scale), None, solved=True)

    def relax(self, scale: float) -> AtScale[None]:
        """Half of the least error."""
        self.relaxed.append(scale)
        return AtScale(scale, 0.5 * best(scale), None, solved=False)


def value_of(parts: list[AtScale[None]]) -> float:
    """What the bounds prove for every scale."""
    return largest_value(np.array([p.scale for p in parts]), np.array([p.bound for p in parts]), WITHIN)


def test_nearly_the_lowest_bound_is_proved_for_every_scale() -> None:
    prover = MadeUp()
    parts, status = covered(prover, prover.solve(1.3), WITHIN, FOREVER)
    assert status == "solved"
    assert 0.98 * 0.007 <= value_of(parts) <= 0.007 * (1.0 + 1e-3)
    assert len(prover.solves) <= 20  # a bound serves 2.5 % there, and more beside it


def test_an_unlucky_solve_does_not_hold_the_value_down() -> None:
    unlucky = MadeUp(unlucky=(0.97, 1.03))
    parts, status = covered(unlucky, unlucky.solve(1.3), WITHIN, FOREVER)
    assert status == "solved"
    assert min(part.bound for part in parts) < 0.95 * 0.007
    assert value_of(parts) >= 0.98 * 0.007


def test_a_solve_that_is_repeated_in_vain_stands() -> None:
    prover = MadeUp()
    covered(prover, prover.solve(1.3), WITHIN, FOREVER)
    scales = [scale for scale, enough, _ in prover.solves if enough == math.inf]
    assert len(scales) == 2  # the first, and one repetition
    nearest = min(abs(scales[1] / scale - 1.0) for scale, enough, _ in prover.solves if enough < math.inf)
    assert 0.0 < nearest < 0.2 * math.sqrt(0.02 * 0.007) * 1.001


def test_searches_are_brief_away_from_the_lowest_bound_alone() -> None:
    prover = MadeUp()
    covered(prover, prover.solve(1.3), WITHIN, FOREVER)
    brief = [scale for scale, _, short in prover.solves if short]
    assert brief
    assert all(best(scale) > 1.05 * 0.01 for scale in brief)
    assert all(enough >= 1.1 * 0.007 for _, enough, _ in prover.solves)


def test_what_is_enough_ends_it() -> None:
    prover = MadeUp()
    parts, _ = covered(prover, prover.solve(1.3), WITHIN, FOREVER, enough=0.002)
    assert value_of(parts) >= 0.002
    assert len(prover.solves) == 1


def test_the_number_of_solves_is_limited(monkeypatch) -> None:
    monkeypatch.setattr("pvqbounds.solving.scale_cover.MOST_SOLVED", 3)
    prover = MadeUp()
    parts, status = covered(prover, prover.solve(1.3), WITHIN, FOREVER)
    assert "stopped at" in status
    assert len(prover.solves) == 3
    assert value_of(parts) > 0.0


@pytest.mark.parametrize("value", [0.001, 0.004, 0.006])
def test_gaps_are_where_no_bound_reaches(value: float) -> None:
    scales = np.array([0.02, 0.5, 0.9, 0.93, 1.4, 4.0])
    bounds = np.array([0.7 * best(scale) for scale in scales])
    found = gaps(scales, bounds, WITHIN, value)
    assert first_gap(scales, bounds, WITHIN, value) == found[0]
    assert all(gap.low < gap.high for gap in found)
    assert all(one.high <= other.low for one, other in itertools.pairwise(found))
    low, high = WITHIN.ends(value)
    reach = np.sqrt((bounds - value) / (1.0 - value))
    for t in np.exp(np.linspace(math.log(low), math.log(high), 2001))[1:-1]:
        served = bool((np.abs(scales / t - 1.0) <= reach).any())
        inside = any(gap.low < t < gap.high for gap in found)
        assert served != inside, t

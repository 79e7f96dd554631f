"""A method of somebody else's: what registering one takes, in one file outside the package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.methods import QuantizationMethod
from pvqbounds.problems import IntegerLeastSquares


class StochasticRounding(QuantizationMethod):
    """Up or down at random, up the more often the nearer that is."""

    name: ClassVar[str] = "stochastic"
    label: ClassVar[str] = "stochastic rounding"
    citation: ClassVar[str] = 'Gupta et al., "Deep learning with limited numerical precision", ICML 2015'

    def propose(self, problems: Sequence[IntegerLeastSquares], seed: int = 0) -> list[NDArray[np.int64]]:
        """Each weight by itself."""
        rng = np.random.default_rng(seed)
        return [
            np.clip(np.floor(p.centre + rng.random(p.n)), p.qmin, p.qmax).astype(np.int64) for p in problems
        ]

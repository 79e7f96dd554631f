"""Every problem as a mixed-integer quadratic program: plain data for any backend.

:mod:`~pvqbounds.relaxations.miqp.program` says what such data hold,
:mod:`~pvqbounds.relaxations.miqp.coded` poses quantization, levels and joint compression,
:mod:`~pvqbounds.relaxations.miqp.pruning` poses pruning, :mod:`~pvqbounds.relaxations.miqp.plain` any problem
for files.
"""

from pvqbounds.relaxations.miqp.coded import (
    indicators_of,
    integer_program,
    joint_perspective_program,
    joint_program,
    one_hot_program,
)
from pvqbounds.relaxations.miqp.plain import plain_program, unknowns_of
from pvqbounds.relaxations.miqp.program import MIQP
from pvqbounds.relaxations.miqp.pruning import (
    SingularGramError,
    big_m_program,
    perspective_program,
    proved_big_m,
)

__all__ = [
    "MIQP",
    "SingularGramError",
    "big_m_program",
    "indicators_of",
    "integer_program",
    "joint_perspective_program",
    "joint_program",
    "one_hot_program",
    "perspective_program",
    "plain_program",
    "proved_big_m",
    "unknowns_of",
]

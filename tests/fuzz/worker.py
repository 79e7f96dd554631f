"""A process that runs cases for :mod:`tests.fuzz.run`: whatever hangs or dies takes only it along.

It reads one line ``scenario number`` for each case, and writes lines of JSON: ``step`` before each
thing that it does, so that the watchdog knows how long that may take, and ``done`` after a case.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TextIO

import numpy as np

from .case import Case, Step
from .scenarios import SCENARIOS

__all__ = ["choose", "main", "run_case"]

LARGEST_MEMORY = 12 * 2**30
"""Bytes that a worker may ask for: what asks for more is found by its MemoryError."""


def choose(seed: int, number: int, among: Sequence[str] = ()) -> str:
    """The scenario of a case, of some or of all."""
    if len(among) == 1:
        return among[0]
    names = [name for name in among or SCENARIOS if SCENARIOS[name].share > 0.0]
    shares = np.array([SCENARIOS[name].share for name in names])
    return str(np.random.default_rng([seed, number, 0]).choice(names, p=shares / shares.sum()))


def run_case(
    scenario: str, seed: int, number: int, listener: Step = lambda text, limit, script: None
) -> Case:
    """Run one case here and now; the three names are all that it depends on."""
    kind = list(SCENARIOS).index(scenario)
    case = Case(np.random.default_rng([seed, number, 1, kind]), listener)
    with case.guarded(f"the scenario {scenario}", refusals=False):
        SCENARIOS[scenario].run(case)
    return case


def main(seed: int, compiled: bool) -> None:
    """Run the cases that stdin names, until it ends; first what compiles their kernels, if asked for."""
    faulthandler.enable()
    _limit_memory()
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # solvers that print must not break into the replies
    if compiled:
        _warm_up(replies)
    _say(replies, "ready")

    def listener(text: str, limit: float, script: str) -> None:
        _say(replies, "step", text=text, limit=limit, script=script)

    for line in sys.stdin:
        scenario, number = line.split()
        case = run_case(scenario, seed, int(number), listener)
        _say(replies, "done", faults=[asdict(f) for f in case.faults], counts=dict(case.counts))


def _warm_up(replies: TextIO) -> None:
    """Compile what is compiled on first use, which counts for no limit."""
    for scenario in ("codes", "levels", "joint", "sparse", "layer-budget", "channels", "tampered", "files"):
        for number in range(2):
            _say(replies, "warming up")
            with contextlib.suppress(Exception):
                run_case(scenario, 123_456_789, number)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:
        return  # not a Unix
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (LARGEST_MEMORY, LARGEST_MEMORY))


def _say(replies: TextIO, word: str, **more: object) -> None:
    replies.write(json.dumps({"word": word} | more) + "\n")
    replies.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] == "1")

"""The pool: workers that run cases until the time is up, a watchdog over them, and what they found."""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from .case import Fault
from .scenarios import SCENARIOS
from .worker import choose, run_case

__all__ = ["Findings", "fuzz", "main"]

ROOT = Path(__file__).parents[2]

PATIENCE = 45.0
"""Seconds, of the processor, that a step may take beyond its limit before it counts as a hang."""

WALL_PATIENCE = 300.0
"""The same by the clock on the wall, for a step that sleeps or waits: the machine may be busy."""

IMPORTS = "import numpy as np\nimport pvqbounds as pvq"
"""What the script of a fault begins with."""

SHOWN = 3
"""Faults of one kind whose cases are printed."""


@dataclass
class Findings:
    """What a run has found so far."""

    cases: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    faults: dict[tuple[str, str], list[tuple[str, int, Fault]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """By kind and place: scenario and number of the case, and the fault."""
    seconds: float = 0.0

    @property
    def number(self) -> int:
        """Faults in all."""
        return sum(map(len, self.faults.values()))

    def add(self, scenario: str, number: int, faults: Sequence[Fault], counts: dict[str, int]) -> None:
        """Take in what one case found."""
        self.cases[scenario] += 1
        self.counts.update(counts)
        for fault in faults:
            self.faults[fault.kind, fault.place].append((scenario, number, fault))


class Worker:
    """One process, and the case that it is at."""

    def __init__(self, seed: int, patience: float, compiled: bool = True) -> None:
        self.patience = patience
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the process)
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", f"{__package__}.worker", str(seed), str(int(compiled))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
        self.lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._await("ready")

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def _await(self, word: str) -> dict[str, Any]:
        """What the worker says when it has come to `word`; raises Fallen where it hangs or dies."""
        doing, limit, script = "starting", 600.0, ""
        begun, used = time.monotonic(), self._processor()
        while True:
            try:
                line = self.lines.get(timeout=0.5)
            except queue.Empty:
                processor = self._processor() - used
                wall = time.monotonic() - begun
                if (
                    processor > limit + self.patience
                    or wall > limit + WALL_PATIENCE * self.patience / PATIENCE
                ):
                    raise Fallen("hang", doing, self.stop(), script) from None
                continue
            if line is None:
                code = self.process.wait()
                raise Fallen(f"death of the process ({_named(code)})", doing, self._tail(), script)
            said: dict[str, Any] = json.loads(line)
            if said["word"] == word:
                return said
            if said["word"] == "step":
                doing, limit, script = said["text"], said["limit"], said["script"]
            begun, used = time.monotonic(), self._processor()

    def run(self, scenario: str, number: int) -> tuple[list[Fault], dict[str, int]]:
        """Run one case."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{scenario} {number}\n")
        self.process.stdin.flush()
        said = self._await("done")
        return [Fault(**fault) for fault in said["faults"]], said["counts"]

    def stop(self) -> str:
        """End the process; gives where it was."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGABRT)  # faulthandler then writes where each thread is
            try:
                self.process.wait(10.0)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self._tail()

    def _processor(self) -> float:
        """Seconds of the processor that the process has used; those on the wall where that is not told."""
        try:
            parts = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return time.monotonic()
        return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")

    def _tail(self) -> str:
        self.log.seek(0)
        text = self.log.read().decode(errors="replace")
        at = text.rfind("Fatal Python error")
        return text[at : at + 1500] if at >= 0 else text[-1500:]


class Fallen(Exception):  # noqa: N818  (no error of ours)
    """A worker that hangs or has died."""

    def __init__(self, kind: str, doing: str, text: str, script: str) -> None:
        super().__init__(kind)
        self.fault = Fault(kind, doing, text, script)


def _named(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit {code}"


def fuzz(
    seed: int,
    seconds: float,
    *,
    jobs: int = 2,
    cases: int | None = None,
    scenarios: Sequence[str] = (),
    patience: float = PATIENCE,
    report: Any = lambda text: None,
) -> Findings:
    """Run cases 0, 1, 2, ... of a seed until the time is up or so many are done.

    Parameters
    ----------
    scenarios
        Only these; else each case draws one of all.
    patience
        Seconds of the processor that a step may take beyond its limit.
    report
        Told each new kind of fault, and now and then how far the run is.
    """
    findings, lock, numbers = Findings(), threading.Lock(), iter(range(10**9 if cases is None else cases))
    started = threading.Event()
    end = [float("inf")]
    compiled = not scenarios or any(SCENARIOS[name].share > 0.0 for name in scenarios)

    def work() -> None:
        worker: Worker | None = None
        while True:
            try:
                worker = worker or Worker(seed, patience, compiled)
            except Fallen as fallen:
                with lock:
                    findings.add("start", -1, [fallen.fault], {})
                return
            if not started.is_set():  # the time of compiling is nobody's
                started.set()
                end[0] = time.monotonic() + seconds
            with lock:
                number = next(numbers, None)
            if number is None or time.monotonic() > end[0]:
                worker.stop()
                return
            name = choose(seed, number, scenarios)
            try:
                faults, counts = worker.run(name, number)
            except Fallen as fallen:
                faults, counts, worker = [fallen.fault], {}, None
            with lock:
                new = {(f.kind, f.place) for f in faults} - findings.faults.keys()
                findings.add(name, number, faults, counts)
            for kind, place in sorted(new):
                report(f"case {number} ({name}): {kind}: {place}")

    begun = time.monotonic()
    threads = [threading.Thread(target=work, daemon=True) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    findings.seconds = time.monotonic() - max(begun, end[0] - seconds)
    return findings


def summary(findings: Findings, seed: int) -> str:
    """Counts, then every kind of fault with the first cases that show it, then one line for machines."""
    lines = ["cases:"]
    lines += [f"  {name:16} {number:8}" for name, number in sorted(findings.cases.items())]
    lines.append("in them:")
    lines += [f"  {number:8} {name}" for name, number in sorted(findings.counts.items())]
    for kind in dict.fromkeys(kind for kind, _ in sorted(findings.faults)):
        places = {place: found for (other, place), found in sorted(findings.faults.items()) if other == kind}
        lines.append(f"FAULT {kind}: {sum(map(len, places.values()))} times")
        lines += [f"    {len(found):6} {place}" for place, found in places.items()]
        for scenario, number, fault in [found[0] for found in places.values()][:SHOWN]:
            lines.append(f"    python -m tests.fuzz --seed {seed} --scenario {scenario} --case {number}")
            lines.append(f"        {' '.join(fault.text.split())[:300]}")
    figures = {
        "seed": seed,
        "seconds": round(findings.seconds, 1),
        "cases": sum(findings.cases.values()),
        "solves": findings.counts["solves"],
        "faults": findings.number,
        "kinds": len({kind for kind, _ in findings.faults}),
    }
    lines.append(f"fuzz: {json.dumps(figures)}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, run, print; 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--cases", type=int, help="end after so many")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument(
        "--scenario", choices=list(SCENARIOS), action="append", default=[], help="only this one, or these"
    )
    parser.add_argument("--case", type=int, help="run this one case here, and print a script for each fault")
    parser.add_argument("--log", type=Path, help="file for all faults, one JSON object a line")
    given = parser.parse_args(arguments)
    if given.case is not None:
        return _one(choose(given.seed, given.case, given.scenario), given.seed, given.case)
    findings = fuzz(
        given.seed,
        60.0 * given.minutes,
        jobs=given.jobs,
        cases=given.cases,
        scenarios=given.scenario,
        report=lambda text: print(text, flush=True),
    )
    if given.log is not None:
        with given.log.open("w") as stream:
            for shown in findings.faults.values():
                for scenario, number, fault in shown:
                    stream.write(json.dumps({"scenario": scenario, "case": number} | vars(fault)) + "\n")
    print(summary(findings, given.seed))
    return 1 if findings.number else 0


def _one(scenario: str, seed: int, number: int) -> int:
    """Run one case in this process, saying what is being done."""
    case = run_case(scenario, seed, number, lambda text, limit, script: print(f"# {text}", flush=True))
    for fault in case.faults:
        print(f"\n# {fault.kind}: {fault.place}\n# {fault.text}\n{IMPORTS}\n{fault.script}")
    counts = ", ".join(f"{number} {name}" for name, number in sorted(case.counts.items()))
    print(f"\n{scenario}: {counts}; {len(case.faults)} faults")
    return 1 if case.faults else 0

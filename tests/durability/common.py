"""Durability tests: what a run in the background survives, shown by doing it, as scripts that anyone can run with a count.

  python -m tests.durability.kills --count 200       kill -9 at random moments; what is lost, and the loss curve afterwards
  python -m tests.durability.cells --count 50        kill -9 of a certification, and of an evaluation; nothing is measured twice
  python -m tests.durability.restarts --count 50     the app killed while runs go on; found again, never doubled
  python -m tests.durability.starts --count 50       simultaneous starts on one device; exactly one runs, in order

Each prints what it saw as JSON and exits with 1 if anything was violated. `--plant FAULT` breaks the code on purpose: then
it must exit with 1. Everything happens in a temporary folder, and no other process is touched. The test suite runs each
with a small count. Here is what they share: options, a scratch store, waiting, and the summary.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from explorer.jobs import LIVE, Run

TIMEOUT_S = 120.0  # for what takes milliseconds on an idle computer


@dataclass
class Findings:
    """Violations are what must not happen; facts are what was measured."""

    violations: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def check(self, ok: bool, violation: str) -> bool:
        if not ok:
            self.violations.append(violation)
        return ok


def wait_for(what: Callable[[], Any], seconds: float = TIMEOUT_S, every: float = 0.01) -> Any:
    """The first true answer of `what`; raises TimeoutError."""
    end = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what} has not come true in {seconds:.0f} s")
        time.sleep(every)
    return found


def end_all(runs: Sequence[Run]) -> None:
    """Leave no process behind."""
    for run in runs:
        state = run.state
        if state.status in LIVE:
            (run.folder / "cancel").touch()
            run.launcher.stop(run.folder, state, hard=True)


def command(prove: Callable[..., Findings], about: str, count: int, plants: Sequence[str]) -> int:
    """Parse the options, prove it in a scratch folder, print the summary; the exit code."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--count", type=int, default=count, help="how many times (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (default: %(default)s)")
    parser.add_argument("--plant", choices=plants, help="a fault to break the code with: it must then fail")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="durability-") as scratch:
        found = prove(Path(scratch) / "runs", options.count, seed=options.seed, plant=options.plant)
    summary = {"count": options.count, "seed": options.seed, "planted": options.plant, **found.facts}
    summary |= {"seconds": round(time.monotonic() - began, 1), "violations": found.violations}
    sys.stdout.write(json.dumps(summary, indent=1) + "\n")
    return 1 if found.violations else 0

"""What the proofs share: options, a scratch store, waiting, and the summary."""

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

PATIENCE = 120.0  # seconds for what takes milliseconds on an idle computer


@dataclass
class Findings:
    """Violations are what must not happen; facts are what was measured."""

    violations: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def check(self, ok: bool, violation: str) -> bool:
        if not ok:
            self.violations.append(violation)
        return ok


def wait_for(what: Callable[[], Any], seconds: float = PATIENCE, every: float = 0.01) -> Any:
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
            run._launcher().stop(run.folder, state, hard=True)


def command(prove: Callable[..., Findings], about: str, count: int, plants: Sequence[str]) -> int:
    """Parse the options, prove it in a scratch folder, print the summary; the exit code."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--count", type=int, default=count, help="how many times (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (default: %(default)s)")
    parser.add_argument("--plant", choices=plants, help="a fault to break the code with: the proof must then fail")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="proof-") as scratch:
        found = prove(Path(scratch) / "runs", options.count, seed=options.seed, plant=options.plant)
    summary = {"count": options.count, "seed": options.seed, "planted": options.plant, **found.facts}
    summary |= {"seconds": round(time.monotonic() - began, 1), "violations": found.violations}
    sys.stdout.write(json.dumps(summary, indent=1) + "\n")
    return 1 if found.violations else 0

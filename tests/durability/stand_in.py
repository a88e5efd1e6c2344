"""`python -m tests.durability.stand_in [--plant FAULT N] FOLDER`: a run that waits, holds its device for a moment and ends, without torch.

Everything but the training is the real runner's: its process, its place in the queue, its heartbeat, its state.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from explorer.jobs import Run, State
from explorer.jobs.run_process import RunProcess
from explorer.jobs.runner import main
from tests.durability.common import wait_for

MARKS = "marks.jsonl"


def mark(run: Run, what: str) -> None:
    """One line in the store's own diary; the clock is the same for all processes."""
    line = json.dumps({"run": run.id, "what": what, "at": time.monotonic()}) + "\n"
    with open(run.folder.parent / MARKS, "a", encoding="utf-8") as file:
        file.write(line)


def marks(root: Path) -> list[dict]:
    return (
        [json.loads(line) for line in (root / MARKS).read_text("utf-8").splitlines()] if (root / MARKS).exists() else []
    )


def hold(process: RunProcess) -> None:
    """Hold the device until the run's few moments are over (`every` seconds of its spec), or it is stopped."""
    mark(process.run, "begin")
    stopped = process.stop.wait(process.run.spec.every or 0.0)
    mark(process.run, "end")
    process.signals.closing = True
    process.set(status="cancelled" if stopped else "finished")


def forget_the_lock(count: int) -> None:
    """The planted fault: nobody locks. Of `count` processes all read the run's state before the first one changes it."""
    read, seen = Run.stored_state, []

    @contextlib.contextmanager
    def unlocked(self: Run) -> Iterator[None]:
        yield

    def stale(self: Run) -> State:
        state = read(self)
        if not seen:
            seen.append(state)
            here = self.folder.parent / "together"
            here.mkdir(exist_ok=True)
            (here / f"{os.getpid():09d}").touch()
            wait_for(lambda: len(list(here.iterdir())) == count)
            before = [int(path.name) for path in here.iterdir() if int(path.name) < os.getpid()]
            wait_for(lambda: not any(map(psutil.pid_exists, before)))  # they have done the work, and noted its end
        return state

    Run.locked, Run.stored_state = unlocked, stale


if __name__ == "__main__":
    words = sys.argv[1:]
    if words[0] == "--plant":
        forget_the_lock(int(words[2]))
        words = words[3:]
    sys.exit(main(words, hold))

"""The app killed again and again while a run goes on: every new one finds it within seconds, and none is ever doubled.

`count` times an app (a process that lists the store, submits one more run and goes on listing) is started and killed with
SIGKILL at a random moment, also in the middle of a submission. Then the run itself is killed: it must read as interrupted,
and a foreign process that has its number by now must not be taken for it. Planted: "identity" (a state is believed without
asking for its process).
"""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil

from explorer.core.files import write_atomically
from explorer.jobs import LIVE, Process, Run, Spec, Store
from explorer.jobs.launch import PROJECT, Local
from explorer.jobs.state import START_TOLERANCE_S
from tests.durability.common import Findings, command, end_all, wait_for
from tests.durability.stand_in import marks
from tests.durability.starts import HOLD, STAND_IN

FOUND_WITHIN = 10.0  # seconds
LONG = Spec("baseline", device="cpu", every=3600.0)
SHORT = Spec("baseline", device="cpu", every=HOLD)


def prove(root: Path, count: int = 50, seed: int = 0, plant: str | None = None) -> Findings:
    found, rng = Findings(), random.Random(seed)
    store = Store(root, local=Local(STAND_IN))
    try:
        run = store.begin(LONG)
        wait_for(lambda: marks(root))
        times = [_app(root, run, rng, found) for _ in range(count)]
        found.facts |= {
            "apps": count,
            "found after, median s": round(statistics.median(times), 2),
            "longest s": round(max(times), 2),
        }
        _killed_run(store, run, plant, found)
        _the_others(store, run, found)
    finally:
        end_all(store.runs())
    return found


def _app(root: Path, run: Run, rng: random.Random, found: Findings) -> float:
    """One life of the app; seconds from its start until it showed the run as running."""
    began = time.monotonic()
    app = subprocess.Popen(
        [sys.executable, "-m", "tests.durability.restarts", "--app", str(root)], stdout=subprocess.PIPE, cwd=PROJECT
    )
    first = json.loads(app.stdout.readline() or b"{}")
    took = time.monotonic() - began
    time.sleep(rng.uniform(0, 0.1))  # a submission takes about as long
    app.kill()
    app.wait()
    app.stdout.close()
    found.check(
        first.get(run.id) == ["running", run.state.process.pid], f"a new app found the run as {first.get(run.id)}"
    )
    found.check(took <= FOUND_WITHIN, f"a new app found the run after {took:.1f} s")
    found.check(_processes(run) == 1, f"the run has {_processes(run)} processes")
    return took


def _processes(run: Run) -> int:
    """How many processes were started for this run and live."""
    count = 0
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        count += str(run.folder) in words and process.info["status"] != psutil.STATUS_ZOMBIE
    return count


def _killed_run(store: Store, run: Run, plant: str | None, found: Findings) -> None:
    honest = Process.alive
    if plant == "identity":
        Process.alive = lambda self, folder: psutil.pid_exists(self.pid) or True
    try:
        os.killpg(run.state.process.pid, signal.SIGKILL)
        wait_for(lambda: _processes(run) == 0)
        status = store.run(run.id).state.status
        found.check(status == "interrupted", f"a killed run reads as {status}")
        born = (
            run.stored_state().process.start
        )  # a number given again within the tolerance of start times cannot be told apart
        wait_for(lambda: time.time() - psutil.boot_time() - born > START_TOLERANCE_S + 1.5)
        foreign = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        try:
            old = run.stored_state()
            lookalike = old.to_dict() | {
                "status": "running",
                "process": old.to_dict()["process"] | {"pid": foreign.pid},
            }
            write_atomically(run.folder / "state.json", json.dumps(lookalike).encode())
            (run.folder / "cancel").touch()
            os.utime(run.folder / "cancel", (0, 0))  # asked long ago: whatever is taken for the run is killed
            status = store.run(run.id).tend().status
            found.check(status == "cancelled", f"a run whose number belongs to a foreign process reads as {status}")
            found.check(foreign.poll() is None, "a foreign process was killed in the run's place")
        finally:
            foreign.kill()
            foreign.wait()
    finally:
        Process.alive = honest


def _the_others(store: Store, long: Run, found: Findings) -> None:
    """Every run that an app had submitted when it was killed: there once, and done once its turn comes."""
    others = [run for run in store.runs() if run.id != long.id]
    wait_for(lambda: all(run.tend().status not in LIVE for run in others), 60 + 5 * len(others), 0.1)
    for run in others:
        began = sum(line["run"] == run.id and line["what"] == "begin" for line in marks(store.root))
        found.check(
            run.state.status == "finished" and began == 1, f"run {run.id} is {run.state.status} and began {began} times"
        )
    found.facts["submitted by killed apps"] = len(others)


def app(root: Path) -> None:
    store = Store(root, local=Local(STAND_IN))
    submitted = False
    while True:
        seen = {run.id: [run.state.status, run.state.process and run.state.process.pid] for run in store.tend()}
        sys.stdout.write(json.dumps(seen) + "\n")
        sys.stdout.flush()
        if not submitted:
            store.begin(SHORT)
            submitted = True


if __name__ == "__main__":
    if sys.argv[1:2] == ["--app"]:
        app(Path(sys.argv[2]))
    sys.exit(command(prove, __doc__, 50, ["identity"]))

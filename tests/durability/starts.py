"""Many starts at once on one device: exactly one run computes at any time, the others wait, and the order is kept.

`count` processes submit one run each, at the same moment; then `count` processes are started for one and the same run, and
one of them must do the work. Planted: "lock" (nobody locks).
"""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

from explorer.jobs import LIVE, Process, Run, Spec, State, Store
from explorer.jobs.launch import Local
from tests.durability.common import Findings, command, end_all, wait_for
from tests.durability.stand_in import marks

STAND_IN = (sys.executable, "-m", "tests.durability.stand_in")
HOLD = 0.02  # seconds that a run holds the device
SPEC = Spec("baseline", device="cpu", every=HOLD)


def prove(root: Path, count: int = 50, seed: int = 0, plant: str | None = None) -> Findings:
    found = Findings()
    if plant is None:  # without the lock, runs of one place in the queue wait for each other
        _many_runs(root / "many", count, found)
    _one_run(root / "one", count, plant, found)
    return found


def _many_runs(root: Path, count: int, found: Findings) -> None:
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(count)
    submitters = [fork.Process(target=_submit, args=(root, barrier)) for _ in range(count)]
    for submitter in submitters:
        submitter.start()
    for submitter in submitters:
        submitter.join()
        found.check(submitter.exitcode == 0, f"a submission failed ({submitter.exitcode})")
    store = Store(root, local=Local(STAND_IN))
    try:
        wait_for(lambda: all(run.tend().status not in LIVE for run in store.runs()), 60 + 5 * count, 0.1)
    finally:
        end_all(store.runs())
    runs = store.runs()
    found.check(len(runs) == count, f"{count} runs were submitted, {len(runs)} are there")
    states = {run.id: run.state for run in runs}
    for id, state in states.items():
        found.check(state.status == "finished", f"run {id} is {state.status}: {state.message}")
    orders = sorted(state.order for state in states.values())
    found.check(orders == list(range(1, count + 1)), f"places in the queue are not one for each: {orders}")
    lines = marks(root)
    running: list[str] = []
    most = 0
    for line in lines:
        if line["what"] == "begin":
            running.append(line["run"])
            most = max(most, len(running))
        else:
            running.remove(line["run"])
    began = [line["run"] for line in lines if line["what"] == "begin"]
    found.check(most == 1, f"{most} runs computed at once")
    found.check(sorted(began) == sorted(states), "not every run began exactly once")
    in_order = [states[id].order for id in began]
    found.check(in_order == sorted(in_order), f"not in the order of submission: {in_order}")
    found.facts |= {"runs": len(runs), "most at once": most}


def _submit(root: Path, barrier) -> None:
    barrier.wait(60)
    Store(root, local=Local(STAND_IN)).begin(SPEC)


def _one_run(root: Path, count: int, plant: str | None, found: Findings) -> None:
    store = Store(root)
    run = store.create(SPEC)
    words = STAND_IN if plant is None else (*STAND_IN, "--plant", plant, str(count))
    starters = [Local(words).start(run.folder, SPEC)["process"] for _ in range(count)]
    wait_for(lambda: not any(_lives(one, run) for one in starters), 60 + 5 * count, 0.1)
    began = [line for line in marks(root) if line["what"] == "begin"]
    found.check(len(began) == 1, f"{len(began)} of {count} processes did the work of one run")
    state: State = run.state
    found.check(state.status == "finished", f"the one run is {state.status}")
    found.facts |= {"processes for one run": count, "of them worked": len(began)}


def _lives(process: Process | None, run: Run) -> bool:
    return process is not None and process.alive(run.folder)


if __name__ == "__main__":
    sys.exit(command(prove, __doc__, 50, ["lock"]))

"""The queue: one run for each device, the others in the order in which they were submitted. Needs no torch."""

from __future__ import annotations

from explorer.core.errors import InvalidValue
from explorer.jobs.run_folder import Taken
from explorer.jobs.state import LIVE, Process, State
from explorer.jobs.store import Run


def register(run: Run, me: Process, **changes: object) -> State:
    """This process is the run's from now on. Raises Taken if another live one is, or if the run is not live any more."""
    with run.locked():
        state = run.stored_state()
        if state.status not in LIVE:
            raise Taken(f"Run {run.id} is {state.status}.")
        if state.process is not None and not me.same(state.process) and state.process.alive(run.folder):
            raise Taken(f"Run {run.id} has a process already: {state.process.pid}.")
        return run.write(state, process=me, launches=0, **changes)


def claim(run: Run, me: Process) -> Run | None:
    """Begin, if it is this run's turn; else the run that comes first. Raises Taken."""
    with run.locked():
        state = run.stored_state()
        if not me.same(state.process):
            raise Taken(f"Run {run.id} belongs to another process by now.")
        for other, its in run.store.others() if run.store else ():
            if other.id != run.id and comes_first(other, its, run, state):
                return other
        run.write(state, status="running", message="It begins.")
        return None


def comes_first(other: Run, its: State, run: Run, state: State) -> bool:
    """Whether the other holds a device that this run needs, or has waited for it longer; and is there at all."""
    if not its.devices & state.devices or its.status not in LIVE:
        return False
    if its.status == "queued" and (its.order, other.id) > (state.order, run.id):
        return False
    return its.process is not None and its.process.alive(other.folder)


def still_first(other: Run, run: Run, state: State) -> bool:
    """As `comes_first`, asked anew without the lock, of the one run that came first a moment ago."""
    try:
        return comes_first(other, other.stored_state(), run, state)
    except InvalidValue:  # deleted, or damaged
        return False

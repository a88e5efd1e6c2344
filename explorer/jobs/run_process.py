"""A run's process: its place in the queue, its heartbeat, how it is stopped, and what it writes into the run's state.

Whatever it is that it computes (a training: `explorer.jobs.train`) is called in between.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar

from explorer.core.errors import Cancelled, ExplorerError, InvalidValue
from explorer.core.memory import is_out_of_memory
from explorer.jobs.queue import claim, register, still_first
from explorer.jobs.run_folder import DISK_FULL, Taken
from explorer.jobs.signals import StopFlag, StopSignals
from explorer.jobs.state import Process
from explorer.jobs.store import CANCELLED_EARLY, Run

TURN_POLL_S = 0.5  # between two looks whether it is this run's turn
HEARTBEAT_S = 1.0  # between two signs of life
DISK_RETRY_S = 3.0  # between two tries on a full disk
BACKGROUND_NICENESS = 10
LOG = logging.getLogger("explorer.jobs")

T = TypeVar("T")


class RunProcess:
    """One process of a run: heartbeat, stop, state. Use as a context, in the main thread."""

    def __init__(self, run: Run, on_message: Callable[[str], None] | None = None):
        """`on_message` gets, in a terminal, what the run does now."""
        self.run, self.on_message = run, on_message
        self.rank = int(os.environ.get("RANK", 0))
        self.parent = os.getppid()
        self.me = Process.of(self.parent if "RANK" in os.environ else None)  # of several ranks, their agent
        self.signals = StopSignals(of_cluster=run.spec.place != "local")
        self.registered = self.lost = self.paused = False
        self.progress: dict[str, Any] = {}  # what the heartbeat tells
        self._last_topic = ""

    @property
    def is_first(self) -> bool:
        """Whether this process owns the state."""
        return self.rank == 0

    @property
    def stop(self) -> StopFlag:
        """Set once it is asked to stop."""
        return self.signals.flag

    def __enter__(self) -> Self:
        self.signals.__enter__()
        self._file = logging.FileHandler(self.run.folder / "log.txt", encoding="utf-8")
        self._file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logging.raiseExceptions = False  # a line lost on a full disk is no reason to fail
        LOG.addHandler(self._file)
        LOG.setLevel(logging.INFO)
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.signals.__exit__(*error)
        LOG.removeHandler(self._file)
        self._file.close()

    # -- the heartbeat

    def _beat(self) -> None:
        while not self.signals.over.wait(HEARTBEAT_S):
            if "RANK" in os.environ and os.getppid() != self.parent:
                os._exit(1)  # the ranks' agent was killed
            if not self.is_first:
                continue
            self._touch()
            if self.stop.is_set():
                continue
            with contextlib.suppress(InvalidValue):
                self.lost = self.registered and not self.me.same(self.run.stored_state().process)
            if self.lost or self.run.stopping:
                self.signals.request()

    def _touch(self) -> None:
        """Says that it is alive, and how far it has come. Not forced to disk: only the living read it."""
        path = self.run.folder / "heartbeat"
        half = path.with_name(".heartbeat.new")
        try:
            half.write_text(json.dumps(self.progress), "utf-8")
            os.replace(half, path)
        except OSError:  # a full disk
            with contextlib.suppress(OSError):
                os.utime(path)

    # -- the state

    def tell(self, message: str) -> None:
        """What it does now: for lists and pages, and, once, for the log."""
        self.progress = {**self.progress, "message": message}
        topic = message.partition(":")[0]
        if topic == self._last_topic:
            return
        self._last_topic = topic
        LOG.info("%s", message)
        if self.on_message is not None:
            self.on_message(message)

    def set(self, **changes: Any) -> None:
        """Change the run's state, if it is still this process's. Raises Taken."""
        if self.is_first:
            self.run.update(self.me, **changes)

    def finish(self, **changes: Any) -> None:
        """The work is done; from here on no stop breaks off what is written. Raises Taken."""
        self.signals.closing = True
        self.retry_when_full(lambda: self.set(status="finished", **changes))

    @contextlib.contextmanager
    def recording_outcome(self) -> Iterator[None]:
        """Whatever ends the work inside ends the run accordingly; the exception goes on."""
        try:
            yield
        except BaseException as error:
            self.signals.closing = True
            status, message = outcome_of(error)
            ending: dict[str, Any] = {"status": status, "message": message}
            if (
                status == "cancelled" and self.run.spec.place != "local" and not self.run.stopping
            ):  # it was the cluster's doing
                near = self.signals.near_limit
                message = "It saved its state before its time limit." if near else "The cluster ended its processes."
                # whether a job that was ended comes back, the cluster alone knows: `Slurm.ending` asks it
                ending = {"status": "queued", "message": message, "process": None} if near else {}
                status = "stopped"
            LOG.info("%s: %s", status, message, exc_info=None if isinstance(error, ExplorerError) else error)
            if ending and not isinstance(error, Taken) and not self.lost:
                try:
                    self.set(**ending)
                except (OSError, ExplorerError) as unwritten:
                    LOG.warning("The end could not be noted: %s", unwritten)
            raise

    # -- waiting

    def wait_for_turn(self, attached: bool = False) -> None:
        """Register, then wait in the queue. Raises Cancelled, Taken."""
        if not self.is_first:
            return
        state = register(self.run, self.me, attached=attached)
        self.registered = True
        LOG.info("Attempt %d, process %d, for %s", state.attempt, self.me.pid, state.device)
        self._touch()
        if self.run.spec.place != "local":  # the cluster has a queue of its own
            self.set(status="running", message="It begins.")
            return
        ahead: Run | None = None
        while True:
            if self.stop.is_set() or self.run.stopping:
                raise Cancelled(CANCELLED_EARLY)
            if ahead is None or not still_first(ahead, self.run, state):
                before, ahead = ahead, claim(self.run, self.me)
                if ahead is None:
                    return
                if before is None or before.id != ahead.id:
                    message = f"Waits for {state.device}: run {ahead.id} comes first."
                    self.set(message=message)
                    self.tell(message)
            self.stop.wait(TURN_POLL_S)

    def wait_for_room(self, error: OSError) -> None:
        """Pause: say why, and come back after some seconds for another try. Raises Cancelled."""
        if not self.paused:
            self.paused = True
            place = error.filename or self.run.folder
            message = f"The disk of {place} is full ({error.strerror}): the run waits and goes on by itself once there is room."
            self.tell(message)
            self.set(status="paused", message=message)
        if self.stop.wait(DISK_RETRY_S):
            raise Cancelled("It was stopped while the disk was full; it can go on from its last checkpoint.")

    def go_on(self) -> None:
        """The state says so where the run had been paused."""
        if self.paused:
            self.paused = False
            self.set(status="running", message="It goes on.")

    def retry_when_full(self, write: Callable[[], T]) -> T:
        """`write`, again and again while the disk is full."""
        while True:
            try:
                done = write()
            except OSError as error:
                if error.errno not in DISK_FULL:
                    raise
                self.wait_for_room(error)
                continue
            self.go_on()
            return done


def outcome_of(error: BaseException) -> tuple[str, str]:
    """The status in which this ends a run, and why, in a sentence."""
    if isinstance(error, Cancelled):
        return "cancelled", str(error)
    if isinstance(error, KeyboardInterrupt):
        return "cancelled", "It was stopped at once; it can go on from its last checkpoint."
    if isinstance(error, ExplorerError):
        return "failed", str(error)
    first = (str(error).splitlines() or [""])[0]
    if is_out_of_memory(error):
        return "failed", f"It ran out of memory: {first or 'choose a smaller batch'}"
    return "failed", f"{type(error).__name__}: {first}"


def lower_priority() -> None:
    """Give all threads of this process a lower priority: an attack on a page then waits for this run far less."""
    import psutil

    if sys.platform == "win32":
        psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        return
    own = os.getpriority(os.PRIO_PROCESS, 0)  # back up only root may go
    for thread in psutil.Process().threads() if psutil.LINUX else ():  # elsewhere the process has one priority
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.setpriority(os.PRIO_PROCESS, thread.id, max(BACKGROUND_NICENESS, own))
    os.setpriority(os.PRIO_PROCESS, 0, max(BACKGROUND_NICENESS, own))

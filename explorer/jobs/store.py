"""All runs of one folder (a job store): submitted, found again, cancelled, resumed, deleted. Files are the only truth.

Every change of a run's state is made under one lock and replaces state.json as a whole, so that two apps and a command
line on one store cannot both act. A process that is gone is noticed by whoever looks next. To look starts nothing: what
waits without a process is started by `tend`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from explorer.core import paths
from explorer.core.errors import ExplorerError, InvalidValue, UnknownName
from explorer.jobs.access import Guard, Permit, Refused, audit
from explorer.jobs.kinds import TRAIN
from explorer.jobs.launch import Launcher, Local, cluster, devices_of
from explorer.jobs.run_folder import LOCK_TIMEOUT_S, RunFolder, hold, reason
from explorer.jobs.spec import Spec
from explorer.jobs.state import LIVE, UNREADABLE, State

ID = re.compile(r"[a-z0-9]{12}")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
KILL_AFTER_S = 10.0  # between asking a run to stop and ending it
MAX_LAUNCHES = 3  # times that a process may die before it was heard of
CANCELLED_EARLY = "It was cancelled before its turn came."
CANCELLED_LATE = "It was cancelled, and ended at once; resume goes on from the last checkpoint."
LOG = logging.getLogger(__name__)


class Run(RunFolder):
    """One run: its folder, and what can be done with it. Changing takes the store's lock."""

    def __init__(self, folder: Path, store: Store | None = None):
        """`store` None: a folder on its own, which no store lists."""
        super().__init__(folder, store.lock if store else None)
        self.store = store

    @property
    def launcher(self) -> Launcher:
        """What starts, finds and stops its process."""
        return self.store.launcher(self.spec.place) if self.store else Local()

    def published(self) -> list[Path]:
        """The files of this run's model in the zoo: what `delete` removes with it."""
        model = self.state.model
        if self.store is None or not model or not re.fullmatch(r"[a-z0-9_]+/[a-z0-9][a-z0-9._-]*", model):
            return []
        card = self.store.zoo / f"{model}.json"
        names = (f"{card.stem}.json", f"{card.stem}.safetensors", f"{card.stem}.features.safetensors")
        return [path for name in names if (path := card.with_name(name)).is_file()]

    def cancel(self, permit: Permit | None = None) -> None:
        """Ask it to stop, with a checkpoint; in the queue: to leave. After ten seconds it is made to (`tend`).

        Raises Refused, InvalidValue (it is not live).
        """
        self._allow("cancel", permit)
        with self.locked():
            state = self.stored_state()
            if state.status not in LIVE:
                raise InvalidValue(f"Run {self.id} is {state.status}: there is nothing to cancel.")
            if not self.stopping:
                (self.folder / "cancel").touch()
            if self.launcher.alive(self.folder, state):
                self.launcher.stop(self.folder, state, hard=False)
            else:
                self.write(
                    state, status="cancelled", message=CANCELLED_EARLY if state.status == "queued" else CANCELLED_LATE
                )

    def resume(self, permit: Permit | None = None) -> None:
        """To the end of the queue again, to go on from its last checkpoint. Raises Refused, InvalidValue."""
        if self.store is None:
            raise InvalidValue("a run outside the store goes on with the command that began it.")
        self._allow("resume", permit)
        with self.locked():
            self.launch(self.requeue())

    def requeue(self, attached: bool = False) -> State:
        """Under the lock: queue a run that has ended for one more attempt. `attached`: by a terminal's process, which
        registers itself. Raises InvalidValue if it is live, finished (in a store) or not to be read.
        """
        self.refresh()
        state = self.stored_state()
        if state.status in LIVE or (state.status == "finished" and self.store is not None):
            raise InvalidValue(f"Run {self.id} is {state.status}: only one that was stopped can go on.")
        self.spec.check_known()  # what is known no more is said here, not in a log
        (self.folder / "cancel").unlink(missing_ok=True)
        order = self.store.next_order() if self.store else 0
        fresh = {"status": "queued", "message": "", "launches": 0, "process": None, "job": None}
        return self.write(state, attempt=state.attempt + 1, order=order, attached=attached, **fresh)

    def delete(self, permit: Permit | None = None) -> list[Path]:
        """Remove the folder, and its model from the zoo; returns what was removed. Raises Refused, InvalidValue."""
        if self.store is None:
            raise InvalidValue("a run outside the store is deleted with its folder.")
        self._allow("delete", permit)
        with self.locked():
            self.refresh()
            if self.state.status in LIVE:
                raise InvalidValue(f"Run {self.id} is {self.state.status}: cancel it before it is deleted.")
            removed = [*self.published(), self.folder]
            for path in removed[:-1]:
                path.unlink()
            trash = self.folder.with_name(f".trash-{self.id}")
            self.folder.rename(trash)  # from here on nobody finds half a run
            shutil.rmtree(trash)  # does not follow links
        return removed

    def refresh(self) -> State:
        """The state after a look whether its process is still there; what has become of it is written down, nothing is
        started or ended. One that is gone leaves the run interrupted (cancelled where that was asked for); a queued run
        goes on waiting, for a process that `tend` starts.
        """
        state = self.state
        if state.status not in LIVE or not _differs(state, changes := self._news(state)):
            return state
        try:
            with self.locked():
                state = self.stored_state()
                if state.status in LIVE and _differs(state, changes := self._news(state)):
                    self.write(state, **changes)
        except (ExplorerError, OSError) as error:  # a store that cannot be written is shown as it is
            LOG.warning("What became of run %s could not be noted: %s", self.id, reason(error))
            return replace(state, **changes)
        return self.state

    def tend(self) -> State:
        """As `refresh`; and a queued run without a process gets one, a run that has not stopped in time is ended."""
        state = self.refresh()
        if state.status not in LIVE:
            return state
        try:
            if self.launcher.alive(self.folder, state):
                if self.stopping_for() > KILL_AFTER_S:
                    self.launcher.stop(self.folder, state, hard=True)
                return state
            with self.locked():
                state = self.stored_state()
                if state.status == "queued" and not self.launcher.alive(self.folder, state) and not self._news(state):
                    self.launch(state)
        except (ExplorerError, OSError) as error:  # its state says so, too, where that could be written
            LOG.warning("Run %s could not be started: %s", self.id, reason(error))
        return self.state

    def launch(self, state: State) -> None:
        """Under the lock: start the process of a queued run. Raises what keeps it from starting, which its state says, too."""
        state = self.write(state, launches=state.launches + 1)
        try:
            noted = self.launcher.start(self.folder, self.spec)
        except (OSError, ExplorerError) as error:
            self.write(state, status="failed", message=f"Its process could not be started: {reason(error)}")
            raise
        self.write(state, **noted)

    def _news(self, state: State) -> dict[str, Any]:
        """What a look at the process of a live run tells, as changes of its state."""
        launcher = self.launcher
        if launcher.alive(self.folder, state):
            return launcher.note(self.folder, state)
        status, message = launcher.ending(self.folder, state)
        if self.stopping:
            return {"status": "cancelled", "message": CANCELLED_EARLY if state.status == "queued" else CANCELLED_LATE}
        if state.status != "queued" or status != "interrupted" or state.attached or self.store is None:
            return {"status": status, "message": message}
        if state.launches >= MAX_LAUNCHES:
            return {"status": "failed", "message": "Its process could not be started; the log says more."}
        return {}

    def _allow(self, action: str, permit: Permit | None) -> None:
        if self.store is not None:
            self.store.allow(action, permit, self.id)


class Store:
    """The runs in `root` (default: EXPLORER_RUNS, else ./runs). `guard`: an app's; None on the command line."""

    def __init__(self, root: Path | None = None, guard: Guard | None = None, local: Launcher | None = None):
        self.root = Path(root).absolute() if root else paths.runs()
        self.guard, self.local = guard, local or Local()
        self.lock = FileLock(self.root / ".lock", timeout=LOCK_TIMEOUT_S)
        self.zoo = self.root / paths.ZOO

    def submit(self, spec: Spec, permit: Permit | None = None) -> Run:
        """A new run at the end of the queue, in a process of its own.

        Raises Refused, UnknownName, InvalidValue (also where the store cannot be written), DataUnavailable.
        """
        from explorer.data import loading

        self.allow("start", permit)
        spec = self.checked(spec)
        if spec.kind == TRAIN:
            loading.check(spec.build().dataset, "train")
        run = self.begin(spec)
        self.tend()  # others that wait, and whose process is gone
        return run

    def checked(self, spec: Spec) -> Spec:
        """The spec with every value named; raises what `Spec.checked` does, and what its place cannot do."""
        spec = spec.checked()
        self.launcher(spec.place).check(spec)
        return spec

    def launcher(self, place: str) -> Launcher:
        """What starts, finds and stops the processes of runs in this place."""
        return self.local if place == "local" else cluster(place)

    def begin(self, spec: Spec) -> Run:
        """As `submit`, of a spec that has been `checked` and allowed."""
        with self.locked():
            run = self.create(spec)
            run.launch(run.stored_state())
        return run

    def resume_or_create(self, spec: Spec) -> Run:
        """For a terminal's process: the newest stopped run of the very same spec, to go on, else a new one.

        Raises InvalidValue if such a run is live.
        """
        spec = self.checked(spec)
        with self.locked():
            for run in self.runs():
                state = run.state
                if state.status in (UNREADABLE, "finished") or run.spec != replace(spec, created=run.spec.created):
                    continue
                if state.status in LIVE:
                    raise InvalidValue(f"Run {run.id} does this already (it is {state.status}).")
                self.allow("resume", None, run.id)
                run.requeue(attached=True)
                return run
            self.allow("start", None)
            return self.create(spec, attached=True)

    def create(self, spec: Spec, **state: Any) -> Run:
        """The folder of a new run of a `checked` spec, queued; nothing starts it yet."""
        with self.locked():
            for half in (*self.root.glob(".new-*"), *self.root.glob(".trash-*")):  # a kill left them
                shutil.rmtree(half)
            self._check_name(spec)
            devices = devices_of(spec, self._load()) if spec.place == "local" else None
            id = "".join(secrets.choice(LETTERS) for _ in range(12))
            half = self.root / f".new-{id}"
            half.mkdir()
            made = Run(half, self)
            made.write_spec(spec)
            made.write(State("queued", since=time.time(), order=self.next_order(), device=devices, **state))
            with contextlib.suppress(OSError):  # a full disk is the run's to wait for
                made.reserve()
            half.rename(self.root / id)
            return Run(self.root / id, self)

    def runs(self) -> list[Run]:
        """Newest first, after a look at each live one's process. Starts nothing, and needs no right to write."""
        return self._each(Run.refresh)

    def tend(self) -> list[Run]:
        """As `runs`; and what waits without a process gets one, what does not stop in time is ended (`Run.tend`).

        For whoever looks after the runs: the app as it polls, the command line, a submission.
        """
        return self._each(Run.tend)

    def _each(self, look: Callable[[Run], State]) -> list[Run]:
        found = self._found()
        for run in found:
            look(run)
        return sorted(found, key=lambda run: (run.created, run.id), reverse=True)

    def run(self, id: str) -> Run:
        """The run of this id, or of a beginning of it that no other has, after a look at it. Raises UnknownName."""
        known = {run.id: run for run in self._found()}
        fits = [one for one in known if isinstance(id, str) and len(id) >= 4 and one.startswith(id)]
        if len(fits) != 1:
            raise UnknownName("run", id, known)
        known[fits[0]].refresh()
        return known[fits[0]]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes anything in this store meanwhile. Raises InvalidValue where that cannot be had."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidValue(f"The runs' folder {self.root} cannot be written: {reason(error)}.") from error
        with hold(self.lock):
            yield

    def allow(self, action: str, permit: Permit | None, run: str | None = None) -> None:
        """Ask the guard, and log the answer. Raises Refused."""
        with contextlib.suppress(OSError):  # whoever needs the folder says so better
            self.root.mkdir(parents=True, exist_ok=True)
        try:
            if self.guard is not None:
                self.guard.check(permit)
        except Refused as refusal:
            audit(self.root, action, run, permit, True, str(refusal))
            raise
        audit(self.root, action, run, permit, self.guard is not None)

    def next_order(self) -> int:
        """Behind all others; only under the lock."""
        return 1 + max((run.state.order for run in self._found()), default=0)

    def others(self) -> list[tuple[Run, State]]:
        """Every readable run with its state as stored; nothing is refreshed."""
        return [(run, state) for run in self._found() if (state := run.state).status != UNREADABLE]

    def _found(self) -> list[Run]:
        """Folders named like a run; links are not followed."""
        try:
            with os.scandir(self.root) as entries:
                names = [e.name for e in entries if ID.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]
        except OSError:
            return []
        return [Run(self.root / name, self) for name in names]

    def _load(self) -> list[str]:
        """The device of every live run, once for each."""
        return [device for _, state in self.others() if state.status in LIVE for device in state.devices]

    def _check_name(self, spec: Spec) -> None:
        if spec.name is None:
            return
        from explorer.models import zoo  # loaded by now (`checked`), so that nobody waits for it

        taken = {card.name for card in zoo.cards()} | {run.spec.name for run, _ in self.others()}
        if spec.name in taken:
            raise InvalidValue(f"There is a model or run called {spec.name} already; choose another name.")


def open_run(folder: Path) -> Run:
    """The run in this folder, as part of the store around it. Raises InvalidValue."""
    folder = folder.absolute()
    if not ID.fullmatch(folder.name) or not (folder / "spec.json").is_file():
        raise InvalidValue(f"{folder} is not the folder of a run.")
    return Run(folder, Store(folder.parent))


def open_unmanaged(folder: Path, spec: Spec) -> Run:
    """The run in a folder of the user's own, which no store lists; queued for this process, begun or to go on.

    Raises InvalidValue where the folder holds another run, or one that is live.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder)
    with run.locked():
        if (folder / "state.json").exists():
            run.refresh()
            if not run.spec.same_work(spec):
                raise InvalidValue(
                    f"The folder {folder} holds a run of another recipe or other values; choose another."
                )
            run.requeue(attached=True)
        else:
            run.write(State("queued", attached=True, since=time.time()))
        run.write_spec(spec)
    return run


def _differs(state: State, changes: dict[str, Any]) -> bool:
    return any(getattr(state, name) != value for name, value in changes.items())

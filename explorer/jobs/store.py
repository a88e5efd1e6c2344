"""All runs of one folder: submitted, found again, cancelled, resumed, deleted. Files are the only truth.

Every change of a run's state is made under one lock and replaces state.json as a whole, so that two apps and a command
line on one store cannot both act. A process that is gone is noticed by whoever looks next.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from filelock import FileLock, Timeout

from explorer.core import paths
from explorer.core.errors import ExplorerError, InvalidValue, UnknownName
from explorer.core.files import write_atomically
from explorer.jobs.access import Guard, Permit, Refused, audit
from explorer.jobs.launch import Launcher, Local, cluster
from explorer.jobs.spec import Spec
from explorer.jobs.state import LIVE, UNREADABLE, Process, State

if TYPE_CHECKING:
    import numpy as np

ID = re.compile(r"[a-z0-9]{12}")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
PATIENCE = 30.0  # seconds for the store's lock, which is held for milliseconds
KILL_AFTER = 10.0  # seconds between asking a run to stop and ending it
LAUNCHES = 3  # times that a process may die before it was heard of
RESERVE = 64 * 1024  # bytes kept free for the state of a run whose disk is full
EARLY = "It was cancelled before its turn came."
LATE = "It was cancelled, and ended at once; resume goes on from the last checkpoint."
LOG = logging.getLogger(__name__)
FULL = (errno.ENOSPC, errno.EDQUOT)


class Run:
    """One run's folder. Reading needs nothing but the files; changing takes the store's lock."""

    def __init__(self, folder: Path, store: Store | None = None):
        """`store` None: a folder on its own, which no store lists."""
        self.folder, self.store = Path(folder), store
        self.id = self.folder.name
        self.lock = store.lock if store else FileLock(self.folder / ".lock", timeout=PATIENCE)

    # -- reading

    @property
    def spec(self) -> Spec:
        """Raises InvalidValue where spec.json is missing or makes no sense."""
        try:
            return Spec.from_dict(_read_json(self.folder / "spec.json"))
        except (OSError, ValueError) as error:
            raise InvalidValue(f"unreadable: spec.json: {_why(error)}") from error

    @property
    def state(self) -> State:
        """As the files say, with the heartbeat's progress; status "unreadable" where they make no sense."""
        try:
            state = self._stored()
            _check_recipe(self.spec.recipe)
        except InvalidValue as error:
            return State(UNREADABLE, str(error), since=_changed(self.folder))
        if state.status != "running":
            return state
        try:
            beat = _read_json(self.folder / "heartbeat")
        except (OSError, ValueError):
            return state
        return _with_progress(state, beat)

    @property
    def environment(self) -> dict[str, Any]:
        """What the last attempt ran with; empty before it began, or where the file makes no sense."""
        try:
            found = _read_json(self.folder / "environment.json")
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def metrics(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """The records after this byte of metrics.jsonl, and where to go on. A line that is being written waits."""
        from explorer.training import METRICS, read_metrics

        try:
            return read_metrics(self.folder / METRICS, offset)
        except OSError:
            return [], 0

    def log(self, last: int = 200) -> str:
        """The last lines of log.txt."""
        try:
            with open(self.folder / "log.txt", "rb") as file:
                file.seek(max(os.fstat(file.fileno()).st_size - 400 * last, 0))
                return "\n".join(file.read().decode(errors="replace").splitlines()[-last:])
        except OSError:
            return ""

    def sights(self) -> list[int]:
        """Epochs after which there is something to watch; 0: before the first."""
        from explorer.training import preview_epochs

        return preview_epochs(self.folder)

    def sight(self, epoch: int) -> dict[str, np.ndarray]:
        """Arrays of one epoch by name, those of `explorer.training.Sight`. Raises UnknownName or InvalidValue."""
        from explorer.training import read_preview

        if epoch not in self.sights():
            raise UnknownName("epoch", epoch, map(str, self.sights()))
        try:
            return vars(read_preview(self.folder, epoch))
        except (OSError, ValueError, TypeError, EOFError, BadZipFile) as error:
            raise InvalidValue(f"the pictures of epoch {epoch} cannot be read: {_why(error)}") from error

    def published(self) -> list[Path]:
        """The files of this run's model in the zoo: what `delete` removes with it."""
        model = self.state.model
        if self.store is None or not model or not re.fullmatch(r"[a-z0-9_]+/[a-z0-9][a-z0-9._-]*", model):
            return []
        card = self.store.zoo / f"{model}.json"
        names = (f"{card.stem}.json", f"{card.stem}.safetensors", f"{card.stem}.features.safetensors")
        return [path for name in names if (path := card.with_name(name)).is_file()]

    # -- changing

    def cancel(self, permit: Permit | None = None) -> None:
        """Ask it to stop, with a checkpoint; in the queue: to leave. After ten seconds it is made to (`refresh`).

        Raises Refused, InvalidValue (it is not live).
        """
        self._allow("cancel", permit)
        with self.locked():
            state = self._stored()
            if state.status not in LIVE:
                raise InvalidValue(f"Run {self.id} is {state.status}: there is nothing to cancel.")
            if not self.stopping:
                (self.folder / "cancel").touch()
            if self._launcher().alive(self.folder, state):
                self._launcher().stop(self.folder, state, hard=False)
            else:
                self.write(state, status="cancelled", message=EARLY if state.status == "queued" else LATE)

    def resume(self, permit: Permit | None = None) -> None:
        """To the end of the queue again, to go on from its last checkpoint. Raises Refused, InvalidValue."""
        if self.store is None:
            raise InvalidValue("a run outside the store goes on with the command that began it.")
        self._allow("resume", permit)
        with self.locked():
            state = self.again()
            self._launch(state)

    def again(self, attached: bool = False) -> State:
        """Under the lock: queue a run that has ended for one more attempt. `attached`: by a terminal's process, which
        registers itself. Raises InvalidValue if it is live, finished (in a store) or not to be read.
        """
        self.refresh()
        state = self._stored()
        if state.status in LIVE or (state.status == "finished" and self.store is not None):
            raise InvalidValue(f"Run {self.id} is {state.status}: only one that was stopped can go on.")
        self.spec.build()  # a recipe that is known no more is said here, not in a log
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
        """The state after a look whether its process is still there: one that is gone becomes interrupted (cancelled
        where that was asked for), one that should wait is started again, one that does not stop is ended.
        """
        state = self.state
        if state.status not in LIVE:
            return state
        launcher = self._launcher()
        alive = launcher.alive(self.folder, state)
        if alive:
            if self.stopping_for() > KILL_AFTER:
                launcher.stop(self.folder, state, hard=True)
            if not _differs(state, launcher.note(self.folder, state)):
                return state
        try:
            with self.locked():
                state = self._stored()
                if state.status in LIVE:
                    self._settle(state, launcher)
        except (ExplorerError, OSError) as error:  # a store that cannot be written is shown as it is
            LOG.warning("What became of run %s could not be noted: %s", self.id, _why(error))
            if alive:
                return state
            status, message = launcher.ending(self.folder, state)
            return replace(state, status=status, message=message)
        return self.state

    def _settle(self, state: State, launcher: Launcher) -> None:
        """Under the lock: write down what has become of a live run's process."""
        if launcher.alive(self.folder, state):
            if _differs(state, changes := launcher.note(self.folder, state)):
                self.write(state, **changes)
            return
        status, message = launcher.ending(self.folder, state)
        if self.stopping:
            self.write(state, status="cancelled", message=EARLY if state.status == "queued" else LATE)
        elif state.status != "queued" or status != "interrupted" or state.attached or self.store is None:
            self.write(state, status=status, message=message)
        elif state.launches >= LAUNCHES:
            self.write(state, status="failed", message="Its process could not be started; the log says more.")
        else:
            self._launch(state)

    def _launch(self, state: State) -> None:
        state = self.write(state, launches=state.launches + 1)
        try:
            noted = self._launcher().start(self.folder, self.spec)
        except (OSError, ExplorerError) as error:
            self.write(state, status="failed", message=f"Its process could not be started: {_why(error)}")
            raise
        self.write(state, **noted)

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return (self.folder / "cancel").exists()

    def stopping_for(self) -> float:
        """Seconds since it was asked to stop; 0 if it was not."""
        try:
            return max(time.time() - (self.folder / "cancel").stat().st_mtime, 0.0)
        except OSError:
            return 0.0

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes a run of this store meanwhile. Raises InvalidValue where that cannot be had."""
        place = self.store.root if self.store else self.folder
        with _lock(self.lock, place):
            yield

    def update(self, mine: Process | None = None, **changes: Any) -> State:
        """Change the state under the lock. `mine`: only if the run is still this process's; raises Taken."""
        with self.locked():
            state = self._stored()
            if mine is not None and not mine.same(state.process):
                raise Taken(f"Run {self.id} belongs to another process by now.")
            return self.write(state, **changes)

    def write(self, state: State, **changes: Any) -> State:
        """Only under the lock. A full disk gives up the reserve before it gives up the state."""
        if changes.get("status", state.status) != state.status:
            changes.setdefault("since", time.time())
        state = replace(state, **changes)
        path, data = self.folder / "state.json", json.dumps(state.to_dict(), indent=1).encode()
        try:
            write_atomically(path, data)
        except FileNotFoundError:  # somebody swept the temporary file away
            write_atomically(path, data)
        except OSError as error:
            if error.errno not in FULL:
                raise
            (self.folder / "reserve").unlink(missing_ok=True)
            write_atomically(path, data)
        return state

    def reserve(self) -> None:
        """Set aside room for the state; OSError if there is none."""
        path = self.folder / "reserve"
        if not path.exists():
            write_atomically(path, secrets.token_bytes(RESERVE))  # random: some file systems store zeros as nothing

    def _stored(self) -> State:
        try:
            return State.from_dict(_read_json(self.folder / "state.json"))
        except (OSError, ValueError, TypeError) as error:
            raise InvalidValue(f"unreadable: state.json: {_why(error)}") from error

    def _launcher(self) -> Launcher:
        place = self.spec.place
        if place != "local":
            return cluster(place)
        return self.store.local if self.store else Local()

    def _allow(self, action: str, permit: Permit | None) -> None:
        if self.store is not None:
            self.store.allow(action, permit, self.id)


class Taken(ExplorerError):
    """Another process has the run."""


class Store:
    """The runs in `root` (default: EXPLORER_RUNS, else ./runs). `guard`: an app's; None on the command line."""

    def __init__(self, root: Path | None = None, guard: Guard | None = None, local: Launcher | None = None):
        self.root = Path(root).absolute() if root else paths.runs()
        self.guard, self.local = guard, local or Local()
        self.lock = FileLock(self.root / ".lock", timeout=PATIENCE)
        self.zoo = self.root / paths.ZOO

    def submit(self, spec: Spec, permit: Permit | None = None) -> Run:
        """A new run at the end of the queue, in a process of its own.

        Raises Refused, UnknownName, InvalidValue (also where the store cannot be written), DataUnavailable.
        """
        from explorer.data import loading

        self.allow("start", permit)
        spec = spec.checked()
        loading.check(spec.build().dataset, "train")
        return self.begin(spec)

    def begin(self, spec: Spec) -> Run:
        """As `submit`, of a spec that has been `checked` and allowed."""
        with self.locked():
            run = self.create(spec)
            run._launch(run._stored())
        return run

    def take_up(self, spec: Spec) -> Run:
        """For a terminal's process: the newest stopped run of the very same spec, to go on, else a new one.

        Raises InvalidValue if such a run is live.
        """
        spec = spec.checked()
        with self.locked():
            for run in self.runs():
                state = run.state
                if state.status in (UNREADABLE, "finished") or run.spec != replace(spec, created=run.spec.created):
                    continue
                if state.status in LIVE:
                    raise InvalidValue(f"Run {run.id} does this already (it is {state.status}).")
                self.allow("resume", None, run.id)
                run.again(attached=True)
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
            write_atomically(half / "spec.json", _json(replace(spec, created=time.time()).to_dict()))
            made.write(State("queued", since=time.time(), order=self.next_order(), device=devices, **state))
            with contextlib.suppress(OSError):  # a full disk is the run's to wait for
                made.reserve()
            half.rename(self.root / id)
            return Run(self.root / id, self)

    def runs(self) -> list[Run]:
        """Newest first, after a look at each live one's process. Needs no right to write."""
        found = self._found()
        for run in found:
            run.refresh()
        return sorted(found, key=_created, reverse=True)

    def run(self, id: str) -> Run:
        """The run of this id, or of a beginning of it that no other has. Raises UnknownName."""
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
            raise InvalidValue(f"The runs' folder {self.root} cannot be written: {_why(error)}.") from error
        with _lock(self.lock, self.root):
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


def lone(folder: Path, spec: Spec) -> Run:
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
                raise InvalidValue(f"The folder {folder} holds a run of another recipe or other values; choose another.")
            run.again(attached=True)
        else:
            run.write(State("queued", attached=True, since=time.time()))
        write_atomically(folder / "spec.json", _json(replace(spec, created=time.time()).to_dict()))
    return run


def devices_of(spec: Spec, taken: list[str]) -> str:
    """The devices of this computer that a run asks for: of several GPUs those with the fewest runs."""
    if spec.device == "cpu":
        return "cpu"
    import torch

    from explorer.core.device import choose

    device = choose(spec.device)
    if device.type != "cuda":
        return device.type
    if device.index is not None:
        return str(device)
    there = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if spec.processes > len(there):
        raise InvalidValue(f"{spec.processes} processes need a GPU each; this computer has {len(there)}.")
    return ",".join(sorted(sorted(there, key=taken.count)[: spec.processes]))


@contextlib.contextmanager
def _lock(lock: FileLock, place: Path) -> Iterator[None]:
    try:
        lock.acquire()
    except Timeout as error:
        raise InvalidValue(f"Another process has held the lock of {place} for {PATIENCE:.0f} s; try again.") from error
    except OSError as error:
        raise InvalidValue(f"The runs' folder {place} cannot be written: {_why(error)}.") from error
    try:
        yield
    finally:
        lock.release()


def _differs(state: State, changes: dict[str, Any]) -> bool:
    return any(getattr(state, name) != value for name, value in changes.items())


def _check_recipe(key: str) -> None:
    """Refuse a recipe that is known no more. Where no recipe has been loaded yet, that is left for later."""
    defenses = sys.modules.get("explorer.defenses")
    if defenses is not None and key not in defenses.RECIPES:
        raise InvalidValue(f"unreadable: spec.json: the recipe {key!r} is known no more")


def _with_progress(state: State, beat: Any) -> State:
    if not isinstance(beat, dict):
        return state
    message = beat.pop("message", "")
    return replace(state, progress=beat, message=message if isinstance(message, str) and message else state.message)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except RecursionError as error:
        raise ValueError("too deeply nested") from error


def _json(facts: dict[str, Any]) -> bytes:
    return json.dumps(facts, indent=1, ensure_ascii=False).encode()


def _created(run: Run) -> tuple[float, str]:
    try:
        return run.spec.created, run.id
    except InvalidValue:
        return _changed(run.folder), run.id


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _why(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__).rstrip(".")

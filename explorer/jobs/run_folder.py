"""A run's folder: what its files say (spec, state, progress, metrics, log), and how its state is replaced, under a lock.

Reading needs nothing but the files. A file that is missing or makes no sense never raises where a list is shown.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from filelock import FileLock, Timeout

from explorer.core.errors import ExplorerError, InvalidValue, UnknownName
from explorer.core.files import write_atomically
from explorer.jobs.spec import Spec
from explorer.jobs.state import UNREADABLE, Process, State

if TYPE_CHECKING:
    import numpy as np

LOCK_TIMEOUT_S = 30.0  # for a lock that is held for milliseconds
RESERVE_BYTES = 64 * 1024  # kept free for the state of a run whose disk is full
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class Taken(ExplorerError):
    """Another process has the run."""


class RunFolder:
    """One run's files in `folder`, whose name is the run's id; `lock` is what a change of the state needs."""

    def __init__(self, folder: Path, lock: FileLock | None = None):
        """`lock` None: one of the folder's own."""
        self.folder = Path(folder)
        self.id = self.folder.name
        self.lock = lock or FileLock(self.folder / ".lock", timeout=LOCK_TIMEOUT_S)

    # -- reading

    @property
    def spec(self) -> Spec:
        """Raises InvalidValue where spec.json is missing or makes no sense."""
        try:
            return Spec.from_dict(_read_json(self.folder / "spec.json"))
        except (OSError, ValueError) as error:
            raise InvalidValue(f"unreadable: spec.json: {reason(error)}") from error

    @property
    def state(self) -> State:
        """As the files say, with the heartbeat's progress; status "unreadable" where they make no sense."""
        try:
            state = self.stored_state()
            _check_recipe(self.spec)
        except InvalidValue as error:
            return State(UNREADABLE, str(error), since=self.changed)
        if state.status != "running":
            return state
        try:
            beat = _read_json(self.folder / "heartbeat")
        except (OSError, ValueError):
            return state
        return _with_progress(state, beat)

    def stored_state(self) -> State:
        """What state.json holds. Raises InvalidValue where it is missing or makes no sense."""
        try:
            return State.from_dict(_read_json(self.folder / "state.json"))
        except (OSError, ValueError, TypeError) as error:
            raise InvalidValue(f"unreadable: state.json: {reason(error)}") from error

    @property
    def environment(self) -> dict[str, Any]:
        """What the last attempt ran with; empty before it began, or where the file makes no sense."""
        try:
            found = _read_json(self.folder / "environment.json")
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def created(self) -> float:
        """Seconds since 1970 when it was submitted; of one that is unreadable, when its folder last changed."""
        try:
            return self.spec.created
        except InvalidValue:
            return self.changed

    @property
    def changed(self) -> float:
        """Seconds since 1970 when something was last made or removed in the folder; 0 if it is gone."""
        try:
            return self.folder.stat().st_mtime
        except OSError:
            return 0.0

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
            raise InvalidValue(f"the pictures of epoch {epoch} cannot be read: {reason(error)}") from error

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

    # -- writing

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes this run meanwhile. Raises InvalidValue where that cannot be had."""
        with hold(self.lock):
            yield

    def update(self, mine: Process | None = None, **changes: Any) -> State:
        """Change the state under the lock. `mine`: only if the run is still this process's; raises Taken."""
        with self.locked():
            state = self.stored_state()
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
            if error.errno not in DISK_FULL:
                raise
            (self.folder / "reserve").unlink(missing_ok=True)
            write_atomically(path, data)
        return state

    def write_spec(self, spec: Spec) -> None:
        """With the present as the time of its submission."""
        facts = replace(spec, created=time.time()).to_dict()
        write_atomically(self.folder / "spec.json", json.dumps(facts, indent=1, ensure_ascii=False).encode())

    def reserve(self) -> None:
        """Set aside room for the state; OSError if there is none."""
        path = self.folder / "reserve"
        if not path.exists():
            write_atomically(
                path, secrets.token_bytes(RESERVE_BYTES)
            )  # random: some file systems store zeros as nothing


@contextlib.contextmanager
def hold(lock: FileLock) -> Iterator[None]:
    """Hold the lock. Raises InvalidValue where that cannot be had."""
    folder = Path(lock.lock_file).parent
    try:
        lock.acquire()
    except Timeout as error:
        raise InvalidValue(
            f"Another process has held the lock of {folder} for {LOCK_TIMEOUT_S:.0f} s; try again."
        ) from error
    except OSError as error:
        raise InvalidValue(f"The runs' folder {folder} cannot be written: {reason(error)}.") from error
    try:
        yield
    finally:
        lock.release()


def reason(error: BaseException) -> str:
    """Why, in a few words: the system's where it was the system."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__).rstrip(".")


def _check_recipe(spec: Spec) -> None:
    """Refuse a recipe that is known no more. Where no recipe has been loaded yet, that is left for later."""
    defenses = sys.modules.get("explorer.defenses")
    if spec.recipe and defenses is not None and spec.recipe not in defenses.RECIPES:
        raise InvalidValue(f"unreadable: spec.json: the recipe {spec.recipe!r} is known no more")


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

"""A run's state (state.json): how it stands, and which process it is."""

from __future__ import annotations

import socket
import time
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Self

import psutil

LIVE = ("queued", "running", "paused")  # it has a process, or is about to get one
ENDED = ("finished", "cancelled", "failed", "interrupted")
STATUSES = (*LIVE, *ENDED)
UNREADABLE = "unreadable"  # never on disk: what a run is called whose files make no sense
START_TOLERANCE_S = 2.5  # seconds; the kernel's idea of when it booted may move by one
SILENT_AFTER_S = 60.0  # seconds without a heartbeat after which a process on another computer counts as gone


@cache
def _boot() -> str:
    """Which boot of which kernel, and which of its process tables (containers have their own)."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    name = boot.read_text().strip() if boot.is_file() else f"{psutil.boot_time():.0f}"
    table = Path("/proc/self/ns/pid")
    return f"{name} {table.readlink()}" if table.is_symlink() else name


@dataclass(frozen=True)
class Process:
    """One process, told apart from a later one of the same number."""

    pid: int
    start: float  # seconds after the boot
    boot: str
    host: str

    @classmethod
    def of(cls, pid: int | None = None) -> Self:
        """Of this process, or of the one with this number; raises psutil.Error if there is none."""
        process = psutil.Process(pid)
        return cls(process.pid, round(process.create_time() - psutil.boot_time(), 2), _boot(), socket.gethostname())

    def same(self, other: Process | None) -> bool:
        """Whether the other is this very process."""
        if other is None or (self.pid, self.boot, self.host) != (other.pid, other.boot, other.host):
            return False
        return abs(self.start - other.start) < START_TOLERANCE_S

    @property
    def here(self) -> bool:
        """Whether it ran in this boot of this computer, so that its number means something."""
        return self.boot == _boot()

    def alive(self, folder: Path) -> bool:
        """Whether it still runs. On another computer, only its heartbeat in `folder` can say so."""
        if self.here:
            try:
                process = psutil.Process(self.pid)
                return (
                    self.same(replace(Process.of(self.pid), host=self.host))
                    and process.status() != psutil.STATUS_ZOMBIE
                )
            except psutil.Error:
                return False
        if self.host == socket.gethostname():  # booted again since
            return False
        return _age(folder / "heartbeat") < SILENT_AFTER_S


def _age(path: Path) -> float:
    """Seconds since the file was touched; infinite if it is not there."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")


@dataclass(frozen=True)
class State:
    """One line of a run's life; replaced as a whole, under the store's lock."""

    status: str
    message: str = ""
    since: float = 0.0  # seconds since 1970: when the status became this
    attempt: int = 1  # resumed: one more
    order: int = 0  # place in the queue: the smallest is next
    launches: int = 0  # times a process was started for this attempt and has not been heard of
    device: str | None = None  # what it holds or waits for: "cpu", "cuda:1", or several joined by commas
    process: Process | None = None
    attached: bool = False  # it runs in somebody's terminal: nobody else starts it again
    job: str | None = None  # the cluster's name for it
    model: str | None = None  # its name in the zoo, once finished
    progress: dict[str, Any] = field(default_factory=dict)  # never on disk: the heartbeat's, of a live run

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Of untrusted values (state.json); raises ValueError with what is wrong."""
        if not isinstance(values, dict):
            raise ValueError("state.json is not an object")
        known = {f.name for f in fields(cls)} - {"progress"}
        if extra := sorted(values.keys() - known):
            raise ValueError(f"state.json knows no {extra[0]!r}")
        kinds: dict[str, Any] = {
            "status": str,
            "message": str,
            "since": (int, float),
            "attempt": int,
            "order": int,
            "launches": int,
        }
        kinds |= dict.fromkeys(("device", "job", "model"), (str, type(None)))
        for name, kind in kinds.items():
            if name in values and (not isinstance(values[name], kind) or isinstance(values[name], bool)):
                raise ValueError(f"state.json has {values[name]!r} as {name}")
        if not isinstance(values.get("attached", False), bool):
            raise ValueError(f"state.json has {values['attached']!r} as attached")
        if values.get("status") not in STATUSES:
            raise ValueError(f"state.json has the unknown status {values.get('status')!r}")
        return cls(**values | {"process": _process(values.get("process"))})

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "progress"}

    @property
    def devices(self) -> frozenset[str]:
        return frozenset((self.device or "").split(",")) - {""}


def _process(values: Any) -> Process | None:
    if values is None:
        return None
    kinds: dict[str, Any] = {"pid": int, "start": (int, float), "boot": str, "host": str}
    ok = isinstance(values, dict) and values.keys() == kinds.keys()
    if not ok or not all(isinstance(values[name], kind) for name, kind in kinds.items()) or values["pid"] < 1:
        raise ValueError("state.json names no process")
    return Process(**values)

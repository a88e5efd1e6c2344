"""UMAP computed in a process of its own, for models that came without a map, so that nothing here waits for it."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from explorer.core import InvalidValue
from explorer.engine.scheduler import Busy

COMMAND = (sys.executable, "-m", "explorer", "features")
PROJECT = Path(__file__).resolve().parents[2]
KILL_AFTER_S = 5.0  # between asking a process to end and ending it
STARTING = "Starting"


class Making:
    """One map on its way; ask as often as you like. Safe from any thread."""

    def __init__(self, name: str, command: Sequence[str] = COMMAND):
        self.name, self._began = name, time.monotonic()
        self._ended: float | None = None
        self._cancelled, self._over = False, threading.Event()
        self._said, self._complaints = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115 - read for as long as it is asked
        path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
        threads = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [*command, name, "--background", "--device", "cpu"], stdin=subprocess.DEVNULL, stdout=self._said,
            stderr=self._complaints, env={**os.environ, **threads, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        atexit.register(self.cancel)
        threading.Thread(target=self._wait, name=f"map of {name}", daemon=True).start()

    @property
    def state(self) -> str:
        """running, done, failed or cancelled. Once done, `engine.plane(name).maps.umap()` finds it."""
        if self._ended is None:
            return "running"
        if self._process.returncode == 0:
            return "done"
        return "cancelled" if self._cancelled else "failed"

    @property
    def doing(self) -> str:
        """What it says it is doing, one line; why it failed, once it has."""
        if self.state == "failed":
            return _last_line(self._complaints) or f"It ended with code {self._process.returncode} and without a word."
        return _last_line(self._said).removeprefix(f"{self.name}: ") or STARTING

    @property
    def seconds(self) -> float:
        """Since it was started, until it ended."""
        return (self._ended or time.monotonic()) - self._began

    def cancel(self) -> None:
        """Stop it, soon; nothing half-made stays. Afterwards: nothing."""
        if self._process.poll() is None:
            self._cancelled = True
            self._process.terminate()

    def wait(self, timeout: float | None = None) -> bool:
        """True once it has ended, False if `timeout` seconds pass first."""
        return self._over.wait(timeout)

    def _wait(self) -> None:
        while self._process.poll() is None:
            try:
                self._process.wait(KILL_AFTER_S)
            except subprocess.TimeoutExpired:
                if self._cancelled:
                    self._process.kill()
        self._ended = time.monotonic()
        atexit.unregister(self.cancel)
        self._over.set()


class MapMaker:
    """Starts them, one at a time for the whole app."""

    def __init__(self, command: Sequence[str] = COMMAND):
        self._command, self._lock = tuple(command), threading.Lock()
        self._latest: dict[str, Making] = {}

    def start(self, name: str) -> Making:
        """The map of this model on its way: begun now, or by somebody else before. Raises Busy while another's is."""
        if name.startswith("-"):
            raise InvalidValue(f"model must be a model's name; got {name!r}.")
        with self._lock:
            for making in self._latest.values():
                if making.state == "running":
                    if making.name == name:
                        return making
                    raise Busy(f"The map of {making.name} is being computed: this one can begin when that is done.")
            self._latest[name] = Making(name, self._command)
            return self._latest[name]

    def of(self, name: str) -> Making | None:
        """The newest one of this model, None if it was never started here."""
        return self._latest.get(name)


def _last_line(file: IO[bytes]) -> str:
    text = os.pread(file.fileno(), 1 << 16, max(0, os.fstat(file.fileno()).st_size - (1 << 16)))
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""

"""Launchers: how a run's process is started, found again and stopped, on this computer or by a cluster.

`Store` asks for them under its lock. A cluster's is `explorer.jobs.slurm.Slurm`.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from explorer.core.errors import InvalidValue
from explorer.jobs.spec import Spec
from explorer.jobs.state import Process, State

GONE = "Its process ended without a word (killed, crashed, or the computer restarted); resume goes on from the last checkpoint."
PROJECT = Path(__file__).resolve().parents[2]


class Launcher(Protocol):
    """What a place where runs can live must be able to do."""

    def check(self, spec: Spec) -> None:
        """Raises UnknownName or InvalidValue for what this place cannot do."""

    def start(self, folder: Path, spec: Spec) -> dict[str, Any]:
        """Start `python -m explorer.jobs.runner folder`; returns what to note in the state (`process` or `job`).

        Raises ExplorerError with one sentence.
        """

    def alive(self, folder: Path, state: State) -> bool:
        """Whether the run's process runs or still waits to be started. When that cannot be told: True."""

    def note(self, folder: Path, state: State) -> dict[str, Any]:
        """Changes of the state of a run that is alive, where the place knows more than its process has said."""

    def ending(self, folder: Path, state: State) -> tuple[str, str]:
        """Status and message of a run that is not alive and has not said itself how it ended; never "finished"."""

    def stop(self, folder: Path, state: State, hard: bool) -> None:
        """Ask the process to end (SIGTERM), or end it (SIGKILL, the whole group)."""


@dataclass(frozen=True)
class Local:
    """A process of its own in a process session of its own: it outlives whoever started it."""

    command: Sequence[str] = (sys.executable, "-m", "explorer.jobs.runner")

    def check(self, spec: Spec) -> None:
        return

    def start(self, folder: Path, spec: Spec) -> dict[str, Any]:
        path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
        with open(folder / "log.txt", "ab") as log:
            started = subprocess.Popen(
                [*self.command, str(folder)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
        threading.Thread(target=started.wait, name=f"waits for {started.pid}", daemon=True).start()  # leaves no zombie
        try:
            return {"process": Process.of(started.pid)}
        except psutil.Error:  # it has ended already; its log says why
            return {"process": None}

    def alive(self, folder: Path, state: State) -> bool:
        return state.process is not None and state.process.alive(folder)

    def note(self, folder: Path, state: State) -> dict[str, Any]:
        return {}

    def ending(self, folder: Path, state: State) -> tuple[str, str]:
        return "interrupted", GONE

    def stop(self, folder: Path, state: State, hard: bool) -> None:
        process = state.process
        if process is None or not process.here or not process.alive(folder):
            return
        try:
            if hard and os.getpgid(process.pid) == process.pid:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                os.kill(process.pid, signal.SIGKILL if hard else signal.SIGTERM)
        except ProcessLookupError:  # it has ended in this very moment
            return


def cluster(place: str) -> Launcher:
    """The launcher of a place that is not this computer."""
    return importlib.import_module(f"explorer.jobs.{place}").launcher()


def devices_of(spec: Spec, taken: list[str]) -> str:
    """The devices of this computer that a run asks for: of several GPUs those with the fewest runs, of equals the last, as
    the app takes the first."""
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
    chosen = sorted(there, key=lambda name: (taken.count(name), -there.index(name)))[: spec.processes]
    return ",".join(name for name in there if name in chosen)

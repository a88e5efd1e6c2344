"""Confinement: a process for somebody else's code, in bubblewrap (`bwrap`), that answers frames over a pipe.

It sees the environment's packages, this package and the folders that are named, all read-only, and a private temporary
folder; no network, no environment, no other process. It limits itself before it runs anything (`lockdown.py`). Without bwrap
the limits alone hold: `not_prevented` says what that leaves open.
"""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from explorer.core.errors import ExplorerError
from explorer.core.frames import Arrays, Broken, Channel

PACKAGE = Path(__file__).resolve().parents[1]
INSIDE = "/inside"  # where the process finds this package
START_SECONDS = 180.0  # importing torch on a busy computer
REQUEST_SECONDS = 30.0
IMAGE_SECONDS = 0.5  # more, for each image of a request
TEMPORARY_BYTES = 256 << 20
NOT_PREVENTED = "it can read every file that you can read, and change or delete files that you may write"
ALLOWED = "EXPLORER_UNCONFINED"

# A process ends with the thread that started it (bwrap's --die-with-parent): one that lives as long as this program.
_starter = ThreadPoolExecutor(1, "confinement")


class Ended(ExplorerError):
    """A confined process died, was too slow or spoke nonsense: one sentence."""


class Told(ExplorerError):
    """What the confined side refused, in its own sentence."""


@cache
def bwrap() -> str | None:
    """The path of bubblewrap, if it is installed and this Python starts behind its walls."""
    found = shutil.which("bwrap")
    if found is None:
        return None
    tried = [found, *_walls({}, threads=1), sys.executable, "-E", "-s", "-c", "import numpy"]
    try:
        done = subprocess.run(tried, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found if done.returncode == 0 else None


def not_prevented() -> str | None:
    """What somebody else's code could do here all the same, as a sentence; None where it is confined."""
    if bwrap() is not None:
        return None
    return f"bubblewrap (bwrap) is not installed or does not work here, so this code runs with limits alone: {NOT_PREVENTED}."


def refused_on_pages() -> str | None:
    """Why a page may not run somebody else's code here, None where it may."""
    said = not_prevented()
    if said is None or os.environ.get(ALLOWED) == "1":
        return None
    return f"{said} Install bubblewrap, or start the app by `explorer app --unconfined`."


class Confined:
    """One process of the program `inside`, a file of this package, which sees the `folders` {where: path}, read-only."""

    def __init__(self, inside: Path, folders: Mapping[str, Path], who: str, threads: int = 1) -> None:
        self.who, self._lock, self._number = who, threading.Lock(), 0
        places = {where: place.resolve() for where, place in folders.items()}
        command = _command(inside.resolve(), places, threads)
        self._process = _starter.submit(_start, command).result()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._channel = Channel(self._process.stdout.fileno(), self._process.stdin.fileno())
        self.places = {name: f"/given/{name}" if bwrap() else str(place) for name, place in places.items()}
        self.cpu = 0.0  # seconds of its time, as it says itself

    def ask(
        self, what: str, arrays: Mapping[str, np.ndarray] | None = None, seconds: float = REQUEST_SECONDS, **more: Any
    ) -> tuple[dict[str, Any], Arrays]:
        """One question and its answer; one at a time. Raises Ended, after which the process is gone, and Told."""
        with self._lock:
            self._number += 1
            try:
                self._channel.send({"what": what, "number": self._number, **more}, arrays or {}, seconds)
                header, found = self._channel.receive(seconds)
                if header.get("number") != self._number:
                    raise Broken("it sent what is no answer")
                self.cpu = float(header.get("cpu", 0.0))
            except (Broken, TypeError, ValueError) as error:
                raise Ended(f"{self.who} stopped answering: {self._why(error)}.") from error
            except BaseException:  # interrupted: what it answers later belongs to nobody
                self.end()
                raise
        if "refused" in header:
            raise Told(str(header["refused"])[:500].splitlines()[0])
        return header, found

    @property
    def busy(self) -> bool:
        return self._lock.locked()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def end(self) -> None:
        """Kill it, and all it has started."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # what was not sent is lost with it
                    continue

    def _why(self, error: Exception) -> str:
        """How it ended, in words; it has ended then."""
        if str(error) == "it ended":
            try:
                code = self._process.wait(5)
            except subprocess.TimeoutExpired:
                code = None
            self.end()
            signal = -code if code is not None and code < 0 else code - 128 if code and code > 128 else 0
            reasons = {9: "it was killed (memory)", 24: "it used up its CPU time", 25: "it wrote too large a file"}
            return reasons.get(signal, f"its process ended (signal {signal})" if signal else "it ended its own process")
        self.end()
        return str(error)


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=kept, cwd="/",
        start_new_session=True, bufsize=0,
    )  # fmt: skip


def _command(inside: Path, places: Mapping[str, Path], threads: int) -> list[str]:
    found = bwrap()
    where = f"{INSIDE}/explorer" if found else str(PACKAGE)
    program = [
        sys.executable,
        "-P",
        "-B",
        "-E",
        "-s",
        f"{where}/{inside.relative_to(PACKAGE)}",
        "confined" if found else "limited",
        str(threads),
    ]
    return program if found is None else [found, *_walls(places, threads), *program]


def _walls(places: Mapping[str, Path], threads: int) -> list[str]:
    """The options of bwrap. It mounts in their order: the private /tmp comes first, as the environment may lie in /tmp."""
    binds = [word for place in _system() for word in ("--ro-bind", place, place)]
    for one in ("/bin", "/sbin", "/lib", "/lib64"):
        if Path(one).is_symlink():
            binds += ["--symlink", str(Path(one).readlink()), one]
        elif Path(one).is_dir():
            binds += ["--ro-bind", one, one]
    given = [word for name, place in places.items() for word in ("--ro-bind", str(place), f"/given/{name}")]
    return [
        "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL",
        "--size", str(TEMPORARY_BYTES), "--tmpfs", "/tmp", *binds,
        "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache", "--proc", "/proc", "--dev", "/dev",
        "--size", "1048576", "--tmpfs", "/dev/shm", "--remount-ro", "/dev",
        "--ro-bind", str(PACKAGE), f"{INSIDE}/explorer", *given,
        "--setenv", "HOME", "/tmp", "--setenv", "TMPDIR", "/tmp", "--setenv", "OMP_NUM_THREADS", str(threads),
        "--chdir", "/tmp", "--remount-ro", "/",
    ]  # fmt: skip


def _system() -> list[str]:
    """The folders that Python and its packages lie in, none inside another."""
    wanted = {Path("/usr"), Path(sys.prefix), Path(sys.base_prefix), *map(Path, site.getsitepackages())}
    wanted |= {Path(np.__file__).parents[1]}
    real = sorted({place for place in wanted if place.is_dir() and place != Path("/")}, key=lambda p: len(p.parts))
    kept: list[Path] = []
    for place in real:
        if not any(place.is_relative_to(other) for other in kept):
            kept.append(place)
    return [str(place) for place in kept]

"""Access control and audit log: who may start, cancel, resume and delete runs, and who did.

Checked where a run is changed, not in a page's widgets. On the command line whoever may write the files may do
everything; what is done is logged all the same.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import logging
import os
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from explorer.core.errors import ExplorerError

PASSWORD = "EXPLORER_INSTRUCTOR_PASSWORD"  # the environment variable's name
MAX_TRIES, WINDOW_S = 5, 60.0  # so many wrong passwords of one visitor within so many seconds; then that one waits
MAX_TRIES_OF_ALL = 60  # of all visitors together; then everybody waits
LOG = logging.getLogger(__name__)


class Refused(ExplorerError):
    """The instructor's password is needed, and was not given."""


@dataclass(frozen=True)
class Permit:
    """What somebody shows who wants to change something."""

    password: str | None = field(default=None, repr=False)
    who: str = ""  # for the log: a name, or what the browser's connection is called


def is_loopback(address: str | None) -> bool:
    """Whether an app that listens on this address is reached from this computer alone. None or "": from everywhere."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback if address else False
    except ValueError:
        return False


class Guard:
    """Asks for the password where an app listens on `address`, unless that is this computer alone.

    `always`: also there, where a password is set.
    """

    def __init__(self, address: str | None, always: bool = False):
        self.address, self.always = address, always
        self._wrong: deque[tuple[float, str]] = deque(maxlen=MAX_TRIES_OF_ALL)  # when, and who
        self._lock = threading.Lock()

    @property
    def needed(self) -> bool:
        """Whether a password has to be given (so that a page can ask for it)."""
        return not is_loopback(self.address) or (self.always and bool(os.environ.get(PASSWORD)))

    def check(self, permit: Permit | None) -> None:
        """Raises Refused; returns if all is well."""
        if not self.needed:
            return
        password = os.environ.get(PASSWORD)
        if not password:
            raise Refused(
                f"This app can be reached from other computers, so that changing runs needs the instructor's password, and "
                f"none is set: set {PASSWORD} where the app is started, or let it listen on 127.0.0.1."
            )
        given = (permit.password if permit else None) or ""
        with self._lock:
            now, who = time.monotonic(), permit.who if permit else ""
            recent = [one for one in self._wrong if now - one[0] < WINDOW_S]
            mine = [at for at, by in recent if by == who]
            if len(mine) >= MAX_TRIES or len(recent) >= MAX_TRIES_OF_ALL:
                wait = WINDOW_S - (now - (mine[-MAX_TRIES] if len(mine) >= MAX_TRIES else recent[0][0]))
                raise Refused(f"There were too many wrong passwords within a minute: try again in {wait:.0f} s.")
            if hmac.compare_digest(given.encode(), password.encode()):
                return
            if given:
                self._wrong.append((now, who))
        raise Refused("This is not the instructor's password." if given else "This needs the instructor's password.")


def audit(
    root: Path, action: str, run: str | None, permit: Permit | None, app: bool, refused: str | None = None
) -> None:
    """One more line in `<root>/audit.jsonl`: what was asked for, and whether it was allowed. Never the password."""
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "action": action,
        "run": run,
        "allowed": refused is None,
        "why": refused or "",
        "who": permit.who if permit else "",
        "via": "app" if app else "command line",
        "pid": os.getpid(),
    }
    try:
        with open(root / "audit.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    except OSError as error:  # a full disk must not keep a run from being cancelled
        LOG.warning("%s could not be written: %s", root / "audit.jsonl", error)

"""Work aside: what takes minutes and needs no turn on the device, in a thread of its own, watched and stopped from a page.

The scheduler's one worker advances everybody's attacks; what cannot be cut into short items (a process that starts, a file that
is converted, a thousand images measured) would make all wait. One piece of each kind is under way at a time, for the whole app.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import torch

from explorer.core import Cancelled
from explorer.engine.scheduler import Busy, explained

T = TypeVar("T")
Work = Callable[["Aside[T]"], None]


class Aside(Generic[T]):
    """One piece of work: what it is doing, what it has found so far, and how it ended. Safe to read from any thread."""

    def __init__(self, about: str, work: Work[T], threads: int = 1) -> None:
        self.about = about
        self.doing = "Starting"
        self.share: float | None = None  # of what it is doing, in [0,1]; None: not known
        self.error: str | None = None
        self.state = "running"  # then done, failed or cancelled
        self._found: list[T] = []
        self._began, self._ended = time.monotonic(), 0.0
        self._cancelling, self._over = False, threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work, threads), name=f"aside: {about}", daemon=True)
        self._thread.start()

    @property
    def found(self) -> tuple[T, ...]:
        """What it has given so far."""
        return tuple(self._found)

    @property
    def seconds(self) -> float:
        """Since it began, until it ended."""
        return (self._ended or time.monotonic()) - self._began

    @property
    def cancelling(self) -> bool:
        """Whether it was asked to stop."""
        return self._cancelling

    def cancel(self) -> None:
        """Ask it to stop: it does when it next says what it is doing."""
        self._cancelling = True

    def wait(self, timeout: float | None = None) -> bool:
        """True once it has ended, False if `timeout` seconds pass first."""
        return self._over.wait(timeout)

    # For the work

    def say(self, doing: str, share: float | None = None) -> None:
        """What is being done from here on, and how much of it is done. Raises Cancelled if nobody wants it any more."""
        if self._cancelling:
            raise Cancelled("The work was cancelled.")
        self.doing, self.share = doing, share

    def give(self, item: T) -> None:
        """One more result."""
        self._found.append(item)

    def _run(self, work: Work[T], threads: int) -> None:
        torch.set_num_threads(threads)  # of this thread
        state = "done"
        try:
            work(self)
        except Cancelled:
            state = "cancelled"
        except (Exception, SystemExit) as error:
            self.error, state = str(explained(error)[0]), "failed"
        self._ended = time.monotonic()
        self.state = state
        self._over.set()


class Asides(Generic[T]):
    """Starts them, one at a time. `busy`: the sentence for who has to wait."""

    def __init__(self, busy: str, threads: int = 1) -> None:
        self._busy, self._threads, self._lock = busy, threads, threading.Lock()
        self.latest: Aside[T] | None = None

    def start(self, about: str, work: Work[T]) -> Aside[T]:
        """Begin it. Raises Busy while another is under way."""
        with self._lock:
            if self.latest is not None and self.latest.state == "running":
                raise Busy(f"{self._busy} ({self.latest.about}): wait for it, or cancel it.")
            self.latest = Aside(about, work, self._threads)
            return self.latest

"""Signals that stop a run's process: SIGTERM and Ctrl-C, and a cluster's SIGUSR2 before its time limit.

The first one sets a flag, which lets the training save a checkpoint. What does not look at the flag is ended by an
exception in the main thread, wherever it is, after three seconds.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any, Self

from explorer.core.errors import Cancelled

WAIT_SLICE_S = 0.05  # a wait notices a stop as fast
STOP_GRACE_S = 3.0  # that a stop may take before the work is ended wherever it is
STOP_AGAIN_S = 1.0  # after which it is ended once more


class StopFlag:
    """As threading.Event, but a signal's handler may set it while this very thread waits for it."""

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set

    def wait(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not self._set and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, WAIT_SLICE_S))
        return self._set


class StopSignals:
    """Turns signals into `flag`, and in time into Cancelled. As a context; outside the main thread only `request` stops."""

    def __init__(self, of_cluster: bool = False) -> None:
        """`of_cluster`: also notice a cluster's warning that its time limit is near."""
        self.flag, self.over = StopFlag(), threading.Event()
        self.near_limit = False  # the cluster's time limit: save, and come back in another turn
        self.closing = False  # set by the work where its end is being written down, which nothing may break off
        self._wanted = {signal.SIGTERM: self._on_stop, signal.SIGINT: self._on_stop}
        if of_cluster:
            self._wanted[signal.SIGUSR2] = self._on_warning
        self._before: dict[signal.Signals, Any] = {}  # the handlers that were there
        self._first_at = 0.0
        self._ending = threading.Lock()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._wanted.items():
                self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(self, *error: object) -> None:
        with self._ending:
            self.over.set()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def request(self) -> None:
        """From any thread: as if somebody had sent SIGTERM."""
        if self._before:
            self._send()
        else:
            self.flag.set()

    def _on_stop(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if not self._first_at:
            self._first_at = now
            self.flag.set()
            threading.Thread(target=self._insist, name="insists on the stop", daemon=True).start()
        elif (
            number == signal.SIGINT or now - self._first_at >= STOP_GRACE_S
        ) and not self.closing:  # Ctrl-C twice; or late
            raise Cancelled("It was stopped at once; it can go on from its last checkpoint.")

    def _on_warning(self, number: int, frame: object) -> None:
        self.near_limit = True
        self.flag.set()

    def _insist(self) -> None:
        """Some seconds after the first signal another one, which ends the work wherever it is; and, as the exception may
        be swallowed on its way, another."""
        self.over.wait(STOP_GRACE_S)
        while not self.over.wait(WAIT_SLICE_S):
            self._send()
            self.over.wait(STOP_AGAIN_S)

    def _send(self) -> None:
        with self._ending:
            if not self.over.is_set():  # the handler is ours still
                os.kill(os.getpid(), signal.SIGTERM)

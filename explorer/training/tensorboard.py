"""TensorBoard event files beside the metrics, where tensorboardX is installed; a run does without them, too."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class TensorBoard:
    """Scalars over updates in `folder`. One file a process; TensorBoard reads them all as one run.

    What cannot be written (a full disk) is left out, and said once: metrics.jsonl has it. Written in place, not by
    tensorboardX's SummaryWriter: a full disk ends that one's thread, and the run then waits for its queue for ever.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]):
        self.folder, self.say = folder, say
        self._update = 0
        self._writer: Any = None
        self._missing = False  # the library
        self._said = False  # that something was left out

    def start(self, update: int) -> None:
        """The run goes on after `update`: what other files say beyond it is void."""
        self._update = update

    def add(self, update: int, numbers: Mapping[str, float]) -> None:
        """The numbers by name after so many updates."""
        if not self._missing:
            self._attempt(lambda: self._add(update, numbers))

    def flush(self) -> None:
        """Down to the disk."""
        if self._writer is not None:
            self._attempt(self._writer.flush)

    def close(self) -> None:
        if self._writer is not None:
            self._attempt(self._writer.close)
        self._writer = None

    def _add(self, update: int, numbers: Mapping[str, float]) -> None:
        from tensorboardX.event_file_writer import EventsWriter  # takes a while: the first numbers need not wait for it
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.proto.summary_pb2 import Summary

        if self._writer is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._writer = EventsWriter(str(self.folder / "events"), f".{self._update}.{time.time_ns()}")
            begin = Event(wall_time=time.time(), step=self._update + 1, session_log=SessionLog(status=SessionLog.START))
            self._writer.write_event(begin)
        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        self._writer.write_event(Event(wall_time=time.time(), step=update, summary=Summary(value=values)))
        self._update = update

    def _attempt(self, write: Callable[[], Any]) -> None:
        """`write`; after an error the next numbers begin a new file, so that none is torn in the middle."""
        try:
            write()
        except ImportError:
            self._missing = True
            self.say(
                "There are no TensorBoard event files: tensorboardX is not installed. The metrics are in metrics.jsonl."
            )
        except OSError as error:
            self._writer = None
            if not self._said:
                self.say(f"A TensorBoard event file lacks its end ({error.strerror}); metrics.jsonl has everything.")
            self._said = True

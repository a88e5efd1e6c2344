"""TensorBoard event files beside the metrics, where tensorboardX is installed; a run does without them, too."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Events:
    """Scalars over updates in `folder`. One file a process; TensorBoard reads them all as one run.

    Written in place, not by the library's thread: what goes wrong (a full disk) is raised here, where it can be mended.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]):
        self.folder, self.say = folder, say
        self._update = 0
        self._writer: Any = None
        self._library: Any = None
        self._missing = False

    def start(self, update: int) -> None:
        """The run goes on after `update`: what other files say beyond it is void."""
        self._update = update

    def add(self, update: int, numbers: Mapping[str, float]) -> None:
        """Raises OSError; the next call begins a new file, so that none is torn in the middle."""
        if self._missing:
            return
        try:
            if self._writer is None and not self._open():
                return
            self._write(update, summary=self._summary(numbers))
        except OSError:
            self._drop()
            raise
        self._update = update

    def flush(self) -> None:
        """Down to the disk. Raises OSError."""
        if self._writer is not None:
            try:
                self._writer.flush()
            except OSError:
                self._drop()
                raise

    def close(self) -> None:
        """The last of it; events that cannot be written any more are given up, as the metrics have them."""
        if self._writer is not None:
            try:
                self._writer.close()
            except OSError as error:
                self.say(f"The event files lack their end ({error.strerror}); metrics.jsonl has it.")
        self._writer = None

    def _open(self) -> bool:
        """Imported only now: it takes a while, and the first numbers need not wait for it."""
        try:
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto import event_pb2, summary_pb2
        except ImportError:
            self._missing = True
            self.say("There are no TensorBoard event files: tensorboardX is not installed. The metrics are in metrics.jsonl.")
            return False
        self._library = event_pb2, summary_pb2
        self.folder.mkdir(parents=True, exist_ok=True)
        unique = f".{self._update}.{time.time_ns()}"
        self._writer = EventsWriter(str(self.folder / "events"), unique)
        self._write(self._update + 1, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))
        return True

    def _write(self, update: int, **content: Any) -> None:
        events, _ = self._library
        self._writer.write_event(events.Event(wall_time=time.time(), step=update, **content))

    def _summary(self, numbers: Mapping[str, float]) -> Any:
        summaries = self._library[1]
        return summaries.Summary(value=[summaries.Summary.Value(tag=n, simple_value=v) for n, v in numbers.items()])

    def _drop(self) -> None:
        """Forget a writer that failed; its buffered rest cannot be saved."""
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except OSError:
                self.say("An event file ends early, because the disk was full; metrics.jsonl has everything.")

"""The metrics log of a run, metrics.jsonl: one JSON object a line, only ever appended to.

{"kind": "start", "update", "epoch", "updates", "epochs", "images", "held_out"}
{"kind": "update", "update", "epoch", "loss", "learning_rate", "images_per_second", "seconds", "memory"}
{"kind": "slice", "update", "eps", "label", "classes", "sure", "seconds"}
{"kind": "tape", "update", "epoch", "right", "robust"}
{"kind": "epoch", "epoch", "update", "loss", "seconds", "clean", ..., "score"}

A start: a process took the run up after `update` updates of `updates` in all, on so many images, scored on so many held out.
`update` counts from 1 over the whole run; `epoch` is the 1-based epoch that the update belongs to (in a start: epochs
finished). `seconds` of an update is the time trained so far, pauses left out, of an epoch what it took; `memory` is the
peak in bytes (see `memory.py`), null where it is unknown. Slices and tapes: see `watched.py`. After a kill, updates since the
last checkpoint are done and recorded again: `newest` keeps the last word on each.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"
KINDS = ("update", "slice", "tape", "epoch")  # in the order of those of one update; from the third on, of the epoch


class Metrics:
    """Appends records to a file: one write a line; a write that fails (a full disk) leaves no part of its line."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        size = os.fstat(self._file).st_size
        os.lseek(self._file, max(size - 1, 0), os.SEEK_SET)
        self._torn = size > 0 and os.read(self._file, 1) != b"\n"  # a kill cut the last line: leave it, begin a new one

    def add(self, record: Mapping[str, Any]) -> None:
        """Raises OSError; the file is then as it was."""
        line = b"\n" * self._torn + json.dumps(record).encode() + b"\n"
        before = os.fstat(self._file).st_size
        try:
            _write(self._file, line)
        except OSError:
            os.ftruncate(self._file, before)
            raise
        self._torn = False

    def sync(self) -> None:
        """Down to the disk: what a checkpoint builds on must survive a power cut as well as it does."""
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


def read_metrics(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The whole records from byte `offset` on, and the offset to ask from next time.

    A line that is still being written waits for the next time; one that a kill has cut is passed over. No file yet: no
    records. A file shorter than `offset` is another one than before, and is read from its beginning.
    """
    try:
        with open(path, "rb") as file:
            if offset > os.fstat(file.fileno()).st_size:
                offset = 0
            file.seek(offset)
            whole, newline, _ = file.read().rpartition(b"\n")
    except FileNotFoundError:
        return [], 0
    return [record for line in whole.split(b"\n") if (record := _parsed(line)) is not None], offset + len(
        whole + newline
    )


def newest(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last record of each update, slice, tape and epoch, in the order of the updates, epochs after their last update.

    What a killed process recorded beyond the checkpoint from which the run went on has not happened yet: it is left out
    until it is recorded again.
    """
    kept: dict[tuple[int, int], dict[str, Any]] = {}
    for record in records:
        kind, update = record.get("kind"), record.get("update")
        if not isinstance(update, int):
            continue
        if kind == "start":
            finished = record.get("epoch", 0)
            beyond = [
                key for key, one in kept.items() if key[0] > update or (one.get("epoch", 0) > finished and key[1] > 1)
            ]
            for key in beyond:
                del kept[key]
        elif kind in KINDS:
            kept[update, KINDS.index(kind)] = record
    return [kept[key] for key in sorted(kept)]


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:  # torn, or nothing between two newlines
        return None
    return record if isinstance(record, dict) else None


def _write(file: int, line: bytes) -> None:
    """All of `line` or an OSError; a full disk first takes a part and then refuses."""
    while line:
        line = line[os.write(file, line) :]

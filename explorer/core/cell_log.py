"""Append-only log of finished cells (a write-ahead journal): what a stopped run has measured is read again, not measured again.

The first line of the file holds the conditions, all that decides about the cells; each further line is one cell, forced to
disk before it counts. A line that a kill cut off is measured anew.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from explorer.core.errors import InvalidValue

LARGEST_LOG = 2**30  # bytes; 10,000 certificates of 1,000 classes have less

V = TypeVar("V")


class CellLog(Generic[V]):
    """JSON lines: the conditions, then one cell a line, with its index and the seconds that it took."""

    field: ClassVar[str] = "value"  # what a line calls the cell itself
    holds: ClassVar[str] = "cells"  # for messages
    advice: ClassVar[str] = "begin another run, or ask for the same"

    def __init__(self, path: Path, conditions: Mapping[str, Any]):
        """Begin the file, or read the one that is there.

        `conditions` are everything that decides about the cells, as JSON can hold it. Raises InvalidValue if the file is
        another run's or damaged (a last line that was cut off is not: it is made anew); OSError if it cannot be written.
        """
        self.path, self.seconds = path.expanduser(), 0.0  # seconds: of the cells that were there
        self._found: dict[int, V] = {}
        first = _line(dict(conditions))
        conditions = json.loads(first)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        lines, rest = self._lines(self.path)
        if lines:
            self._check_same(self._conditions(self.path, lines[0]), conditions)
        elif not first.startswith(rest):
            raise self._not_a_log(self.path)
        if rest:
            os.truncate(self.path, sum(map(len, lines)))
        if not lines:
            self._append(first)
        for index, value, seconds in self._cells(self.path, lines):
            self._found[index] = value
            self.seconds += seconds

    @classmethod
    def conditions_of(cls, path: Path) -> dict[str, Any] | None:
        """The first line of a file; None if there is none yet. Raises InvalidValue, OSError."""
        try:
            with open(path.expanduser(), "rb") as file:
                line = file.readline()
        except FileNotFoundError:
            return None
        return cls._conditions(path, line) if line.endswith(b"\n") else None

    @classmethod
    def look(cls, path: Path) -> tuple[dict[str, Any], dict[int, V]]:
        """The conditions and the cells so far of a file that somebody may be writing; nothing is changed. Both empty before
        the first line. Raises InvalidValue, OSError.
        """
        lines, _ = cls._lines(path)
        conditions = cls._conditions(path, lines[0]) if lines else {}
        return conditions, {index: value for index, value, _ in cls._cells(path, lines)}

    def __len__(self) -> int:
        """How many cells were there when it was opened."""
        return len(self._found)

    @property
    def found(self) -> Mapping[int, V]:
        """The cells that were there when it was opened, by index."""
        return self._found

    def make(self, index: int, make: Callable[[], V]) -> V:
        """Make this cell now, and note it. Raises OSError where the file cannot be written."""
        began = time.monotonic()
        value = make()
        self.note(index, value, time.monotonic() - began)
        return value

    def note(self, index: int, value: V, seconds: float) -> None:
        """One more line. Raises OSError, and then leaves no part of it."""
        self._append(_line({"index": index, "seconds": round(seconds, 3), self.field: self.plain(value)}))

    def plain(self, value: V) -> Any:
        """A cell as JSON can hold it."""
        return value

    @classmethod
    def read(cls, plain: Any) -> V:
        """What `plain` made. Raises ValueError, TypeError, KeyError or InvalidValue for anything else."""
        value: V = plain
        return value

    def _append(self, line: bytes) -> None:
        with open(self.path, "ab") as file:
            before = file.tell()
            try:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            except OSError:  # a full disk: half a line would spoil the next one
                os.truncate(self.path, before)
                raise

    @classmethod
    def _lines(cls, path: Path) -> tuple[list[bytes], bytes]:
        """The whole lines, and what a kill has left of the last one. Raises InvalidValue, OSError."""
        if path.stat().st_size > LARGEST_LOG:
            raise cls._not_a_log(path)
        *lines, rest = path.read_bytes().split(b"\n")
        return [line + b"\n" for line in lines], rest

    @classmethod
    def _conditions(cls, path: Path, line: bytes) -> dict[str, Any]:
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise cls._not_a_log(path)
        return found

    def _check_same(self, there: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        for name in sorted(there.keys() | now.keys()):
            if there.get(name) != now.get(name):
                raise InvalidValue(
                    f"{self.path} is of another run: {name} is {there.get(name)!r} there, and {now.get(name)!r} now. "
                    f"{self.advice[:1].upper()}{self.advice[1:]}."
                )

    @classmethod
    def _cells(cls, path: Path, lines: list[bytes]) -> Iterator[tuple[int, V, float]]:
        for number, line in enumerate(lines[1:], 2):
            try:
                facts = json.loads(line)
                yield int(facts["index"]), cls.read(facts[cls.field]), float(facts["seconds"])
            except (ValueError, TypeError, KeyError, InvalidValue) as error:
                advice = cls.advice.partition(",")[0]
                raise InvalidValue(f"{path} is damaged in line {number} ({error}): {advice}.") from error

    @classmethod
    def _not_a_log(cls, path: Path) -> InvalidValue:
        return InvalidValue(f"{path} does not hold a run's {cls.holds}: {cls.advice.partition(',')[0]}.")


def _line(facts: dict[str, Any]) -> bytes:
    return json.dumps(facts).encode() + b"\n"

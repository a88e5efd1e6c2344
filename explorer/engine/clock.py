"""Clock of a piece of work: seconds of its own computing, without those of others' turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import TypeVar

T = TypeVar("T")


class Clock:
    """Seconds of computing: it stands while others have their turn."""

    def __init__(self) -> None:
        self._spent, self._since = 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        return self._spent + time.perf_counter() - self._since

    def stopped(self, item: T) -> T:
        self._spent = self.seconds
        return item

    def go(self) -> None:
        self._since = time.perf_counter()


def timed(work: Callable[[Clock], Generator[T]]) -> Generator[T]:
    """The items of work that is handed its clock, which stands while others have their turn."""
    clock = Clock()
    with closing(work(clock)) as items:
        for item in items:
            yield clock.stopped(item)
            clock.go()

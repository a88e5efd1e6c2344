"""Shared work: several sessions that ask for the very same run look at one Future; what was just computed is not computed again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar

from explorer.engine.scheduler import Future

T = TypeVar("T")
KEPT = 24  # finished runs, of all kinds: the newest

Alive = Callable[[], bool]
Submit = Callable[[Alive], Future[Any]]


class Seat(Future[T]):
    """One session's place at a shared Future. To cancel is to leave: the work itself stops when nobody is left."""

    def __init__(self, shared: Future[T], leave: Callable[[Seat[T]], None]) -> None:
        self.session, self._shared, self._leave, self._left = shared.session, shared, leave, False

    @property
    def state(self) -> str:
        return "cancelled" if self._left else self._shared.state

    @property
    def finished(self) -> bool:
        return self._left or self._shared.finished

    @property
    def latest(self) -> T | None:
        return self._shared.latest

    @property
    def count(self) -> int:
        return self._shared.count

    @property
    def error(self) -> str | None:
        return self._shared.error

    @property
    def position(self) -> int:
        return self._shared.position

    @property
    def cancelling(self) -> bool:  # type: ignore[override]
        return self._left or self._shared.cancelling

    def cancel(self) -> None:
        if not self._shared.finished:
            self._left = True
            self._leave(self)

    def wait(self, timeout: float | None = None) -> bool:
        return self._left or self._shared.wait(timeout)

    def wait_for(self, accepts: Callable[[T], bool], timeout: float) -> bool:
        return self._left or self._shared.wait_for(accepts, timeout)

    def events(self) -> Iterator[T]:
        return self._shared.events()


class _Held:
    def __init__(self) -> None:
        self.future: Future[Any] | None = None
        self.seats: dict[Seat[Any], Alive] = {}

    def alive(self) -> bool:
        """Whether one of them is still there; before the first sits down somebody is."""
        seats = list(self.seats.items())
        return not seats or any(alive() for _, alive in seats)

    def is_usable(self, finished: bool) -> bool:
        """Whether a newcomer may sit down: it has not failed and is not about to stop; `finished`: also when it is done."""
        future = self.future
        states = ("queued", "running", "done") if finished else ("queued", "running")
        return future is not None and not future.cancelling and future.state in states


class Sharing:
    """Which runs are under way or were just finished, by what decides about them. Safe from any thread."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._held: OrderedDict[Hashable, _Held] = OrderedDict()
        self._lock = threading.Lock()

    def join(self, same: Hashable, alive: Alive, submit: Submit, finished: bool = True) -> Seat[Any]:
        """A seat at the run of this key; `submit(alive)` begins one where there is none. Raises what it raises.

        `same` must hold all that decides about the answer, the models' weights, too; `finished`: a run that is done will do.
        """
        with self._lock:
            held = self._held.get(same)
            if held is None or not held.is_usable(finished):
                held = _Held()
                held.future = submit(held.alive)
                self._held[same] = held
            assert held.future is not None
            seat: Seat[Any] = Seat(held.future, self._left)
            held.seats[seat] = alive
            self._held.move_to_end(same)
            for key in [key for key, one in self._held.items() if one.future is None or one.future.finished][
                : -self._kept
            ]:
                del self._held[key]
            return seat

    def _left(self, seat: Seat[Any]) -> None:
        with self._lock:
            for held in self._held.values():
                if held.seats.pop(seat, None) is not None and not held.seats and held.future is not None:
                    held.future.cancel()

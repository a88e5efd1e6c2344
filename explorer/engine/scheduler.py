"""Scheduler: one worker thread advances everybody's work in turn, for a time slice each.

A slice is long enough for a usual attack on one picture: of a class that attacks at once, the first need not wait for
the last. What takes longer gives way to the others after each slice.

Work is a function that returns an iterator. Each item is a whole answer so far (the newest replaces the one before);
None is no news but a chance for others. Between any two items the work may be closed, so that a cancel or a closed tab
stops it, and its `finally` blocks run. An iterator must not yield inside grad, no_grad or use_generator blocks.

Between two items it is stopped as well, by the exception Cancelled (not to be caught), at the next layer of any of the
engine's own models (`Engine.model`): work that goes through them need do nothing to end within a second. Work that
computes for long without them calls `explorer.engine.stopping.stop_if_unwanted` from time to time.
"""

from __future__ import annotations

import atexit
import contextvars
import gc
import logging
import threading
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

import torch

from explorer.core import Cancelled, ExplorerError
from explorer.core.device import release_memory
from explorer.core.memory import is_out_of_memory
from explorer.engine.stopping import wanted

T = TypeVar("T")

JOBS_PER_SESSION = 3  # one running and two waiting
QUEUE_LIMIT = 64  # jobs of all sessions together
TIME_SLICE_S = 0.3  # seconds of computing in a row for one job, if others wait
IDLE_S = 5.0  # seconds without work after which freed memory goes back to the GPU
ALIVE_CHECK_S = 0.25  # seconds between two checks of who is still there

_log = logging.getLogger(__name__)


class Busy(ExplorerError):
    """Too much is waiting already."""


class Failed(ExplorerError):
    """The work ended without a result; the message says why."""


class Future(Generic[T]):
    """One submitted piece of work, as its owner sees it. Safe to read from any thread."""

    def __init__(self, session: str, position: Callable[[Future[Any]], int], wake: Callable[[], None]) -> None:
        self.session = session
        self._position, self._wake = position, wake
        self._news = threading.Condition()
        self._state = "queued"
        self._latest: T | None = None
        self._count = 0
        self._failure: ExplorerError | None = None
        self.cancelling = False

    @property
    def state(self) -> str:
        """queued, running, done, failed or cancelled."""
        return self._state

    @property
    def finished(self) -> bool:
        return self._state in ("done", "failed", "cancelled")

    @property
    def latest(self) -> T | None:
        """The newest item, None before the first."""
        return self._latest

    @property
    def count(self) -> int:
        """How many items there have been."""
        return self._count

    @property
    def error(self) -> str | None:
        """One sentence for the person waiting, None unless the work failed."""
        return str(self._failure) if self._failure else None

    @property
    def position(self) -> int:
        """How many of the session's own jobs must end before this one's turn; 0 once it takes turns with the others."""
        return self._position(self)

    def cancel(self) -> None:
        """Ask for the work to stop: before its next item, and before its model's next layer."""
        self.cancelling = True
        self._wake()

    def wait(self, timeout: float | None = None) -> bool:
        """True once finished, False if `timeout` seconds pass first."""
        with self._news:
            return self._news.wait_for(lambda: self.finished, timeout)

    def wait_for(self, accepts: Callable[[T], bool], timeout: float) -> bool:
        """True once there is an item that it `accepts`, or the work has finished; False if `timeout` seconds pass first."""
        with self._news:
            return self._news.wait_for(
                lambda: self.finished or (self._latest is not None and accepts(self._latest)), timeout
            )

    def events(self) -> Iterator[T]:
        """Items as they come; a slow reader misses some but never the last. Raises what made the work fail or stop."""
        seen = 0
        while True:
            with self._news:
                self._news.wait_for(partial(self._has_news, seen))
                item, count, over = self._latest, self._count, self.finished
            if count > seen and item is not None:
                seen = count
                yield item
            if over:
                break
        if self._failure is not None:
            raise self._failure
        if self._state == "cancelled":
            raise Cancelled("The work was cancelled.")

    def _has_news(self, seen: int) -> bool:
        return self._count > seen or self.finished

    def _begin(self) -> None:
        self._state = "running"

    def _publish(self, item: T) -> None:
        with self._news:
            self._latest, self._count = item, self._count + 1
            self._news.notify_all()

    def _finish(self, state: str, failure: ExplorerError | None = None) -> None:
        with self._news:
            self._state, self._failure = state, failure
            self._news.notify_all()


@dataclass(eq=False)
class _Job:
    future: Future[Any]
    work: Callable[[], Iterable[Any]] | None  # None once it has ended
    alive: Callable[[], bool] | None
    deadline: float  # seconds of computing
    iterator: Iterator[Any] | None = None
    spent: float = 0.0  # seconds of computing
    context: contextvars.Context = field(default_factory=contextvars.Context)  # a leaked block harms this job only
    alive_checked: float = 0.0  # when `alive` was asked last
    slice: float = 0.0  # seconds of computing since its time slice began

    def __post_init__(self) -> None:
        self.context.run(wanted.set, self.is_wanted)

    def is_wanted(self) -> bool:
        """Whether somebody still waits for it; from its own work, so `alive` is asked now and then only."""
        if self.future.cancelling:
            return False
        now = time.monotonic()
        if now - self.alive_checked < ALIVE_CHECK_S:
            return True
        self.alive_checked = now
        return _is_alive(self)

    def step(self) -> tuple[bool, Any]:
        """(over, item)."""
        if self.iterator is None:
            assert self.work is not None
            self.iterator = iter(self.work())
        try:
            return False, next(self.iterator)
        except StopIteration:
            return True, None

    def close(self) -> None:
        close = getattr(self.iterator, "close", None)
        if close is not None:
            close()


class Scheduler:
    """A worker thread and a queue for each session. `threads`: CPU threads of the worker; `deadline`: seconds of
    computing for a job that names none (waiting for others does not count); `answers`: whether the device still does,
    asked after an error that could have broken it."""

    def __init__(self, threads: int, deadline: float, answers: Callable[[], bool] = lambda: True) -> None:
        self.threads, self.deadline, self._answers = threads, deadline, answers
        self._changed = threading.Condition()
        self._queues: OrderedDict[str, deque[_Job]] = OrderedDict()  # the session whose slice is next stands first
        self._worker: threading.Thread | None = None
        self._closed = False
        self._alive_checked = 0.0

    def submit(
        self,
        session: str,
        work: Callable[[], Iterable[T | None]],
        alive: Callable[[], bool] | None = None,
        deadline: float | None = None,
    ) -> Future[T]:
        """Queue work for a session; `alive` says whether anybody still waits for it. Raises Busy.

        `deadline`: seconds of computing that it may take, if not the engine's: for what gives way to others every few
        moments and is worth nothing unless it is finished.
        """
        with self._changed:
            if self._closed:
                raise Busy("The engine has been closed: start the app again.")
            queue = self._queues.get(session, ())
            if sum(not job.future.cancelling for job in queue) >= JOBS_PER_SESSION:
                raise Busy(
                    f"You have {JOBS_PER_SESSION} runs under way or waiting already: wait for one, or cancel one."
                )
            if sum(map(len, self._queues.values())) >= QUEUE_LIMIT:
                raise Busy(f"The device is busy: {QUEUE_LIMIT} runs are waiting. Try again in a moment.")
            future: Future[T] = Future(session, self._position, self._wake)
            self._queues.setdefault(session, deque()).append(_Job(future, work, alive, deadline or self.deadline))
            if self._worker is None:
                self._worker = threading.Thread(target=self._run, name="engine", daemon=True)
                self._worker.start()
                atexit.register(self.close)
            self._changed.notify_all()
        return future

    @property
    def sessions(self) -> int:
        """How many sessions have work here now."""
        return len(self._queues)

    def close(self) -> None:
        """Cancel everything and stop the worker; nothing can be submitted afterwards."""
        with self._changed:
            self._closed = True
            for queue in self._queues.values():
                for job in queue:
                    job.future.cancelling = True
            self._changed.notify_all()
        if self._worker is not None and self._worker is not threading.current_thread():
            self._worker.join(timeout=10)
        atexit.unregister(self.close)

    def _position(self, future: Future[Any]) -> int:
        with self._changed:
            futures = [job.future for job in self._queues.get(future.session, ())]
            return futures.index(future) if future in futures else 0

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _run(self) -> None:
        torch.set_num_threads(self.threads)  # of this thread
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._queues or self._closed, IDLE_S):
                    release_memory()  # others on this GPU may need it, a training run for one
                    self._changed.wait_for(lambda: self._queues or self._closed)
                jobs = [job for queue in self._queues.values() for job in queue]
                if self._closed:
                    break
            self._stop_abandoned(jobs)
            job = self._next()
            if job is not None:
                self._advance(job)
        for job in jobs:
            self._end(job, "cancelled")

    def _stop_abandoned(self, jobs: list[_Job]) -> None:
        """End what was cancelled or is waited for by nobody, wherever it stands in its queue."""
        now = time.monotonic()
        due = now - self._alive_checked >= ALIVE_CHECK_S
        if due:
            self._alive_checked = now
        for job in jobs:
            if job.future.cancelling or (due and not _is_alive(job)):
                self._end(job, "cancelled")

    def _next(self) -> _Job | None:
        """The first job of the session whose slice it is; when that is over, the session goes to the end."""
        with self._changed:
            if not self._queues:
                return None
            session = next(iter(self._queues))
            job = self._queues[session][0]
            if 0.0 < job.slice >= TIME_SLICE_S and len(self._queues) > 1:
                job.slice = 0.0
                self._queues.move_to_end(session)
                job = self._queues[next(iter(self._queues))][0]
            return job

    def _advance(self, job: _Job) -> None:
        if not _is_alive(job):
            self._end(job, "cancelled")
            return
        job.future._begin()
        over, item, failure, memory = False, None, None, False
        began = time.monotonic()
        try:
            with torch.enable_grad():  # restores the mode, whatever the work left behind
                over, item = job.context.run(job.step)
        except (Exception, SystemExit) as error:
            failure, memory = explained(error)
            if isinstance(error, torch.AcceleratorError) and not self._answers():
                failure = Failed("The GPU does not answer any more and has to be set up anew: start the app again.")
                self._closed = True  # the worker ends with this job
        took = time.monotonic() - began
        job.spent += took
        job.slice += took
        if failure is None and not over and job.spent > job.deadline:
            failure = Failed(
                f"Stopped after {job.deadline:g} s of computing: fewer steps, restarts or draws finish in time."
            )
        if item is not None:
            job.future._publish(item)
        if isinstance(failure, Cancelled):
            self._end(job, "cancelled")
        elif failure is not None:
            self._end(job, "failed", failure, memory)
        elif over:
            self._end(job, "done")

    def _end(self, job: _Job, state: str, failure: ExplorerError | None = None, memory: bool = False) -> None:
        """Close the work, then tell its owner."""
        try:
            job.context.run(job.close)
        except (Exception, SystemExit):
            _log.exception("A job raised while it was being closed")
        job.iterator = job.work = job.alive = None
        if memory:  # outside the except block, whose traceback keeps the tensors alive
            gc.collect()
            release_memory()
        with self._changed:
            queue = self._queues.get(job.future.session)
            if queue is not None and job in queue:
                was_first = queue[0] is job
                queue.remove(job)
                if not queue:
                    del self._queues[job.future.session]
                elif was_first:  # the session's next work waits for the others' slices
                    self._queues.move_to_end(job.future.session)
        job.future._finish(state, failure)


def _is_alive(job: _Job) -> bool:
    try:
        return job.alive is None or bool(job.alive())
    except Exception:
        _log.exception("Asking whether a session is still there failed; its work is stopped")
        return False


def explained(error: BaseException) -> tuple[ExplorerError, bool]:
    """What to tell the person waiting, and whether memory ran out. Neither it nor the log holds the work's tensors."""
    if isinstance(error, ExplorerError):
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None), False
    if is_out_of_memory(error):
        _log.warning("A job ran out of memory: %s", str(error))
        return Failed("The device ran out of memory: choose fewer draws, or a smaller model."), True
    if isinstance(error, FloatingPointError):
        _log.warning("A job met a number that is not finite: %s", str(error))
        return Failed(f"The computation left the range of numbers and was stopped: {error}."), False
    _log.error("A job failed: %s", "".join(traceback.format_exception(error)))
    return Failed(f"Something unexpected went wrong ({type(error).__name__}); the log says more."), False

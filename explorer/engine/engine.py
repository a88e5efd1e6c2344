"""Who may use the device now: one worker advances everybody's work in turn, for a moment at a time.

A turn is long enough for a usual attack on one picture: of a class that attacks at once, the first need not wait for
the last. What takes longer gives way to the others after each turn.

Work is a function that returns an iterator. Each item is a whole answer so far (the newest replaces the one before);
None is no news but a chance for others. Between any two items the work may be closed, so that a cancel or a closed tab
stops it, and its `finally` blocks run. An iterator must not yield inside grad, no_grad or randomness blocks.

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
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from explorer.core import Cancelled, Classifier, ExplorerError, InvalidValue
from explorer.core.device import choose, cores, describe
from explorer.engine.stopping import stops_between_layers, wanted
from explorer.features import Gathering, Maps, Plane, Reference
from explorer.models import zoo

T = TypeVar("T")

PER_SESSION = 3  # one running and two waiting
QUEUE = 64  # jobs of all sessions together
DEADLINE = 120.0  # seconds of computing for one job; waiting for others does not count
MODELS = 16  # kept in memory
UPLOADS = 64  # pictures kept for the requests that name them
TURN = 0.3  # seconds of computing in a row for one job, if others wait
LOOK_AROUND = 0.25  # seconds between two looks at who is still there

_log = logging.getLogger(__name__)


class Busy(ExplorerError):
    """Too much is waiting already."""


class Failed(ExplorerError):
    """The work ended without a result; the message says why."""


class Ticket(Generic[T]):
    """One submitted piece of work, as its owner sees it. Safe to read from any thread."""

    def __init__(self, session: str, position: Callable[[Ticket], int], wake: Callable[[], None]):
        self.session = session
        self._position, self._wake = position, wake
        self._news = threading.Condition()
        self._state = "queued"
        self._latest: T | None = None
        self._count = 0
        self._failure: ExplorerError | None = None
        self._cancelling = False

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
        self._cancelling = True
        self._wake()

    def wait(self, timeout: float | None = None) -> bool:
        """True once finished, False if `timeout` seconds pass first."""
        with self._news:
            return self._news.wait_for(lambda: self.finished, timeout)

    def wait_for(self, seen: Callable[[T], bool], timeout: float) -> bool:
        """True once there is an item that `seen` accepts, or the work has finished; False if `timeout` seconds pass first."""
        with self._news:
            return self._news.wait_for(lambda: self.finished or (self._latest is not None and seen(self._latest)), timeout)

    def events(self) -> Iterator[T]:
        """Items as they come; a slow reader misses some but never the last. Raises what made the work fail or stop."""
        seen = 0
        while True:
            with self._news:
                self._news.wait_for(lambda seen=seen: self._count > seen or self.finished)
                item, count, over = self._latest, self._count, self.finished
            if count > seen:
                seen = count
                yield item
            if over:
                break
        if self._failure is not None:
            raise self._failure
        if self._state == "cancelled":
            raise Cancelled("The work was cancelled.")

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
    ticket: Ticket
    work: Callable[[], Iterable[Any]]
    alive: Callable[[], bool] | None
    deadline: float  # seconds of computing
    iterator: Iterator[Any] | None = None
    spent: float = 0.0  # seconds of computing
    context: contextvars.Context = field(default_factory=contextvars.Context)  # a leaked block harms this job only
    looked: float = 0.0  # when `alive` was asked last
    turn: float = 0.0  # seconds of computing since its turn began

    def __post_init__(self) -> None:
        self.context.run(wanted.set, self.is_wanted)

    def is_wanted(self) -> bool:
        """Whether somebody still waits for it; from its own work, so `alive` is asked now and then only."""
        if self.ticket._cancelling:
            return False
        now = time.monotonic()
        if now - self.looked < LOOK_AROUND:
            return True
        self.looked = now
        return _is_alive(self)

    def step(self) -> tuple[bool, Any]:
        """(over, item)."""
        if self.iterator is None:
            self.iterator = iter(self.work())
        try:
            return False, next(self.iterator)
        except StopIteration:
            return True, None

    def close(self) -> None:
        close = getattr(self.iterator, "close", None)
        if close is not None:
            close()


class PlaneWork:
    """One model's maps, whose reference images go through it once, by whoever's turn it is."""

    def __init__(self, start: Callable[[], Gathering], drawn: Callable[[Reference], Maps] = Maps):
        self._start, self._drawn, self._lock = start, drawn, threading.Lock()
        self._gathering: Gathering | None = None
        self.maps: Maps | None = None

    @property
    def plane(self) -> Plane | None:
        """The PCA plane, once the reference images are there."""
        return self.maps.pca() if self.maps is not None else None

    @property
    def progress(self) -> tuple[int, int] | None:
        """Reference images that have been through the model and how many there are; None before the first."""
        gathering = self._gathering
        return gathering.progress if gathering is not None else None

    def advance(self) -> Plane | None:
        """One more batch of reference images; the plane once all are there."""
        with self._lock:
            if self.maps is None:
                self._gathering = self._gathering or self._start()
                try:
                    found = self._gathering.advance()
                except BaseException:  # stopped or failed within a batch: the next one begins anew
                    self._gathering = None
                    raise
                if found is not None:
                    maps = self._drawn(found)
                    maps.pca()
                    self.maps, self._gathering = maps, None
            return self.plane


@dataclass(frozen=True, eq=False)
class _Loaded:
    sha256: str
    model: Classifier
    plane: PlaneWork


class Engine:
    """The device's owner. `threads`: CPU threads of its worker, None for all cores."""

    def __init__(self, device: str = "auto", threads: int | None = None, deadline: float = DEADLINE):
        if threads is not None and not (isinstance(threads, int) and 1 <= threads <= 1024):
            raise InvalidValue(f"threads must be a whole number in [1, 1024]; got {threads!r}.")
        self.device = choose(device)
        self.threads = threads or cores()
        self.deadline = deadline
        self._turn = threading.Condition()
        self._lines: OrderedDict[str, deque[_Job]] = OrderedDict()  # the session whose turn is next stands first
        self._worker: threading.Thread | None = None
        self._closed = False
        self._looked_around = 0.0
        self._loading = threading.Lock()
        self._models: OrderedDict[str, _Loaded] = OrderedDict()  # least recently used first
        self._uploads: OrderedDict[str, Tensor] = OrderedDict()
        if self.device.type == "cuda":  # the same request gives the same bits, and full float32
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False

    @property
    def description(self) -> str:
        """The device, for people."""
        return describe(self.device, self.threads)

    # Models and pictures

    def model(self, name: str) -> Classifier:
        """The model of this name, loaded once, frozen; shared by everybody, so never change it.

        Loaded anew if its card names other weights than before. Raises UnknownName or BadCheckpoint.
        """
        return self._loaded(name).model

    def plane(self, name: str) -> PlaneWork:
        """The maps of this model's features, to be advanced until they are there."""
        return self._loaded(name).plane

    def _loaded(self, name: str) -> _Loaded:
        card = zoo.card(name)
        with self._loading:
            found = self._models.get(name)
            if found is None or found.sha256 != card.sha256:
                model, shipped = stops_between_layers(zoo.load(name, self.device)), zoo.features_file(name)
                work = PlaneWork(
                    lambda: Gathering(model, card.dataset, key=card.sha256, shipped=shipped),
                    lambda reference: Maps(reference, name, card.sha256),
                )
                found = self._models[name] = _Loaded(card.sha256, model, work)
            self._models.move_to_end(name)
            while len(self._models) > MODELS:
                self._models.popitem(last=False)
            return found

    def keep_upload(self, key: str, pixels: Tensor) -> None:
        """Keep an uploaded picture (C,H,W) for the requests that name it; the oldest of many are forgotten."""
        with self._loading:
            self._uploads[key] = pixels.detach().cpu().clone()
            self._uploads.move_to_end(key)
            while len(self._uploads) > UPLOADS:
                self._uploads.popitem(last=False)

    def upload(self, key: str) -> Tensor:
        """The picture kept under this key (C,H,W); raises InvalidValue if it is gone."""
        with self._loading:
            if key not in self._uploads:
                raise InvalidValue("The uploaded picture is not here any more: upload it again.")
            return self._uploads[key]

    # Work

    def submit(
        self,
        session: str,
        work: Callable[[], Iterable[T]],
        alive: Callable[[], bool] | None = None,
        deadline: float | None = None,
    ) -> Ticket[T]:
        """Queue work for a session; `alive` says whether anybody still waits for it. Raises Busy.

        `deadline`: seconds of computing that it may take, if not the engine's: for what gives way to others every few
        moments and is worth nothing unless it is finished.
        """
        with self._turn:
            if self._closed:
                raise Busy("The engine has been closed: start the app again.")
            line = self._lines.get(session, ())
            if sum(not job.ticket._cancelling for job in line) >= PER_SESSION:
                raise Busy(f"You have {PER_SESSION} runs under way or waiting already: wait for one, or cancel one.")
            if sum(map(len, self._lines.values())) >= QUEUE:
                raise Busy(f"The device is busy: {QUEUE} runs are waiting. Try again in a moment.")
            ticket = Ticket(session, self._position, self._wake)
            self._lines.setdefault(session, deque()).append(_Job(ticket, work, alive, deadline or self.deadline))
            if self._worker is None:
                self._worker = threading.Thread(target=self._run, name="engine", daemon=True)
                self._worker.start()
                atexit.register(self.close)
            self._turn.notify_all()
        return ticket

    @property
    def sessions(self) -> int:
        """How many sessions have work here now."""
        return len(self._lines)

    def close(self) -> None:
        """Cancel everything and stop the worker; nothing can be submitted afterwards."""
        with self._turn:
            self._closed = True
            for line in self._lines.values():
                for job in line:
                    job.ticket._cancelling = True
            self._turn.notify_all()
        if self._worker is not None and self._worker is not threading.current_thread():
            self._worker.join(timeout=10)
        atexit.unregister(self.close)

    def _position(self, ticket: Ticket) -> int:
        with self._turn:
            tickets = [job.ticket for job in self._lines.get(ticket.session, ())]
            return tickets.index(ticket) if ticket in tickets else 0

    def _wake(self) -> None:
        with self._turn:
            self._turn.notify_all()

    def _run(self) -> None:
        torch.set_num_threads(self.threads)  # of this thread
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._lines or self._closed)
                jobs = [job for line in self._lines.values() for job in line]
                if self._closed:
                    break
            self._stop_the_abandoned(jobs)
            job = self._next()
            if job is not None:
                self._advance(job)
        for job in jobs:
            self._end(job, "cancelled")

    def _stop_the_abandoned(self, jobs: list[_Job]) -> None:
        """End what was cancelled or is waited for by nobody, wherever it stands in line."""
        now = time.monotonic()
        look = now - self._looked_around >= LOOK_AROUND
        if look:
            self._looked_around = now
        for job in jobs:
            if job.ticket._cancelling or (look and not _is_alive(job)):
                self._end(job, "cancelled")

    def _next(self) -> _Job | None:
        """The first job of the session whose turn it is; when its turn is over, that session goes to the end."""
        with self._turn:
            if not self._lines:
                return None
            session = next(iter(self._lines))
            job = self._lines[session][0]
            if 0.0 < job.turn >= TURN and len(self._lines) > 1:
                job.turn = 0.0
                self._lines.move_to_end(session)
                job = self._lines[next(iter(self._lines))][0]
            return job

    def _advance(self, job: _Job) -> None:
        if not _is_alive(job):
            self._end(job, "cancelled")
            return
        job.ticket._begin()
        over, item, failure, memory = False, None, None, False
        began = time.monotonic()
        try:
            with torch.enable_grad():  # restores the mode, whatever the work left behind
                over, item = job.context.run(job.step)
        except (Exception, SystemExit) as error:
            failure, memory = _explained(error)
        took = time.monotonic() - began
        job.spent += took
        job.turn += took
        if failure is None and not over and job.spent > job.deadline:
            failure = Failed(
                f"Stopped after {job.deadline:g} s of computing: fewer steps, restarts or draws finish in time."
            )
        if item is not None:
            job.ticket._publish(item)
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
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        with self._turn:
            line = self._lines.get(job.ticket.session)
            if line is not None and job in line:
                had_turns = line[0] is job
                line.remove(job)
                if not line:
                    del self._lines[job.ticket.session]
                elif had_turns:  # the session's next work waits for the others' turns
                    self._lines.move_to_end(job.ticket.session)
        job.ticket._finish(state, failure)


def _is_alive(job: _Job) -> bool:
    try:
        return job.alive is None or bool(job.alive())
    except Exception:
        _log.exception("Asking whether a session is still there failed; its work is stopped")
        return False


def _explained(error: BaseException) -> tuple[ExplorerError, bool]:
    """What to tell the person waiting, and whether memory ran out. Neither it nor the log holds the work's tensors."""
    if isinstance(error, ExplorerError):
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None), False
    if _is_out_of_memory(error):
        _log.warning("A job ran out of memory: %s", str(error))
        return Failed("The device ran out of memory: choose fewer draws, or a smaller model."), True
    if isinstance(error, FloatingPointError):
        _log.warning("A job met a number that is not finite: %s", str(error))
        return Failed(f"The computation left the range of numbers and was stopped: {error}."), False
    _log.error("A job failed: %s", "".join(traceback.format_exception(error)))
    return Failed(f"Something unexpected went wrong ({type(error).__name__}); the log says more."), False


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    signs = ("can't allocate memory", "not enough memory", "out of memory")  # CPU allocators; MPS
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)

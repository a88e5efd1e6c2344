"""Page run: what a page asks of the engine and shows, from the link it is opened by to the result.

`Task` is one piece of the engine's work of this browser session. `PageRun` is the task that a page is about, together
with the request it answers; what is particular to a page, its class says by overriding a few methods. Every page of
that kind reads the same (pages/many.py):

    MANY.open()             what a link, the browser's history or the controls ask for begins
    ...                     the controls; MANY.button(column) begins a run, or ends the one under way
    MANY.notices()          what one looks at; else that the controls ask for something else by now, or what could not be done
    MANY.watch()            the address bar, and what is on show, looked at again and again until it has ended

Nothing is kept in these objects: all sessions share them, and what a session keeps stands in its `st.session_state`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.scriptrunner import get_script_run_ctx

from explorer.core import ExplorerError
from explorer.engine import Future
from explorer.engine.same_run import same_run
from explorer.ui import gate, room
from explorer.ui.frame import STAYS, asked, came_by_link, in_lesson, leave_if_wanted
from explorer.ui.inputs import attack as controls
from explorer.ui.notices import draw_anew, notice, noticed, say_notice
from explorer.ui.session import engine, look_again, session_id, still_open

Request = TypeVar("Request")
Item = TypeVar("Item")
Value = TypeVar("Value")
Work = Callable[[], Iterable[Item | None]]  # what an engine is given
CROWDED = 5.0  # seconds of patience at most where others wait, too: a look costs them more than waiting does
TRAVEL = 0.001  # seconds for a recorded image to reach a browser, on a busy machine


class Stored(Generic[Value]):
    """A field that a session keeps: in `st.session_state`, under its owner's prefix and its own name; at first `default`."""

    def __init__(self, default: Value) -> None:
        self.default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, owner: Any, cls: type | None = None) -> Value:
        found: Value = st.session_state.get(owner.prefix + self.name, self.default)
        return found

    def __set__(self, owner: Any, value: Value) -> None:
        st.session_state[owner.prefix + self.name] = value


class Task(Generic[Item]):
    """One piece of the engine's work of this session; its future is kept in `st.session_state` under `key`.

    `queue`: a queue of its own beside the session's, so that both take turns; `deadline`: as of `Engine.submit`.
    """

    replays: ClassVar[bool] = True  # whether a finished run of another session will do

    def __init__(self, key: str, queue: str = "", deadline: float | None = None) -> None:
        self.key, self.queue, self.deadline = key, queue, deadline

    @property
    def future(self) -> Future[Item] | None:
        """The newest that was begun, also when it has ended."""
        found: Future[Item] | None = st.session_state.get(self.key)
        return found

    @property
    def latest(self) -> Item | None:
        """The newest answer, None before the first."""
        return self.future.latest if self.future is not None else None

    @property
    def running(self) -> bool:
        """Whether it is under way."""
        return self.future is not None and not self.future.finished

    def submit(self, work: Work[Item], same: Hashable | None = None) -> None:
        """Begin `work`; an earlier one still running is stopped. Raises Busy.

        `same`: all that decides about its answer; where another session has such a run, or had one lately, that is taken.
        """
        self.forget()
        begin = partial(engine().submit, session_id() + self.queue, work, deadline=self.deadline)
        if same is None:
            st.session_state[self.key] = begin(alive=still_open())
        else:
            join = engine().sharing.join
            st.session_state[self.key] = join(same, still_open(), lambda alive: begin(alive=alive), self.replays)

    def cancel(self) -> None:
        """Stop it, if it runs; what was computed until then stays."""
        if self.future is not None:
            self.future.cancel()

    def stop(self) -> None:
        """From inside a part of a page that looks again and again: cancel, and draw the page that says so."""
        if self.future is not None:
            self.future.cancel()
            self.future.wait(2)
        st.rerun()

    def forget(self) -> None:
        """Stop it, and show nothing of it."""
        self.cancel()
        st.session_state[self.key] = None

    def look(self, draw: Callable[..., None], *arguments: Any, every: float, name: str) -> None:
        """`draw(*arguments, polling)` as a part of the page that looks again while this runs (`session.look_again`)."""
        polling = self.running
        look_again(draw, *arguments, polling, every=every if polling else None, key=name)


class PageRun(Task[Item], ABC, Generic[Request, Item]):
    """A page's task and the request it answers; `prefix` stands before its keys in `st.session_state`."""

    prefix: ClassVar[str] = ""
    verb: ClassVar[str] = "Attack"  # on the button
    icon: ClassVar[str] = ":material/bolt:"
    button_keys: ClassVar[str] = ""  # before "begin" and "cancel"
    act: ClassVar[str] = "try"  # what the button does to changed settings
    poll: ClassVar[float] = 0.5  # seconds between two looks at running work
    about: ClassVar[str] = ""  # what one looks at, in one sentence
    names: ClassVar[frozenset[str]] = frozenset()  # what a link of this page may name
    unasked: ClassVar[bool] = True  # whether a first visit begins what the controls say
    patience: ClassVar[float] = 0.3  # seconds a drawing may wait for what is worth drawing; pages flicker less

    shown: Stored[Request | None] = Stored(None)  # what the run was asked for
    run: Stored[int] = Stored(0)  # number of the run: players of a new one are a new group
    held: Stored[bool] = Stored(False)  # whether it waits for an answer to be locked (`gate`)
    offers_cancel: Stored[bool] = Stored(False)  # whether the button, as it was drawn last, ends the run

    def __init__(self, queue: str = "", deadline: float | None = None) -> None:
        super().__init__(f"{self.prefix}future", queue, deadline)

    # What is particular to a page

    def prepare(self) -> None:
        """First values for the page's own controls, and what no longer fits taken off; before they are drawn."""

    @abstractmethod
    def of_link(self, query: Mapping[str, str]) -> Request:
        """The request that a link names; raises an ExplorerError with one sentence."""

    @abstractmethod
    def current(self) -> Request:
        """The request that the controls make, checked; raises an ExplorerError with one sentence."""

    @abstractmethod
    def show(self, request: Request) -> None:
        """Make the controls show this request; before they are drawn."""

    @abstractmethod
    def work(self, request: Request) -> Work[Item]:
        """What answers the request; raises an ExplorerError if it asks for too much."""

    @abstractmethod
    def link(self, request: Request) -> dict[str, str]:
        """The request as a link; empty where no link can carry it."""

    @abstractmethod
    def draw(self, item: Item, request: Request, finished: bool) -> None:
        """Show an answer, whole or so far."""

    def filled(self, query: Mapping[str, str]) -> Mapping[str, str]:
        """A link that names what this one leaves out, too: the page's defaults."""
        return query

    def is_link(self, query: Mapping[str, str]) -> bool:
        """Whether the address asks for something."""
        return bool(query)

    def follow(self) -> None:
        """Where a choice is an act: do what the controls say by now. Called when all of them have been drawn."""

    def decides(self, request: Request) -> Hashable | None:
        """All that decides about the answer, for sessions to share a run; None: each has a run of its own."""
        return same_run(request)

    def same(self, shown: Request, request: Request) -> bool:
        """Whether both ask for the same, as far as the page can show it."""
        return shown == request

    def forget_old(self, request: Request) -> None:
        """Drop what was made of the run before, which gives way to this request."""

    def worth_drawing(self, item: Item) -> bool:
        """Whether a first drawing need not wait for more."""
        return True

    def every(self, request: Request) -> float:
        """Seconds between two looks at this request's run."""
        return self.poll

    # Its life

    def open(self) -> None:
        """First line of a page: a first visit begins what the link asks for, else what the controls say (those of
        another page, or the defaults); a step in the browser's history goes to its link. Other visits find what was there.
        """
        first = controls.show_default()
        request = self.linked() if first or gone_back() else None
        if request is not None and not self.is_shown(request):
            self.show(request)
            self.prepare()
            self.start(request)
        else:
            self.prepare()
            if self.unasked and self.key not in st.session_state:
                self.begin()

    def linked(self) -> Request | None:
        """What the address asks for, what it leaves out being the page's default; None if it asks for nothing.

        What cannot be becomes the notice, and None; so does a name that this page does not know, and the rest is followed.
        """
        query: Mapping[str, str] = asked()
        if not self.is_link(query):
            return None
        unknown = ", ".join(sorted(query.keys() - self.names)) if self.names else ""
        if unknown:
            notice(f"The link names what this page does not know and leaves out: {unknown}.")
            query = {name: value for name, value in query.items() if name in self.names}
        try:
            return self.of_link(self.filled(query)) if self.is_link(query) else None
        except ExplorerError as error:
            also = f" Nor does this page know {unknown}." if unknown else ""
            notice(f"The link could not be followed: {error}{also}")
            return None

    def begin(self) -> None:
        """A run of what the controls say; what cannot be becomes the notice."""
        st.session_state.setdefault(self.key, None)
        with noticed():
            self.start(self.current())

    def start(self, request: Request) -> None:
        """A run of this request, in place of the one before; what cannot be started becomes the notice."""
        self.forget()
        self.forget_old(request)
        self.shown, self.run = request, self.run + 1
        self.held = gate.is_on(request)
        if not self.held:
            self._submit()

    def _submit(self) -> None:
        """The run of what is on show begins."""
        request, self.held = self.shown, False
        if request is not None:
            with noticed():
                self.submit(self.work(request), self.decides(request))

    def play(self, request: Request) -> None:
        """Show this request in the controls, and begin it."""
        self.show(request)
        self.start(request)

    def is_shown(self, request: Request) -> bool:
        """Whether what is on show is this request's."""
        return self.shown is not None and self.same(self.shown, request)

    def is_current(self) -> bool:
        """Whether what is on show, if anything is, is what the controls say; raises an ExplorerError where they ask for what
        cannot be."""
        request = self.current()
        return self.shown is None or self.is_shown(request)

    def _is_wanted(self) -> bool:
        """Whether the controls still say what was begun last."""
        try:
            return self.is_shown(self.current())
        except ExplorerError:
            return False

    # On the page

    def button(self, place: DeltaGenerator, about: str | None = None) -> None:
        """Begins a run of what the controls say, or ends the one under way if they still say it. `about`: what hovering tells."""
        self.offers_cancel = self.running and self._is_wanted()
        if self.offers_cancel:
            place.button(
                "Cancel", icon=":material/stop_circle:", on_click=self.cancel, width="stretch", key=f"{self.button_keys}cancel",
            )  # fmt: skip
        else:
            place.button(
                self.verb, type="primary", icon=self.icon, on_click=self.begin, width="stretch", key=f"{self.button_keys}begin",
                help=about,
            )  # fmt: skip

    def notices(self) -> None:
        """Above what is shown: what one looks at; instead of it that the controls ask for something else by now, or for what
        cannot be, and the notice."""
        self.follow()
        wrong = ""
        try:
            changed = not self.is_current()
        except ExplorerError as error:
            changed, wrong = True, str(error)
            st.error(wrong, icon=":material/error:")
        if changed and not self.running:
            st.html(f"<style>.st-key-{self.stage_key} {{ opacity: 0.4; }}</style>")  # what it shows is old
        if changed and not wrong:
            now = "A run of other settings is under way" if self.running else "Below stands the old result"
            st.info(
                f"The settings have changed. {now}: press **{self.verb}** to {self.act} them.",
                icon=":material/arrow_upward:",
            )
        if not say_notice(already=wrong) and not changed:
            self.say()

    def say(self) -> None:
        """What one looks at, where nothing else has to be said."""
        st.markdown(self.about)

    @property
    def stage_key(self) -> str:
        """Of the container of what is on show; its room is reserved (`frame`)."""
        return f"{self.prefix}stage".replace(".", "-")

    def watch(self) -> None:
        """What is on show; looks at a running one again and again, and stands still when it has ended."""
        if self.held and self.shown is not None:
            set_link(self.link(self.shown))
            gate.ask(self.shown, (self.prefix, self.run), self._submit)
        elif self.future is not None and self.shown is not None:
            set_link(self.link(self.shown))
            gate.tell((self.prefix, self.run), self.future.latest, self.future.state == "done")
            if self.future.state == "done":
                room.keep_page(self.link(self.shown), self.future.latest)
            with st.container(key=self.stage_key):
                self.look(
                    self._stage, self.future, self.shown, every=self.every(self.shown), name=f"{self.prefix}stage"
                )

    def look(self, draw: Callable[..., None], *arguments: Any, every: float, name: str) -> None:
        """As of `Task`. A run that has ended since the button was drawn, which then says Cancel for good, draws the page anew."""
        if self.offers_cancel and not self.running:
            self.offers_cancel = False
            draw_anew()
        super().look(draw, *arguments, every=every, name=name)

    def _stage(self, future: Future[Item], request: Request, polling: bool) -> None:
        leave_if_wanted()
        future.wait_for(self.worth_drawing, min(self.patience * max(engine().sessions, 1), CROWDED))
        finished, item = future.finished, future.latest  # in this order: what has ended is whole
        if item is not None:
            self.draw(item, request, finished)
        say_how_it_stands(future, polling)


def gone_back() -> bool:
    """Whether the page is drawn because somebody went to its link: back or forward in the browser's history, or from a page."""
    context = get_script_run_ctx()
    stepped = context is not None and context.is_history_navigation
    return (stepped or came_by_link()) and bool(asked())


def set_link(wanted: dict[str, str]) -> None:
    """Make the address bar name what is on show; what it hides stays hidden, and one stays in one's room."""
    if in_lesson():
        return  # a lesson shows parts of other pages under its own address
    wanted = wanted | {name: st.query_params[name] for name in STAYS if name in st.query_params}
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)


def say_how_it_stands(future: Future[Any], polling: bool) -> None:
    """Below what a run has shown so far: that it waits, was stopped or went wrong; draws the page anew when it has ended.

    `polling`: the fragment this is part of still looks again and again, because the run was under way when it began.
    """
    if future.latest is None and not future.finished:
        st.info(
            f"Waiting for your {future.position} earlier run(s)." if future.position else "Loading the model.",
            icon=":material/hourglass:",
        )
    if future.finished and polling:
        draw_anew()  # this stage without polling, and everything that waits for the result
    if future.state == "failed":
        st.error(str(future.error), icon=":material/error:")
    if future.state == "cancelled":
        st.info("Stopped. What was computed until then is shown.", icon=":material/stop_circle:")

"""This browser session, and the one engine all sessions share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import streamlit as st
from streamlit.runtime import exists, get_instance
from streamlit.runtime.scriptrunner import get_script_run_ctx

from explorer.classroom.limits import RateLimit
from explorer.core import threads
from explorer.core.memory import keep_freed_memory
from explorer.engine import Engine
from explorer.jobs import Guard, Store

LONGEST = 2.0  # seconds between two looks that cost next to nothing, however many wait
LONGEST_TURN = 10.0  # seconds that one look waits for those of others
SHARE = 0.3  # of a processor core that all looks together may take


@st.cache_resource(show_spinner=False)
def engine() -> Engine:
    """The engine of this process: the device, the loaded models, the queue.

    It takes the device that EXPLORER_DEVICE names (such as cuda:1), and all cores, or as many threads as EXPLORER_THREADS
    says: fewer are faster where others use the machine too.
    """
    number = threads.asked()
    keep_freed_memory()
    device = os.environ.get("EXPLORER_DEVICE", "").strip() or "auto"
    return Engine(device, threads=number)


@st.cache_resource(show_spinner=False)
def store() -> Store:
    """The training runs, guarded as an app on this address must be."""
    return Store(guard=Guard(st.config.get_option("server.address")))


@st.cache_resource(show_spinner=False)
def _limits() -> dict[str, RateLimit]:
    return {"page": RateLimit(30, 3_000, 5.0), "look": RateLimit(80, 8_000, 5.0)}


def slow_down(what: str) -> None:
    """Who draws pages ("page") or parts of them ("look") faster than anybody needs waits a moment: a flood of one browser's messages
    leaves the processor to the others."""
    if exists() and (wait := _limits()[what].take(session_id())) > 0:
        time.sleep(min(wait, LONGEST))


def look_again(draw: Callable[..., None], *arguments: Any, every: float | None, key: str, patient: bool = True) -> None:
    """`draw(*arguments)` as a part of the page (a fragment) that draws itself anew `every` so many seconds; None: it stands.

    `patient`: less often while others wait for the device (`between_looks`); else always that often, for looks at what is in
    memory.

    A look that was due meets the page's own drawing now and then, and Streamlit then loses a part of it. Hence two things:

    - The part stands in a container of its own. A look that begins before the page's drawing has been sent drops the part from
      it; the browser removes the part for a moment, and what follows would move up into its place and be overwritten by it.
    - A part that stands has another name than one that looks again. A late look at what has ended is then refused; allowed, it
      could take the place of the page's drawing between its end and its sending, and what was not sent yet would be lost.
    """

    def look(*arguments: Any) -> None:
        slow_down("look")
        if patient:
            _wait_for_turn(key)
        began = time.thread_time()
        draw(*arguments)
        _costs()[key] = time.thread_time() - began
        st.session_state[f"{key} looked at"] = time.monotonic()

    name = key if every is not None else f"{key} at rest"
    if every is not None and patient:
        every = between_looks(every, _costs().get(key, 0.0))
    with st.container():
        st.fragment(look, run_every=every, key=name)(*arguments)


@st.cache_resource(show_spinner=False)
def _costs() -> dict[str, float]:
    """Processor time of the last look of each kind, in seconds: what this computer takes to draw it."""
    return {}


def _wait_for_turn(key: str) -> None:
    """A look by itself, not as a part of the page's drawing, waits until its session's turn has come among those that look at the same.

    A browser that has been sent no new page yet goes on as fast as it was told on the old one: a class of those could take the
    processor from what was to be sent. Where the whole page is wanted meanwhile, Streamlit ends the look at its next word with the state.
    """
    context = get_script_run_ctx()
    crowd = audience(f"{key} looked at", within=2 * LONGEST_TURN)
    if context is None or not context.fragment_ids_this_run or crowd < 2:
        return
    turn = min(_costs().get(key, 0.0) * crowd / SHARE, LONGEST_TURN)
    while time.monotonic() < st.session_state.get(f"{key} looked at", 0.0) + turn:
        time.sleep(0.1)


def between_looks(seconds: float, cost: float = 0.0) -> float:
    """Seconds between two looks of a page at its work: `seconds`, and more for each other session that waits for its own.

    A class that looks as often as one person would leave the device's worker no processor to finish anything. `cost`: what
    a look takes; dear ones are further apart, so that those of all sessions together leave most of the processor free.
    """
    waiting = max(engine().sessions, 1)
    return max(min(seconds * waiting, max(seconds, LONGEST)), cost * waiting / SHARE if waiting > 1 else 0.0)


@st.cache_resource(show_spinner=False)
def _audiences() -> dict[str, dict[str, float]]:
    return {}


def audience(of: str, within: float) -> int:
    """How many sessions have said in the last `within` seconds, as this one does now, that they watch this."""
    now, seen = time.monotonic(), _audiences().setdefault(of, {})
    seen[session_id()] = now
    for session, at in list(seen.items()):
        if now - at > within:
            seen.pop(session, None)
    return len(seen)


def session_id() -> str:
    """Names this browser tab's session in the engine's queue."""
    context = get_script_run_ctx()
    return context.session_id if context is not None else "no session"


def still_open() -> Callable[[], bool]:
    """A function, callable from any thread, that says whether this browser tab is still connected."""
    me = session_id()
    if not exists():
        return lambda: True
    runtime = get_instance()
    return lambda: runtime.is_active_session(me)

"""Where an attack is watched: the running ticket, the trace player, and what came out in plain words."""

from __future__ import annotations

import json

import streamlit as st

from explorer.attacks import ATTACKS
from explorer.engine import AttackRequest, Ticket, attack_work, captions
from explorer.models import zoo
from explorer.ui import controls
from explorer.ui.session import engine, session_id, still_open
from explorer.ui.trace_player import trace_player

POLL = 0.15  # seconds between two looks at a running attack


def start(request: AttackRequest) -> None:
    """Begin an attack for this session; an earlier one still running is stopped."""
    state = st.session_state
    previous: Ticket | None = state.get("ticket")
    if previous is not None:
        previous.cancel()
    x0, label = controls.pixels_of(request)
    work = attack_work(engine(), request, x0, label)
    state["ticket"] = engine().submit(session_id(), work, alive=still_open())
    state["shown"] = request
    if not isinstance(request.image, str):
        st.query_params.from_dict(request.to_query())


def watch() -> None:
    """The stage; looks at a running attack again and again, and stands still when it has ended."""
    ticket: Ticket | None = st.session_state.get("ticket")
    if ticket is None:
        return
    running = ticket.state in ("queued", "running")
    st.fragment(_stage, run_every=POLL if running else None, key="stage")(ticket, running)


def _stage(ticket: Ticket, was_running: bool) -> None:
    if ticket.latest is None:
        ticket.wait_for_first(0.2)
    snapshot = ticket.latest
    running = ticket.state in ("queued", "running")
    if snapshot is None:
        _waiting(ticket)
    else:
        request: AttackRequest = st.session_state["shown"]
        card = zoo.card(request.model)
        lines = captions(snapshot.trace, snapshot.result, card.stochastic)
        trace_player(snapshot.trace, snapshot.walkway, lines, key="player", live=running)
    if running:
        if st.button("Cancel", icon=":material/stop_circle:", key="cancel"):
            ticket.cancel()
    elif was_running:
        st.rerun()  # draws this stage once more without polling, and everything that waits for the result
    if ticket.state == "failed":
        st.error(ticket.error, icon=":material/error:")
    if ticket.state == "cancelled":
        st.info("Stopped. What was computed until then is shown.", icon=":material/stop_circle:")


def _waiting(ticket: Ticket) -> None:
    if ticket.state == "queued" and ticket.position:
        st.info(f"Waiting for the device: {ticket.position} ahead of you.", icon=":material/hourglass:")
    elif ticket.state in ("queued", "running"):
        st.info("Loading the model.", icon=":material/hourglass:")


def outcome() -> None:
    """What the finished attack showed, under which conditions, and how the method works."""
    ticket: Ticket | None = st.session_state.get("ticket")
    request: AttackRequest | None = st.session_state.get("shown")
    if request is None:
        return
    left, right = st.columns(2, gap="large")
    with left:
        _result(ticket, request)
    with right:
        _method(request)


def _result(ticket: Ticket, request: AttackRequest) -> None:
    st.subheader("What happened", anchor=False)
    snapshot = ticket.latest
    if ticket.state != "done" or snapshot is None or snapshot.result is None:
        st.write("The verdict comes when the attack has ended.")
        return
    for line in snapshot.result.sentences():
        st.markdown(f"- {line}")
    with st.expander("All conditions, and the same attack as Python"):
        st.code(request.to_python(), language="python")
        st.code(json.dumps(snapshot.result.conditions, indent=1, ensure_ascii=False, default=str), language="json")


def _method(request: AttackRequest) -> None:
    entry = ATTACKS.entry(request.attack)
    st.subheader(f"How {entry.title} works", anchor=False)
    st.markdown(entry.summary)
    st.latex(entry.cls.formula)
    st.caption(f"Source: {entry.paper}")

"""Where an attack is watched: the running future, the trace player, and what came out in plain words."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from explorer.attacks import ATTACKS
from explorer.core import ExplorerError, FeaturePath
from explorer.engine import AttackRequest, Future, Snapshot, attack_work, captions
from explorer.engine.tracing import on_map
from explorer.features import NoMap
from explorer.models import zoo
from explorer.ui import controls, masking, tools, verdicts
from explorer.ui.session import engine, look_again, session_id, still_open
from explorer.ui.trace_player import trace_player

POLL = 0.15  # seconds between two looks at a running attack
PATIENCE = 0.3  # seconds a drawing may wait for the first frame


def start(request: AttackRequest) -> None:
    """Begin an attack for this session; an earlier one still running is stopped."""
    state = st.session_state
    previous: Future | None = state.get("future")
    if previous is not None:
        previous.cancel()
    state["shown"] = request
    tools.forget(request)
    try:
        state["future"] = engine().submit(session_id(), attack_work(engine(), request), alive=still_open())
    except ExplorerError as error:
        state["future"], state["notice"] = None, str(error)


def begin() -> None:
    """Attack with what the controls say; a request that cannot be made becomes a notice."""
    try:
        start(controls.current_request())
    except ExplorerError as error:
        st.session_state["notice"] = str(error)


def gone_back() -> bool:
    """Whether the page is drawn because somebody went back or forward in the browser's history, to another link."""
    context = get_script_run_ctx()
    return context is not None and context.is_history_navigation and bool(st.query_params.to_dict())


def running() -> bool:
    """Whether this session's attack is under way."""
    future: Future[Snapshot] | None = st.session_state.get("future")
    return future is not None and not future.finished


def cancel() -> None:
    """Stop this session's attack."""
    st.session_state["future"].cancel()


def is_shown(request: AttackRequest) -> bool:
    """Whether the walk on the stage is this request's (eps compared as the page shows it)."""
    shown: AttackRequest | None = st.session_state.get("shown")
    return shown is not None and same_walk(shown, request)


def same_walk(shown: AttackRequest, request: AttackRequest) -> bool:
    """Whether both ask for the same walk (eps compared as a page shows it)."""
    if (shown.norm, shown.is_minimal) != (request.norm, request.is_minimal):
        return False  # an eps of one norm may be none of the other
    return dataclasses.replace(request, eps=shown.eps) == shown and abs(request.eps - shown.eps) < 1e-9


def watch() -> None:
    """The stage; looks at a running attack again and again, and stands still when it has ended."""
    future: Future[Snapshot] | None = st.session_state.get("future")
    if future is None:
        return
    shown: AttackRequest = st.session_state["shown"]
    set_link({} if shown.is_upload else shown.to_query())  # an upload has no link
    polling = not future.finished
    look_again(_stage, future, polling, every=POLL if polling else None, key="stage")


def set_link(wanted: dict[str, str]) -> None:
    """Make the address bar name what is on show."""
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)


def _stage(future: Future[Snapshot], polling: bool) -> None:
    await_first(future)
    finished, snapshot = future.finished, future.latest
    if snapshot is not None:
        request: AttackRequest = st.session_state["shown"]
        lines = captions(snapshot.trace, snapshot.result, zoo.card(request.model).stochastic)
        other, note = _other_map(request.model, snapshot) if finished else (None, "")
        trace_player(
            snapshot.trace, snapshot.feature_path, lines, key="player", live=not finished, title=request.title(), other=other,
            other_note=note,
        )  # fmt: skip
    say_how_it_stands(future, polling)


def _other_map(model: str, snapshot: Snapshot) -> tuple[FeaturePath | None, str]:
    """A finished walk on the model's UMAP, where there is one, and what that map is worth."""
    maps = engine().plane(model).maps
    if maps is None or snapshot.feature_path is None:
        return None, ""
    try:
        ground = maps.umap()
    except NoMap:
        return None, ""
    note = (
        "UMAP keeps who is near whom and preserves no distances; this image is placed between its nearest reference "
        f"images. Neighbourhoods kept: {ground.trustworthiness:.2f} (trustworthiness: 1 all, 0.5 a random map)."
    )
    trace, kept = snapshot.trace, st.session_state.get("stage.umap")
    if (
        kept is None or kept[0] is not trace or kept[1] is not ground
    ):  # k-NN of every frame: once a walk, not once a rerun
        kept = st.session_state["stage.umap"] = (trace, ground, on_map(ground, trace))
    return kept[2], note


def say_how_it_stands(future: Future, polling: bool) -> None:
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
        st.error(future.error, icon=":material/error:")
    if future.state == "cancelled":
        st.info("Stopped. What was computed until then is shown.", icon=":material/stop_circle:")


def say_settings(are_shown: Callable[[], bool], act: str) -> None:
    """Above what is on show: that the controls ask for something else by now, or for what cannot be; and the notice."""
    wrong = ""
    try:
        if not are_shown():
            st.info(f"The settings have changed: press **Attack** to {act} them.", icon=":material/arrow_upward:")
    except ExplorerError as error:
        wrong = str(error)
        st.error(wrong, icon=":material/error:")
    say_notice(already=wrong)


def say_notice(already: str = "") -> None:
    """What could not be done as asked, unless that is said `already`: it stands until somebody does something."""
    state = st.session_state
    state["said"] = state.pop("notice", None)
    if state["said"] and state["said"] != already:
        st.warning(state["said"], icon=":material/info:")


def draw_anew() -> None:
    """The whole page, because something has begun or ended; what it said of the reader's last doing stays."""
    if said := st.session_state.get("said"):
        st.session_state["notice"] = said
    st.rerun()


def await_first(future: Future) -> None:
    """Wait a moment for the first item, so that a page does not flicker."""
    future.wait_for(lambda item: True, PATIENCE)


def outcome() -> None:
    """What the finished attack showed, under which conditions, and how the method works."""
    future: Future[Snapshot] | None = st.session_state.get("future")
    request: AttackRequest | None = st.session_state.get("shown")
    if future is None or request is None:
        return
    left, right = st.columns(2, gap="large")
    with left:
        _result(future, request)
    with right:
        _method(request)
    if future.latest is not None and future.latest.result is not None:
        tools.show(future.latest, request, play)


def play(request: AttackRequest) -> None:
    """Set the controls to this request and begin its walk."""
    controls.show(request)
    start(request)


def _result(future: Future[Snapshot], request: AttackRequest) -> None:
    st.subheader("What happened", anchor=False)
    snapshot = future.latest
    if snapshot is None or snapshot.result is None:
        st.caption(
            "No verdict: the attack did not get to its end."
            if future.finished
            else "The verdict comes when the attack has ended."
        )
        return
    trace, result, stochastic = snapshot.trace, snapshot.result, zoo.card(request.model).stochastic
    reached, sentence = verdicts.headline(trace, result, request)
    (st.error if reached else st.success)(sentence, icon=":material/gpp_bad:" if reached else ":material/gpp_good:")
    if doubt := verdicts.warning(request, stochastic):
        st.warning(doubt, icon=":material/help:")
    if pattern := masking.pattern(*masking.remembered(st.session_state.setdefault("tried", {}), result, request)):
        (st.warning if pattern.flag else st.info)(
            pattern.words, icon=":material/visibility_off:" if pattern.flag else None
        )
    st.markdown("\n".join(f"- {line}" for line in verdicts.details(trace, result, request, stochastic)))
    with st.expander("All conditions, and the same attack as Python"):
        st.code(request.to_python(trace.label), language="python", wrap_lines=True)
        st.code(json.dumps(result.conditions, indent=1, ensure_ascii=False), language="json")
    if request.is_upload:
        st.caption("The address bar cannot carry your own picture: a link to this walk works only for sample pictures.")


def _method(request: AttackRequest) -> None:
    entry = ATTACKS.entry(request.attack)
    st.subheader(f"How {entry.title} works", anchor=False)
    st.markdown(entry.summary)
    st.latex(entry.cls.formula)
    st.markdown(entry.cls.explanation)
    st.markdown(SYMBOLS)
    st.caption(f"Source: {entry.paper}")


SYMBOLS = r"""
$x$ is the picture, $y$ its class, $L$ the model's loss: large when the model is wrong. $\nabla_x L$ says how the loss
grows with each pixel, $\varepsilon$ (eps) how far the attack may go. In L∞ no pixel may change by more than
$\varepsilon$; in L2 the length of the whole change may not exceed it. With a chosen class, the loss of that class is
pushed down instead.
"""

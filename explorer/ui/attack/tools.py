"""Tools under a finished walk: smallest eps, how far the edge is, a slider over eps, a slice, a look inside, saving.

Nothing runs unasked.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from explorer.engine import AttackRequest, Export, Result, Snapshot
from explorer.ui.attack import edge, inside, saving, slices, smallest, sweep
from explorer.ui.inputs.choices import named
from explorer.ui.session import look_again

SMALLEST, EDGE, SWEEP, SLICE, INSIDE, SAVE = "smallest eps", "edge", "sweep", "slice", "inside", "save"
LABELS = {
    SMALLEST: ":material/straighten: Find the smallest eps",
    EDGE: ":material/social_distance: How far is the edge?",
    SWEEP: ":material/tune: Slide eps",
    SLICE: ":material/grid_on: Slice through input space",
    INSIDE: ":material/visibility: Look inside",
    SAVE: ":material/download: Save",
}
TASKS = (smallest.SEARCH, edge.EDGE, sweep.SWEEP, slices.SLICE, inside.SETTLING, inside.WINNERS)
OF = "tools.of"  # in st.session_state: the walk whose tools they are
POLL = 0.5  # seconds between two looks at a running tool


def forget(request: AttackRequest) -> None:
    """Stop and drop what the tools computed for another walk than this."""
    if st.session_state.get(OF) != request:
        for task in TASKS:
            task.forget()
    st.session_state[OF] = request


def wait(model: str) -> None:
    """The chooser's place, while there is no finished walk."""
    st.header("Look further", anchor=False)
    st.segmented_control(
        "Tools",
        _offered(model),
        key="tool to come",
        format_func=named(LABELS),
        label_visibility="collapsed",
        disabled=True,
    )


def show(snapshot: Snapshot, result: Result, request: AttackRequest, play: Callable[[AttackRequest], None]) -> None:
    """The chooser and the chosen tool; `play` shows another walk on the page."""
    forget(request)
    st.header("Look further", anchor=False)
    offered = _offered(request.model)
    if st.session_state.get("tool") not in offered:
        st.session_state.pop("tool", None)  # of another model
    st.segmented_control("Tools", offered, key="tool", format_func=named(LABELS), label_visibility="collapsed")
    working = any(task.running for task in TASKS)
    every = POLL if working else None
    look_again(_panel, snapshot, result, request, play, working, every=every, key="tools panel")


def _offered(model: str) -> list[str]:
    return [tool for tool in LABELS if tool != INSIDE or inside.readable(model)]


def _panel(
    snapshot: Snapshot, result: Result, request: AttackRequest, play: Callable[[AttackRequest], None], polling: bool
) -> None:
    if polling and not any(task.running for task in TASKS):
        st.rerun()  # once more, without polling
    tool = st.session_state.get("tool")
    if tool == SMALLEST:
        smallest.show(request, play)
    elif tool == EDGE:
        edge.show(request, play)
    elif tool == SWEEP:
        sweep.show(request, play)
    elif tool == SLICE:
        slices.show(snapshot, result, request)
    elif tool == INSIDE and inside.readable(request.model):
        inside.show(snapshot, result, request)
    elif tool == SAVE:
        saving.show(Export(request, snapshot.trace, result), snapshot)

"""The training runs: how the chosen recipe trains, all runs in a list, those on show in close-up."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from explorer.core import ExplorerError
from explorer.data import dataset
from explorer.defenses import RECIPES
from explorer.ui.inputs.choices import named
from explorer.ui.inputs.forms import put
from explorer.ui.page_run import set_link
from explorer.ui.run_record import Seen
from explorer.ui.session import store
from explorer.ui.text import training as words
from explorer.ui.training import acts, choice, cost, film, others, pulse, watch

CLOSE, ALL = "training.close", "training.all"
ROWS = 6  # runs listed at first

_CSS = """
<style>
.st-key-training-close-up [data-testid="stMetricValue"] { font-size: 1.25rem; }
.st-key-training-list [data-testid="stVerticalBlock"] { gap: 0.1rem; }
</style>
"""


def open_page() -> None:
    """The first choices, and the runs that the link names."""
    choice.prepare()
    if acts.SHOWN not in st.session_state:
        asked = st.query_params.get("run", "")
        st.session_state[acts.SHOWN] = [id for id in asked.split(",") if id][: acts.AT_MOST]


def show() -> None:
    """All runs, those on show in full; looks again while something is under way."""
    found = [Seen.of(run) for run in store().tend()]
    runs = [seen for seen in found if seen.trains]
    measuring = [seen for seen in found if not seen.trains]
    _settle(runs)
    chosen = [seen for id in st.session_state[acts.SHOWN] for seen in runs if seen.id == id]
    set_link({"run": ",".join(seen.id for seen in chosen)} if chosen else {})
    _recipe(runs)
    st.header("Runs", anchor=False)
    if runs:
        _list(runs)
    else:
        st.info(
            "Nothing has been trained here yet. Choose a recipe above, turn on **Smoke run** for a first look, and press "
            "**Start**: the run goes on in the background, also when this page is closed.",
            icon=":material/model_training:",
        )
    if chosen:
        st.html(_CSS)
        _close_up(chosen)
    others.show(measuring)
    pulse.look(found, chosen)


def _settle(runs: Sequence[Seen]) -> None:
    """Runs on show that are gone are taken off; a first visit sees the newest."""
    state = st.session_state
    there = {seen.id for seen in runs}
    for id in [id for id in state[acts.SHOWN] if id not in there]:
        acts.forget(id)
        st.warning(
            f"The run {id[:12]} is not there any more: it was deleted, or the link is another computer's.",
            icon=":material/info:",
        )
    if not state[acts.SHOWN] and runs and "training.visited" not in state:
        state[acts.SHOWN] = [runs[0].id]
    state["training.visited"] = True


def _recipe(runs: Sequence[Seen]) -> None:
    """The idea, the formula, where it is from, and what it costs here."""
    entry = RECIPES.entry(st.session_state[choice.RECIPE])
    with st.expander(f"How {entry.title} trains, and what it costs here", expanded=not runs, icon=":material/school:"):
        with st.container(key="training-how"):
            left, right = st.columns([3, 2], gap="large")
        with left:
            if entry.cls.formula:
                st.latex(entry.cls.formula)
            st.markdown(entry.cls.explanation or entry.summary)
            st.caption(
                f"{dataset(choice.chosen_dataset()).title}." + (f" Source: {entry.paper}" if entry.paper else "")
            )
        with right:
            try:
                cost.show(choice.current_spec(), sum(seen.state.status == "running" for seen in runs))
            except ExplorerError as error:  # settings that no run can have
                st.error(str(error), icon=":material/error:")


def _list(runs: Sequence[Seen]) -> None:
    """One row a run, the newest first; a tick puts it on show."""
    state = st.session_state
    shown = runs if state.get(ALL) else runs[:ROWS]
    with st.container(border=True, key="training-list"):
        for seen in shown:
            _row(seen)
        if len(runs) > ROWS:
            st.toggle(f"Show all {len(runs)} runs", key=ALL)


def _row(seen: Seen) -> None:
    name, status, progress, scores, when = st.columns([4, 1.7, 2.2, 3, 1.6], vertical_alignment="center")
    key, shown = f"training.show.{seen.id}", seen.id in st.session_state[acts.SHOWN]
    if key in st.session_state:
        put(key, shown)
    # `value`, too: what a run puts is lost where the page is drawn again before the browser has shown it, and the browser
    # would then answer with its own default and take the run off.
    name.checkbox(seen.title, shown, key=key, on_change=acts.toggle, args=(seen.id,))
    status.markdown(words.badge(seen.state.status))
    if seen.spec is None:
        scores.caption(seen.state.message)
        return
    now = watch.record_of(seen).standing()
    for column, text in ((progress, words.progress(now)), (scores, words.scores(now.best) if now else "")):
        column.markdown(f":small[{text or '–'}]")
    when.markdown(f":small[{words.when(seen.spec.created)}]")


def _close_up(chosen: Sequence[Seen]) -> None:
    state = st.session_state
    seen = chosen[0]
    if len(chosen) > 1:
        titles = {one.id: one.title for one in chosen}
        if state.get(CLOSE) not in titles:
            state[CLOSE] = chosen[-1].id
        st.segmented_control("In close-up", list(titles), key=CLOSE, format_func=named(titles), required=True)
        seen = next(one for one in chosen if one.id == state[CLOSE])
    with st.container(key="training-close-up"):
        _head(seen)
        watch.numbers(seen, watch.record_of(seen).standing())
    watch.curves(chosen)
    if len(chosen) > 1:
        watch.comparison(chosen)
    if pulse.begins(seen):  # the run needs the processor for its first update, and what is below makes the browser work
        return
    film.show(seen)
    if seen.run.sights():
        st.header("What its loss sees" if len(chosen) == 1 else f"What the loss of {seen.title} sees", anchor=False)
        watch.images(seen)
    watch.log(seen)
    watch.facts(seen)


def _head(seen: Seen) -> None:
    """Name, status, what happened, and what can be done about it."""
    status = seen.state.status
    left, *buttons = st.columns([4, 2, 1.4, 1.4], vertical_alignment="center")
    left.markdown(f"### {seen.title} {words.badge(status)}")
    first, second, third = buttons
    if seen.live:
        stopping = seen.run.stopping
        first.button("Stopping" if stopping else "Cancel", icon=":material/stop_circle:", key="training.cancel", width="stretch",
                     disabled=stopping, on_click=acts.act, args=("cancel", seen.id))  # fmt: skip
    elif status == "finished" and seen.state.model:
        first.button("Attack this model", type="primary", icon=":material/bolt:", key="training.attack", width="stretch",
                     on_click=acts.attack, args=(seen.state.model,))  # fmt: skip
    elif seen.spec is not None and status not in ("finished", "unreadable"):
        first.button("Resume", icon=":material/resume:", key="training.resume", width="stretch",
                     on_click=acts.act, args=("resume", seen.id), help="Goes on from the last checkpoint.")  # fmt: skip
    if seen.recipe is not None:
        second.button("Clone", icon=":material/content_copy:", key="training.clone", width="stretch",
                      on_click=acts.clone, args=(seen,), help="Puts its settings into the form above.")  # fmt: skip
    if not seen.live:
        with third.popover("Delete", icon=":material/delete:", width="stretch"):
            model = f" and its model {seen.state.model}" if seen.state.model else ""
            st.markdown(f"Delete **{seen.title}**, its checkpoints, curves and log{model}? This cannot be undone.")
            st.button(
                "Delete for good", type="primary", key="training.delete", on_click=acts.act, args=("delete", seen.id)
            )
    _message(seen)


def _message(seen: Seen) -> None:
    status, said = seen.state.status, seen.state.message
    if status == "queued" and not said:
        said = (
            f"Waiting for its turn on {seen.state.device}: one run at a time has a device."
            if seen.state.device
            else "Waiting."
        )
    if status == "finished" and seen.state.model:
        said = said or f"Its model is {seen.state.model}: it stands in every model chooser now."
    if not said:
        return
    tell = {"failed": st.error, "unreadable": st.error, "paused": st.warning, "interrupted": st.warning}.get(
        status, st.caption
    )
    tell(said)

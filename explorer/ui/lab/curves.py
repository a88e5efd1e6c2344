"""Accuracy over eps on the Lab page: of several models under several attacks, measured by background runs and drawn as cells finish."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from explorer.core import ExplorerError
from explorer.engine.accuracy_over_eps import AccuracyOverEps
from explorer.ui import frame, permission
from explorer.ui.lab import cells, choice, result, views
from explorer.ui.lab.cells import Found
from explorer.ui.notices import NOTICE, draw_anew, say_notice, told
from explorer.ui.page_run import set_link
from explorer.ui.run_record import Seen
from explorer.ui.session import look_again, store
from explorer.ui.text import training as words

open_page, panel = choice.open_page, choice.panel


def show() -> None:
    """Controls, what they cost, and what the store holds for the question that they ask; nothing is measured unasked."""
    wrong = ""
    models, attacks, button = frame.row([3, 2.3, 2], key="headline-lab")
    choice.boxes(models, attacks)
    try:
        asked = choice.current()
    except ExplorerError as error:
        wrong = str(error)
    found = Found() if wrong else cells.find(asked)
    _button(button, found, idle=bool(wrong) or not asked.missing(found.cells))
    with frame.notes():
        if wrong:
            st.error(wrong, icon=":material/error:")
        if not say_notice(already=wrong) and not wrong:
            st.markdown(_cost(asked, found))
    if not wrong:
        set_link(asked.to_query())
        polling = bool(found.live)
        with st.container(key="lab-stage"):
            look_again(_stage, asked, polling, every=views.POLL if polling else None, key="lab.stage")


def _button(place: DeltaGenerator, found: Found, idle: bool) -> None:
    """Begins the runs, or ends those under way."""
    if found.live:
        place.button(
            "Cancel", icon=":material/stop_circle:", key="lab.cancel", width="stretch", on_click=_act_on,
            args=("cancel", *(seen.id for seen in found.live)), disabled=not permission.has(),
        )  # fmt: skip
    else:
        place.button(
            "Measure in the background", type="secondary" if idle else "primary", icon=":material/schedule:", key="lab.measure",
            width="stretch", on_click=_measure, disabled=idle or not permission.has(),
            help="A run for each model, which goes on when the app is closed. What is measured stays.",
        )  # fmt: skip


def _cost(asked: AccuracyOverEps, found: Found) -> str:
    """What the page is about, and what it costs before it starts."""
    about = f"**Accuracy over eps**: the share of {asked.n:,} pictures that stays right under attack."
    missing, total = asked.missing(found.cells), len({*asked.places})
    if found.live or not missing:
        return f"{about} {'It is being measured, also when this page is closed.' if found.live else 'All of it is measured.'}"
    return (
        f"{about} {total - len(missing)} of {total} numbers are measured; the others take up to "
        f"**{asked.passes(found.cells):,} passes** of a picture through a network, forward or backward, and their verdicts."
    )


def _stage(asked: AccuracyOverEps, polling: bool) -> None:
    frame.leave_if_wanted()
    found = cells.find(asked)
    if bool(found.live) != polling or st.session_state.get(NOTICE):
        draw_anew()  # the button, the cost and the place to save are the page's
    for sentence in found.wrong:
        st.warning(sentence, icon=":material/info:")
    for seen in reversed(found.runs):
        _row(seen)
    if any(place in found.cells for place in asked.places):
        result.show(asked, found.cells, standing=not polling)
    elif not polling:
        st.info("Nothing of this is measured yet: press **Measure in the background**.", icon=":material/arrow_upward:")


def _row(seen: Seen) -> None:
    """One run: its model, how far it is, and what can be done about it."""
    name, said, act = st.columns([3.6, 5, 1.5], vertical_alignment="center")
    name.markdown(f"{seen.title} {words.badge(seen.state.status)}")
    left = seen.state.progress.get("left")
    time = f" About {words.duration(left)} left." if isinstance(left, (int, float)) else ""
    said.markdown(f":small[{seen.state.message or 'Waiting for its turn.'}{time}]")
    verb = "cancel" if seen.live else "resume"
    act.button(
        verb.capitalize(), key=f"lab.{verb}.{seen.id}", width="stretch", on_click=_act_on, args=(verb, seen.id),
        disabled=not permission.has() or (seen.live and seen.run.stopping),
    )  # fmt: skip


def _measure() -> None:
    with told():
        cells.measure(choice.current())


def _act_on(verb: str, *ids: str) -> None:
    """Cancel or resume these runs; another session may have been quicker."""
    with told():
        for id in ids:
            run = store().run(id)
            {"cancel": run.cancel, "resume": run.resume}[verb](permission.permit())

"""Add a model: the panel on the Models page, from an upload to the probe's words; and what can be done with one from elsewhere."""

from __future__ import annotations

import streamlit as st

from explorer.engine.adding import Added, sentence
from explorer.engine.aside import Aside
from explorer.evaluation.checking import FROM_ELSEWHERE
from explorer.models import zoo
from explorer.models.zoo import Card
from explorer.ui import permission
from explorer.ui.add_model import acts, form
from explorer.ui.asides import running
from explorer.ui.components.conditions import bullets
from explorer.ui.model_table import look_at
from explorer.ui.notices import draw_anew
from explorer.ui.session import look_again
from explorer.ui.text import adding as words

POLL = 0.5  # seconds between two looks at an addition
SHOWN = "add.shown"  # in st.session_state: the addition whose model is on show already


def open_page() -> None:
    """The card of what was just added is opened, once; before the page is drawn."""
    job = acts.own()
    added = [one.name for one in job.found if one.card is not None] if job is not None else []
    if job is not None and job.state != "running" and added and st.session_state.get(SHOWN) is not job:
        st.session_state[SHOWN] = job
        look_at(added[0])


def panel() -> None:
    """Who may adds a model here: weights, weights and code, or a zip of submissions."""
    job = acts.own()
    with st.expander(
        "Add a model of your own", job is not None, icon=":material/add_circle:", key="add.open", on_change="rerun"
    ) as place:
        if not place.open:
            return
        if not permission.may_run_code("add"):
            return
        form.show()
        if job is not None:
            working = job.state == "running"
            look_again(_progress, job, working, every=POLL if working else None, key="add.progress")


def _progress(job: Aside[Added], polling: bool) -> None:
    if polling and job.state != "running":
        draw_anew()
    if job.state == "running":
        running(job, "add", sentence(job.about), " It stops before the next." if job.cancelling else "")
        if job.share is not None:
            st.progress(job.share)
    for one in job.found:
        if one.card is None:
            st.error(words.refused(one), icon=":material/block:")
        else:
            st.success(words.added(one.card), icon=":material/check:")
            bullets(words.about(one.card))
    if job.state == "failed":
        st.error(job.error or "", icon=":material/block:")
    if job.state == "cancelled":
        st.info("Stopped. What was added until then stands.", icon=":material/stop_circle:")


def elsewhere(card: Card) -> None:
    """Of a model that was added: what the probe said, and to check it again, accept its changed files, or remove it."""
    if card.recipe not in FROM_ELSEWHERE or not zoo.is_published(card.name):
        return
    st.subheader("From elsewhere", anchor=False)
    bullets(words.about(card))
    if not permission.asked("elsewhere"):
        return
    with st.container(horizontal=True):
        st.button("Check again", icon=":material/fact_check:", key="add.check", on_click=acts.check, args=(card.name,),
                  help="Loads it and looks at it from all sides, as when it was added.")  # fmt: skip
        if card.recipe == "submission":
            with st.popover("Its files have changed", icon=":material/difference:"):
                st.markdown(words.ACCEPT)
                st.button("I have looked: accept them", key="add.accept", on_click=acts.accept, args=(card.name,))
        with st.popover("Remove", icon=":material/delete:"):
            st.markdown(f"Remove **{card.title}** ({card.name}), its weights and measures? This cannot be undone.")
            st.button("Remove for good", type="primary", key="add.remove", on_click=acts.remove, args=(card.name,))
    _checked(card.name)


def _checked(name: str) -> None:
    job = acts.checked(name)
    if job is not None:
        working = job.state == "running"
        look_again(_said, job, working, every=POLL if working else None, key="add.checked")


def _said(job: Aside[Added], polling: bool) -> None:
    if polling and job.state != "running":
        draw_anew()
    if job.state == "running":
        st.markdown(f"{job.doing} …")
    for one in job.found:
        st.info(one.said or "Its files were accepted as they stand now.", icon=":material/fact_check:")
    if job.state == "failed":
        st.error(job.error or "", icon=":material/block:")

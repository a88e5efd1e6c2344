"""The truth between proof and attack, for the picture that is picked in the table: one axis that closes in."""

from __future__ import annotations

import streamlit as st

from explorer.certify.certifiers import CERTIFIERS
from explorer.data import dataset
from explorer.engine.between import Between, between_work
from explorer.engine.certifying import DEADLINE
from explorer.engine.proving import ProvingRequest
from explorer.engine.tables import Row
from explorer.plots.proofs import axis
from explorer.ui.certify.choice import QUEUE
from explorer.ui.components.figures import chart, dark
from explorer.ui.notices import noticed
from explorer.ui.page_run import Task, say_how_it_stands
from explorer.ui.text import proofs as words

POLL = 0.7  # seconds between two looks
EXACT: Task[Between] = Task("certify.exact", QUEUE, DEADLINE)


def possible(found: Row) -> bool:
    """Whether there is a bound by a network that the exact question can read, and an attack beyond it."""
    proven = found.get("radius_crown")
    return proven is not None and found.get("attack_linf") is not None and proven < found["attack_linf"]


def begin(request: ProvingRequest, found: Row) -> None:
    """Ask about this row of the table."""
    radii = {key: found[f"radius_{key}"] for key in ("interval", "crown") if found.get(f"radius_{key}") is not None}
    label = dataset(request.dataset).classes.index(found["answer"])
    with noticed():
        EXACT.submit(between_work(request.model, request.dataset, found["image"], label, radii, found["attack_linf"]))


def show(found: Row) -> None:
    """The axis of the picture that was asked about, while it is the one that is picked."""
    if EXACT.future is not None:
        EXACT.look(_draw, found["image"], every=POLL, name="certify.exact.stage")


def _draw(picture: int, polling: bool) -> None:
    future, now = EXACT.future, EXACT.latest
    if future is None or (now is not None and now.picture != picture):
        return
    if now is not None:
        radii = {CERTIFIERS.entry(key).title: radius for key, radius in now.radii.items()}
        chart(axis(radii, now.proven, now.attacked, now.attack, dark=dark()), "certify.exact.axis")
        st.markdown(words.between(now))
    if polling and st.button("Stop asking", icon=":material/stop_circle:", key="certify.exact.cancel"):
        EXACT.stop()
    say_how_it_stands(future, polling)

"""Course block of the Models page: "as the platform did" beside "as the field does", of the chosen model, with intervals."""

from __future__ import annotations

from functools import partial

import streamlit as st

from explorer.engine.aside import Aside, Asides
from explorer.evaluation.course import CourseReport, N, Share, course_report
from explorer.evaluation.tables import in_percent
from explorer.models.zoo import Card
from explorer.ui import permission
from explorer.ui.asides import running
from explorer.ui.components.conditions import bullets
from explorer.ui.notices import draw_anew, told
from explorer.ui.session import look_again

POLL = 1.0  # seconds between two looks
SAMPLES = "course.samples"
ABOUT = (
    "A course's platform tested submissions on *training* images, as its published template does; the field tests on images that no "
    f"network has seen. Both, on {N:,} images each: natural, PGD at L∞ 0.03, and PGD at L2 0.5."
)
Key = tuple[str, int]  # a card's identity, and the passes of each image


@st.cache_resource(show_spinner=False)
def measurer() -> Asides[CourseReport]:
    """Who measures, one model at a time for all sessions."""
    return Asides("A model is being measured so")


@st.cache_resource(show_spinner=False)
def reports() -> dict[Key, CourseReport]:
    """What was measured since the app began, for all sessions."""
    return {}


def show(card: Card) -> None:
    """The numbers if they are there, the button that makes them, and how far it is."""
    with st.expander(
        "As the course's platform did, as the field does",
        icon=":material/school:",
        key="course.open",
        on_change="rerun",
    ) as place:
        if not place.open:
            return
        st.markdown(ABOUT)
        samples = 1
        if card.stochastic:
            st.session_state.setdefault(SAMPLES, 1)
            samples = st.number_input("Passes of each image", 1, 100, key=SAMPLES, persist_state="session", help=(
                "Through a random network, each of them counted, as the platform's -s said."))  # fmt: skip
        key = card.identity, samples
        working = _working()
        look_again(_stage, card, key, working, every=POLL if working else None, key="models.course")


def _working() -> bool:
    job = measurer().latest
    return job is not None and job.state == "running"


def _stage(card: Card, key: Key, polling: bool) -> None:
    job = measurer().latest
    if polling != _working():
        draw_anew()  # to begin looking again and again, or to end it
    found = reports().get(key)
    if found is not None:
        st.markdown(table(found))
        bullets(found.notes)
    if job is not None and job.state == "running":
        running(job, "course", may_cancel=permission.has())
        return
    if job is not None and job.state == "failed":
        st.error(job.error or "", icon=":material/block:")
    if found is None and permission.asked("course"):
        st.button("Measure both", icon=":material/play_arrow:", key="course.measure", on_click=_measure, args=(card, key),
                  help="Takes some seconds for a small network, and many minutes for a large one.")  # fmt: skip


def _measure(card: Card, key: Key) -> None:
    with told():
        permission.check("measure", card.name)
        measurer().start(f"Measuring {card.title}", partial(_work, card.name, key))


def _work(name: str, key: Key, aside: Aside[CourseReport]) -> None:
    found = course_report(name, samples=key[1], progress=aside.say)
    reports()[key] = found
    aside.give(found)


def table(report: CourseReport) -> str:
    """Both protocols' numbers in Markdown, each with its 95 % interval."""
    lines = ["| test | as the platform did | its last batch alone | as the field does |", "|---|---|---|---|"]
    for row in report.rows:
        cells = [row.test.replace("Linf", "L∞"), *map(_cell, (row.platform, row.last_batch, row.field))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(share: Share | None) -> str:
    if share is None:
        return "–"
    return f"{in_percent(share.facts)}, n={share.n:,}"

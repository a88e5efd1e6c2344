"""How far is the edge, on the Attack page: the smallest change known, by the minimal attacks in turn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import streamlit as st

from explorer.attacks import ATTACKS
from explorer.core import NORMS
from explorer.engine import AttackRequest
from explorer.engine.edge import ORDER, PASSES, Edge, edge_work
from explorer.plots.edge import found_over_passes
from explorer.ui.attack.smallest import UNITS
from explorer.ui.attack.tool import answer, start_or_stop
from explorer.ui.components.conditions import bullets
from explorer.ui.components.figures import chart, dark
from explorer.ui.page_run import Task
from explorer.ui.session import engine
from explorer.ui.text import attack_tools as words

BUDGETS = (300, 1000, PASSES, 10_000)
EDGE: Task[Edge] = Task("tools.edge")


def show(request: AttackRequest, play: Callable[[AttackRequest], None]) -> None:
    """The question, from its button to its answer; `play` shows another walk on the page."""
    if request.norm not in NORMS:
        st.info(
            "How far the edge is, is a question about a norm. Choose an attack in one, such as PGD.",
            icon=":material/info:",
        )
        return
    about, budget, button = st.columns([5, 1.6, 1.4], vertical_alignment="bottom", gap="medium")
    names = ", ".join(ATTACKS.entry(key).title for key in ORDER[request.norm])
    about.markdown(f"The attacks that look for the smallest change are tried in turn, cheap ones first: {names}.")
    chosen = budget.selectbox(
        "at most so many passes", BUDGETS, index=BUDGETS.index(PASSES), key="edge.passes", format_func="{:,}".format,
        help="Forward and backward passes together. An attack begins if what it may take is left.",
    )  # fmt: skip
    with button:
        start_or_stop(EDGE, "edge", "Look", ":material/social_distance:", lambda: edge_work(engine(), request, chosen))
    found = answer(EDGE)
    if found is None:
        return
    if found.tried and not found.wrong_before:
        _figure(found)
    if found.ended:
        _answer(found, play)
    elif EDGE.running and found.running:
        st.caption(f"{ATTACKS.entry(found.running).title} is running.")


def _figure(found: Edge) -> None:
    scale = 255 if found.request.norm == "linf" else 1
    lines = [
        (ATTACKS.entry(one.request.attack).title, one.passes, np.asarray(one.nearest) * scale, one.spent)
        for one in found.tried
    ]
    chart(found_over_passes(lines, UNITS[found.request.norm], dark=dark()), "edge.figure")


def _answer(found: Edge, play: Callable[[AttackRequest], None]) -> None:
    fooled, sentence = words.edge(found)
    (st.error if fooled else st.info)(sentence, icon=":material/social_distance:")
    best = found.best
    if best is not None and not found.wrong_before:
        title = ATTACKS.entry(best.request.attack).title
        if st.button(
            f"Play {title}'s walk", icon=":material/play_arrow:", on_click=play, args=(best.request,), key="play.edge"
        ):
            st.rerun()  # the whole page, not this part of it only
    bullets(words.edge_notes(found))

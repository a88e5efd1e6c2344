"""The smallest eps at which an attack still succeeds, searched by halving, on the Attack page."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import streamlit as st

from explorer.attacks import ATTACKS
from explorer.engine import AttackRequest
from explorer.engine.smallest import WIDTH, Probe, Search, smallest_work
from explorer.plots import smallest as plots
from explorer.ui.attack.tool import answer, start_or_stop
from explorer.ui.components.conditions import bullets
from explorer.ui.components.figures import chart, dark
from explorer.ui.page_run import Task
from explorer.ui.session import engine
from explorer.ui.text import attack_tools as words

UNITS = {"linf": "of 255, L∞", "l2": "length, L2", "l1": "sum, L1", "l0": "pixels, L0"}
UNITS |= {"rotation": "share of the limits", "corruption": "severity"}
WIDTHS = (0.1, 0.05, WIDTH, 0.01)
SEARCH: Task[Search] = Task("tools.smallest")


def show(request: AttackRequest, play: Callable[[AttackRequest], None]) -> None:
    """The search, from its button to its answer; `play` shows another walk on the page."""
    title = ATTACKS.entry(request.attack).title
    if request.is_minimal:
        st.info(
            f"{title} looks for the smallest change itself: the distance above is its answer. This tool is for attacks that "
            "are given an eps, such as PGD.",
            icon=":material/info:",
        )
        return
    about, width, button = st.columns([5, 1.6, 1.4], vertical_alignment="bottom", gap="medium")
    about.markdown(
        f"{title} is tried at one eps after another: doubled until it succeeds or halved until it fails, then the middle, "
        "again and again. Each try is the very walk this page plays at that eps, same seed."
    )
    chosen = width.selectbox(
        "until the interval is",
        WIDTHS,
        index=WIDTHS.index(WIDTH),
        key="smallest.width",
        format_func="{:.0%} wide".format,
        help="(smallest eps that succeeded - largest that failed) / smallest that succeeded",
    )
    with button:
        start_or_stop(
            SEARCH, "smallest eps", "Search", ":material/search:", lambda: smallest_work(engine(), request, chosen)
        )
    found = answer(SEARCH)
    if found is None:
        return
    if found.clean is not None:
        _probes(found, found.clean)
    if found.ended:
        _interval(found, play)
    elif SEARCH.running:
        st.caption(f"Attack {len(found.probes) + 1} is running.")


def _probes(found: Search, clean: Probe) -> None:
    scale = 255 if found.request.norm == "linf" else 1
    unit = UNITS[found.request.norm]
    untargeted = found.request.target is None
    figure = plots.probes(
        np.array([p.eps * scale for p in found.probes]),
        np.array([p.margin for p in found.probes]),
        np.array([p.reached for p in found.probes], bool),
        clean.margin,
        None if found.held is None else found.held.eps * scale,
        None if found.fooled is None else found.fooled.eps * scale,
        unit=unit,
        margin_name="margin of the true class (logits)" if untargeted else "what the target lacks (logits)",
        dark=dark(),
    )
    chart(figure, "smallest.figure")


def _interval(found: Search, play: Callable[[AttackRequest], None]) -> None:
    reached, sentence = words.smallest(found)
    (st.error if reached else st.success)(sentence, icon=":material/gpp_bad:" if reached else ":material/gpp_good:")
    if found.probes and found.clean is not None and not found.clean.reached:
        for column, probe, word in zip(st.columns(2), (found.fooled, found.held), ("succeeds", "fails"), strict=True):
            if probe is not None:
                asked = dataclasses.replace(found.request, eps=probe.eps)
                label = f"Play the walk at {words.eps_words(asked.norm, asked.eps)}, which {word}"
                if column.button(
                    label,
                    icon=":material/play_arrow:",
                    on_click=play,
                    args=(asked,),
                    key=f"play.{word}",
                    width="stretch",
                ):
                    st.rerun()  # the whole page, not this part of it only
    bullets(words.smallest_notes(found))

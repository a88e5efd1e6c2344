"""Sizes of eps by a slider: pictures and answers at twelve of them, made as one batch; the walk at the chosen one on demand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import streamlit as st

from explorer.attacks import ATTACKS
from explorer.core.ball import THREAT_NAMES
from explorer.data.pictures import amplified
from explorer.engine import AttackRequest, eps_text
from explorer.engine.eps_sweep import EpsSweep, eps_sweep_work, sizes
from explorer.engine.rounding import percent, size
from explorer.ui.attack.tool import answer, start_or_stop
from explorer.ui.components.pictures import large
from explorer.ui.notices import noticed
from explorer.ui.page_run import Task
from explorer.ui.session import engine

SWEEP: Task[EpsSweep] = Task("tools.sweep")
CHOSEN = "sweep.eps"  # in st.session_state: which of the sizes is shown, by its place


def show(request: AttackRequest, play: Callable[[AttackRequest], None]) -> None:
    """The button, the slider with the picture and the answer at its size; `play` shows the walk at that eps."""
    about, button = st.columns([5, 1.4], vertical_alignment="bottom", gap="medium")
    title = ATTACKS.entry(request.attack).title
    about.markdown(
        f"{title} at {len(sizes(request))} sizes of eps at once, as one batch: slide, and see the picture and the answer at each."
    )
    with button:
        start_or_stop(SWEEP, "sweep", "Attack all", ":material/tune:", lambda: eps_sweep_work(engine(), request))
    now = answer(SWEEP)
    if now is not None:
        _slider(now)
        _at(now, st.session_state[CHOSEN], play)


def _slider(now: EpsSweep) -> None:
    state, places = st.session_state, range(len(now.eps))
    if state.get(CHOSEN) not in places:
        state[CHOSEN] = int(np.abs(now.eps - now.request.eps).argmin())
    st.select_slider(
        f"eps, {THREAT_NAMES[now.request.norm]}", places, key=CHOSEN, format_func=lambda k: eps_text(float(now.eps[k]))
    )
    marks = "".join(":orange[:material/close:]" if hit else ":blue[:material/shield:]" for hit in now.reached)
    first = np.flatnonzero(now.reached)
    least = f"first reached at eps {eps_text(float(now.eps[first[0]]))}" if len(first) else "reached at none of them"
    so_far = "" if now.finished else f" Step {now.done} of {now.planned}."
    st.markdown(f"{marks} From the smallest to the largest: {least}.{so_far}")


def _at(now: EpsSweep, k: int, play: Callable[[AttackRequest], None]) -> None:
    """Picture, change and answer at one size."""
    request, classes = now.request, now.request.classes
    change, factor = amplified(now.images[k] - now.original)
    seen = f"{classes[now.answers.predicted[k]]}, {percent(float(now.answers.sure[k]))}"
    columns = st.columns([1, 1, 1, 2], gap="medium")
    large(columns[0], now.original, f"original: {classes[now.label]}")
    large(columns[1], change, "no change" if factor is None else f"the change, × {factor:g}")
    large(columns[2], now.images[k], f"now: {seen}")
    with columns[3]:
        word = now.endings[k].value if now.endings else "so far: " + ("fooled" if now.reached[k] else "holds")
        st.markdown(f"### {word}")
        st.markdown(
            f"At eps {eps_text(float(now.eps[k]))} the model sees {seen}; changed by {size(float(now.distance[k]), request.norm)}."
        )
        if not request.is_minimal:
            st.button(
                "Play the walk at this eps", icon=":material/play_circle:", key="sweep.play", on_click=_play,
                args=(play, request, float(now.eps[k])),
                help="A walk of its own draws other random numbers than the copies of a batch.",
            )  # fmt: skip


def _play(play: Callable[[AttackRequest], None], request: AttackRequest, eps: float) -> None:
    with noticed():
        play(dataclasses.replace(request, eps=eps).checked())

"""Prediction before a run, as widgets: an answer, how sure one is, and the lock."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import streamlit as st

from explorer.classroom import Question
from explorer.classroom.question import SURE
from explorer.ui.components.pictures import to_url
from explorer.ui.inputs.choices import sample


def form(question: Question, name: str, lock: Callable[[int, int], None]) -> None:
    """The widgets; `lock(option, per cent sure)` is called before the page runs again. `name` tells questions apart."""
    chosen = st.pills("Your answer", question.options, key=f"answer.{name}", wrap=True)
    sure = st.segmented_control(
        "How sure are you?", SURE, key=f"sure.{name}", default=70, required=True, format_func=lambda share: f"{share} %"
    )
    option = None if chosen is None else question.options.index(chosen)
    kind: Literal["primary", "secondary"] = "secondary" if option is None else "primary"
    locks = None if option is None else partial(lock, option, int(sure))
    st.button("Lock", type=kind, icon=":material/lock:", key="lesson-lock", disabled=option is None, on_click=locks)


def said(question: Question, option: int, sure: int) -> str:
    """An answer in words."""
    return f"{question.options[option]}, {sure} % sure"


def untouched(dataset: str, rows: tuple[int, ...]) -> None:
    """The untouched pictures: all that is shown before an answer is locked. Nothing is computed for them."""
    images = sample(dataset)
    size = 224 if len(rows) == 1 else 96
    style = "image-rendering:pixelated;border-radius:6px;margin:0 6px 6px 0;max-width:100%;height:auto"
    shown = "".join(
        f'<img src="{to_url(images.x[row].numpy())}" alt="{images.classes[images.y[row]]}, picture {row}" width="{size}" '
        f'height="{size}" style="{style}">'
        for row in rows
    )
    st.html(shown or "<p>Pictures that the network gets right: it says which once it is asked.</p>")

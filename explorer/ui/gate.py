"""Predict, lock, reveal around the run of any page: while it is on, nothing is computed before an answer is locked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from explorer.classroom import Question, asked, brier
from explorer.classroom.usual import usual_question
from explorer.ui.frame import in_lesson
from explorer.ui.inputs import prediction

ON, GIVEN = "gate.on", "gate.given"  # in st.session_state: the toggle, and the answers of this session


@dataclass
class _Given:
    """One answer; `number` is that of the page's run."""

    run: tuple[str, int]
    question: Question
    option: int
    sure: int
    came: int | None = None


def toggle() -> None:
    """In a page's sidebar."""
    st.toggle(
        "Predict first", key=ON, persist_state="session",
        help="Before every run say what you expect and how sure you are. Nothing is computed before the lock.",
    )  # fmt: skip


def is_on(request: Any) -> bool:
    """Whether a run of this request waits for an answer; an uploaded picture's does not, and a lesson has a gate of its own."""
    if not st.session_state.get(ON) or in_lesson():
        return False
    known = isinstance(request, asked.Asked)
    return known and not isinstance(getattr(getattr(request, "attack", request), "image", None), str)


def ask(request: Any, run: tuple[str, int], begin: Callable[[], None]) -> None:
    """In place of what a run shows: the pictures, the question; `begin` is called with the lock."""
    pictures, asks = st.columns([1, 1.6], gap="large")
    with pictures:
        prediction.untouched(*asked.pictures_of(request))
    question = usual_question(request)

    def lock(option: int, sure: int) -> None:
        _all().append(_Given(run, question, option, sure))
        begin()

    with asks:
        st.subheader(question.text, anchor=False)
        prediction.form(question, f"{run[0]}{run[1]}", lock)


def tell(run: tuple[str, int], item: Any, finished: bool) -> None:
    """Above what a run shows: what was said of it, and what came."""
    given = next((one for one in reversed(_all()) if one.run == run), None)
    if given is None:
        return
    question, value = given.question, asked.value(given.question.kind, item) if finished else None
    given.came = question.option(value)
    words = f"*{question.text}* You said **{prediction.said(question, given.option, given.sure)}**."
    if given.came is not None:
        mark = ":material/check:" if given.came == given.option else ":material/close:"
        done = [(one.sure / 100, one.came == one.option) for one in _all() if one.came is not None]
        score = f"Brier score of {len(done)} answer{'s' * (len(done) != 1)} {brier(done):.2f}"
        words += f" It came to **{question.options[given.came]}** {mark} · {score}"
    st.markdown(words)


def _all() -> list[_Given]:
    found: list[_Given] = st.session_state.setdefault(GIVEN, [])
    return found

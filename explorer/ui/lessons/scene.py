"""One scene: the question first, its run once the answer is locked (in a room: revealed), then what came and what it means."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape

import streamlit as st

from explorer.classroom import Lesson, Question, Scene, asked
from explorer.classroom.room import Tally
from explorer.ui import room
from explorer.ui.inputs import prediction
from explorer.ui.lessons import foretold, presenting, stage, takehome
from explorer.ui.notices import noticed

Go = Callable[..., None]
ROW = "display:grid;grid-template-columns:minmax(0,min(14rem,50%)) 1fr;gap:.6rem;align-items:center;margin:.15rem 0"
SKIPPED = "lesson.skipped"  # in st.session_state: scenes that somebody wanted to see without an answer


def show(lesson: Lesson, at: int, go: Go) -> None:
    """The scene, with the ways to the next one."""
    scene, name = lesson.scenes[at], foretold.name_of(lesson, at)
    place = _class_of(scene, name)
    opened = is_open(scene, name, place)
    reveals = place is not None and place.leads and not opened
    presenting.panel(lesson, at, go, view=f"{name} {opened}", reveals=name if reveals else None)
    st.header(scene.title, anchor=False)
    words = st.container(key="scene-words")
    if scene.request is None:
        words.markdown(scene.before)
        return
    if not opened:
        stage.stop()
        with words:
            _ask(scene, name, place)
        return
    place_of_words = words.empty()
    stage.play(scene)
    came = stage.came(scene)
    if came is not None:
        foretold.settle(name, came)
        takehome.remember(name, scene)
        if place is not None and place.leads and scene.question is not None:
            place.room.settle(place.key, name, came)
    with place_of_words.container():
        _told(scene, name, came, place)


def _class_of(scene: Scene, name: str) -> room.Place | None:
    """The room in which this scene's question is asked: a lecturer's from the moment it is shown."""
    place = room.mine()
    if place is None or scene.question is None:
        return None
    if place.leads and st.session_state[room.LEADS]:
        with noticed():
            place.room.ask(place.key, name, scene.question.options)
    return place if place.room.asks(name) else None


def is_open(scene: Scene, name: str, place: room.Place | None) -> bool:
    """Whether the scene's run may begin: inside a closed gate nothing is computed."""
    if scene.question is None:
        return True
    if place is not None:
        return place.room.is_revealed(name)
    return foretold.of(name) is not None or name in st.session_state.get(SKIPPED, ())


def _ask(scene: Scene, name: str, place: room.Place | None) -> None:
    """Before the run: the untouched pictures, the question, an answer and how sure one is."""
    assert scene.question is not None and scene.request is not None
    pictures, asks = st.columns([1, 1.6], gap="large")
    with pictures:
        prediction.untouched(*asked.pictures_of(scene.request))
    with asks:
        st.markdown(scene.before)
        st.subheader(scene.question.text, anchor=False)
        if place is not None and place.leads:
            room.count_answers(place, name)
            return
        if place is not None and (mine := place.room.mine(place.token, name)) is not None:
            st.info(
                f"Locked: {prediction.said(scene.question, *mine)}. The lecturer reveals what came.",
                icon=":material/lock:",
            )
            return
        _form(scene.question, name, place)


def _form(question: Question, name: str, place: room.Place | None) -> None:
    prediction.form(question, name, partial(_lock, name, place))
    if place is None:
        st.button("Show it without an answer", type="tertiary", key="lesson-skip", on_click=_skip, args=(name,))


def _lock(name: str, place: room.Place | None, option: int, sure: int) -> None:
    with noticed():
        if place is not None:
            place.room.vote(place.token, name, option, sure)
        foretold.lock(name, option, sure)


def _skip(name: str) -> None:
    st.session_state[SKIPPED] = {*st.session_state.get(SKIPPED, ()), name}


def _told(scene: Scene, name: str, came: int | None, place: room.Place | None) -> None:
    """After the lock: what was said, what came, and what it means."""
    question, mine = scene.question, foretold.of(name)
    if question is not None:
        said = "" if mine is None else f" You said **{prediction.said(question, mine.option, mine.sure)}**."
        if came is None:
            st.markdown(f"*{question.text}*{said}")
        else:
            mark = "" if mine is None else " :material/check:" if mine.option == came else " :material/close:"
            st.markdown(f"*{question.text}* **{question.options[came]}**.{said}{mark}")
    words = scene.after or scene.before if came is not None or question is None else ""
    tally = place.room.tally(name) if place is not None and question is not None else None
    if tally is None or not tally.n:
        if words:
            st.markdown(words)
        if tally is not None:
            st.caption("Nobody in the room has answered.")
        return
    counts, after = st.columns([1, 1.2], gap="large")  # beside each other: the run is to be seen, too
    counts.html(bars(tally, came))
    after.markdown(words)


def bars(tally: Tally, came: int | None) -> str:
    """Answers of all, as bars with numbers; the one that came true is marked by a word, too."""
    most = max(tally.counts, default=0) or 1
    rows = []
    for k, (option, count) in enumerate(zip(tally.options, tally.counts, strict=True)):
        if not count and k != came and len(tally.options) > 6:
            continue
        mark = " ✓ came true" if k == came else ""
        color = "var(--st-primary-color, #3557a5)" if k == came else "#8892a6"
        bar = f'<span style="height:1.1rem;width:{80 * count / most:.0f}%;background:{color};border-radius:3px"></span>'
        words = f"<span>{escape(option)}{mark}</span><span style='display:flex;align-items:center;gap:.5rem'>{bar}{count}</span>"
        rows.append(f'<div role="listitem" style="{ROW}">{words}</div>')
    score = "" if tally.brier is None else f" · Brier score of the class {tally.brier:.2f}"
    number = f"{tally.n} answer{'s' * (tally.n != 1)}{score}"
    return f'<div role="list" aria-label="Answers of the class">{"".join(rows)}</div><small>{number}</small>'

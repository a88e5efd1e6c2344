"""The shelf: all lessons with how far one has come, a room for a class; and the end of a lesson with its score."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from explorer.classroom import Lesson, lessons
from explorer.classroom.room import LETTERS
from explorer.ui import permission, room
from explorer.ui.components import desk
from explorer.ui.lessons import foretold, joining, takehome

Go = Callable[..., None]
IN_A_ROW = 3
VIEWS = {
    "people": ("What people see", "visibility"),
    "tournament": ("Tournament of the class's networks", "emoji_events"),
    "glossary": ("Glossary", "menu_book"),
}


def show(go: Go) -> None:
    """All lessons; above them how a class comes together."""
    st.header("Lessons", anchor=False)
    st.markdown(
        "Five minutes each. Before every run a question: say what you expect and how sure you are, lock it, then watch. "
        "Alone, or together in a room."
    )
    _together()
    desk.press_by_keys({}, view="shelf", key="lesson.shelf.top")
    known, left_out = lessons()
    for sentence in left_out:
        st.warning(sentence, icon=":material/info:")
    shelf = list(known.values())
    for first in range(0, len(shelf), IN_A_ROW):  # row by row: so it is read, too, and so Tab goes
        for k, (lesson, column) in enumerate(zip(shelf[first:], st.columns(IN_A_ROW), strict=False)):
            key = f"lesson-card-{first + k}"
            with column, st.container(border=True, key=key, height="stretch", vertical_alignment="distribute"):
                _card(lesson, go)
    with st.container(horizontal=True):
        for view, (words, icon) in VIEWS.items():
            st.button(words, key=f"lesson.view.{view}", icon=f":material/{icon}:", on_click=go, args=(None, 0, view))


def _card(lesson: Lesson, go: Go) -> None:
    done = len(foretold.settled(lesson))
    of = sum(scene.question is not None for scene in lesson.scenes)
    score = foretold.score(lesson)
    brier = f" · Brier {score:.2f}" if score is not None else ""
    with st.container():  # above, and the buttons of a row on one line
        st.markdown(f"**{lesson.title}**")
        st.caption(lesson.about)
        st.caption(f"{len(lesson.scenes)} scenes · {done} of {of} answered{brier}")
    at = done if 0 < done < len(lesson.scenes) else 0
    words = "Go on" if at else "Begin"
    st.button(words, key=f"lesson.begin.{lesson.key}", type="primary", on_click=go, args=(lesson, at), width="stretch")


def _together() -> None:
    place = room.mine()
    if place is not None:
        if place.leads:
            joining.large(place.room)
            with st.container(horizontal=True):
                takehome.room_button(place, "content")
                st.button("End the room", icon=":material/logout:", key="room.end", on_click=room.leave)
        return
    with st.expander("In a class: join a room, or open one", icon=":material/groups:"):
        left, right = st.columns(2, gap="large")
        with left, st.form("room.code", border=False):
            code = st.text_input("Code of the room", max_chars=2 * LETTERS, autocomplete="off")
            name = st.text_input("Your name, or none", max_chars=30, autocomplete="off")
            if st.form_submit_button("Join", icon=":material/login:"):
                room.join(code, name)
                st.rerun()
        with right:
            st.markdown("**For the lecturer.** A room leads all screens and counts the answers. Nothing of it is kept.")
            if permission.asked("room"):
                st.button("Open a room", icon=":material/cast_for_education:", on_click=room.open_one, key="room.open")


def end(lesson: Lesson, go: Go) -> None:
    """What came true of what was foretold."""
    st.header(f"{lesson.title}: the end", anchor=False)
    found, score = foretold.settled(lesson), foretold.score(lesson)
    place = room.mine()
    if place is not None and place.leads:
        st.markdown(_of_class(place, lesson))
    elif score is None:
        st.markdown("No question of this lesson was answered.")
    else:
        right = sum(one.right for one in found)
        st.markdown(f"**{right} of {len(found)}** of your answers came true. Brier score **{score:.2f}**.")
        st.caption(
            "The mean of (how sure you were - 1 if it came true, else 0) squared. 0 is best; always saying 50 % gives 0.25, being "
            f"sure and wrong 1. Over {len(found)} answers of one person it says little."
        )
    again, home, shelf = st.columns(3)
    again.button("Begin again", icon=":material/replay:", on_click=_again, args=(lesson, go), width="stretch")
    with home:
        takehome.button(lesson)
    shelf.button(
        "All lessons", icon=":material/arrow_back:", on_click=go, args=(None,), width="stretch", type="primary"
    )


def _of_class(place: room.Place, lesson: Lesson) -> str:
    """What came true of the answers of all, in words."""
    asked = [
        one for one in place.room.export(place.key)["questions"] if one["question"].rpartition("/")[0] == lesson.key
    ]
    known = [one for one in asked if one["brier"] is not None]  # it came true or not, and somebody had answered
    given = [sum(one["answers"].values()) for one in known]
    if not known:
        return "Nobody in the room has answered a question of this lesson."
    right = sum(one["answers"][one["came"]] for one in known)
    score = sum(n * one["brier"] for n, one in zip(given, known, strict=True)) / sum(given)
    return f"**{right} of {sum(given)}** answers of the class came true. Brier score **{score:.2f}**."


def _again(lesson: Lesson, go: Go) -> None:
    foretold.forget(lesson)
    go(lesson, 0)

"""The Lessons page: the shelf of all lessons, one of them scene by scene, the glossary, and the lecturer's notes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import streamlit as st

import explorer.classroom
from explorer.classroom import Lesson, lessons
from explorer.classroom.lesson import where
from explorer.ui.frame import STAYS, asked
from explorer.ui.inputs import attack as controls
from explorer.ui.lessons import foretold, people, presenting, scene, shelf, tournament
from explorer.ui.notices import notice, say_notice
from explorer.ui.page_run import gone_back

KEY, AT, VIEW = "lesson.key", "lesson.at", "lesson.view"  # in st.session_state; AT one past the last scene: the end
GLOSSARY, NOTES, TOURNAMENT, PEOPLE = VIEWS = ("glossary", "notes", "tournament", "people")
WORDS = Path(explorer.classroom.__file__).with_name("glossary.md")


def open_page() -> None:
    """Where one is: as the link says, else as it was left."""
    controls.show_default()
    state, query = st.session_state, asked()
    state.setdefault(KEY, None)
    state.setdefault(AT, 0)
    if KEY not in state or gone_back() or query != state.get("lesson.address"):
        _go(query)
    _set_address()


def _go(query: Mapping[str, str]) -> None:
    """Where a link leads; what is not there becomes the notice."""
    state = st.session_state
    state[VIEW] = query.get("view", "") if query.get("view") in VIEWS else ""
    if "lesson" not in query:
        if not state[VIEW]:
            state[KEY] = None
        return
    known, key, scene_number = lessons()[0], query["lesson"], query.get("scene", "1")
    if key not in known:
        state[KEY] = None
        notice(f"There is no lesson {key[:60]!r}. Known: {', '.join(known)}.")
        return
    last = len(known[key].scenes) + 1
    if not (scene_number.isdecimal() and 1 <= int(scene_number) <= last):
        notice(f"scene must be a whole number in [1, {last}]; got {scene_number[:20]!r}.")
        scene_number = "1"
    state[KEY], state[AT] = key, int(scene_number) - 1


def chosen() -> Lesson | None:
    """The lesson that is open."""
    return lessons()[0].get(st.session_state[KEY] or "")


def _set_address() -> None:
    """The address names where one is."""
    lesson, view = chosen(), st.session_state.get(VIEW, "")
    wanted: dict[str, str] = {} if lesson is None else dict(where(lesson, st.session_state[AT]))
    if view:
        wanted["view"] = view
    st.session_state["lesson.address"] = wanted
    full = wanted | {name: st.query_params[name] for name in STAYS if name in st.query_params}
    if st.query_params.to_dict() != full:
        st.query_params.from_dict(full)


def go(lesson: Lesson | None, at: int = 0, view: str = "") -> None:
    """From a button: to a scene of a lesson, to its end, or to the shelf."""
    state = st.session_state
    state[KEY], state[AT], state[VIEW] = (lesson.key if lesson else None), at, view
    _set_address()


def show() -> None:
    """The page."""
    foretold.load()
    lesson, view = chosen(), st.session_state.get(VIEW, "")
    say_notice()
    if view == GLOSSARY:
        _glossary()
    elif view == TOURNAMENT:
        tournament.show(go)
    elif view == PEOPLE:
        people.show(go)
    elif lesson is None:
        presenting.off()
        shelf.show(go)
    elif view == NOTES:
        presenting.notes(lesson, st.session_state[AT])
    elif st.session_state[AT] >= len(lesson.scenes):
        presenting.panel(lesson, len(lesson.scenes), go, view=f"{lesson.key} end")
        shelf.end(lesson, go)
    else:
        scene.show(lesson, st.session_state[AT], go)
    foretold.keep()


def _glossary() -> None:
    st.header("Glossary", anchor=False)
    st.button("All lessons", icon=":material/arrow_back:", on_click=go, args=(None,))
    st.markdown(WORDS.read_text("utf-8"))

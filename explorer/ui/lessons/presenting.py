"""Giving a lesson: its scenes in the sidebar, presenter mode, the keys of a clicker, and the lecturer's notes in a second tab."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

import streamlit as st

from explorer.classroom import Lesson
from explorer.classroom.lesson import where
from explorer.ui import room
from explorer.ui.components import desk
from explorer.ui.frame import ROOM, asked
from explorer.ui.lessons import foretold, joining, takehome
from explorer.ui.notices import noticed
from explorer.ui.session import look_again

Go = Callable[..., None]
ON = "lesson.present"  # in st.session_state
KEYS = {"PageDown": "lesson-next", "PageUp": "lesson-back", ".": "lesson-black", "Escape": "lesson-leave"}
STYLES = """
<style>
html { font-size: 140% !important; }
[data-testid="stHeader"], [data-testid="stSidebar"], [data-testid="stExpandSidebarButton"], .st-key-footer, .st-key-lesson-nav,
.st-key-room-bar, .st-key-lesson-leave { display: none !important; }
.block-container { padding-top: 1rem !important; }
.block-container > [data-testid="stVerticalBlock"] { gap: 0.4rem !important; } /* what shows nothing takes room */
</style>
"""


def off() -> None:
    """Where there is no lesson nobody presents."""
    st.session_state[ON] = False


def panel(lesson: Lesson, at: int, go: Go, *, view: str, reveals: str | None = None) -> None:
    """The ways on, for mouse and keys; in the sidebar all scenes. `view`: what one sees, from its top.

    `reveals`: the next act is to end the voting on this. `at` may be one past the last scene: the end.
    """
    st.session_state.setdefault(ON, False)
    if st.session_state[ON]:
        st.html(STYLES)
    with st.sidebar:
        _contents(lesson, at, go)
    place = room.mine()
    if at < len(lesson.scenes):
        st.caption(f"{lesson.title} · scene {at + 1} of {len(lesson.scenes)}")
    leads = place is not None and place.leads
    if place is None or leads or not st.session_state[room.FOLLOWS]:  # who follows goes where the lecturer goes
        with st.container(key="lesson-nav", horizontal=True):
            _ways(lesson, at, go, place if leads else None, reveals)
    if st.session_state[ON]:
        st.button("Leave the presentation", type="tertiary", key="lesson-leave", on_click=_leave)
    desk.press_by_keys(KEYS, view=f"{view} {st.session_state[ON]}", key="lesson.keys")


def _ways(lesson: Lesson, at: int, go: Go, led: room.Place | None, unrevealed: str | None) -> None:
    """Back and on; for who leads a room, too: end the voting, and black screens."""
    st.button("Back", icon=":material/arrow_back:", key="lesson-back", on_click=go, args=(lesson, max(at - 1, 0)))
    if led is not None and unrevealed is not None:
        st.button("Reveal", icon=":material/visibility:", key="lesson-next", on_click=reveal, args=(led, unrevealed))
    elif at < len(lesson.scenes):
        st.button("Next", icon=":material/arrow_forward:", key="lesson-next", on_click=go, args=(lesson, at + 1))
    if led is not None:
        st.button("Black screens", icon=":material/dark_mode:", key="lesson-black", on_click=blacken, args=(led,))


def _leave() -> None:
    st.session_state[ON] = False


def reveal(place: room.Place, name: str) -> None:
    """From a button: end the voting."""
    with noticed():
        place.room.reveal(place.key, name)


def blacken(place: room.Place) -> None:
    """From a button: all screens black, or back."""
    with noticed():
        place.room.blacken(place.key)


def _contents(lesson: Lesson, at: int, go: Go) -> None:
    st.button(
        "All lessons", icon=":material/arrow_back:", on_click=go, args=(None,), width="stretch", key="lesson.shelf"
    )
    st.header(lesson.title, anchor=False)
    for number, scene in enumerate(lesson.scenes):
        found = foretold.of(foretold.name_of(lesson, number))
        done = "" if found is None or found.came is None else " ✓" if found.right else " ✗"
        st.button(
            f"{number + 1}. {scene.title}{done}", key=f"lesson.scene.{number}", width="stretch", on_click=go, args=(lesson, number),
            type="primary" if number == at else "tertiary",
        )  # fmt: skip
    st.toggle("Presenter mode", key=ON, persist_state="session", help=(
        "Large type, no controls. Page Down: reveal, then the next scene. Page Up: back. Space, left and right: the player. "
        "Up and down: scroll. "
        "Full stop: black screens. Escape: leave."))  # fmt: skip
    place = room.mine()
    tab = dict(where(lesson, at)) | {"view": "notes"} | ({ROOM: place.room.code} if place is not None else {})
    st.link_button(
        "Notes in a second tab", f"/lessons?{urlencode(tab)}", icon=":material/sticky_note_2:", width="stretch"
    )
    if place is not None and place.leads:
        joining.small(place.room)
        takehome.room_button(place)
        st.button("End the room", icon=":material/logout:", key="room.end", on_click=room.leave, width="stretch")
    elif place is not None:
        st.button("Leave the room", icon=":material/logout:", key="room.end", on_click=room.leave, width="stretch")


def notes(lesson: Lesson, at: int) -> None:
    """The lecturer's own tab: what to say, the clock, and the same ways on. In a room it moves all screens, without being one."""
    place = room.mine()
    leads = place is not None and place.leads
    if leads and place is not None and place.room.showing.query.get("lesson") == lesson.key:
        number = str(place.room.showing.query.get("scene", ""))
        at = min(int(number) - 1, len(lesson.scenes) - 1) if number.isdecimal() else at
    at = min(at, len(lesson.scenes) - 1)
    scene, name = lesson.scenes[at], foretold.name_of(lesson, at)
    if leads and place is not None:
        look_again(_clock, place, every=1.0, key="lesson.clock", patient=False)
        if scene.question is not None and place.room.asks(name) and not place.room.is_revealed(name):
            room.count_answers(place, name)
    st.caption(f"{lesson.title} · scene {at + 1} of {len(lesson.scenes)} · notes for the lecturer")
    st.header(scene.title, anchor=False)
    st.markdown(scene.notes or "There are no notes for this scene.")
    if scene.question is not None:
        st.markdown(f"**Question.** {scene.question.text}")
        if scene.question.claim is not None:
            st.markdown(f"**Comes true**, says the lesson: {scene.question.options[scene.question.claim]}")
    if scene.after:
        st.markdown(f"**After the run.** {scene.after}")
    if at + 1 < len(lesson.scenes):
        st.caption(f"Next: {lesson.scenes[at + 1].title}")
    back, onward = st.columns(2)
    revealed = place is None or not place.room.asks(name) or place.room.is_revealed(name)
    back.button("Back", icon=":material/arrow_back:", key="lesson-back", on_click=_turn, args=(lesson, max(at - 1, 0)))
    if leads and not revealed and place is not None:
        onward.button("Reveal", icon=":material/visibility:", key="lesson-next", on_click=reveal, args=(place, name))
    else:
        onward.button("Next", icon=":material/arrow_forward:", key="lesson-next", on_click=_turn, args=(lesson, at + 1))
    desk.press_by_keys(KEYS, view=f"notes {name}", key="lesson.keys")


def _turn(lesson: Lesson, at: int) -> None:
    """From a button of the notes: all screens go there; alone, only this tab."""
    place = room.mine()
    with noticed():
        if place is not None and place.leads:
            place.room.show(place.key, "lessons", where(lesson, at))
    query = {**where(lesson, min(at, len(lesson.scenes) - 1)), "view": "notes"}
    st.query_params.from_dict(query | {name: value for name, value in st.query_params.items() if name not in asked()})


def _clock(place: room.Place) -> None:
    minutes, seconds = divmod(int(place.room.age), 60)
    here, _ = place.room.here()
    st.markdown(f":material/schedule: **{minutes}:{seconds:02d}** since the room was opened · {here} here")

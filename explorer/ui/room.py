"""A room on the pages: join it, follow its lecturer or let go; lead it. What it is and who may do what stands in classroom/room.py."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from explorer.classroom.room import LONGEST_NAME, Refused, Room, Rooms, Showing, Watched
from explorer.engine import Snapshot
from explorer.engine.compare import Comparison
from explorer.ui import permission
from explorer.ui.components import desk
from explorer.ui.frame import PAGE, ROOM, asked, go_to, in_lesson, leave_if_wanted
from explorer.ui.notices import notice, noticed
from explorer.ui.session import look_again, session_id, store

MINE, SEEN, VERSION = "room.mine", "room.seen", "room.version"  # in st.session_state
FOLLOWS, LEADS, TRIES = "room.follows", "room.leads", "room.tries"
DRAWN = "room.drawn"  # the page that was drawn last: its name and link
ENDED = "room.ended at"  # when the page was drawn to its end; 0: not yet
AGAIN = "room.again at"  # when it is drawn once more
SETTLES = (2.0, 4.0)  # seconds after one was taken there, at least and at most
HEARD, WATCH = "room.heard at", 4.0  # when the last look came; seconds between two checks that there are looks
LEFT = "room.left"  # the address from which one was taken along
MOST_TRIES, LATE_TRIES = 6, 3  # to get where the lecturer is; so many of them not at once
LOOK = 0.6  # seconds between two looks at what the lecturer shows
LARGEST = 120  # letters of a key or a token that a browser may hand us
BLACK = "<style>.stApp::after { content: ''; position: fixed; inset: 0; background: #000; z-index: 999999; }</style>"


@dataclass(frozen=True)
class Place:
    """This session in a room: with its key who leads it, with a token who is a member."""

    room: Room
    key: str | None = None
    token: str | None = None

    @property
    def leads(self) -> bool:
        return self.room.leads(self.key)

    @property
    def memory(self) -> str:
        """The name under which the browser keeps who one is here."""
        return f"explorer.room.{self.room.code}"


@st.cache_resource(show_spinner=False)
def rooms() -> Rooms:
    """All rooms of this process."""
    return Rooms()


def mine() -> Place | None:
    """Where this session is, if it is in a room that goes on."""
    place: Place | None = st.session_state.get(MINE)
    return place if place is not None and not place.room.ended else None


def open_one() -> None:
    """From a button: a new room, led from here. Who may is asked as of the training runs."""
    with noticed():
        if (guard := store().guard) is not None:
            guard.check(permission.permit())
        room, key = rooms().open()
        _enter(Place(room, key=key))


def join(code: str, name: str = "", token: str | None = None) -> None:
    """From a button: become a member of the room with this code."""
    with noticed():
        room, token = rooms().join(code, session_id(), name, token)
        _enter(Place(room, token=token))


def _enter(place: Place) -> None:
    state = st.session_state
    state[MINE], state[FOLLOWS], state[LEADS] = place, True, True
    state[SEEN], state[VERSION] = -1, -1
    st.query_params[ROOM] = place.room.code


def leave() -> None:
    """From a button: go; who leads ends the room with it."""
    place = mine()
    if place is None:
        return
    with noticed():
        if place.leads:
            place.room.end(place.key)
        else:
            place.room.leave(place.token)
    forget()


def forget() -> None:
    """This session is in no room any more."""
    st.session_state.pop(MINE, None)
    if ROOM in st.query_params:
        del st.query_params[ROOM]


def bar() -> DeltaGenerator:
    """Above every page of who is in a room, or asks for one by a link: returns the place of where one is (`lead`)."""
    place, above = mine(), st.container(key="room-bar")
    if place is not None:
        st.query_params[ROOM] = place.room.code
        desk.keep(place.memory, json.dumps({"key": place.key, "token": place.token}), key="room.keep")
        st.session_state[VERSION] = place.room.version
        st.session_state[ENDED] = 0.0  # until this page is drawn
        with st.container():
            st.fragment(_watch, key="room.watch")()
    elif st.session_state.pop(MINE, None) is not None:
        notice("The room has ended.")
        forget()
    elif ROOM in st.query_params:
        _arrive(st.query_params[ROOM])
    return above


def _arrive(code: str) -> None:
    """Somebody comes by a link, for the first time or again."""
    try:
        room = rooms().find(code, session_id())
    except Refused as error:
        notice(str(error))
        forget()
        return
    place = Place(room)
    kept = desk.kept(place.memory, key="room.kept")
    if kept is None:
        return  # the browser is about to say
    key, token = _known(kept)
    if room.leads(key):
        _enter(Place(room, key=key))
        st.session_state[SEEN] = room.showing.number  # who leads is where the address says
        st.rerun()
    elif token is not None:
        join(room.code, token=token)
        st.rerun()
    _ask_to_join(room)


def _known(kept: str) -> tuple[str | None, str | None]:
    """Key and token of what a browser has kept; whatever is not like one is none."""
    try:
        said = json.loads(kept or "{}")
    except ValueError:
        return None, None
    values = (said.get(name) if isinstance(said, dict) else None for name in ("key", "token"))
    key, token = (value if isinstance(value, str) and len(value) <= LARGEST else None for value in values)
    return key, token


def _ask_to_join(room: Room) -> None:
    with st.container(key="room-join", border=True), st.form("room.join", border=False):
        st.markdown(f"**Room {room.code}.** Your screen will show what the lecturer shows.")
        name = st.text_input("Your name, or none", max_chars=LONGEST_NAME, autocomplete="off")
        if st.form_submit_button("Join", type="primary", icon=":material/login:"):
            join(room.code, name)
            st.rerun()


def _bar(place: Place) -> None:
    """A look at the room: goes where the lecturer is, and draws the page anew when there is something new for all."""
    leave_if_wanted()
    room, state = place.room, st.session_state
    state[HEARD] = time.monotonic()
    room.heard(place.token)
    if room.ended:
        st.rerun()
    showing = room.showing
    with_all = state[LEADS] if place.leads else state[FOLLOWS]
    if with_all and not is_notes() and showing.page:
        _go_along(showing)
    if room.version != state[VERSION]:
        st.rerun()
    if showing.black and with_all and not is_notes():
        st.html(BLACK)
    (_of_lecturer if place.leads else _of_member)(place)


def _watch() -> None:
    """If the end of a drawing was lost, with it the looks that begin there, the page is drawn anew.

    Streamlit loses a whole one that it has not sent where a message of the browser comes between its end and its sending.
    """
    desk.look_again(WATCH, key="room.watching")
    state, now = st.session_state, time.monotonic()
    if state.get(ENDED, 0.0) and now - state[ENDED] > WATCH / 2 and now - state.get(HEARD, 0.0) > WATCH / 2:
        state[HEARD] = now
        st.rerun()


def _go_along(showing: Showing) -> None:
    """Where the lecturer is, and there drawn once more some seconds later: on a busy machine a look that meets a drawing may cost it
    parts, and nobody would notice here (not all of a class at the same moment).

    Messages of the browser that were under way come from the old address, many of them where the app stood still for a while, and
    what is drawn anew because of one is drawn there. Hence one is taken along again until a message has come from the new address and
    that second drawing is due: some times at once, then each after some seconds.
    """
    state, now = st.session_state, time.monotonic()
    if showing.number != state[SEEN]:
        state[SEEN], state[TRIES], state[AGAIN], state[LEFT] = showing.number, MOST_TRIES, 0.0, asked()
    if not state.get(TRIES):
        return  # a click of one's own may lead elsewhere
    due, there = now > state[AGAIN], dict(showing.query)
    drawn = state.get(DRAWN) == (showing.page, there)
    arrived = state[ENDED] and (asked() == there or asked() != state[LEFT])  # 0: this look is part of the drawing
    if drawn and not state[AGAIN]:
        state[TRIES] = 0  # it was here already
    elif drawn and arrived:
        if due:
            state[TRIES] = 0
            st.rerun()
    elif due or (not drawn and state[TRIES] > LATE_TRIES):
        state[TRIES] -= 1
        state[AGAIN] = now + random.uniform(*SETTLES)
        go_to(showing.page, showing.query)
        st.rerun()


def count_answers(place: Place, ballot: str) -> None:
    """For the lecturer: how many have answered so far, looked at again and again."""
    look_again(_count, place, ballot, every=LOOK, key="room.count", patient=False)


def _count(place: Place, ballot: str) -> None:
    here, _ = place.room.here()
    st.info(f"{place.room.locked(ballot)} of {here} have answered.", icon=":material/how_to_vote:")


def _of_lecturer(place: Place) -> None:
    here, follow = place.room.here()
    leads = st.session_state[LEADS]
    does = "all see what you show" if leads else "nobody sees what you do"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f":material/cast_for_education: **Room {place.room.code}** · {here} here, {follow} follow · {does}",
            width="content",
        )
        # Two buttons, so that the one just pressed is gone with its focus: the space bar plays, and must not press it again.
        if leads:
            st.button("Look around alone", key="room.alone", on_click=_show_all, args=(False,))
        else:
            st.button("All see what I show", key="room.leads.all", on_click=_show_all, args=(True,))


def _show_all(shows: bool) -> None:
    st.session_state[LEADS], st.session_state[VERSION] = shows, -1  # the page is drawn anew, and shown


def _of_member(place: Place) -> None:
    follows = st.session_state[FOLLOWS]
    does = "you follow the lecturer" if follows else "you look around by yourself"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f":material/cast_for_education: **Room {place.room.code}** · {does}", width="content")
        st.button("Let go" if follows else "Follow again", key="room.letting", on_click=_turn)


def _turn() -> None:
    place, state = mine(), st.session_state
    if place is None:
        return
    state[FOLLOWS] = not state[FOLLOWS]
    state[SEEN] = -1  # who follows again goes where the lecturer is now
    with noticed():
        place.room.follow(place.token, state[FOLLOWS])


def is_notes() -> bool:
    """Whether this tab is the lecturer's notes: it is no screen of the class."""
    return asked().get("view") == "notes"


def keep(title: str, link: str, item: object, ballot: str = "") -> None:
    """A walk that has ended on the screen of who leads a room, where all see it: theirs to take home (`lessons/takehome.py`)."""
    place = mine()
    walked = isinstance(item, (Snapshot, Comparison))
    if walked and place is not None and place.leads and st.session_state[LEADS] and not is_notes():
        with noticed():
            place.room.watch(place.key, Watched(title, link, item, ballot))


def keep_page(query: Mapping[str, str], item: object) -> None:
    """As `keep`, of a page; a lesson's scenes keep their own."""
    name = st.session_state.get(PAGE)
    if name and mine() is not None and not in_lesson():
        keep(name.capitalize(), f"/{name}?{urlencode(query, safe='/:,')}", item)


def lead(above: DeltaGenerator) -> None:
    """Last thing of every page: what its lecturer has on the screen is on all screens; and `above` it, where one is.

    The looks at the room begin here: one that met the page's own drawing would lose a part of it.
    """
    place, state = mine(), st.session_state
    here, before = (state.get(PAGE), asked()), state.get(DRAWN)
    state[DRAWN] = here
    if place is None:
        return
    showing = place.room.showing
    mine_last = state[SEEN] in (
        -1,
        showing.number,
    )  # else the notes have turned to another scene: then this tab goes along
    if place.leads and state[LEADS] and not is_notes() and not showing.black and (mine_last or here != before):
        with noticed():
            up_to_date = state[VERSION] == place.room.version
            place.room.show(place.key, state[PAGE], asked())
            state[SEEN] = place.room.showing.number
            if up_to_date:
                state[VERSION] = place.room.version  # what is new is drawn here already
    state[ENDED] = 0.0
    with above:
        look_again(_bar, place, every=LOOK, key="room", patient=False)
    state[ENDED] = time.monotonic()

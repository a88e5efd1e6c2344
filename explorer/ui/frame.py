"""What surrounds every page: title, places whose room is reserved, what a link hides, and where the computing happens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.navigation.page import StreamlitPage

from explorer import __version__
from explorer.core import ExplorerError
from explorer.ui.components.theme_change import follow_theme
from explorer.ui.head import SIDEBAR
from explorer.ui.notices import notice
from explorer.ui.session import engine

LOGO = Path(__file__).with_name("logo.svg")
ICON = Path(__file__).with_name("icon.svg")  # every browser would fetch one of Streamlit's from elsewhere

TITLE = "Robustness Explorer"
WANTED = "wanted page"  # in st.session_state: the page to go to
PAGE, CAME = "page", "came by link"  # in st.session_state: where one is; whether one has just come there by a link
LESSONS = "lessons"  # the page that shows parts of others
FOLLOWED = "followed link"  # in st.session_state: where somebody has gone, perhaps on the page where one was
HIDE, HIDDEN = "hide", "hidden"  # in a link, and in st.session_state: what is left out, for a lecture
ROOM = "room"  # in a link: the room of the class that one is in
STAYS = (HIDE, ROOM)  # of a link, whatever page it leads to
HIDEABLE = ("settings", "gallery", "verdict", "explain")


def prepare() -> None:
    """Page settings; must be the first thing a run does."""
    st.set_page_config(page_title=TITLE, page_icon=ICON, layout="wide", initial_sidebar_state=SIDEBAR)
    st.logo(LOGO, size="large")


def name_page(title: str) -> None:
    """What the browser's tab says, and the page's heading for who hears it."""
    st.set_page_config(page_title=f"{title} · {TITLE}")
    with st.container(key="page-name"):
        st.html(f'<h1 class="visually-hidden">{title}</h1>')


def inside(name: str) -> None:
    """First line of every page: where one is, whether by a link from another page, and what the link hides."""
    state = st.session_state
    link = state.pop(FOLLOWED, None)
    if (
        link is not None and st.query_params.to_dict() != link
    ):  # a message that was under way has brought the old address back
        st.query_params.from_dict(link)
    went = link is not None or state.get(PAGE, name) != name
    state[CAME] = went and bool(asked())
    state[PAGE] = name
    if HIDE in st.query_params:
        _hide(st.query_params[HIDE])


def in_lesson() -> bool:
    """Whether what is drawn is a scene of a lesson."""
    return st.session_state.get(PAGE) == LESSONS


def asked() -> dict[str, str]:
    """What the address asks of the page: all but what stays with one on every page."""
    return {name: value for name, value in st.query_params.to_dict().items() if name not in STAYS}


def came_by_link() -> bool:
    """Whether this page has just been come to from another, by a link that asks for something."""
    return bool(st.session_state.get(CAME))


def _hide(text: str) -> None:
    """What the address leaves out of all pages from here on; an empty list shows everything again."""
    asked = [part.strip() for part in text.split(",") if part.strip()]
    if asked != st.session_state.get(HIDDEN, []):
        st.session_state[HIDDEN] = asked
        if unknown := [part for part in asked if part not in HIDEABLE]:
            notice(f"hide may name {', '.join(HIDEABLE)}; got {', '.join(unknown)}.")


def is_hidden(part: str) -> bool:
    """Whether a link has left this out (one of HIDEABLE)."""
    hidden: list[str] = st.session_state.get(HIDDEN, [])
    return part in hidden


def row(widths: Sequence[float], key: str = "headline") -> list[DeltaGenerator]:
    """Columns of a page's first row, labelled boxes and a button at the end; the boxes' room is reserved."""
    with st.container(key=key):
        return st.columns(widths, vertical_alignment="bottom")


def notes() -> DeltaGenerator:
    """The place of a page's notices: its room is reserved, so that what is below does not move when they change."""
    return st.container(key="notes")


def go_on_to(pages: Mapping[str, StreamlitPage], page: StreamlitPage) -> None:
    """Switch to the page that somebody wanted to go to, unless it is this one; `inside` then sets the link's settings."""
    name = st.session_state.pop(WANTED, None)
    if name in pages and pages[name] is not page:
        st.switch_page(pages[name], query_params=st.query_params.to_dict())


def go_to(name: str, link: Mapping[str, str] | None = None) -> None:
    """From a widget's callback: the next page drawn is this one, and follows the link if there is one."""
    room = {ROOM: st.query_params[ROOM]} if ROOM in st.query_params else {}
    wanted = {**(link or {}), **room}
    st.query_params.from_dict(wanted)  # those that are there are the page's that is left
    st.session_state[WANTED], st.session_state[FOLLOWED] = name, wanted


def leave_if_wanted() -> None:
    """First line of a part of a page that draws itself again: lets the whole app run where another page is wanted."""
    if WANTED in st.session_state:
        st.rerun()


@contextmanager
def one_sentence_for_errors() -> Iterator[None]:
    """What a page could not do, as the sentence it comes with; the app goes on."""
    try:
        yield
    except ExplorerError as error:
        st.error(str(error), icon=":material/error:")


def footer() -> None:
    """One quiet line: which version, where it runs, and what is free of a GPU's memory; and a look whether the page has
    become light or dark."""
    follow_theme()
    place = " · ".join(filter(None, (engine().description, engine().free_memory)))
    with st.container(key="footer", horizontal=True, gap="small"):
        st.caption(f"Robustness Explorer {__version__} · computing on {place}", width="content")
        st.markdown(":small[[Glossary](/lessons?view=glossary)]", width="content")  # a caption's link would be too pale

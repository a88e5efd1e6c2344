"""What surrounds every page: title, width, a few styles, and where the computing happens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from explorer import __version__
from explorer.core import ExplorerError
from explorer.ui.session import engine
from explorer.ui.theme_change import follow_theme

LOGO = Path(__file__).with_name("logo.svg")
ICON = Path(__file__).with_name(
    "icon.svg"
)  # a named one of Streamlit's would be fetched from elsewhere by every browser

WANTED = "wanted page"
_framed: ContextVar[bool] = ContextVar("framed", default=False)

_CSS = """
<style>
.block-container { padding: 3.4rem 2rem 1.5rem; max-width: 1720px; }
[data-testid="stSidebarHeader"] { height: 3rem; margin-bottom: 0; padding-bottom: 0; }
.katex-display { padding: 0.45em 0; }
[data-testid="stMarkdownContainer"] div:has(> table), [data-testid="stMarkdownContainer"]:has(> table) { overflow-x: auto; }
section[data-testid="stSidebar"] .katex { font-size: 0.95em; }
[data-testid="stSidebarUserContent"] { padding-top: 0.25rem; }
section[data-testid="stSidebar"] [data-testid="stVerticalBlock"] { gap: 0.7rem; }
</style>
"""


def prepare() -> None:
    """Page settings; must be the first thing a run does."""
    _framed.set(True)
    st.set_page_config(page_title="Robustness Explorer", page_icon=ICON, layout="wide", initial_sidebar_state=330)
    st.html(_CSS)
    st.logo(LOGO, size="large")


def inside(name: str) -> None:
    """First line of every page: makes sure that the frame is around it.

    Until app.py has run once, Streamlit takes the files of pages/ for pages of their own: the first visitor of a fresh
    server who comes by a deep link would get the bare page. Such a visit goes through app.py, which then goes on to it,
    with the link's settings.
    """
    if not _framed.get():
        st.session_state[WANTED] = name
        st.switch_page("app.py", query_params=st.query_params.to_dict())


def go_on_to(pages: Mapping[str, StreamlitPage]) -> None:
    """Switch to the page that a visit without the frame had asked for."""
    name = st.session_state.pop(WANTED, None)
    if name in pages:
        st.switch_page(pages[name], query_params=st.query_params.to_dict())


@contextmanager
def one_sentence_for_errors() -> Iterator[None]:
    """What a page could not do, as the sentence it comes with; the app goes on."""
    try:
        yield
    except ExplorerError as error:
        st.error(str(error), icon=":material/error:")


def footer() -> None:
    """One quiet line: where it runs, and which version; and a look whether the page has become light or dark."""
    follow_theme()
    st.caption(f"Robustness Explorer {__version__} · computing on {engine().description}")

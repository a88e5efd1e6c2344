"""What surrounds every page: title, width, a few styles, and where the computing happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import streamlit as st

from explorer import __version__
from explorer.core import ExplorerError
from explorer.ui import controls
from explorer.ui.session import engine

LOGO = Path(__file__).with_name("logo.svg")

_CSS = """
<style>
.block-container { padding: 3.4rem 2rem 1.5rem; max-width: 1720px; }
[data-testid="stSidebarHeader"] { height: 3rem; margin-bottom: 0; padding-bottom: 0; }
.katex-display { padding: 0.45em 0; }
section[data-testid="stSidebar"] .katex { font-size: 0.95em; }
[data-testid="stSidebarUserContent"] { padding-top: 0.25rem; }
section[data-testid="stSidebar"] [data-testid="stVerticalBlock"] { gap: 0.7rem; }
</style>
"""


def prepare() -> None:
    """Page settings; must be the first thing a run does."""
    st.set_page_config(
        page_title="Robustness Explorer", page_icon=":material/shield:", layout="wide", initial_sidebar_state=330
    )
    st.html(_CSS)
    st.logo(LOGO, size="large")
    controls.remember_choices()


@contextmanager
def one_sentence_for_errors() -> Iterator[None]:
    """What a page could not do, as the sentence it comes with; the app goes on."""
    try:
        yield
    except ExplorerError as error:
        st.error(str(error), icon=":material/error:")


def footer() -> None:
    """One quiet line: where it runs, and which version."""
    st.caption(f"Robustness Explorer {__version__} · computing on {engine().description}")

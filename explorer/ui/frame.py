"""What surrounds every page: title, width, a few styles, and where the computing happens."""

from __future__ import annotations

import streamlit as st

from explorer import __version__
from explorer.ui.session import engine

_CSS = """
<style>
.block-container { padding: 3.4rem 2rem 1.5rem; max-width: 1720px; }
section[data-testid="stSidebar"] .block-container { padding-top: 1rem; }
section[data-testid="stSidebar"] [data-testid="stVerticalBlock"] { gap: 0.7rem; }
</style>
"""


def prepare() -> None:
    """Page settings; must be the first thing a run does."""
    st.set_page_config(
        page_title="Robustness Explorer", page_icon=":material/shield:", layout="wide", initial_sidebar_state=330
    )
    st.html(_CSS)


def footer() -> None:
    """One quiet line: where it runs, and which version."""
    st.caption(f"Robustness Explorer {__version__} · computing on {engine().description}")

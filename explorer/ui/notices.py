"""Notices: what could not be done as asked, in one sentence on the page that is drawn next; and drawing a page anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from explorer.core import ExplorerError

NOTICE, SAID = "notice", "said"  # in st.session_state: to be said, and said since somebody last did something


def notice(sentence: str) -> None:
    """Say this on the page that is drawn next, after what is to be said already."""
    before = st.session_state.get(NOTICE)
    st.session_state[NOTICE] = f"{before} {sentence}" if before and sentence not in before else sentence


@contextmanager
def noticed() -> Iterator[None]:
    """What cannot be done inside becomes the notice; the page goes on."""
    try:
        yield
    except ExplorerError as error:
        notice(str(error))


@contextmanager
def told() -> Iterator[None]:
    """As `noticed`, of what is written to a disk, too."""
    with noticed():
        try:
            yield
        except OSError as error:
            notice(f"That could not be done: {error.strerror or type(error).__name__}.")


def say_notice(already: str = "") -> bool:
    """What could not be done as asked, unless that is said `already`: it stands until somebody does something.

    Returns whether there was something to say.
    """
    state = st.session_state
    state[SAID] = state.pop(NOTICE, None)
    if state[SAID] and state[SAID] != already:
        st.warning(state[SAID], icon=":material/info:")
    return bool(state[SAID])


def draw_anew() -> None:
    """The whole page, because something has begun or ended; what it said of the reader's last doing stays."""
    if said := st.session_state.get(SAID):
        notice(said)
    st.rerun()

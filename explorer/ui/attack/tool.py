"""What the tools under a walk have in common: the button that starts one or stops it, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import streamlit as st

from explorer.core import ExplorerError
from explorer.ui.page_run import Task, Work

Item = TypeVar("Item")


def start_or_stop(task: Task[Item], name: str, label: str, icon: str, make: Callable[[], Work[Item]]) -> None:
    """The button that starts a tool, or stops it while it runs; the whole page is drawn anew, so that polling begins."""
    if task.running:
        if st.button("Cancel", icon=":material/stop_circle:", key=f"{name}.cancel", width="stretch"):
            task.stop()
    elif st.button(label, icon=icon, type="primary", key=f"{name}.run", width="stretch"):
        try:
            task.submit(make())
        except ExplorerError as error:
            st.warning(str(error), icon=":material/info:")
        else:
            st.rerun()


def answer(task: Task[Item]) -> Item | None:
    """A tool's newest answer, None before the first; what went wrong is said."""
    future = task.future
    if future is None:
        return None
    if future.state == "failed":
        st.error(str(future.error), icon=":material/error:")
    if future.state == "cancelled":
        st.info("Stopped. What was found until then is shown.", icon=":material/stop_circle:")
    if future.latest is None and not future.finished:
        st.info("Waiting for its turn.", icon=":material/hourglass:")
    return future.latest

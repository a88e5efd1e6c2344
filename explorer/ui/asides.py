"""Work aside on a page (`engine/aside.py`): what it does at this moment, and the button that ends it."""

from __future__ import annotations

from typing import Any

import streamlit as st

from explorer.engine.aside import Aside


def running(job: Aside[Any], key: str, about: str = "", more: str = "", may_cancel: bool = True) -> None:
    """One line for a piece of work that is under way. `about`: what it is called here; `more`: a sentence behind it."""
    left, right = st.columns([4, 1], vertical_alignment="center")
    left.markdown(f"**{about or job.about}**, {job.seconds:.0f} s. {job.doing} …{more}")
    if may_cancel:
        right.button("Cancel", icon=":material/stop_circle:", key=f"{key}.cancel", on_click=job.cancel, width="stretch",
                     disabled=job.cancelling)  # fmt: skip

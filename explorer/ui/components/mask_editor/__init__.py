"""A grid of 8 x 8 cells over a picture, painted with the mouse, a finger or the keyboard: one component, no build step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from explorer.ui.components import drawing

_mount = drawing.Component("mask_editor", Path(__file__).parent, "editor")


def mask_editor(picture: str, mask: str, *, key: str, label: str, on_paint: Callable[[str], None]) -> None:
    """Draw the grid over `picture` (a data URL); `mask` is 16 hexadecimal digits, row by row, the first bit top left.

    What was painted goes to `on_paint` before the page runs again, once a stroke.
    """

    def painted() -> None:
        value = st.session_state[key].painted
        if value is not None:
            on_paint(value)

    _mount(data={"picture": picture, "mask": mask, "label": label}, key=key, on_painted_change=painted)

"""Draws nothing; draws the page anew when the reader goes from a light page to a dark one or back."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

_mount = st.components.v2.component(
    "theme_change", html="<div hidden></div>", js=(Path(__file__).parent / "change.js").read_text("utf-8")
)


def follow_theme() -> None:
    """Streamlit changes its own colours in the browser alone, but figures have the inks of the page they were drawn for."""
    _mount(key="theme change", on_changed_change=lambda: None)

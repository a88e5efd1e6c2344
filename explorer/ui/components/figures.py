"""Figures (plotly) on a page: in the inks of a dark page or a light one, without plotly's own bar of buttons."""

from __future__ import annotations

from typing import Any

import streamlit as st


def dark() -> bool:
    """Whether the page is dark: a figure is drawn in the inks of the page that it is made for."""
    return st.context.theme.type == "dark"


def chart(figure: Any, key: str, **config: Any) -> None:
    """A figure at the width there is. `config`: further settings of plotly's."""
    st.plotly_chart(figure, key=key, theme=None, config={"displayModeBar": False, **config})

"""Save pictures in the browser: every figure of the page as SVG and PNG, conditions below it, and every canvas as PNG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import streamlit as st

_HERE = Path(__file__).parent
_mount = st.components.v2.component(
    "save_pictures",
    html=(_HERE / "save.html").read_text("utf-8"),
    css=(_HERE / "save.css").read_text("utf-8"),
    js=(_HERE / "save.js").read_text("utf-8"),
)


def save_pictures(stem: str, conditions: str, names: Mapping[str, str], *, key: str) -> None:
    """A list of what the page draws, with a button for each format. `names`: of figures, by their keys.

    `stem` begins every file's name; `conditions` are written below each figure.
    """
    dashed = {figure.replace(".", "-"): name for figure, name in names.items()}  # as a key stands in the page
    _mount(data={"stem": stem, "conditions": conditions, "names": dashed}, key=key)

"""UMAP maps that are missing: why, and computing one in the background, watched and stopped."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from explorer.engine.mapmaking import Making, MapMaker
from explorer.features import Maps, NoMap
from explorer.ui.notices import draw_anew, noticed
from explorer.ui.session import look_again
from explorer.ui.text import features as words

POLL = 1.0  # seconds between two looks at a map that is being computed


@st.cache_resource(show_spinner=False)
def maker() -> MapMaker:
    """Who computes UMAP maps in the background, one at a time for all sessions."""
    return MapMaker()


def show(all_maps: Sequence[Maps]) -> None:
    """Of these models, whose UMAP is missing and why; to be computed in the background, watched and stopped."""
    for maps in all_maps:
        try:
            maps.umap()
        except NoMap as why:
            making = maker().of(maps.name)
            polling = making is not None and making.state == "running"
            every, key = POLL if polling else None, f"features.missing.{maps.name}"
            look_again(_missing, maps.name, str(why), polling, every=every, key=key)


def _missing(name: str, why: str, polling: bool) -> None:
    making: Making | None = maker().of(name)
    state = making.state if making is not None else "none"
    if polling != (state == "running"):
        draw_anew()  # to begin looking again and again, or to end it
    with st.container(border=True):
        left, right = st.columns([4, 1.4], vertical_alignment="center")
        if making is not None and state == "running":
            left.markdown(
                f"**Computing the UMAP map of {words.title(name)}**, {making.seconds:.0f} s. {making.doing.rstrip(' .')} …"
            )
            left.caption(
                "In a process of its own, with one thread: a minute or more. Other pages can be used meanwhile."
            )
            right.button(
                "Cancel",
                icon=":material/stop_circle:",
                on_click=making.cancel,
                width="stretch",
                key=f"features.stop.{name}",
            )
            return
        left.markdown(f"{why} PCA is shown until then.")
        if making is not None and state == "failed":
            left.error(f"It could not be computed. {making.doing}", icon=":material/error:")
        if state == "cancelled":
            left.caption("Stopped; nothing half-made was kept.")
        right.button(
            "Compute it", type="primary", on_click=_make, args=(name,), width="stretch", key=f"features.make.{name}"
        )


def _make(name: str) -> None:
    with noticed():
        maker().start(name)

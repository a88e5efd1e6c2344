"""The trace player: one recorded walk, played and dragged through in the browser, with no message to the server.

One Streamlit component (custom components v2) that gets the whole walk once as bytes (`packing`) and draws every view
from the one current frame: original, signed perturbation and adversarial image, scores per class, the margin over the
steps and the path through the map of the model's features.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from explorer.core.trace import FeaturePath, Trace
from explorer.ui import drawing
from explorer.ui.trace_player.packing import pack

if TYPE_CHECKING:
    from streamlit.components.v2.bidi_component import ComponentResult

_mount = st.components.v2.component("trace_player", **drawing.parts(Path(__file__).parent, "player"))


def trace_player(
    trace: Trace,
    feature_path: FeaturePath | None,
    captions: Sequence[str],
    *,
    key: str,
    live: bool = False,
    autoplay: bool = True,
    title: str = "",
    group: str | None = None,
    other: FeaturePath | None = None,
    other_note: str = "",
) -> ComponentResult:
    """Show `trace`; `captions` holds one plain sentence per frame.

    While an attack runs, call it again with the same `key`, `live=True` and the longer trace: the player stays where it
    is, follows the newest frame until the user takes the slider, and shows "step t of planned". A finished trace is
    played once from its first frame when it first appears (`autoplay`), then rests on its last; a reader who asked
    their system for less motion gets the first frame that reached the goal, at rest. A trace that does not continue
    the one on show counts as a new one. The player reports nothing back, so it never causes a rerun.

    Players of one page with the same `group` share step, play, pause, speed and scale, in the browser alone: the same
    step in all of them; a walk that has ended earlier rests on its last frame. Give a new group to what is a new run.
    A narrow player leaves out the original and the map, and one of a transferred walk says so in its verdict.

    `other` is the same walk on another map of the same reference images, for the reader to choose in the browser;
    `other_note` says what that map is worth.

    Raises InvalidValue where captions, walkways and trace disagree about the number of frames.
    """
    data = pack(
        trace,
        feature_path,
        captions,
        live=live,
        autoplay=autoplay,
        title=title,
        group=group,
        other=other,
        other_note=other_note,
    )
    return _mount(key=key, data=data)


__all__ = ["trace_player"]

"""The trace player: one recorded walk, played and dragged through in the browser, with no message to the server.

One Streamlit component (custom components v2) that gets each frame once, as bytes (`packing`), and draws every view
from the one current frame: original, signed perturbation and adversarial image, scores per class, the margin over the
steps and the path through the map of the model's features.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from explorer.core.trace import FeaturePath, Trace
from explorer.ui.components import drawing
from explorer.ui.components.files import publish
from explorer.ui.components.trace_player.packing import CLOCKS, PASSES, STEPS, pack

if TYPE_CHECKING:
    from streamlit.components.v2.bidi_component import ComponentResult

_mount = drawing.Component("trace_player", Path(__file__).parent, "player")


def trace_player(
    trace: Trace,
    feature_path: FeaturePath | None,
    captions: Sequence[str],
    remark: tuple[int, str] | None = None,
    *,
    key: str,
    live: bool = False,
    autoplay: bool = True,
    title: str = "",
    group: str | None = None,
    clock: str = STEPS,
    other: FeaturePath | None = None,
    other_note: str = "",
) -> ComponentResult:
    """Show `trace`; `captions` holds one plain sentence per frame, `remark` (frame, words) is added to one of them.

    While an attack runs, call it again with the same `key`, `live=True` and the longer trace: the player stays where it
    is, follows the newest frame until the user takes the slider, and shows "step t of planned". A finished trace is
    played once from its first frame when it first appears (`autoplay`), then rests on its last; a reader who asked
    their system for less motion gets the first frame that reached the goal, at rest. A trace that does not continue
    the one on show counts as a new one. The player reports nothing back, so it never causes a rerun.

    Players of one page with the same `group` share step, play, pause, speed and scale, in the browser alone: the same
    step in all of them, or by the other `clock` the frame that each had after so many passes, which is fairer to attacks
    whose steps cost differently; a walk that has ended earlier rests on its last frame. Give a new group to what is a new run.
    A narrow player leaves out the original and the map, and one of a transferred walk says so in its verdict.

    `other` is the same walk on another map of the same reference images, for the reader to choose in the browser;
    `other_note` says what that map is worth.

    Frames are handed out as files of this session, which the browser fetches once: what a longer walk sends is its new frames.

    Raises InvalidValue as `pack` does.
    """
    state = st.session_state
    stops = state.get(f"{key}.sent", [])
    data = pack(
        trace,
        feature_path,
        captions,
        remark=remark,
        live=live,
        autoplay=autoplay,
        title=title,
        group=group,
        clock=clock,
        other=other,
        other_note=other_note,
        stops=stops,
        publish=_Files(key).publish,
    )
    state[f"{key}.sent"] = [stop for stop in stops if stop < len(trace)] + [len(trace)]
    return _mount(key=key, data=data)


class _Files:
    """Where the browser finds the parts of one player: Streamlit keeps a file while a session's page refers to it."""

    def __init__(self, key: str):
        self._key, self._count = key, 0

    def publish(self, part: bytes) -> str:
        self._count += 1
        return publish(part, "application/octet-stream", f"{self._key}.{self._count}")


__all__ = ["CLOCKS", "PASSES", "STEPS", "trace_player"]

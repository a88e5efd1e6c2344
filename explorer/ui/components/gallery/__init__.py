"""A grid of small pictures to click on: one component, pixel-sharp, reachable by keyboard."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from explorer.ui.components import drawing


@dataclass(frozen=True)
class Thumb:
    """One picture: what choosing it returns, its PNG as a data URL, and its name for screen readers and on hover."""

    value: int
    url: str
    name: str


_mount = drawing.Component("gallery", Path(__file__).parent, "gallery")


def gallery(
    thumbs: Sequence[Thumb],
    chosen: Collection[int],
    *,
    key: str,
    label: str,
    on_pick: Callable[[list[int]], None],
    most: int = 1,
    keys: Mapping[str, str] | None = None,
) -> None:
    """Draw the grid, the `chosen` marked; a click goes to `on_pick` before the page runs again, with all that are then chosen.

    Of several (`most` > 1) a second click takes one away again, and one too many comes all the same, not marked. A click
    is marked at once; one that a page still on its way does not know of stays. `keys`: keyboard keys that press a button of the
    page, of this `key`, wherever the focus is but where one types.
    """

    def picked() -> None:
        values = st.session_state[key].picked
        if values is not None:
            on_pick(values)

    drawn = [[t.value, t.url, t.name] for t in thumbs]
    data = {"label": label, "chosen": list(chosen), "most": most, "thumbs": drawn, "keys": dict(keys or {})}
    _mount(data=data, key=key, on_picked_change=picked)

"""A grid of small pictures to click on: one component, pixel-sharp, reachable by keyboard."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Thumb:
    """One picture: what choosing it returns, its PNG as a data URL, and its name for screen readers and on hover."""

    value: int
    url: str
    name: str


_mount = st.components.v2.component(
    "gallery",
    html='<div class="grid" role="group"></div>',
    **{kind: (_HERE / f"gallery.{kind}").read_text("utf-8") for kind in ("css", "js")},
)


def gallery(thumbs: Sequence[Thumb], chosen: Collection[int], *, key: str, label: str) -> int | None:
    """Draw the grid, the `chosen` marked; returns the value just clicked, else None."""
    data = {"label": label, "chosen": list(chosen), "thumbs": [[t.value, t.url, t.name] for t in thumbs]}
    return _mount(data=data, key=key, on_picked_change=lambda: None).picked

"""Pixels as PNG in a page."""

from __future__ import annotations

import base64
from html import escape

import numpy as np
from streamlit.delta_generator import DeltaGenerator

from explorer.data.pictures import reduced, to_png

__all__ = ["large", "thumb_url", "to_png", "to_url"]


THUMB = 96  # pixels a side at most


def to_url(pixels: np.ndarray) -> str:
    """A data URL of the picture at its own size."""
    return "data:image/png;base64," + base64.b64encode(to_png(pixels)).decode()


def thumb_url(pixels: np.ndarray) -> str:
    """As `to_url`, of a picture made small enough for a gallery."""
    return to_url(reduced(pixels[None], THUMB)[0])


def large(place: DeltaGenerator, pixels: np.ndarray, caption: str) -> None:
    """Large and sharp. As a data URL: what `st.image` serves is gone where a running strip is drawn again and again."""
    url = to_url(pixels)
    place.html(
        f'<img src="{url}" alt="{escape(caption)}" style="width:100%;image-rendering:pixelated;border-radius:8px">'
    )
    place.caption(caption, text_alignment="center")

"""Pixels as PNG in a page."""

from __future__ import annotations

import base64

import numpy as np

from explorer.data.pictures import to_png

__all__ = ["to_png", "to_url"]


def to_url(pixels: np.ndarray) -> str:
    """A data URL of the picture at its own size."""
    return "data:image/png;base64," + base64.b64encode(to_png(pixels)).decode()

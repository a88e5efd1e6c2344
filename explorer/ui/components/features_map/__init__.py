"""Images on maps of a model's features: one component for one model or two, with thumbnails, moved through in the browser.

Python packs the reference images' places, the attacked images' paths and the words; the browser draws, plays, turns and
shows thumbnails without asking again. The thumbnails travel once, as one picture (`thumbnails`), and every map finds
them by the dataset's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import streamlit as st

from explorer.ui.components import drawing
from explorer.ui.components.features_map.packing import Ground, Moves, pack, sheet

_HERE = Path(__file__).parent
_map = drawing.Component("features_map", _HERE, "map")
_sheet = drawing.Component("thumbnails", _HERE, "sheet")


def features_map(
    grounds: Sequence[Ground],
    rows: np.ndarray,
    kinds: np.ndarray,
    classes: Sequence[str],
    dataset: str,
    moves: Moves | None = None,
    *,
    key: str,
    live: bool = False,
) -> None:
    """Draw each ground, side by side; see `pack`. It reports nothing back, so it never causes a rerun.

    Call it again with the same `key` and longer `moves` while an attack runs: it follows the newest step until the
    reader takes the slider. What was chosen in the browser (a class, a turn, a step) stays.
    """
    _map(key=key, data=pack(grounds, rows, kinds, classes, dataset, moves, live=live))


def thumbnails(dataset: str, pixels: np.ndarray, *, key: str) -> None:
    """Hand the small pictures (n,C,H,W) uint8 of a dataset to all its maps on this page, now and later."""
    _sheet(key=key, data=_packed_sheet(dataset, len(pixels), pixels))


@st.cache_data(show_spinner=False, max_entries=4)
def _packed_sheet(dataset: str, n: int, _pixels: np.ndarray) -> bytes:
    """The dataset's name and number of pictures say which they are: the bundled ones never change."""
    return sheet(dataset, _pixels)


__all__ = ["Ground", "Moves", "features_map", "thumbnails"]

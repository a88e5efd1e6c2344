"""Transfer matrix as a heat map: rows are the models that pictures are made on, columns those that they are tried on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from explorer.plots._matrix import heat_map
from explorer.plots.theme import STATE_COLORS

ROOM, ROW = 150, 46  # pixels: around the cells, and of each row


def matrix(
    names: Sequence[str], rate: np.ndarray, low: np.ndarray, high: np.ndarray, n: np.ndarray, *, dark: bool = False
) -> go.Figure:
    """rate, low, high (K,K) in [0,1], nan where nothing is measured; n (K,K) pictures of each cell. The diagonal is white-box."""
    hover = [
        [
            "not measured" if np.isnan(rate[i, j])
            else f"made on {a}, tried on {b}: {100 * rate[i, j]:.1f} % [{100 * low[i, j]:.1f} to {100 * high[i, j]:.1f}], n={int(n[i, j])}"
            for j, b in enumerate(names)
        ]
        for i, a in enumerate(names)
    ]  # fmt: skip
    height = ROOM + ROW * len(names)
    return heat_map(names, names, rate, hover, STATE_COLORS["fooled"], top=90, height=height, dark=dark)

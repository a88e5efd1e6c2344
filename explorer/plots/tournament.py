"""A class's attacks against its networks as a heat map of robust accuracy; a network whose gradients may be masked has a red frame."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import plotly.graph_objects as go

from explorer.plots._matrix import heat_map
from explorer.plots.certify import BROKEN
from explorer.plots.theme import STATE_COLORS

ROOM, ROW = 100, 42  # pixels: around the cells, and of each row


def attacks_by_networks(
    attacks: Sequence[str],
    networks: Sequence[str],
    accuracy: np.ndarray,
    hover: Sequence[Sequence[str]],
    flagged: Collection[str] = (),
    *,
    dark: bool = False,
) -> go.Figure:
    """accuracy (A,D) in [0,1], nan where nothing is measured; `hover` says each cell in words; `flagged`: of `networks`."""
    height = ROOM + ROW * len(attacks)
    figure = heat_map(attacks, networks, accuracy, hover, STATE_COLORS["holds"], top=40, height=height, dark=dark)
    for at, name in enumerate(networks):
        if name in flagged:
            figure.add_shape(
                type="rect", x0=at - 0.48, x1=at + 0.48, y0=-0.48, y1=len(attacks) - 0.52, line={"color": BROKEN, "width": 3}
            )  # fmt: skip
    return figure

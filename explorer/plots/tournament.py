"""A class's attacks against its networks as a heat map of robust accuracy; a network whose gradients may be masked has a red frame."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import plotly.graph_objects as go

from explorer.plots._page import inks, quiet_layout
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
    text = [["–" if np.isnan(one) else f"{100 * one:.0f}" for one in row] for row in accuracy]
    figure = go.Figure(
        go.Heatmap(
            z=100 * accuracy, x=list(networks), y=list(attacks), text=text, texttemplate="%{text}", customdata=hover,
            hovertemplate="%{customdata}<extra></extra>", zmin=0, zmax=100, showscale=False, xgap=2, ygap=2,
            colorscale=[[0, inks(dark).page], [1, STATE_COLORS["holds"]]],
        )
    )  # fmt: skip
    for at, name in enumerate(networks):
        if name in flagged:
            figure.add_shape(
                type="rect", x0=at - 0.48, x1=at + 0.48, y0=-0.48, y1=len(attacks) - 0.52, line={"color": BROKEN, "width": 3}
            )  # fmt: skip
    figure.update_xaxes(side="top", showgrid=False, automargin=True)
    figure.update_yaxes(autorange="reversed", showgrid=False, automargin=True)
    margin = {"l": 12, "r": 12, "t": 40, "b": 12}
    return quiet_layout(figure, dark, height=ROOM + ROW * len(attacks), dragmode=False, margin=margin)

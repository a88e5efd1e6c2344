"""Transfer matrix as a heat map: rows are the models that pictures are made on, columns those that they are tried on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from explorer.plots._page import inks, quiet_layout
from explorer.plots.theme import STATE_COLORS

ROOM, ROW = 150, 46  # pixels: around the cells, and of each row


def matrix(
    names: Sequence[str], rate: np.ndarray, low: np.ndarray, high: np.ndarray, n: np.ndarray, *, dark: bool = False
) -> go.Figure:
    """rate, low, high (K,K) in [0,1], nan where nothing is measured; n (K,K) pictures of each cell. The diagonal is white-box."""
    text = [[_said(rate[i, j]) for j in range(len(names))] for i in range(len(names))]
    hover = [
        [
            "not measured" if np.isnan(rate[i, j])
            else f"made on {a}, tried on {b}: {100 * rate[i, j]:.1f} % [{100 * low[i, j]:.1f} to {100 * high[i, j]:.1f}], n={int(n[i, j])}"
            for j, b in enumerate(names)
        ]
        for i, a in enumerate(names)
    ]  # fmt: skip
    figure = go.Figure(
        go.Heatmap(
            z=100 * rate, x=list(names), y=list(names), text=text, texttemplate="%{text}", customdata=hover,
            hovertemplate="%{customdata}<extra></extra>", zmin=0, zmax=100, showscale=False, xgap=2, ygap=2,
            colorscale=[[0, inks(dark).page], [1, STATE_COLORS["fooled"]]],
        )
    )  # fmt: skip
    figure.update_xaxes(side="top", showgrid=False, automargin=True)
    figure.update_yaxes(autorange="reversed", showgrid=False, automargin=True)
    margin = {"l": 12, "r": 12, "t": 90, "b": 12}
    return quiet_layout(figure, dark, height=ROOM + ROW * len(names), dragmode=False, margin=margin)


def _said(value: float) -> str:
    return "–" if np.isnan(value) else f"{100 * value:.0f}"

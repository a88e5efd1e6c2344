"""Matrix of shares as a heat map: a number in each cell, rows from the top, columns named above."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from explorer.plots._page import inks, quiet_layout


def heat_map(
    rows: Sequence[str], columns: Sequence[str], share: np.ndarray, hover: Sequence[Sequence[str]], color: str, *,
    top: int, height: int, dark: bool,
) -> go.Figure:  # fmt: skip
    """share (R,C) in [0,1], nan where nothing is measured; `hover` says each cell in words; `top`: pixels for the columns' names."""
    text = [["–" if np.isnan(one) else f"{100 * one:.0f}" for one in row] for row in share]
    figure = go.Figure(
        go.Heatmap(
            z=100 * share, x=list(columns), y=list(rows), text=text, texttemplate="%{text}", customdata=hover,
            hovertemplate="%{customdata}<extra></extra>", zmin=0, zmax=100, showscale=False, xgap=2, ygap=2,
            colorscale=[[0, inks(dark).page], [1, color]],
        )
    )  # fmt: skip
    figure.update_xaxes(side="top", showgrid=False, automargin=True)
    figure.update_yaxes(autorange="reversed", showgrid=False, automargin=True)
    return quiet_layout(figure, dark, height=height, dragmode=False, margin={"l": 12, "r": 12, "t": top, "b": 12})

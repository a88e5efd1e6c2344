"""Inference steps at test time: an answer or the energy over them, for a picture and its attacked one."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from explorer.plots._page import inks, quiet_layout
from explorer.plots.theme import series_color

HEIGHT = 300
NAMES = ("the picture", "the attacked picture")


def answers_over_steps(
    values: np.ndarray, trained: int, name: str, *, share: bool = False, dark: bool = False
) -> go.Figure:
    """Two lines of values (T,2) over T = 0, 1, ... steps; `trained` is marked. `share`: values in [0,1]."""
    figure, ink = go.Figure(), inks(dark)
    for which, title in enumerate(NAMES):
        hover = f"{title}, %{{x}} steps: %{{y:{'.1%' if share else '.4g'}}}<extra></extra>"
        line = {"width": 2, "color": series_color(which)}
        x, y = np.arange(len(values)), values[:, which]
        figure.add_trace(go.Scatter(x=x, y=y, name=title, mode="lines+markers", line=line, hovertemplate=hover))
    figure.add_vline(x=trained, line={"color": ink.quiet, "width": 1.5, "dash": "dash"})
    figure = quiet_layout(figure, dark, height=HEIGHT)
    figure.update_layout(legend={"yanchor": "bottom", "y": 1.01}, margin={"t": 34})
    figure.update_xaxes(title="inference steps (dashed: of training)", rangemode="tozero")
    figure.update_yaxes(title=name, **({"range": [-0.02, 1.02], "tickformat": ".0%"} if share else {}))
    return figure

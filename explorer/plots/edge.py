"""How far is the edge: what each minimal attack found over the passes that were spent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from explorer.plots._page import inks, quiet_layout
from explorer.plots.theme import series_color

HEIGHT = 360
WIDE = 5  # times the nearest: beyond that a logarithmic axis


def found_over_passes(
    attacks: Sequence[tuple[str, np.ndarray, np.ndarray, int]], unit: str, *, dark: bool = False
) -> go.Figure:
    """One falling line an attack: its name, passes (S,) at which it came nearer, distances (S,), passes in all.

    Each begins where the one before has ended, so that the axis is all that was spent.
    """
    ink, figure, begun = inks(dark), go.Figure(), 0
    nearest = min((float(far.min()) for _, _, far, _ in attacks if len(far)), default=None)
    for k, (name, passes, far, spent) in enumerate(attacks):
        x, y = np.r_[begun + passes, begun + spent], np.r_[far, far[-1:]]
        begun += spent
        if len(far):
            hover = f"{name}<br>%{{x:,}} passes: %{{y:.4g}} {unit}<extra></extra>"
            line = {"shape": "hv", "width": 2, "color": series_color(k)}
            figure.add_trace(go.Scatter(x=x, y=y, name=name, mode="lines+markers", line=line, hovertemplate=hover))
    if nearest is not None:
        figure.add_hline(y=nearest, line={"color": ink.quiet, "width": 1.5, "dash": "dash"})
    figure = quiet_layout(figure, dark, height=HEIGHT)
    figure.update_layout(legend={"yanchor": "bottom", "y": 1.01}, margin={"t": 34})
    figure.update_xaxes(title="forward and backward passes", rangemode="tozero")
    farthest = max((float(found.max()) for _, _, found, _ in attacks if len(found)), default=0.0)
    wide = bool(nearest) and farthest > WIDE * (nearest or farthest)
    figure.update_yaxes(title=f"nearest success ({unit})", type="log" if wide else "linear", dtick=1 if wide else None)
    return figure

"""The search for the smallest eps: each attack made, by its eps and by how much the model still leads."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from explorer.plots._page import inks, quiet_layout
from explorer.plots.theme import STATE_COLORS

HEIGHT = 360
VIEW = 2.5  # of the smallest eps that succeeded


def probes(
    eps: np.ndarray,
    margin: np.ndarray,
    reached: np.ndarray,
    clean: float | None,
    held: float | None,
    fooled: float | None,
    *,
    unit: str,
    margin_name: str,
    dark: bool = False,
) -> go.Figure:
    """eps (P,) in `unit`, margin (P,) after the attack (below 0: done), reached (P,) by the verdict; in order of trial.

    `clean`: the margin of the untouched image. `held` and `fooled`: the interval that was found, shaded. The view ends at
    `VIEW` times the answer; the figure says in words which eps beyond it were tried, and they are still to be scrolled to.
    """
    ink = inks(dark)
    figure = go.Figure()
    if held is not None and fooled is not None:
        figure.add_vrect(x0=held, x1=fooled, fillcolor=ink.quiet, opacity=0.35, line_width=0)
    figure.add_hline(y=0, line={"color": ink.quiet, "width": 1.5, "dash": "dash"})
    order = np.argsort(eps)
    x, y = eps[order], margin[order]
    if clean is not None:
        x, y = np.r_[0.0, x], np.r_[clean, y]
        figure.add_trace(_points([0.0], [clean], [""], "untouched picture", "circle-open", ink.text, unit))
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="lines",
            line={"color": ink.quiet, "width": 1},
            hoverinfo="skip",
            showlegend=False,
            name="line",
        )
    )
    numbers = np.array([f"probe {i + 1}, " for i in range(len(eps))])
    for name, mask, symbol, color in (("held", ~reached, "square", "holds"), ("fooled", reached, "x", "fooled")):
        if mask.any():
            color = STATE_COLORS[color]
            figure.add_trace(_points(eps[mask], margin[mask], numbers[mask], name, symbol, color, unit))
    figure = quiet_layout(figure, dark, height=HEIGHT)
    figure.update_layout(legend={"yanchor": "bottom", "y": 1.01}, margin={"t": 34})
    figure.update_xaxes(title=f"eps ({unit})", rangemode="tozero", showgrid=True)
    beyond = [] if fooled is None else sorted(float(e) for e in eps if e > VIEW * fooled)
    if fooled is not None and beyond:
        figure.update_xaxes(range=[0, VIEW * fooled])
        tried = ", ".join(f"{e:.4g}" for e in beyond)
        figure.add_annotation(
            text=f"also tried: {tried} →", xref="paper", x=1, xanchor="right", yref="paper", y=1, yanchor="top",
            showarrow=False, font={"color": ink.quiet},
        )  # fmt: skip
    figure.update_yaxes(title=margin_name, showgrid=True)
    return figure


def _points(x, y, number, name: str, symbol: str, color: str, unit: str) -> go.Scatter:
    return go.Scatter(
        x=x,
        y=y,
        mode="markers",
        name=name,
        customdata=number,
        marker={"symbol": symbol, "size": 11, "color": color, "line": {"color": color, "width": 1}},
        hovertemplate=f"%{{customdata}}eps %{{x:.4g}} {unit}: {name}<br>margin %{{y:.3g}}<extra></extra>",
    )

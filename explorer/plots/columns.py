"""Figures of column smoothing: for what each look votes, where a patch could turn the vote, and the counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from explorer.plots._page import inks, quiet_layout
from explorer.plots.theme import STATE_COLORS, class_color, class_shape

HEIGHT = 340


def looks(
    ballots: np.ndarray,
    names: Sequence[str],
    reached: np.ndarray,
    turning: np.ndarray,
    patch: int,
    *,
    dark: bool = False,
) -> go.Figure:
    """Votes (W,K) of the looks, by leftmost column; `reached` (W,): those that the chosen patch touches; `turning` (P,): the
    patch's leftmost columns from which it could turn the vote."""
    ink, across = inks(dark), len(ballots)
    figure = go.Figure()
    for w in np.flatnonzero(reached):
        figure.add_vrect(x0=w - 0.5, x1=w + 0.5, fillcolor=ink.grid, line_width=0, layer="below")
    at, voted = (found.tolist() for found in np.nonzero(ballots))
    figure.add_scatter(
        x=at, y=[names[k] for k in voted], mode="markers", name="a look's vote", showlegend=False,
        marker={"symbol": [class_shape(k) for k in voted], "color": [class_color(k) for k in voted], "size": 9},
        hovertemplate="the look at column %{x} votes for %{y}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=turning, y=["patch"] * len(turning), mode="markers", name="a patch that begins here could turn the vote",
        marker={"symbol": "triangle-right", "color": STATE_COLORS["fooled"], "size": 9},
        hovertemplate=f"columns %{{x}} to %{{customdata}}: a patch {patch} wide could turn the vote<extra></extra>",
        customdata=turning + patch - 1,
    )  # fmt: skip
    figure.update_xaxes(title="leftmost column of the look; grey: touched by the patch", range=[-0.7, across - 0.3])
    figure.update_yaxes(
        categoryorder="array",
        categoryarray=["patch", *reversed(names)],
        range=[-0.6, len(names) + 0.6],
        automargin=True,
    )
    quiet_layout(figure, dark, height=HEIGHT, dragmode=False, hovermode="closest", showlegend=bool(len(turning)))
    return figure.update_layout(margin={"l": 88}, legend={"y": -0.2})


def counts(now: np.ndarray, left: np.ndarray, gained: int, names: Sequence[str], *, dark: bool = False) -> go.Figure:
    """Votes (K,) now, those that the chosen patch leaves, and how many a class reaches that gets all it touches."""
    ink = inks(dark)
    figure = go.Figure()
    figure.add_bar(
        x=now, y=list(names), orientation="h", marker={"color": [class_color(k) for k in range(len(names))]}, showlegend=False,
        text=[str(n) if n else "" for n in now], textposition="inside",
        insidetextanchor="start", constraintext="none", textangle=0, cliponaxis=False, name="votes",
        hovertemplate="%{y}: %{x} votes<extra></extra>",
    )  # fmt: skip
    for at, symbol, name in (
        (left, "line-ns", "without the looks that the patch touches"),
        (left + gained, "diamond-open", "with all of them"),
    ):
        figure.add_scatter(
            x=at, y=list(names), mode="markers", name=name,
            marker={"symbol": symbol, "size": 15 if symbol == "line-ns" else 9, "color": ink.text, "line": {"width": 2, "color": ink.text}},
            hovertemplate=f"%{{y}}, {name}: %{{x}}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title="votes of the looks", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", showgrid=False, automargin=True)
    quiet_layout(figure, dark, height=HEIGHT, dragmode=False)
    return figure.update_layout(margin={"l": 88}, legend={"y": -0.2})

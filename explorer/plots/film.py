"""A run as a film: the decision boundary around one picture from update to update, and the tape of all held-out pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from explorer.plots._page import inks, quiet_layout
from explorer.plots.theme import STATE_COLORS, class_color, class_shape

HEIGHT, TAPE_HEIGHT = 600, 460
FADE = 0.6  # how far an unsure answer fades into the page
FRAME_MS = 120  # of the film when played
STATES = ("wrong", "fooled", "holds")  # of a picture after an epoch, as numbers 0, 1, 2


def boundary(
    updates: Sequence[int],
    classes: np.ndarray,
    sure: np.ndarray,
    along: np.ndarray,
    across: np.ndarray,
    names: Sequence[str],
    *,
    dark: bool = False,
) -> go.Figure:
    """The classes (T,S,S) seen on a plane after each of T `updates`, paler where less sure (T,S,S) of 255; the last one stands.

    along, across (S,): coordinates of columns and rows, in eps.
    """
    ink, shown = inks(dark), [int(k) for k in np.unique(classes)]
    place = np.searchsorted(shown, classes).astype(np.uint8)
    colors = [class_color(k) for k in shown]
    scale = [(edge, colors[i]) for i in range(len(shown)) for edge in (i / len(shown), (i + 1) / len(shown))]
    fixed = {"x": along, "y": across, "showscale": False, "hoverinfo": "skip"}
    veil = [(0, ink.page), (1, "rgba(0,0,0,0)")]
    maps = (
        go.Heatmap(z=place[-1], colorscale=scale, zmin=-0.5, zmax=len(shown) - 0.5, **fixed),
        go.Heatmap(z=sure[-1], colorscale=veil, zmin=0, zmax=255, opacity=FADE, **fixed),
    )
    figure = go.Figure(list(maps))
    figure.frames = [
        go.Frame(name=str(update), data=[{"type": "heatmap", "z": place[t]}, {"type": "heatmap", "z": sure[t]}], traces=[0, 1])
        for t, update in enumerate(updates)
    ]  # fmt: skip
    mark = {"color": ink.page, "size": 11, "symbol": ["circle", "x"], "line": {"color": ink.text, "width": 2}}
    figure.add_trace(go.Scatter(x=[0, 1], y=[0, 0], mode="markers", showlegend=False, hoverinfo="skip", marker=mark))
    for spot, words in ((0, "the picture"), (1, "one FGSM step")):
        figure.add_annotation(
            x=spot, y=0, yshift=20, text=words, showarrow=False, bgcolor=ink.page, opacity=0.85, borderpad=2,
            font={"color": ink.text},
        )  # fmt: skip
    for k in shown:
        mark = {"color": class_color(k), "symbol": class_shape(k), "size": 11}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", name=names[k], marker=mark, hoverinfo="skip"))
    figure = quiet_layout(figure, dark, height=HEIGHT, dragmode=False)
    figure.update_xaxes(title="along one FGSM step of the network then (in eps)", constrain="domain")
    figure.update_yaxes(title="sideways (in eps)", scaleanchor="x", constrain="domain")
    if len(updates) > 1:
        _controls(figure, updates, ink.text, ink.quiet)
    return figure


def _controls(figure: go.Figure, updates: Sequence[int], ink: str, quiet: str) -> None:
    """A play button, and a slider over the updates, which stands at the last one."""

    def motion(milliseconds: int) -> dict[str, object]:
        return {"mode": "immediate", "frame": {"duration": milliseconds, "redraw": True}, "transition": {"duration": 0}}

    steps = [{"method": "animate", "label": f"{u:,}", "args": [[str(u)], motion(0)]} for u in updates]
    every = [[str(u) for u in updates], motion(FRAME_MS)]
    buttons = [
        {"method": "animate", "label": "Play", "args": every},
        {"method": "animate", "label": "Pause", "args": [[None], motion(0)]},
    ]
    style = {"bgcolor": "rgba(0,0,0,0)", "bordercolor": quiet, "font": {"color": ink}}
    figure.update_layout(
        updatemenus=[
            {"type": "buttons", "direction": "left", "showactive": False, "buttons": buttons, "x": 0, "y": 1.02,
             "xanchor": "left", "yanchor": "bottom", "pad": {"t": 0}, **style}
        ],
        sliders=[
            {"active": len(updates) - 1, "steps": steps, "y": -0.16, "ticklen": 0, "minorticklen": 0, "bgcolor": quiet,
             "font": {"color": "rgba(0,0,0,0)", "size": 1}, "bordercolor": quiet,
             "currentvalue": {"prefix": "after update ", "font": {"color": ink, "size": 13}}}
        ],
        margin={"t": 48, "b": 190},
        legend={"y": -0.48},
    )  # fmt: skip


def tape(epochs: Sequence[int], states: np.ndarray, words: Sequence[str], *, dark: bool = False) -> go.Figure:
    """One row a held-out picture, one column an epoch: states (N,E) 0, 1 or 2, named by `words` (three); None hides one.

    The rows are sorted: what holds longest on top.
    """
    order = np.lexsort((states.sum(1), states[:, -1]))
    scale = [(edge, STATE_COLORS[name]) for i, name in enumerate(STATES) for edge in (i / 3, (i + 1) / 3)]
    figure = go.Figure(
        go.Heatmap(
            x=list(epochs), z=states[order].astype(np.uint8), colorscale=scale, zmin=-0.5, zmax=2.5, showscale=False,
            hoverinfo="skip",
        )
    )  # fmt: skip
    for state, word in zip(STATES, words, strict=True):
        if word:
            mark = {"color": STATE_COLORS[state], "symbol": "square", "size": 11}
            figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", name=word, marker=mark, hoverinfo="skip"))
    figure = quiet_layout(figure, dark, height=TAPE_HEIGHT, dragmode=False)
    figure.update_xaxes(title="epoch", dtick=max(1, len(epochs) // 12))
    figure.update_yaxes(title="held-out pictures", showticklabels=False)
    return figure.update_layout(legend={"y": -0.2})

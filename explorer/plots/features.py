"""What an attack does in feature space, as figures: arrays in, figures out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from explorer.plots._page import inks, quiet_layout, step_ticks
from explorer.plots.theme import series_color

HEIGHT = 320  # pixels
DASHES = ("solid", "dash", "dot", "dashdot")
OWN, FALSE = 2, 1  # which of the series colours: own class's centre, false class's


def distances(steps: Sequence[float], own: np.ndarray, toward: np.ndarray, *, dark: bool = False) -> go.Figure:
    """Distances (T,n) of n images to the centre of their own class and to that of their false one, along their walks.

    A line is the mean over the images, the band around it holds their middle half. `steps` (T,) is the x axis; the last
    row is the best point found, drawn as a mark after the walk. Frame 0 is the original, 1 the attack's start; the axis
    names them, and counts the steps, as the player does.
    """
    figure = go.Figure()
    x, best = np.asarray(steps, float)[:-1], float(steps[-1])
    for name, values, series, dash in (
        ("own class's centre", own, OWN, "solid"),
        ("false class's centre", toward, FALSE, "dash"),
    ):
        values = np.asarray(values, float)
        color = series_color(series)
        n = values.shape[1]
        if n > 1 and len(x):
            low, high = np.quantile(values[:-1], [0.25, 0.75], axis=1)
            figure.add_scatter(
                x=np.concatenate([x, x[::-1]]),
                y=np.concatenate([high, low[::-1]]),
                mode="lines",
                line={"width": 0},
                fill="toself",
                fillcolor=color + "30",
                hoverinfo="skip",
                showlegend=False,
                name=f"{name}, middle half",
            )
        figure.add_scatter(
            x=x,
            y=values[:-1].mean(1),
            name=f"to the {name}",
            mode="lines",
            line={"color": color, "width": 2.5, "dash": dash},
            customdata=[{0: "original", 1: "start"}.get(int(step), f"step {step - 1:g}") for step in x],
            hovertemplate=f"%{{customdata}}: %{{y:.3g}}<extra>to the {name}, mean of {n}</extra>",
        )
        figure.add_scatter(
            x=[best + 1],
            y=[values[-1].mean()],
            mode="markers",
            marker={"size": 11, "symbol": "circle" if dash == "solid" else "diamond", "color": color},
            hovertemplate=f"the best found: %{{y:.3g}}<extra>to the {name}, mean of {n}</extra>",
            showlegend=False,
            name=f"{name}, the best found",
        )
    figure.update_xaxes(title="step of the attack", range=[0, best + 1.5], **step_ticks(int(best), before=2, best=True))
    figure.update_yaxes(title="distance, full feature space", rangemode="tozero")
    return quiet_layout(figure, dark, height=HEIGHT, dragmode=False, hovermode="closest")


@dataclass(frozen=True, eq=False)
class Curve:
    """One detector's ROC curve on one model."""

    name: str  # in the legend, with the area
    group: int  # curves of one model share a colour ...
    kind: int  # ... and those of one detector a dash
    false_alarms: np.ndarray  # (P,)
    caught: np.ndarray  # (P,)


def detection(curves: Sequence[Curve], *, dark: bool = False) -> go.Figure:
    """ROC curves: the share of attacked images caught over the share of clean ones called attacked."""
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 100], y=[0, 100], mode="lines", line={"color": inks(dark).quiet, "width": 1}, name="guessing",
        hoverinfo="skip", showlegend=False,
    )  # fmt: skip
    for curve in curves:
        figure.add_scatter(
            x=100 * curve.false_alarms,
            y=100 * curve.caught,
            name=curve.name,
            mode="lines",
            line={"color": series_color(curve.group), "width": 2.5, "dash": DASHES[curve.kind % len(DASHES)]},
            hovertemplate="%{y:.0f} % caught at %{x:.0f} % false alarms<extra></extra>",
        )
    figure.update_xaxes(title="% of clean images called attacked", range=[0, 101])
    figure.update_yaxes(title="% of attacked images caught", range=[0, 101])
    quiet_layout(figure, dark, height=HEIGHT + 44 * len(curves), dragmode=False, hovermode="closest")
    return figure.update_layout(legend={"orientation": "v", "y": -0.22})


@dataclass(frozen=True, eq=False)
class Moved:
    """How far images went toward a class: one number each, their mean and its 95 % interval."""

    name: str
    group: int  # as in Curve
    each: np.ndarray | None  # (n,); None: only the mean is drawn
    mean: float
    low: float | None
    high: float | None
    n: int


def shifts(rows: Sequence[Moved], *, dark: bool = False) -> go.Figure:
    """Means with their intervals from the top, each image a small mark; 0 is not at all, 1 all the way to the centre."""
    figure = go.Figure()
    for row in rows:
        color = series_color(row.group)
        if row.each is not None:
            figure.add_scatter(
                x=row.each,
                y=[row.name] * len(row.each),
                mode="markers",
                marker={"symbol": "line-ns", "size": 12, "opacity": 0.6, "line": {"width": 1.5, "color": color}},
                hovertemplate="one image: %{x:.2f}<extra></extra>",
                showlegend=False,
            )
        error = None
        if row.low is not None and row.high is not None:
            error = {
                "type": "data", "symmetric": False, "array": [row.high - row.mean], "arrayminus": [row.mean - row.low],
                "thickness": 2.5, "width": 7, "color": inks(dark).text,
            }  # fmt: skip
        words = "" if row.low is None or row.high is None else f", 95 % interval {row.low:.2f} to {row.high:.2f}"
        figure.add_scatter(
            x=[row.mean],
            y=[row.name],
            mode="markers",
            marker={"symbol": "diamond", "size": 12, "color": color, "line": {"width": 1.5, "color": inks(dark).text}},
            error_x=error,
            hovertemplate=f"mean of {row.n}: {row.mean:.2f}{words}<extra></extra>",
            showlegend=False,
        )
    for at, dash in ((0, "solid"), (1, "dash")):
        figure.add_vline(x=at, line={"color": inks(dark).quiet, "width": 1, "dash": dash})
    figure.update_xaxes(title="share of the way from centre to centre")
    figure.update_yaxes(autorange="reversed", showgrid=False, automargin=True)
    return quiet_layout(figure, dark, height=130 + 48 * len(rows), dragmode=False, hovermode="closest")

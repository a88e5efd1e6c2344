"""Figures of certified radii: certified accuracy by radius with the pictures' histogram, proof against attack, and what a proof costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from explorer.plots._page import inks, quiet_layout
from explorer.plots.theme import STATE_COLORS, series_color, series_mark

HEIGHT = 300
AXES = {"l2": "radius (L2, pixel range)", "linf": "radius (L∞, pixel range)", "patch": "side of the patch (pixels)"}
BINS = 24


def histogram(radii: np.ndarray, norm: str, *, dark: bool = False) -> go.Figure:
    """How many pictures have which radius (N,), and the share certified at a radius or beyond, on one axis."""
    finite = radii[np.isfinite(radii)]
    top = float(finite.max()) if len(finite) and finite.max() > 0 else 1.0
    edges = np.arange(int(top) + 2) - 0.5 if norm == "patch" else np.linspace(0, top, BINS + 1)
    counts, _ = np.histogram(finite, edges)
    at = np.unique(np.concatenate([[0.0], finite]))
    share = np.array([(radii >= r).mean() if len(radii) else 0.0 for r in at]) * 100
    share[0] = 100 * (radii > 0).mean() if len(radii) else 0.0
    figure = go.Figure()
    figure.add_bar(
        x=(edges[:-1] + edges[1:]) / 2, y=100 * counts / max(len(radii), 1), width=np.diff(edges), name="pictures, %",
        marker={"color": series_color(1), "opacity": 0.35}, hovertemplate="radius %{x:.3g}: %{y:.1f} %<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=at, y=share, mode="lines", name="certified accuracy, %", line={"shape": "vh", "width": 2.5, "color": series_color(0)},
        hovertemplate="at least %{x:.3g}: %{y:.1f} %<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title=AXES[norm], range=[-0.02 * top, 1.03 * top])
    figure.update_yaxes(title="% of the pictures", range=[0, 100])
    quiet_layout(figure, dark, height=HEIGHT, dragmode=False, hovermode="closest", showlegend=True)
    return figure.update_layout(legend={"x": 1, "xanchor": "right", "y": 1, "bgcolor": "rgba(0,0,0,0)"}, bargap=0)


def gaps(pairs: np.ndarray, norm: str, *, dark: bool = False) -> go.Figure:
    """Each picture's proof (across) and nearest attack (upward), (N,2); no attack may lie below the line."""
    ink = inks(dark)
    top = float(pairs.max()) * 1.05 if pairs.size else 1.0
    figure = go.Figure()
    figure.add_scatter(
        x=[0, top],
        y=[0, top],
        mode="lines",
        name="proof = attack",
        line={"color": ink.quiet, "dash": "dot"},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=pairs[:, 0], y=pairs[:, 1], mode="markers", name="pictures", marker={"color": series_color(0), "size": 7, "opacity": 0.7},
        hovertemplate="proven %{x:.4f}, attacked at %{y:.4f}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title=AXES[norm].replace("radius", "proven radius"), range=[0, top])
    figure.update_yaxes(title="nearest attack", range=[0, top])
    quiet_layout(figure, dark, height=HEIGHT, dragmode=False, hovermode="closest", showlegend=True)
    return figure.update_layout(
        legend={"x": 1, "xanchor": "right", "y": 0, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)"}
    )


@dataclass(frozen=True)
class Price:
    """One model at one distance: accuracies in [0, 1], None where not measured, `certified` with its 95 % interval."""

    model: str
    kind: str
    distance: str
    clean: float | None
    attacked: float | None
    certified: tuple[float, float, float]


def prices(rows: Sequence[Price], kinds: Sequence[str], *, dark: bool = False) -> go.Figure:
    """Certified, attacked and clean accuracy, a line for each model and distance.

    `kinds`: all kinds of certificate, so that one keeps its colour and mark whatever the others are.
    """
    ink, figure = inks(dark), go.Figure()

    def at(chosen: Sequence[Price]) -> list[list[str]]:
        return [[row.model.replace(", ", ",<br>") for row in chosen], [row.distance for row in chosen]]

    figure.add_bar(  # from what is proven to what is clean
        y=at(rows), x=[100 * (row.clean or row.certified[0]) - 100 * row.certified[0] for row in rows],
        base=[100 * row.certified[0] for row in rows], orientation="h", width=0.16, marker={"color": ink.grid}, hoverinfo="skip",
        showlegend=False,
    )  # fmt: skip
    for k, kind in enumerate(kinds):
        own = [row for row in rows if row.kind == kind]
        if not own:
            continue
        figure.add_scatter(
            y=at(own), x=[100 * row.certified[0] for row in own], mode="markers", name=f"certified: {kind}",
            marker={"symbol": series_mark(k + 1), "size": 11, "color": series_color(k)},
            error_x={
                "type": "data", "symmetric": False, "thickness": 1.5, "width": 0, "color": series_color(k),
                "array": [100 * (row.certified[2] - row.certified[0]) for row in own],
                "arrayminus": [100 * (row.certified[0] - row.certified[1]) for row in own],
            },
            customdata=[f"{100 * row.certified[1]:.1f} to {100 * row.certified[2]:.1f}" for row in own],
            hovertemplate="certified %{x:.1f} % [%{customdata}]<extra></extra>",
        )  # fmt: skip
    for name, symbol in (("clean", "circle-open"), ("attacked", "x")):
        known = [row for row in rows if getattr(row, name) is not None]
        figure.add_scatter(
            y=at(known), x=[100 * getattr(row, name) for row in known], mode="markers", name=name,
            marker={"symbol": symbol, "size": 9, "color": ink.text, "line": {"width": 1.5}},
            hovertemplate=f"{name} %{{x:.1f}} %<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title="accuracy, %", range=[-1, 101])
    figure.update_yaxes(autorange="reversed", automargin=True, dividercolor=ink.grid)
    quiet_layout(figure, dark, height=130 + 24 * len(rows), dragmode=False, hovermode="closest", showlegend=True)
    return figure.update_layout(legend={"y": 1.02, "yanchor": "bottom"}, margin={"t": 40})


def axis(radii: Mapping[str, float], proven: float, found: float, attack: float, *, dark: bool = False) -> go.Figure:
    """One picture's distances in Linf: the kinds' radii, what is settled from below and from above, and the attack."""
    ink, top = inks(dark), 1.15 * attack
    figure = go.Figure()
    for start, end, color in (
        (0.0, proven, STATE_COLORS["holds"]),
        (proven, found, ink.quiet),
        (found, top, STATE_COLORS["fooled"]),
    ):
        figure.add_shape(type="rect", x0=start, x1=end, y0=-0.18, y1=0.18, fillcolor=color, opacity=0.3, line_width=0)
    marks = [*((name, at, "triangle-up") for name, at in radii.items())]
    marks += [
        ("exact, from below", proven, "diamond"),
        ("exact, from above", found, "diamond-open"),
        ("attack (FAB)", attack, "x"),
    ]
    for k, (name, at, symbol) in enumerate(marks):
        figure.add_scatter(
            x=[at], y=[0], mode="markers", name=f"{name}: {at:.4f}", marker={"symbol": symbol, "size": 13, "color": series_color(k)},
            hovertemplate=f"{name}: %{{x:.5f}}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(
        title="distance (L∞, pixel range); nothing wrong to the left, something wrong to the right", range=[0, top]
    )
    figure.update_yaxes(visible=False, range=[-1, 1])
    quiet_layout(figure, dark, height=190, dragmode=False, hovermode="closest", showlegend=True)
    return figure.update_layout(margin={"l": 12, "t": 8, "b": 46}, legend={"yanchor": "bottom", "y": 1.02})

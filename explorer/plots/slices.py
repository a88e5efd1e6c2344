"""A plane through input space: which class the model sees where, and how its loss rises and falls over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from explorer.plots._page import Inks, inks, quiet_layout
from explorer.plots.theme import class_color, class_shape

ALONG = "along the attack (0 = original, 1 = attacked)"
ACROSS = "sideways (same units)"
CUT = 0.05  # share of pixel values cut to [0, 1] from which on that is drawn
FADE = 0.55  # how far an uncertain answer fades into the page
LEAST_NAMED = 2  # a region is named if it is wider than this many points
HEIGHT = 570


def class_map(
    along: np.ndarray,
    across: np.ndarray,
    predicted: np.ndarray,
    probability: np.ndarray,
    margin: np.ndarray,
    cut: np.ndarray,
    classes: Sequence[str],
    outline: np.ndarray,
    outline_name: str,
    *,
    stride: int = 1,
    dark: bool = False,
) -> go.Figure:
    """The class seen at each point of a plane, paler where the model is less sure.

    along, across (S,): coordinates of columns and rows. predicted (S,S) class numbers; probability (S,S) of that class;
    margin (S,S): below zero where the goal is reached; cut (S,S): share of the pixel values that were cut to [0, 1].
    outline (P,2): the ball's edge. Lines are drawn through every `stride`-th point, the known ones.
    """
    ink, shown = inks(dark), [int(k) for k in np.unique(predicted)]
    figure = go.Figure(_regions(along, across, predicted, probability, margin, cut, classes, shown))
    figure.add_trace(_veil(along, across, probability, len(classes), ink.page))
    figure.add_traces(_line(along, across, margin, 0.0, stride, ink.text, "solid", _BOUNDARY))
    figure.add_traces(_line(along, across, cut, CUT, stride, ink.text, "dot", _CUT))
    figure.add_trace(_outline(outline, outline_name, ink.text))
    figure.add_traces(_pictures(ink))
    for k in shown:
        figure.add_trace(
            go.Scatter(
                x=[None],
                y=[None],
                mode="markers",
                name=classes[k],
                hoverinfo="skip",
                marker={"color": class_color(k), "symbol": class_shape(k), "size": 11},
            )
        )
    for k, (row, column) in _named(predicted, shown).items():
        figure.add_annotation(
            x=along[column],
            y=across[row],
            text=classes[k],
            showarrow=False,
            bgcolor=ink.page,
            opacity=0.85,
            borderpad=2,
            font={"color": ink.text, "size": 13},
        )
    return _square(quiet_layout(figure, dark, height=HEIGHT), along, across)


_BOUNDARY = "decision boundary"
_CUT = f"over {CUT:.0%} of the values cut"


def loss_map(
    along: np.ndarray,
    across: np.ndarray,
    loss: np.ndarray,
    margin: np.ndarray,
    outline: np.ndarray,
    outline_name: str,
    *,
    loss_name: str = "loss",
    stride: int = 1,
    dark: bool = False,
) -> go.Figure:
    """The loss (S,S) over the same plane as colours, with the decision boundary (`margin` 0) and the ball's edge."""
    ink = inks(dark)
    text = f"{_PLACE}<br>{loss_name} %{{z:.3g}}<extra></extra>"
    bar = {
        "title": {"text": loss_name, "side": "top"},
        "outlinewidth": 0,
        "thickness": 12,
        "orientation": "h",
        "y": -0.17,
        "yanchor": "top",
        "len": 0.8,
    }
    figure = go.Figure(
        go.Heatmap(x=along, y=across, z=loss, colorscale=_scale(dark), colorbar=bar, hovertemplate=text, name=loss_name)
    )
    figure.add_traces(_line(along, across, margin, 0.0, stride, ink.text, "solid", _BOUNDARY))
    figure.add_trace(_outline(outline, outline_name, ink.text))
    figure.add_traces(_pictures(ink))
    return _square(quiet_layout(figure, dark, height=HEIGHT), along, across)


def loss_surface(
    along: np.ndarray,
    across: np.ndarray,
    loss: np.ndarray,
    outline: np.ndarray,
    outline_name: str,
    *,
    loss_name: str = "loss",
    stride: int = 1,
    dark: bool = False,
) -> go.Figure:
    """The loss (S,S) as a landscape over the plane, through every `stride`-th point, with both pictures standing on it."""
    ink = inks(dark)
    along, across, loss = along[::stride], across[::stride], loss[::stride, ::stride]
    text = f"{_PLACE}<br>{loss_name} %{{z:.3g}}<extra></extra>"
    figure = go.Figure(
        go.Surface(
            x=along,
            y=across,
            z=loss,
            colorscale=_scale(dark),
            showscale=False,
            hovertemplate=text,
            name=loss_name,
            contours={"z": {"show": True, "color": ink.quiet, "width": 1}},
        )
    )
    inside = outline[(np.abs(outline[:, 1]) <= across[-1]) & (outline[:, 0] >= along[0]) & (outline[:, 0] <= along[-1])]
    lift = 0.04 * float(np.ptp(loss) or 1)  # so that nothing sinks into the surface
    heights = [_height(along, across, loss, *point) + lift for point in inside]
    figure.add_trace(
        go.Scatter3d(
            x=inside[:, 0],
            y=inside[:, 1],
            z=heights,
            mode="lines",
            name=outline_name,
            hoverinfo="skip",
            line={"color": ink.text, "width": 5, "dash": "dash"},
        )
    )
    for at, name, symbol in ((0.0, "original", "circle"), (1.0, "attacked", "diamond")):
        height = _height(along, across, loss, at, 0.0)
        said = f"{name}<br>{loss_name} {height:.3g}<extra></extra>"
        figure.add_trace(_standing(at, height + lift, name, symbol, said, ink))
    figure = quiet_layout(figure, dark, height=HEIGHT)
    figure.update_layout(margin={"l": 0, "r": 0, "t": 0, "b": 0}, legend={"y": 0.02}, scene=_landscape(ink, loss_name))
    return figure


def _standing(at: float, height: float, name: str, symbol: str, said: str, ink: Inks) -> go.Scatter3d:
    """One of the two pictures, on the surface."""
    return go.Scatter3d(
        x=[at],
        y=[0.0],
        z=[height],
        mode="markers+text",
        name=name,
        text=[name],
        textposition="top center",
        textfont={"color": ink.text},
        marker={"size": 6, "symbol": symbol, "color": ink.page, "line": {"color": ink.text, "width": 2}},
        hovertemplate=said,
        showlegend=False,
    )


def _landscape(ink: Inks, loss_name: str) -> dict[str, Any]:
    """The scene's axes, proportions and camera."""
    axis = {"gridcolor": ink.grid, "color": ink.text, "backgroundcolor": "rgba(0,0,0,0)", "zerolinecolor": ink.grid}
    return {
        "xaxis": axis | {"title": "along the attack"},
        "yaxis": axis | {"title": "sideways"},
        "zaxis": axis | {"title": loss_name},
        "aspectratio": {"x": 1, "y": 1, "z": 0.7},
        "camera": {"eye": {"x": -1.4, "y": -1.6, "z": 1.0}},
    }


_PLACE = "%{x:.2f} along the attack, %{y:.2f} sideways"


def _regions(along, across, predicted, probability, margin, cut, classes, shown) -> go.Heatmap:
    names = np.array(classes, dtype=object)[predicted]
    text = f"{_PLACE}<br>%{{customdata[0]}}, %{{customdata[1]:.1%}} sure<br>margin %{{customdata[2]:.3g}}<br>%{{customdata[3]:.1%}} of the values cut<extra></extra>"  # noqa: E501
    steps = [(i / len(shown), class_color(k)) for i, k in enumerate(shown)]
    ends = [((i + 1) / len(shown), class_color(k)) for i, k in enumerate(shown)]
    scale = [list(stop) for pair in zip(steps, ends, strict=True) for stop in pair]  # flat steps, one a class
    return go.Heatmap(
        x=along,
        y=across,
        z=np.searchsorted(shown, predicted),
        zmin=-0.5,
        zmax=len(shown) - 0.5,
        colorscale=scale,
        showscale=False,
        customdata=np.dstack([names, probability, margin, cut]),
        hovertemplate=text,
        name="class",
    )


def _veil(along, across, probability, classes: int, page: str) -> go.Heatmap:
    """The page's colour over uncertain answers: full at a probability of 1/K, none at 1."""
    red, green, blue = (int(page[i : i + 2], 16) for i in (1, 3, 5))
    scale = [[0, f"rgba({red},{green},{blue},{FADE})"], [1, f"rgba({red},{green},{blue},0)"]]
    return go.Heatmap(
        x=along,
        y=across,
        z=probability,
        zmin=1 / classes,
        zmax=1,
        colorscale=scale,
        showscale=False,
        hoverinfo="skip",
        name="veil",
    )


def _line(along, across, values, level: float, stride: int, color: str, dash: str, name: str) -> list[go.BaseTraceType]:
    """Where `values` cross `level`, through every `stride`-th point, and its key; nothing where they do not."""
    grid = slice(None, None, stride)
    known = values[grid, grid]
    if len(known) < 2 or not known.min() < level < known.max():
        return []
    style = {"color": color, "width": 2.5 if dash == "solid" else 1.5, "dash": dash}
    contour = go.Contour(
        x=along[grid],
        y=across[grid],
        z=known,
        name=name,
        showscale=False,
        hoverinfo="skip",
        showlegend=False,
        line=style,
        contours={"start": level, "end": level, "size": 1, "coloring": "none"},
    )
    return [contour, go.Scatter(x=[None], y=[None], mode="lines", line=style, name=name, hoverinfo="skip")]


def _outline(outline: np.ndarray, name: str, color: str) -> go.Scatter:
    line = {"color": color, "width": 2, "dash": "dash"}
    return go.Scatter(x=outline[:, 0], y=outline[:, 1], mode="lines", line=line, name=name, hoverinfo="skip")


def _pictures(ink) -> list[go.Scatter]:
    """The two pictures, and the straight way from one to the other."""
    marker = {"size": 13, "symbol": ["circle", "diamond"], "color": ink.page, "line": {"color": ink.text, "width": 2.5}}
    return [
        go.Scatter(
            x=[0, 1],
            y=[0, 0],
            mode="lines+markers+text",
            text=["original", "attacked"],
            textposition="bottom center",
            textfont={
                "color": ink.text,
                "size": 13,
                "shadow": f"0 0 3px {ink.page}, 0 0 3px {ink.page}, 0 0 6px {ink.page}",
            },
            marker=marker,
            line={"color": ink.text, "width": 1.5},
            name="original and attacked",
            hoverinfo="skip",
            showlegend=False,
        )
    ]


def _square(figure: go.Figure, along: np.ndarray, across: np.ndarray) -> go.Figure:
    figure.update_layout(legend={"yanchor": "bottom", "y": 1.01, "entrywidth": 0}, margin={"t": 72, "b": 108})
    figure.update_xaxes(title=ALONG, range=[along[0], along[-1]], constrain="domain", showgrid=False)
    figure.update_yaxes(
        title=ACROSS,
        range=[across[0], across[-1]],
        scaleanchor="x",
        constrain="domain",
        constraintoward="top",
        showgrid=False,
    )
    return figure


LOSS_SCALES = {"light": ["#f4f6fb", "#a9bfe8", "#5f86d6"], "dark": ["#171d29", "#2c4479", "#5f86d6"]}  # low to high


def _scale(dark: bool) -> list[str]:
    return LOSS_SCALES["dark" if dark else "light"]


def _height(along: np.ndarray, across: np.ndarray, loss: np.ndarray, x: float, y: float) -> float:
    """The loss at a point of the plane, bilinear between the grid's."""
    column = np.clip((x - along[0]) / (along[1] - along[0]), 0, len(along) - 1)
    row = np.clip((y - across[0]) / (across[1] - across[0]), 0, len(across) - 1)
    i, j = min(int(row), len(across) - 2), min(int(column), len(along) - 2)
    up, right = row - i, column - j
    low = (1 - right) * loss[i, j] + right * loss[i, j + 1]
    high = (1 - right) * loss[i + 1, j] + right * loss[i + 1, j + 1]
    return float((1 - up) * low + up * high)


def _named(predicted: np.ndarray, shown: Sequence[int]) -> dict[int, tuple[int, int]]:
    """For each class its point (row, column) farthest inside one of its regions; thin ones are left unnamed."""
    rows = np.arange(len(predicted))[:, None]
    aside = abs(rows - len(predicted) // 2) > len(predicted) // 12  # clear of the two pictures
    places = {}
    for k in shown:
        inside, depth, at = (predicted == k) & aside, 0, (0, 0)
        while inside.any():
            rows, columns = np.nonzero(inside)
            middle = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
            depth, at = depth + 1, (int(rows[middle]), int(columns[middle]))
            padded = np.pad(inside, 1)
            inside = inside & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        if depth > LEAST_NAMED:
            places[k] = at
    return places

"""Clean against robust accuracy: a mark for each model with its 95 % intervals, coloured and shaped by kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from explorer.plots._page import inks, quiet_layout
from explorer.plots.theme import series_color, series_mark

HEIGHT = 460
Interval = tuple[float, float, float]  # accuracy and its 95 % interval, in [0, 1]


@dataclass(frozen=True)
class Mark:
    """One model in the figure."""

    name: str
    title: str
    kind: str
    clean: Interval
    robust: Interval


def tradeoff(
    marks: Sequence[Mark], kinds: Sequence[str], *, measured: str, chosen: str | None = None, dark: bool = False
) -> go.Figure:
    """`kinds`: all there are, in their order, so that a kind keeps its colour whatever is filtered out.

    `measured` names the vertical axis; the `chosen` model has a ring. A mark's customdata[0] is the model's name.
    """
    figure, ink = go.Figure(), inks(dark)
    for i, kind in enumerate(kinds):
        own = [mark for mark in marks if mark.kind == kind]
        if not own:
            continue
        color = series_color(i)
        figure.add_scatter(
            x=[100 * mark.clean[0] for mark in own], y=[100 * mark.robust[0] for mark in own], mode="markers", name=kind, cliponaxis=False,
            customdata=[[mark.name, mark.title, _interval(mark.clean), _interval(mark.robust)] for mark in own],
            hovertemplate="<b>%{customdata[1]}</b><br>clean %{x:.1f} % [%{customdata[2]}]<br>"
            + f"{measured} %{{y:.1f}} % [%{{customdata[3]}}]<extra></extra>",
            marker={"symbol": series_mark(i), "size": 11, "color": color, "line": {"width": 1, "color": ink.page}},
            error_x=_bars([mark.clean for mark in own], color), error_y=_bars([mark.robust for mark in own], color),
            selected={"marker": {"opacity": 1}}, unselected={"marker": {"opacity": 1}},
        )  # fmt: skip
    for mark in marks:
        if mark.name == chosen:
            figure.add_scatter(
                x=[100 * mark.clean[0]], y=[100 * mark.robust[0]], mode="markers", hoverinfo="skip", showlegend=False,
                marker={"symbol": "circle-open", "size": 22, "color": ink.text, "line": {"width": 2}},
                unselected={"marker": {"opacity": 1}},
            )  # fmt: skip
    figure.update_xaxes(title="clean accuracy, %")
    figure.update_yaxes(title=f"{measured}, %", rangemode="tozero")
    return quiet_layout(figure, dark, height=HEIGHT, dragmode=False, hovermode="closest", showlegend=True)


def _interval(share: Interval) -> str:
    return f"{100 * share[1]:.1f} to {100 * share[2]:.1f}"


def _bars(shares: Sequence[Interval], color: str) -> dict[str, object]:
    return {
        "type": "data", "symmetric": False, "thickness": 1, "width": 0, "color": color,
        "array": [100 * (high - at) for at, _, high in shares], "arrayminus": [100 * (at - low) for at, low, _ in shares],
    }  # fmt: skip

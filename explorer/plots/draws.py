"""A random model over the number of draws that an attack averages in each step, beside attacks of another kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from explorer.plots._page import inks, quiet_layout
from explorer.plots.theme import series_color, series_mark

HEIGHT = 360


def over_draws(
    shares: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]], *, dark: bool = False
) -> go.Figure:
    """`shares`: what, draws, accuracy, low, high (in [0,1]) and n; those with `draws` make the curve, with their 95 % intervals.

    `lines`: at most two further shares, the higher first, each a level across the figure, named at its end.
    """
    ink, figure = inks(dark), go.Figure()
    curve = sorted((one for one in shares if one["draws"]), key=lambda one: one["draws"])
    rates = [100 * one["accuracy"] for one in curve]
    figure.add_trace(
        go.Scatter(
            x=[one["draws"] for one in curve], y=rates, mode="lines+markers", name="PGD-20",
            line={"color": series_color(0), "width": 2.5}, marker={"symbol": series_mark(0), "size": 9, "color": series_color(0)},
            error_y={
                "type": "data", "symmetric": False, "color": series_color(0), "thickness": 1,
                "array": [100 * one["high"] - rate for one, rate in zip(curve, rates, strict=True)],
                "arrayminus": [rate - 100 * one["low"] for one, rate in zip(curve, rates, strict=True)],
            },
            customdata=[[one["low"] * 100, one["high"] * 100, one["n"]] for one in curve],
            hovertemplate="%{x} draws: %{y:.1f} % [%{customdata[0]:.1f} to %{customdata[1]:.1f}], n=%{customdata[2]}<extra></extra>",
        )
    )  # fmt: skip
    for number, (one, side) in enumerate(zip(lines, ("top", "bottom"), strict=False), 1):
        figure.add_hline(
            y=100 * one["accuracy"], line={"color": series_color(number), "width": 1.5, "dash": "dash"},
            annotation={"text": one["what"], "font": {"color": ink.text, "size": 12}}, annotation_position=f"{side} right",
        )  # fmt: skip
    figure = quiet_layout(figure, dark, height=HEIGHT, margin={"t": 24, "l": 56, "r": 12})
    ticks = [
        one["draws"] for one in curve if one["draws"] & (one["draws"] - 1) == 0
    ]  # powers of two: 20 stands too near to 16
    figure.update_xaxes(
        title="draws averaged in each step", type="log", tickvals=ticks, ticktext=list(map(str, ticks)), tickangle=0
    )
    figure.update_yaxes(title="right under attack (%)", range=[0, 100])
    return figure

"""What all figures share: the inks of a light and a dark page, and a quiet layout."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go

from explorer.plots.theme import PAGES

FONT = 13
FAMILY = '"Source Sans", "Source Sans Pro", sans-serif'  # the app's own


@dataclass(frozen=True)
class Inks:
    """Colours of everything that is not a class."""

    page: str
    text: str
    quiet: str
    grid: str


INKS = {
    "light": Inks(PAGES["light"], "#1d2433", "#5b6475", "#dfe3ea"),
    "dark": Inks(PAGES["dark"], "#e7eaf0", "#a3acbd", "#333c4b"),
}


def inks(dark: bool) -> Inks:
    return INKS["dark" if dark else "light"]


def quiet_layout(figure: go.Figure, dark: bool, **more: object) -> go.Figure:
    """The page's own background and text, no title, narrow margins, room for a legend below."""
    ink = inks(dark)
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": ink.text, "size": FONT, "family": FAMILY},
        hoverlabel={"bgcolor": ink.page, "bordercolor": ink.quiet, "font": {"color": ink.text, "size": FONT}},
        legend={"orientation": "h", "yanchor": "top", "y": -0.16, "x": 0, "font": {"color": ink.text}},
        margin={"l": 62, "r": 12, "t": 12, "b": 50},
        **more,
    )
    axis = {"gridcolor": ink.grid, "linecolor": ink.quiet, "zeroline": False, "title_standoff": 8, "title_font_size": FONT}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure

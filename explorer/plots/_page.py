"""What all figures share: the inks of a light and a dark page, and a quiet layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
    """The page's own background and text, no title, narrow margins, room for a legend below; `more` of plotly's layout is
    merged into that.

    All at once: plotly's `update_layout` and `update_xaxes` take ten times as long, at every look of a page.
    """
    ink = inks(dark)
    given = figure.layout.to_plotly_json()
    quiet: dict[str, Any] = {
        "template": "none",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": ink.text, "size": FONT, "family": FAMILY},
        "hoverlabel": {"bgcolor": ink.page, "bordercolor": ink.quiet, "font": {"color": ink.text, "size": FONT}},
        "legend": {"orientation": "h", "yanchor": "top", "y": -0.16, "x": 0, "font": {"color": ink.text}},
        "margin": {"l": 62, "r": 12, "t": 12, "b": 50},
    }
    title = {"standoff": 8, "font": {"size": FONT}}
    axis = {"gridcolor": ink.grid, "linecolor": ink.quiet, "zeroline": False, "title": title}
    layout = _merged(_merged(given, quiet), more)
    axes = {"xaxis", "yaxis"} | {name for name in layout if name.startswith(("xaxis", "yaxis"))}
    figure.layout = _merged(layout, dict.fromkeys(sorted(axes), axis))
    return figure


def step_ticks(last: int, before: int = 1, best: bool = False) -> dict[str, Any]:
    """Ticks of an axis of frames, at most nine and whole numbers, in the player's words: "start", then the steps 1, 2, ...

    `last`: the last frame of the walk; `before`: how many frames precede step 1 (1: the start; 2: the original image, too);
    `best`: one more place behind, for the best point found.
    """
    steps = last - before + 1
    every = next(e for p in range(9) for e in (10**p, 2 * 10**p, 5 * 10**p) if steps <= 7 * e)
    roomy = steps <= 7  # else the words would stand in each other's way
    words = {before - 1: "start" if roomy or before == 1 else ""} | ({0: "original"} if before == 2 else {})
    words |= {before - 1 + step: str(step) for step in range(every, steps + 1, every)}
    if best:
        words |= {last: "" if not roomy else words.get(last, ""), last + 1: "best"}
    known = {at: word for at, word in sorted(words.items()) if word}
    return {"tickvals": list(known), "ticktext": list(known.values())}


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both, `over` winning, and so within dictionaries that stand on both sides."""
    found = dict(under)
    for name, value in over.items():
        both = isinstance(value, Mapping) and isinstance(found.get(name), Mapping)
        found[name] = _merged(found[name], value) if both else value
    return found

"""The winners of an LWTA layer as a picture of small maps, and how many of them an attack and chance alone change."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from explorer.plots._page import inks, quiet_layout
from explorer.plots.theme import series_color

HEIGHT = 300
PALE = 0.82  # how far what has not changed fades into the page
NAMES = ("changed by the attack", "changed by chance alone")


def maps(winners: np.ndarray, before: np.ndarray | None = None, *, dark: bool = False) -> np.ndarray:
    """(3,H',W') float32: one small map a block, side by side; a colour is a unit. winners (B,H,W) unit numbers.

    `before` (B,H,W): what has not changed since is pale.
    """
    page = _rgb(inks(dark).page)
    colors = np.stack([_rgb(series_color(k)) for k in range(int(winners.max()) + 1)])
    shown = colors[winners]  # (B,H,W,3)
    if before is not None:
        same = (winners == before)[..., None]
        shown = np.where(same, PALE * page + (1 - PALE) * shown, shown)
    blocks, height, width = winners.shape
    columns = math.ceil(math.sqrt(blocks))
    rows = math.ceil(blocks / columns)
    gap = max(1, height // 8)
    sheet = np.tile(page, (rows * (height + gap) - gap, columns * (width + gap) - gap, 1))
    for k in range(blocks):
        top, left = k // columns * (height + gap), k % columns * (width + gap)
        sheet[top : top + height, left : left + width] = shown[k]
    return sheet.transpose(2, 0, 1).astype(np.float32)


def changed(by_attack: Sequence[float], by_chance: Sequence[float], *, dark: bool = False) -> go.Figure:
    """Two bars a layer: the share of winners that an attack changes under the same draw, and another draw of the picture."""
    figure = go.Figure()
    layers = [str(k) for k in range(1, len(by_attack) + 1)]
    for which, (name, values) in enumerate(zip(NAMES, (by_attack, by_chance), strict=True)):
        hover = f"layer %{{x}}: %{{y:.1%}} {name}<extra></extra>"
        pattern = {"shape": "" if which == 0 else "/"}
        figure.add_trace(
            go.Bar(x=layers, y=list(values), name=name, hovertemplate=hover, marker={"color": series_color(which), "pattern": pattern})
        )  # fmt: skip
    figure = quiet_layout(figure, dark, height=HEIGHT, barmode="group")
    figure.update_layout(legend={"yanchor": "bottom", "y": 1.01}, margin={"t": 34})
    figure.update_xaxes(title="layer", type="category")
    return figure.update_yaxes(title="share of winners", tickformat=".0%", rangemode="tozero")


def _rgb(color: str) -> np.ndarray:
    """(3,) in [0,1] of "#rrggbb"."""
    return np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])

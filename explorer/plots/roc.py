"""One-vs-rest ROC curves of a model's classes: a colour for each class, a dash for each set of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from explorer.plots._page import inks, quiet_layout
from explorer.plots.certify import DASHES
from explorer.plots.theme import class_color

HEIGHT, LINE = 420, 24  # pixels: of the curves, and of each line of the legend


@dataclass(frozen=True, eq=False)
class RocCurve:
    """One class on one set of pictures: rates (P,) in [0,1], from (0,0) to (1,1)."""

    name: str  # the class
    label: int
    pictures: str  # which set
    false_positive: np.ndarray
    true_positive: np.ndarray
    auc: float


def class_roc(curves: Sequence[RocCurve], sets: Sequence[str], *, dark: bool = False) -> go.Figure:
    """Dashes belong to `sets` in this order, whichever of them have a curve by now; the diagonal is guessing."""
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": inks(dark).quiet, "width": 1}, name="guessing", hoverinfo="skip",
        showlegend=False,
    )  # fmt: skip
    for curve in curves:
        name = f"{curve.name}, {curve.pictures}: {curve.auc:.3f}"
        figure.add_scatter(
            x=curve.false_positive, y=curve.true_positive, mode="lines", name=name,
            line={"color": class_color(curve.label), "width": 2.5, "dash": DASHES[sets.index(curve.pictures)]},
            hovertemplate=f"{curve.name}, {curve.pictures}<br>true positives %{{y:.1%}} at false positives %{{x:.1%}}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title="false positive rate", range=[-0.01, 1.01], tickformat=".0%")
    figure.update_yaxes(title="true positive rate", range=[-0.01, 1.02], tickformat=".0%")
    return quiet_layout(
        figure, dark, height=HEIGHT + LINE * len(curves), dragmode=False, hovermode="closest", showlegend=True
    )

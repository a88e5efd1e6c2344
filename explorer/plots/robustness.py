"""Accuracy over eps (robustness curves): a colour for each model, a dash for each attack, bands of the 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from explorer.plots._page import inks, quiet_layout
from explorer.plots.certify import DASHES
from explorer.plots.theme import owner_styles

HEIGHT = 420
TINT = "1f"  # a colour's opacity as an area, of ff: twelve bands may lie over each other
AXES = {"linf": "eps, L∞ (of 255)", "l2": "eps, L2", "l1": "eps, L1", "l0": "eps, L0 (pixels)"}


@dataclass(frozen=True)
class Curve:
    """One model under one attack at ascending sizes of eps, pixel units: all (P,), accuracies and their bounds in [0, 1]."""

    model: str
    attack: str
    eps: np.ndarray
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: int  # pictures of every point
    stairs: bool = False  # a step at each picture's own smallest change, in place of marks at a few sizes


def accuracy_over_eps(
    curves: Sequence[Curve],
    models: Sequence[str],
    attacks: Sequence[str],
    norm: str,
    farthest: float,
    *,
    lines: Mapping[str, float] | None = None,
    dark: bool = False,
) -> go.Figure:
    """Colours and marks belong to `models` in this order, dashes to `attacks`, whichever of them have a curve by now.

    The axis ends at the eps `farthest`, pixel units; `lines` are upright ones at values of eps, by what they are called.
    """
    styles, figure = owner_styles(models), go.Figure()
    unit = 255 if norm == "linf" else 1
    for curve in curves:
        color, mark = styles[curve.model]
        eps, y, low, high = (np.asarray(v, float) for v in (curve.eps, curve.accuracy, curve.low, curve.high))
        name = f"{curve.model}, {curve.attack}"
        figure.add_scatter(
            x=unit * np.concatenate([eps, eps[::-1]]), y=100 * np.concatenate([high, low[::-1]]), mode="lines",
            name=f"{name}, 95 %", line={"width": 0}, fill="toself", fillcolor=color + TINT, hoverinfo="skip", showlegend=False,
        )  # fmt: skip
        figure.add_scatter(
            x=unit * eps, y=100 * y, mode="lines" if curve.stairs else "lines+markers", name=name,
            line={"color": color, "width": 2.5, "dash": DASHES[attacks.index(curve.attack)], "shape": "hv" if curve.stairs else "linear"},
            marker={"symbol": mark, "size": 8, "color": color},
            customdata=[f"{lo:.1%} to {hi:.1%}" for lo, hi in zip(low, high, strict=True)],
            hovertemplate=f"{name}<br>eps %{{x:.4g}}: %{{y:.1f}} % [%{{customdata}}], n={curve.n}<extra></extra>",
        )  # fmt: skip
    for name, eps_line in (lines or {}).items():
        figure.add_vline(
            x=unit * eps_line, line={"color": inks(dark).quiet, "width": 1, "dash": "dot"}, annotation_text=name
        )
    last = unit * farthest
    figure.update_xaxes(title=AXES[norm], range=[-0.015 * last, 1.015 * last])  # marks at both ends are whole
    figure.update_yaxes(title="accuracy, %", range=[-2, 102])
    return quiet_layout(figure, dark, height=HEIGHT, dragmode=False, hovermode="closest", showlegend=True)


@dataclass(frozen=True)
class Spent:
    """One model under one attack at one eps: the passes (P,) at which each fooled picture was found, of n right untouched."""

    model: str
    attack: str
    passes: np.ndarray
    n: int


def success_over_passes(
    found: Sequence[Spent], models: Sequence[str], attacks: Sequence[str], *, dark: bool = False
) -> go.Figure:
    """The share of pictures fooled within so many forward and backward passes each: attacks at equal budgets. Colours and dashes as
    in `accuracy_over_eps`.
    """
    styles, figure = owner_styles(models), go.Figure()
    last = max((int(one.passes.max()) for one in found if len(one.passes)), default=1)
    for one in found:
        at = np.sort(one.passes)
        x = np.concatenate([[0], at, [last]])
        y = 100 * np.concatenate([[0], np.arange(1, len(at) + 1), [len(at)]]) / max(one.n, 1)
        name = f"{one.model}, {one.attack}"
        figure.add_scatter(
            x=x, y=y, mode="lines", name=name,
            line={"color": styles[one.model][0], "width": 2.5, "dash": DASHES[attacks.index(one.attack)], "shape": "hv"},
            hovertemplate=f"{name}<br>%{{x}} passes: %{{y:.1f}} % fooled, n={one.n}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title="passes of a picture, forward and backward", rangemode="tozero")
    figure.update_yaxes(title="fooled, %", range=[-2, 102])
    return quiet_layout(figure, dark, height=HEIGHT, dragmode=False, hovermode="closest", showlegend=True)

"""Figures of randomized smoothing: votes, a radius firming up, what sigma and n do, attack against proof, many pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

import numpy as np
import plotly.graph_objects as go

from explorer.plots._page import inks, quiet_layout
from explorer.plots.theme import STATE_COLORS, class_color, owner_styles

HEIGHT = 330
AXIS_HEIGHT = 190
ROWS = 10  # classes with a row of their own among the votes
PALE = 0.65  # opacity of what a card says, beside what was made here
TINT = "33"  # a colour's opacity as an area, of ff
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
PROVEN = STATE_COLORS["holds"]
BROKEN = "#cf2f3a"  # an alarm, nothing else
TENS = {"dtick": 1, "tickformat": ",d"}  # of a logarithmic axis of draws: whole powers of ten, written out


def down(value: float, digits: int) -> str:
    """A proven number for people: rounded down, never overstated."""
    return str(Decimal(float(value)).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_FLOOR))


def _on(color: str) -> str:
    """White or black, whichever is easier to read on "#rrggbb" (WCAG relative luminance)."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "#ffffff"


def _most_voted(
    selection: np.ndarray, estimation: np.ndarray, names: Sequence[str], selected: int | None
) -> tuple[np.ndarray, np.ndarray, list[str], list[str], int | None]:
    """Votes of both kinds, names, colours and the selected one's place, of at most `ROWS` classes and of the others together."""
    selection, estimation = np.asarray(selection), np.asarray(estimation)
    colors = [class_color(i) for i in range(len(names))]
    if len(names) <= ROWS:
        return selection, estimation, list(names), colors, selected
    chosen = np.arange(len(names)) == selected
    order = np.lexsort((-selection, -estimation, ~chosen))
    keep = [int(i) for i in order[:ROWS] if chosen[i] or selection[i] or estimation[i]]
    rest = np.setdiff1d(np.arange(len(names)), keep)
    return (
        np.append(selection[keep], selection[rest].sum()),
        np.append(estimation[keep], estimation[rest].sum()),
        [*(names[i] for i in keep), f"{len(rest):,} others"],
        [*(colors[i] for i in keep), STATE_COLORS["wrong"]],
        keep.index(selected) if selected is not None else None,
    )


def votes(
    selection: np.ndarray,
    estimation: np.ndarray,
    names: Sequence[str],
    selected: int | None,
    p_lower: float | None,
    bound_name: str,
    *,
    dark: bool = False,
) -> go.Figure:
    """Votes (K,) of the draws that choose the class and of those that measure how often it wins, in % of each kind.

    `p_lower`: the lower bound on the chosen class's share, in [0, 1]; with `bound_name` in the legend. Of more than `ROWS` classes
    those with the most votes have a row of their own, the rest one together.
    """
    ink = inks(dark)
    selection, estimation, names, colors, selected = _most_voted(selection, estimation, names, selected)
    share = 100 * estimation / max(estimation.sum(), 1)
    figure = go.Figure()
    figure.add_bar(
        x=share,
        y=names,
        orientation="h",
        name="votes that count",
        marker={"color": colors},
        text=[f"{count:,}" if count else "" for count in estimation],
        textposition="auto",
        textangle=0,
        textfont={"size": 12},
        insidetextfont={"color": [_on(color) for color in colors]},
        constraintext="none",
        insidetextanchor="start",
        cliponaxis=False,
        customdata=estimation,
        hovertemplate="%{y}: %{customdata:,} votes, %{x:.2f} %<extra></extra>",
        showlegend=False,
    )
    chose = np.flatnonzero(selection)
    figure.add_scatter(
        x=100 * selection[chose] / max(selection.sum(), 1),
        y=[names[int(i)] for i in chose],
        mode="markers",
        name="choosing draws",
        marker={"symbol": "diamond-open", "size": 9, "color": ink.text, "line": {"width": 1.5}},
        customdata=selection[chose],
        hovertemplate="%{y}: %{customdata:,} of the draws that choose, %{x:.0f} %<extra></extra>",
    )
    if selected is not None and p_lower:
        figure.add_scatter(
            x=[100 * p_lower],
            y=[names[selected]],
            mode="markers",
            name=bound_name,
            marker={"symbol": "line-ns", "size": 26, "line": {"width": 3, "color": ink.text}},
            hovertemplate=f"{bound_name}: {down(100 * p_lower, 2)} %<extra></extra>",
        )
    half = {"type": "line", "x0": 50, "x1": 50, "xref": "x", "y0": 0, "y1": 1, "yref": "y domain",
            "line": {"color": ink.quiet, "width": 1.5, "dash": "dash"}}  # fmt: skip
    return quiet_layout(
        figure, dark, height=HEIGHT + 20, dragmode=False, barmode="overlay", margin={"l": 88}, legend={"y": -0.2}, shapes=[half],
        xaxis={"title": {"text": "% of the votes (dashed: one half)"}, "range": [0, 103]},
        yaxis={"autorange": "reversed", "showgrid": False, "automargin": True},
    )  # fmt: skip


def course(
    drawn: np.ndarray,
    radius: np.ndarray,
    steps: np.ndarray,
    cap: np.ndarray,
    n: int,
    certified: float | None,
    note: str = "",
    *,
    dark: bool = False,
) -> go.Figure:
    """The bound that may be watched, `radius` (T,) after `drawn` (T,) draws (nan: none yet), below the `cap` (S,) that
    `steps` (S,) draws could reach if all agreed; `certified`: the certificate's own radius, from all n draws; `note`:
    words in the middle, where there is none."""
    ink = inks(dark)
    figure = go.Figure()
    figure.add_scatter(
        x=steps, y=cap, mode="lines", name="if all agreed", line={"color": ink.quiet, "width": 1.5, "dash": "dot"},
        hovertemplate="%{x:,} draws that all agree: radius %{y:.3f}<extra></extra>",
    )  # fmt: skip
    seen = ~np.isnan(np.asarray(radius, float))
    figure.add_scatter(
        x=np.asarray(drawn)[seen],
        y=np.asarray(radius)[seen],
        mode="lines+markers" if seen.sum() < 4 else "lines",
        name="so far",
        line={"color": PROVEN, "width": 2.5, "shape": "hv"},
        fill="tozeroy",
        fillcolor=PROVEN + TINT,
        customdata=[down(r, 4) for r in np.asarray(radius)[seen]],
        hovertemplate="after %{x:,} draws: at least %{customdata}<extra></extra>",
    )
    if certified is not None:
        figure.add_scatter(
            x=[n], y=[certified], mode="markers", name="the certificate",
            marker={"symbol": "star", "size": 15, "color": PROVEN, "line": {"width": 1, "color": ink.text}},
            hovertemplate=f"the certificate, from all %{{x:,}} draws: {down(certified, 4)}<extra></extra>",
        )  # fmt: skip
    if note:
        figure.add_annotation(
            text=note, xref="paper", x=0.5, yref="paper", y=0.5, showarrow=False, font={"color": ink.text, "size": 15}
        )
    top = 1.08 * max([*np.asarray(cap, float), certified or 0.0, 1e-9])
    across = [np.log10(min(steps)), np.log10(1.15 * n)]
    return quiet_layout(
        figure, dark, height=HEIGHT + 20, dragmode=False, hovermode="closest", legend={"y": -0.2},
        xaxis={"title": {"text": "noisy copies that have voted"}, "type": "log", "range": across, **TENS},
        yaxis={"title": {"text": "radius (L2)"}, "range": [0, top]},
    )  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One curve: x and y (P,), its name, and whether it is the one the page is about."""

    name: str
    x: np.ndarray
    y: np.ndarray
    chosen: bool = False


def _lines(figure: go.Figure, lines: Sequence[Line], tip: str, dark: bool) -> None:
    others = [i for i, line in enumerate(lines) if not line.chosen]
    for i, line in enumerate(lines):
        figure.add_scatter(
            x=line.x,
            y=line.y,
            mode="lines",
            name=line.name,
            line={"color": PROVEN, "width": 3}
            if line.chosen
            else {"color": inks(dark).quiet, "width": 1.5, "dash": DASHES[1 + others.index(i) % (len(DASHES) - 1)]},
            hovertemplate=f"{line.name}: {tip}<extra></extra>",
        )


def radius_by_share(
    lines: Sequence[Line], bound: float | None, radius: float | None, *, dark: bool = False
) -> go.Figure:
    """R = sigma * Phi^-1(p) for several sigma (x: p in %), with the certificate's own p and radius on it."""
    figure = go.Figure()
    _lines(figure, lines, "p %{x:.2f} %, radius %{y:.3f}", dark)
    if bound is not None and radius is not None:
        figure.add_scatter(
            x=[bound], y=[radius], mode="markers", name="this picture",
            marker={"symbol": "star", "size": 15, "color": PROVEN, "line": {"width": 1, "color": inks(dark).text}},
            hovertemplate=f"this picture: p at least {down(bound, 2)} %, radius {down(radius, 4)}<extra></extra>",
        )  # fmt: skip
    return quiet_layout(
        figure, dark, height=HEIGHT, dragmode=False, hovermode="closest", legend={"y": -0.22},
        xaxis={"title": {"text": "lower bound p on the class's share of the votes, %"}, "range": [50, 100.4]},
        yaxis={"title": {"text": "radius (L2)"}, "rangemode": "tozero"},
    )  # fmt: skip


def radius_by_draws(
    lines: Sequence[Line], n: int, cap: float, radius: float | None, *, dark: bool = False
) -> go.Figure:
    """The largest radius that n draws can certify at all, sigma * Phi^-1(alpha^(1/n)), for several sigma."""
    ink = inks(dark)
    figure = go.Figure()
    _lines(figure, lines, "%{x:,} draws, at most %{y:.3f}", dark)
    figure.add_scatter(
        x=[n], y=[cap], mode="markers", name="at this n",
        marker={"symbol": "circle-open", "size": 11, "color": ink.text, "line": {"width": 2}},
        hovertemplate="n %{x:,}: at most %{y:.3f}<extra></extra>",
    )  # fmt: skip
    if radius is not None:
        figure.add_scatter(
            x=[n], y=[radius], mode="markers", name="this picture",
            marker={"symbol": "star", "size": 15, "color": PROVEN, "line": {"width": 1, "color": ink.text}},
            hovertemplate=f"this picture: {down(radius, 4)}<extra></extra>",
        )  # fmt: skip
    return quiet_layout(
        figure, dark, height=HEIGHT, dragmode=False, hovermode="closest", legend={"y": -0.22},
        xaxis={"title": {"text": "n, the noisy copies that vote"}, "type": "log", **TENS},
        yaxis={"title": {"text": "largest radius there can be (L2)"}, "rangemode": "tozero"},
    )  # fmt: skip


def attack_axis(
    certified: float | None,
    eps: np.ndarray,
    distance: np.ndarray,
    reached: np.ndarray,
    abstained: np.ndarray,
    found: float | None,
    alarm: bool,
    *,
    dark: bool = False,
) -> go.Figure:
    """One axis of L2 distance: up to `certified` nothing can change the answer; tries of the attacks stand at their eps,
    those that reached another class at the `distance` of their picture (P,); `found`: the nearest of them."""
    ink = inks(dark)
    reached, abstained = np.asarray(reached, bool), np.asarray(abstained, bool)
    eps, distance = np.asarray(eps, float), np.asarray(distance, float)
    figure = go.Figure()
    reach = max([certified or 0.0, found or 0.0, *eps, 1e-3])
    if certified:
        figure.add_vrect(
            x0=0, x1=certified, fillcolor=BROKEN if alarm else PROVEN, opacity=0.22, line_width=0, layer="below",
            annotation={"text": "certified", "font": {"color": ink.text}}, annotation_position="top left",
        )  # fmt: skip
        figure.add_vline(x=certified, line={"color": PROVEN, "width": 2.5})
    for name, mask, symbol, color in (
        ("attack failed", ~reached & ~abstained, "square-open", PROVEN),
        ("no answer (PREDICT abstains)", ~reached & abstained, "diamond-open", ink.quiet),
        ("attack succeeded", reached, "x", STATE_COLORS["fooled"]),
    ):
        if mask.any():
            figure.add_scatter(
                x=np.where(reached, distance, eps)[mask],
                y=np.zeros(mask.sum()),
                mode="markers",
                name=name,
                marker={"symbol": symbol, "size": 11, "color": color, "line": {"width": 1.5, "color": color}},
                hovertemplate=f"L2 %{{x:.4f}}: {name}<extra></extra>",
            )
    if found is not None:
        figure.add_vline(
            x=found,
            line={"color": BROKEN if alarm else STATE_COLORS["fooled"], "width": 2.5},
            annotation={"text": f"nearest attack: {found:.3f}", "font": {"color": ink.text}},
            annotation_position="bottom right" if found < 0.8 * reach else "bottom left",
        )
    figure.add_annotation(
        text="not proven",
        xref="paper",
        x=0.995,
        xanchor="right",
        yref="paper",
        y=0.98,
        showarrow=False,
        font={"color": ink.quiet},
    )
    figure.update_xaxes(title="L2 distance from the picture", range=[0, 1.25 * reach], showgrid=True)
    figure.update_yaxes(visible=False, range=[-1, 1])
    quiet_layout(figure, dark, height=AXIS_HEIGHT, dragmode=False, hovermode="closest", showlegend=True)
    return figure.update_layout(margin={"l": 12, "t": 8, "b": 46}, legend={"yanchor": "bottom", "y": 1.02})


@dataclass(frozen=True)
class Curve:
    """Certified accuracy at some radii, each with its 95 % interval: (P,) in [0, 1].

    `points`: measured at a few radii only (a card), so that nothing is said in between. `owner`: the model, to which colour
    and mark belong; without one the curve's name.
    """

    name: str
    radius: np.ndarray
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: int
    points: bool = False
    owner: str = ""


def accuracy(curves: Sequence[Curve], among: Sequence[str] = (), *, dark: bool = False) -> go.Figure:
    """Certified accuracy over the radius; whole curves as steps with bands, a card's measures as pale points with bars.

    Colours and marks belong to the curves' owners: those `among` whom they may be, in this order, then any others as they
    come. What was made here is solid (a second curve of one owner dashed), what a card says is pale and dotted.
    """
    figure = go.Figure()
    names = [curve.owner or curve.name for curve in curves]
    styles = owner_styles([*among, *names])
    for i, (curve, owner) in enumerate(zip(curves, names, strict=True)):
        color, mark = styles[owner]
        again = sum(other == owner and not curves[k].points for k, other in enumerate(names[:i]))
        x, y, low, high = (
            np.asarray(values, float) for values in (curve.radius, curve.accuracy, curve.low, curve.high)
        )
        bounds = [f"{lo:.1%} to {hi:.1%}" for lo, hi in zip(low, high, strict=True)]
        tip = f"{curve.name}<br>radius %{{x:.3g}}: %{{y:.1f}} % [%{{customdata}}], n={curve.n}<extra></extra>"
        if curve.points:
            figure.add_scatter(
                x=x, y=100 * y, mode="markers+lines", name=curve.name, customdata=bounds, hovertemplate=tip,
                line={"color": color, "width": 1.5, "dash": "dot"}, opacity=PALE,
                marker={"symbol": mark, "size": 9, "color": color},
                error_y={"type": "data", "symmetric": False, "array": 100 * (high - y), "arrayminus": 100 * (y - low),
                         "thickness": 1.5, "color": color},
            )  # fmt: skip
            continue
        edge = {"width": 0, "shape": "vh"}  # between two radii the smaller accuracy is sure
        shared = {"x": x, "mode": "lines", "line": edge, "hoverinfo": "skip", "showlegend": False}
        figure.add_scatter(y=100 * low, name=f"{curve.name}, low", **shared)
        figure.add_scatter(y=100 * high, name=f"{curve.name}, high", fill="tonexty", fillcolor=color + TINT, **shared)
        figure.add_scatter(
            x=x, y=100 * y, mode="lines", name=curve.name, customdata=bounds, hovertemplate=tip,
            line={"color": color, "width": 2.5, "dash": DASHES[again % len(DASHES)], "shape": "vh"},
        )  # fmt: skip
    farthest = max([float(np.max(curve.radius)) for curve in curves], default=1.0) or 1.0
    figure.update_xaxes(title="radius (L2)", range=[-0.012 * farthest, 1.03 * farthest])  # marks at 0 are whole
    figure.update_yaxes(title="certified accuracy, %", range=[-1, 100])
    quiet_layout(figure, dark, height=HEIGHT + 90, dragmode=False, hovermode="closest", showlegend=True)
    return figure.update_layout(
        legend={"orientation": "v", "x": 1, "xanchor": "right", "y": 1, "bgcolor": "rgba(0,0,0,0)"}
    )

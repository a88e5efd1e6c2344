"""Figures about many pictures at once: who falls when, by what margin, within what distance, and what carries over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from explorer.plots._page import inks, quiet_layout, step_ticks
from explorer.plots.theme import STATE_COLORS

WORDS = {"wrong": "wrong before", "fooled": "fooled", "holds": "holds"}
MARKS = {"wrong": "square-open", "fooled": "x", "holds": "circle"}
HATCHES = {"wrong": ".", "fooled": "/", "holds": ""}
HEIGHT = 320  # pixels
TINT = "40"  # a colour's opacity as an area, of ff


def fall(
    fooled: np.ndarray, n: int, wrong: int, planned: int, fresh: int | None = None, *, dark: bool = False
) -> go.Figure:
    """How many of n pictures are fooled after each step: three bands, stacked to 100 %.

    `fooled` (T,) counts pictures after each of the steps so far, as the attack saw it; `wrong` of the n were wrong before
    any attack; the axis is as long as the `planned` steps. `fresh`: how many are fooled on fresh draws, in the end.
    """
    fooled = np.asarray(fooled)
    steps = np.arange(len(fooled))
    bands = {"wrong": np.full(len(fooled), wrong), "fooled": fooled, "holds": n - wrong - fooled}
    figure = go.Figure()
    for state, counts in bands.items():
        figure.add_scatter(
            x=steps,
            y=100 * counts / n,
            name=WORDS[state],
            stackgroup="pictures",
            mode="lines",
            line={"color": STATE_COLORS[state], "width": 1.5, "shape": "hvh"},  # the last step is to be seen, too
            fillpattern=_area(state),
            customdata=counts,
            hovertemplate=f"%{{x}} steps: %{{customdata}} of {n} pictures<extra>{WORDS[state]}</extra>",
        )
    if fresh is not None:
        figure.add_scatter(
            x=[max(planned - 1, 0)],
            y=[100 * (wrong + fresh) / n],
            name="fooled, on fresh draws",
            mode="markers",
            marker={
                "symbol": "star",
                "size": 14,
                "color": STATE_COLORS["fooled"],
                "line": {"width": 1, "color": inks(dark).text},
            },
            hovertemplate=f"on fresh draws: {fresh} of {n} fooled by the attack<extra></extra>",
        )
    figure.update_xaxes(title="step of the attack", range=[0, max(planned - 1, 1)], **step_ticks(max(planned - 1, 1)))
    figure.update_yaxes(title="% of all pictures", range=[0, 100])
    return quiet_layout(figure, dark, height=HEIGHT, dragmode=False, hovermode="closest")


def margins(
    before: np.ndarray, after: np.ndarray, states: Sequence[str], names: Sequence[str], *, dark: bool = False
) -> go.Figure:
    """Each picture's margin before and after, (N,) logits, the surest left: below zero the model is wrong.

    `states`: "wrong", "fooled" or "holds"; `names` is what hovering tells.
    """
    order = np.argsort(-np.asarray(before), kind="stable")
    rank = np.empty(len(order), int)
    rank[order] = np.arange(len(order))
    figure = go.Figure()
    lines_x, lines_y = [], []
    for at in order:
        lines_x += [rank[at], rank[at], None]
        lines_y += [before[at], after[at], None]
    figure.add_scatter(
        x=lines_x,
        y=lines_y,
        mode="lines",
        line={"color": inks(dark).quiet, "width": 1.5},
        hoverinfo="skip",
        showlegend=False,
    )
    figure.add_scatter(
        x=rank,
        y=before,
        name="before the attack",
        mode="markers",
        marker={"symbol": "line-ew", "size": 11, "line": {"width": 2.5, "color": STATE_COLORS["wrong"]}},
        text=list(names),
        hovertemplate="%{text}<br>before: margin %{y:.2f}<extra></extra>",
    )
    for state, word in WORDS.items():
        rows = [at for at in order if states[at] == state]
        if rows:
            color = STATE_COLORS[state]
            figure.add_scatter(
                x=rank[rows],
                y=np.asarray(after)[rows],
                name=word,
                mode="markers",
                marker={"symbol": MARKS[state], "size": 9, "color": color, "line": {"width": 1, "color": color}},
                text=[names[at] for at in rows],
                hovertemplate="%{text}<br>now: margin %{y:.2f}<extra></extra>",
            )
    figure.add_hline(y=0, line={"color": inks(dark).quiet, "width": 1, "dash": "dash"})
    figure.update_xaxes(title="pictures, those the model is surest of first", showticklabels=False, showgrid=False)
    figure.update_yaxes(title="margin of the true class")
    return quiet_layout(figure, dark, height=HEIGHT, dragmode=False, hovermode="closest")


def reach(found: np.ndarray, right: int, norm: str, *, dark: bool = False) -> go.Figure:
    """For a search for the smallest change: the share of the `right` pictures that fall within each distance.

    `found` (F,) are the distances of those that fell, F <= right.
    """
    unit = 255 if norm == "linf" else 1
    label = {
        "linf": "largest change of a pixel (of 255)",
        "l2": "length of the change (L2)",
        "l1": "sum of all changes (L1)",
        "l0": "pixels changed (L0)",
    }[norm]
    distances = unit * np.sort(np.asarray(found, float))
    longest = 1.05 * distances[-1] if len(distances) else 1.0
    x = np.concatenate([[0.0], distances, [longest]])
    counts = np.concatenate([np.arange(len(distances) + 1), [len(distances)]])
    figure = go.Figure()
    figure.add_scatter(
        x=x,
        y=100 * counts / max(right, 1),
        mode="lines",
        name=WORDS["fooled"],
        line={"color": STATE_COLORS["fooled"], "width": 2.5, "shape": "hv"},
        fill="tozeroy",
        fillpattern=_area("fooled"),
        customdata=counts,
        hovertemplate=f"within %{{x:.3g}}: %{{customdata}} of {right}<extra></extra>",
        showlegend=False,
    )
    if len(distances):
        median = float(np.median(distances))
        figure.add_vline(
            x=median,
            line={"color": inks(dark).quiet, "width": 1.5, "dash": "dash"},
            annotation={"text": f"median of the found: {median:.3g}", "yanchor": "top"},
        )
    figure.update_xaxes(title=label, range=[0, longest])
    figure.update_yaxes(title="% fooled, of those right at first", range=[0, 102])
    return quiet_layout(figure, dark, height=HEIGHT, dragmode=False, hovermode="closest")


def carried(
    names: Sequence[str],
    counts: Sequence[tuple[int, int]],
    intervals: Sequence[tuple[float, float]],
    own: int = 1,
    *,
    dark: bool = False,
) -> go.Figure:
    """Shares beside each other with their 95 % intervals: (fooled, of how many), from the top; the first `own` are the
    change itself, the others baselines."""
    share = np.array([hits / n for hits, n in counts])
    low, high = (np.array([interval[i] for interval in intervals]) for i in (0, 1))
    figure = go.Figure(
        go.Bar(
            x=100 * share,
            y=list(names),
            orientation="h",
            marker={"color": [STATE_COLORS["fooled" if i < own else "wrong"] for i in range(len(share))]},
            error_x={
                "type": "data", "symmetric": False, "array": 100 * (high - share), "arrayminus": 100 * (share - low),
                "thickness": 1.5, "color": inks(dark).text,
            },
            customdata=[f"{hits} of {n}; 95 % interval {lo:.0%} to {hi:.0%}" for (hits, n), lo, hi in zip(
                counts, low, high, strict=True)],
            hovertemplate="%{y}: %{x:.0f} % fooled (%{customdata})<extra></extra>",
            showlegend=False,
        )
    )  # fmt: skip
    figure.update_xaxes(title="% fooled, of those right at first; lines: 95 % interval", range=[0, 100])
    figure.update_yaxes(autorange="reversed")
    quiet_layout(figure, dark, height=90 + 42 * len(names))
    return figure.update_layout(dragmode=False, margin={"l": 230})


def _area(state: str) -> dict[str, object]:
    """A tint of the state's colour, and a pattern of its own for who cannot tell the colours apart."""
    color = STATE_COLORS[state]
    return {"shape": HATCHES[state], "size": 9, "solidity": 0.12, "bgcolor": color + TINT, "fgcolor": color}

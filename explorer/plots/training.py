"""Figures of training runs: loss, accuracy, learning rate and speed, of one run or several; one image's way through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import plotly.graph_objects as go

from explorer.plots._page import inks, quiet_layout
from explorer.plots.theme import class_color, class_shape, series_color, series_mark

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")  # of the runs, in their order
MEASURES = {  # of held-out images: dash and marker of their lines
    "clean": ("solid", "circle"),
    "robust": ("dash", "square"),
    "noisy": ("dot", "diamond"),
    "fgsm": ("dashdot", "cross"),
    "linf": ("longdash", "triangle-up"),
    "l2": ("longdashdot", "triangle-down"),
    "certified": ("dash", "star"),
}
AXES = {"updates": "update", "epochs": "epochs", "minutes": "minutes of training"}
POINTS = 800  # of a line at most; a screen shows no more
TALL, LOW = 300, 210  # pixels
SHOWN_CLASSES = 4  # in one image's decision
RAW = 0.3  # opacity of single updates behind their mean
LEGEND_ROW = 21  # pixels


@dataclass(frozen=True, eq=False)
class Curves:
    """What one run has recorded so far; the rows of U updates and E epochs, each sorted."""

    name: str
    update: np.ndarray  # (U,)
    epochs: np.ndarray  # (U,) epochs done, with fractions
    seconds: np.ndarray  # (U,)
    loss: np.ndarray  # (U,)
    learning_rate: np.ndarray  # (U,)
    images_per_second: np.ndarray  # (U,)
    planned: int  # updates in all; 0 where that is not known
    epoch: np.ndarray  # (E,)
    epoch_update: np.ndarray  # (E,) updates done by then
    epoch_seconds: np.ndarray  # (E,) seconds of training by then
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)  # measure: (E,) shares
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)  # measure: (E,) its conditions, told on hover

    @classmethod
    def of_history(cls, name: str, history: Sequence[Mapping[str, float]]) -> Curves:
        """What a model's card keeps of its training: the held-out accuracies (those of MEASURES) after each epoch."""
        none, epoch = np.zeros(0), np.array([row["epoch"] for row in history])
        measured = [measure for measure in MEASURES if history and measure in history[0]]
        scores = {measure: np.array([row[measure] for row in history]) for measure in measured}
        return cls(name, none, none, none, none, none, none, 0, epoch, epoch, np.zeros(len(epoch)), scores)

    def along(self, axis: str) -> np.ndarray:
        """(U,) of the updates, on one of AXES."""
        return {"updates": self.update, "epochs": self.epochs, "minutes": self.seconds / 60}[axis]

    def along_epochs(self, axis: str) -> np.ndarray:
        """(E,) of the epochs, on one of AXES."""
        return {"updates": self.epoch_update, "epochs": self.epoch, "minutes": self.epoch_seconds / 60}[axis]

    @property
    def window(self) -> int:
        """Updates that the mean is taken over: one fiftieth of the run, between 5 and 200."""
        return int(np.clip(self.planned // 50, 5, 200))


def loss(runs: Sequence[Curves], axis: str = "updates", *, dark: bool = False) -> go.Figure:
    """The loss of each update, pale, and its mean over the last updates; one colour and dash a run."""
    figure = go.Figure()
    for index, run in enumerate(runs):
        x, y = thinned(run.along(axis), run.loss)
        figure.add_scatter(
            x=x, y=y, mode="lines", opacity=RAW, line={"color": series_color(index), "width": 1},
            name=f"{run.name}, each update", showlegend=False, hoverinfo="skip",
        )  # fmt: skip
        x, y = thinned(run.along(axis), trailing_mean(run.loss, run.window))
        figure.add_scatter(
            x=x, y=y, **_line(index, len(x)), name=run.name,
            hovertemplate=f"%{{y:.3f}}, mean of {run.window} updates, at %{{x:.4g}}<extra>{run.name}</extra>",
        )  # fmt: skip
    return _finish(figure, "training loss", axis, runs, TALL, dark)


def accuracy(runs: Sequence[Curves], axis: str = "epochs", *, dark: bool = False) -> go.Figure:
    """Held-out accuracies after each epoch. One run: a colour, dash and mark a measure; several: a colour and mark a run."""
    figure = go.Figure()
    for index, run in enumerate(runs):
        for nth, (measure, (dash, mark)) in enumerate(MEASURES.items()):
            if measure not in run.scores:
                continue
            shares, x = np.asarray(run.scores[measure]), run.along_epochs(axis)
            alone = len(runs) == 1
            color = series_color(nth if alone else index)
            figure.add_scatter(
                x=x,
                y=100 * shares,
                mode="lines+markers",
                line={"color": color, "dash": dash, "width": 2},
                marker={"color": color, "symbol": mark if alone else series_mark(index), "size": 7},
                name=measure if alone else f"{run.name}, {measure}",
                customdata=list(run.notes.get(measure, [""] * len(shares))),
                hovertemplate=f"{measure} %{{y:.1f}} %, at %{{x:.4g}}<br>%{{customdata}}<extra>{run.name}</extra>",
            )
    figure = _finish(figure, "held-out accuracy (%)", axis, runs, TALL, dark)
    return figure.update_yaxes(range=[0, 100])


def learning_rate(runs: Sequence[Curves], axis: str = "updates", *, dark: bool = False) -> go.Figure:
    """The learning rate of each update."""
    return _plain(runs, "learning_rate", "learning rate", axis, dark)


def speed(runs: Sequence[Curves], axis: str = "updates", *, dark: bool = False) -> go.Figure:
    """Images per second, as each update recorded them."""
    return _plain(runs, "images_per_second", "images per second", axis, dark).update_yaxes(rangemode="tozero")


def decision(
    epochs: np.ndarray,
    clean: np.ndarray,
    seen: np.ndarray,
    classes: Sequence[str],
    label: int,
    words: str = "as the loss sees it",
    *,
    dark: bool = False,
) -> go.Figure:
    """One image's probabilities from epoch to epoch: clean (E,K) solid and marked, and as the loss saw it (E,K) dashed.

    Drawn are its own class `label` and the classes that came nearest to it or before it at any time; one line each where
    the loss sees the image as it is.
    """
    clean, seen, epochs = np.asarray(clean), np.asarray(seen), np.asarray(epochs)
    figure, plain = go.Figure(), np.array_equal(clean, seen)
    for k in _leading(clean, seen, label):
        color = class_color(k)
        name = f"{classes[k]} (its class)" if k == label else classes[k]
        ways = [(clean, "solid", class_shape(k), "clean"), (seen, "dash", f"{class_shape(k)}-open", words)]
        for values, dash, mark, state in ways[:1] if plain else ways:
            figure.add_scatter(
                x=epochs,
                y=100 * values[:, k],
                mode="lines+markers",
                line={"color": color, "dash": dash, "width": 2.5 if k == label else 1.5},
                marker={"color": color, "symbol": mark, "size": 8},
                name=name if plain else f"{name}, {state}",
                hovertemplate=f"%{{y:.1f}} %, epoch %{{x}}<extra>{classes[k]}, {state}</extra>",
            )
    figure.update_xaxes(title="epoch (0: before the first)", **_whole_numbers(epochs))
    if len(epochs) == 1:  # else the axis would show epochs that no run has
        figure.update_xaxes(range=[epochs[0] - 0.5, epochs[0] + 0.5])
    figure.update_yaxes(title="probability (%)", range=[0, 102])
    figure = quiet_layout(figure, dark, height=TALL + 60, dragmode=False, hovermode="closest")
    return figure.update_layout(legend={"y": -0.2})


def thinned(x: np.ndarray, y: np.ndarray, most: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most about `most` points of a line that looks the same: the smallest and the largest of each stretch are kept."""
    x, y = np.asarray(x), np.asarray(y)
    if len(x) <= most:
        return x, y
    keep: set[int] = {0, len(x) - 1}
    for rows in np.array_split(np.arange(len(x)), most // 2):
        part = y[rows]
        if np.isfinite(part).any():
            keep |= {int(rows[np.nanargmin(part)]), int(rows[np.nanargmax(part)])}
    rows = np.array(sorted(keep))
    return x[rows], y[rows]


def trailing_mean(values: np.ndarray, window: int) -> np.ndarray:
    """(U,) the mean of the last `window` values (of fewer at the beginning)."""
    total = np.concatenate([[0.0], np.cumsum(np.asarray(values, float))])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (total[ends] - total[starts]) / (ends - starts)


def _leading(clean: np.ndarray, seen: np.ndarray, label: int) -> list[int]:
    """The true class, then those with the highest probability at any time, clean or not."""
    highest = np.maximum(clean, seen).max(0) if len(clean) else np.zeros(0)
    others = [int(k) for k in np.argsort(-highest, kind="stable") if k != label]
    return [label, *others[: SHOWN_CLASSES - 1]] if len(highest) else []


def _plain(runs: Sequence[Curves], what: str, title: str, axis: str, dark: bool) -> go.Figure:
    figure = go.Figure()
    for index, run in enumerate(runs):
        x, y = thinned(run.along(axis), getattr(run, what))
        figure.add_scatter(
            x=x, y=y, **_line(index, len(x)), name=run.name, showlegend=False,
            hovertemplate=f"%{{y:.4g}}, at %{{x:.4g}}<extra>{run.name}</extra>",
        )  # fmt: skip
    return _finish(figure, title, axis, runs, LOW, dark)


def _line(index: int, points: int) -> dict[str, object]:
    """A run's own colour and dash; marks while there are too few points for a line."""
    color = series_color(index)
    return {
        "mode": "lines" if points > 2 else "lines+markers",
        "line": {"color": color, "dash": DASHES[index % len(DASHES)], "width": 2},
        "marker": {"color": color, "symbol": series_mark(index), "size": 7},
    }


def _finish(figure: go.Figure, title: str, axis: str, runs: Sequence[Curves], height: int, dark: bool) -> go.Figure:
    figure.update_xaxes(
        title=AXES[axis],
        rangemode="tozero",
        **(_whole_numbers(*(run.epoch for run in runs)) if axis == "epochs" else {}),
    )
    figure.update_yaxes(title=title)
    named = sum(trace.showlegend is not False for trace in figure.data)
    grown = (
        height + LEGEND_ROW * named if len(runs) > 1 else height
    )  # long names: a row each, and the curves keep their room
    quiet_layout(figure, dark, height=grown, dragmode=False, hovermode="closest")
    figure.update_layout(legend={"y": -0.2}, showlegend=named > 1)
    if not any(len(trace.x) for trace in figure.data):
        figure.add_annotation(
            text="nothing recorded yet", x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False,
            font={"color": inks(dark).quiet},
        )  # fmt: skip
    return figure


def _whole_numbers(*columns: np.ndarray) -> dict[str, object]:
    """Ticks of epochs at whole numbers only, while there are few."""
    last = max((float(column[-1]) for column in columns if len(column)), default=0.0)
    return {"dtick": 1, "tick0": 0} if last <= 12 else {}

"""What a run shows while it trains: curves, numbers, the images its loss sees, one image's decision, the log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import streamlit as st

from explorer.data import dataset
from explorer.plots import training as plots
from explorer.ui.components.figures import chart, dark
from explorer.ui.components.pictures import to_url
from explorer.ui.components.strip import Card, strip
from explorer.ui.inputs.forms import put
from explorer.ui.run_record import UNREADABLE, Record, Records, Seen, Standing
from explorer.ui.text import training as words

AXIS = "training.axis"
PICTURE = "training.picture"  # which of the watched images is looked at
LOG_LINES = 200
WRONG, FOOLED, HOLDS = "wrong", "fooled", "holds"


@st.cache_resource(show_spinner=False)
def records() -> Records:
    """What has been read of the runs' metrics, for all sessions."""
    return Records()


def record_of(seen: Seen) -> Record:
    """What this run has recorded until now."""
    record = records().of(str(seen.run.folder))
    record.look(seen.run)
    return record


# Curves


def curves(runs: Sequence[Seen]) -> None:
    """Loss, accuracy, learning rate and speed of one run or several."""
    found = [record_of(run).curves(run.title, run.half) for run in runs]
    if not any(len(one.update) for one in found):
        waiting = any(run.live for run in runs)
        st.caption("The curves begin with the first update." if waiting else "Nothing was recorded.")
        return
    st.session_state.setdefault(AXIS, "epochs")
    st.segmented_control(
        "Along", list(plots.AXES), key=AXIS, persist_state="session", required=True, label_visibility="collapsed"
    )
    axis = st.session_state[AXIS]
    figures = (
        ("**Training loss**: each update pale, their mean bold", "loss", plots.loss),
        ("**Accuracy on held-out images** after each epoch", "accuracy", plots.accuracy),
        ("**Learning rate**", "rate", plots.learning_rate),
        ("**Speed**", "speed", plots.speed),
    )
    for at in (0, 2):
        for column, (words_, name, draw) in zip(st.columns(2, gap="large"), figures[at : at + 2], strict=True):
            with column:
                st.markdown(words_)
                chart(draw(found, axis, dark=dark()), f"training.figure.{name}")


# Numbers


def numbers(run: Seen, now: Standing | None) -> None:
    """Where it stands, in numbers with their units."""
    if now is None:
        return
    live = run.state.status == "running"
    share = min(now.update / now.updates, 1.0) if now.updates else 0.0
    if now.updates:
        st.progress(share, text=f"{words.progress(now)}, update {now.update:,} of {now.updates:,}")
    told = [
        ("Loss, this update", f"{now.loss:.3f}"),
        ("Learning rate", f"{now.learning_rate:.3g}"),
        ("Images per second", f"{now.images_per_second:,.0f}"),
        ("Time left" if live else "Trained for", words.duration(now.left if live else now.seconds)),
        ("Memory, at most", words.size(now.memory)),
    ]
    held_out = [(f"Held-out, {measure}", words.percent(value)) for measure, value in now.scores.items()]
    for row in (told, held_out):
        for column, (label, value) in zip(st.columns(len(told)), row, strict=False):
            column.metric(label, value)
    if said := words.conditions(now, run.half):
        st.caption(said)


# Images


def images(run: Seen) -> None:
    """The watched images after an epoch: untouched, and as the recipe's loss sees them; then one image's way through it."""
    epochs = run.run.sights()
    if not epochs:
        return
    epoch = _epoch(run, epochs)
    try:
        sight = run.run.sight(epoch)
        cards = _cards(run, sight)
        pairs = any(len(card.pictures) > 1 for card in cards)
    except UNREADABLE as error:
        st.caption(f"The images of epoch {epoch} cannot be read ({type(error).__name__}).")
        return
    state = st.session_state
    picked = strip(
        cards,
        state.get(PICTURE, 0),
        key=f"training.strip.{run.id}",
        label="Watched images: untouched, and as trained on",
    )
    if picked is not None and picked != state.get(PICTURE) and 0 <= picked < len(cards):
        state[PICTURE] = picked
        st.rerun()
    st.caption(
        f"{len(cards)} held-out images, never trained on; "
        + (
            "left untouched, right what this recipe's loss would see of them now. "
            if pairs
            else "this recipe trains on plain images. "
        )
        + "The answers are those of the averaged weights. Click one to follow it from epoch to epoch."
    )
    _decision(run, min(state.get(PICTURE, 0), len(cards) - 1), np.asarray(sight["labels"]))


def _epoch(run: Seen, epochs: list[int]) -> int:
    """Which epoch's images: the newest, unless somebody has gone back."""
    key, seen = f"training.epoch.{run.id}", f"training.newest.{run.id}"
    state = st.session_state
    if state.get(key) not in epochs or state[key] == state.get(seen):
        put(key, epochs[-1])
    state[seen] = epochs[-1]
    if len(epochs) > 1:
        st.select_slider("After epoch", epochs, key=key, format_func=lambda e: "before the first" if e == 0 else str(e))
    return state[key]


def _cards(run: Seen, sight: Mapping[str, np.ndarray]) -> list[Card]:
    classes = classes_of(run, sight["p_clean"].shape[1])
    cards = []
    for at, label in enumerate(sight["labels"]):
        clean, seen, p_clean, p_seen = (sight[name][at] for name in ("clean", "trained_on", "p_clean", "p_trained_on"))
        true = classes[int(label)]
        same = bool((clean == seen).all())
        pictures = [(to_url(clean / 255), "untouched")]
        if not same:
            pictures.append((to_url(seen / 255), "as trained on"))
        right = int(p_clean.argmax()) == label
        stays = int(p_seen.argmax()) == label
        state = WRONG if not right else HOLDS if stays else FOOLED
        word = {WRONG: "wrong", FOOLED: "right, then wrong", HOLDS: "right" if same else "right in both"}[state]
        answer = _answer(p_clean, classes)
        lines = (true, answer) if same else (true, f"left: {answer}", f"right: {_answer(p_seen, classes)}")
        cards.append(Card(at, f"{true}: {word}; {'; '.join(lines[1:])}", state, word, tuple(pictures), lines))
    return cards


def _answer(p: np.ndarray, classes: Sequence[str]) -> str:
    k = int(p.argmax())
    return f"{classes[k]}, {100 * float(p[k]):.0f} %"


def classes_of(run: Seen, count: int) -> tuple[str, ...]:
    """Names of the classes; numbers where the recipe, and with it the dataset, is not known here."""
    if run.recipe is not None:
        names = dataset((run.spec and run.spec.dataset) or run.recipe.dataset).classes
        if len(names) == count:
            return names
    return tuple(f"class {k}" for k in range(count))


def _decision(run: Seen, at: int, labels: np.ndarray) -> None:
    epochs, clean, seen = record_of(run).decisions(run.run)
    if not len(epochs):
        return
    classes, label = classes_of(run, clean.shape[2]), int(labels[at])
    st.markdown(f"**One image from epoch to epoch**: what the model makes of this {classes[label]}")
    figure = plots.decision(epochs, clean[:, at], seen[:, at], classes, label, "as trained on", dark=dark())
    chart(figure, "training.figure.decision")


# Words


def log(run: Seen) -> None:
    """The end of what the run has said; open where it went wrong."""
    text = run.run.log(LOG_LINES)
    with st.expander("Log", icon=":material/terminal:", expanded=run.state.status == "failed" and bool(text.strip())):
        if text.strip():
            st.code(text, language=None, height=260)
            st.caption(f"The last {LOG_LINES} lines of log.txt.")
        else:
            st.caption("Nothing has been said yet.")


def facts(run: Seen) -> None:
    """Every hyper-parameter, how it runs and on what."""
    with st.expander("Settings and environment", icon=":material/tune:"):
        left, right = st.columns(2, gap="large")
        if run.spec is not None:
            told = run.spec.to_dict()
            labels = _labels([run])
            hyper = {labels.get(name, name): value for name, value in told.pop("hyper").items()}
            left.dataframe(_table(hyper), hide_index=True, width="stretch")
            right.dataframe(_table(told), hide_index=True, width="stretch")
        right.dataframe(
            _table(run.run.environment or {"environment": "not recorded yet"}), hide_index=True, width="stretch"
        )


def _table(values: Mapping[str, Any]) -> list[dict[str, str]]:
    return [
        {"": name.replace("_", " "), "value": words.plain(value)} for name, value in values.items() if value is not None
    ]


def _labels(runs: Sequence[Seen]) -> dict[str, str]:
    """What the form calls the hyper-parameters of these runs' recipes, by name."""
    return {p.name: p.label for run in runs if run.recipe is not None for p in run.recipe.params()}


# Several


def comparison(runs: Sequence[Seen]) -> None:
    """What differs between the runs on show, and what came out, as a table."""
    st.header("Compared", anchor=False)
    hypers = {run.id: ({"recipe": run.spec.recipe} | run.spec.hyper if run.spec is not None else {}) for run in runs}
    labels = _labels(runs)
    rows = [(labels.get(name, name), [row[run.id] for run in runs]) for name, row in words.differing(hypers).items()]
    found = {run.id: record_of(run).standing() for run in runs}
    rows.append(("**status**", [words.badge(run.state.status) for run in runs]))
    for name, tell in RESULTS.items():
        cells = [_told(tell, found[run.id], run.half) for run in runs]
        if any(cell != "–" for cell in cells):
            rows.append((f"**{name}**", cells))
    head = "| | " + " | ".join(run.title for run in runs) + " |"
    lines = [head, "|---|" + "---|" * len(runs), *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows)]
    st.markdown("\n".join(lines))
    st.caption(
        "Accuracies are those of the epoch with the best held-out score, the one that is kept, in brackets the 95 % interval and "
        "the number of held-out training images. They choose the epoch, so they flatter it a little: the Models page has the "
        "test set."
    )


def _told(tell: Any, now: Standing | None, half: tuple[str, ...]) -> str:
    return "–" if now is None else tell(now, half)


def _score(measure: str):
    def tell(now: Standing, half: tuple[str, ...]) -> str:
        value = now.best.get(measure, math.nan)
        told = words.spread(value, now.held_out, measure in half)
        return words.percent(value) + (f" ({told})" if told else "")

    return tell


RESULTS = {
    "epochs done": lambda now, _: f"{now.epoch}" + (f" of {now.epochs}" if now.epochs else ""),
    "kept epoch": lambda now, _: f"{now.best['epoch']:.0f}" if now.best else "–",
    **{f"{measure} accuracy": _score(measure) for measure in plots.MEASURES},
    "last loss": lambda now, _: f"{now.loss:.3f}",
    "trained for": lambda now, _: words.duration(now.seconds),
    "images per second": lambda now, _: f"{now.images_per_second:,.0f}",
    "memory, at most": lambda now, _: words.size(now.memory),
}

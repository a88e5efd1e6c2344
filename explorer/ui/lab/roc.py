"""ROC curves of a model's classes on the Lab page: clean, under FGSM and under DeepFool, with each class's AUC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import streamlit as st

from explorer import __version__
from explorer.core import InvalidValue, parse_eps
from explorer.data import dataset
from explorer.engine import eps_text
from explorer.engine.tables import Table
from explorer.jobs.roc import TITLES, RocSettings, usual_eps
from explorer.models import zoo
from explorer.plots.roc import RocCurve, class_roc
from explorer.ui import frame, permission
from explorer.ui.components.figures import chart, dark
from explorer.ui.components.save import save_place
from explorer.ui.inputs import attack as controls
from explorer.ui.inputs.choices import model_labels, named
from explorer.ui.inputs.forms import put
from explorer.ui.inputs.picture import dataset_box
from explorer.ui.lab import views
from explorer.ui.notices import noticed
from explorer.ui.page_run import gone_back
from explorer.ui.text.certified import table as as_table

KIND, FIGURE, ITSELF = "roc", "lab.roc.figure", ""
FIRST = (2, 3)  # classes that the report draws
MOST = 4  # classes in one figure
ABOUT = (
    "**ROC curves**: how well a class's probability tells its pictures from all others, at every threshold, clean and attacked. "
    "The area (AUC) is how often a picture of the class ranks above another; 0.5 is guessing."
)


def open_page() -> None:
    """What a link asks for, and first values."""
    controls.show_default()
    state, query = st.session_state, st.query_params
    linked = query.get(views.IN_LINK) == views.ROC and (
        "lab.roc.model" not in state or gone_back() or frame.came_by_link()
    )
    if linked and (name := query.get("model")):
        with noticed():
            state["dataset"] = zoo.card(name).dataset
            state["lab.roc.model"] = name
            state["lab.roc.source"] = zoo.card(source).name if (source := query.get("source")) else ITSELF
            state["lab.roc.n"] = RocSettings.from_dict({"images": query.get("images", RocSettings.images)}).images
    state.setdefault("lab.roc.n", RocSettings.images)
    known = list(_offered())
    if state.get("lab.roc.model") not in known:
        put("lab.roc.model", next(iter(known), None))
    if state.get("lab.roc.source") not in [ITSELF, *known]:
        put("lab.roc.source", ITSELF)
    _first_eps()


def panel() -> None:
    """Pictures and attacks, in the sidebar."""
    st.header("Pictures", anchor=False)
    dataset_box()
    most = dataset(st.session_state["dataset"]).rows["test"]
    st.number_input(
        "How many", 20, max(most, 20), step=100, key="lab.roc.n", persist_state="session",
        help="Test pictures, evenly from all classes. The more, the narrower the intervals.",
    )  # fmt: skip
    st.header("Attacks", anchor=False)
    labels = {ITSELF: "the model itself"} | _offered()
    st.selectbox(
        "Made on", list(labels), key="lab.roc.source", persist_state="session", format_func=named(labels), filter_mode="contains",
        help="The model that is attacked. Of another one's pictures a high AUC is no robustness.",
    )  # fmt: skip
    _first_eps()
    st.text_input(
        "eps of FGSM",
        key=_eps_key(),
        persist_state="session",
        help="In L∞, pixel units: 8/255. DeepFool's changes are of any length.",
    )
    permission.asked("lab")


def show() -> None:
    """Which model, the button, and the curves as far as they are measured."""
    place, act = frame.row([3, 2], key="headline-lab-roc")
    labels = _offered()
    place.selectbox("Model", list(labels), key="lab.roc.model", persist_state="session", format_func=named(labels),
                    filter_mode="contains", placeholder="No model of these pictures")  # fmt: skip
    views.ask(act, KIND, settings, ABOUT, (views.ROC, "model", "source", "images"), _stage)


def settings() -> dict[str, Any]:
    """What the run is asked, as its spec names it. Raises InvalidValue."""
    state = st.session_state
    if state["lab.roc.model"] is None:
        raise InvalidValue(f"No model of {state['dataset']} is deterministic: choose another dataset.")
    card, source = zoo.card(state["lab.roc.model"]), state["lab.roc.source"]
    made_on = ITSELF if source == card.name else source
    return RocSettings(
        model=card.name,
        weights=card.identity,
        source=made_on,
        eps=parse_eps(state[_eps_key()]),
        images=state["lab.roc.n"],
    ).to_dict()


def _offered() -> dict[str, str]:
    return {name: label for name, label in model_labels().items() if not zoo.card(name).stochastic}


def _eps_key() -> str:
    return f"lab.roc.eps.{st.session_state['dataset']}"


def _first_eps() -> None:
    name = st.session_state.get("lab.roc.model")
    st.session_state.setdefault(_eps_key(), eps_text(RocSettings.eps if name is None else usual_eps(zoo.card(name))))


def _stage(asked: dict[str, Any], polling: bool) -> None:
    answer = views.look(KIND, asked, polling)
    if not answer.rows:
        if not polling:
            views.nothing()
        return
    names = dataset(zoo.card(asked["model"]).dataset).classes
    chosen = st.multiselect(
        "Classes", list(names), default=[names[k] for k in FIRST if k < len(names)], key=f"lab.roc.classes.{asked['model']}",
        max_selections=MOST, wrap=True, placeholder=f"Choose 1 to {MOST}",
    )  # fmt: skip
    curves = [
        RocCurve(one["class"], one["label"], row["title"], np.array(one["false_positive"]), np.array(one["true_positive"]), one["auc"])
        for row in answer.rows
        for one in row["curves"]
        if one["class"] in chosen
    ]  # fmt: skip
    chart(class_roc(curves, list(TITLES.values()), dark=dark()), FIGURE)
    st.html(as_table(_areas(answer.rows, names)))
    about = _about(asked, answer.rows)
    st.caption(f"AUC with its 95 % interval (Newcombe). {about}")
    if answer.finished:
        _save(asked, answer.rows, about)


def _areas(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[list[str]]:
    """A line a class: its AUC on each set of pictures."""
    found = {(one["class"], row["title"]): one for row in rows for one in row["curves"]}
    told = [row["title"] for row in rows]
    lines = [["Class", *told]]
    for name in names:
        cells = [found.get((name, title)) for title in told]
        lines.append(
            [
                name,
                *("–" if one is None else f"{one['auc']:.4f} [{one['low']:.4f} to {one['high']:.4f}]" for one in cells),
            ]
        )
    return lines


def _about(asked: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    done = min(row["n"] for row in rows)
    so_far = "" if done == asked["images"] else f" ({done:,} so far)"
    return (
        f"{asked['images']:,} test pictures{so_far}, evenly from all classes, made on {asked['source'] or 'the model itself'}, seed "
        f"{asked['seed']}. FGSM: L∞ {eps_text(asked['eps'])}. DeepFool: 5 updates, 1.02 times to the nearest boundary of the attacked "
        f"model's own answer, pixels may leave [0, 1]. Explorer {__version__}."
    )


def _save(asked: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], about: str) -> None:
    table = Table(
        tuple(
            {"pictures": row["title"], "n": row["n"], **{name: one[name] for name in ("class", "positives", "auc", "low", "high")}}
            for row in rows
            for one in row["curves"]
        ),
        {"sets": [{"conditions": row["conditions"], "curves": row["curves"]} for row in rows]},
    )  # fmt: skip
    stem = f"{asked['model'].partition('/')[2]}-roc"
    save_place(stem, about=about, table=table, figures={FIGURE: "ROC curves"}, key="lab.roc.save")

"""The picture to attack: chosen from the bundled ones, or one's own.

Its row, or the name of one's own (`own_pictures`), stands in `st.session_state["image"]` for all pages.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import streamlit as st

from explorer.core import ExplorerError
from explorer.data import dataset
from explorer.engine.predicting import predict_work
from explorer.models import zoo
from explorer.ui.components.gallery import gallery
from explorer.ui.frame import is_hidden
from explorer.ui.inputs.choices import ANY, EVERY, class_number, classes_with_pictures, rows_of_class, sample, thumbs
from explorer.ui.inputs.own_pictures import UNTOLD, choose, is_upload, own_pictures, shows_key, upload_panel
from explorer.ui.notices import notice
from explorer.ui.session import engine, session_id, still_open
from explorer.ui.text.keys import PICTURES, keys

PER_PAGE = 20
TURNED_BY = {"PageDown": "picture-next", "PageUp": "picture-previous"}  # also what a presenter's clicker presses


def image_panel(
    models: Sequence[str] | None = None, beside: Callable[[], None] | None = None, more_keys: Sequence[str] = ()
) -> None:
    """Which picture: by class, next, random, one that all of `models` get right (None: the chosen one), or one's own.

    `beside` draws a page's further ways to find one; `more_keys` says what else the keyboard does there.
    """
    if is_hidden("gallery"):
        return
    state = st.session_state
    st.header("Picture", anchor=False)
    dataset_box()
    name = state["dataset"]
    st.session_state.setdefault("class", EVERY)
    st.selectbox(
        "Class",
        [EVERY, *classes_with_pictures(name)],
        key="class",
        persist_state="session",
        on_change=partial(_jump, "first"),
        label_visibility="collapsed",
    )
    rows = rows_of_class(name, state["class"])
    position = rows.index(state["image"]) if state["image"] in rows else 0
    page = position // PER_PAGE
    shown = rows[page * PER_PAGE : (page + 1) * PER_PAGE]
    chosen = () if is_upload(state["image"]) else (state["image"],)
    gallery(
        thumbs(name, tuple(shown)), chosen, key="gallery", label="Pictures to attack", on_pick=partial(_pick, shown),
        keys=TURNED_BY,
    )  # fmt: skip
    for column, where in zip(st.columns(3, gap="xsmall"), ("previous", "next", "random"), strict=True):
        column.button(where.title(), on_click=_jump, args=(where,), width="stretch", key=f"picture.{where}")
    wish = "One this model gets right" if models is None or len(models) == 1 else "One these models get right"
    st.button(wish, on_click=jump_to_right, args=(models,), width="stretch", icon=":material/check:")
    if beside is not None:
        beside()
    with st.expander("Use your own pictures", expanded=is_upload(state["image"])):
        upload_panel(name)
    st.caption(keys(PICTURES, *more_keys))


def _pick(shown: Sequence[int], picked: list[int]) -> None:
    if picked and picked[-1] in shown:
        st.session_state["image"] = picked[-1]


def _jump(where: str) -> None:
    state = st.session_state
    rows = rows_of_class(state["dataset"], state["class"])
    own = own_pictures(state["dataset"]) if is_upload(state["image"]) else []
    names = [one.picture for one in own]
    step = {"next": 1, "previous": -1}.get(where, 0)
    if step and len(own) > 1 and state["image"] in names:  # among one's own
        choose(own[(names.index(state["image"]) + step) % len(own)])
    elif step:
        at = rows.index(state["image"]) if state["image"] in rows else min(-step, 0)
        state["image"] = rows[(at + step) % len(rows)]
    else:
        state["image"] = rows[0] if where == "first" else secrets.choice(rows)


def jump_to_right(models: Sequence[str] | None = None) -> None:
    """To a random picture that all of `models` get right, if there is one among 64."""
    state = st.session_state
    images, rows = sample(state["dataset"]), rows_of_class(state["dataset"], state["class"])
    right = secrets.SystemRandom().sample(rows, min(64, len(rows)))
    for model in models or [state["model"]]:
        try:
            future = engine().submit(session_id(), predict_work(engine(), model, images.x[right]), alive=still_open())
        except ExplorerError as error:
            notice(str(error))
            return
        future.wait(10)
        if future.latest is None:
            notice(future.error or "The model is busy; try again in a moment.")
            return
        right = [row for row, seen in zip(right, future.latest.tolist(), strict=True) if seen == int(images.y[row])]
        if not right:
            who = "This model got" if models is None or len(models) == 1 else "These models together got"
            notice(f"{who} none of 64 such pictures right; choose another class or model.")
            return
    state["image"] = right[0]


def dataset_box() -> None:
    """Which dataset, where models of several are there."""
    offered = sorted({card.dataset for card in zoo.cards()})
    if len(offered) > 1:
        st.selectbox(
            "Dataset",
            offered,
            key="dataset",
            persist_state="session",
            format_func=lambda d: dataset(d).title,
            on_change=_dataset_changed,
        )


def _dataset_changed() -> None:
    st.session_state["class"], st.session_state["target"] = EVERY, ANY
    st.session_state["image"] = 0


def chosen_picture() -> dict[str, Any]:
    """A request's `image`, and the `label` that one's own picture is said to have."""
    image = st.session_state["image"]
    return {"image": image, "label": true_label() if is_upload(image) else None}


def true_label() -> int | None:
    state = st.session_state
    if is_upload(state["image"]):
        shows = state.get(shows_key(state["image"]), UNTOLD)
        return None if shows == UNTOLD else class_number(shows)
    return int(sample(state["dataset"]).y[state["image"]])
